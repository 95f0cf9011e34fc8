"""How predictors are judged: splits by function, held-out figures, intervals and their coverage.

A split draws n training cells at random, or they are chosen one after the other; every cell that
computes the same function as one of them leaves the test set, so that no isomorphic twin of a
training cell is predicted. All other cells are the test set (*random*). A *stratified* test set
takes at most 100 of them from each of ten equally wide bands of accuracy; it has more poor cells,
and its rank correlations are higher. Figures of one kind are never held against those of the other.

Letters: N cells, n training cells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.seeds import generator
from nas.statistics import kendall, regret, spearman
from spaces.errors import NasError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BANDS, PER_BAND = 10, 100
TOP_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class Split:
    """Which cells are for training and which for testing.

    Attributes:
        train: Rows, ``(n,)``.
        test: All rows of functions that no training cell computes.
    """

    train: Ints
    test: Ints


def split_by_function(functions: Ints, n: int, seed: int) -> Split:
    """Draw n training cells.

    Args:
        functions: For each cell the number of the function that it computes, ``(N,)``.
        n: Training cells.
        seed: Of the draw.

    Raises:
        NasError: No test cell would be left.
    """
    if not 1 <= n < len(functions):
        raise NasError(f"train: expected 1 to {len(functions) - 1:,} cells, got {n:,}")
    order = generator(seed, "predictor", "split").permutation(len(functions))
    return split_after(np.sort(order[:n]), functions)


def split_after(train: Ints, functions: Ints) -> Split:
    """Return the split that training cells leave.

    Args:
        train: Rows, ``(n,)``.
        functions: For each cell the number of the function that it computes, ``(N,)``.

    Raises:
        NasError: No test cell would be left.
    """
    test = np.flatnonzero(~np.isin(functions, functions[train]))
    if not len(test):
        raise NasError(
            f"train: {len(train):,} cells leave no function to test on; 'all' takes every cell "
            "and is judged by cross-validation"
        )
    return Split(train, test)


def stratified(test: Ints, truth: Floats, seed: int) -> Ints:
    """Return at most 100 test cells from each of ten equally wide bands of accuracy.

    Args:
        test: Rows.
        truth: Of all cells, ``(N,)``.
        seed: Of the draw.
    """
    rng = generator(seed, "predictor", "stratified")
    edges = np.linspace(truth[test].min(), truth[test].max(), BANDS + 1)[1:-1]
    band = np.digitize(truth[test], edges)
    chosen = [rng.permutation(test[band == number])[:PER_BAND] for number in range(BANDS)]
    return np.sort(np.concatenate(chosen))


def figures(predicted: Floats, truth: Floats) -> dict[str, float]:
    """Return how good predictions are.

    Returns:
        Kendall's tau, Spearman's rho, mean absolute error in the unit of the truth, Kendall among
        the tenth of cells that is truly best, and regret@1.
    """
    best = np.argsort(-truth, kind="stable")[: max(2, math.ceil(TOP_SHARE * len(truth)))]
    return {
        "kendall": kendall(predicted, truth),
        "spearman": spearman(predicted, truth),
        "mae": float(np.abs(predicted - truth).mean()),
        "kendall_best_tenth": kendall(predicted[best], truth[best]),
        "regret_1": regret(predicted, truth),
        "n": float(len(truth)),
    }


def coverage(
    predicted: Floats, low: Floats, high: Floats, truth: Floats
) -> Mapping[str, float | list[float]]:
    """Return which share of cells lies inside of its interval, overall and by predicted fifth."""
    inside = (low <= truth) & (truth <= high)
    fifths = np.array_split(np.argsort(predicted, kind="stable"), 5)
    return {
        "overall": float(inside.mean()),
        "by_fifth": [float(inside[rows].mean()) for rows in fifths if len(rows)],
        "mean_width": float((high - low).mean()),
    }
