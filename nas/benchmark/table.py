"""Plain tables: one row per architecture, one column per measured quantity, CSV or gzipped CSV.

The first line names the columns. An ``arch`` column holds the official strings of a space; where a
benchmark writes its members in other columns, the space names and reads them (``from_row``).
Every other column is numbers, parsed when it is asked for; an empty cell means "not known".
Architectures that compute the same function were trained separately by the benchmarks and stay
separate rows.

A :class:`Table` is read whole, and then handed on as less: a :class:`ValidationView` for searching,
a :class:`TestView` for reporting, a :class:`Truth` (one named column) for judging proxies.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nas.benchmark.columns import (
    Measure,
    NotMeasured,
    Split,
    check_dataset,
    parse_column,
)
from nas.reading import UnreadableFile, gunzip, is_file, read_bytes
from spaces.errors import InvalidArch, NasError, did_you_mean

if TYPE_CHECKING:
    from spaces.base import Arch, Space

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)


#: Of a table, packed or not: nearly ten times all of NAS-Bench-101 with every column.
MAX_BYTES = 512 * 2**20
_MOST_SAID = 800  # characters of what a cell may make us say


class BadTable(NasError, ValueError):
    """A table that cannot be read; the message names the file and the line."""


@dataclass(frozen=True, eq=False)
class Truth:
    """One column of a table: what each architecture reached.

    Attributes:
        space: Name of the space.
        archs: The N architectures whose value is known, in the order of the table.
        values: Their values, ``(N,)``, finite, read-only.
        column: Name of the column.
        source: The file, as it was given.
        sha256: Of the file's bytes.
        n_unknown: Rows of the table left out because their cell is empty.
        measure: What the column measures, where its name says so.
    """

    space: str
    archs: tuple[Arch, ...]
    values: NDArray[np.float64]
    column: str
    source: str
    sha256: str
    n_unknown: int = 0
    measure: Measure | None = None

    def __len__(self) -> int:
        return len(self.archs)

    def value(self, arch: Arch) -> float | None:
        """Return the value of an architecture, or None where the column does not know it."""
        row = self._rows.get(arch)
        return None if row is None else float(self.values[row])

    def best(self) -> tuple[Arch, float]:
        """Return the architecture with the highest value, the first of several, and the value."""
        row = int(np.argmax(self.values))
        return self.archs[row], float(self.values[row])

    @cached_property
    def _rows(self) -> Mapping[Arch, int]:
        return {arch: row for row, arch in enumerate(self.archs)}


@dataclass(frozen=True, eq=False)
class _View:
    """Accuracies of one split: nothing of the table is reachable from here but those columns."""

    source: str
    _rows: Mapping[Arch, int]
    _columns: Mapping[Measure, NDArray[np.float64]]
    _to_str: Callable[[Arch], str] = field(repr=False)

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What the view holds."""
        return tuple(self._columns)

    @property
    def archs(self) -> tuple[Arch, ...]:
        """The architectures of the table."""
        return tuple(self._rows)

    def _column(self, measure: Measure) -> NDArray[np.float64]:
        check_dataset(measure.dataset, measure.split)
        try:
            return self._columns[measure]
        except KeyError:
            has = "; ".join(str(known) for known in self._columns) or "none of this split"
            raise NotMeasured(f"{self.source}: no column for {measure}. It has: {has}") from None

    def _value(self, arch: Arch, measure: Measure) -> float:
        column = self._column(measure)
        row = self._rows.get(tuple(arch))
        if row is None or math.isnan(column[row]):
            raise NotMeasured(f"{self.source}: {measure} of {self._to_str(arch)} is not known")
        return float(column[row])


class ValidationView(_View):
    """What a search may ask: accuracies on validation images. It holds no test accuracy."""

    def validation_accuracy_percent(
        self, arch: Arch, *, dataset: str, epochs: int, seed: int | None = None
    ) -> float:
        """Return an accuracy on the validation images, in percent.

        Args:
            arch: A member of the space.
            dataset: ``cifar10-valid``, ``cifar100`` or ``ImageNet16-120``.
            epochs: Length of the whole training.
            seed: One training, or None for the mean over the benchmark's seeds.

        Raises:
            NotMeasured: The table does not know it.
        """
        known = check_dataset(dataset, "validation")
        return self._value(arch, Measure(known, "validation", epochs, seed))


