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
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    create_model,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from nas import plain_yaml
from nas.engine import BATCH, Searcher
from nas.plain_yaml import Document, Problem, YamlError, dotted
from nas.proxies import PROXIES
from nas.proxies.base import ProxySpec
from searchers import STRATEGIES
from spaces import SPACES
from spaces.errors import NasError, did_you_mean, look_up

if TYPE_CHECKING:
    from nas.benchmark.table import Truth

COMMAND_LINE = "<command line>"
DEFAULT_STRATEGY = "evolution"
SCHEMA_NAME = "recipe.schema.json"
_SELECTORS = ("proxy", "tie_break", "strategy")  # a name, or a mapping of a name and its options


class RecipeError(YamlError):
    """A recipe that cannot be used; the message has one line per fault."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class StrategyChoice(_Section):
    """A strategy by name, with its options; those left out are at their defaults."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


def _refuse(text: str) -> PydanticCustomError:
    return PydanticCustomError("refused", "{text}", {"text": text})


def _space_name(name: str) -> str:
    try:
        look_up(SPACES, name, kind="space")
    except NasError as error:
        raise _refuse(str(error)) from None
    return name


def _proxy(value: object) -> object:
    """Return the text form of a proxy that came as text or as a mapping with a name."""
    try:
        if isinstance(value, str):
            return str(ProxySpec.parse(value))
        if isinstance(value, Mapping):
            name, options = _name_and_options(value)
            proxy = look_up(PROXIES, name, kind="proxy")
            return str(ProxySpec.make(name, _check_options(proxy.options, options)))
    except NasError as error:
        raise _refuse(str(error)) from None
    except RecursionError:
        raise _refuse(f"nested too deeply, got {shown(value)}") from None
    raise _refuse(f"expected a proxy's name, or a mapping with one, got {shown(value)}")


def _strategy(value: object) -> StrategyChoice:
    """Return the choice that a text or a mapping with a name stands for, defaults filled in."""
    if isinstance(value, StrategyChoice):
        return value
    if not isinstance(value, str | Mapping):
        raise _refuse(f"expected a strategy's name, or a mapping with one, got {shown(value)}")
    name, options = _name_and_options({"name": value} if isinstance(value, str) else value)
    try:
        strategy = look_up(STRATEGIES, name, kind="strategy")
    except NasError as error:
        raise _refuse(str(error)) from None
    given = _check_options(strategy.options, options)
    defaults = {
        field.name: field.default
        for field in dataclasses.fields(strategy.options)
        if field.default is not dataclasses.MISSING
    }
    return StrategyChoice(name=name, options=defaults | given)


