"""Plain tables: what is read, what is refused with file and line, and what a view can reach."""

from __future__ import annotations

import csv
import gc
import gzip
import io
import math
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType, ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.benchmark.columns import Measure, NotMeasured
from nas.benchmark.table import BadTable, Table, parse_truth, parse_truths, read_table
from spaces import SPACES, Arch, NasError, Space
from spaces.nats_sss import NatsSss

TSS = SPACES["nats_tss"]
SSS = SPACES["nats_sss"]
TINY = Path(__file__).resolve().parents[2] / "data" / "tiny_tss.csv"
FIRST, SECOND, THIRD = TSS.at(0), TSS.at(11), TSS.at(284)


@pytest.fixture
def tiny() -> Table:
    return read_table(TINY, TSS)


def sss(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "table.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_table_knows_its_rows_and_columns(tiny: Table) -> None:
    assert tiny.archs == (FIRST, SECOND, THIRD)
    assert tiny.columns[:2] == ("index", "c10_test_200")
    np.testing.assert_array_equal(tiny.column("c10_test_200"), [85.5, 91.5, 88.75])
    np.testing.assert_array_equal(tiny.column("c100_val_200"), [52.75, np.nan, 61.5])
    assert len(tiny.sha256) == 64


def test_gzip_is_recognised_by_content(tmp_path: Path, tiny: Table) -> None:
    odd = tmp_path / "no_such_suffix"
    odd.write_bytes(gzip.compress(TINY.read_bytes()))
    packed = read_table(odd, TSS)
    assert packed.archs == tiny.archs
    assert packed.sha256 != tiny.sha256  # of the bytes on the disk


def test_byte_order_mark_windows_lines_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "windows.csv"
    path.write_bytes("\ufeffarch,x\r\n8:8:8:8:8, 1.5 \r\n\r\n64:8:8:8:8,-2e1\r\n".encode())
    np.testing.assert_array_equal(read_table(path, SSS).column("x"), [1.5, -20.0])


def test_a_truth_is_one_column(tiny: Table) -> None:
    truth = tiny.truth("c100_val_200")
    assert truth.archs == (FIRST, THIRD)
    assert (truth.n_unknown, len(truth)) == (1, 2)
    assert truth.value(THIRD) == 61.5
    assert truth.value(SECOND) is None
    assert truth.best() == (THIRD, 61.5)
    assert truth.measure == Measure("cifar100", "validation", 200)
    assert (truth.space, truth.column) == ("nats_tss", "c100_val_200")
    with pytest.raises(ValueError, match="read-only"):
        truth.values[0] = 1.0


def test_same_function_different_spelling_stays_two_rows(tmp_path: Path) -> None:
    one = "|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|"
    other = "|none~0|+|none~0|nor_conv_3x3~1|+|nor_conv_3x3~0|none~1|none~2|"
    assert TSS.canonical(TSS.from_str(one)) == TSS.canonical(TSS.from_str(other))
    truth = read_table(sss(tmp_path, "arch,x", f"{one},1", f"{other},2"), TSS).truth("x")
    assert [truth.value(TSS.from_str(text)) for text in (one, other)] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], r"table.csv:1: .*no column 'arch'|table.csv:1: the file is empty"),
        (["arch,x"], r"table.csv:1: the table has column names but no rows"),
        (["acrh,x", "8:8:8:8:8,1"], r"table.csv:1: no column 'arch'.* Did you mean 'acrh'\?"),
        (["arch,x,x", "8:8:8:8:8,1,2"], r"table.csv:1: column 'x' stands there more than once"),
        (["arch,x", "8:8:8:8:8,1", "8:8,2"], r"table.csv:3: nats_sss: cannot read '8:8'"),
        (["arch,x", "8:8:8:8:8,1", "", "9:8:8:8:8,2"], r"table.csv:4: nats_sss: cannot read"),
        (
            ["arch,x", "8:8:8:8:8,1", "16:8:8:8:8,1", "8:8:8:8:8,2"],
            r"table.csv:4: 8:8:8:8:8 stands in line 2 already",
        ),
        (["arch,x", "8:8:8:8:8"], r"table.csv:2: expected 2 cells as in the first line, got 1"),
        (["arch,x", "8:8:8:8:8,1,2"], r"table.csv:2: expected 2 cells .* got 3"),
        (["arch,x", '8:8:8:8:8,"1'], r"table.csv:2: not a row of CSV"),
        (["arch,x,y", '8:8:8:8:8,1,"a', 'b"', "8:8:8:8:8,1,2"], r"table.csv:4: 8:8:8:8:8 stands"),
    ],
)
def test_a_bad_table_is_refused_with_its_line(
    tmp_path: Path, lines: list[str], message: str
) -> None:
    with pytest.raises(BadTable, match=message):
        read_table(sss(tmp_path, *lines), SSS)


