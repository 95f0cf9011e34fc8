r"""How well scores rank architectures: correlations, nDCG and regret, each with an interval.

Higher scores and higher values are better. Only the order of the scores matters. A score that is
not finite is a failure: failures rank below every score, tied with each other, and are never
dropped.

Spearman    Pearson correlation of the mid-ranks (ties share their mean rank).
Kendall     tau-b: (concordant - discordant) / sqrt((pairs - tied scores) (pairs - tied values)),
            counted in pairs of rows.
nDCG@k      sum over the k highest scored of gain / log2(1 + place), divided by the same sum for the
            k highest valued. gain = 2^rel - 1 (Burges et al. 2005, "Learning to rank using gradient
            descent", after Järvelin & Kekäläinen 2002); rel = 20 (v - min) / (max - min) over the
            rows considered: a loss of 5 % of their range halves the gain, one of the whole range
            leaves none. The case for nDCG in NAS: https://arxiv.org/abs/2108.03001.
regret@k    highest value of all rows - highest value among the k highest scored, in the unit of the
            values (percentage points for accuracies).

Ties in the score are broken at random, and nDCG and regret are the *expectation* over that choice,
in closed form (nothing is drawn). nDCG: each place held by a tied group gets the group's mean gain
(McSherry & Najork 2008). Regret: let M be the highest value among the rows that are surely in the
top k, and let r places remain for a tied group of t rows with values v_1 >= ... >= v_t. The highest
of the r drawn is v_j with probability C(t - j, r - 1) / C(t, r), hence E = sum over j of that times
max(M, v_j); for k = 1 it is the mean value of the rows that share the highest score.

Intervals are percentiles of a bootstrap over rows: n rows are drawn with replacement ``n_boot``
times and the whole statistic is computed anew, so rows drawn twice are tied with themselves. The
draws depend on n and the seed only: two proxies see the same resamples, which is what makes
:func:`paired_difference` paired. The interval of a regret or an nDCG describes how it varies with
the rows at hand; being made of extremes it is no confidence interval for a larger space.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.seeds import generator
from spaces.errors import NasError

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

RELEVANCE = 20.0  # relevance of the best row; the worst has 0
TOP = 10  # the k of nDCG@k and of the second regret


@dataclass(frozen=True)
class Estimate:
    """A statistic and its percentile interval.

    Attributes:
        value: On the rows as they are; NaN where it is not defined (all scores equal, say).
        low: Lower end of the interval; NaN where no resample defines the statistic.
        high: Upper end.
    """

    value: float
    low: float
    high: float


class Ranking:
    """Scores and values of n architectures, sorted once so that resamples need no sorting.

    Every statistic takes ``counts``: how often each row was drawn, ``(n,)``, in the order of the
    rows as given; None means each once. A row drawn c times counts as c rows.
    """

    def __init__(self, scores: ArrayLike, values: ArrayLike) -> None:
        """Sort the rows.

        Args:
            scores: One per architecture, ``(n,)``; not finite means failed.
            values: The truth, ``(n,)``, finite.

        Raises:
            NasError: Lengths differ, there are fewer than two rows, or a value is not finite.
        """
        given = np.asarray(scores, dtype=np.float64)
        self._value = np.asarray(values, dtype=np.float64)
        n = len(self._value)
        if given.shape != (n,) or self._value.ndim != 1:
            raise NasError(f"expected one score per value, got {given.shape} for {(n,)}")
        if n < 2:
            raise NasError(f"a ranking needs at least two architectures, got {n}")
        if not np.isfinite(self._value).all():
            raise NasError("every true value must be finite")
        failed = ~np.isfinite(given)
        self.n = n
        self.n_failed = int(failed.sum())
        # Groups are numbered by ascending score; -inf puts the failures, tied, into the lowest one.
        self._by_score = _groups(np.where(failed, -np.inf, given))
        self._by_value = _groups(self._value)
        both = self._by_score * (int(self._by_value.max()) + 1) + self._by_value
        self._by_both = _groups(both)
        # best score first; within a tied group best value first, as the regret formula wants it
        self._order = np.lexsort((-self._value, -self._by_score))
        self._group = -self._by_score[self._order]  # ascending along that order
        self._best_first = np.argsort(-self._value, kind="stable")
        self._levels: list[_Level] | None = None

    def spearman(self, counts: Ints | None = None) -> float:
        """Return Spearman's rank correlation, -1 to 1; NaN when all scores or values are equal."""
        c = self._counts(counts)
        centre = (c.sum() + 1) / 2
        x, of_x = _mid_ranks(self._by_score, c)
        y, of_y = _mid_ranks(self._by_value, c)
        x, y = x - centre, y - centre
        spread = math.sqrt(_dot(of_x, x**2) * _dot(of_y, y**2))
        if spread == 0:
            return math.nan
        # rounding alone may carry a perfect correlation beyond 1
        product = _dot(c * x[self._by_score], y[self._by_value])
        return min(1.0, max(-1.0, product / spread))

    def kendall(self, counts: Ints | None = None) -> float:
        """Return Kendall's tau-b, -1 to 1; NaN when all scores or all values are equal."""
        c = self._counts(counts)
        n = float(c.sum())
        pairs = n * (n - 1) / 2
        tied_x = _tied_pairs(self._by_score, c)
        tied_y = _tied_pairs(self._by_value, c)
        spread = math.sqrt((pairs - tied_x) * (pairs - tied_y))
        if spread == 0:
            return math.nan
        untied = pairs - tied_x - tied_y + _tied_pairs(self._by_both, c)
        return (untied - 2 * self._discordant(c)) / spread

    def ndcg(self, counts: Ints | None = None, *, k: int = TOP) -> float:
        """Return nDCG@k, 0 to 1; NaN when all values are equal."""
        c = self._counts(counts)
        low, high = self._range(c)
        if low == high:
            return math.nan
        places = 1.0 / np.log2(np.arange(2, min(k, int(c.sum())) + 2))  # place 1 first
        discount = np.concatenate([[0.0], np.cumsum(places)])  # (k + 1,): sum of the first places

        def gain(rows: Ints) -> Floats:
            gains: Floats = np.exp2(RELEVANCE * (self._value[rows] - low) / (high - low)) - 1
            return gains

        best = self._best_first[: int(np.searchsorted(np.cumsum(c[self._best_first]), k)) + 1]
        best = best[c[best] > 0]  # a better row that was not drawn may lie far above the range
        ends = np.minimum(np.cumsum(c[best]), len(places))
        ideal = _dot(gain(best), np.diff(discount[ends], prepend=0.0))
        top = self._top(c, k)
        group = _groups(-self._by_score[top])  # ascending from the best score on
        size = np.bincount(group, weights=c[top])
        mean = np.bincount(group, weights=c[top] * gain(top)) / size
        ends = np.minimum(np.cumsum(size).astype(np.int64), len(places))
        return _dot(mean, np.diff(discount[ends], prepend=0.0)) / ideal

    def regret(self, counts: Ints | None = None, *, k: int) -> float:
        """Return the best value minus the expected best value among the k highest scored rows."""
        c = self._counts(counts)
        _, best = self._range(c)
        top = self._top(c, k)
        cut = self._by_score[top[-1]]  # the group that the k-th place falls into
        sure, tied = top[self._by_score[top] > cut], top[self._by_score[top] == cut]
        surely = float(self._value[sure].max()) if len(sure) else -math.inf
        values = np.repeat(self._value[tied], c[tied])
        t, r = len(values), min(k - int(c[sure].sum()), len(values))
        # P(highest drawn is v_1) = r / t, then C(t-j-1, r-1) / C(t-j, r-1) = (t-j-r+1) / (t-j)
        j = np.arange(1, t - r + 1)
        chances = r / t * np.concatenate([[1.0], np.cumprod((t - j - r + 1) / (t - j))])
        missed = best - np.maximum(surely, values[: t - r + 1])  # never below 0, even by rounding
        return _dot(chances, missed)

    def _counts(self, counts: Ints | None) -> Ints:
        return np.ones(self.n, dtype=np.int64) if counts is None else counts

    def _range(self, counts: Ints) -> tuple[float, float]:
        """Return the lowest and the highest value drawn."""
        drawn = counts[self._best_first] > 0
        first, last = int(drawn.argmax()), self.n - 1 - int(drawn[::-1].argmax())
        return float(self._value[self._best_first[last]]), float(
            self._value[self._best_first[first]]
        )

    def _top(self, counts: Ints, k: int) -> Ints:
        """Return the drawn rows of the k highest scores, and all that are tied with the last."""
        reached = np.cumsum(counts[self._order])
        last = min(int(np.searchsorted(reached, k)), self.n - 1)
        end = int(np.searchsorted(self._group, self._group[last], side="right"))
        rows = self._order[:end]
        return rows[counts[rows] > 0]

    def _discordant(self, counts: Ints) -> float:
        """Return the number of pairs that scores and values order in opposite ways.

        These are the inversions of the values in the order of the scores. They are counted bit by
        bit of the value's rank: a pair is inverted at the highest bit where the ranks differ, if
        the earlier row has a 1 there. Which rows meet at which bit does not depend on the counts,
        so it is worked out once and a resample costs one cumulative sum per bit.
        """
        if self._levels is None:
            self._levels = _levels(self._by_score, self._by_value)
        weights = counts.astype(np.float64)  # exact: sums stay far below 2**53
        total = 0.0
        for level in self._levels:
            before = np.concatenate([[0.0], np.cumsum(weights[level.ones])])
            total += _dot(weights[level.zeros], before[level.until] - before[level.since])
        return total


