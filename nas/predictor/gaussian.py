"""A Gaussian process on cells: few labels, and an interval of its own.

    z      = -ln(top - y), standardised;  top = max y + (90 % quantile of y - median of y)
    k(a,b) = s^2 (1 + r) exp(-r),  r = sqrt(3 sum over blocks of l_b^2 |a_b - b_b|^2)   (Matern 3/2)

y is an accuracy. z stretches what differs among the best cells, where accuracies crowd below a
ceiling. Inputs are in two blocks with a length scale each: graph features, standardised, and
proxies, as normal scores of their places among all cells of the table (labels of those are not
needed). Cells with equal inputs are averaged: m rows, each with noise of a single training
divided by their number, and noise of the function that its inputs do not tell. The five
hyperparameters maximise the marginal likelihood on 500 rows at most, times a wide normal prior.

Intervals are conformal: errors of leaving one row out, which a Gaussian process gives in closed
form (Rasmussen & Williams 2006, eqs. 5.10 to 5.12), in units of its own standard deviation, by
bands of the predicted value; see :mod:`nas.predictor.intervals` for what that promises.

Letters: n training cells, m distinct rows among them, F inputs, N cells to predict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.stats import norm

from spaces.errors import NasError

Floats = NDArray[np.float64]

KNOTS = 257  # of a proxy's distribution
_JITTER = 1e-6
_PER_BAND, _MOST_BANDS = 40, 12
_CHUNK = 4096  # cells at a time: bounds the memory


@dataclass(frozen=True)
class GaussianOptions:
    """Settings of the Gaussian process.

    Attributes:
        subset: Most rows that its hyperparameters are fitted to.
        level: Of its intervals.
    """

    subset: int = 500
    level: float = 0.9

    def __post_init__(self) -> None:
        if self.subset < 16:
            raise ValueError(f"subset must be at least 16, got {self.subset}")
        if not 0.5 <= self.level < 1:
            raise ValueError(f"level must be at least 0.5 and below 1, got {self.level}")


@dataclass(frozen=True, eq=False)
class Encoding:
    """How inputs become the two blocks.

    Attributes:
        graph: Columns of graph features that vary, ``(F1,)``.
        mean: Of those, over all cells, ``(F1,)``.
        std: Likewise.
        proxies: The other columns, ``(F2,)``.
        knots: Quantiles of those over all cells, ascending, ``(F2, 257)``. Those that are closer
            than a thousandth of their range stand in one place: what lies there differs by
            rounding, and a place must not depend on that.
    """

    graph: NDArray[np.int64]
    mean: Floats
    std: Floats
    proxies: NDArray[np.int64]
    knots: Floats

    @classmethod
    def of(cls, inputs: Floats, is_graph: NDArray[np.bool_]) -> Encoding:
        """Learn it from the inputs of all cells, ``(N, F)``; no labels."""
        std = inputs.std(axis=0)
        graph = np.flatnonzero(is_graph & (std > 1e-9))
        proxies = np.flatnonzero(~is_graph)
        knots = np.quantile(inputs[:, proxies], np.linspace(0, 1, KNOTS), axis=0).T
        knots = np.stack([_thinned(row) for row in knots]) if len(proxies) else knots
        return cls(graph, inputs[:, graph].mean(axis=0), std[graph], proxies, knots)

    def blocks(self, inputs: Floats) -> tuple[Floats, Floats]:
        """Return both blocks, ``(N, F1)`` and ``(N, F2)``."""
        standardised = (inputs[:, self.graph] - self.mean) / self.std
        places = [
            _place(inputs[:, c], row) for c, row in zip(self.proxies, self.knots, strict=True)
        ]
        scores = norm.ppf(np.stack(places, axis=1)) if places else np.zeros((len(inputs), 0))
        return standardised, scores


def _thinned(knots: Floats) -> Floats:
    """Put quantiles that are closer than a thousandth of their range into one place."""
    spread = np.subtract(*np.quantile(knots, (0.95, 0.05))) or (knots[-1] - knots[0]) or 1.0
    thinned = knots.copy()
    first = 0
    for i in range(1, len(knots)):
        if knots[i] - knots[first] < 1e-3 * spread:
            thinned[i] = thinned[first]
        else:
            first = i
    return thinned


def _place(values: Floats, knots: Floats) -> Floats:
    """Return places among quantiles, ``(N,)``, away from 0 and 1; equal ones share their middle."""
    distinct, first, count = np.unique(knots, return_index=True, return_counts=True)
    at = np.interp(values, distinct, first + (count - 1) / 2)
    placed: Floats = (at + 0.5) / KNOTS
    return placed


@dataclass(frozen=True, eq=False)
class GaussianProcess:
    """A fitted process.

    Attributes:
        encoding: Of the inputs.
        graph: First block of the rows, ``(m, F1)``.
        proxies: Second block, ``(m, F2)``.
        z: Mean target of each row, ``(m,)``.
        counts: Training cells of each row, ``(m,)``.
        theta: ln of: inverse length of either block, s^2, noise of a training, noise of a function.
        scale: top, mean and standard deviation of the target.
        bands: Predicted z and half width of the interval in standard deviations, ``(B, 2)``.
    """

    encoding: Encoding
    graph: Floats
    proxies: Floats
    z: Floats
    counts: Floats
    theta: Floats
    scale: Floats
    bands: Floats
    _solved: tuple[Any, Floats] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        factor = cho_factor(_covariance(self._rows, self.theta, self.counts), lower=True)
        object.__setattr__(self, "_solved", (factor, cho_solve(factor, self.z)))

    @property
    def _rows(self) -> tuple[Floats, Floats]:
        return self.graph, self.proxies

    def predict(self, inputs: Floats) -> Floats:
        """Return predicted accuracies, ``(N, F)`` to ``(N,)``."""
        return self.predict_with_interval(inputs)[0]

    def predict_with_interval(self, inputs: Floats) -> tuple[Floats, Floats, Floats]:
        """Return accuracies and both ends of their intervals, ``(N,)`` each."""
        if not len(inputs):
            return np.zeros(0), np.zeros(0), np.zeros(0)
        parts = [self._predict(inputs[i : i + _CHUNK]) for i in range(0, len(inputs), _CHUNK)]
        value, low, high = (np.concatenate(part) for part in zip(*parts, strict=True))
        return value, low, high

    def _predict(self, inputs: Floats) -> tuple[Floats, Floats, Floats]:
        factor, alpha = self._solved
        near, _ = _kernel(_distances(self.encoding.blocks(inputs), self._rows), self.theta)
        mean = near @ alpha
        latent = np.exp(self.theta[2]) - (near * cho_solve(factor, near.T).T).sum(axis=1)
        std = np.sqrt(np.maximum(latent, 0) + np.exp(self.theta[3]) + np.exp(self.theta[4]))
        half = std * np.interp(mean, self.bands[:, 0], self.bands[:, 1])
        return (
            _accuracy(mean, self.scale),
            _accuracy(mean - half, self.scale),
            _accuracy(mean + half, self.scale),
        )

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return everything that is not computed from the rest."""
        own = {k: v for k, v in vars(self).items() if k not in ("encoding", "_solved")}
        return {**own, **{f"encoding.{k}": v for k, v in vars(self.encoding).items()}}

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[np.generic]], n_features: int
    ) -> GaussianProcess:
        """Make the process of arrays that came from a file."""
        try:
            named = {k.removeprefix("encoding."): v for k, v in arrays.items() if "encoding." in k}
            encoding = Encoding(**named)  # type: ignore[arg-type]
            columns = np.concatenate([encoding.graph, encoding.proxies])
            own = {k: v for k, v in arrays.items() if "encoding." not in k}
            if len(columns) and not (columns.min() >= 0 and columns.max() < n_features):
                raise NasError("no Gaussian process over these inputs")
            return cls(encoding, **own)  # type: ignore[arg-type]
        except (TypeError, ValueError, IndexError, np.linalg.LinAlgError) as error:
            raise NasError(f"no Gaussian process: {error}") from None


