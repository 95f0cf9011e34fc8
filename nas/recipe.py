"""Recipes: a YAML file that says what to search, read into frozen, strictly checked values.

``load_recipe`` finds every fault of a file at once, the names of spaces, proxies, strategies and
of their options included, and says of each where it is, what came and what is allowed::

    recipes/x.yaml:7: budgte: unknown key; did you mean 'budget'?

A path inside a recipe (``benchmark``, ``conditions.images``) is looked up from the current folder
first and then from the folder of the recipe; ``cache`` and ``report.folder``, which are written,
are always relative to the current folder. A resolved recipe (``Recipe.to_yaml``) holds absolute
paths and every default, so it means the same from anywhere.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    create_model,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from nas import plain_yaml
from nas.engine import BATCH, Searcher
from nas.hardware.source import MEASURE
from nas.limits import parse_bounds
from nas.objectives import OWN, parse_objective
from nas.plain_yaml import Document, Problem, YamlError, dotted
from nas.plugins import GROUPS, look_up_or_load
from nas.proxies import PROXIES
from nas.proxies.base import Proxy, ProxySpec
from nas.quantities import QUANTITIES
from nas.space_file import find_space
from nas.workers import DEFAULT_EXECUTOR, EXECUTORS
from searchers import STRATEGIES, StrategyInfo
from spaces import SPACES
from spaces.errors import NasError, did_you_mean, look_up

if TYPE_CHECKING:
    from nas.benchmark.table import Truth

COMMAND_LINE = "<command line>"
DEFAULT_STRATEGY = "evolution"
SCHEMA_NAME = "recipe.schema.json"


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a recipe of some kind may hold.

    Attributes:
        model: Its values.
        sections: Keys that hold a mapping of their own.
        selectors: Keys that hold a name, or a mapping of a name and its options; and their tables.
    """

    model: type[BaseModel]
    sections: Mapping[str, type[BaseModel]]
    selectors: Mapping[str, Mapping[str, Any]]


class RecipeError(YamlError):
    """A recipe that cannot be used; the message has one line per fault."""


class Section(BaseModel):
    """Part of a recipe: strict about kinds of values, and about keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class Choice(Section):
    """A strategy by name, with its options; those left out are at their defaults."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


def refuse(text: str) -> PydanticCustomError:
    """Return the error by which a validator refuses a value, in our own words."""
    return PydanticCustomError("refused", "{text}", {"text": text})


def space_name(name: str, info: ValidationInfo) -> str:
    """Return the name of a space, checked; that of a file with an absolute path."""
    if name.endswith((".yaml", ".yml")):
        name = _existing(name, info)
    try:
        find_space(name)
    except NasError as error:
        raise refuse(str(error)) from None
    return name


def _proxy(value: object) -> object:
    """Return the text form of a proxy that came as text or as a mapping with a name."""
    try:
        if isinstance(value, str):
            return str(ProxySpec.parse(value))
        if isinstance(value, Mapping):
            name, options = _name_and_options(value)
            proxy = look_up_or_load(PROXIES, name, kind="proxy", expected=Proxy)
            return str(ProxySpec.make(name, _check_options(proxy.options, options)))
    except NasError as error:
        raise refuse(str(error)) from None
    except RecursionError:
        raise refuse(f"nested too deeply, got {shown(value)}") from None
    raise refuse(f"expected a proxy's name, or a mapping with one, got {shown(value)}")


def choice_of(table: Mapping[str, Any], kind: str, value: object) -> Choice:
    """Return the choice that a text or a mapping with a name stands for, defaults filled in.

    Args:
        table: What there is to choose from; its entries have ``options``, a dataclass.
        kind: What it holds, for messages.
        value: What the recipe says.
    """
    if isinstance(value, Choice):
        return value
    if not isinstance(value, str | Mapping):
        raise refuse(f"expected a {kind}'s name, or a mapping with one, got {shown(value)}")
    name, options = _name_and_options({"name": value} if isinstance(value, str) else value)
    try:
        expected = StrategyInfo if kind == "strategy" else object
        if kind in GROUPS:
            chosen = look_up_or_load(table, name, kind=kind, expected=expected)
        else:
            chosen = look_up(table, name, kind=kind)
    except NasError as error:
        raise refuse(str(error)) from None
    given = _check_options(chosen.options, options)
    defaults = {
        field.name: field.default
        for field in dataclasses.fields(chosen.options)
        if field.default is not dataclasses.MISSING
    }
    return Choice(name=name, options=defaults | given)


