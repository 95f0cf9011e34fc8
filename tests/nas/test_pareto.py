"""Fronts and hypervolumes against numbers worked out by hand and by counting."""

import itertools

import numpy as np
import pytest

from nas.pareto import front_of, hypervolume


def test_front_by_hand() -> None:
    points = [(1, 9), (4, 5), (4, 5), (3, 5), (10, 1), (4, 4), (0, 9)]
    assert front_of(points).tolist() == [4, 1, 0]
    assert front_of([(2.0, 2.0)]).tolist() == [0]
    assert front_of(np.empty((0, 2))).tolist() == []


def test_hypervolume_by_hand() -> None:
    # Steps: 4 wide to height 3, then 2 wide from 3 to 5.
    assert hypervolume([(4, 3), (2, 5), (1, 1)], (0, 0)) == 4 * 3 + 2 * 2
    assert hypervolume([(4, 3)], (1, 1)) == 6
    assert hypervolume([(4, 3)], (4, 0)) == 0
    assert hypervolume([], (0, 0)) == 0
    assert hypervolume([(2.0,), (3.0,)], (1.0,)) == 2
    # Two boxes of 2 x 2 x 1 and 1 x 1 x 3 that share 1 x 1 x 1.
    assert hypervolume([(2, 2, 1), (1, 1, 3)], (0, 0, 0)) == 4 + 3 - 1


@pytest.mark.parametrize("m", [2, 3, 4])
def test_hypervolume_is_the_number_of_dominated_cells(m: int) -> None:
    points = np.random.default_rng(m).integers(0, 6, size=(12, m))
    cells = np.asarray(list(itertools.product(range(6), repeat=m))) + 1  # upper corners
    below = np.all(cells[:, None] <= points[None], axis=2)
    counted = int(np.logical_or.reduce(below, axis=1).sum())
    assert hypervolume(points, np.zeros(m)) == pytest.approx(counted)
    dominated = [
        i
        for i, p in enumerate(points)
        if any(np.all(q >= p) and (np.any(q > p) or j < i) for j, q in enumerate(points) if j != i)
    ]
    assert sorted(front_of(points)) == sorted(set(range(12)) - set(dominated))