def fit_gaussian(
    inputs: Floats,
    truth: Floats,
    unlabelled: Floats,
    is_graph: NDArray[np.bool_],
    rng: np.random.Generator,
    options: GaussianOptions,
) -> GaussianProcess:
    """Fit a process.

    Args:
        inputs: ``(n, F)``.
        truth: ``(n,)``.
        unlabelled: Inputs of all cells that are known, ``(N, F)``.
        is_graph: Which inputs are graph features, ``(F,)``.
        rng: Draws the rows that hyperparameters are fitted to.
        options: Settings.
    """
    encoding = Encoding.of(unlabelled, is_graph)
    top = truth.max() + np.quantile(truth, 0.9) - np.median(truth) + 1e-3
    raw = -np.log(top - truth)
    scale = np.asarray([top, raw.mean(), raw.std() or 1.0])
    z = (raw - scale[1]) / scale[2]
    both = np.concatenate(encoding.blocks(inputs), axis=1)
    rows, group, counts = np.unique(
        both.astype(np.float32), axis=0, return_inverse=True, return_counts=True
    )
    group = group.reshape(-1)
    cut = len(encoding.graph)
    blocks = rows[:, :cut].astype(np.float64), rows[:, cut:].astype(np.float64)
    mean = np.bincount(group, z) / counts
    some = rng.permutation(len(rows))[: options.subset]
    theta = _hyperparameters((blocks[0][some], blocks[1][some]), mean[some], counts[some])

    def process(bands: Floats) -> GaussianProcess:
        return GaussianProcess(
            encoding, *blocks, mean, counts.astype(np.float64), theta, scale, bands
        )

    return process(_bands(process(np.zeros((1, 2))), z, group, options.level))