@dataclass(frozen=True)
class _Level:
    """One bit of the value's rank: rows with a 1, rows with a 0, and which 1s precede each 0."""

    ones: Ints
    zeros: Ints
    since: Ints  # of the 1s, the first that shares the higher bits with this 0
    until: Ints  # of the 1s, the first that comes after this 0


def _levels(by_score: Ints, by_value: Ints) -> list[_Level]:
    n = len(by_score)
    order = np.lexsort((by_value, by_score))  # rows tied in the score are no inversion
    rank = np.empty(n, dtype=np.int64)  # in that order; rows tied in the value are no inversion
    rank[np.argsort(by_value[order], kind="stable")] = np.arange(n)
    levels = []
    for bit in range(max(1, (n - 1).bit_length())):
        block = rank >> (bit + 1)
        within = np.argsort(block, kind="stable")  # blocks in a row, each in the order of scores
        one = (rank[within] >> bit & 1).astype(bool)
        n_ones = np.concatenate([[0], np.cumsum(one)])
        start = np.searchsorted(block[within], block[within], side="left")
        levels.append(
            _Level(
                ones=order[within[one]],
                zeros=order[within[~one]],
                since=n_ones[start[~one]],
                until=n_ones[np.flatnonzero(~one)],
            )
        )
    return levels


