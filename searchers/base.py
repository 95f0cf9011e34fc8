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
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from searchers.recent import Recent
from spaces import Arch, NasError, Population, Space, look_up

_WALK_BLOCK = 256  # rows per canonicalisation of the walk: large enough to amortise numpy's calls
_OPEN_SHOWN = 10  # ids that an error message lists before it only counts

# Under limits: draws of a block, blocks without a single member inside before draws are repaired,
# and how many of the least bad draws are then repaired.
_DRAWS = 64
_VAIN_BLOCKS = 4
_REPAIRS = 4
_STEPS = 30  # changes in a row without coming nearer that end a repair
_VAIN_REPAIRS = 8  # repairs in a row without success after which the walk takes over
_LISTED = 2**18  # a space of up to so many members is looked through before a limit is called off
_DEAR = 1024  # with less effort than this, a look takes so long that guesses say where to look
_GUESSED = 256  # draws that are guessed about
_WALK_VAIN = 2_000  # members outside in a row that end a walk over a space without an order
_WALK_EFFORTS = 2  # the same as a multiple of the effort, for any space, where a look takes long


class InvalidAnswer(NasError, ValueError):
    """An answer that belongs to no open candidate, or that is no score."""


class InvalidOption(NasError, ValueError):
    """A setting of a strategy with the wrong type or out of range."""


class Unsatisfiable(NasError, ValueError):
    """No architecture within the limits of a search was found."""


