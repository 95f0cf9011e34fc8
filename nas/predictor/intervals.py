"""Prediction intervals from the errors of predictions that have not seen their cells.

The training cells are dealt out into folds by function, and each fold is predicted by a model of
the others. The errors, sorted into bands of the predicted accuracy, are what a new prediction in
that band is expected to be off by: its interval runs between their 5 % and 95 % quantiles, taken
one place further out for the finite number of them (split conformal prediction, Vovk et al. 2005;
by cross-validation Barber et al. 2021, "Predictive inference with the jackknife+",
https://arxiv.org/abs/1905.02928; by bands Mondrian). Models of all cells are a little better than
those of the folds, so intervals are a little too wide rather than too narrow.

Letters: n training cells, B bands.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEVEL = 0.9
FOLDS = 8
_PER_BAND, _MOST_BANDS = 32, 8


@dataclass(frozen=True, eq=False)
class Intervals:
    """What predictions are off by, by band of the predicted value.

    Attributes:
        edges: Between the bands, ascending, ``(B - 1,)``.
        low: Added to a prediction for the lower end, ``(B,)``; at most 0 but where all were high.
        high: Added for the upper end, ``(B,)``.
    """

    edges: Floats
    low: Floats
    high: Floats

    @classmethod
    def of(cls, predicted: Floats, truth: Floats, level: float = LEVEL) -> Intervals:
        """Learn from cells and predictions that have not seen them, ``(n,)`` each."""
        count = int(np.clip(len(truth) // _PER_BAND, 1, _MOST_BANDS))
        order = np.argsort(predicted, kind="stable")
        bands = np.array_split(order, count)
        edges = [
            (predicted[left[-1]] + predicted[right[0]]) / 2
            for left, right in itertools.pairwise(bands)
        ]
        tail = (1 - level) / 2
        ends = [_ends(truth[band] - predicted[band], tail) for band in bands]
        return cls(
            edges=np.asarray(edges, dtype=np.float64),
            low=np.asarray([low for low, _ in ends]),
            high=np.asarray([high for _, high in ends]),
        )

    def around(self, predicted: Floats) -> tuple[Floats, Floats]:
        """Return both ends of the interval of each prediction, ``(N,)``."""
        band = np.searchsorted(self.edges, predicted, side="right")
        return predicted + self.low[band], predicted + self.high[band]

    def arrays(self) -> dict[str, Floats]:
        """Return the fields, for :meth:`from_arrays`."""
        return dict(vars(self))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Intervals:
        """Return what :meth:`arrays` was called on."""
        edges, low, high = (np.asarray(arrays[x], np.float64) for x in ("edges", "low", "high"))
        return cls(edges, low, high)


def _ends(errors: Floats, tail: float) -> tuple[float, float]:
    """Return the quantiles of the errors, one place further out for their finite number."""
    ranked = np.sort(errors)
    out = max(0, math.floor((len(ranked) + 1) * tail) - 1)
    return float(ranked[out]), float(ranked[-1 - out])


def folds_by_function(
    functions: NDArray[np.int64], seed_order: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Deal cells out into folds, ``(n,)``; those of one function into one.

    Args:
        functions: For each cell the number of the function that it computes.
        seed_order: A permutation of the distinct functions, in ascending order of their numbers.
    """
    distinct, place = np.unique(functions, return_inverse=True)
    fold = np.empty(len(distinct), dtype=np.int64)
    fold[seed_order] = np.arange(len(distinct)) % FOLDS
    found: NDArray[np.int64] = fold[place]
    return found
