"""What a recipe of any kind is made of: strict sections, choices from tables, paths, names."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    create_model,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from nas.plugins import GROUPS, look_up_or_load
from nas.reading import expanded, is_file
from nas.space_file import find_space
from searchers import StrategyInfo
from spaces.errors import NasError, did_you_mean, look_up


class Section(BaseModel):
    """Part of a recipe: strict about kinds of values, and about keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class Choice(Section):
    """One entry of a table by name, with its options; those left out are at their defaults."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


def refuse(text: str) -> PydanticCustomError:
    """Return the error by which a validator refuses a value, in our own words."""
    return PydanticCustomError("refused", "{text}", {"text": text})


def shown(value: object) -> str:
    """Return how a value looks in a message: quoted, short, and ``nothing`` for null."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def space_name(name: str, info: ValidationInfo) -> str:
    """Return the name of a space, checked; that of a file with an absolute path."""
    if name.endswith((".yaml", ".yml")):
        name = existing(name, info)
    try:
        find_space(name)
    except NasError as error:
        raise refuse(str(error)) from None
    return name


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
    name, options = name_and_options({"name": value} if isinstance(value, str) else value)
    try:
        expected = StrategyInfo if kind == "strategy" else object
        if kind in GROUPS:
            chosen = look_up_or_load(table, name, kind=kind, expected=expected)
        else:
            chosen = look_up(table, name, kind=kind)
    except NasError as error:
        raise refuse(str(error)) from None
    given = check_options(chosen.options, options)
    defaults = {
        field.name: field.default
        for field in dataclasses.fields(chosen.options)
        if field.default is not dataclasses.MISSING
    }
    return Choice(name=name, options=defaults | given)


def name_and_options(value: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the name that a mapping chooses, and all that stands beside it."""
    name = value.get("name")
    if not isinstance(name, str):
        got = f"got {shown(name)}" if "name" in value else "got none"
        raise refuse(f"expected a mapping with the key 'name', a text, {got}")
    return name, {key: option for key, option in value.items() if key != "name"}


@functools.cache
def options_model(options: type) -> type[BaseModel]:
    """Return a strict model with the fields of the dataclass ``options``."""
    hints = typing.get_type_hints(options)
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(options):
        default = ... if field.default is dataclasses.MISSING else field.default
        if field.default_factory is not dataclasses.MISSING:
            default = Field(default_factory=field.default_factory)
        fields[field.name] = (hints[field.name], default)
    return create_model(options.__name__, __base__=Section, **fields)


def check_options(options: type, given: dict[str, Any]) -> dict[str, Any]:
    """Return ``given`` after checking its keys, types and values against a dataclass.

    A pydantic error raised here gets the path of the surrounding field in front of its own.
    """
    model = options_model(options)
    try:
        # As JSON, for a list may then stand for a tuple and a mapping for a dataclass.
        checked = model.model_validate_json(json.dumps(given))
    except ValidationError as error:
        known = ["name", *model.model_fields]
        raise ValidationError.from_exception_data(
            options.__name__, [_naming_options(details, known) for details in error.errors()]
        ) from None
    values = {key: getattr(checked, key) for key in given}
    try:
        options(**values)  # the dataclass knows the ranges
    except (NasError, ValueError) as error:
        culprit = re.split(r"\W", str(error), maxsplit=1)[0]  # "population must be at least 2, ..."
        place = (culprit,) if culprit in given else ()
        details = InitErrorDetails(type=refuse(str(error)), loc=place, input=given)
        raise ValidationError.from_exception_data(options.__name__, [details]) from None
    return values


def _naming_options(details: ErrorDetails, known: list[str]) -> InitErrorDetails:
    """Return a fault of options; that of an unknown one says which there are."""
    kind: str | PydanticCustomError = details["type"]
    if kind == "extra_forbidden" and len(details["loc"]) == 1:
        kind = PydanticCustomError("unknown_option", "unknown option", {"known": known})
        return InitErrorDetails(type=kind, loc=details["loc"], input=details["input"])
    return InitErrorDetails(
        type=kind, loc=details["loc"], input=details["input"], ctx=details.get("ctx", {})
    )


def existing(text: str, info: ValidationInfo) -> str:
    """Return the absolute path of a file named in a recipe."""
    folders = [Path.cwd(), *(info.context or {}).get("folders", [])]
    for folder in folders:
        path = folder / expanded(text)
        if is_file(path):
            return str(path.resolve())
    looked = " and ".join(dict.fromkeys(str(folder) for folder in folders))
    raise refuse(f"no such file: {text!r}; looked in {looked}")


def located(text: str, info: ValidationInfo) -> str:
    """Return the absolute path of a file or folder that need not be there yet.

    Looked up from the current folder, then from that of the recipe; where it is in neither, it is
    that of the current folder.
    """
    path = expanded(text)
    for folder in (Path.cwd(), *(info.context or {}).get("folders", [])):
        if (folder / path).exists():
            return str((folder / path).resolve())
    return str(Path.cwd() / path)


def written(text: str) -> str:
    """Return the absolute path of what will be written, looked up from the current folder."""
    return str(Path.cwd() / expanded(text))


def benchmark_column(text: str, info: ValidationInfo) -> str:
    """Return ``FILE:COLUMN`` with an absolute path."""
    path, colon, column = text.rpartition(":")
    if not colon or not path or not column:
        raise refuse(f"expected FILE:COLUMN such as 'table.csv.gz:c10_test_200', got {text!r}")
    return f"{existing(path, info)}:{column}"


def named_file(text: str, shipped: Mapping[str, Path], info: ValidationInfo) -> str:
    """Return the name of something shipped as it is, or the absolute path of a file."""
    if text in shipped:
        return text
    try:
        return existing(text, info)
    except PydanticCustomError as error:
        hint = did_you_mean(text, list(shipped)).replace(" Did", "; did", 1)
        raise refuse(f"{error}{hint}; shipped: {', '.join(shipped) or 'none'}") from None


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


class ConditionsSection(Section):
    """Everything besides the architecture that a score depends on."""

    num_classes: int = Field(default=10, ge=1, le=100_000, description="Width of the classifier.")
    resolution: int = Field(
        default=32, ge=8, le=1024, description="Height and width of the image, pixels."
    )
    repeats: int = Field(default=1, ge=1, le=1000, description="Scores averaged per architecture.")
    images: Annotated[str, AfterValidator(existing)] | None = Field(
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
