"""Recipes of searches: what ``nas-search`` reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator

from nas import plain_yaml
from nas.engine import BATCH, Searcher
from nas.hardware.source import MEASURE
from nas.limits import parse_bounds
from nas.objectives import OWN, parse_objective
from nas.plain_yaml import YamlError
from nas.plugins import look_up_or_load
from nas.proxies import PROXIES
from nas.proxies.base import Proxy, ProxySpec
from nas.quantities import QUANTITIES
from nas.recipe.fields import (
    Choice,
    ConditionsSection,
    Section,
    benchmark_column,
    check_options,
    choice_of,
    existing,
    name_and_options,
    named_file,
    refuse,
    run_name,
    shown,
    space_name,
    written,
)
from nas.recipe.kinds import Kind, load_kind, parse_kind
from nas.recipe.shipped import shipped_recipes
from nas.space_file import find_space
from nas.workers import DEFAULT_EXECUTOR, EXECUTORS, RAY_ADDRESS
from searchers import STRATEGIES
from spaces.errors import NasError

if TYPE_CHECKING:
    from nas.benchmark.table import Truth

DEFAULT_STRATEGY = "evolution"


def _proxy(value: object) -> object:
    """Return the text form of a proxy that came as text or as a mapping with a name."""
    try:
        if isinstance(value, str):
            return str(ProxySpec.parse(value))
        if isinstance(value, Mapping):
            name, options = name_and_options(value)
            proxy = look_up_or_load(PROXIES, name, kind="proxy", expected=Proxy)
            return str(ProxySpec.make(name, check_options(proxy.options, options)))
    except NasError as error:
        raise refuse(str(error)) from None
    except RecursionError:
        raise refuse(f"nested too deeply, got {shown(value)}") from None
    raise refuse(f"expected a proxy's name, or a mapping with one, got {shown(value)}")


def _strategy(value: object) -> Choice:
    return choice_of(STRATEGIES, "strategy", value)


def _executor(value: object) -> Choice:
    """Return who the workers are; an address in the place of a name is that of a Ray cluster."""
    given = {"name": value} if isinstance(value, str) else value
    if isinstance(given, Mapping) and str(given.get("name")).startswith(RAY_ADDRESS):
        given = {**given, "name": "ray", "address": given["name"]}
    return choice_of(EXECUTORS, "executor", given)


def _predictor_file(text: str, info: ValidationInfo) -> str:
    """Return the name of a shipped predictor, or the absolute path of a file."""
    from nas.predictor.shipped import shipped_predictors  # late: few recipes name one

    return named_file(text, shipped_predictors(), info)


def _formula_file(text: str, info: ValidationInfo) -> str:
    """Return the name of a shipped formula, or the absolute path of a file that holds one."""
    from nas.design.formula import read_formula, shipped_formulas  # late: few recipes name one

    file = named_file(text, shipped_formulas(), info)
    if file not in shipped_formulas():
        try:
            read_formula(Path(file))
        except YamlError as error:  # now, not when the search has begun
            raise refuse(str(error.problems[0])) from None
    return file


def _training_file(text: str, info: ValidationInfo) -> str:
    return named_file(text, shipped_recipes("train"), info)


class ReportSection(Section):
    """What is shown and where the run folder goes."""

    top: int = Field(default=10, ge=1, le=1000, description="How many architectures are shown.")
    folder: str = Field(default="runs", min_length=1, description="Where run folders are made.")


def _bound(value: object, info: ValidationInfo) -> object:
    """Return what bounds a quantity, after it could be read."""
    if value is not None:
        try:
            parse_bounds(str(info.field_name), value)
        except NasError as error:
            raise refuse(str(error).partition(": ")[2] or str(error)) from None
    return value


Bounded: TypeAlias = Annotated[
    float | str | list[float | str] | None, BeforeValidator(_bound), Field(default=None)
]


class ConstraintsSection(Section):
    """Limits: '<= NUMBER', '>= NUMBER', a number (at most so much), or a list of those."""

    params: Bounded = Field(default=None, description="Trainable weights.")
    flops: Bounded = Field(default=None, description="Multiply-accumulates for one image.")
    latency_ms: Bounded = Field(default=None, description="Milliseconds, by `latency`.")
    memory_mb: Bounded = Field(
        default=None, description="Peak memory of inference with one image, 10^6 bytes."
    )


def _objectives(names: list[str] | None) -> list[str] | None:
    """Return the objectives, each of which could be read."""
    for name in names or ():
        try:
            objective = parse_objective(name)
            if objective.name not in (*OWN, *QUANTITIES):
                ProxySpec.parse(objective.name)
        except NasError as error:
            raise refuse(f"{error}; beside proxies: {', '.join((*OWN, *QUANTITIES))}") from None
    if names is not None and len(names) < 2:
        raise refuse(f"expected at least two, got {shown(names)}")
    return names


def _latency_file(text: str, info: ValidationInfo) -> str:
    """Return ``measure``, or a table's column or a look-up table with an absolute path."""
    if text == MEASURE:
        return text
    if text.endswith((".yaml", ".yml")):
        return existing(text, info)
    if ":" in text:
        return benchmark_column(text, info)
    raise refuse(
        "expected 'measure', a table's 'FILE.csv:COLUMN' or the 'FILE.yaml' of a look-up table, "
        f"got {text!r}"
    )


