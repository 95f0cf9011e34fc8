"""Regressors by name: what can be fitted, and kept as plain numbers.

Letters: N cells, n training cells, F inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nas.predictor.blend import Blend, BlendOptions, fit_blend
from nas.predictor.gaussian import GaussianOptions, GaussianProcess, fit_gaussian
from nas.predictor.inputs import block_of
from nas.predictor.trees import Trees

Floats = NDArray[np.float64]
Arrays = Mapping[str, NDArray[np.generic]]


class Model(Protocol):
    """What was fitted."""

    def predict(self, inputs: Floats) -> Floats:
        """Return predicted accuracies, ``(N, F)`` to ``(N,)``."""

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return everything as arrays, from which ``Regressor.load`` makes it again."""


@runtime_checkable
class Unsure(Protocol):
    """A model that knows its own intervals."""

    def predict_with_interval(self, inputs: Floats) -> tuple[Floats, Floats, Floats]:
        """Return accuracies and both ends of their intervals, ``(N,)`` each."""


@dataclass(frozen=True, eq=False)
class Training:
    """What a regressor learns from.

    Attributes:
        inputs: ``(n, F)``, finite.
        truth: ``(n,)``.
        unlabelled: Inputs of all cells of the table, ``(N, F)``: what they are is known of every
            cell, only accuracies are dear.
        names: Of the inputs.
        seed: Of whatever the regressor draws.
    """

    inputs: Floats
    truth: Floats
    unlabelled: Floats
    names: tuple[str, ...]
    seed: int


@dataclass(frozen=True)
class Regressor:
    """One way to predict.

    Attributes:
        name: Key in the table.
        summary: One line for a person.
        options: Frozen dataclass of its settings, all with defaults.
        fit: ``(training, options) -> model``.
        load: ``(arrays, F) -> model``.
    """

    name: str
    summary: str
    options: type[Any]
    fit: Callable[[Training, Any], Model]
    load: Callable[[Arrays, int], Model]


@dataclass(frozen=True)
class ForestOptions:
    """Settings of the forests; scikit-learn's own defaults.

    Attributes:
        trees: How many.
        max_features: Share of the inputs that a split may choose from.
    """

    trees: int = 100
    max_features: float = 1.0

    def __post_init__(self) -> None:
        if self.trees < 1:
            raise ValueError(f"trees must be at least 1, got {self.trees}")
        if not 0 < self.max_features <= 1:
            raise ValueError(f"max_features must be above 0, at most 1, got {self.max_features}")


def _grown(kind: str) -> Callable[[Training, ForestOptions], Trees]:
    """Return what grows trees of a kind of scikit-learn's, averaged."""

    def fit(training: Training, options: ForestOptions) -> Trees:
        from sklearn import ensemble  # late: it takes a second to import

        fitted = getattr(ensemble, kind)(
            options.trees, max_features=options.max_features, random_state=training.seed % 2**32
        ).fit(training.inputs, training.truth)
        return Trees.of(fitted.estimators_, weight=1 / options.trees)

    return fit


def _gaussian(training: Training, options: GaussianOptions) -> GaussianProcess:
    return fit_gaussian(
        training.inputs,
        training.truth,
        training.unlabelled,
        [block_of(name) for name in training.names],
        np.random.default_rng(training.seed),
        options,
    )


def _blend(training: Training, options: BlendOptions) -> Blend:
    return fit_blend(
        training.inputs,
        training.truth,
        training.unlabelled,
        [block_of(name) for name in training.names],
        training.seed,
        options,
    )


REGRESSORS: dict[str, Regressor] = {
    regressor.name: regressor
    for regressor in (
        Regressor(
            "forest",
            "random forest on the accuracies as they are, as GreenFactory has it",
            ForestOptions,
            _grown("RandomForestRegressor"),
            Trees.from_arrays,
        ),
        Regressor(
            "extra_trees",
            "extremely randomised trees on the accuracies as they are",
            ForestOptions,
            _grown("ExtraTreesRegressor"),
            Trees.from_arrays,
        ),
        Regressor(
            "gaussian_process",
            "Matern 3/2 on the logarithm of the error, with intervals of its own",
            GaussianOptions,
            _gaussian,
            GaussianProcess.from_arrays,
        ),
        Regressor(
            "blend",
            "the Gaussian process and extremely randomised trees, two to one; the best there is",
            BlendOptions,
            _blend,
            Blend.from_arrays,
        ),
    )
}
