"""Local search: score all neighbours, move to the best of them, start again at a summit.

White et al. 2021, "Exploring the Loss Landscape in Neural Architecture Search" (first called
"Local Search is State of the Art for NAS Benchmarks"), https://arxiv.org/abs/2005.02960.
``starts`` is the paper's number of initial random draws and ``first_improvement`` its
"query until lower". Differences from the paper: at a local optimum the search starts again instead
of stopping, neighbours that compute the same function are scored once, and batches are filled up
with random draws, which serve as further starting points.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from searchers.base import Candidate, Strategy, StrategyInfo, check_flag, check_integer
from spaces import Arch, Population, Space


@dataclass(frozen=True)
class LocalSearchOptions:
    """Settings of :class:`LocalSearch`.

    Attributes:
        starts: Random architectures scored before each climb, which begins at the best of them; 1
            begins anywhere.
        first_improvement: Move as soon as one better neighbour is known, instead of scoring all.
    """

    starts: int = 10
    first_improvement: bool = False

    def __post_init__(self) -> None:
        check_integer("starts", self.starts, at_least=1)
        check_flag("first_improvement", self.first_improvement)


class LocalSearch(Strategy):
    """Climbs from the best of a few random draws to the best neighbour until none is better.

    At the start, ``starts`` architectures are drawn at random. A climb ends where no neighbour has
    a strictly higher score (so a plateau ends it too); the next one begins at the best random draw
    that no climb has used yet, after new draws where fewer than ``starts`` are left. Neighbours are
    asked in random order. A failed neighbour is a neighbour that is not better. One outside of the
    limits is none.

    Several open candidates: a step needs the scores of all neighbours, so what a batch holds
    beyond them is drawn at random and kept as starting points for later climbs. Batches of about
    the number of neighbours suit it best.
    """

    _recalls = True
    one_score = "a climb goes to what is better by one score; use nsga2 or tpe for several"

    def __init__(
        self,
        space: Space,
        *,
        seed: int,
        starts: int = LocalSearchOptions.starts,
        first_improvement: bool = LocalSearchOptions.first_improvement,
    ) -> None:
        super().__init__(space, seed=seed)
        self._options = LocalSearchOptions(starts, first_improvement)
        self._centre: Arch | None = None  # None between two climbs
        self._around: list[Arch] = []  # the distinct neighbours of the centre
        self._near: set[Arch] = set()  # the neighbours of every centre so far
        self._pool: list[tuple[float, int, Arch]] = []  # scored draws that no climb has used

    def _propose(self, n: int) -> Sequence[Arch] | Population:
        self._advance()
        unasked = [arch for arch in self._around if arch not in self._asked]
        return unasked[:n] or self._sample(n)

    def _observe(self, candidate: Candidate, score: float | None) -> None:
        if score is not None and candidate.arch not in self._near:
            self._pool.append((score, -candidate.id, candidate.arch))  # the older among equals

    def _advance(self) -> None:
        """Begin climbs, move and end them as far as the scores told so far allow."""
        while self._centre is not None or self._begin():
            better = self._best_neighbour()
            waiting = any(arch not in self._told for arch in self._around)
            if better is not None and (self._options.first_improvement or not waiting):
                self._stand_on(better)
            elif waiting:
                return
            else:
                self._centre, self._around = None, []

    def _begin(self) -> bool:
        """Start a climb at the best draw; False where more draws have to be scored first."""
        if len(self._pool) < self._options.starts:
            return False
        start = max(self._pool)
        self._pool.remove(start)
        self._stand_on(start[2])
        return True

    def _stand_on(self, arch: Arch) -> None:
        distinct = dict.fromkeys(self._canonical(self.space.near(arch)))
        distinct.pop(arch, None)
        around = self._only_inside(list(distinct))
        self._centre = arch
        self._around = [around[i] for i in self._rng.permutation(len(around))]
        self._near.update(around)

    def _best_neighbour(self) -> Arch | None:
        """Return the neighbour with the highest score told so far, None if none beats the centre.

        A climb moves only upwards, so it ends, also where all its neighbours were known before.
        """
        assert self._centre is not None
        best, best_score = None, self._told[self._centre]
        assert best_score is not None  # only scored architectures become a centre
        for arch in self._around:
            score = self._told.get(arch)
            if score is not None and score > best_score:
                best, best_score = arch, score
        return best


LOCAL_SEARCH = StrategyInfo(
    name="local_search",
    summary="hill climbing over one-choice neighbours, with restarts",
    paper="https://arxiv.org/abs/2005.02960",
    strategy=LocalSearch,
    options=LocalSearchOptions,
)
