"""Questions to proxies, cut into chunks that workers answer.

A chunk is what is scored together. How large it is follows from what is asked and from how many
architectures are asked about, never from how many workers there are: so a score is the same to the
last bit wherever it was computed. A worker that ends takes its chunk with it; then the halves are
tried, and the halves of those, until the architecture is alone that ends workers.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple, Protocol

import numpy as np

from nas.proxies.base import Conditions, ProxyError, ProxySpec, score_batch
from nas.seeds import generator
from nas.workers import WorkerLost, Workers
from spaces.base import Arch, Space
from spaces.errors import InvalidArch, NasError

#: Architectures at a time where no network is run, and no process is worth while.
DATA_FREE = 4096
#: Of a proxy of the user's own, of which nothing is known: at least, and at most.
OWN_LEAST, OWN_MOST = 16, 256
#: Chunks that a question is cut into, if they do not get too small.
SHARES = 8

# What says "this architecture cannot be scored" and would say so again: it is remembered.
_ANNOUNCED = (ProxyError, InvalidArch, ArithmeticError, np.linalg.LinAlgError)
# May be the architecture's fault or the machine's (torch: out of memory, shapes that do not fit):
# a failure of the architecture if its neighbours pass, and never remembered.
_UNANNOUNCED = (RuntimeError, MemoryError)
_PROGRAMMING = (NotImplementedError, RecursionError)  # are RuntimeErrors, and nobody's bad luck


class OwnProxy(Protocol):
    """A proxy of your own: any callable that takes a batch and returns one answer per architecture.

    ``proxy(space, archs, conditions)`` returns, for each of the ``archs`` and in their order, a
    number (a float, a NumPy scalar, an array or tensor of one number), or a ``ProxyError`` that
    says why there is none. NaN and infinity count as failures. The number must not depend on
    the other architectures of the batch nor on anything that is not an argument.

    Raising ``ProxyError``, ``InvalidArch`` or an ``ArithmeticError`` makes the oracle score the
    batch one by one, so that only the culprits fail. A ``RuntimeError`` or ``MemoryError`` does
    the same, unless every architecture of the batch then fails by it. Any other exception is a
    programming error and ends the search.

    The callable may carry these attributes:

    - ``name`` and ``revision`` (``str`` and ``int``): what a cache file knows its scores by. Both
      are needed for a cache file; raise ``revision`` when the values change.
    - ``of_function`` (``bool``, default ``False``): the score depends only on the function that
      the architecture computes, so one score serves all architectures that compute it.
    - ``directions``: +1 or -1 by space name (default +1): -1 where lower values are better.
    - ``advice``: by space name, what to tell a person who searches in the other direction.
    """

    def __call__(
        self, space: Space, archs: Sequence[Arch], conditions: Conditions
    ) -> Sequence[float | ProxyError]: ...


class Finding(NamedTuple):
    """What came of one architecture.

    Attributes:
        verdict: The score, or the reason why there is none.
        lasting: It would be the same next time.
    """

    verdict: float | str
    lasting: bool


@dataclass(frozen=True)
class Question:
    """What is asked about architectures; called with some, it answers.

    Attributes:
        space: Where the architectures live.
        specs: Proxies, which share passes where they can.
        conditions: What else a score depends on.
        own: A proxy of the user's own, in the place of ``specs``.
        name: Of the proxy, for messages.
    """

    space: Space
    specs: tuple[ProxySpec, ...]
    conditions: Conditions
    own: OwnProxy | None = None
    name: str = ""

    @property
    def runs_networks(self) -> bool:
        """Whether answering takes long enough to be worth another process."""
        if self.own is not None:
            return True
        return any(spec.route(self.space) != "data-free" for spec in self.specs)

    def chunk_size(self, asked: int) -> int:
        """Return how many architectures are scored together where so many are asked about."""
        share = math.ceil(asked / SHARES)
        if self.own is not None:
            return min(OWN_MOST, max(OWN_LEAST, share))
        sizes = [_together(self.space, spec, self.conditions) for spec in self.specs]
        least, most = max((low for low, _ in sizes)), max((high for _, high in sizes))
        return min(most, max(least, share))

    def __call__(self, archs: Sequence[Arch]) -> list[list[Finding]]:
        """Return one list per proxy with a finding for each architecture.

        When a proxy raises, the architectures are asked about one by one, to find the culprits.
        """
        try:
            return self._answers(archs)
        except _PROGRAMMING:
            raise
        except _ANNOUNCED as error:
            if len(archs) == 1:
                return self.all_alike(Finding(reason_of(error), lasting=True))
        except _UNANNOUNCED as error:
            if len(archs) == 1:
                return self.all_alike(Finding(reason_of(error), lasting=False))
        return self._singly(archs)

    def _singly(self, archs: Sequence[Arch]) -> list[list[Finding]]:
        tables, errors = [], []
        for arch in archs:
            try:
                tables.append(self._answers([arch]))
            except _PROGRAMMING:
                raise
            except _ANNOUNCED as error:
                tables.append(self.all_alike(Finding(reason_of(error), lasting=True)))
            except _UNANNOUNCED as error:
                tables.append(self.all_alike(Finding(reason_of(error), lasting=False)))
                errors.append(error)
        if len(errors) == len(archs):
            errors[-1].add_note(
                f"so did all {len(archs)} architectures of the batch: not their fault"
            )
            raise errors[-1]
        return [list(chain.from_iterable(rows)) for rows in zip(*tables, strict=True)]

    def all_alike(self, finding: Finding) -> list[list[Finding]]:
        """Return the answer about one architecture where every proxy says the same."""
        return [[finding] for _ in range(1 if self.own is not None else len(self.specs))]

    def _answers(self, archs: Sequence[Arch]) -> list[list[Finding]]:
        if self.own is not None:
            names: Sequence[str] = [self.name]
            table: Any = [self.own(self.space, archs, self.conditions)]
        else:
            names = [str(spec) for spec in self.specs]
            table = score_batch(self.space, self.specs, archs, self.conditions)
        for name, answers in zip(names, table, strict=True):
            if len(answers) != len(archs):
                raise TypeError(
                    f"proxy {name} returned {len(answers)} answers for {len(archs)} architectures"
                )
        return [
            [finding_of(name, answer) for answer in answers]
            for name, answers in zip(names, table, strict=True)
        ]


def finding_of(proxy: str, answer: object) -> Finding:
    """Return what an answer of a proxy means.

    Raises:
        TypeError: It is neither a number nor a ProxyError.
    """
    if isinstance(answer, ProxyError):
        return Finding(reason_of(answer), lasting=answer.lasting)
    if not hasattr(answer, "__float__"):
        raise TypeError(
            f"proxy {proxy}: expected a number or a ProxyError, "
            f"got {type(answer).__name__} {answer!r}"
        )
    value = float(answer)
    if not math.isfinite(value):
        return Finding(f"the score is not finite: {value}", lasting=True)
    return Finding(value + 0.0, lasting=True)  # -0.0 becomes 0.0, as SQLite would make it


def reason_of(error: BaseException) -> str:
    """Return the first line of a message; the kind of error where that is not our own."""
    lines = str(error).splitlines()
    text = lines[0] if lines else ""
    if isinstance(error, NasError) and text:
        return text
    return f"{type(error).__name__}: {text}".rstrip(": ")


def answer(
    question: Question,
    archs: Sequence[Arch],
    size: int,
    workers: Workers,
    known: Callable[[list[int]], bool] | None = None,
) -> Iterator[tuple[list[int], list[list[Finding]]]]:
    """Begin to answer a question, and return an iterator over what is known so far.

    Args:
        question: What is asked.
        archs: Distinct, in the order in which they are begun.
        size: Architectures of a chunk.
        workers: Who answers.
        known: For a cache that other processes use, too: asked, just before a chunk is begun,
            whether somebody has answered it in the meantime. Every process goes through the chunks
            in an order of its own then, so that those that ask the same share the work.

    Returns:
        Places in ``archs``, and for each proxy a finding for each of these places; chunk by chunk,
        in the order in which they are done.
    """
    everyone = range(len(archs))
    places = [list(everyone[start : start + size]) for start in range(0, len(archs), size)]
    if not question.runs_networks:
        return ((some, question([archs[i] for i in some])) for some in places)
    if known is not None and places:
        order = generator(os.getpid(), "chunks").permutation(len(places))
        places = [places[i] for i in order.tolist()]
    asking = _Asking(question, archs, workers, known or (lambda some: False))
    return asking.outcomes(places)


@dataclass(frozen=True)
class _Asking:
    """One question on its way to workers."""

    question: Question
    archs: Sequence[Arch]
    workers: Workers
    known: Callable[[list[int]], bool]

    def outcomes(
        self, places: Sequence[list[int]]
    ) -> Iterator[tuple[list[int], list[list[Finding]]]]:
        """Begin now, not when the first result is asked for."""
        return self._settled(deque([self._begin(places)]))

    def _begin(
        self, places: Sequence[list[int]]
    ) -> tuple[Iterator[tuple[int, Any]], list[list[int]]]:
        """Return what comes of chunks by number, and the places of each that was begun."""
        begun: list[list[int]] = []

        def chunks() -> Iterator[list[Arch]]:
            for some in places:
                if not self.known(some):
                    begun.append(some)
                    yield [self.archs[i] for i in some]

        threads = _threads(self.question) if len(places) > 1 else 1
        return self.workers.start(self.question, chunks(), threads=threads), begun

    def _settled(
        self, rounds: deque[tuple[Iterator[tuple[int, Any]], list[list[int]]]]
    ) -> Iterator[tuple[list[int], list[list[Finding]]]]:
        while rounds:
            running, places = rounds.popleft()
            suspects: list[list[int]] = []
            for number, found in running:
                some = places[number]
                if not isinstance(found, WorkerLost):
                    yield some, found
                elif len(some) == 1:
                    yield some, self.question.all_alike(Finding(str(found), lasting=False))
                else:
                    half = (len(some) + 1) // 2
                    suspects += [some[:half], some[half:]]
            if suspects:
                rounds.append(self._begin(suspects))


def _threads(question: Question) -> int:
    """Return how many chunks this process may work on side by side.

    One for a proxy of the user's own, which may not be made for that, and on an accelerator.
    """
    if question.own is not None or not question.conditions.device.startswith("cpu"):
        return 1
    import torch  # late: it is needed to run networks only

    return torch.get_num_threads()


def _together(space: Space, spec: ProxySpec, conditions: Conditions) -> tuple[int, int]:
    """Return how many architectures a chunk has at least and at most."""
    if spec.route(space) == "data-free":
        return DATA_FREE, DATA_FREE
    from nas.proxies.routes import together  # late: it loads torch

    return together(space, spec, conditions)