def _groups(numbers: NDArray[np.generic]) -> Ints:
    """Number equal entries alike, from 0, ascending."""
    numbered: Ints = np.unique(numbers, return_inverse=True)[1].astype(np.int64)
    return numbered


def _mid_ranks(groups: Ints, counts: Ints) -> tuple[Floats, Floats]:
    """Return the mean rank (from 1) and the number of drawn rows of each group."""
    size = np.bincount(groups, weights=counts).astype(np.float64)
    return np.cumsum(size) - (size - 1) / 2, size


def _tied_pairs(groups: Ints, counts: Ints) -> float:
    size = np.bincount(groups, weights=counts)
    return _dot(size, size - 1) / 2


def _dot(a: Floats | Ints, b: Floats | Ints) -> float:
    # not `a @ b`: BLAS threads cost more than they save here, and their number changes the rounding
    return float(np.einsum("i,i", a, b))


Statistic: TypeAlias = Callable[[Ranking, Ints | None], float]

#: Every statistic of a report, by the name of its column.
STATISTICS: Mapping[str, Statistic] = {
    "spearman": lambda ranking, counts: ranking.spearman(counts),
    "kendall": lambda ranking, counts: ranking.kendall(counts),
    "ndcg": lambda ranking, counts: ranking.ndcg(counts, k=TOP),
    "regret_1": lambda ranking, counts: ranking.regret(counts, k=1),
    "regret_10": lambda ranking, counts: ranking.regret(counts, k=TOP),
}


def spearman(scores: ArrayLike, values: ArrayLike) -> float:
    """Return Spearman's rank correlation; see the module."""
    return Ranking(scores, values).spearman()


def kendall(scores: ArrayLike, values: ArrayLike) -> float:
    """Return Kendall's tau-b; see the module."""
    return Ranking(scores, values).kendall()


def ndcg(scores: ArrayLike, values: ArrayLike, *, k: int = TOP) -> float:
    """Return nDCG@k; see the module."""
    return Ranking(scores, values).ndcg(k=_positive(k, "k"))