class TestView(_View):
    """What a report may ask, after the choice was made: accuracies on test images."""

    __test__ = False  # pytest would take the class for a test, by its name

    def test_accuracy_percent(
        self,
        arch: Arch,
        *,
        dataset: str,
        epochs: int,
        seed: int | None = None,  # noqa: PT028 - no test function
    ) -> float:
        """Return an accuracy on the test images, in percent.

        Args:
            arch: A member of the space.
            dataset: ``cifar10`` (trained on training and validation images), ``cifar10-valid``
                (on the training half), ``cifar100`` or ``ImageNet16-120``.
            epochs: Length of the whole training.
            seed: One training, or None for the mean over the benchmark's seeds.

        Raises:
            NotMeasured: The table does not know it.
        """
        return self._value(arch, Measure(check_dataset(dataset, "test"), "test", epochs, seed))

    def best_test_accuracy_percent(
        self, *, dataset: str, epochs: int, seed: int | None = None
    ) -> tuple[Arch, float]:
        """Return the architecture with the highest test accuracy in the table, and the accuracy."""
        measure = Measure(check_dataset(dataset, "test"), "test", epochs, seed)
        column = self._column(measure)
        if np.isnan(column).all():
            raise NotMeasured(f"{self.source}: {measure} is not known of any architecture")
        row = int(np.nanargmax(column))
        return self.archs[row], float(column[row])


class Table:
    """A table in memory; made by :func:`read_table`.

    Attributes:
        source: The file, as it was given.
        sha256: Of the file's bytes.
        space: Whose members the rows are.
        archs: One per row.
        columns: Names of the columns that hold no architecture, in the order of the file.
    """

    def __init__(
        self,
        source: str,
        sha256: str,
        space: Space,
        archs: tuple[Arch, ...],
        lines: tuple[int, ...],
        cells: Mapping[str, list[str]],
    ) -> None:
        self.source = source
        self.sha256 = sha256
        self.space = space
        self.archs = archs
        self.columns = tuple(cells)
        self._lines = lines
        self._cells = cells

    def __len__(self) -> int:
        return len(self.archs)

    def __repr__(self) -> str:
        return f"<table {self.source}: {len(self)} architectures, {len(self.columns)} columns>"

    def column(self, name: str) -> NDArray[np.float64]:
        """Return the numbers of one column, ``(N,)``; NaN where the cell is empty.

        Raises:
            BadTable: There is no such column, or a cell is no finite number.
        """
        if name not in self._cells:
            raise BadTable(
                f"{self.source}:1: no column {name!r}.{did_you_mean(name, list(self.columns))} "
                f"Columns: {', '.join(self.columns)}"
            )
        numbers = np.empty(len(self))
        for row, cell in enumerate(self._cells[name]):
            text = cell.strip()
            if not text:
                numbers[row] = np.nan
                continue
            number = float(text) if _NUMBER.fullmatch(text) else math.nan
            if not math.isfinite(number):
                raise BadTable(
                    f"{self.source}:{self._lines[row]}: column {name!r}: expected a number "
                    f"(or nothing, for not known), got {_short(cell)}"
                )
            numbers[row] = number
        return numbers

    def truth(self, name: str) -> Truth:
        """Return one column as the truth to judge by: the rows that know it.

        Raises:
            BadTable: There is no such column, it is empty, or a cell is no finite number.
        """
        numbers = self.column(name)
        known = np.flatnonzero(~np.isnan(numbers))
        if not len(known):
            raise BadTable(f"{self.source}: every cell of column {name!r} is empty")
        values = numbers[known]
        values.setflags(write=False)
        return Truth(
            space=self.space.name,
            archs=tuple(self.archs[row] for row in known),
            values=values,
            column=name,
            source=self.source,
            sha256=self.sha256,
            n_unknown=len(self) - len(known),
            measure=parse_column(name),
        )

    def validation_view(self) -> ValidationView:
        """Return what a search may see."""
        return ValidationView(self.source, *self._view("validation"))

    def test_view(self) -> TestView:
        """Return what a report may see."""
        return TestView(self.source, *self._view("test"))

    def _view(
        self, split: Split
    ) -> tuple[Mapping[Arch, int], Mapping[Measure, NDArray[np.float64]], Callable[[Arch], str]]:
        columns: dict[Measure, NDArray[np.float64]] = {}
        spelled: dict[Measure, str] = {}
        for name in self.columns:
            measure = parse_column(name)
            if measure is None or measure.split != split:
                continue
            if measure in spelled:
                raise BadTable(
                    f"{self.source}:1: columns {spelled[measure]!r} and {name!r} both mean "
                    f"{measure}"
                )
            spelled[measure] = name
            numbers = self.column(name)
            numbers.setflags(write=False)
            columns[measure] = numbers
        rows = {arch: row for row, arch in enumerate(self.archs)}
        return rows, columns, self.space.to_str


