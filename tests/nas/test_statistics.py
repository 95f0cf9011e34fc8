"""Rank statistics: numbers worked by hand, comparison with scipy, and what a bootstrap must do."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from nas.statistics import (
    STATISTICS,
    Ranking,
    evaluate,
    kendall,
    ndcg,
    paired_difference,
    regret,
    spearman,
)
from spaces.errors import NasError

# One example for all: a b c d; c and d share a score.
SCORES = [3.0, 1.0, 2.0, 2.0]
VALUES = [10.0, 40.0, 20.0, 30.0]


def test_spearman_by_hand() -> None:
    # ranks of the scores 4, 1, 2.5, 2.5, of the values 1, 4, 2, 3; both have mean 2.5
    # sum of products  1.5 * -1.5 + -1.5 * 1.5 + 0 + 0 = -4.5
    # sums of squares  2.25 + 2.25 = 4.5  and  2.25 + 2.25 + 0.25 + 0.25 = 5
    assert spearman(SCORES, VALUES) == pytest.approx(-4.5 / math.sqrt(4.5 * 5))


def test_kendall_by_hand() -> None:
    # 6 pairs: ab, ac, ad, bc, bd are ordered in opposite ways, cd is tied in the score
    assert kendall(SCORES, VALUES) == pytest.approx(-5 / math.sqrt((6 - 1) * 6))


def test_regret_by_hand() -> None:
    assert regret(SCORES, VALUES, k=1) == 30.0  # a is picked: 40 - 10
    # a and one of c, d: the best is 20 or 30, each with probability 1/2
    assert regret(SCORES, VALUES, k=2) == 15.0
    assert regret(SCORES, VALUES, k=3) == 10.0  # a, c, d
    assert regret(SCORES, VALUES, k=4) == 0.0
    assert regret(SCORES, VALUES, k=10) == 0.0  # more picks than rows


def test_regret_when_all_are_tied_by_hand() -> None:
    # two of 1, 2, 3 at random: best 2 (of 1, 2), 3, 3, so 8/3 in expectation
    assert regret([7, 7, 7], [1, 3, 2], k=2) == pytest.approx(3 - 8 / 3)
    assert regret([7, 7, 7], [1, 3, 2], k=1) == pytest.approx(3 - 2)


def test_ndcg_by_hand() -> None:
    # relevance 20 (v - 10) / 30: 0, 20, 20/3, 40/3; gain 2^rel - 1
    b, c, d = 2**20 - 1, 2 ** (20 / 3) - 1, 2 ** (40 / 3) - 1
    # by score: a (gain 0) at place 1, then c and d share places 2 and 3
    # discounts 1 / log2(2), 1 / log2(3), 1 / log2(4)
    two, three = 1 / math.log2(3), 1 / 2
    assert ndcg(SCORES, VALUES, k=1) == 0.0
    assert ndcg(SCORES, VALUES, k=2) == pytest.approx((c + d) / 2 * two / (b + d * two))
    ideal = b + d * two + c * three
    assert ndcg(SCORES, VALUES, k=3) == pytest.approx((c + d) / 2 * (two + three) / ideal)
    last = b / math.log2(5)  # a gains nothing, so the ideal stays
    assert ndcg(SCORES, VALUES, k=4) == pytest.approx(((c + d) / 2 * (two + three) + last) / ideal)
    assert ndcg(VALUES, VALUES, k=3) == 1.0


def test_losing_a_twentieth_of_the_range_halves_the_gain() -> None:
    # values 0, 95, 100; the pick has 95 instead of 100: gain 2^19 - 1 instead of 2^20 - 1
    assert ndcg([0, 2, 1], [0, 95, 100], k=1) == pytest.approx((2**19 - 1) / (2**20 - 1))


def test_failures_rank_last_and_tied() -> None:
    # the failed row has the best value: pairs f1, f2 opposite, 12 alike
    for failure in (math.nan, math.inf, -math.inf):
        assert kendall([failure, 2, 1], [3, 2, 1]) == pytest.approx((1 - 2) / 3)
        assert kendall([failure, -2, -3], [3, 2, 1]) == pytest.approx((1 - 2) / 3)
        assert regret([failure, 2, 1], [3, 2, 1], k=1) == 1.0
        assert Ranking([failure, 2, 1], [3, 2, 1]).n_failed == 1
    # two failures are tied: of 3 pairs one is tied in the score, two are alike
    assert kendall([math.nan, math.inf, 1], [1, 2, 3]) == pytest.approx(2 / math.sqrt(2 * 3))
    # a search where nothing scored picks at random
    assert regret([math.nan] * 3, [1, 2, 3], k=1) == 1.0


def test_undefined_is_nan_not_a_number() -> None:
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))
    assert math.isnan(kendall([1, 1, 1], [1, 2, 3]))
    assert math.isnan(spearman([1, 2, 3], [1, 1, 1]))
    assert math.isnan(kendall([1, 2, 3], [1, 1, 1]))
    assert math.isnan(ndcg([1, 2, 3], [1, 1, 1]))
    assert regret([1, 2, 3], [1, 1, 1]) == 0.0
    flat = evaluate([1, 1, 1], [1, 2, 3], n_boot=20)
    assert all(math.isnan(end) for end in (flat["kendall"].low, flat["kendall"].high))


def test_bad_input_is_refused() -> None:
    with pytest.raises(NasError, match=r"one score per value, got \(2,\) for \(3,\)"):
        spearman([1, 2], [1, 2, 3])
    with pytest.raises(NasError, match="at least two architectures, got 1"):
        kendall([1], [1])
    with pytest.raises(NasError, match="every true value must be finite"):
        kendall([1, 2], [1, math.nan])
    with pytest.raises(NasError, match="k must be at least 1, got 0"):
        regret([1, 2], [1, 2], k=0)
    with pytest.raises(NasError, match="level must lie between 0 and 1, got 95"):
        evaluate([1, 2], [1, 2], level=95)
    with pytest.raises(NasError, match="n_boot must be at least 0"):
        evaluate([1, 2], [1, 2], n_boot=-1)
    with pytest.raises(NasError, match=r"no statistic named 'pearson'. Known: spearman"):
        paired_difference([1, 2], [1, 2], [1, 2], statistic="pearson")


Numbers = st.integers(-3, 3) | st.floats(-1e6, 1e6, allow_nan=False)
Rows = st.lists(st.tuples(Numbers, Numbers), min_size=2, max_size=40)


@given(Rows)
def test_correlations_agree_with_scipy(rows: list[tuple[float, float]]) -> None:
    scores, values = np.asarray(rows, dtype=float).T
    if len(set(scores)) == 1 or len(set(values)) == 1:
        assert math.isnan(spearman(scores, values))
        return
    assert spearman(scores, values) == pytest.approx(
        stats.spearmanr(scores, values).statistic, abs=1e-12
    )
    assert kendall(scores, values) == pytest.approx(
        stats.kendalltau(scores, values).statistic, abs=1e-12
    )


def every_tie_order(scores: list[int]) -> list[list[int]]:
    """Return every order of the rows by falling score, one per way of breaking the ties."""
    orders = itertools.permutations(range(len(scores)))
    return [
        list(order)
        for order in orders
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4)), min_size=2, max_size=6),
    st.integers(1, 7),
)
@settings(max_examples=60)
def test_expectations_agree_with_counting_all_tie_orders(
    rows: list[tuple[int, int]], k: int
) -> None:
    scores, values = [row[0] for row in rows], [row[1] for row in rows]
    orders = every_tie_order(scores)
    best = [max(values[row] for row in order[:k]) for order in orders]
    assert regret(scores, values, k=k) == pytest.approx(max(values) - sum(best) / len(best))
    low, high = min(values), max(values)
    if low == high:
        return
    gains = [2 ** (20 * (value - low) / (high - low)) - 1 for value in values]

    def dcg(order: list[int]) -> float:
        return sum(gains[row] / math.log2(2 + place) for place, row in enumerate(order[:k]))

    ideal = dcg(sorted(range(len(rows)), key=lambda row: -gains[row]))
    mean = sum(map(dcg, orders)) / len(orders)
    assert ndcg(scores, values, k=k) == pytest.approx(mean / ideal)


@given(Rows, st.integers(0, 2**32))
def test_counts_are_the_same_as_repeated_rows(rows: list[tuple[float, float]], seed: int) -> None:
    scores, values = np.asarray(rows, dtype=float).T
    n = len(rows)
    counts = np.bincount(np.random.default_rng(seed).integers(n, size=n), minlength=n)
    repeated = np.repeat(np.arange(n), counts)
    whole, resampled = Ranking(scores, values), Ranking(scores[repeated], values[repeated])
    for name, statistic in STATISTICS.items():
        one, other = statistic(whole, counts), statistic(resampled, None)
        assert one == pytest.approx(other, abs=1e-9, nan_ok=True), name


def test_rows_that_were_not_drawn_do_not_count() -> None:
    # drawn are 0, 0 and 1; the 52 that was not lies far above their range
    whole, drawn = Ranking([0, 0, 0], [0, 1, 52]), Ranking([0, 0, 0], [0, 0, 1])
    assert whole.ndcg(np.asarray([2, 1, 0])) == drawn.ndcg()
    assert whole.regret(np.asarray([2, 1, 0]), k=1) == drawn.regret(k=1) == pytest.approx(2 / 3)


@given(Rows)
def test_only_the_order_of_scores_matters(rows: list[tuple[float, float]]) -> None:
    scores, values = np.asarray(rows, dtype=float).T
    ranks = stats.rankdata(scores)
    for name, statistic in STATISTICS.items():
        one = statistic(Ranking(scores, values), None)
        other = statistic(Ranking(np.exp(ranks / 9), values), None)
        assert one == pytest.approx(other, nan_ok=True), name


def correlated(n: int, rho: float, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=n)
    return rho * values + math.sqrt(1 - rho**2) * rng.normal(size=n), values


def test_intervals_have_the_width_that_theory_gives() -> None:
    scores, values = correlated(1000, 0.8, 1)
    found = evaluate(scores, values, n_boot=500)
    # Bonett & Wright 2000: the z of Spearman's r has variance (1 + r^2 / 2) / (n - 3)
    r = found["spearman"].value
    half = 1.96 * math.sqrt((1 + r**2 / 2) / 997)
    low, high = math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)
    assert found["spearman"].low == pytest.approx(low, abs=0.008)
    assert found["spearman"].high == pytest.approx(high, abs=0.008)
    for estimate in found.values():
        assert estimate.low <= estimate.value <= estimate.high
    wide = evaluate(scores, values, n_boot=500, level=0.99)["kendall"]
    assert wide.low < found["kendall"].low < found["kendall"].high < wide.high


def test_intervals_cover_as_often_as_they_say() -> None:
    # tau of a bivariate normal distribution is 2 / pi * asin(rho)
    truth = 2 / math.pi * math.asin(0.7)
    covered = 0
    for seed in range(60):
        estimate = evaluate(*correlated(60, 0.7, seed), n_boot=60)["kendall"]
        covered += estimate.low <= truth <= estimate.high
    assert 51 <= covered <= 60


def test_same_seed_same_interval() -> None:
    scores, values = correlated(60, 0.5, 2)
    one = evaluate(scores, values, n_boot=50, seed=7)
    assert one == evaluate(scores, values, n_boot=50, seed=7)
    other = evaluate(scores, values, n_boot=50, seed=8)
    assert one["kendall"].value == other["kendall"].value
    assert one["kendall"].low != other["kendall"].low


def test_no_resamples_no_interval() -> None:
    estimate = evaluate(SCORES, VALUES, n_boot=0)["spearman"]
    assert estimate.value == spearman(SCORES, VALUES)
    assert math.isnan(estimate.low)


def test_a_paired_difference_is_narrower_than_two_intervals() -> None:
    rng = np.random.default_rng(3)
    scores, values = correlated(400, 0.8, 3)
    others = scores + 0.1 * rng.normal(size=400)  # nearly the same proxy, a little worse
    found = paired_difference(scores, others, values, n_boot=300)
    assert found.value == pytest.approx(spearman(scores, values) - spearman(others, values))
    assert found.low <= found.value <= found.high
    alone = evaluate(scores, values, n_boot=300)["spearman"]
    assert found.high - found.low < 0.5 * (alone.high - alone.low)
    same = paired_difference(scores, scores, values, statistic="regret_10", n_boot=50)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    back = paired_difference(others, scores, values, n_boot=300)
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low))


def test_the_whole_topology_space_takes_seconds() -> None:
    """Exactness at full size; a resample costs O(n) and the counts stay below 2**53."""
    scores, values = correlated(15_625, 0.9, 4)
    scores = np.round(scores, 2)  # ties, as real proxies have them
    assert kendall(scores, values) == pytest.approx(
        stats.kendalltau(scores, values).statistic, abs=1e-12
    )
    found = evaluate(scores, values, n_boot=20)
    assert found["kendall"].low < found["kendall"].value < found["kendall"].high
