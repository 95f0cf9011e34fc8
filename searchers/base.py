"""How every strategy is asked and told: ids, open candidates, no repeats, and a certain end.

A strategy writes two hooks, :meth:`Strategy._propose` and :meth:`Strategy._observe`. Everything
else, the protocol, is here once. A strategy is deterministic given its seed and the scores it is
told, so a search is resumed by asking and telling again; nothing has to be saved.
"""

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import numpy as np

from spaces import Arch, NasError, Population, Space, look_up

_WALK_BLOCK = 256  # rows per canonicalisation of the walk: large enough to amortise numpy's calls
_OPEN_SHOWN = 10  # ids that an error message lists before it only counts


class InvalidAnswer(NasError, ValueError):
    """An answer that belongs to no open candidate, or that is no score."""


class InvalidOption(NasError, ValueError):
    """A setting of a strategy with the wrong type or out of range."""


def check_integer(name: str, value: object, *, at_least: int) -> int:
    """Return ``value`` as a Python integer.

    Args:
        name: What a person calls the value, for the message.
        value: What came.
        at_least: The smallest value allowed.

    Raises:
        InvalidOption: It is no integer (``True`` is none either), or too small.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InvalidOption(f"{name}: expected int, got {value!r}")
    if value < at_least:
        raise InvalidOption(f"{name} must be at least {at_least}, got {value}")
    return int(value)


def check_flag(name: str, value: object) -> None:
    """Raise :class:`InvalidOption` unless ``value`` is ``True`` or ``False``."""
    if not isinstance(value, bool):
        raise InvalidOption(f"{name}: expected true or false, got {value!r}")


@dataclass(frozen=True, slots=True)
class Candidate:
    """An architecture that a strategy wants to be scored.

    Attributes:
        id: Its number in this run, from 0, in the order of asking.
        arch: Its canonical form.
    """

    id: int
    arch: Arch


class Strategy(ABC):
    """Proposes architectures and learns from their scores; higher is better.

    What is asked is canonical, pairwise distinct, and was never asked before in this run. When a
    strategy proposes only what it asked already, :attr:`_patience` times in a row, the base takes
    the missing candidates from a walk over the whole space that visits every member once, in an
    order that depends on the seed. So :meth:`ask` always ends, and returns fewer than ``n`` only
    when every distinct function of the space has been asked. In a space without an official order
    the walk spreads from a random member over its neighbours and theirs.

    Any number of candidates may be open. The answers of one :meth:`tell` are taken in the order of
    their ids, so the order in which a batch finishes changes nothing.
    """

    _patience: ClassVar[int] = 100
    """Proposals in a row that may all be known before the walk takes over."""

    def __init__(self, space: Space, *, seed: int) -> None:
        self.space = space
        self._rng = np.random.default_rng(check_integer("seed", seed, at_least=0))
        self._asked: set[Arch] = set()
        self._told: dict[Arch, float | None] = {}
        self._open: dict[int, Candidate] = {}
        self._n_asked = 0
        self._walk: Iterator[Arch] | None = None
        self._exhausted = False

    def ask(self, n: int) -> list[Candidate]:
        """Return up to ``n`` new candidates; an empty list means that nothing new is left."""
        check_integer("n", n, at_least=1)
        found: list[Candidate] = []
        vain = 0  # proposals in a row that were known
        while not self._exhausted and len(found) < n and vain < self._patience:
            proposals = self._propose(n - len(found))
            if len(proposals) == 0:
                break
            for arch in self._canonical(proposals):
                if len(found) == n:
                    break
                if arch in self._asked:
                    vain += 1
                else:
                    vain = 0
                    found.append(self._issue(arch))
        while len(found) < n:
            unseen = self._next_unseen()
            if unseen is None:
                break
            found.append(self._issue(unseen))
        return found

    def tell(self, answers: Iterable[tuple[int, float | None]]) -> None:
        """Take the scores of open candidates.

        Args:
            answers: Pairs of id and score; ``None`` is a candidate that could not be scored.

        Raises:
            InvalidAnswer: An id that is not open, an id that comes twice, or a score that is not
                finite. Then none of the answers has been taken.
        """
        checked = sorted(self._check(answers), key=lambda pair: pair[0].id)
        for candidate, score in checked:
            del self._open[candidate.id]
            self._told[candidate.arch] = score
            self._observe(candidate, score)

    @abstractmethod
    def _propose(self, n: int) -> Sequence[Arch] | Population:
        """Return architectures worth scoring next, the best first; ``n`` new ones are used.

        They need be neither canonical nor new: what is known (:attr:`_asked`) is dropped, and the
        hook is called again for the rest. Whole blocks are asked for, because canonicalising a
        block costs little more than a single architecture. Nothing at all leads to the walk.
        """

    def _observe(self, candidate: Candidate, score: float | None) -> None:  # noqa: B027
        """Learn the score of a candidate, ``None`` if it failed; :attr:`_told` holds it already."""

    def _sample(self, n: int) -> Sequence[Arch] | Population:
        """Draw ``n`` architectures uniformly, with replacement."""
        return self.space.sample_many(n, self._rng)

    def _canonical(self, proposals: Sequence[Arch] | Population) -> list[Arch]:
        """Return the canonical forms, one per proposal."""
        rows = self.space.canonicalise(np.asarray(proposals, dtype=np.int64))
        return list(map(tuple, rows.tolist()))

    def _course(self) -> tuple[int, int]:
        """Return where the walk starts in the official order, and its stride.

        A stride that has no divisor in common with the size visits every member once; a random one
        keeps the walk from crawling through neighbours that differ in the first choice only.
        """
        size = len(self.space)
        start, stride = (int(value) for value in self._rng.integers(size, size=2))
        while math.gcd(stride, size) != 1:
            stride += 1  # ends: size + 1 has no divisor in common with size
        return start, stride

    def _visit(self) -> Iterator[Arch]:
        """Yield the canonical form of every member of the space, one member after the other."""
        try:
            members = self.space.all()
        except NasError:  # the space has no official order
            yield from self._spread()
            return
        start, stride = self._course()
        for first in range(0, len(members), _WALK_BLOCK):
            steps = np.arange(first, min(first + _WALK_BLOCK, len(members)))
            yield from self._canonical(members[(start + stride * steps) % len(members)])

    def _spread(self) -> Iterator[Arch]:
        """Yield all canonical forms in reach of a random one by changing one choice at a time."""
        reached = dict.fromkeys(self._canonical([self.space.sample(self._rng)]))
        border = deque(reached)
        while border:
            arch = border.popleft()
            yield arch
            near = self.space.neighbours(arch)
            for other in self._canonical(near) if near else ():
                if other not in reached:
                    reached[other] = None
                    border.append(other)

    def _next_unseen(self) -> Arch | None:
        """Return the next architecture of the walk that was never asked; None at its end."""
        if self._walk is None:
            self._walk = self._visit()
        for arch in self._walk:
            if arch not in self._asked:
                return arch
        self._exhausted = True
        return None

    def _issue(self, arch: Arch) -> Candidate:
        """Number a new architecture and remember it as asked and open."""
        candidate = Candidate(self._n_asked, arch)
        self._n_asked += 1
        self._asked.add(arch)
        self._open[candidate.id] = candidate
        return candidate

    def _check(
        self, answers: Iterable[tuple[int, float | None]]
    ) -> list[tuple[Candidate, float | None]]:
        """Return the answers with their candidates, or raise; see :meth:`tell`."""
        checked: list[tuple[Candidate, float | None]] = []
        for id_, score in answers:
            candidate = self._open.get(id_)
            if candidate is None:
                raise InvalidAnswer(self._why_not_open(id_))
            if score is not None:
                if not math.isfinite(score):
                    raise InvalidAnswer(
                        f"score of candidate {id_} must be a finite number, or None for a failure, "
                        f"got {score}"
                    )
                score = float(score)
            checked.append((candidate, score))
        ids = [candidate.id for candidate, _ in checked]
        if len(set(ids)) < len(ids):
            twice = next(id_ for place, id_ in enumerate(ids) if id_ in ids[:place])
            raise InvalidAnswer(f"candidate {twice} is answered twice")
        return checked

    def _why_not_open(self, id_: object) -> str:
        asked = isinstance(id_, int) and 0 <= id_ < self._n_asked
        what = "was told before" if asked else "was never asked"
        shown = list(self._open)
        more = f" and {len(shown) - _OPEN_SHOWN} more" if len(shown) > _OPEN_SHOWN else ""
        return f"candidate {id_} is not open, it {what}; open: {shown[:_OPEN_SHOWN]}{more}"


@dataclass(frozen=True)
class NoOptions:
    """The settings of a strategy that has none."""


@dataclass(frozen=True)
class StrategyInfo:
    """One entry of the table of strategies.

    Attributes:
        name: The key in :data:`searchers.STRATEGIES`.
        summary: One line for a person.
        paper: Address of the publication it follows, empty where there is none.
        strategy: The class, called as ``strategy(space, seed=..., **options)``.
        options: The frozen dataclass of its settings, which checks and describes them; every field
            has a default.
        uses_seed: False where the seed changes nothing.
    """

    name: str
    summary: str
    paper: str
    strategy: Callable[..., Strategy]
    options: type[Any]
    uses_seed: bool = True

    def make(self, space: Space, *, seed: int, **options: object) -> Strategy:
        """Build the strategy.

        Args:
            space: What is searched.
            seed: Of all its draws, at least 0.
            **options: Fields of :attr:`options`; what is left out keeps its default.

        Raises:
            UnknownName: The strategy has no such option.
            InvalidOption: The seed or an option has the wrong type or is out of range.
        """
        known = {field.name: field for field in fields(self.options)}
        for name in options:
            if not known:
                raise InvalidOption(f"{self.name} has no options, got {name!r}")
            look_up(known, name, kind=f"option of {self.name}")
        return self.strategy(space, seed=seed, **asdict(self.options(**options)))
