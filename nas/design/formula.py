"""A formula's file: the expression, and how it was found; plain YAML, read strictly.

    name: mine
    formula: mean(log(min_eigenvalue[relu]))

is a whole file. ``nas design`` writes the rest: what it was designed on, how it ranks architectures
that the design never saw, and what else was on the front of size against rank correlation.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from nas import plain_yaml
from nas.design.atoms import REVISION, Pass, passes_of
from nas.design.expression import BadFormula, Node, parse
from nas.plain_yaml import Problem, YamlError, dotted
from spaces.errors import did_you_mean


class BadFormulaFile(YamlError):
    """A file that holds no formula; the message has one line per fault."""


def _checked(text: str) -> str:
    try:
        return str(parse(text))
    except BadFormula as error:
        raise PydanticCustomError("refused", "{text}", {"text": str(error)}) from None


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class Table(_Part):
    """What a formula was designed on.

    Attributes:
        space: Name.
        columns: Of the table.
        sha256: Of its file.
        train: Cells that selected during evolution, random ones and stratified ones.
        validation: Cells that chose the formula in the end.
        report: Cells that nothing was chosen by.
        design_rows_sha256: Of the official strings of the first two, sorted, one a line.
    """

    space: str
    columns: list[str]
    sha256: str
    train: int
    validation: int
    report: int
    design_rows_sha256: str


class Figure(_Part):
    """A rank correlation with a truth.

    Attributes:
        task: Space and column.
        cells: ``random``, or ``stratified``: at most 100 from each of ten bands of accuracy.
        kendall: Tau-b.
        n: Cells.
    """

    task: str
    cells: Literal["random", "stratified"]
    kendall: float
    n: int


class Candidate(_Part):
    """A formula of the front of size against worth.

    Attributes:
        size: Operations, atoms and constants.
        train: Worth on the training sample: the mean of both kinds of cells of the worst task.
        validation: The same on the validation sample.
        formula: Its text.
    """

    size: int
    train: float
    validation: float
    formula: str


class Step(_Part):
    """The best formula after an epoch of the evolution."""

    epoch: int
    train: float
    formula: str


class Provenance(_Part):
    """How a formula was found."""

    seed: int
    generations: int
    proposed: int
    statistics_seconds: float
    evolution_seconds: float
    energy: str
    device: str
    started: str
    versions: dict[str, str]
    recipe: dict[str, Any]
    tables: list[Table]
    validation: float
    held_out: list[Figure]
    front: list[Candidate]
    best_over_time: list[Step]


class Formula(_Part):
    """A proxy as an expression, and where it came from.

    Attributes:
        name: For a person.
        summary: One line.
        formula: The text; see :mod:`nas.design.expression`.
        provenance: How it was found, if it was not written by hand.
    """

    name: Annotated[str, Field(min_length=1, max_length=60)] = "formula"
    summary: str = ""
    formula: Annotated[str, AfterValidator(_checked)]
    provenance: Provenance | None = None

    @property
    def node(self) -> Node:
        """The expression."""
        return parse(self.formula)

    @property
    def passes(self) -> frozenset[Pass]:
        """What has to be run for it."""
        return passes_of(frozenset(self.node.wanted))

    @property
    def checksum(self) -> str:
        """What tells its scores from those of another one."""
        return hashlib.sha256(f"{REVISION} {self.formula}".encode()).hexdigest()

    def to_yaml(self) -> str:
        """Return the file's text; reading it gives an equal formula."""
        return plain_yaml.dump(self.model_dump(mode="json", exclude_none=True))


def read_formula(path: Path) -> Formula:
    """Read a file.

    Raises:
        BadFormulaFile: With every fault and its line.
    """
    try:
        text = plain_yaml.read(path)
    except YamlError as error:
        raise BadFormulaFile(list(error.problems)) from None
    return parse_formula(text, str(path), name=path.stem)


def parse_formula(text: str, source: str, *, name: str = "formula") -> Formula:
    """Read a text; ``source`` is what messages call it, ``name`` the name if it gives none.

    Raises:
        BadFormulaFile: With every fault and its line.
    """
    try:
        document = plain_yaml.parse(text, source)
    except YamlError as error:
        raise BadFormulaFile(list(error.problems)) from None
    if not isinstance(document.value, dict):
        what = "expected a mapping with the key 'formula'"
        raise BadFormulaFile([Problem(document.place(()), "", what)])
    problems = list(document.problems)
    values = {"name": name, **document.value}
    try:
        formula = Formula.model_validate(values)
    except ValidationError as error:
        for fault in error.errors(include_url=False):
            path = tuple(fault["loc"])
            known = list(Formula.model_fields) if len(path) == 1 else []
            what = _said(fault["type"], fault["msg"], str(path[-1]) if path else "", known)
            problems.append(Problem(document.place(path), dotted(path), what))
    if problems:
        raise BadFormulaFile(problems)
    return formula


def _said(kind: str, message: str, key: str, known: list[str]) -> str:
    if kind == "extra_forbidden":
        hint = did_you_mean(key, known).replace(" Did", "; did", 1)
        return f"unknown key{hint}" + (f" Known: {', '.join(known)}" if known else "")
    if kind == "missing":
        return "required, but missing"
    return f"{message[:1].lower()}{message[1:]}"


def shipped_formulas() -> dict[str, Path]:
    """Return the formulas that come with the package, by name."""
    folder = Path(__file__).resolve().parent / "formulas"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def resolve(text: str) -> Path:
    """Return the file that ``text`` means: a path, or the name of a shipped formula.

    Raises:
        BadFormulaFile: There is neither.
    """
    path = Path(text).expanduser()
    if path.is_file():
        return path
    shipped = shipped_formulas()
    if text in shipped:
        return shipped[text]
    what = (
        f"no such file, and no formula of this name comes with the package."
        f"{did_you_mean(text, list(shipped))} Known: {', '.join(shipped) or 'none'}"
    )
    raise BadFormulaFile([Problem(text, "", what)])


@lru_cache(maxsize=64)
def remembered(text: str) -> Formula:
    """Return a formula by file or name, read once in a process."""
    return read_formula(resolve(text))
