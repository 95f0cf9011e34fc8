"""What workers in other processes have in common, on this machine or on others."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from functools import partial
from itertools import islice
from queue import SimpleQueue
from typing import Any, TypeVar

import cloudpickle

from nas.workers.base import Outcome, WorkerLost, Workers
from spaces.errors import NasError

C = TypeVar("C")
R = TypeVar("R")

#: Chunks sent ahead of every worker, so that none waits for the coordinator.
AHEAD = 3
_PACKED = 8  # functions kept packed; a search has one or two


class RemoteWorkers(Workers):
    """Workers that are sent a function once and then chunks."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._packed: dict[int, tuple[object, Any]] = {}

    @abstractmethod
    def _send(self, packed: Any, chunk: object) -> Future[Any]:  # noqa: ANN401
        """Send a chunk to whoever is free next."""

    @abstractmethod
    def _lost(self, error: BaseException) -> WorkerLost | None:
        """Return what an exception says of a worker that ended; None where it was the work's."""

    def _pack(self, function: Callable[[C], R]) -> Any:  # noqa: ANN401
        """Return the function as it is sent."""
        try:
            return cloudpickle.dumps(function)
        except Exception as error:  # noqa: BLE001 - pickling runs code of whatever is in it
            raise NasError(
                f"workers: {function!r} cannot be sent to another process: {error}; "
                "use workers=0, or make what it holds importable"
            ) from None

    def start(
        self,
        function: Callable[[C], R],
        chunks: Iterable[C],
        *,
        threads: int = 1,
        tell: Callable[[Any], object] | None = None,
    ) -> Iterator[Outcome[R]]:
        known = self._packed.get(id(function))
        if known is None:
            while len(self._packed) >= _PACKED:
                del self._packed[next(iter(self._packed))]
            known = self._packed[id(function)] = function, self._pack(function)
        rest = iter(enumerate(chunks))
        done: SimpleQueue[tuple[int, Future[Any]]] = SimpleQueue()
        open_: dict[int, Future[Any]] = {}

        def tell_done(number: int, future: Future[Any]) -> None:
            done.put((number, future))

        def feed(some: int) -> None:
            for number, chunk in islice(rest, some):
                future = open_[number] = self._send(known[1], chunk)
                future.add_done_callback(partial(tell_done, number))

        feed(self.count * (1 + AHEAD))
        return self._outcomes(open_, done, feed)

    def _outcomes(
        self,
        open_: dict[int, Future[Any]],
        done: SimpleQueue[tuple[int, Future[Any]]],
        feed: Callable[[int], None],
    ) -> Iterator[Outcome[Any]]:
        try:
            while open_:
                number, future = done.get()
                del open_[number]
                feed(1)
                error = future.exception()
                if error is None:
                    yield number, future.result()
                    continue
                lost = self._lost(error)
                if lost is None:
                    raise error
                yield number, lost
        finally:
            for future in open_.values():
                future.cancel()