@pytest.mark.parametrize(
    "cell", ["x", "1,5", "nan", "inf", "1e999", "1_000", "0x1", "\u0661", "--1"]
)
def test_a_cell_that_is_no_number_is_refused_with_its_line(tmp_path: Path, cell: str) -> None:
    path = sss(tmp_path, "arch,x,y", "8:8:8:8:8,1,2", f'16:8:8:8:8,"{cell}",2')
    table = read_table(path, SSS)
    np.testing.assert_array_equal(table.column("y"), [2.0, 2.0])  # only what is asked for
    with pytest.raises(BadTable, match=r"table.csv:3: column 'x': expected a number .* got '"):
        table.column("x")


def test_an_unknown_column_is_refused_with_a_suggestion(tiny: Table) -> None:
    with pytest.raises(BadTable, match=r"tiny_tss.csv:1: no column 'c10_tset_200'.*'c10_test_200'"):
        tiny.truth("c10_tset_200")


def test_a_column_without_any_number_is_no_truth(tmp_path: Path) -> None:
    with pytest.raises(BadTable, match="every cell of column 'x' is empty"):
        read_table(sss(tmp_path, "arch,x", "8:8:8:8:8,"), SSS).truth("x")


def test_a_file_that_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(BadTable, match=r"tabel.csv: no such file. Did you mean 'table.csv'\?"):
        read_table(sss(tmp_path, "arch,x").with_name("tabel.csv"), SSS)
    with pytest.raises(BadTable, match=r"cannot read"):
        read_table(tmp_path, SSS)
    with pytest.raises(BadTable, match=r"nowhere/t.csv: no such file"):
        read_table("nowhere/t.csv", SSS)
    with pytest.raises(BadTable, match=r"cannot read"):
        read_table("a\0b", SSS)
    broken = tmp_path / "broken.csv.gz"
    for content, message in [
        (gzip.compress(b"arch,x\n8:8:8:8:8,1\n")[:-9], "broken gzip file"),
        (b"\x1f\x8bxx", "broken gzip file"),
        (b"arch,x\n8:8:8:8:8,\xff\n", "broken.csv.gz:2: not UTF-8"),
    ]:
        broken.write_bytes(content)
        with pytest.raises(BadTable, match=message):
            read_table(broken, SSS)


@pytest.mark.parametrize("name", ["plain.csv", "with:colon.csv", "C:drive.csv", "a b;c.csv"])
def test_truth_text_splits_at_the_last_colon(tmp_path: Path, name: str) -> None:
    path = sss(tmp_path, "arch,x", "8:8:8:8:8,1").rename(tmp_path / name)
    truth = parse_truth(f"{path}:x", SSS)
    assert (truth.source, truth.column, truth.best()[1]) == (str(path), "x", 1.0)
    with pytest.raises(BadTable, match=r"expected PATH:COLUMN; columns: x"):
        parse_truth(str(path), SSS)
    with pytest.raises(BadTable, match=r"expected PATH:COLUMN; columns: x"):
        parse_truth(f"{path}:", SSS)


def test_truth_text_may_name_several_columns(tmp_path: Path) -> None:
    path = sss(tmp_path, 'arch,x,y,"y,x"', "8:8:8:8:8,1,2,3", "8:8:8:8:16,,4,5")

    def columns(names: str) -> list[tuple[str, int]]:
        return [(truth.column, len(truth)) for truth in parse_truths(f"{path}:{names}", SSS)]

    assert columns("y") == [("y", 2)]
    assert columns("x,y,x") == [("x", 1), ("y", 2)]
    assert columns("y,x") == [("y,x", 2)], "a name that holds a comma"
    with pytest.raises(BadTable, match="no column 'z'"):
        columns("x,z")
    with pytest.raises(BadTable, match="no column ''"):
        columns("x,")
    with pytest.raises(BadTable, match=r"expected PATH:COLUMN; columns: x"):
        parse_truths(str(path), SSS)


