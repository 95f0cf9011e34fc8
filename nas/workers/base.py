"""What workers are: one function, mapped over chunks, wherever they are worked on.

Everything that runs on several processors goes through :meth:`Workers.start`: scores, statistics of
designed proxies, final trainings. How a chunk is worked on, and how chunks are cut, does not depend
on how many workers there are nor on which; so neither does what comes out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from spaces.errors import NasError

C = TypeVar("C")
R = TypeVar("R")

#: A chunk's number and what came of it, or why nothing did.
Outcome = tuple[int, "R | WorkerLost"]


class WorkerLost(NasError):
    """A worker ended before its chunk was done: it crashed, or broke a limit."""


class Workers(ABC):
    """Where chunks are worked on.

    Attributes:
        count: How many chunks are worked on at a time; 0 is this process, when it is asked.
    """

    count: int = 0

    @abstractmethod
    def start(
        self,
        function: Callable[[C], R],
        chunks: Iterable[C],
        *,
        threads: int = 1,
        tell: Callable[[Any], object] | None = None,
    ) -> Iterator[Outcome[R]]:
        """Begin to work on chunks, and return an iterator over what comes of them.

        Args:
            function: Says all that the chunks have in common. It keeps to one thread.
            chunks: In the order in which they are begun; each is drawn when there is a hand free,
                or soon will be.
            threads: In this process, how many chunks may be worked on side by side.
            tell: Hears, in this process, what :func:`nas.workers.inside.tell` is given in a worker.

        Returns:
            Numbers of chunks and their results, in the order in which they are done. What the
            function raises is raised, and ends the iterator.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop; what is being worked on is dropped."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Here(Workers):
    """This process: a chunk is worked on when its result is asked for."""

    def start(
        self,
        function: Callable[[C], R],
        chunks: Iterable[C],
        *,
        threads: int = 1,
        tell: Callable[[Any], object] | None = None,
    ) -> Iterator[Outcome[R]]:
        if threads < 2:
            return ((number, function(chunk)) for number, chunk in enumerate(chunks))
        from nas.workers.threads import side_by_side  # late: it loads torch

        return side_by_side(function, chunks, threads)

    def close(self) -> None:
        """Do nothing: nothing runs between two questions."""
