"""Kendall of many score vectors at a time: the number that one vector alone has."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nas.design.agreement import Agreement, dense_ranks
from nas.statistics import kendall
from spaces.errors import NasError

#: Few different values, so that there are ties in either, and in both.
VALUES = st.integers(0, 6)


def in_pairs(scores: np.ndarray, truth: np.ndarray) -> tuple[int, int, int]:
    """Count concordant pairs, discordant pairs, and those that are not tied in the truth."""
    first, second = np.triu_indices(len(truth), 1)
    a = np.sign(scores[first].astype(float) - scores[second])
    b = np.sign(truth[first].astype(float) - truth[second])
    return int((a * b > 0).sum()), int((a * b < 0).sum()), int((b != 0).sum())


@given(
    arrays(np.int64, st.tuples(st.integers(1, 4), st.just(9)), elements=VALUES),
    arrays(np.int64, st.tuples(st.integers(1, 3), st.just(9)), elements=VALUES),
)
def test_it_counts_pairs(scores: np.ndarray, truths: np.ndarray) -> None:
    agreement = Agreement(truths)
    taus = agreement.kendall(scores.astype(np.float32))
    decided = agreement.decided_of_ranks(dense_ranks(scores))
    assert taus.shape == decided.shape == (len(scores), len(truths))
    for b, row in enumerate(scores):
        for t, truth in enumerate(truths):
            concordant, discordant, untied = in_pairs(row, truth)
            expected = kendall(row, truth)
            assert taus[b, t] == pytest.approx(0.0 if np.isnan(expected) else expected)
            assert decided[b, t] == pytest.approx(
                (concordant - discordant) / untied if untied else 0.0
            )


def test_many_rows_and_more_vectors_than_a_block() -> None:
    # More distances than a byte counts, more vectors than are counted together.
    rng = np.random.default_rng(0)
    truths = np.round(rng.normal(size=(2, 700)), 2)
    scores = (truths[0] + rng.normal(size=(600, 700))).astype(np.float32)
    taus = Agreement(truths).kendall(scores)
    for b in (0, 300, 511, 512, 599):
        assert taus[b] == pytest.approx([kendall(scores[b], truth) for truth in truths], abs=1e-12)


def test_a_tie_earns_nothing() -> None:
    # Of six pairs three are agreed on and one is not; the other two are left tied. tau-b divides by
    # fewer, so that who ties is rewarded.
    truth, scores = [1, 2, 3, 4], [[1, 1, 2, 1]]
    agreement = Agreement(truth)
    assert agreement.kendall(scores)[0, 0] == pytest.approx((2 - 1) / np.sqrt(3 * 6))
    assert agreement.decided_of_ranks(dense_ranks(scores))[0, 0] == pytest.approx((2 - 1) / 6)


def test_ranks_are_equal_where_the_order_is() -> None:
    rows = [[5.0, 1.0, 1.0, 9.0], [50.0, -1.0, -1.0, 51.0], [5.0, 1.0, 2.0, 9.0]]
    first, second, third = dense_ranks(rows)
    assert first.tolist() == second.tolist() == [1, 0, 0, 2]
    assert third.tolist() == [2, 0, 1, 3]


@pytest.mark.parametrize("truth", [[1.0], [1.0, np.nan], [[1.0, 2.0], [np.inf, 0.0]]])
def test_what_cannot_be_ranked_is_refused(truth: list[float]) -> None:
    with pytest.raises(NasError):
        Agreement(truth)


def test_no_scores_no_taus() -> None:
    assert Agreement([[1, 2, 3], [3, 2, 1]]).kendall(np.zeros((0, 3))).shape == (0, 2)