def regret(scores: ArrayLike, values: ArrayLike, *, k: int = 1) -> float:
    """Return regret@k in the unit of the values; see the module."""
    return Ranking(scores, values).regret(k=_positive(k, "k"))


def log_rank(scores: ArrayLike) -> Floats:
    """Join several scores into one: the sum of ln(rank / n) over them, ``(P, N)`` to ``(N,)``.

    Rank n is the best, ties share their mean rank, and failures (not finite) share the lowest. A
    last place in one score cannot be made good by a first in another. Ranks are among the N rows,
    so the value means nothing apart from them. Lee & Ham (AZ-NAS) 2024, eq. 12,
    https://arxiv.org/abs/2403.19232.
    """
    joined: Floats = np.log(_relative_ranks(scores)).sum(axis=0)
    return joined


def mean_rank(scores: ArrayLike) -> Floats:
    """Join several scores into one: the mean of rank / n over them, ranks as for log_rank."""
    joined: Floats = _relative_ranks(scores).mean(axis=0)
    return joined


#: Ways to join several scores into one.
JOINS: Mapping[str, Callable[[ArrayLike], Floats]] = {"log_rank": log_rank, "mean_rank": mean_rank}


def _relative_ranks(scores: ArrayLike) -> Floats:
    """Return rank / n of each row's entries, ``(P, N)``; failures share the lowest rank."""
    table = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    ranks = np.empty_like(table)
    for row, ranked in zip(table, ranks, strict=True):
        known = np.where(np.isfinite(row), row, -np.inf)
        _, place, count = np.unique(known, return_inverse=True, return_counts=True)
        ranked[:] = (np.cumsum(count) - (count - 1) / 2)[place] / len(known)
    return ranks


