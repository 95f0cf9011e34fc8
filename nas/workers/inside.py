"""What runs inside a worker. Loads nothing that the work itself does not need."""

from __future__ import annotations

import faulthandler
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import IO, Any

from spaces.errors import NasError

_told: Any = None
_place: int | None = None


def place() -> int | None:
    """Return this worker's number among its like, from 0; None where there are no numbers."""
    return _place


@dataclass(frozen=True)
class Limits:
    """What a worker may take for a chunk.

    Attributes:
        chunk_seconds: Time, after which its worker is ended; any when None.
        memory_mb: Memory beside what torch takes by itself, 10^6 bytes (Linux); any when None.
    """

    chunk_seconds: float | None = None
    memory_mb: int | None = None

    def __post_init__(self) -> None:
        if self.chunk_seconds is not None and not self.chunk_seconds > 0:
            raise NasError(f"chunk_seconds: expected more than 0, got {self.chunk_seconds}")
        if self.memory_mb is not None and self.memory_mb < 1:
            raise NasError(f"memory_mb: expected at least 1, got {self.memory_mb}")

    def ending(self, what: str) -> str:
        """Return why a worker ended with exit code 1, or what else it ended with."""
        if self.chunk_seconds is not None and what == "exit code 1":
            return f"its worker was ended: longer than chunk_seconds = {self.chunk_seconds:g}"
        return f"its worker ended: {what}"


def begin(
    slots: Any,  # noqa: ANN401 - shared objects of multiprocessing
    told: Any,  # noqa: ANN401
    threads: int,
    spread: bool,
) -> None:
    """Make this process a worker; called once, before its first chunk.

    Args:
        slots: An array of the workers' process numbers, which says who has which device.
        told: A queue to the coordinator.
        threads: Of torch.
        spread: Whether ``cuda`` is to mean another device in every worker.
    """
    global _told, _place
    _told = told
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    _end_with_parent()
    _place = _take_slot(slots)
    if spread:
        _choose_device(_place)


def _take_slot(slots: Any) -> int:  # noqa: ANN401 - a shared array
    """Return the number of a place that no living worker has."""
    with slots.get_lock():
        for place, owner in enumerate(slots):
            if owner == 0 or not _lives(owner):
                slots[place] = os.getpid()
                return place
    return 0


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _choose_device(slot: int) -> None:
    """Let ``cuda`` mean another device in every worker, as far as there are several."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(slot % torch.cuda.device_count())


def _end_with_parent() -> None:
    """End when the coordinator has ended, whatever its end was and whatever is being done."""
    import multiprocessing
    from multiprocessing.connection import wait

    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def watch() -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@cache
def _limit_memory(megabytes: int) -> None:
    """Let allocations fail that would take more than so much from now on.

    Raises:
        NasError: The system does not say what a process takes.
    """
    import resource

    import torch  # noqa: F401 - what it takes by itself is not the work's

    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        taken = next(line for line in status.splitlines() if line.startswith("VmData:"))
    except (OSError, StopIteration):
        raise NasError("memory_mb: a worker's memory can be limited on Linux only") from None
    most = int(taken.split()[1]) * 1024 + megabytes * 10**6
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


@cache
def _nowhere() -> IO[str]:
    return Path(os.devnull).open("w", encoding="utf-8")


@contextmanager
def _limited(limits: Limits) -> Iterator[None]:
    """End this process with exit code 1 after a time, whatever it does then."""
    if limits.memory_mb is not None:
        _limit_memory(limits.memory_mb)
    if limits.chunk_seconds is None:
        yield
        return
    # By a thread that needs no lock of Python's, so that no loop in a library outlives it.
    faulthandler.dump_traceback_later(limits.chunk_seconds, exit=True, file=_nowhere())
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@lru_cache(maxsize=16)
def _function(packed: bytes | Path) -> Callable[[Any], Any]:
    """Return the function that chunks have in common, made once in a worker's life."""
    import cloudpickle

    content = packed.read_bytes() if isinstance(packed, Path) else packed
    function: Callable[[Any], Any] = cloudpickle.loads(content)
    return function


def work(packed: bytes | Path, limits: Limits, chunk: Any) -> Any:  # noqa: ANN401 - whatever it takes
    """Work on one chunk; loading the function does not count."""
    function = _function(packed)
    with _limited(limits):
        return function(chunk)


def tell(news: Any) -> None:  # noqa: ANN401 - anything that can be pickled
    """Tell the coordinator how far the work is; nobody may be listening."""
    if _told is not None:
        _told.put(news)