def _strategy(value: object) -> Choice:
    return choice_of(STRATEGIES, "strategy", value)


def _executor(value: object) -> Choice:
    if isinstance(value, str) and value.startswith("ray://"):
        value = {"name": "ray", "address": value}
    return choice_of(EXECUTORS, "executor", value)


def _name_and_options(value: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    name = value.get("name")
    if not isinstance(name, str):
        got = f"got {shown(name)}" if "name" in value else "got none"
        raise refuse(f"expected a mapping with the key 'name', a text, {got}")
    return name, {key: option for key, option in value.items() if key != "name"}


@functools.cache
def _options_model(options: type) -> type[BaseModel]:
    """Return a strict model with the fields of the dataclass ``options``."""
    hints = typing.get_type_hints(options)
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(options):
        default = ... if field.default is dataclasses.MISSING else field.default
        if field.default_factory is not dataclasses.MISSING:
            default = Field(default_factory=field.default_factory)
        fields[field.name] = (hints[field.name], default)
    return create_model(options.__name__, __base__=Section, **fields)


def _check_options(options: type, given: dict[str, Any]) -> dict[str, Any]:
    """Return ``given`` after checking its keys, types and values against a dataclass.

    A pydantic error raised here gets the path of the surrounding field in front of its own.
    """
    # As JSON, for a list may then stand for a tuple and a mapping for a dataclass.
    checked = _options_model(options).model_validate_json(json.dumps(given))
    values = {key: getattr(checked, key) for key in given}
    try:
        options(**values)  # the dataclass knows the ranges
    except (NasError, ValueError) as error:
        culprit = re.split(r"\W", str(error), maxsplit=1)[0]  # "population must be at least 2, ..."
        place = (culprit,) if culprit in given else ()
        details = InitErrorDetails(type=refuse(str(error)), loc=place, input=given)
        raise ValidationError.from_exception_data(options.__name__, [details]) from None
    return values


def _existing(text: str, info: ValidationInfo) -> str:
    """Return the absolute path of a file named in a recipe."""
    folders = [Path.cwd(), *(info.context or {}).get("folders", [])]
    for folder in folders:
        path = folder / _expanded(text)
        if _is_file(path):
            return str(path.resolve())
    looked = " and ".join(dict.fromkeys(str(folder) for folder in folders))
    raise refuse(f"no such file: {text!r}; looked in {looked}")


def located(text: str, info: ValidationInfo) -> str:
    """Return the absolute path of a file or folder that need not be there yet.

    Looked up from the current folder, then from that of the recipe; where it is in neither, it is
    that of the current folder.
    """
    expanded = _expanded(text)
    for folder in (Path.cwd(), *(info.context or {}).get("folders", [])):
        if (folder / expanded).exists():
            return str((folder / expanded).resolve())
    return str(Path.cwd() / expanded)


def benchmark_column(text: str, info: ValidationInfo) -> str:
    """Return ``FILE:COLUMN`` with an absolute path."""
    path, colon, column = text.rpartition(":")
    if not colon or not path or not column:
        raise refuse(f"expected FILE:COLUMN such as 'table.csv.gz:c10_test_200', got {text!r}")
    return f"{_existing(path, info)}:{column}"


def _predictor_file(text: str, info: ValidationInfo) -> str:
    """Return the name of a shipped predictor, or the absolute path of a file."""
    from nas.predictor.shipped import shipped_predictors  # late: few recipes name one

    return _named_file(text, shipped_predictors(), info)


def _formula_file(text: str, info: ValidationInfo) -> str:
    """Return the name of a shipped formula, or the absolute path of a file that holds one."""
    from nas.design.formula import read_formula, shipped_formulas  # late: few recipes name one

    file = _named_file(text, shipped_formulas(), info)
    if file not in shipped_formulas():
        try:
            read_formula(Path(file))
        except YamlError as error:  # now, not when the search has begun
            raise refuse(str(error.problems[0])) from None
    return file


def _named_file(text: str, shipped: Mapping[str, Path], info: ValidationInfo) -> str:
    """Return the name of something shipped as it is, or the absolute path of a file."""
    if text in shipped:
        return text
    try:
        return _existing(text, info)
    except PydanticCustomError as error:
        hint = did_you_mean(text, list(shipped)).replace(" Did", "; did", 1)
        raise refuse(f"{error}{hint}; shipped: {', '.join(shipped) or 'none'}") from None


def _written(text: str) -> str:
    return str(Path.cwd() / _expanded(text))


def check_device_name(text: str) -> str:
    """Return the name of a device that torch may have, checked."""
    kind, _, number = text.partition(":")
    allowed = kind in ("cpu", "cuda", "mps") and (number.isdecimal() or number == "")
    if not allowed or text.endswith(":"):
        raise refuse(f"expected 'cpu', 'cuda', 'cuda:N' or 'mps', got {text!r}")
    return text


def run_name(text: str) -> str:
    """Return a name that may be that of a folder, checked."""
    if not text or len(text) > 60 or not all(c.isalnum() or c in "-_." for c in text):
        raise refuse(
            f"expected 1 to 60 letters, digits, '-', '_' or '.', for a folder's name, got {text!r}"
        )
    return text


def _expanded(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # "~nobody"
        return Path(text)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long for the file system, or forbidden to look at
        return False


class ConditionsSection(Section):
    """Everything besides the architecture that a score depends on."""

    num_classes: int = Field(default=10, ge=1, le=100_000, description="Width of the classifier.")
    resolution: int = Field(
        default=32, ge=8, le=1024, description="Height and width of the image, pixels."
    )
    repeats: int = Field(default=1, ge=1, le=1000, description="Scores averaged per architecture.")
    images: Annotated[str, AfterValidator(_existing)] | None = Field(
        default=None, description="File of images to score on; random noise when left out."
    )
    minibatch: int = Field(
        default=64, ge=2, le=10_000, description="Images at a time, where a proxy reads several."
    )
    dtype: Literal["float32", "float64"] = Field(
        default="float32", description="Precision of the network."
    )
    device: Annotated[str, AfterValidator(check_device_name)] = Field(
        default="cpu", description="cpu, cuda, cuda:N or mps."
    )


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
        return _existing(text, info)
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


def _training_file(text: str, info: ValidationInfo) -> str:
    return _named_file(text, shipped_recipes("train"), info)


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
    cache: Annotated[str, AfterValidator(_written)] | None = Field(
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
    selectors={"proxy": PROXIES, "tie_break": PROXIES, "strategy": STRATEGIES},
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


def load_kind(kind: Kind, path: Path, overrides: Sequence[str] = ()) -> BaseModel:
    """As :func:`load_recipe`, for a recipe of any kind."""
    try:
        text = plain_yaml.read(path)
    except YamlError as error:
        raise RecipeError(list(error.problems)) from None
    return parse_kind(kind, text, str(path), overrides, folder=path.parent, name=path.stem)


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


def parse_kind(
    kind: Kind,
    text: str,
    source: str,
    overrides: Sequence[str] = (),
    *,
    folder: Path | None = None,
    name: str,
) -> BaseModel:
    """As :func:`parse_recipe`, for a recipe of any kind."""
    problems: list[Problem] = []
    try:
        document = plain_yaml.parse(text, source)
    except YamlError as error:
        raise RecipeError(list(error.problems)) from None
    if document.value is None:
        document.value = {}
    if not isinstance(document.value, dict):
        what = f"a recipe is a mapping of keys to values, got {shown(document.value)}"
        raise RecipeError([Problem(document.place(()), "", what)])
    for override in overrides:
        problems += _override(kind, document, override)
    document.value.setdefault("name", name)
    context = {"folders": [] if folder is None else [folder.absolute()]}
    try:
        recipe = kind.model.model_validate(document.value, context=context)
    except ValidationError as error:
        known = {(problem.where, problem.path) for problem in (*document.problems, *problems)}
        found = error.errors(include_url=False)
        explained = [_explain(kind, details, document) for details in found]
        problems += [new for new in explained if (new.where, new.path) not in known]
    problems = [*document.problems, *problems]
    if problems:
        raise RecipeError(sorted(dict.fromkeys(problems), key=_line))
    return recipe


def _line(problem: Problem) -> tuple[bool, int]:
    """Return what sorts problems by line, those of the command line last."""
    line = problem.where.rpartition(":")[2]
    return problem.where == COMMAND_LINE, int(line) if line.isdecimal() else 0


def _override(kind: Kind, document: Document, override: str) -> list[Problem]:
    """Change ``document`` as ``dotted.key=value`` says; return what is wrong with it."""
    key, equals, text = override.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        what = f"expected dotted.key=value such as budget=100, got {override!r}"
        return [Problem(COMMAND_LINE, "", what)]
    try:
        given = plain_yaml.parse(text, COMMAND_LINE, numbered=False)
    except YamlError as error:
        return [Problem(COMMAND_LINE, key, problem.text) for problem in error.problems]
    target: Any = document.value
    for depth, step in enumerate(path[:-1]):
        inner = target.get(step, DEFAULT_STRATEGY if path[:1] == ("strategy",) else {})
        if step in kind.selectors and depth == 0 and not isinstance(inner, dict):
            inner = _spelled_out(step, inner)
        if not isinstance(inner, dict):
            what = f"{dotted(path[: depth + 1])} is {shown(inner)}, which has no keys"
            return [Problem(COMMAND_LINE, key, what)]
        target[step] = inner
        target = inner
    target[path[-1]] = given.value
    known = [place for place in document.places if place[: len(path)] == path]
    for place in known:
        del document.places[place]
    document.places |= {(*path, *place): COMMAND_LINE for place in given.places}
    return [Problem(COMMAND_LINE, key, problem.text) for problem in given.problems]


def _spelled_out(selector: str, value: object) -> object:
    """Return ``{name: evolution}`` for ``evolution``, so that an override can add an option."""
    if not isinstance(value, str) or selector == "strategy":
        return {"name": value} if isinstance(value, str) else value
    try:
        spec = ProxySpec.parse(value)
    except NasError:
        return {"name": value}  # the name is faulty, and reported as such by the validation
    return {"name": spec.name, **spec.settings}


_KINDS = {
    "int": "int",
    "float": "a number",
    "string": "text",
    "bool": "true or false",
    "model": "a mapping of keys to values",
    "dict": "a mapping of keys to values",
    "list": "a list",
    "tuple": "a list",
}
_LIMITS = {
    "greater_than_equal": ("must be at least {}", "ge"),
    "greater_than": ("must be more than {}", "gt"),
    "less_than_equal": ("must be at most {}", "le"),
    "less_than": ("must be less than {}", "lt"),
    "string_too_short": ("must have at least {} character", "min_length"),
    "too_short": ("must have at least {} entry", "min_length"),
}


def _explain(recipe: Kind, details: ErrorDetails, document: Document) -> Problem:
    """Return a pydantic error in the words of this project."""
    path = tuple(details["loc"])
    kind, got, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "refused":
        text = str(context["text"])
    elif kind == "extra_forbidden":
        text = _unknown_key(recipe, path, document)
    elif kind == "missing":
        return Problem(document.place(path[:-1]), dotted(path), "required, but missing")
    elif kind == "literal_error":
        text = _not_among(str(context["expected"]), got)
    elif kind in _LIMITS:
        template, key = _LIMITS[kind]
        text = f"{template.format(context[key])}, got {shown(got)}"
    elif kind.split("_")[0] in _KINDS:
        text = f"expected {_KINDS[kind.split('_')[0]]}, got {shown(got)}"
        if kind.startswith("int") and isinstance(got, float) and got.is_integer():
            text += f"; write {int(got)}"
    else:
        text = f"{details['msg'][:1].lower()}{details['msg'][1:]}, got {shown(got)}"
    return Problem(document.place(path), dotted(path), text)


def _unknown_key(recipe: Kind, path: plain_yaml.Path, document: Document) -> str:
    known = _known_keys(recipe, path[:-1], document.value)
    hint = did_you_mean(str(path[-1]), known)
    return (
        f"unknown key{hint.replace(' Did', '; did', 1)}{'' if hint else '.'} Known: "
        + ", ".join(known)
    )


def _known_keys(kind: Kind, path: plain_yaml.Path, recipe: dict[str, Any]) -> list[str]:
    """Return the keys that the mapping at ``path`` of a recipe may have."""
    section = str(path[0]) if path else ""
    if section in kind.sections:
        return list(kind.sections[section].model_fields)
    if section in kind.selectors:
        # Without a name it is {formula: FILE}.
        options = kind.selectors[section][recipe[section].get("name", "formula")].options
        return ["name", *(field.name for field in dataclasses.fields(options))]
    return list(kind.model.model_fields)


def _not_among(expected: str, got: object) -> str:
    allowed = expected.replace("'", "").replace(" or ", ", ").split(", ")
    hint = did_you_mean(got, allowed) if isinstance(got, str) else ""
    return f"expected {expected}, got {shown(got)}{hint.replace(' Did', '; did', 1)}"


def shown(value: object) -> str:
    """Return how a value looks in a message: quoted, short, and ``nothing`` for null."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def shipped_folder() -> Path:
    """Return where the recipes that come with the package lie.

    In a wheel they are data of the package, ``nas/recipes/``; in a checkout they stand beside it.
    """
    here = Path(__file__).resolve().parent
    inside = here / "recipes"
    return inside if inside.is_dir() else here.parent / "recipes"


def shipped_recipes(command: str = "") -> dict[str, Path]:
    """Return the recipes that come with the package, by name.

    Args:
        command: Of ``nas``, whose recipes have a folder of their own: ``fit``, ``design``,
            ``train``. Empty: recipes of searches.
    """
    return {path.stem: path for path in sorted((shipped_folder() / command).glob("*.yaml"))}


def resolve_recipe_path(text: str, command: str = "") -> Path:
    """Return the file that ``text`` means: a path, or the name of a shipped recipe.

    Args:
        text: What the user wrote.
        command: As for :func:`shipped_recipes`.

    Raises:
        NasError: There is no such file and no such recipe.
    """
    path = _expanded(text)
    if _is_file(path):
        return path
    shipped = shipped_recipes(command)
    if text in shipped:
        return shipped[text]
    hint = did_you_mean(path.stem, shipped).replace(" Did you mean", " Did you mean the recipe")
    which = f"no recipe for nas {command}" if command else "no recipe"
    raise NasError(
        f"{text}: no such file, and {which} of this name comes with the package."
        f"{hint} Known: {', '.join(shipped)}"
    )


def recipe_schema() -> dict[str, Any]:
    """Return the JSON schema that editors check and complete recipes with."""
    schema = Recipe.model_json_schema()
    definitions, properties = schema["$defs"], schema["properties"]
    del definitions["Choice"]
    own = {
        "type": "string",
        "pattern": r"(\.ya?ml$|:)",
        "description": "FILE.yaml, or module:SPACE",
    }
    _rename(properties, "space", {"anyOf": [{"enum": sorted(SPACES)}, own]})
    strategies = _selector_schema({name: info.options for name, info in STRATEGIES.items()})
    proxies = _selector_schema({name: proxy.options for name, proxy in PROXIES.items()})
    names = "|".join(sorted(PROXIES))
    proxies["anyOf"][0] = {"type": "string", "pattern": f"^({names})(:.+)?$"}
    proxies["anyOf"].append(
        {
            "type": "object",
            "properties": {"formula": {"type": "string", "description": "A formula's file."}},
            "required": ["formula"],
            "additionalProperties": False,
        }
    )
    definitions |= {"Strategy": strategies, "Proxy": proxies}
    _rename(properties, "strategy", {"$ref": "#/$defs/Strategy"})
    _rename(properties, "proxy", {"$ref": "#/$defs/Proxy"})
    _rename(properties, "tie_break", {"anyOf": [{"$ref": "#/$defs/Proxy"}, {"type": "null"}]})
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _rename(properties: dict[str, Any], key: str, form: dict[str, Any]) -> None:
    """Replace the form of one property, keeping what describes it."""
    kept = {k: v for k, v in properties[key].items() if k in ("description", "title", "default")}
    properties[key] = {**form, **kept}


def _selector_schema(options: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a name, or of a mapping with a name and the options it allows."""
    forms: list[dict[str, Any]] = [{"type": "string", "enum": sorted(options)}]
    for name in sorted(options):
        form = _options_model(options[name]).model_json_schema()
        form["properties"] = {"name": {"const": name}, **form.get("properties", {})}
        form["required"] = ["name", *form.get("required", [])]
        forms.append(form)
    return {"anyOf": forms}