@pytest.mark.parametrize("text", ["", ":", ":x", "x:", "x", r"C:\tables\t.csv", "./a:b/t.csv"])
def test_truth_text_without_path_or_column(text: str) -> None:
    with pytest.raises(BadTable, match=r"expected PATH:COLUMN, such as 'table.csv.gz:c10_test"):
        parse_truth(text, SSS)


def test_truth_of_a_file_that_is_not_there() -> None:
    with pytest.raises(BadTable, match=r"D:\\t.csv: no such file"):
        parse_truth(r"D:\t.csv:c10_test_200", SSS)


class RowSpace(NatsSss):
    """A space whose benchmark writes its members in columns of their own."""

    row_columns = ("first", "rest")

    def from_row(self, row: Mapping[str, str]) -> Arch:
        return self.from_str(f"{row['first']}:{row['rest']}")


def test_a_space_may_read_rows_its_own_way(tmp_path: Path) -> None:
    space: Space = RowSpace()
    path = sss(tmp_path, "first,acc,rest", "8,0.5,8:8:8:64")
    table = read_table(path, space)
    assert table.columns == ("acc",)
    assert table.truth("acc").best() == (space.from_str("8:8:8:8:64"), 0.5)
    with pytest.raises(BadTable, match=r"table.csv:1: no column 'rest'"):
        read_table(sss(tmp_path, "first,acc", "8,0.5"), space)


def test_the_validation_view_answers_validation_only(tiny: Table) -> None:
    view = tiny.validation_view()
    assert view.archs == tiny.archs
    ask = view.validation_accuracy_percent
    assert ask(FIRST, dataset="cifar10-valid", epochs=200) == 81.25
    assert ask(THIRD, dataset="cifar100", epochs=200) == 61.5
    with pytest.raises(NotMeasured, match="use 'cifar10-valid'"):
        ask(FIRST, dataset="cifar10", epochs=200)
    with pytest.raises(NotMeasured, match=r"no column for .*12 epochs.*It has: cifar10-valid"):
        ask(FIRST, dataset="cifar10-valid", epochs=12)
    with pytest.raises(NotMeasured, match=r"of \|nor_conv_3x3~0.* is not known"):
        ask(SECOND, dataset="cifar100", epochs=200)
    with pytest.raises(NotMeasured, match=r"is not known"):
        ask((0, 0, 0, 0, 0, 0), dataset="cifar100", epochs=200)
    assert not hasattr(view, "test_accuracy_percent")


def test_the_test_view_answers_test_only(tiny: Table) -> None:
    view = tiny.test_view()
    ask = view.test_accuracy_percent
    assert ask(FIRST, dataset="cifar10", epochs=200) == 85.5
    assert ask(FIRST, dataset="cifar10", epochs=12) == 69.5
    assert ask(FIRST, dataset="cifar10", epochs=200, seed=777) == 85.25
    assert view.best_test_accuracy_percent(dataset="cifar10", epochs=200) == (SECOND, 91.5)
    assert view.best_test_accuracy_percent(dataset="cifar10", epochs=12) == (THIRD, 79.5)
    with pytest.raises(NotMeasured, match="seed 888"):
        ask(FIRST, dataset="cifar10", epochs=200, seed=888)
    with pytest.raises(NotMeasured, match="no column for"):
        ask(FIRST, dataset="ImageNet16-120", epochs=200)
    assert not hasattr(view, "validation_accuracy_percent")


def reachable_numbers(start: object) -> set[float]:
    """Return every float that can be reached from an object, without passing through a module."""
    seen: dict[int, object] = {}
    numbers: set[float] = set()
    stack: list[object] = [start]
    while stack:
        thing = stack.pop()
        if id(thing) in seen or isinstance(thing, ModuleType | type):
            continue
        seen[id(thing)] = thing
        if isinstance(thing, float):
            numbers.add(thing)
        elif isinstance(thing, str):  # a table keeps its cells as text
            try:
                numbers.add(float(thing))
            except ValueError:
                continue
        elif isinstance(thing, np.ndarray):
            numbers.update(float(number) for number in thing.ravel())
        elif isinstance(thing, FunctionType):  # its globals are its module's
            stack.extend([thing.__closure__, thing.__defaults__, thing.__dict__])
        else:
            stack.extend(gc.get_referents(thing))
    return numbers


