"""A Gaussian process and extremely randomised trees, averaged: they err differently.

    z = (1 - w) z_process + w z_trees        w = 1/3

z is the target of :mod:`nas.predictor.gaussian`, and the trees see the same columns as the process.
The process is smooth in everything; trees can say that a cell without this one operation is another
matter. The interval is as wide as the process is unsure, times what covers the training cells as
predicted by those who have not seen them: the process without that row in closed form, trees of the
other seven of eight folds.

Letters: n training cells, m distinct rows among them, F inputs, N cells to predict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nas.predictor.gaussian import (
    GaussianOptions,
    GaussianProcess,
    Rows,
    accuracy,
    around,
    bands_of,
    fit_gaussian,
    target,
)
from nas.predictor.intervals import FOLDS
from nas.predictor.trees import Trees
from spaces.errors import NasError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BlendOptions:
    """Settings of a process and trees together.

    Attributes:
        trees: How many.
        max_features: Share of the columns that a split may choose from.
        min_leaf: Fewest distinct cells in a leaf; 2 makes files half as large.
        share: Of the trees in the prediction.
        subset: Most rows that the hyperparameters of the process are fitted to.
    """

    trees: int = 100
    max_features: float = 0.5
    min_leaf: int = 1
    share: float = 1 / 3
    subset: int = 500

    def __post_init__(self) -> None:
        GaussianOptions(self.subset)
        for name in ("trees", "min_leaf"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.max_features <= 1:
            raise ValueError(f"max_features must be above 0, at most 1, got {self.max_features}")
        if not 0 < self.share < 1:
            raise ValueError(f"share must be above 0 and below 1, got {self.share}")


@dataclass(frozen=True, eq=False)
class Blend:
    """A fitted process and fitted trees.

    Attributes:
        process: Its own bands are not used.
        trees: Over the columns of the process' encoding; they predict z.
        share: Of the trees.
        bands: As those of the process, of both together.
    """

    process: GaussianProcess
    trees: Trees
    share: float
    bands: Floats

    def predict(self, inputs: Floats) -> Floats:
        """Return predicted accuracies, ``(N, F)`` to ``(N,)``."""
        return accuracy(self._latent(inputs)[0], self.process.scale)

    def predict_with_interval(self, inputs: Floats) -> tuple[Floats, Floats, Floats]:
        """Return accuracies and both ends of their intervals, ``(N,)`` each."""
        return around(*self._latent(inputs), self.bands, self.process.scale)

    def _latent(self, inputs: Floats) -> tuple[Floats, Floats]:
        smooth, std = self.process.latent(inputs)
        stepped = self.trees.predict(self.process.encoding.encode(inputs))
        return (1 - self.share) * smooth + self.share * stepped, std

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return everything as arrays, for :meth:`from_arrays`."""
        return {
            "share": np.asarray(self.share),
            "bands": self.bands,
            **{f"process.{k}": v for k, v in self.process.arrays().items()},
            **{f"trees.{k}": v for k, v in self.trees.arrays().items()},
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], n_features: int) -> Blend:
        """Make the blend of arrays that came from a file."""

        def part(prefix: str) -> dict[str, NDArray[np.generic]]:
            return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

        process = GaussianProcess.from_arrays(part("process."), n_features)
        trees = Trees.from_arrays(part("trees."), len(process.encoding.columns))
        try:
            bands = np.asarray(arrays["bands"], dtype=np.float64)
            share = float(arrays["share"])
        except (KeyError, TypeError, ValueError) as error:
            raise NasError(f"no blend: {error}") from None
        if bands.ndim != 2 or bands.shape[1] != 2 or not len(bands):
            raise NasError("no blend: its bands have another form")
        return cls(process, trees, share, bands)


def fit_blend(
    inputs: Floats,
    truth: Floats,
    unlabelled: Floats,
    blocks: Sequence[str],
    seed: int,
    options: BlendOptions,
) -> Blend:
    """Fit both; as :func:`nas.predictor.gaussian.fit_gaussian`."""
    rng = np.random.default_rng(seed)
    own = GaussianOptions(options.subset)
    process = fit_gaussian(inputs, truth, unlabelled, blocks, rng, own)
    rows = Rows.of(process.encoding.encode(inputs))
    trees = _grown(process, np.arange(len(rows.counts)), seed, options)
    center, std = process.left_out()
    center = (1 - options.share) * center + options.share * _unseen(process, seed, options)
    z = target(truth, process.scale)
    bands = bands_of(z, center, std, rows)
    return Blend(process, trees, options.share, bands)


def _grown(
    process: GaussianProcess, rows: NDArray[np.int64], seed: int, options: BlendOptions
) -> Trees:
    """Grow trees on some of the rows of a process."""
    from sklearn.ensemble import ExtraTreesRegressor  # late: it takes a second to import

    fitted = ExtraTreesRegressor(
        options.trees,
        max_features=options.max_features,
        min_samples_leaf=options.min_leaf,
        random_state=seed % 2**32,
    ).fit(process.rows[rows], process.z[rows], sample_weight=process.counts[rows])
    return Trees.of(fitted.estimators_, weight=1 / options.trees)


def _unseen(process: GaussianProcess, seed: int, options: BlendOptions) -> Floats:
    """Return z of every row as trees predict it that have not seen it, ``(m,)``."""
    count = len(process.z)
    order = np.random.default_rng(seed).permutation(count)
    few = replace(options, trees=max(1, options.trees // 2))  # eight times over; enough for errors
    found = np.empty(count)
    for part in np.array_split(order, min(FOLDS, count)):
        others = np.setdiff1d(np.arange(count), part)
        found[part] = _grown(process, others, seed, few).predict(process.rows[part])
    return found
