"""Workers that are processes of this machine.

Pebble's pool, for it takes the end of one worker as the end of one chunk. Processes are spawned, so
that nothing of this one's threads and locks is in them.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pebble

from nas.workers import inside
from nas.workers.base import Outcome, WorkerLost
from nas.workers.remote import RemoteWorkers
from spaces.errors import NasError

C = TypeVar("C")
R = TypeVar("R")


@dataclass(frozen=True)
class ProcessOptions(inside.Limits):
    """Settings of :class:`Processes`: limits."""


_PATIENCE = 2.0  # seconds
_LARGE = 2**16  # bytes of a function that is sent by a file, not again with every chunk
_MAIN = threading.Lock()


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Keep a new process from running the user's script, which needs no guard then."""
    with _MAIN:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


class _Process(SpawnProcess):
    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: ANN401 - multiprocessing's own name
        with _main_hidden():
            return SpawnProcess._Popen(process_obj)


class _Spawn(SpawnContext):
    Process = _Process


class Processes(RemoteWorkers):
    """Processes of this machine, spawned when the first chunk comes."""

    def __init__(
        self,
        count: int,
        options: ProcessOptions | None = None,
        *,
        threads: int = 1,
        device: str = "cpu",
    ) -> None:
        """Spawn nothing yet.

        Args:
            count: How many, at least 1.
            options: Limits.
            threads: Of torch, in each.
            device: Where they compute; ``cuda`` is one device after the other.
        """
        super().__init__(count)
        self._options = options or ProcessOptions()
        self._threads = threads
        self._spread = device == "cuda"
        self._pool: pebble.ProcessPool | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._listener: threading.Thread | None = None
        self._over = threading.Event()
        self._told: Any = None
        self._tell: Callable[[Any], object] | None = None

    def start(
        self,
        function: Callable[[C], R],
        chunks: Iterable[C],
        *,
        threads: int = 1,
        tell: Callable[[Any], object] | None = None,
    ) -> Iterator[Outcome[R]]:
        self._tell = tell
        return super().start(function, chunks)

    def close(self) -> None:
        self._packed.clear()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
        if self._pool is None:
            return
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()
        self._pool = None
        assert self._listener is not None
        self._over.set()
        self._listener.join(_PATIENCE)  # half a message of a worker that was killed never ends

    def _started(self) -> pebble.ProcessPool:
        if self._pool is None:
            context = _Spawn()
            self._told = context.SimpleQueue()
            slots = context.Array("q", self.count)
            self._pool = pebble.ProcessPool(
                self.count,
                initializer=inside.begin,
                initargs=(
                    slots,
                    self._told,
                    self._threads,
                    self._spread,
                ),
                context=context,
            )
            self._over.clear()
            self._listener = threading.Thread(target=self._listen, daemon=True)
            self._listener.start()
        return self._pool

    def _listen(self) -> None:
        """Pass on what workers tell, until the end."""
        while not self._over.is_set():
            if self._told.empty():
                self._over.wait(0.05)
                continue
            news = self._told.get()
            if self._tell is not None:
                self._tell(news)

    def _pack(self, function: Callable[[C], R]) -> Any:  # noqa: ANN401 - bytes, or a file of them
        packed = super()._pack(function)
        if len(packed) < _LARGE:
            return packed
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="nas-workers-")
        file = Path(self._folder.name) / str(len(list(Path(self._folder.name).iterdir())))
        file.write_bytes(packed)
        return file

    def _send(self, packed: Any, chunk: object) -> Future[Any]:  # noqa: ANN401
        future: Future[Any] = self._started().schedule(inside.work, (packed, self._options, chunk))
        return future

    def _lost(self, error: BaseException) -> WorkerLost | None:
        if isinstance(error, pebble.ProcessExpired):
            return WorkerLost(self._options.ending(_ending(error.exitcode)))
        if isinstance(error, BrokenProcessPool):
            raise NasError("workers: none of the processes could be started") from error
        return None


def _ending(code: int) -> str:
    """Return what an exit code of a process says, for a person."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
