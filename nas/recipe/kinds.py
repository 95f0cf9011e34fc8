"""Recipes of any kind: a YAML text in, checked values or every fault of it out."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from nas import plain_yaml
from nas.plain_yaml import Document, Problem, YamlError, dotted
from nas.proxies import PROXIES
from nas.proxies.base import ProxySpec
from nas.recipe.fields import Choice, shown
from spaces.errors import NasError, did_you_mean

COMMAND_LINE = "<command line>"

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


def load_kind(kind: Kind, path: Path, overrides: Sequence[str] = ()) -> BaseModel:
    """As :func:`load_recipe`, for a recipe of any kind."""
    try:
        text = plain_yaml.read(path)
    except YamlError as error:
        raise RecipeError(list(error.problems)) from None
    return parse_kind(kind, text, str(path), overrides, folder=path.parent, name=path.stem)


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
        if depth == 0 and step in kind.selectors:
            inner = _spelled_out(kind, step, target)
        else:
            inner = target.get(step, {})
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


def _spelled_out(kind: Kind, selector: str, recipe: Mapping[str, Any]) -> object:
    """Return ``{name: evolution}`` for ``evolution``, so that an override can add an option."""
    value = recipe.get(selector)
    if value is None:
        default = kind.model.model_fields[selector].get_default(call_default_factory=True)
        return {"name": default.name} if isinstance(default, Choice) else {}
    if not isinstance(value, str):
        return value
    if kind.selectors[selector] is PROXIES:
        with contextlib.suppress(NasError):  # a faulty one is reported by the validation
            spec = ProxySpec.parse(value)
            return {"name": spec.name, **spec.settings}
    return {"name": value}


def _explain(recipe: Kind, details: ErrorDetails, document: Document) -> Problem:
    """Return a pydantic error in the words of this project."""
    path = tuple(details["loc"])
    kind, got, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "refused":
        text = str(context["text"])
    elif kind == "extra_forbidden":
        text = _unknown_key(path, _known_keys(recipe, path[:-1]))
    elif kind == "unknown_option":
        text = _unknown_key(path, context["known"])
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


def _unknown_key(path: plain_yaml.Path, known: list[str]) -> str:
    hint = did_you_mean(str(path[-1]), known)
    return (
        f"unknown key{hint.replace(' Did', '; did', 1)}{'' if hint else '.'} Known: "
        + ", ".join(known)
    )


def _known_keys(kind: Kind, path: plain_yaml.Path) -> list[str]:
    """Return the keys that the section at ``path`` of a recipe may have."""
    section = str(path[0]) if path else ""
    return list(kind.sections.get(section, kind.model).model_fields)


def _not_among(expected: str, got: object) -> str:
    allowed = expected.replace("'", "").replace(" or ", ", ").split(", ")
    hint = did_you_mean(got, allowed) if isinstance(got, str) else ""
    return f"expected {expected}, got {shown(got)}{hint.replace(' Did', '; did', 1)}"
