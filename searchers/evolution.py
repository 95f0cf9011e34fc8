"""Regularised evolution: mutate the best of a few, and let the oldest die, not the worst.

Real et al. 2019, "Regularized Evolution for Image Classifier Architecture Search",
https://arxiv.org/abs/1802.01548 (algorithm 1). Differences from the paper: what was asked before is
never asked again (another parent is drawn), and candidates are asked in batches.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from searchers.base import Candidate, Strategy, StrategyInfo, check_integer
from spaces import Arch, Population, Space


@dataclass(frozen=True)
class EvolutionOptions:
    """Settings of :class:`Evolution`.

    The paper's P = 100 and S = 25 are for 20,000 candidates. Zero-shot searches score 200 to
    1,000, of which the first ``population`` are random, so fewer leave more for the evolution.

    Attributes:
        population: Candidates alive at a time (P in the paper), at least 2. No more than a quarter
            of the space is used, so that a small space is not spent on the random start.
        tournament: Draws, with replacement, of which the best becomes the parent (S in the paper);
            1 is a random parent.
    """

    population: int = 40
    tournament: int = 10

    def __post_init__(self) -> None:
        check_integer("population", self.population, at_least=2)
        check_integer("tournament", self.tournament, at_least=1)


class Evolution(Strategy):
    """Keeps the ``population`` youngest scored candidates; a parent is the best of ``tournament``.

    Until ``population`` candidates have a score, candidates are drawn at random. After that, every
    candidate is a parent with one choice changed. Equal scores: the younger wins. A failed
    candidate never enters the population, so it costs one ask and nothing else.

    Several open candidates: those asked together are children of the same generation, since a
    parent must have a score. Asking n at a time is thus n steps of the paper's asynchronous
    workers. A child enters when it is told, and then the one told longest ago leaves. Batches
    larger than ``population`` replace everyone at once and lose most of the selection pressure.
    """

    one_score = "a tournament needs one score to win by; nsga2 is evolution for several objectives"

    def __init__(
        self,
        space: Space,
        *,
        seed: int,
        population: int = EvolutionOptions.population,
        tournament: int = EvolutionOptions.tournament,
    ) -> None:
        super().__init__(space, seed=seed)
        options = EvolutionOptions(population, tournament)
        self._population = max(2, min(options.population, len(space) // 4))
        self._tournament = options.tournament
        # (score, id, arch), so that max() prefers the younger among equals; maxlen drops the oldest
        self._alive: deque[tuple[float, int, Arch]] = deque(maxlen=self._population)

    def _propose(self, n: int) -> Sequence[Arch] | Population:
        if len(self._alive) < self._population:
            return self._sample(n)
        n = max(2 * n, 16)  # some will be known already, and a block costs little more than one
        ranked = sorted(self._alive)  # the place of an entry is its rank
        place = {entry[1]: rank for rank, entry in enumerate(ranked)}
        ranks = np.asarray([place[entry[1]] for entry in self._alive])
        drawn = self._rng.integers(len(ranks), size=(n, self._tournament))
        best = ranks[drawn].max(axis=1).tolist()
        return self.space.mutate_many([ranked[rank][2] for rank in best], self._rng)

    def _observe(self, candidate: Candidate, score: float | None) -> None:
        if score is not None:
            self._alive.append((score, candidate.id, candidate.arch))


EVOLUTION = StrategyInfo(
    name="evolution",
    summary="regularised evolution: mutate the best of a few, the oldest dies",
    paper="https://arxiv.org/abs/1802.01548",
    strategy=Evolution,
    options=EvolutionOptions,
)
