"""Fitting a predictor: a recipe of inputs, regressor, table and split; a file with its figures.

The training cells are drawn as :mod:`nas.predictor.protocol` says, or chosen one after the other
as :mod:`nas.predictor.choosing` says; every other function of the table is for testing, and what
came of it is written into the predictor's file. With ``train: all`` there is nothing left to test
on, and the figures are those of cross-validation. Proxies among the inputs are asked about the
whole table, batch by batch, into a cache: killed and started again, it goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.benchmark.table import Truth, parse_truth
from nas.environment import version
from nas.oracle import Cache, MemoryCache, score_together
from nas.predictor.choosing import FIRST, ActiveOptions, Pool, choose_actively
from nas.predictor.inputs import LISTED, Inputs, block_of
from nas.predictor.intervals import LEVEL, Intervals, folds_by_function
from nas.predictor.models import REGRESSORS, Model, Training, Unsure
from nas.predictor.predictor import Predictor
from nas.predictor.protocol import (
    Split,
    coverage,
    figures,
    split_after,
    split_by_function,
    stratified,
)
from nas.proxies.base import Conditions, ProxySpec
from nas.recipe.fit import FitRecipe
from nas.seeds import child_seed, generator
from nas.space_file import find_space
from nas.workers import Workers
from spaces import Arch, Space
from spaces.errors import NasError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Data:
    """A table as a regressor sees it.

    Attributes:
        truth: What was measured.
        inputs: ``(N, F)``; NaN where a proxy failed.
        names: Of the inputs.
        functions: For each row the number of the function that it computes, ``(N,)``.
    """

    truth: Truth
    inputs: Floats
    names: tuple[str, ...]
    functions: NDArray[np.int64]


def read_data(
    recipe: FitRecipe,
    cache: Cache | None = None,
    progress: Progress | None = None,
    workers: Workers | None = None,
) -> Data:
    """Read the table of a recipe and compute the inputs of all of its rows.

    Raises:
        NasError: The recipe names no table, or one that cannot be read.
    """
    space = find_space(recipe.space)
    truth = _truth_of(recipe)
    if truth is None:
        raise NasError("truth: a table to learn from is needed, as truth=TABLE.csv:COLUMN")
    names, table = _table_of(recipe, truth.archs, cache, progress, workers)
    forms = space.canonicalise(np.asarray(truth.archs))
    functions = np.unique(forms, axis=0, return_inverse=True)[1].reshape(-1)
    return Data(truth, table, tuple(names), functions.astype(np.int64))


def _truth_of(recipe: FitRecipe) -> Truth | None:
    return None if recipe.truth is None else parse_truth(recipe.truth, find_space(recipe.space))


def _table_of(
    recipe: FitRecipe,
    archs: Sequence[Arch],
    cache: Cache | None,
    progress: Progress | None,
    workers: Workers | None,
) -> tuple[list[str], Floats]:
    """Return the names and the values of the inputs of architectures, ``(N, F)``."""
    space, inputs = find_space(recipe.space), _inputs_of(recipe)
    kept = MemoryCache() if cache is None else cache

    def score(specs: Sequence[ProxySpec], some: Sequence[Arch]) -> list[list[Any]]:
        return score_together(
            space, specs, some, inputs.conditions, kept, progress=progress, workers=workers
        )

    return inputs.table(space, archs, score)


def _inputs_of(recipe: FitRecipe) -> Inputs:
    return Inputs(tuple(recipe.inputs), Conditions(seed=0, **recipe.conditions.model_dump()))


def fit(recipe: FitRecipe, data: Data) -> tuple[Predictor, Split]:
    """Fit a predictor and judge it on the cells that it has not seen.

    Returns:
        The predictor, its held-out figures in ``about["held_out"]``, and the split.
    """
    filled, fill = _filled(data.inputs)
    values = np.asarray(data.truth.values)
    split = _split(recipe, data, filled)
    predictor = _predictor(recipe, data, split.train, filled, fill)
    if len(split.test):
        found = held_out(predictor, split, filled, values, recipe.seed)
    else:
        found = _cross_validated(recipe, data, filled, fill)
    about = {
        "name": recipe.name,
        "summary": recipe.summary,
        "regressor": {"name": recipe.regressor.name, **recipe.regressor.options},
        "choose": {"name": recipe.choose.name, **recipe.choose.options},
        "seed": recipe.seed,
        "truth": {
            "column": data.truth.column,
            "sha256": data.truth.sha256,
            "measure": None if data.truth.measure is None else str(data.truth.measure),
        },
        "train_rows": split.train.tolist(),
        "inputs": list(data.names),
        "versions": {
            name: version(name)
            for name in ("nas-search", "numpy", "scikit-learn", "torch")
            if version(name)
        },
        "held_out": found,
    }
    return Predictor(**{**vars(predictor), "about": about}), split


def _filled(inputs: Floats) -> tuple[Floats, Floats]:
    """Return the inputs with something below all others where a proxy failed, and what it is."""
    fill = np.where(np.isfinite(inputs), inputs, np.inf).min(axis=0)
    fill = np.where(np.isfinite(fill), fill, 0.0) - 1.0
    return np.where(np.isfinite(inputs), inputs, fill), fill


def _split(recipe: FitRecipe, data: Data, filled: Floats) -> Split:
    """Draw or choose the training cells."""
    values = np.asarray(data.truth.values)
    if recipe.train == "all":
        return Split(np.arange(len(values)), np.zeros(0, dtype=np.int64))
    if recipe.choose.name == "random":
        return split_by_function(data.functions, recipe.train, recipe.seed)
    functions, first = np.unique(data.functions, return_index=True)
    rng = generator(recipe.seed, "predictor", "choice")
    train: list[int] = []

    def measure(place: int) -> float:
        twins = np.flatnonzero(data.functions == functions[place])
        train.append(int(rng.choice(twins)))
        return float(values[train[-1]])

    failed = np.asarray(np.isnan(data.inputs[first]).any(axis=1), dtype=bool)
    pool = Pool(filled[first], tuple(block_of(name) for name in data.names), failed)
    options = ActiveOptions(**recipe.choose.options)
    choose_actively(pool, recipe.train, measure, rng, options)
    return split_after(np.asarray(train, dtype=np.int64), data.functions)


def _predictor(
    recipe: FitRecipe, data: Data, train: Ints, filled: Floats, fill: Floats
) -> Predictor:
    """Fit to some rows, with intervals."""
    values = np.asarray(data.truth.values)
    model = _fit(recipe, data.names, train, filled, values)
    intervals = None
    if not isinstance(model, Unsure):
        unseen = np.empty(len(train))
        for inside in _folds(recipe, data.functions[train]):
            fewer = _fit(recipe, data.names, train[~inside], filled, values)
            unseen[inside] = fewer.predict(filled[train[inside]])
        intervals = Intervals.of(unseen, values[train])
    return Predictor(
        space=find_space(recipe.space),
        inputs=_inputs_of(recipe),
        model=model,
        intervals=intervals,
        fill=fill,
        about={},
    )


def _fit(
    recipe: FitRecipe, names: tuple[str, ...], rows: Ints, inputs: Floats, values: Floats
) -> Model:
    regressor = REGRESSORS[recipe.regressor.name]
    seed = child_seed(recipe.seed, "predictor", "regressor")
    training = Training(inputs[rows], values[rows], inputs, names, seed)
    return regressor.fit(training, regressor.options(**recipe.regressor.options))


def _folds(recipe: FitRecipe, functions: Ints) -> list[NDArray[np.bool_]]:
    """Deal cells out by function; return which are in each fold."""
    order = generator(recipe.seed, "predictor", "folds").permutation(len(np.unique(functions)))
    fold = folds_by_function(functions, order)
    return [fold == number for number in np.unique(fold)]


def _cross_validated(recipe: FitRecipe, data: Data, filled: Floats, fill: Floats) -> dict[str, Any]:
    """Return how good predictors of the other folds are on each; all cells are for training."""
    values = np.asarray(data.truth.values)
    answers = np.empty((3, len(values)))
    for inside in _folds(recipe, data.functions):
        fewer = _predictor(recipe, data, np.flatnonzero(~inside), filled, fill)
        answers[:, inside] = fewer.of_inputs(filled[inside])
    return {"cross_validation": _judged(answers, values), "level": LEVEL}


def _judged(answers: Floats, truth: Floats) -> dict[str, Any]:
    """Return figures of predictions and both ends of their intervals, ``(3, N)``."""
    predicted, low, high = answers
    return {**figures(predicted, truth), "coverage": coverage(predicted, low, high, truth)}


def held_out(
    predictor: Predictor, split: Split, filled: Floats, values: Floats, seed: int
) -> dict[str, Any]:
    """Return how good a predictor is on cells of functions that it has not seen."""
    answers = np.stack(predictor.of_inputs(filled))
    sets = {"random": split.test, "stratified": stratified(split.test, values, seed)}
    found: dict[str, Any] = {
        name: _judged(answers[:, rows], values[rows]) for name, rows in sets.items()
    }
    found["level"] = LEVEL
    return found


#: What is suggested, by name: spread over the space, or predicted best.
SUGGEST = ("spread", "best")
_FUNCTIONS = 5000  # that are drawn where a space cannot be gone through


def suggest(
    recipe: FitRecipe,
    n: int,
    by: str = "spread",
    cache: Cache | None = None,
    progress: Progress | None = None,
    workers: Workers | None = None,
) -> list[Arch]:
    """Return the architectures that are to be trained next, in order.

    What the table of the recipe holds is trained already; without one, nothing is.

    Args:
        recipe: What the labels are for.
        n: How many.
        by: ``spread`` for those that tell most of all others, ``best`` for those predicted best.
        cache: Where scores of proxies are kept.
        progress: Called with (architectures scored, all that were not known).
        workers: Who scores; by default this process.

    Raises:
        NasError: Too few are left, or ``best`` is asked with fewer than 16 labels.
    """
    space = find_space(recipe.space)
    truth = _truth_of(recipe)
    trained = np.zeros((0, len(space.dimensions)), np.int64)
    if truth is not None:
        trained = space.canonicalise(np.asarray(truth.archs))
    rng = generator(recipe.seed, "predictor", "suggest", len(trained))
    forms = np.unique(np.concatenate([trained, _functions(space, rng)]), axis=0)
    names, table = _table_of(
        recipe, [tuple(row) for row in forms.tolist()], cache, progress, workers
    )
    rows = np.searchsorted(_words(forms), _words(trained))
    known, group = np.unique(rows, return_inverse=True)
    values = np.zeros(0) if truth is None else np.asarray(truth.values)
    labels = np.bincount(group, values) / np.bincount(group) if len(known) else values
    if by == "best" and len(known) < FIRST:
        raise NasError(f"best: expected at least {FIRST} labels to predict from, got {len(known)}")
    failed = np.asarray(np.isnan(table).any(axis=1), dtype=bool)
    pool = Pool(_filled(table)[0], tuple(block_of(name) for name in names), failed)
    if n > len(forms) - len(known):
        raise NasError(f"expected at most {len(forms) - len(known):,} to suggest, got {n:,}")
    ask = pool.best if by == "best" else pool.spread
    return [tuple(forms[i].tolist()) for i in ask(known, labels, n, rng)]


def _words(forms: Ints) -> NDArray[np.void]:
    """Return every row as one value, in the order of the rows, ``(N, D)`` to ``(N,)``."""
    big = np.ascontiguousarray(forms.astype(">i8"))  # bytes compare as the numbers do
    return big.view(f"V{8 * forms.shape[1]}").reshape(-1)


def _functions(space: Space, rng: np.random.Generator) -> Ints:
    """Return canonical forms of a space: all, or of some that are drawn."""
    if len(space) <= LISTED:
        members = space.all()
    else:
        members = np.asarray([space.sample(rng) for _ in range(_FUNCTIONS)], dtype=np.int64)
    return space.canonicalise(members)
