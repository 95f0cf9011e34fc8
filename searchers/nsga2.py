"""NSGA-II: evolution that keeps a whole front of trade-offs.

Deb, Pratap, Agarwal, Meyarivan 2002, "A Fast and Elitist Multiobjective Genetic Algorithm:
NSGA-II", https://doi.org/10.1109/4235.996017. Differences from the paper: what was asked before is
never asked again, so no two of a population compute the same function; candidates are asked in
batches; a child is what the space's own crossover and mutation make, so it is always a member.

Not Optuna's sampler of that name: on the topology space it took 80 ms for each of 1,000
candidates, for most of its children are known ones that each become a trial. Here it is a fraction
of a millisecond, and the space's own crossover serves spaces that forbid combinations, too.

Letters: N candidates, M objectives; higher is better in each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from searchers.base import Candidate, InvalidOption, Strategy, StrategyInfo, check_integer
from spaces import Arch, Population, Space


@dataclass(frozen=True)
class Nsga2Options:
    """Settings of :class:`Nsga2`.

    Attributes:
        population: Candidates that survive a generation (N in the paper), at least 2. No more than
            a quarter of the space is used, so that a small space is not spent on the random start.
        crossover: Probability that a child has two parents, 0 to 1.
    """

    population: int = 40
    crossover: float = 0.9

    def __post_init__(self) -> None:
        check_integer("population", self.population, at_least=2)
        if isinstance(self.crossover, bool) or not isinstance(self.crossover, int | float):
            raise InvalidOption(f"crossover: expected a number, got {self.crossover!r}")
        if not 0 <= self.crossover <= 1:
            raise InvalidOption(f"crossover must be from 0 to 1, got {self.crossover}")


class Nsga2(Strategy):
    """Crosses and mutates the first fronts, and the least crowded of the last one that fits.

    Until ``population`` candidates have scores, they are drawn at random. A parent wins a
    tournament of two: by its front, then by the room that it has there. A child takes each choice
    from one of two parents (or all from one), then one choice is changed. When there are twice as
    many as ``population``, the better half survives. A failed candidate never enters.

    Several open candidates: those asked together are children of the same parents.
    """

    one_score = ""

    def __init__(
        self,
        space: Space,
        *,
        seed: int,
        population: int = Nsga2Options.population,
        crossover: float = Nsga2Options.crossover,
    ) -> None:
        super().__init__(space, seed=seed)
        options = Nsga2Options(population, crossover)
        self._population = min(options.population, max(2, len(space) // 4))
        self._crossover = options.crossover
        self._alive: list[tuple[tuple[float, ...], Arch]] = []  # older ones first

    def _propose(self, n: int) -> Sequence[Arch] | Population:
        if len(self._alive) < self._population:
            return self._sample(n)
        fitness = _fitness(np.asarray([scores for scores, _ in self._alive]))
        children = []
        for _ in range(max(2 * n, 16)):  # some will be known already
            drawn = self._rng.integers(len(self._alive), size=(2, 2))
            first, second = (self._alive[int(pair[np.argmin(fitness[pair])])][1] for pair in drawn)
            if self._rng.random() < self._crossover:
                first = self.space.crossover(first, second, self._rng)
            children.append(first)
        return self.space.mutate_many(children, self._rng)

    def _observe(self, candidate: Candidate, score: float | None) -> None:
        self._observe_several(candidate, None if score is None else (score,))

    def _observe_several(self, candidate: Candidate, scores: tuple[float, ...] | None) -> None:
        if scores is None:
            return
        self._alive.append((scores, candidate.arch))
        if len(self._alive) == 2 * self._population:
            fitness = _fitness(np.asarray([scores for scores, _ in self._alive]))
            survive = sorted(np.argsort(fitness)[: self._population].tolist())
            self._alive = [self._alive[place] for place in survive]


def _fitness(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the place of every candidate, 0 being the best: by front, by room, the older first.

    Args:
        scores: ``(N, M)``.
    """
    front, room = fronts_of(scores), np.empty(len(scores))
    for number in range(front.max() + 1):
        members = np.flatnonzero(front == number)
        room[members] = crowding(scores[members])
    place = np.empty(len(scores), dtype=np.int64)
    place[np.lexsort([np.arange(len(scores)), -room, front])] = np.arange(len(scores))
    return place


def fronts_of(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the number of each candidate's front, 0 for those that nobody dominates, ``(N,)``."""
    no_worse = (scores[:, None] >= scores[None]).all(axis=2)
    better = (scores[:, None] > scores[None]).any(axis=2)
    dominates = np.asarray(no_worse & better, dtype=np.bool_)  # [who, whom]
    front = np.full(len(scores), -1)
    number = 0
    while (front < 0).any():
        left = front < 0
        beaten: NDArray[np.bool_] = np.logical_or.reduce(dominates[left], axis=0)
        front[left & ~beaten] = number
        number += 1
    return front


def crowding(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the room that each member of a front has, ``(N,)``; infinite at the ends.

    The distance between its two neighbours along each objective, as a share of the whole range.
    """
    room = np.zeros(len(scores))
    for values in scores.T:
        order = np.argsort(values, kind="stable")
        ordered = values[order]
        span = ordered[-1] - ordered[0]
        room[order[[0, -1]]] = np.inf
        if span > 0:
            room[order[1:-1]] += (ordered[2:] - ordered[:-2]) / span
    return room


NSGA2 = StrategyInfo(
    name="nsga2",
    summary="NSGA-II: evolution for several objectives",
    paper="https://doi.org/10.1109/4235.996017",
    strategy=Nsga2,
    options=Nsga2Options,
)