def _name_and_options(value: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    name = value.get("name")
    if not isinstance(name, str):
        got = f"got {shown(name)}" if "name" in value else "got none"
        raise _refuse(f"expected a mapping with the key 'name', a text, {got}")
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
    return create_model(options.__name__, __base__=_Section, **fields)


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
        details = InitErrorDetails(type=_refuse(str(error)), loc=place, input=given)
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
    raise _refuse(f"no such file: {text!r}; looked in {looked}")


def _benchmark(text: str, info: ValidationInfo) -> str:
    """Return ``FILE:COLUMN`` with an absolute path."""
    path, colon, column = text.rpartition(":")
    if not colon or not path or not column:
        raise _refuse(f"expected FILE:COLUMN such as 'table.csv.gz:c10_test_200', got {text!r}")
    return f"{_existing(path, info)}:{column}"


def _written(text: str) -> str:
    return str(Path.cwd() / _expanded(text))


def _device(text: str) -> str:
    kind, _, number = text.partition(":")
    allowed = kind in ("cpu", "cuda", "mps") and (number.isdecimal() or number == "")
    if not allowed or text.endswith(":"):
        raise _refuse(f"expected 'cpu', 'cuda', 'cuda:N' or 'mps', got {text!r}")
    return text


def _run_name(text: str) -> str:
    if not text or len(text) > 60 or not all(c.isalnum() or c in "-_." for c in text):
        raise _refuse(
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


class ConditionsSection(_Section):
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
    device: Annotated[str, AfterValidator(_device)] = Field(
        default="cpu", description="cpu, cuda, cuda:N or mps."
    )


class ReportSection(_Section):
    """What is shown and where the run folder goes."""

    top: int = Field(default=10, ge=1, le=1000, description="How many architectures are shown.")
    folder: str = Field(default="runs", min_length=1, description="Where run folders are made.")


class Recipe(_Section):
    """One search, completely described."""

    name: Annotated[str, AfterValidator(_run_name)] = Field(
        default="search",
        description="Part of the run folder's name; the file's name when left out.",
    )
    summary: str = Field(default="", description="One line for a person.")
    space: Annotated[str, AfterValidator(_space_name)] = Field(
        description="Where to search; `nas list` shows the names."
    )
    proxy: Annotated[str, BeforeValidator(_proxy)] = Field(
        description="What to search by: a name, 'name:option=value,...', or a mapping with a name."
    )
    strategy: Annotated[StrategyChoice, BeforeValidator(_strategy)] = Field(
        default_factory=lambda: _strategy(DEFAULT_STRATEGY),
        description="How to propose: a name, or a mapping with a name and options.",
    )
    budget: int = Field(default=500, ge=1, le=100_000_000, description="Architectures to score.")
    batch: int = Field(
        default=BATCH, ge=1, le=100_000, description="Architectures proposed at a time."
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
    conditions: ConditionsSection = Field(
        default=ConditionsSection(), description="What else a score depends on."
    )
    benchmark: Annotated[str, AfterValidator(_benchmark)] | None = Field(
        default=None,
        description="FILE:COLUMN of true accuracies; for the report only, never searched by.",
    )
    cache: Annotated[str, AfterValidator(_written)] | None = Field(
        default=None, description="Score cache shared between runs; in the run folder when null."
    )
    report: ReportSection = Field(default=ReportSection(), description="What is shown.")

    def resolved(self) -> dict[str, Any]:
        """Return every setting as plain values; reading them back gives an equal recipe."""
        values = self.model_dump(mode="json")
        strategy = values["strategy"]
        values["strategy"] = {"name": strategy["name"], **strategy["options"]}
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
            cache=self.cache or cache,
            **self.conditions.model_dump(),
        )

    def truth(self) -> Truth | None:
        """Return the column of the benchmark table that the report compares with, if any."""
        if self.benchmark is None:
            return None
        from nas.benchmark.table import parse_truth  # late: few recipes name a table

        return parse_truth(self.benchmark, SPACES[self.space])


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file.

    Args:
        path: The file.
        overrides: ``dotted.key=value`` texts, applied in order; the value is YAML.

    Raises:
        RecipeError: With every fault of the file and of the overrides.
    """
    try:
        text = path.read_bytes()[: plain_yaml.MAX_CHARACTERS * 4 + 1].decode("utf-8-sig")
    except OSError as error:
        raise RecipeError([Problem(str(path), "", f"cannot read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        what = f"a recipe is UTF-8 text, byte {error.start} is not"
        raise RecipeError([Problem(str(path), "", what)]) from None
    return parse_recipe(text, str(path), overrides, folder=path.parent, name=path.stem)


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
        problems += _override(document, override)
    document.value.setdefault("name", name)
    context = {"folders": [] if folder is None else [folder.absolute()]}
    try:
        recipe = Recipe.model_validate(document.value, context=context)
    except ValidationError as error:
        known = {(problem.where, problem.path) for problem in (*document.problems, *problems)}
        explained = [_explain(details, document) for details in error.errors(include_url=False)]
        problems += [found for found in explained if (found.where, found.path) not in known]
    problems = [*document.problems, *problems]
    if problems:
        raise RecipeError(sorted(dict.fromkeys(problems), key=_line))
    return recipe


def _line(problem: Problem) -> tuple[bool, int]:
    """Return what sorts problems by line, those of the command line last."""
    line = problem.where.rpartition(":")[2]
    return problem.where == COMMAND_LINE, int(line) if line.isdecimal() else 0


def _override(document: Document, override: str) -> list[Problem]:
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
        if step in _SELECTORS and depth == 0 and not isinstance(inner, dict):
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
}


def _explain(details: ErrorDetails, document: Document) -> Problem:
    """Return a pydantic error in the words of this project."""
    path = tuple(details["loc"])
    kind, got, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "refused":
        text = str(context["text"])
    elif kind == "extra_forbidden":
        text = _unknown_key(path, document)
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


def _unknown_key(path: plain_yaml.Path, document: Document) -> str:
    known = _known_keys(path[:-1], document.value)
    hint = did_you_mean(str(path[-1]), known)
    return (
        f"unknown key{hint.replace(' Did', '; did', 1)}{'' if hint else '.'} Known: "
        + ", ".join(known)
    )


def _known_keys(path: plain_yaml.Path, recipe: dict[str, Any]) -> list[str]:
    """Return the keys that the mapping at ``path`` of a recipe may have."""
    section = path[0] if path else ""
    if section == "conditions":
        return list(ConditionsSection.model_fields)
    if section == "report":
        return list(ReportSection.model_fields)
    if section in _SELECTORS:
        return ["name", *(f.name for f in dataclasses.fields(_options_type(str(section), recipe)))]
    return list(Recipe.model_fields)


def _options_type(selector: str, recipe: dict[str, Any]) -> Any:  # noqa: ANN401 - a dataclass type
    table: Mapping[str, Any] = STRATEGIES if selector == "strategy" else PROXIES
    return table[recipe[selector]["name"]].options


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


def shipped_recipes() -> dict[str, Path]:
    """Return the recipes that come with the package, by name."""
    return {path.stem: path for path in sorted(shipped_folder().glob("*.yaml"))}


def resolve_recipe_path(text: str) -> Path:
    """Return the file that ``text`` means: a path, or the name of a shipped recipe.

    Raises:
        NasError: There is no such file and no such recipe.
    """
    path = _expanded(text)
    if _is_file(path):
        return path
    shipped = shipped_recipes()
    if text in shipped:
        return shipped[text]
    hint = did_you_mean(path.stem, shipped).replace(" Did you mean", " Did you mean the recipe")
    raise NasError(
        f"{text}: no such file, and no recipe of this name comes with the package."
        f"{hint} Known: {', '.join(shipped)}"
    )


def recipe_schema() -> dict[str, Any]:
    """Return the JSON schema that editors check and complete recipes with."""
    schema = Recipe.model_json_schema()
    definitions, properties = schema["$defs"], schema["properties"]
    del definitions["StrategyChoice"]
    _rename(properties, "space", {"enum": sorted(SPACES)})
    strategies = _selector_schema({name: info.options for name, info in STRATEGIES.items()})
    proxies = _selector_schema({name: proxy.options for name, proxy in PROXIES.items()})
    names = "|".join(sorted(PROXIES))
    proxies["anyOf"][0] = {"type": "string", "pattern": f"^({names})(:.+)?$"}
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