def read_table(path: str | Path, space: Space) -> Table:
    """Read a CSV file, gzipped or not, whose rows are members of ``space``.

    Raises:
        BadTable: No such file, no text, no such column, a row of another length, an architecture
            that is no member or stands there twice; the message names the file and the line.
    """
    source = str(path)
    data = _read_bytes(Path(path), source)
    sha256 = hashlib.sha256(data).hexdigest()
    rows = _rows(_text(data, source), source)
    try:
        _, header = next(rows)
    except StopIteration:
        raise BadTable(f"{source}:1: the file is empty; expected a line of column names") from None
    arch_columns = _check_header(header, space, source)

    cells: dict[str, list[str]] = {name: [] for name in header if name not in arch_columns}
    lines: dict[Arch, int] = {}  # in the order of the file
    for line, row in rows:
        if len(row) != len(header):
            raise BadTable(
                f"{source}:{line}: expected {len(header)} cells as in the first line, "
                f"got {len(row)}"
            )
        named = dict(zip(header, row, strict=True))
        try:
            arch = space.from_row(named)
        except InvalidArch as error:
            text = str(error)
            cut = text if len(text) <= _MOST_SAID else f"{text[:_MOST_SAID]}..."
            raise BadTable(f"{source}:{line}: {cut}") from None
        if arch in lines:
            raise BadTable(
                f"{source}:{line}: {space.to_str(arch)} stands in line {lines[arch]} already"
            )
        lines[arch] = line
        for name, column in cells.items():
            column.append(named[name])
    if not lines:
        raise BadTable(f"{source}:1: the table has column names but no rows")
    return Table(source, sha256, space, tuple(lines), tuple(lines.values()), cells)


def parse_truth(text: str, space: Space) -> Truth:
    r"""Return the column that ``PATH:COLUMN`` names.

    The last colon separates, so a path may hold colons itself (``C:\tables\t.csv:c10_test_200``).

    Raises:
        BadTable: The text has no column, or the table cannot be read.
    """
    path, column = _path_and_column(text, space)
    return read_table(path, space).truth(column)


def parse_truths(text: str, space: Space) -> tuple[Truth, ...]:
    """Return the columns that ``PATH:COLUMN,COLUMN`` names, each once, in order.

    A column whose own name holds a comma is understood where it is the only one.

    Raises:
        BadTable: The text has no column, or the table cannot be read.
    """
    path, columns = _path_and_column(text, space)
    table = read_table(path, space)
    names = [columns] if columns in table.columns else columns.split(",")
    return tuple(table.truth(name) for name in dict.fromkeys(names))


def _path_and_column(text: str, space: Space) -> tuple[str, str]:
    """Return what stands on either side of the last colon."""
    path, colon, column = text.rpartition(":")
    # a colon that belongs to the path ("C:\t.csv", "./a:b/t.csv") leaves a separator behind it
    if not colon or not path or not column or "/" in column or "\\" in column:
        raise BadTable(f"{text}: expected PATH:COLUMN{_columns_of(text.rstrip(':'), space)}")
    if not is_file(Path(path)) and is_file(Path(text)):
        raise BadTable(f"{text}: expected PATH:COLUMN{_columns_of(text, space)}")
    return path, column


def _columns_of(path: str, space: Space) -> str:
    """Return the columns that could follow, for the message; nothing when it is no table."""
    if not is_file(Path(path)):
        return ", such as 'table.csv.gz:c10_test_200'"
    return f"; columns: {', '.join(read_table(path, space).columns)}"


def _check_header(header: list[str], space: Space, source: str) -> tuple[str, ...]:
    """Return the columns that hold the architecture, after checking that each name stands once."""
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise BadTable(f"{source}:1: column {repeated[0]!r} stands there more than once")
    for name in space.row_columns:
        if name not in header:
            raise BadTable(
                f"{source}:1: no column {name!r}, which names the members of {space.name}."
                f"{did_you_mean(name, header)} Columns: {', '.join(header)}"
            )
    return space.row_columns


def _read_bytes(path: Path, source: str) -> bytes:
    try:
        return read_bytes(path, MAX_BYTES)
    except FileNotFoundError:
        siblings = []
        with suppress(OSError):  # the folder may be missing too, or not be ours to list
            siblings = [p.name for p in path.parent.iterdir()]
        raise BadTable(f"{source}: no such file.{did_you_mean(path.name, siblings)}") from None
    except UnreadableFile as error:
        raise BadTable(f"{source}: {error}") from None


def _text(data: bytes, source: str) -> str:
    """Return the text of the file, unpacked where its first bytes say gzip."""
    try:
        if data[:2] == b"\x1f\x8b":
            data = gunzip(data, MAX_BYTES)
        return data.decode("utf-8-sig")
    except UnreadableFile as error:
        raise BadTable(f"{source}: {error}") from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadTable(f"{source}:{line}: not UTF-8 text: {error.reason}") from None


def _rows(text: str, source: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each row with the line on which it starts; blank lines are skipped."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise BadTable(f"{source}:{line}: not a row of CSV: {error}") from None
        if row:
            yield line, row
        line = reader.line_num + 1  # a quoted cell may hold line breaks


def _short(cell: str) -> str:
    return repr(cell if len(cell) <= 40 else cell[:37] + "...")
