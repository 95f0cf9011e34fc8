"""Fitting a predictor: a recipe of inputs, regressor, table and split; a file with its figures.

The training cells are drawn as :mod:`nas.predictor.protocol` says; every other function of the
table is for testing, and what came of it is written into the predictor's file. Proxies among the
inputs are asked about the whole table, batch by batch, into a cache: killed and started again, it
goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BeforeValidator, Field

from nas.benchmark.table import Truth, parse_truth
from nas.environment import version
from nas.oracle import Cache, MemoryCache, score_together
from nas.predictor.gaussian import GaussianProcess
from nas.predictor.inputs import GRAPHS, Inputs
from nas.predictor.intervals import LEVEL, Intervals, folds_by_function
from nas.predictor.models import REGRESSORS, Model, Training
from nas.predictor.predictor import Predictor
from nas.predictor.protocol import Split, coverage, figures, split_by_function, stratified
from nas.proxies.base import Conditions, ProxySpec
from nas.recipe import (
    Choice,
    ConditionsSection,
    Kind,
    Section,
    benchmark_column,
    choice_of,
    load_kind,
    refuse,
    run_name,
    shipped_fit_recipes,
    space_name,
)
from nas.seeds import child_seed, generator
from spaces import SPACES, Arch
from spaces.errors import NasError, did_you_mean

Floats = NDArray[np.float64]
Progress = Callable[[int, int], None]


def _regressor(value: object) -> Choice:
    return choice_of(REGRESSORS, "regressor", value)


def _inputs(sources: list[str]) -> list[str]:
    try:
        return [x if x in GRAPHS else str(ProxySpec.parse(x)) for x in sources]
    except NasError as error:
        raise refuse(str(error)) from None


class FitRecipe(Section):
    """One predictor, completely described."""

    name: Annotated[str, AfterValidator(run_name)] = Field(
        default="predictor", description="Of the predictor; the file's name when left out."
    )
    summary: str = Field(default="", description="One line for a person.")
    space: Annotated[str, AfterValidator(space_name)] = Field(description="Where it will hold.")
    truth: Annotated[str, AfterValidator(benchmark_column)] = Field(
        description="FILE:COLUMN of accuracies to learn from and to be judged by."
    )
    inputs: Annotated[list[str], AfterValidator(_inputs)] = Field(
        min_length=1, description="'graph', 'orbits', and proxies."
    )
    regressor: Annotated[Choice, BeforeValidator(_regressor)] = Field(
        description="How to predict: a name, or a mapping with a name and options."
    )
    train: int = Field(default=1024, ge=8, le=10_000_000, description="Training cells.")
    seed: int = Field(default=0, ge=0, lt=2**63, description="Of the draw and of the regressor.")
    conditions: ConditionsSection = Field(
        default=ConditionsSection(), description="What the proxies' scores depend on."
    )


FIT = Kind(
    FitRecipe, sections={"conditions": ConditionsSection}, selectors={"regressor": REGRESSORS}
)


def resolve_fit_recipe(text: str) -> Path:
    """Return the file that ``text`` means: a path, or the name of a shipped recipe.

    Raises:
        NasError: There is neither.
    """
    path = Path(text).expanduser()
    shipped = shipped_fit_recipes()
    if path.is_file() or text not in shipped:
        if not path.is_file():
            raise NasError(
                f"{text}: no such file, and no recipe of a predictor of this name comes with the "
                f"package.{did_you_mean(path.stem, list(shipped))} Known: {', '.join(shipped)}"
            )
        return path
    return shipped[text]


def load_fit_recipe(path: Path, overrides: Sequence[str] = ()) -> FitRecipe:
    """Read a recipe of a predictor; as :func:`nas.recipe.load_recipe`."""
    recipe = load_kind(FIT, path, overrides)
    assert isinstance(recipe, FitRecipe)
    return recipe


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
    recipe: FitRecipe, cache: Cache | None = None, progress: Progress | None = None
) -> Data:
    """Read the table of a recipe and compute the inputs of all of its rows."""
    space = SPACES[recipe.space]
    truth = parse_truth(recipe.truth, space)
    kept = MemoryCache() if cache is None else cache
    inputs = _inputs_of(recipe)

    def score(specs: Sequence[ProxySpec], archs: Sequence[Arch]) -> list[list[Any]]:
        return score_together(space, specs, archs, inputs.conditions, kept, progress=progress)

    names, table = inputs.table(space, truth.archs, score)
    forms = space.canonicalise(np.asarray(truth.archs))
    functions = np.unique(forms, axis=0, return_inverse=True)[1].reshape(-1)
    return Data(truth, table, tuple(names), functions.astype(np.int64))


def _inputs_of(recipe: FitRecipe) -> Inputs:
    return Inputs(tuple(recipe.inputs), Conditions(seed=0, **recipe.conditions.model_dump()))


def fit(recipe: FitRecipe, data: Data) -> tuple[Predictor, Split]:
    """Fit a predictor and judge it on the cells that it has not seen.

    Returns:
        The predictor, its held-out figures in ``about["held_out"]``, and the split.
    """
    split = split_by_function(data.functions, recipe.train, recipe.seed)
    known = data.inputs[split.train]
    fill = np.where(np.isfinite(known), known, np.inf).min(axis=0)
    fill = np.where(np.isfinite(fill), fill, 0.0) - 1.0  # below all that were seen
    filled = np.where(np.isfinite(data.inputs), data.inputs, fill)
    values = np.asarray(data.truth.values)
    model = _fit(recipe, data.names, split.train, filled, values)
    intervals = None
    if not isinstance(model, GaussianProcess):  # which has its own
        unseen = _out_of_fold(recipe, data, split, filled, values)
        intervals = Intervals.of(unseen, values[split.train])
    predictor = Predictor(
        space=SPACES[recipe.space],
        inputs=_inputs_of(recipe),
        model=model,
        intervals=intervals,
        fill=fill,
        about={},
    )
    about = {
        "name": recipe.name,
        "summary": recipe.summary,
        "regressor": {"name": recipe.regressor.name, **recipe.regressor.options},
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
        "held_out": held_out(predictor, split, filled, values, recipe.seed),
    }
    return Predictor(**{**vars(predictor), "about": about}), split


def _fit(
    recipe: FitRecipe,
    names: tuple[str, ...],
    rows: NDArray[np.int64],
    inputs: Floats,
    values: Floats,
) -> Model:
    regressor = REGRESSORS[recipe.regressor.name]
    seed = child_seed(recipe.seed, "predictor", "regressor")
    training = Training(inputs[rows], values[rows], inputs, names, seed)
    return regressor.fit(training, regressor.options(**recipe.regressor.options))


def _out_of_fold(
    recipe: FitRecipe, data: Data, split: Split, filled: Floats, values: Floats
) -> Floats:
    """Return predictions of the training cells by models that have not seen their functions."""
    functions = data.functions[split.train]
    order = generator(recipe.seed, "predictor", "folds").permutation(len(np.unique(functions)))
    fold = folds_by_function(functions, order)
    unseen = np.empty(len(split.train))
    for number in np.unique(fold):
        inside = fold == number
        rows = split.train[~inside]
        model = _fit(recipe, data.names, rows, filled, values)
        unseen[inside] = model.predict(filled[split.train[inside]])
    return unseen


def held_out(
    predictor: Predictor, split: Split, filled: Floats, values: Floats, seed: int
) -> dict[str, Any]:
    """Return how good a predictor is on cells of functions that it has not seen."""
    predicted, low, high = predictor.of_inputs(filled)
    found: dict[str, Any] = {}
    for name, rows in (
        ("random", split.test),
        ("stratified", stratified(split.test, values, seed)),
    ):
        found[name] = {
            **figures(predicted[rows], values[rows]),
            "coverage": coverage(predicted[rows], low[rows], high[rows], values[rows]),
        }
    found["level"] = LEVEL
    return found