def _bands(process: GaussianProcess, z: Floats, group: NDArray[np.int64], level: float) -> Floats:
    """Return how many standard deviations an interval needs, by predicted value."""
    factor, alpha = process._solved
    counts, noise = process.counts, np.exp(process.theta[3])
    variance = 1 / np.diag(cho_solve(factor, np.eye(len(counts))))
    left_out = process.z - alpha * variance
    std = np.sqrt(variance + noise * (1 - 1 / counts))  # of one cell, not of their mean
    error = np.abs(z - left_out[group]) / std[group]
    weight = 1 / counts[group]  # a row counts once, however many cells it has
    number = int(np.clip(len(counts) // _PER_BAND, 1, _MOST_BANDS))
    bands = []
    for part in np.array_split(np.argsort(left_out), number):
        inside = np.isin(group, part)
        bands.append((np.median(left_out[part]), _quantile(error[inside], weight[inside], level)))
    return np.asarray(bands)


def _quantile(values: Floats, weights: Floats, level: float) -> float:
    """Return a quantile of weighted values, further out by one for their finite number."""
    order = np.argsort(values)
    share = np.cumsum(weights[order]) / (weights.sum() + 1)
    return float(values[order][min(int(np.searchsorted(share, level)), len(values) - 1)])


def _accuracy(z: Floats, scale: Floats) -> Floats:
    accuracy: Floats = np.clip(scale[0] - np.exp(-(z * scale[2] + scale[1])), 0, None)
    return accuracy


def _distances(a: tuple[Floats, Floats], b: tuple[Floats, Floats]) -> list[Floats]:
    """Return squared distances, one matrix per block."""
    return [
        np.maximum((x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T, 0)
        for x, y in zip(a, b, strict=True)
    ]


def _kernel(distances: list[Floats], theta: Floats) -> tuple[Floats, Floats]:
    """Return k and r."""
    scaled = sum(np.exp(2 * t) * d for t, d in zip(theta[:2], distances, strict=True))
    r = np.sqrt(3 * np.asarray(scaled))
    return np.exp(theta[2]) * (1 + r) * np.exp(-r), r


def _covariance(rows: tuple[Floats, Floats], theta: Floats, counts: Floats) -> Floats:
    matrix, _ = _kernel(_distances(rows, rows), theta)
    matrix[np.diag_indices_from(matrix)] += _noise(theta, counts)
    return matrix


def _noise(theta: Floats, counts: Floats) -> Floats:
    noise: Floats = np.exp(theta[3]) / counts + np.exp(theta[4]) + _JITTER
    return noise


def _hyperparameters(rows: tuple[Floats, Floats], z: Floats, counts: NDArray[Any]) -> Floats:
    """Return theta: the most likely one under the data and a wide prior around the start."""
    distances = _distances(rows, rows)
    lengths = [-0.5 * np.log(4 * max(1, block.shape[1])) for block in rows]
    start = np.asarray([*lengths, 0.0, -4.6, -4.6])

    def loss(theta: Floats) -> tuple[float, Floats]:
        k, r = _kernel(distances, theta)
        factor = cho_factor(k + np.diag(_noise(theta, counts)), lower=True)
        inverse = cho_solve(factor, np.eye(len(z)))
        alpha = inverse @ z
        value = 0.5 * z @ alpha + np.log(np.diag(factor[0])).sum()
        gradient = 0.5 * (inverse - np.outer(alpha, alpha))
        slope = -1.5 * np.exp(theta[2]) * np.exp(-r) * gradient
        by_theta = [
            2 * np.exp(2 * t) * (slope * d).sum() for t, d in zip(theta[:2], distances, strict=True)
        ]
        by_theta += [
            (gradient * k).sum(),
            np.diag(gradient) @ (np.exp(theta[3]) / counts),
            np.trace(gradient) * np.exp(theta[4]),
        ]
        prior = theta - start
        return value + (prior**2).sum() / 8, np.asarray(by_theta) + prior / 4

    bounds = [(s - 6, s + 6) for s in start]
    made: Callable[..., Any] = minimize
    found = made(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 40})
    theta: Floats = np.asarray(found.x)
    return theta
