"""What the workers of the tests are made to do."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from nas.chunks import OwnProxy
from nas.proxies.base import Conditions, ProxyError
from nas.workers import inside
from spaces.base import Arch, Space


def square(number: int) -> int:
    """Return the square, the sooner the larger it is; refuse 13, and say so as one does."""
    time.sleep(0.02 / (1 + number))
    if number == 13:
        raise ZeroDivisionError("thirteen")
    inside.tell(number)
    return number * number


def who(_: int) -> tuple[int, str | None]:
    """Return the process, and how many threads it may use."""
    time.sleep(0.1)
    return os.getpid(), os.environ.get("OMP_NUM_THREADS")


def crash(number: int) -> int:
    """End the process for 5, by a signal that no handler hears."""
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def hang(number: int) -> int:
    """Never come back from 3."""
    while number == 3:
        time.sleep(60)
    return number


def hoard(megabytes: int) -> int:
    """Take memory."""
    return len(bytearray(megabytes * 10**6))


def forget(_: int) -> None:
    """Sleep longer than any test."""
    time.sleep(600)


class Dangerous:
    """A proxy that does something terrible to architectures that sum up to ``fatal``."""

    name = "dangerous"
    revision = 1

    def __init__(self, how: str, fatal: int) -> None:
        self.how = how
        self.fatal = fatal

    def __call__(
        self, space: Space, archs: Sequence[Arch], conditions: Conditions
    ) -> list[float | ProxyError]:
        return [self._one(arch) for arch in archs]

    def _one(self, arch: Arch) -> float | ProxyError:
        if sum(arch) != self.fatal:
            return float(sum(arch))
        if self.how == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.how == "hang":
            time.sleep(600)
        if self.how == "hoard":
            return float(len(bytearray(50 * 10**9)))
        if self.how == "nan":
            return float("nan")
        return ProxyError("not this one") if self.how == "fail" else float(sum(arch))


def main(folder: str) -> None:
    """Be a coordinator whose workers never end: for the test that kills it."""
    from nas.workers import make_workers

    begun = make_workers(2).start(_mark, [folder] * 2)
    for _ in begun:
        pass


def _mark(folder: str) -> None:
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(600)


_proxy: OwnProxy = Dangerous("nan", 0)

if __name__ == "__main__":
    main(sys.argv[1])
