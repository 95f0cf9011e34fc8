"""A Gaussian process on cells: few labels, and an interval of its own.

    z      = -ln(top - y), standardised;  top = max y + (90 % quantile of y - median of y)
    k(a,b) = s^2 (1 + r) exp(-r),  r = sqrt(3 sum over blocks of l_b^2 |a_b - b_b|^2)   (Matern 3/2)

y is an accuracy. z stretches what differs among the best cells, where accuracies crowd below a
ceiling. Inputs come in blocks with a length scale each (:func:`nas.predictor.inputs.block_of`):
counts, paths, operations by edge, pairs of operations, widths, all standardised; and proxies, as
normal scores of their places among all cells of the table (labels of those are not needed). Cells
with equal inputs are averaged: m rows, each with noise of a single training divided by their
number, and noise of the function that its inputs do not tell. The hyperparameters maximise the
marginal likelihood on 500 rows at most, times a wide normal prior.

Intervals are conformal: errors of leaving one row out, which a Gaussian process gives in closed
form (Rasmussen & Williams 2006, eqs. 5.10 to 5.12), in units of its own standard deviation, by
bands of the predicted value; see :mod:`nas.predictor.intervals` for what that promises.

Letters: n training cells, m distinct rows among them, F inputs, E columns that they are encoded
in, B blocks, N cells to predict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.special import ndtri

from nas.predictor.inputs import PROXY_BLOCK
from nas.predictor.intervals import LEVEL
from spaces.errors import NasError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

KNOTS = 257  # of a proxy's distribution
_JITTER = 1e-6
_PER_BAND, _MOST_BANDS = 40, 12
_CHUNK = 4096  # cells at a time: bounds the memory


@dataclass(frozen=True)
class GaussianOptions:
    """Settings of the Gaussian process.

    Attributes:
        subset: Most rows that its hyperparameters are fitted to.
    """

    subset: int = 500

    def __post_init__(self) -> None:
        if self.subset < 16:
            raise ValueError(f"subset must be at least 16, got {self.subset}")


@dataclass(frozen=True, eq=False)
class Encoding:
    """How inputs become columns in blocks.

    Attributes:
        columns: Which input each column is, ``(E,)``: all proxies, and what else varies.
        block: Number of the block that a column is in, from 0, ``(E,)``.
        mean: Over all cells, ``(E,)``; 0 for proxies.
        std: Likewise; 1 for proxies.
        ranked: Which columns are proxies, ``(E,)``.
        knots: Quantiles of those over all cells, ascending, ``(ranked.sum(), 257)``. Those that
            are closer than a thousandth of their range stand in one place: what lies there differs
            by rounding, and a place must not depend on that.
    """

    columns: Ints
    block: Ints
    mean: Floats
    std: Floats
    ranked: NDArray[np.bool_]
    knots: Floats

    @classmethod
    def of(cls, inputs: Floats, blocks: Sequence[str]) -> Encoding:
        """Learn it from the inputs of all cells, ``(N, F)``, and the block of each; no labels."""
        is_proxy = np.asarray([name == PROXY_BLOCK for name in blocks])
        std = np.where(is_proxy, 1.0, inputs.std(axis=0))
        columns = np.flatnonzero(std > 1e-9)
        ranked = is_proxy[columns]
        block = np.unique(np.asarray(blocks)[columns], return_inverse=True)[1]
        knots = np.zeros((0, KNOTS))
        if ranked.any():
            values = inputs[:, columns[ranked]]
            quantiles = np.quantile(values, np.linspace(0, 1, KNOTS), axis=0).T
            knots = np.stack([_thinned(row) for row in quantiles])
        mean = np.where(ranked, 0.0, inputs[:, columns].mean(axis=0))
        return cls(columns, block.astype(np.int64), mean, std[columns], ranked, knots)

    def encode(self, inputs: Floats) -> Floats:
        """Return the columns, ``(N, F)`` to ``(N, E)``."""
        encoded: Floats = (inputs[:, self.columns] - self.mean) / self.std
        for place, knots in zip(np.flatnonzero(self.ranked), self.knots, strict=True):
            encoded[:, place] = ndtri(_place(encoded[:, place], knots))
        return encoded


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
        rows: The rows in columns, ``(m, E)``.
        z: Mean target of each row, ``(m,)``.
        counts: Training cells of each row, ``(m,)``.
        theta: ln of: inverse length of each block, s^2, noise of a training, noise of a function;
            ``(B + 3,)``.
        scale: top, mean and standard deviation of the target.
        bands: Predicted z and half width of the interval in standard deviations, bands by 2.
    """

    encoding: Encoding
    rows: Floats
    z: Floats
    counts: Floats
    theta: Floats
    scale: Floats
    bands: Floats
    _solved: tuple[Any, Floats] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        matrix = kernel(self.theta, self.encoding.block, self.rows, self.rows)
        matrix[np.diag_indices_from(matrix)] += _noise(self.theta, self.counts)
        factor = cho_factor(matrix, lower=True)
        object.__setattr__(self, "_solved", (factor, cho_solve(factor, self.z)))

    def predict(self, inputs: Floats) -> Floats:
        """Return predicted accuracies, ``(N, F)`` to ``(N,)``."""
        return accuracy(self.latent(inputs)[0], self.scale)

    def predict_with_interval(self, inputs: Floats) -> tuple[Floats, Floats, Floats]:
        """Return accuracies and both ends of their intervals, ``(N,)`` each."""
        return around(*self.latent(inputs), self.bands, self.scale)

    def latent(self, inputs: Floats) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of z of one training of a cell, ``(N,)`` each."""
        parts = [self._latent(inputs[i : i + _CHUNK]) for i in range(0, len(inputs), _CHUNK)]
        if not parts:
            return np.zeros(0), np.zeros(0)
        mean, std = (np.concatenate(part) for part in zip(*parts, strict=True))
        return mean, std

    def _latent(self, inputs: Floats) -> tuple[Floats, Floats]:
        factor, alpha = self._solved
        near = kernel(self.theta, self.encoding.block, self.encoding.encode(inputs), self.rows)
        known = (near * cho_solve(factor, near.T).T).sum(axis=1)
        variance, single, function = np.exp(self.theta[-3:])
        return near @ alpha, np.sqrt(np.maximum(variance - known, 0) + single + function)

    def left_out(self) -> tuple[Floats, Floats]:
        """Return what is predicted of every row without it (eqs. 5.12), as :meth:`latent`."""
        factor, alpha = self._solved
        variance = 1 / np.diag(cho_solve(factor, np.eye(len(self.z))))
        single = np.exp(self.theta[-2])  # of one cell, not of their mean
        return self.z - alpha * variance, np.sqrt(variance + single * (1 - 1 / self.counts))

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
            own = {k: v for k, v in arrays.items() if "encoding." not in k}
            columns, block = encoding.columns, encoding.block
            if len(columns) and not (
                (columns.min() >= 0 and columns.max() < n_features)
                and (block.min() >= 0 and block.max() < len(own["theta"]) - 3)
            ):
                raise NasError("no Gaussian process over these inputs")
            return cls(encoding, **own)  # type: ignore[arg-type]
        except (TypeError, KeyError, ValueError, IndexError, np.linalg.LinAlgError) as error:
            raise NasError(f"no Gaussian process: {error}") from None


@dataclass(frozen=True, eq=False)
class Rows:
    """Training cells in columns, those with equal inputs as one.

    Attributes:
        values: ``(m, E)``.
        group: Row of every training cell, ``(n,)``.
        counts: Training cells of every row, ``(m,)``.
    """

    values: Floats
    group: Ints
    counts: Floats

    @classmethod
    def of(cls, encoded: Floats) -> Rows:
        """Join equal ones; ``(n, E)``."""
        rows, group, counts = np.unique(
            encoded.astype(np.float32), axis=0, return_inverse=True, return_counts=True
        )
        return cls(rows.astype(np.float64), group.reshape(-1), counts.astype(np.float64))

    def mean(self, values: Floats) -> Floats:
        """Return the mean over the cells of every row, ``(n,)`` to ``(m,)``."""
        mean: Floats = np.bincount(self.group, values) / self.counts
        return mean


def fit_gaussian(
    inputs: Floats,
    truth: Floats,
    unlabelled: Floats,
    blocks: Sequence[str],
    rng: np.random.Generator,
    options: GaussianOptions,
) -> GaussianProcess:
    """Fit a process.

    Args:
        inputs: ``(n, F)``.
        truth: ``(n,)``.
        unlabelled: Inputs of all cells that are known, ``(N, F)``.
        blocks: Block of every input; ``proxy`` for proxies.
        rng: Draws the rows that hyperparameters are fitted to.
        options: Settings.
    """
    encoding = Encoding.of(unlabelled, blocks)
    scale = scale_of(truth)
    z = target(truth, scale)
    rows = Rows.of(encoding.encode(inputs))
    mean = rows.mean(z)
    some = rng.permutation(len(mean))[: options.subset]
    theta = _hyperparameters(rows.values[some], mean[some], rows.counts[some], encoding.block)

    def process(bands: Floats) -> GaussianProcess:
        return GaussianProcess(encoding, rows.values, mean, rows.counts, theta, scale, bands)

    center, std = process(np.zeros((1, 2))).left_out()
    return process(bands_of(z, center, std, rows))


def scale_of(truth: Floats) -> Floats:
    """Return top, mean and standard deviation of the target."""
    top = truth.max() + np.quantile(truth, 0.9) - np.median(truth) + 1e-3
    raw = -np.log(top - truth)
    return np.asarray([top, raw.mean(), raw.std() or 1.0])


def target(truth: Floats, scale: Floats) -> Floats:
    """Return z of accuracies, ``(n,)``."""
    z: Floats = (-np.log(scale[0] - truth) - scale[1]) / scale[2]
    return z


def accuracy(z: Floats, scale: Floats) -> Floats:
    """Return the accuracies that z stands for, ``(N,)``."""
    found: Floats = np.clip(scale[0] - np.exp(-(z * scale[2] + scale[1])), 0, None)
    return found


def bands_of(z: Floats, center: Floats, std: Floats, rows: Rows) -> Floats:
    """Return how many standard deviations an interval needs, by predicted value.

    Args:
        z: Of every training cell, ``(n,)``.
        center: What was predicted of every row by those who have not seen it, ``(m,)``.
        std: How sure they were, ``(m,)``.
        rows: Which cells are which row.
    """
    group = rows.group
    error = np.abs(z - center[group]) / std[group]
    weight = 1 / rows.counts[group]  # a row counts once, however many cells it has
    number = int(np.clip(len(center) // _PER_BAND, 1, _MOST_BANDS))
    bands = []
    for part in np.array_split(np.argsort(center), number):
        inside = np.isin(group, part)
        bands.append((np.median(center[part]), _quantile(error[inside], weight[inside], LEVEL)))
    return np.asarray(bands)


def around(
    mean: Floats, std: Floats, bands: Floats, scale: Floats
) -> tuple[Floats, Floats, Floats]:
    """Return accuracies and both ends of their intervals, ``(N,)`` each."""
    half = std * np.interp(mean, bands[:, 0], bands[:, 1])
    return accuracy(mean, scale), accuracy(mean - half, scale), accuracy(mean + half, scale)


def _quantile(values: Floats, weights: Floats, level: float) -> float:
    """Return a quantile of weighted values, further out by one for their finite number."""
    order = np.argsort(values)
    share = np.cumsum(weights[order]) / (weights.sum() + 1)
    return float(values[order][min(int(np.searchsorted(share, level)), len(values) - 1)])


def kernel(theta: Floats, block: Ints, a: Floats, b: Floats) -> Floats:
    """Return the covariance of functions, ``(N, E)`` and ``(M, E)`` to ``(N, M)``."""
    length = np.exp(theta[:-3][block])
    return _matern(_squares(a * length, b * length), theta)[0]


def _squares(a: Floats, b: Floats) -> Floats:
    squares: Floats = np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0)
    return squares


def _matern(squares: Floats, theta: Floats) -> tuple[Floats, Floats]:
    """Return k and exp(-r)."""
    r = np.sqrt(3 * squares)
    falling = np.exp(-r)
    return np.exp(theta[-3]) * (1 + r) * falling, falling


def _noise(theta: Floats, counts: Floats) -> Floats:
    noise: Floats = np.exp(theta[-2]) / counts + np.exp(theta[-1]) + _JITTER
    return noise


def prior(block: Ints) -> Floats:
    """Return the theta that is thought likely before there are labels, ``(B + 3,)``."""
    sizes = np.bincount(block)
    lengths = -0.5 * np.log(4 * sizes) - 0.25 * np.log(max(1, len(sizes)))
    return np.asarray([*lengths, 0.0, -4.6, -4.6])


def _hyperparameters(rows: Floats, z: Floats, counts: Floats, block: Ints) -> Floats:
    """Return theta: the most likely one under the data and a wide prior around the start."""
    start = prior(block)
    distances = [
        _squares(rows[:, block == number], rows[:, block == number])
        for number in range(len(start) - 3)
    ]

    def loss(theta: Floats) -> tuple[float, Floats]:
        scaled = np.zeros((len(z), len(z)))
        for t, d in zip(theta, distances, strict=False):
            scaled += np.exp(2 * t) * d
        k, falling = _matern(scaled, theta)
        factor = cho_factor(k + np.diag(_noise(theta, counts)), lower=True)
        inverse = cho_solve(factor, np.eye(len(z)))
        alpha = inverse @ z
        value = 0.5 * z @ alpha + np.log(np.diag(factor[0])).sum()
        gradient = 0.5 * (inverse - np.outer(alpha, alpha))
        slope = -1.5 * np.exp(theta[-3]) * falling * gradient
        by_theta = [
            *(
                2 * np.exp(2 * t) * (slope * d).sum()
                for t, d in zip(theta, distances, strict=False)
            ),
            (gradient * k).sum(),
            np.diag(gradient) @ (np.exp(theta[-2]) / counts),
            np.trace(gradient) * np.exp(theta[-1]),
        ]
        away = theta - start
        return value + (away**2).sum() / 8, np.asarray(by_theta) + away / 4

    bounds = [(s - 6, s + 6) for s in start]
    made: Callable[..., Any] = minimize
    found = made(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 40})
    theta: Floats = np.asarray(found.x)
    return theta