class OracleSection(Section):
    """What judges, where it is no proxy in the narrow sense."""

    predictor: str = Field(
        min_length=1, description="A file that `nas fit` wrote, or the name of a shipped predictor."
    )


class TrainSection(Section):
    """Final trainings after the search."""

    recipe: Annotated[str, AfterValidator(_training_file)] = Field(
        description="How to train: a file, or the name of a shipped recipe for `nas train`."
    )
    top: int = Field(default=1, ge=1, le=1000, description="How many of the best are trained.")
    random: int = Field(
        default=0, ge=0, le=1000, description="How many random ones of their size, to compare."
    )
    set: dict[str, Any] = Field(
        default={}, description="Settings of that recipe by dotted key, such as data.root."
    )


class Recipe(Section):
    """One search, completely described."""

    name: Annotated[str, AfterValidator(run_name)] = Field(
        default="search",
        description="Part of the run folder's name; the file's name when left out.",
    )
    summary: str = Field(default="", description="One line for a person.")
    space: Annotated[str, AfterValidator(space_name)] = Field(
        description="Where to search: a name (`nas list` shows them), the FILE.yaml of a space of "
        "your own, or package.module:SPACE."
    )
    proxy: Annotated[str, BeforeValidator(_proxy)] = Field(
        description="What to search by: a name, 'name:option=value,...', or a mapping with a name."
    )
    oracle: OracleSection | None = Field(
        default=None, exclude=True, description="A fitted predictor in the place of a proxy."
    )
    strategy: Annotated[Choice, BeforeValidator(_strategy)] = Field(
        default_factory=lambda: _strategy(DEFAULT_STRATEGY),
        description="How to propose: a name, or a mapping with a name and options.",
    )
    budget: int = Field(default=500, ge=1, le=100_000_000, description="Architectures to score.")
    batch: int = Field(
        default=BATCH, ge=1, le=100_000, description="Architectures proposed at a time."
    )
    ahead: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="Batches proposed before the first of them is scored, to keep workers busy.",
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="Everything random follows from it.")
    tie_break: Annotated[str, BeforeValidator(_proxy)] | None = Field(
        default=None, description="Proxy that orders equal scores; fewer parameters when left out."
    )
    direction: Literal["maximise", "minimise"] = Field(
        default="maximise", description="Whether a high or a low score is good."
    )
    exhaustive: Literal["never", "when_cheaper"] = Field(
        default="never",
        description="Whether to rank the whole space instead, where that is cheaper than the "
        "budget would be with networks run one by one.",
    )
    constraints: ConstraintsSection = Field(
        default=ConstraintsSection(), description="Limits, checked before anything is scored."
    )
    objectives: Annotated[list[str], AfterValidator(_objectives)] | None = Field(
        default=None,
        description="Several things to search for, such as [score, -latency_ms]; less is better "
        "where a minus stands before the name.",
    )
    latency: Annotated[str, AfterValidator(_latency_file)] | None = Field(
        default=None,
        description="Where latencies come from: 'measure' (on this machine), FILE.csv:COLUMN, or "
        "FILE.yaml as `nas latency --fit` writes it.",
    )
    conditions: ConditionsSection = Field(
        default=ConditionsSection(), description="What else a score depends on."
    )
    benchmark: Annotated[str, AfterValidator(benchmark_column)] | None = Field(
        default=None,
        description="FILE:COLUMN of true accuracies; for the report only, never searched by.",
    )
    cache: Annotated[str, AfterValidator(written)] | None = Field(
        default=None, description="Score cache shared between runs; in the run folder when null."
    )
    workers: int = Field(
        default=0,
        ge=0,
        le=100_000,
        description="Processes that score; 0 is that of the search. The result is the same.",
    )
    executor: Annotated[Choice, BeforeValidator(_executor)] = Field(
        default_factory=lambda: _executor(DEFAULT_EXECUTOR),
        description="Who the workers are: processes, ray or ray://HOST:PORT, or a mapping with a "
        "name and options.",
    )
    report: ReportSection = Field(default=ReportSection(), description="What is shown.")
    train: TrainSection | None = Field(
        default=None, description="Final trainings of the best, after the search."
    )

    @model_validator(mode="after")
    def _trains_what_is_shown(self) -> Recipe:
        if self.train is not None and self.train.top > self.report.top:
            raise refuse(
                f"train.top is {self.train.top}, but only report.top = {self.report.top} "
                "architectures are kept; raise that one too"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _formula_is_a_proxy(cls, values: Any, info: ValidationInfo) -> Any:  # noqa: ANN401
        """Let ``proxy: {formula: FILE}`` stand for ``proxy: {name: formula, file: FILE}``."""
        named = values.get("proxy")
        if not isinstance(named, Mapping) or "name" in named or "formula" not in named:
            return values
        if not isinstance(named["formula"], str):
            raise refuse(f"proxy.formula: expected a file, got {shown(named['formula'])}")
        rest = {key: value for key, value in named.items() if key != "formula"}
        file = _formula_file(named["formula"], info)
        return {**values, "proxy": {"name": "formula", "file": file, **rest}}

    @model_validator(mode="before")
    @classmethod
    def _predictor_is_a_proxy(cls, values: Any, info: ValidationInfo) -> Any:  # noqa: ANN401
        """Let ``oracle: {predictor: FILE}`` stand for ``proxy: {name: predicted, file: FILE}``."""
        named = values.get("oracle")
        if "proxy" in values and "oracle" in values:
            raise refuse("expected a proxy or an oracle, got both")
        if isinstance(named, Mapping) and isinstance(named.get("predictor"), str):
            file = _predictor_file(named["predictor"], info)
            rest = {
                key: value for key, value in values.items() if key != "oracle" or len(named) > 1
            }
            values = {**rest, "proxy": {"name": "predicted", "file": file}}
        elif "oracle" in values:  # so that only its own fault is told
            values = {**values, "proxy": "predicted"}
        return values

    def resolved(self) -> dict[str, Any]:
        """Return every setting as plain values; reading them back gives an equal recipe."""
        values = self.model_dump(mode="json")
        for key in ("strategy", "executor"):
            values[key] = {"name": values[key]["name"], **values[key]["options"]}
        for key in ("proxy", "tie_break"):
            if values[key] is not None:  # defaults too, for those of a later version may differ
                spec = ProxySpec.parse(values[key])
                values[key] = {"name": spec.name, **spec.settings}
        return values

    def to_yaml(self) -> str:
        """Return the resolved recipe as a file that can be run again."""
        return plain_yaml.dump(self.resolved())

    def searcher(self, *, cache: Path | None) -> Searcher:
        """Return the search that this recipe describes.

        Args:
            cache: Where scores are kept; the recipe's own ``cache`` wins.
        """
        return Searcher(
            space=self.space,
            proxy=self.proxy,
            strategy=self.strategy.name,
            strategy_options=self.strategy.options,
            budget=self.budget,
            batch=self.batch,
            seed=self.seed,
            tie_break=self.tie_break,
            direction=self.direction,
            exhaustive=self.exhaustive,
            constraints={
                name: given
                for name, given in self.constraints.model_dump().items()
                if given is not None
            },
            objectives=self.objectives,
            latency=self.latency,
            ahead=self.ahead,
            workers=self.workers,
            executor=self.executor.name,
            executor_options=self.executor.options,
            cache=self.cache or cache,
            **self.conditions.model_dump(),
        )

    def truth(self) -> Truth | None:
        """Return the column of the benchmark table that the report compares with, if any."""
        if self.benchmark is None:
            return None
        from nas.benchmark.table import parse_truth  # late: few recipes name a table

        return parse_truth(self.benchmark, find_space(self.space))


SEARCH = Kind(
    Recipe,
    sections={
        "conditions": ConditionsSection,
        "constraints": ConstraintsSection,
        "report": ReportSection,
        "oracle": OracleSection,
        "train": TrainSection,
    },
    selectors={
        "proxy": PROXIES,
        "tie_break": PROXIES,
        "strategy": STRATEGIES,
        "executor": EXECUTORS,
    },
)


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file.

    Args:
        path: The file.
        overrides: ``dotted.key=value`` texts, applied in order; the value is YAML.

    Raises:
        RecipeError: With every fault of the file and of the overrides.
    """
    recipe = load_kind(SEARCH, path, overrides)
    assert isinstance(recipe, Recipe)
    return recipe


def parse_recipe(
    text: str,
    source: str,
    overrides: Sequence[str] = (),
    *,
    folder: Path | None = None,
    name: str = "search",
) -> Recipe:
    """Read a recipe from a text.

    Args:
        text: YAML.
        source: What to call it in messages.
        overrides: As for :func:`load_recipe`.
        folder: Where paths are looked up after the current folder.
        name: The recipe's name when the text gives none.

    Raises:
        RecipeError: With every fault of the text and of the overrides.
    """
    recipe = parse_kind(SEARCH, text, source, overrides, folder=folder, name=name)
    assert isinstance(recipe, Recipe)
    return recipe
