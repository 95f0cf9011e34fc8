"""Which cells to train next, when every label costs a training.

*Spread*: one after the other, the cell that takes most variance off all others,

    argmax over x of  mean over u of  cov(u, x)^2 / (var(x) + noise)

under the Gaussian process of :mod:`nas.predictor.gaussian` (one step of A-optimal design; Cohn,
Ghahramani, Jordan 1996, "Active learning with statistical models", eq. 10). Variances do not
depend on labels, so a batch is chosen at once; lengths do, and are fitted again between batches,
from those thought likely at first.

Where a proxy fails, nothing reaches the output or the like, and no other cell tells about it: the
first label goes to one such cell, if there is any. (Training it is no trouble: it guesses.)

*Best*: the cells of which the process predicts most. A search ends with one of them, so it pays to
have trained them: a label tells by how much luck a prediction was high.

Letters: M functions to choose from, F inputs, E columns, k known, R reference functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.predictor.gaussian import (
    Encoding,
    GaussianOptions,
    GaussianProcess,
    fit_gaussian,
    kernel,
    prior,
)
from spaces.errors import NasError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FIRST = 16  # cells before lengths are fitted for the first time, and fewest that they are fitted to
_REFERENCE, _CANDIDATES = 1000, 3000  # functions that are looked at in one batch
_ROUNDS, _MOST_BEST = 4, 64  # in which the best are trained, and how many of them
_OPTIONS = GaussianOptions()


@dataclass(frozen=True)
class RandomOptions:
    """Nothing to set."""


@dataclass(frozen=True)
class ActiveOptions:
    """Settings of the active choice.

    Attributes:
        best: Share of the labels that goes to the highest predictions, in four rounds at the end;
            never more than 64 of them: with so many, the best is found, and the rest teach more
            elsewhere.
    """

    best: float = 0.25

    def __post_init__(self) -> None:
        if not 0 <= self.best < 1:
            raise ValueError(f"best must be at least 0 and below 1, got {self.best}")


@dataclass(frozen=True)
class Chooser:
    """One way to choose training cells.

    Attributes:
        name: Key in the table.
        summary: One line for a person.
        options: Frozen dataclass of its settings.
    """

    name: str
    summary: str
    options: type[RandomOptions | ActiveOptions]


CHOOSERS: dict[str, Chooser] = {
    chooser.name: chooser
    for chooser in (
        Chooser("random", "cells drawn at random from the table", RandomOptions),
        Chooser("active", "those that tell most, then those predicted best", ActiveOptions),
    )
}


@dataclass(frozen=True, eq=False)
class Pool:
    """Functions that may be trained.

    Attributes:
        inputs: ``(M, F)``, finite.
        blocks: Block of every input, as :func:`nas.predictor.inputs.block_of`.
        failed: Of which functions a proxy has no score, ``(M,)``.
    """

    inputs: Floats
    blocks: tuple[str, ...]
    failed: NDArray[np.bool_]

    def process(self, known: Ints, truth: Floats, rng: np.random.Generator) -> GaussianProcess:
        """Fit a process to those that are known, ``(k,)`` each."""
        return fit_gaussian(self.inputs[known], truth, self.inputs, self.blocks, rng, _OPTIONS)

    def spread(self, known: Ints, truth: Floats, n: int, rng: np.random.Generator) -> Ints:
        """Return n functions that take most variance off the others; their places, ``(n,)``.

        Args:
            known: Places of those that have labels, ``(k,)``.
            truth: The labels.
            n: How many.
            rng: Draws the candidates and the reference, and what lengths are fitted to.
        """
        encoding = Encoding.of(self.inputs, self.blocks)
        theta = prior(encoding.block)
        if len(known) >= FIRST:
            theta = self.process(known, truth, rng).theta
        first = np.zeros(0, dtype=np.int64)
        if self.failed.any() and not self.failed[known].any():
            first = np.flatnonzero(self.failed)[:1]
        settled = np.concatenate([known, first])
        left = rng.permutation(np.setdiff1d(np.arange(len(self.inputs)), settled))
        some = left[: max(_CANDIDATES, 2 * n)]
        reference = rng.permutation(len(self.inputs))[:_REFERENCE]
        places = np.concatenate([settled, some])
        rows = encoding.encode(self.inputs[places])
        far = encoding.encode(self.inputs[reference])
        more = _greedy(theta, encoding.block, rows, far, len(settled), n - len(first))
        return np.concatenate([first, places[more]])

    def best(self, known: Ints, truth: Floats, n: int, rng: np.random.Generator) -> Ints:
        """Return the n functions of the highest predictions that have no label yet, ``(n,)``."""
        predicted = self.process(known, truth, rng).predict(self.inputs)
        predicted[known] = -np.inf
        return np.argsort(-predicted, kind="stable")[:n]


def _greedy(theta: Floats, block: Ints, rows: Floats, far: Floats, k: int, n: int) -> Ints:
    """Return the places of n rows, chosen after the first k have been; ``(n,)``.

    Variances and covariances given those that are chosen are kept up to date by one column of a
    Cholesky factor each.

    Args:
        theta: Of the kernel.
        block: Of the columns, ``(E,)``.
        rows: Known ones, then candidates, ``(k + C, E)``.
        far: What variance is taken off, ``(R, E)``.
        k: Known ones.
        n: How many.
    """
    noise = float(np.exp(theta[-2]) + np.exp(theta[-1]))
    covariance = kernel(theta, block, far, rows)
    variance = np.full(len(rows), np.exp(theta[-3]))
    factor = np.zeros((k + n, len(rows)))
    chosen: list[int] = []
    for step in range(k + n):
        if step < k:
            at = step
        else:
            gain = (covariance**2).sum(axis=0) / (variance + noise)
            gain[:k] = gain[chosen] = -np.inf
            at = int(np.argmax(gain))
            chosen.append(at)
        scale = np.sqrt(variance[at] + noise)
        column = kernel(theta, block, rows[at : at + 1], rows)[0]
        column = (column - factor[:step, at] @ factor[:step]) / scale
        covariance -= np.outer(covariance[:, at] / scale, column)
        variance = np.maximum(variance - column**2, 0.0)
        factor[step] = column
    return np.asarray(chosen, dtype=np.int64)


def choose_actively(
    pool: Pool,
    n: int,
    measure: Callable[[int], float],
    rng: np.random.Generator,
    options: ActiveOptions,
) -> Ints:
    """Choose n functions of a pool and learn their labels on the way; their places, ``(n,)``.

    Args:
        pool: What there is.
        n: How many.
        measure: Trains one, given its place; returns its accuracy.
        rng: For all that is drawn.
        options: Settings.

    Raises:
        NasError: There are not so many.
    """
    if n >= len(pool.inputs):
        raise NasError(
            f"train: expected fewer than the table's {len(pool.inputs):,} functions, got {n:,}"
        )
    n_best = min(round(options.best * n), max(0, n - FIRST), _MOST_BEST)
    known: list[int] = []
    truth: list[float] = []
    for kind, count in _rounds(n - n_best, n_best):
        ask = pool.spread if kind == "spread" else pool.best
        for place in ask(np.asarray(known, np.int64), np.asarray(truth), count, rng).tolist():
            known.append(place)
            truth.append(measure(place))
    return np.asarray(known, dtype=np.int64)


def _rounds(n_spread: int, n_best: int) -> Sequence[tuple[str, int]]:
    """Return how many are chosen at a time: as many again as are known, then in equal parts."""
    rounds, done = [], 0
    while done < n_spread:
        count = min(max(FIRST, done), n_spread - done)
        rounds.append(("spread", count))
        done += count
    parts = np.array_split(np.arange(n_best), _ROUNDS)
    return rounds + [("best", len(part)) for part in parts if len(part)]