def evaluate(
    scores: ArrayLike,
    values: ArrayLike,
    *,
    n_boot: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Return every statistic of :data:`STATISTICS` with its interval.

    Args:
        scores: One per architecture, ``(n,)``; not finite means failed.
        values: The truth, ``(n,)``, finite.
        n_boot: Number of resamples; 0 leaves the intervals out (NaN).
        level: Share of the resamples inside the interval.
        seed: Of the resamples.
    """
    ranking = Ranking(scores, values)
    names = tuple(STATISTICS)
    draws = _resampled([ranking], names, n_boot, seed)[0]  # (n_boot, statistics)
    return {
        name: Estimate(STATISTICS[name](ranking, None), *_percentiles(draws[:, place], level))
        for place, name in enumerate(names)
    }


def paired_difference(
    scores: ArrayLike,
    others: ArrayLike,
    values: ArrayLike,
    *,
    statistic: str = "spearman",
    n_boot: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Return a statistic of ``scores`` minus that of ``others``, resampled on the same rows.

    Much narrower than comparing two intervals: what an easy or hard resample does to both cancels.

    Args:
        scores: Of the first proxy, ``(n,)``.
        others: Of the second proxy, ``(n,)``.
        values: The truth, ``(n,)``, finite.
        statistic: A key of :data:`STATISTICS`.
        n_boot: Number of resamples.
        level: Share of the resamples inside the interval.
        seed: Of the resamples.

    Raises:
        NasError: No such statistic.
    """
    if statistic not in STATISTICS:
        raise NasError(f"no statistic named {statistic!r}. Known: {', '.join(STATISTICS)}")
    pair = [Ranking(scores, values), Ranking(others, values)]
    measure = STATISTICS[statistic]
    first, second = _resampled(pair, (statistic,), n_boot, seed)
    value = measure(pair[0], None) - measure(pair[1], None)
    return Estimate(value, *_percentiles((first - second)[:, 0], level))


def spearman_estimate(scores: ArrayLike, values: ArrayLike) -> Estimate:
    """Return Spearman's correlation with a 95 % interval in closed form, for a page that is quick.

    Fisher's z with the variance (1 + r^2 / 2) / (n - 3), Bonett & Wright 2000,
    https://doi.org/10.1007/BF02294183. NaN at both ends for fewer than four rows, and where all
    scores or values are equal.
    """
    ranking = Ranking(scores, values)
    r = ranking.spearman()
    if ranking.n < 4 or math.isnan(r):
        return Estimate(r, math.nan, math.nan)
    reach = _NORMAL_975 * math.sqrt((1 + r**2 / 2) / (ranking.n - 3))
    z = math.atanh(max(-_SURE, min(_SURE, r)))
    return Estimate(r, math.tanh(z - reach), max(r, math.tanh(z + reach)))


_NORMAL_975 = 1.959963984540054  # the 97.5 % point of a standard normal distribution
_SURE = 1 - 1e-12  # a perfect correlation has no finite z


def mean_estimate(values: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Return the mean of a few values and Student's interval of it; NaN ends for fewer than two."""
    from scipy.stats import t

    sample = np.asarray(values, dtype=np.float64)
    mean = float(sample.mean())
    if len(sample) < 2:
        return Estimate(mean, math.nan, math.nan)
    reach = float(t.ppf((1 + level) / 2, len(sample) - 1) * sample.std(ddof=1))
    reach /= math.sqrt(len(sample))
    return Estimate(mean, mean - reach, mean + reach)


def welch_difference(first: ArrayLike, second: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Return the mean of ``first`` minus that of ``second`` with Welch's interval.

    For a handful of seeds, where a bootstrap over so few is too narrow. NaN ends where either has
    fewer than two values.
    """
    from scipy.stats import t

    a, b = (np.asarray(each, dtype=np.float64) for each in (first, second))
    value = float(a.mean() - b.mean())
    if min(len(a), len(b)) < 2:
        return Estimate(value, math.nan, math.nan)
    parts = [float(each.var(ddof=1)) / len(each) for each in (a, b)]
    total = math.fsum(parts)
    if total == 0:
        return Estimate(value, value, value)
    counts = [len(a) - 1, len(b) - 1]
    freedom = total**2 / math.fsum(v**2 / n for v, n in zip(parts, counts, strict=True))
    reach = float(t.ppf((1 + level) / 2, freedom)) * math.sqrt(total)
    return Estimate(value, value - reach, value + reach)


def mean_difference(
    first: ArrayLike, second: ArrayLike, *, n_boot: int = 2000, level: float = 0.95, seed: int = 0
) -> Estimate:
    """Return the mean of ``first`` minus that of ``second``, two samples that are not paired.

    Args:
        first: ``(n,)``, finite.
        second: ``(m,)``, finite.
        n_boot: Number of resamples, of either sample by itself.
        level: Share of the resamples inside the interval.
        seed: Of the resamples.

    Raises:
        NasError: A sample of fewer than two.
    """
    samples = [np.asarray(each, dtype=np.float64) for each in (first, second)]
    if min(map(len, samples)) < 2:
        raise NasError(
            f"expected at least two values each, got {len(samples[0])} and {len(samples[1])}"
        )
    rng = generator(seed, "bootstrap", "means")
    a, b = (x[rng.integers(len(x), size=(n_boot, len(x)))].mean(axis=1) for x in samples)
    value = float(samples[0].mean() - samples[1].mean())
    return Estimate(value, *_percentiles(a - b, level))


def _resampled(
    rankings: Sequence[Ranking], names: Sequence[str], n_boot: int, seed: int
) -> list[Floats]:
    """Return ``(n_boot, statistics)`` for each ranking, all on the same resamples."""
    if n_boot < 0:
        raise NasError(f"n_boot must be at least 0, got {n_boot}")
    results = [np.empty((n_boot, len(names))) for _ in rankings]
    for draw, counts in enumerate(_draws(rankings[0].n, n_boot, seed)):
        for ranking, result in zip(rankings, results, strict=True):
            result[draw] = [STATISTICS[name](ranking, counts) for name in names]
    return results


def _draws(n: int, n_boot: int, seed: int) -> Iterator[Ints]:
    """Yield how often each of n rows is drawn, ``n_boot`` times."""
    rng = generator(seed, "bootstrap")
    for _ in range(n_boot):
        yield np.bincount(rng.integers(n, size=n), minlength=n)


def _percentiles(draws: Floats, level: float) -> tuple[float, float]:
    """Return the interval that holds the middle ``level`` of the draws that are defined."""
    if not 0 < level < 1:
        raise NasError(f"level must lie between 0 and 1, got {level}")
    defined = draws[~np.isnan(draws)]
    if not len(defined):
        return math.nan, math.nan
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _positive(number: int, name: str) -> int:
    if number < 1:
        raise NasError(f"{name} must be at least 1, got {number}")
    return number