def test_no_test_accuracy_is_reachable_from_the_validation_view(tiny: Table) -> None:
    tests = {85.5, 91.5, 88.75, 69.5, 85.25}
    validations = {81.25, 87.75, 52.75}  # no whole ones: indices are reachable as well
    assert tests | validations <= reachable_numbers(tiny)
    assert validations <= reachable_numbers(tiny.validation_view())
    assert not tests & reachable_numbers(tiny.validation_view())
    assert tests <= reachable_numbers(tiny.test_view())
    assert not validations & reachable_numbers(tiny.test_view())


def test_two_columns_of_the_same_meaning_are_refused_by_the_view(tmp_path: Path) -> None:
    path = sss(tmp_path, "arch,c10_val_90,c10valid_val_90", "8:8:8:8:8,1,2")
    with pytest.raises(BadTable, match=r"'c10_val_90' and 'c10valid_val_90' both mean"):
        read_table(path, SSS).validation_view()


NUMBERS = st.none() | st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.dictionaries(st.integers(0, len(SSS) - 1), NUMBERS, min_size=1, max_size=20),
    st.sampled_from(["\n", "\r\n"]),
)
@settings(max_examples=50)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: dict[int, float | None], end: str
) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator=end)
    writer.writerow(["x", "arch"])
    for index, number in rows.items():
        writer.writerow(["" if number is None else repr(number), SSS.to_str(SSS.at(index))])
    path = tmp_path_factory.mktemp("tables") / "t.csv"
    path.write_bytes(stream.getvalue().encode())
    table = read_table(path, SSS)
    wanted = [math.nan if number is None else number for number in rows.values()]
    np.testing.assert_array_equal(table.column("x"), wanted)
    assert table.archs == tuple(SSS.at(index) for index in rows)


@given(st.text(alphabet=" 0123456789.eE+-_xnaif\t", max_size=12))
@settings(max_examples=100)
def test_any_cell_is_a_finite_number_unknown_or_refused(
    tmp_path_factory: pytest.TempPathFactory, cell: str
) -> None:
    path = tmp_path_factory.mktemp("tables") / "t.csv"
    path.write_text(f'arch,x\n8:8:8:8:8,"{cell}"\n', encoding="utf-8")
    table = read_table(path, SSS)
    try:
        (number,) = table.column("x")
    except BadTable:
        return
    assert math.isfinite(number) == bool(cell.strip())
    if cell.strip():
        assert number == float(cell)


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode), st.booleans())
@settings(max_examples=100)
def test_any_file_is_a_table_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, packed: bool
) -> None:
    path = tmp_path_factory.mktemp("tables") / "t.csv"
    path.write_bytes(gzip.compress(content) if packed else b"arch,x\n8:8:8:8:8," + content)
    try:
        table = read_table(path, SSS)
    except BadTable as error:
        assert str(path) in str(error)  # noqa: PT017 - either outcome is right
    else:
        assert len(table) > 0


@given(st.text(max_size=40) | st.text(alphabet="ab:/\\. \0", max_size=300))
@settings(max_examples=100)
def test_any_truth_text_is_refused_with_a_message(text: str) -> None:
    with pytest.raises(NasError):
        parse_truth(text, SSS)


@pytest.mark.parametrize(
    ("file", "space", "n", "best"),
    [  # the figures are those that the benchmarks' papers and the tables' description give
        (
            "nats_tss.csv.gz",
            "nats_tss",
            15_625,
            {"c10_test_200": 94.373, "c100_test_200": 73.513, "in16_test_200": 47.311},
        ),
        ("nats_sss.csv.gz", "nats_sss", 7, {"c10_test_90": 93.4}),
        (
            "transnas_micro.csv.gz",
            "transnas_micro",
            4_096,
            {"class_object": 46.32, "class_scene": 54.94},
        ),
        ("nasbench101_500.csv.gz", "nasbench101", 500, {"acc": 0.9388}),
    ],
)
def test_the_real_tables(
    shared_data: Path, file: str, space: str, n: int, best: dict[str, float]
) -> None:
    table = read_table(shared_data / file, SPACES[space])
    for column, highest in best.items():
        truth = table.truth(column)
        assert len(truth) == n
        assert truth.best()[1] == pytest.approx(highest, rel=1e-4)
