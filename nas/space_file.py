"""Which space a text means: a name, a plugin's name, an import path, or a YAML file of one's own.

A file describes cells, or a chain of blocks::

    name: my_cells                       name: edge
    cell:                                stem: {width: 16, stride: 2}
      nodes: 4                           stages:
      operations: [none, skip, conv_3x3]   - {width: [16, 24], depth: [1, 2], kernel: [3, 5]}
    stages:                                - {width: 32, depth: [1, 2, 3], stride: 2,
      - {width: 16, cells: 2}                 kernel: [3, 5, 7], expansion: [3, 6]}
      - {width: [24, 32], cells: [1, 2]} head: 64

``cell.nodes: n`` joins every node to every later one; ``cell.edges: [[0, 1], [1, 2]]`` names the
edges. An operation is a name of :data:`spaces.own_cell.OPERATIONS`, or a mapping: ``{name: conv9,
kind: conv, kernel: 9}``, or ``{name: mine, module: "package.module:Class"}``, a class of one's own
that is called with the channels that come and go and keeps height and width. A stage of a chain may
name its ``block`` in the same way. Such a path is the only thing in a file that imports code.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from nas import plain_yaml
from nas.plain_yaml import Problem, YamlError, dotted
from nas.plugins import import_attribute, look_up_or_load
from spaces import SPACES, Space
from spaces.base import MOST_CHOSEN
from spaces.cell import Edge, Operation, complete_edges
from spaces.chain import ChainSpace, Stage
from spaces.errors import NasError, did_you_mean, look_up
from spaces.own_cell import OPERATIONS, CellStage, cell_space


class SpaceFileError(YamlError):
    """A file that describes no space; the message has one line per fault."""


def find_space(text: str) -> Space:
    """Return the space that a text means.

    Args:
        text: A name of :data:`spaces.SPACES`, a plugin's name, ``package.module:SPACE``, or the
            path of a YAML file.

    Raises:
        NasError: There is none, or the file is faulty.
    """
    if text.endswith((".yaml", ".yml")):
        return _remembered(*_identity(Path(text)))
    if ":" in text:
        found = import_attribute(text, "space")
        if not isinstance(found, Space):
            raise NasError(f"space: {text!r} is no Space, but {type(found).__name__}")
        return found
    return look_up_or_load(SPACES, text, kind="space", expected=Space)


def _identity(path: Path) -> tuple[Path, str]:
    try:
        return path, plain_yaml.read(path)
    except YamlError as error:
        raise SpaceFileError(list(error.problems)) from None


@lru_cache(maxsize=64)
def _remembered(path: Path, text: str) -> Space:
    return parse_space(text, str(path))


def _choices(value: object) -> object:
    return value if isinstance(value, list) else [value]


Choices: TypeAlias = Annotated[list[int], BeforeValidator(_choices)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class _Operation(_Model):
    name: str
    kind: Literal["none", "skip", "conv", "avg_pool", "max_pool"] | None = None
    kernel: int = Field(default=0, ge=0, le=MOST_CHOSEN["kernel"])
    module: str = ""


class _Cell(_Model):
    operations: list[str | _Operation]
    nodes: int | None = Field(default=None, ge=2, le=20)
    edges: list[list[int]] | None = None


class _Stem(_Model):
    width: int = 16
    stride: int = 1


class _Stage(_Model):
    width: Choices
    cells: Choices | None = None
    depth: Choices | None = None
    stride: int | None = None
    kernel: Choices | None = None
    expansion: Choices | None = None
    block: str = ""


class _File(_Model):
    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,59}$")
    stages: list[_Stage] = Field(min_length=1)
    cell: _Cell | None = None
    stem: _Stem | None = None
    head: int | None = None


def parse_space(text: str, source: str) -> Space:
    """Read a space from the text of a file.

    Args:
        text: YAML.
        source: What to call it in messages.

    Raises:
        SpaceFileError: With every fault that is one of keys and kinds of values.
        NasError: What is described is no space.
    """
    try:
        document = plain_yaml.parse(text, source)
    except YamlError as error:
        raise SpaceFileError(list(error.problems)) from None
    problems = list(document.problems)
    try:
        read = _File.model_validate(document.value)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            path = tuple(details["loc"])
            problems.append(Problem(document.place(path), dotted(path), _worded(details)))
        raise SpaceFileError(problems) from None
    if problems:
        raise SpaceFileError(problems)
    if read.name in SPACES:
        raise NasError(f"{source}: name: {read.name!r} is the name of a space that comes with nas")
    try:
        space = _own_cells(read, read.cell) if read.cell is not None else _own_chain(read)
    except NasError as error:
        raise NasError(f"{source}: {error}") from None
    space.revision = 1 + zlib.crc32(text.encode())  # another text is another space for the cache
    return space


def _worded(details: Any) -> str:  # noqa: ANN401 - pydantic's own mapping
    if details["type"] == "extra_forbidden":
        place = details["loc"]
        models: dict[str, type[BaseModel]] = {"cell": _Cell, "stem": _Stem, "stages": _Stage}
        known = list((models if len(place) > 1 else {}).get(str(place[0]), _File).model_fields)
        hint = did_you_mean(str(place[-1]), known).replace(" Did", "; did", 1)
        return f"unknown key{hint}{'' if hint else '.'} Known: {', '.join(known)}"
    if details["type"] == "missing":
        return "required, but missing"
    return f"{details['msg'][:1].lower()}{details['msg'][1:]}, got {details['input']!r}"


def _operation(given: str | _Operation) -> Operation:
    if isinstance(given, str):
        return look_up(OPERATIONS, given, kind="operation")
    if given.module:
        if given.kind is not None:
            raise NasError(f"operation {given.name}: expected kind or module, got both")
        import_attribute(given.module, f"operation {given.name}")
        return Operation(given.name, "own", given.kernel or 3, given.module)
    if given.kind is None:
        raise NasError(f"operation {given.name}: expected kind or module, got neither")
    windowed = given.kind in ("conv", "avg_pool", "max_pool")
    if windowed != (given.kernel > 0) or (windowed and given.kernel % 2 == 0):
        raise NasError(
            f"operation {given.name}: expected {'an odd kernel' if windowed else 'no kernel'}, "
            f"got {given.kernel}"
        )
    return Operation(given.name, given.kind, given.kernel)


def _own_cells(read: _File, cell: _Cell) -> Space:
    operations = tuple(map(_operation, cell.operations))
    if (cell.nodes is None) == (cell.edges is None):
        raise NasError("cell: expected nodes or edges, one of the two")
    edges: Sequence[Edge]
    if cell.nodes is not None:
        edges = complete_edges(cell.nodes, operations)
    else:
        pairs = cell.edges or []
        if any(len(pair) != 2 for pair in pairs):
            raise NasError("cell.edges: expected pairs of nodes such as [0, 1]")
        edges = [Edge(source, target, operations) for source, target in pairs]
    for name in ("depth", "stride", "kernel", "expansion"):
        if any(getattr(stage, name) is not None for stage in read.stages):
            raise NasError(f"stages: {name} belongs to a chain; of cells, a stage has width, cells")
    if read.stem is not None or read.head is not None:
        raise NasError(
            "stem and head belong to a chain; that of cells is as wide as its first stage"
        )
    stages = [CellStage(tuple(s.width), tuple(s.cells or (1,))) for s in read.stages]
    return cell_space(read.name, edges, stages)


def _own_chain(read: _File) -> Space:
    stages = []
    for stage in read.stages:
        if stage.cells is not None:
            raise NasError("stages: cells belong to a space with a cell; a chain has a depth")
        if stage.block:
            import_attribute(stage.block, "block")
        stages.append(
            Stage(
                width=tuple(stage.width),
                depth=tuple(stage.depth or (1,)),
                stride=1 if stage.stride is None else stage.stride,
                kernel=tuple(stage.kernel or (3,)),
                expansion=tuple(stage.expansion or (6,)),
                block=stage.block,
            )
        )
    stem = read.stem or _Stem()
    return ChainSpace(read.name, stages=stages, stem=(stem.width, stem.stride), head=read.head or 0)