class Limits(Protocol):
    """What bounds a search: sizes or times that architectures must keep within."""

    @property
    def effort(self) -> int:
        """How many architectures may be looked at for one that is wanted.

        Small where looking at one takes long, as a measured latency does.
        """

    def excess(self, population: Population) -> NDArray[np.float64]:
        """Return how far each architecture is outside, ``(N,)``; 0 is within the limits.

        Only the order of the numbers matters: what has less is nearer.
        """

    def guess(self, population: Population) -> NDArray[np.float64]:
        """Return who is likely to be inside, or nearest, ``(N,)``: those with less.

        Fast where :meth:`excess` takes long: it looks at nothing, and may be wrong.
        """

    def describe(self, arch: Arch) -> str:
        """Return what is bounded, the bounds, and what the architecture has, for a message."""


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

    What is asked is canonical, pairwise distinct, and was never asked before in this run (in spaces
    of more than half a million functions: not among the last half million, so that memory is
    bounded). When a
    strategy proposes only what it asked already, :attr:`_patience` times in a row, the base takes
    the missing candidates from a walk over the whole space that visits every member once, in an
    order that depends on the seed. So :meth:`ask` always ends, and returns fewer than ``n`` only
    when every distinct function of the space has been asked. In a space without an official order
    the walk spreads from a random member over its neighbours and theirs.

    Under limits (:meth:`restrict`) nothing outside of them is ever asked. A proposal outside is
    *repaired*: one choice after another is changed, each time to one of the changes that bring it
    nearest, until it is inside. Random draws are drawn again instead, and repaired only where 256
    in a row were outside; so they are uniform over what is inside, unless that is much less than a
    hundredth of the space. Without success for :attr:`_patience` proposals the walk goes on, and
    passes over what is outside; where looking at one takes long, it ends after many in a row.

    Several objectives (:meth:`pursue`) make every score a tuple of that many numbers.

    Any number of candidates may be open. The answers of one :meth:`tell` are taken in the order of
    their ids, so the order in which a batch finishes changes nothing.
    """

    _patience: ClassVar[int] = 100
    """Proposals in a row that may all be known before the walk takes over."""

    _recalls: ClassVar[bool] = False
    """Whether the strategy looks up what it was told of an architecture long ago."""

    learns: ClassVar[bool] = True
    """Whether what is asked depends on what was told."""

    _gives_up: ClassVar[bool] = True
    """Whether the walk ends after many members outside in a row where a look takes long."""

    one_score: ClassVar[str] = "it compares candidates by one score"
    """Why the strategy takes no more than one objective; empty where it takes several."""

    def __init__(self, space: Space, *, seed: int) -> None:
        self.space = space
        self._rng = np.random.default_rng(check_integer("seed", seed, at_least=0))
        self._asked: Recent[Arch, None] = Recent()
        self._told: Recent[Arch, float | None] = Recent()
        self._told_several: Recent[Arch, tuple[float, ...] | None] = Recent()
        self._n_objectives = 1
        self._limits: Limits | None = None
        self._inside_for_sure: Arch | None = None
        self._draws: Iterator[Arch] = iter(())
        self._n_looked_at = 0
        self._open: dict[int, Candidate] = {}
        self._n_asked = 0
        self._walk: Iterator[Arch] | None = None
        self._exhausted = False

    @property
    def n_looked_at(self) -> int:
        """How many architectures have been compared with the limits so far, repeats included."""
        return self._n_looked_at

    def restrict(self, limits: Limits) -> None:
        """Ask only for what is within limits from now on; to be called before the first ask.

        Raises:
            Unsatisfiable: Nothing within the limits was found: not among 256 draws, nor by
                repairing the least bad of them, nor, where the space has an order and few enough
                members, among all of them. Where looking at one takes long, draws are a few, and
                what is repaired is the best of those that were guessed to be nearest.
        """
        if self._n_asked:
            raise NasError("limits have to be set before the first candidate is asked for")
        self._limits = limits
        self._inside_for_sure = self._find_inside(limits)
        self._draws = self._draws_inside(limits)

    def pursue(self, n_objectives: int) -> None:
        """Take so many scores for each candidate from now on; to be called before the first ask.

        Raises:
            InvalidOption: The strategy takes one objective only; the message says why.
        """
        check_integer("n_objectives", n_objectives, at_least=1)
        if n_objectives > 1 and self.one_score:
            raise InvalidOption(
                f"{type(self).__name__} takes one objective, got {n_objectives}: {self.one_score}"
            )
        if self._n_asked:
            raise NasError("objectives have to be set before the first candidate is asked for")
        self._n_objectives = n_objectives

    def ask(self, n: int) -> list[Candidate]:
        """Return up to ``n`` new candidates; an empty list means that nothing new is left."""
        check_integer("n", n, at_least=1)
        found: list[Candidate] = []
        vain = 0  # proposals in a row that were known
        while not self._exhausted and len(found) < n and vain < self._patience:
            proposals = self._propose(n - len(found))
            if len(proposals) == 0:
                break
            for arch in self._inside(self._canonical(proposals)):
                if len(found) == n:
                    break
                if arch is None:
                    vain += max(1, self._patience // _VAIN_REPAIRS)
                elif arch in self._asked:
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

    def tell(self, answers: Iterable[tuple[int, float | Sequence[float] | None]]) -> None:
        """Take the scores of open candidates.

        Args:
            answers: Pairs of id and score, higher being better, or of id and one score for each
                objective; ``None`` is a candidate that could not be scored.

        Raises:
            InvalidAnswer: An id that is not open, an id that comes twice, a score that is not
                finite, or not as many scores as objectives. Then none of the answers has been
                taken.
        """
        checked = sorted(self._check(answers), key=lambda pair: pair[0].id)
        for candidate, scores in checked:
            del self._open[candidate.id]
            if self._n_objectives > 1:
                if self._recalls:
                    self._told_several[candidate.arch] = scores
                self._observe_several(candidate, scores)
            else:
                score = None if scores is None else scores[0]
                if self._recalls:
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
        """Learn the score of a candidate, ``None`` if it failed; :attr:`_told` may hold it."""

    def _observe_several(  # noqa: B027
        self, candidate: Candidate, scores: tuple[float, ...] | None
    ) -> None:
        """The same where there are several objectives; :attr:`_told_several` holds them."""

    def _sample(self, n: int) -> Sequence[Arch] | Population:
        """Draw ``n`` architectures uniformly, with replacement.

        Under limits they are inside; where such draws are rare, they are the least bad of many.
        """
        if self._limits is None:
            return self.space.sample_many(n, self._rng)
        return [next(self._draws) for _ in range(n)]

    def _draws_inside(self, limits: Limits) -> Iterator[Arch]:
        """Yield canonical draws for ever: inside by rejection, or else the least bad, to repair."""
        if self._inside_for_sure is not None:
            yield self._inside_for_sure
        while True:
            least: list[tuple[float, Arch]] = []
            drawn, size = 0, _block(limits)
            while drawn < min(_VAIN_BLOCKS * _DRAWS, limits.effort):
                block = self._canonical(self.space.sample_many(size, self._rng))
                excess = self._excess(block)
                inside = [arch for arch, beyond in zip(block, excess, strict=True) if not beyond]
                if inside:
                    yield from inside
                    break
                least += zip(excess, block, strict=True)
                drawn += len(block)
            else:
                yield from (arch for _, arch in sorted(set(least))[:_REPAIRS])

    def _excess(self, archs: Sequence[Arch]) -> list[float]:
        """Return how far canonical architectures are outside of the limits, 0 for inside."""
        if self._limits is None:
            return [0.0] * len(archs)
        if not archs:
            return []
        self._n_looked_at += len(archs)
        excess: list[float] = self._limits.excess(np.asarray(archs, dtype=np.int64)).tolist()
        return excess

    def _only_inside(self, archs: Sequence[Arch]) -> list[Arch]:
        """Return those of some canonical architectures that are within the limits."""
        excess = self._excess(archs)
        return [arch for arch, beyond in zip(archs, excess, strict=True) if not beyond]

    def _inside(self, archs: Sequence[Arch]) -> Iterator[Arch | None]:
        """Yield architectures as they are, repaired where outside, None where that fails."""
        for arch, beyond in zip(archs, self._excess(archs), strict=True):
            yield self._repair(arch) if beyond else arch

    def _repair(self, arch: Arch) -> Arch | None:
        """Return an architecture within the limits, near one outside; None where none was found.

        One choice is changed at a time, to one drawn from the third of the changes for the better
        that help most; where none helps, to any that was not tried yet.
        What was asked before is not returned.
        """
        assert self._limits is not None
        most = max(self._limits.effort // 32, 8)
        beyond = self._excess([arch])[0]
        nearest, vain = beyond, 0
        tried = {arch}
        for _ in range(self._limits.effort // 16):
            near = [other for other in self._neighbours(arch, most) if other not in tried]
            ranked = sorted(zip(self._excess(near), near, strict=True))
            new = [other for left, other in ranked if not left and other not in self._asked]
            if new:
                return new[int(self._rng.integers(len(new)))]
            if ranked:  # of many neighbours, others may be drawn next time
                better = sum(left < beyond for left, _ in ranked)
                choices = 1 + better // 3 if better else len(ranked)
                beyond, arch = ranked[int(self._rng.integers(choices))]
                tried.add(arch)
            nearest, vain = min(nearest, beyond), 0 if beyond < nearest else vain + 1
            if vain == _STEPS:
                break
        return None

    def _neighbours(self, arch: Arch, most: int) -> list[Arch]:
        """Return the canonical forms of neighbours, each once, a random choice of ``most``."""
        near = self.space.near(arch)
        if len(near) > most:
            chosen = self._rng.choice(len(near), size=most, replace=False)
            near = tuple(near[i] for i in sorted(chosen.tolist()))
        return list(dict.fromkeys(self._canonical(near))) if near else []

    def _find_inside(self, limits: Limits) -> Arch:
        """Return something within the limits, or raise :class:`Unsatisfiable`."""
        least: list[tuple[float, Arch]] = []
        dear = limits.effort < _DEAR
        for block in self._first_looks(limits):
            excess = self._excess(block)
            inside = [arch for arch, beyond in zip(block, excess, strict=True) if not beyond]
            if inside:
                return inside[0]  # of draws, a uniform one
            least += zip(excess, block, strict=True)
        least = sorted(set(least))
        for _, arch in least[: 1 if dear else 2 * _REPAIRS]:
            repaired = self._repair(arch)
            if repaired is not None:
                return repaired
        where = f"among the {self._n_looked_at:,} architectures of {self.space.name} looked at"
        few = len(self.space) <= (limits.effort if dear else _LISTED)
        members = self._listed() if few else None
        if members is not None:
            for first in range(0, len(members), 16 * _WALK_BLOCK):
                block = self._canonical(members[first : first + 16 * _WALK_BLOCK])
                least = sorted([min(zip(self._excess(block), block, strict=True)), least[0]])
                if not least[0][0]:
                    return least[0][1]
            where = f"in {self.space.name}, of all {len(members):,} architectures"
        raise Unsatisfiable(
            f"nothing within the limits {where}; nearest is {self.space.to_str(least[0][1])}: "
            f"{limits.describe(least[0][1])}"
        )

    def _first_looks(self, limits: Limits) -> Iterator[list[Arch]]:
        """Yield blocks of draws; where a look takes long, one, and what is likely inside."""
        dear, size = limits.effort < _DEAR, _block(limits)
        for _ in range(1 if dear else _VAIN_BLOCKS):
            yield self._canonical(self.space.sample_many(size, self._rng))
        likely = self._likely(limits) if dear else []
        for first in range(0, len(likely), size):
            yield likely[first : first + size]

    def _likely(self, limits: Limits) -> list[Arch]:
        """Return a few that seem to be nearest: of all members, or of draws and downhill of them.

        Which of equal guesses are among them is drawn.
        """
        guesses: dict[Arch, float] = {}

        def ranked(archs: list[Arch]) -> list[tuple[float, Arch]]:
            guessed = limits.guess(np.asarray(archs)).tolist() if archs else []
            guesses.update(zip(archs, guessed, strict=True))
            return sorted(zip(guessed, archs, strict=True))

        members = self._listed() if len(self.space) <= _LISTED else None
        if members is not None:
            ranked(list(dict.fromkeys(self._canonical(members))))
        else:
            drawn = self._canonical(self.space.sample_many(_GUESSED, self._rng))
            for best in ranked(drawn)[:_REPAIRS]:
                near = [best]
                while near and near[0][0] <= best[0]:
                    best, near = near[0], ranked(self._neighbours(near[0][1], _GUESSED))
                    near = [pair for pair in near if pair[0] < best[0]]
        ties = self._rng.random(len(guesses)).tolist()
        order = sorted(zip(guesses.values(), ties, guesses, strict=True))
        return [arch for _, _, arch in order[: limits.effort // 4]]

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
        members = self._listed()
        if members is None:
            yield from self._spread()
            return
        start, stride = self._course()
        most = self._vain_looks(len(members))
        size = min(_WALK_BLOCK, most)
        vain = 0
        for first in range(0, len(members), size):
            steps = np.arange(first, min(first + size, len(members)))
            block = self._canonical(members[(start + stride * steps) % len(members)])
            new = list(dict.fromkeys(arch for arch in block if arch not in self._asked))
            inside = self._only_inside(new)
            yield from inside
            vain = 0 if inside else vain + len(new)
            if vain >= most and self._gives_up:
                return

    def _vain_looks(self, usual: int) -> int:
        """Return how many members outside in a row end a walk, fewer where a look takes long."""
        if self._limits is None or self._limits.effort >= _DEAR:
            return usual
        return min(usual, _WALK_EFFORTS * self._limits.effort)

    def _listed(self) -> Population | None:
        """Return all members in the official order, None where the space has no such order."""
        try:
            return self.space.all()
        except NasError:
            return None

    def _spread(self) -> Iterator[Arch]:
        """Yield all canonical forms in reach of a random one by changing one choice at a time.

        Under limits the walk begins inside and ends after many members in a row that are outside.
        """
        start = [self.space.sample(self._rng)]
        if self._inside_for_sure is not None:
            start.append(self._inside_for_sure)
        reached = dict.fromkeys(self._canonical(start))
        border = deque(reached)
        vain, most = 0, self._vain_looks(_WALK_VAIN)
        while border and vain < most:
            arch = border.popleft()
            if self._only_inside([arch]):
                vain = 0
                yield arch
            else:
                vain += 1
            near = self.space.near(arch)
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
        self._asked[arch] = None
        self._open[candidate.id] = candidate
        return candidate

    def _check(
        self, answers: Iterable[tuple[int, float | Sequence[float] | None]]
    ) -> list[tuple[Candidate, tuple[float, ...] | None]]:
        """Return the answers with their candidates, or raise; see :meth:`tell`."""
        checked: list[tuple[Candidate, tuple[float, ...] | None]] = []
        for id_, score in answers:
            candidate = self._open.get(id_)
            if candidate is None:
                raise InvalidAnswer(self._why_not_open(id_))
            checked.append((candidate, None if score is None else self._scores(id_, score)))
        ids = [candidate.id for candidate, _ in checked]
        if len(set(ids)) < len(ids):
            twice = next(id_ for place, id_ in enumerate(ids) if id_ in ids[:place])
            raise InvalidAnswer(f"candidate {twice} is answered twice")
        return checked

    def _scores(self, id_: int, score: float | Sequence[float]) -> tuple[float, ...]:
        """Return the score, or scores, of one answer as a tuple of finite numbers."""
        if type(score) is float and math.isfinite(score) and self._n_objectives == 1:
            return (score,)
        scores = tuple(score) if isinstance(score, Sequence) else (score,)
        if len(scores) != self._n_objectives:
            raise InvalidAnswer(
                f"candidate {id_}: expected {self._n_objectives} scores, got {len(scores)}"
            )
        for each in scores:
            if not math.isfinite(each):
                raise InvalidAnswer(
                    f"score of candidate {id_} must be a finite number, or None for a failure, "
                    f"got {each}"
                )
        return tuple(float(each) for each in scores)

    def _why_not_open(self, id_: object) -> str:
        asked = isinstance(id_, int) and 0 <= id_ < self._n_asked
        what = "was told before" if asked else "was never asked"
        shown = list(self._open)
        more = f" and {len(shown) - _OPEN_SHOWN} more" if len(shown) > _OPEN_SHOWN else ""
        return f"candidate {id_} is not open, it {what}; open: {shown[:_OPEN_SHOWN]}{more}"


def _block(limits: Limits) -> int:
    """Return how many architectures are drawn at a time: few where looking at one takes long."""
    return max(1, min(_DRAWS, limits.effort // 8))


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

    @property
    def one_score(self) -> str:
        """Why it takes no more than one objective; empty where it takes several."""
        return str(getattr(self.strategy, "one_score", Strategy.one_score))

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
