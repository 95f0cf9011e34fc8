"""Recipes of predictors: what ``nas fit`` reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from nas.predictor.choosing import CHOOSERS
from nas.predictor.inputs import GRAPHS
from nas.predictor.models import REGRESSORS
from nas.proxies.base import ProxySpec
from nas.recipe.fields import (
    Choice,
    ConditionsSection,
    Section,
    benchmark_column,
    choice_of,
    refuse,
    run_name,
    shown,
    space_name,
)
from nas.recipe.kinds import Kind, load_kind
from nas.space_file import find_space
from spaces.errors import NasError

_FEWEST, _MOST = 8, 10_000_000  # training cells


def _regressor(value: object) -> Choice:
    return choice_of(REGRESSORS, "regressor", value)


def _chooser(value: object) -> Choice:
    return choice_of(CHOOSERS, "choice", value)


def _inputs(sources: list[str]) -> list[str]:
    try:
        return [x if x in GRAPHS else str(ProxySpec.parse(x)) for x in sources]
    except NasError as error:
        raise refuse(str(error)) from None


def _train(value: object) -> int | str:
    if value == "all":
        return "all"
    if isinstance(value, bool) or not isinstance(value, int):
        raise refuse(f"expected a number of cells, or 'all', got {shown(value)}")
    if not _FEWEST <= value <= _MOST:
        raise refuse(f"must be at least {_FEWEST}, at most {_MOST:,}, got {value:,}")
    return value


def _column(text: str | None, info: ValidationInfo) -> str | None:
    return None if text is None else benchmark_column(text, info)


def _space(name: str, info: ValidationInfo) -> str:
    found = find_space(space_name(name, info)).name
    if found != name:
        raise refuse(
            "a predictor's file names its space, so that it has to be built in or of a plugin; "
            f"got {name!r}"
        )
    return name


class FitRecipe(Section):
    """One predictor, completely described."""

    name: Annotated[str, AfterValidator(run_name)] = Field(
        default="predictor", description="Of the predictor; the file's name when left out."
    )
    summary: str = Field(default="", description="One line for a person.")
    space: Annotated[str, AfterValidator(_space)] = Field(description="Where it will hold.")
    truth: Annotated[str | None, AfterValidator(_column)] = Field(
        default=None, description="FILE:COLUMN of accuracies to learn from and to be judged by."
    )
    inputs: Annotated[list[str], AfterValidator(_inputs)] = Field(
        min_length=1, description="'graph', 'orbits', and proxies."
    )
    regressor: Annotated[Choice, BeforeValidator(_regressor)] = Field(
        description="How to predict: a name, or a mapping with a name and options."
    )
    train: Annotated[int | Literal["all"], BeforeValidator(_train)] = Field(
        default=1024, description="Training cells; with 'all' none is left to test on."
    )
    choose: Annotated[Choice, BeforeValidator(_chooser)] = Field(
        default=Choice(name="random"), description="How training cells come out of the table."
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="Of the draw and of the regressor.")
    conditions: ConditionsSection = Field(
        default=ConditionsSection(), description="What the proxies' scores depend on."
    )


FIT = Kind(
    FitRecipe,
    sections={"conditions": ConditionsSection},
    selectors={"regressor": REGRESSORS, "choose": CHOOSERS},
)


def load_fit_recipe(path: Path, overrides: Sequence[str] = ()) -> FitRecipe:
    """Read a recipe of a predictor; as :func:`nas.recipe.load_recipe`."""
    recipe = load_kind(FIT, path, overrides)
    assert isinstance(recipe, FitRecipe)
    return recipe
