"""Splits by function, stratified test sets, figures, and intervals that hold what they promise."""

import numpy as np
import pytest

from nas.predictor.intervals import FOLDS, Intervals, folds_by_function
from nas.predictor.protocol import coverage, figures, split_by_function, stratified
from spaces.errors import NasError

FUNCTIONS = np.random.default_rng(0).integers(0, 300, size=1000)


def test_no_twin_of_a_training_cell_is_tested() -> None:
    split = split_by_function(FUNCTIONS, 200, seed=1)
    assert len(split.train) == len(set(split.train.tolist())) == 200
    trained = set(FUNCTIONS[split.train].tolist())
    assert not trained & set(FUNCTIONS[split.test].tolist())
    rest = set(range(1000)) - set(split.train.tolist()) - set(split.test.tolist())
    assert all(FUNCTIONS[row] in trained for row in rest), "all other cells are the test set"
    again = split_by_function(FUNCTIONS, 200, seed=1)
    assert again.train.tolist() == split.train.tolist()
    assert split_by_function(FUNCTIONS, 200, seed=2).train.tolist() != split.train.tolist()


def test_a_split_that_cannot_be() -> None:
    for n in (0, 1000):
        with pytest.raises(NasError, match="expected 1 to 999"):
            split_by_function(FUNCTIONS, n, seed=0)
    with pytest.raises(NasError, match="leave no function to test on"):
        split_by_function(np.asarray([0, 0, 0]), 1, seed=0)


def test_a_stratified_set_has_as_many_of_each_band() -> None:
    rng = np.random.default_rng(0)
    truth = 90 + 10 * rng.beta(8, 1, size=5000)  # few poor ones
    test = np.arange(0, 5000, 2)
    chosen = stratified(test, truth, seed=0)
    assert set(chosen.tolist()) <= set(test.tolist())
    edges = np.linspace(truth[test].min(), truth[test].max(), 11)
    known = np.histogram(truth[test], edges)[0]
    assert np.histogram(truth[chosen], edges)[0].tolist() == np.minimum(known, 100).tolist()


def test_figures_by_hand() -> None:
    found = figures(np.asarray([1.0, 2, 3, 5]), np.asarray([1.0, 3, 2, 4]))
    assert found["kendall"] == pytest.approx((5 - 1) / 6)
    assert found["spearman"] == pytest.approx(0.8)
    assert found["mae"] == pytest.approx(3 / 4)
    assert found["regret_1"] == 0
    assert found["n"] == 4


def test_coverage_by_hand() -> None:
    predicted = np.arange(10.0)
    truth = predicted + np.asarray([0, 0, 0, 0, 0, 0, 0, 0, 2, 0])
    found = coverage(predicted, predicted - 1, predicted + 1, truth)
    assert found == {"overall": 0.9, "by_fifth": [1, 1, 1, 1, 0.5], "mean_width": 2.0}


def test_folds_keep_functions_together() -> None:
    functions = FUNCTIONS[:200]
    order = np.random.default_rng(1).permutation(len(np.unique(functions)))
    fold = folds_by_function(functions, order)
    assert set(fold.tolist()) == set(range(FOLDS))
    for function in np.unique(functions):
        assert len(set(fold[functions == function].tolist())) == 1


@pytest.mark.parametrize("n", [64, 256, 2000])
def test_intervals_hold_what_they_promise_in_every_band(n: int) -> None:
    # Noise that is ten times as large for poor cells as for good ones.
    def drawn(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        predicted = rng.uniform(60, 95, size=count)
        return predicted, predicted + rng.normal(size=count) * (96 - predicted) / 10

    shares = []
    for seed in range(20):
        intervals = Intervals.of(*drawn(n, seed))
        predicted, truth = drawn(20_000, 100 + seed)
        found = coverage(predicted, *intervals.around(predicted), truth)
        shares.append([found["overall"], *found["by_fifth"]])  # type: ignore[misc]
    overall, *fifths = np.mean(shares, axis=0)
    assert 0.88 <= overall <= 0.97
    if n >= 256:
        assert all(0.85 <= share <= 0.97 for share in fifths), fifths


def test_intervals_survive_being_stored() -> None:
    intervals = Intervals.of(np.arange(100.0), np.arange(100.0) + np.sin(np.arange(100.0)))
    again = Intervals.from_arrays(intervals.arrays())
    new = np.asarray([-5.0, 50, 1e9])
    np.testing.assert_array_equal(again.around(new), intervals.around(new))
    low, high = intervals.around(new)
    assert (low <= new).all()
    assert (new <= high).all()
