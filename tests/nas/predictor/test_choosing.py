"""Which cells are trained next: the greedy design against brute force, and what it brings."""

import numpy as np
import pytest

from nas.predictor.choosing import (
    FIRST,
    ActiveOptions,
    Pool,
    _greedy,
    _rounds,
    choose_actively,
)
from nas.predictor.gaussian import kernel
from spaces.errors import NasError
from tests.nas.predictor.test_gaussian import BLOCKS, drawn

THETA = np.asarray([-0.5, -0.7, 0.3, -3.0, -2.5])


def pool_of(count: int, seed: int = 0) -> tuple[Pool, np.ndarray]:
    inputs, truth = drawn(count, seed)
    return Pool(inputs, BLOCKS, np.zeros(count, dtype=bool)), truth


def left_over(rows: np.ndarray, far: np.ndarray, chosen: list[int], block: np.ndarray) -> float:
    """Return the mean variance of the far ones once some are known, by the textbook."""
    noise = np.exp(THETA[-2]) + np.exp(THETA[-1])
    known = rows[chosen]
    whole = kernel(THETA, block, known, known) + noise * np.eye(len(chosen))
    near = kernel(THETA, block, far, known)
    return float((np.exp(THETA[-3]) - (near * np.linalg.solve(whole, near.T).T).sum(axis=1)).mean())


def test_each_step_takes_most_variance_off_the_others() -> None:
    rng = np.random.default_rng(0)
    rows, far = rng.normal(size=(25, 3)), rng.normal(size=(40, 3))
    block = np.asarray([0, 0, 1])
    chosen = _greedy(THETA, block, rows, far, 4, 5).tolist()
    assert min(chosen) >= 4, "the first four are known already"
    assert len(set(chosen)) == 5
    known = [0, 1, 2, 3]
    for place in chosen:
        others = [i for i in range(4, 25) if i not in known]
        best = min(others, key=lambda i: left_over(rows, far, [*known, i], block))
        assert place == best
        known.append(place)


def test_what_is_known_is_not_chosen_again() -> None:
    pool, truth = pool_of(60)
    rng = np.random.default_rng(0)
    known = np.arange(20)
    for ask in (pool.spread, pool.best):
        found = ask(known, truth[known], 40, rng)
        assert sorted(found.tolist()) == list(range(20, 60))


def test_the_best_are_those_of_the_highest_prediction() -> None:
    pool, truth = pool_of(300)
    known = np.arange(40)
    found = pool.best(known, truth[known], 10, np.random.default_rng(0))
    predicted = pool.process(known, truth[known], np.random.default_rng(0)).predict(pool.inputs)
    rest = np.setdiff1d(np.arange(40, 300), found)
    assert predicted[found].min() >= predicted[rest].max()
    assert (np.diff(predicted[found]) <= 0).all()


def test_labels_are_asked_one_by_one_and_only_of_the_chosen() -> None:
    pool, truth = pool_of(200)
    asked: list[int] = []

    def measure(place: int) -> float:
        asked.append(place)
        return float(truth[place])

    rng = np.random.default_rng(3)
    chosen = choose_actively(pool, 48, measure, rng, ActiveOptions(best=0.25))
    assert asked == chosen.tolist()
    assert len(set(asked)) == 48
    again = choose_actively(
        pool, 48, lambda place: float(truth[place]), np.random.default_rng(3), ActiveOptions(0.25)
    )
    assert again.tolist() == asked
    assert truth[chosen[36:]].mean() > truth[chosen[:36]].mean() + 1, "the last are the best"
    with pytest.raises(NasError, match="fewer than the table's 200 functions"):
        choose_actively(pool, 200, measure, rng, ActiveOptions())


def test_rounds_double_and_the_rest_goes_to_the_best() -> None:
    assert _rounds(48, 16) == [
        *(("spread", 16), ("spread", 16), ("spread", 16)),
        *[("best", 4)] * 4,
    ]
    assert _rounds(100, 3)[:4] == [("spread", 16), ("spread", 16), ("spread", 32), ("spread", 36)]
    assert _rounds(10, 0) == [("spread", 10)]
    assert FIRST == 16


def test_spread_labels_teach_more_than_random_ones() -> None:
    # Most cells crowd in one corner, as those with many zeros do: chance draws them all the time.
    wins = 0
    for seed in range(6):
        inputs, truth = drawn(1500, seed)
        rng = np.random.default_rng(seed)
        crowd = (inputs[:, 0] == 0) & (inputs[:, 3] < 0)
        keep = crowd | (rng.uniform(size=1500) < 0.15)
        pool, truth = Pool(inputs[keep], BLOCKS, np.zeros(keep.sum(), dtype=bool)), truth[keep]
        chance = rng.permutation(len(truth))[:32]

        def measure(place: int, known: np.ndarray = truth) -> float:
            return float(known[place])

        spread = choose_actively(pool, 32, measure, rng, ActiveOptions(best=0))
        score = [
            np.abs(pool.process(rows, truth[rows], rng).predict(pool.inputs) - truth).mean()
            for rows in (chance, spread)
        ]
        wins += score[1] < score[0]
    assert wins >= 5


def test_the_first_label_goes_to_a_cell_of_which_a_proxy_has_no_score() -> None:
    inputs, truth = drawn(100, 0)
    failed = np.zeros(100, dtype=bool)
    failed[[17, 60]] = True
    pool = Pool(inputs, BLOCKS, failed)
    found = pool.spread(np.zeros(0, np.int64), np.zeros(0), 5, np.random.default_rng(0))
    assert found[0] == 17
    assert len(set(found.tolist())) == 5
    known = np.asarray([60, 1, 2])
    later = pool.spread(known, truth[known], 5, np.random.default_rng(0))
    assert 17 not in later[:1]


@pytest.mark.parametrize("best", [-0.1, 1.0])
def test_options_out_of_range(best: float) -> None:
    with pytest.raises(ValueError, match="best"):
        ActiveOptions(best=best)
