"""Random search: draw uniformly, never the same function twice; the baseline for all others."""

from collections.abc import Sequence

from searchers.base import NoOptions, Strategy, StrategyInfo
from spaces import Arch, Population


class RandomSearch(Strategy):
    """Draws architectures uniformly and drops those that compute a function asked before.

    A function that many architectures compute is drawn early more often than one that only a
    single architecture computes. The candidates depend on the seed alone: not on the scores, and
    not on how many are asked at a time.
    """

    one_score = ""
    learns = False

    def _propose(self, n: int) -> Sequence[Arch] | Population:
        return self._sample(n)


RANDOM = StrategyInfo(
    name="random",
    summary="uniform draws, the baseline",
    paper="https://arxiv.org/abs/1902.07638",  # Li & Talwalkar 2019: it is a strong one
    strategy=RandomSearch,
    options=NoOptions,
)
