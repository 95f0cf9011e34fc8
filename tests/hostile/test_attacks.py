"""Files and names made to do harm: each kind is refused by one clear message, and nothing runs."""

from __future__ import annotations

import ast
import bz2
import gzip
import io
import os
import pickle
import sqlite3
import sys
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from nas.benchmark import open_archive, parse_truth, read_table
from nas.benchmark.unpickle import load_arrays, load_pickle
from nas.builder import builder
from nas.cli import app
from nas.design.formula import read_formula
from nas.hardware.lookup import LookupLatency
from nas.networks import images
from nas.networks.images import load_images
from nas.predictor import container
from nas.predictor.container import read as read_predictor
from nas.recipe import load_recipe
from nas.recipe.design import DESIGN
from nas.recipe.fit import FIT
from nas.recipe.kinds import Kind, load_kind
from nas.recipe.search import SEARCH
from nas.recipe.train import TRAIN
from nas.space_file import find_space
from nas.store import Store
from nas.training import archives, arrays, checkpoint
from nas.training.archives import ArchiveOptions
from nas.training.arrays import NpzOptions, load_npz
from nas.training.splits import read_split
from spaces import NATS_TSS, NasError

KINDS: dict[str, Kind] = {"search": SEARCH, "fit": FIT, "design": DESIGN, "train": TRAIN}


class Touch:
    """Pickles into a call that makes a file: if it is there, the pickle was run."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.system, (f"touch '{self.mark}'",)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "the-attack-ran"


def test_the_attack_works_on_a_plain_unpickler(mark: Path) -> None:
    pickle.loads(pickle.dumps(Touch(mark)))  # noqa: S301 - to know that the tests below can fail
    assert mark.exists()


def _zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def _objects(mark: Path) -> bytes:
    """Return an ``.npy`` file of one pickled object."""
    stream = io.BytesIO()
    np.save(stream, np.asarray([Touch(mark)], dtype=object), allow_pickle=True)
    return stream.getvalue()


def _cifar(root: Path, content: bytes) -> Path:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in archives.ARCHIVES["cifar10"].files:
        (folder / name).write_bytes(content)
    return root


def _exploit(mark: Path) -> bytes:
    return pickle.dumps(Touch(mark), protocol=2)


#: What reads a file that may be a pickle: (name of the file, its content, how it is read).
Loader = tuple[str, Callable[[Path], bytes], Callable[[Path], object]]
LOADERS: dict[str, Loader] = {
    "nats file": ("a.pickle.pbz2", lambda mark: bz2.compress(_exploit(mark)), open_archive),
    "nats folder": (
        "meta.pickle.pbz2",
        lambda mark: bz2.compress(_exploit(mark)),
        lambda path: open_archive(path.parent),
    ),
    "bare pickle": ("a.pkl", _exploit, load_pickle),
    "image batch": ("batch", _exploit, lambda path: load_arrays(path.read_bytes(), "batch")),
    "training arrays": (
        "a.npz",
        lambda mark: _zip(mark.with_name("z"), {"images.npy": _objects(mark), "labels.npy": b""})
        .read_bytes(),
        lambda path: load_npz(NpzOptions(file=str(path), train=1)),
    ),
    "images of a search": (
        "a.npz",
        lambda mark: _zip(mark.with_name("z"), {"images.npy": _objects(mark)}).read_bytes(),
        lambda path: load_images(str(path)),
    ),
    "one array": ("a.npy", _objects, lambda path: load_images(str(path))),
    "a pickle called npy": ("a.npy", _exploit, lambda path: load_images(str(path))),
    "predictor": (
        "p.npz",
        lambda mark: _zip(mark.with_name("z"), {"header.npy": _objects(mark)}).read_bytes(),
        read_predictor,
    ),
    "a pickle called predictor": ("p.npz", _exploit, read_predictor),
    "checkpoint": (
        "checkpoint.pt",
        lambda mark: _saved({"format": 1, "key": "k", "state": Touch(mark)}),
        lambda path: checkpoint.load(path, "k", "cpu"),
    ),
    "a pickle called checkpoint": (
        "checkpoint.pt",
        _exploit,
        lambda path: checkpoint.load(path, "k", "cpu"),
    ),
    "score cache": ("scores.sqlite", _exploit, Store),
    "table": ("t.csv", _exploit, lambda path: read_table(path, NATS_TSS)),
    "recipe": ("r.yaml", _exploit, load_recipe),
    "space": ("s.yaml", _exploit, lambda path: find_space(str(path))),
    "formula": ("f.yaml", _exploit, read_formula),
    "latency table": ("l.yaml", _exploit, LookupLatency.load),
    "split": ("s.txt", _exploit, lambda path: read_split({"file": str(path)}, 4, 4)),
}  # fmt: skip


def _saved(state: object) -> bytes:
    stream = io.BytesIO()
    torch.save(state, stream)
    return stream.getvalue()


@pytest.mark.parametrize("name", LOADERS)
def test_no_loader_runs_a_pickle(name: str, tmp_path: Path, mark: Path) -> None:
    file, make, load = LOADERS[name]
    path = tmp_path / file
    path.write_bytes(make(mark))
    with pytest.raises(NasError) as caught:
        load(path)
    assert not mark.exists()
    assert len(str(caught.value)) > 20


def test_a_pickle_in_an_archive_of_images_is_refused(
    tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = _cifar(tmp_path / "data", _exploit(mark))
    with pytest.raises(NasError, match="not the published file: its md5 is"):
        archives.load_archive("cifar10", ArchiveOptions(root=str(root)))
    monkeypatch.setattr(archives, "check_md5", lambda *args: None)  # as if somebody forged that
    with pytest.raises(NasError, match=r"refused the global '(posix|nt)\.system'"):
        archives.load_archive("cifar10", ArchiveOptions(root=str(root)))
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02r\xff\xff\xff\x7fN.",  # asks for a memo of 2^31 entries
        b"(dp0\nV12\np1\nr111833245.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x0fx.",  # a text of 2^60 bytes
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x0f.",  # a frame of as many
    ],
)
def test_a_few_bytes_cannot_take_all_memory(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "p"
    path.write_bytes(content)
    with pytest.raises(NasError, match=r"memory|not a readable pickle|than the allowed"):
        load_pickle(path)
    with pytest.raises(NasError, match=r"memory|not a readable pickle"):
        load_arrays(content, "p")


def test_a_pickle_that_nests_without_end_is_told_in_one_line() -> None:
    doubled = b"N" + 60 * b"2\x86"  # DUP, TUPLE2: a tree of 2^60 leaves in 120 bytes
    with pytest.raises(NasError, match="refused the persistent id") as caught:
        load_arrays(b"\x80\x02" + doubled + b"Q.", "p")
    assert len(str(caught.value)) < 500


LAUGHS = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)

#: Texts that no YAML reader should be handed: what is in the message.
YAML: dict[str, tuple[str, str]] = {
    "a tag that calls": ("a: !!python/object/apply:os.system ['touch MARK']\n", "is not allowed"),
    "a tag that imports": ("a: !!python/name:os.system\n", "is not allowed"),
    "a tag of one's own": ("!exec 'touch MARK'\n", "is not allowed|expected|valid"),
    "a billion laughs": (LAUGHS, "more than 5000 values"),
    "laughs by merging": (
        "a: &a {x: 1, y: 1}\n"
        + "".join(
            f"{new}: &{new} {{p: *{old}, q: *{old}, <<: *{old}}}\n"
            for old, new in zip("abcdefghijklmnopq", "bcdefghijklmnopqr", strict=True)
        ),
        "more than 5000 values",
    ),
    "a loop": ("a: &a [*a]\n", "more than 20 levels"),
    "depth": ("[" * 5000, "more than 20 levels"),
    "depth in blocks": ("\n".join(" " * i + "a:" for i in range(200)), "more than 20 levels"),
    "length": ("a: " + "x" * 100_000, "at most 65536 characters"),
    "more length": ("a: " + "x" * 1_000_000, "larger than the allowed 256 KiB"),
    "many documents": ("a: 1\n---\n" * 1000, "expected a single document"),
}

READERS: dict[str, Callable[[Path], object]] = {
    **{f"{name} recipe": lambda path, kind=kind: load_kind(kind, path)  # type: ignore[misc]
       for name, kind in KINDS.items()},
    "space": lambda path: find_space(str(path)),
    "formula": read_formula,
    "latency table": LookupLatency.load,
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("attack", YAML)
def test_yaml_is_bounded_and_runs_nothing(
    attack: str, reader: str, tmp_path: Path, mark: Path
) -> None:
    text, message = YAML[attack]
    path = tmp_path / "attack.yaml"
    path.write_text(text.replace("MARK", str(mark)))
    if reader == "latency table" and "tag" in attack:
        message = "no look-up table"  # plain values come out, none of them ours
    with pytest.raises(NasError, match=message):
        READERS[reader](path)
    assert not mark.exists()


@pytest.mark.parametrize("reader", READERS)
def test_a_pipe_or_device_in_place_of_a_file_does_not_block(reader: str, tmp_path: Path) -> None:
    path = tmp_path / "pipe.yaml"
    os.mkfifo(path)
    for place in (path, Path("/dev/zero")):
        if place.suffix or not reader.startswith("space"):
            with pytest.raises(NasError, match="not a regular file"):
                READERS[reader](place)


BAD_NAMES = (
    "../../x",
    "/etc/x",
    "a/b",
    "a\\b",
    "..\\x",
    "a\0b",
    "~/x",
    "x" * 61,
    "",
    "a\nb",
    "$(x)",
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_is_no_path(kind: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"name: {_quoted(name)}\nspace: nats_tss\nproxy: sed\n")
    with pytest.raises(NasError, match=r"name: (expected 1 to 60 letters|the control character)"):
        load_kind(KINDS[kind], path)
    path.write_text("space: nats_tss\nproxy: sed\n")
    with pytest.raises(NasError, match="name: "):
        load_kind(KINDS[kind], path, [f"name={_quoted(name)}"])


def _quoted(name: str) -> str:
    return '"' + "".join(c if c.isalnum() else f"\\U{ord(c):08x}" for c in name) + '"'


@pytest.mark.parametrize(
    "name",
    ["..", *(pytest.param(name, marks=pytest.mark.slow) for name in (".", "-", "--help", ".x"))],
)
def test_a_name_of_dots_stays_within_its_folder(name: str, tmp_path: Path) -> None:
    words = ["search", "smoke", f'name="{name}"', "budget=1", f"report.folder={tmp_path}/runs"]
    done = CliRunner().invoke(app, [*words, "proxy=sed", "--quiet"])
    assert done.exit_code == 0, done.output
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.endswith(f"-{name}")
    assert [entry.name for entry in tmp_path.iterdir()] == ["runs"]


def test_the_name_of_a_space_is_no_path(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("name: ../x\nstages: [{width: 8}]\n")
    with pytest.raises(NasError, match="name: string should match pattern"):
        find_space(str(path))


def _tar(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def _member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


INSIDE = "cifar-10-batches-py/"


@pytest.mark.parametrize(
    "member",
    [
        _member("../outside"),
        _member(INSIDE + "../../outside"),
        _member("/tmp/outside"),
        _member(INSIDE + "data_batch_1", tarfile.SYMTYPE, "/etc/passwd"),
        _member(INSIDE + "data_batch_1", tarfile.LNKTYPE, "../../secret"),
        _member(INSIDE + "data_batch_1", tarfile.CHRTYPE),
        _member(INSIDE + "data_batch_1", tarfile.FIFOTYPE),
        _member(INSIDE + "data_batch_1", tarfile.DIRTYPE),
    ],
    ids=lambda member: f"{member.type.decode()}-{Path(member.name).name}",
)
def test_members_of_a_tar_go_nowhere(
    member: tarfile.TarInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "data"
    root.mkdir()
    tar = root / "cifar-10-python.tar.gz"
    tar.write_bytes(_tar([(member, b"x" if member.isreg() else b"")]))
    with pytest.raises(NasError, match="not the published file"):
        archives.load_archive("cifar10", ArchiveOptions(root=str(root)))
    monkeypatch.setattr(archives, "check_md5", lambda *args: None)
    with pytest.raises(NasError, match="data_batch_1: no such member"):
        archives.load_archive("cifar10", ArchiveOptions(root=str(root)))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["cifar-10-python.tar.gz", "data"]


def test_a_large_member_of_a_small_tar_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "check_md5", lambda *args: None)
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 2**20)
    tar = tmp_path / "cifar-10-python.tar.gz"
    tar.write_bytes(_tar([(_member(INSIDE + "data_batch_1"), bytes(2**20 + 1))]))
    with pytest.raises(NasError, match="data_batch_1: larger than the allowed 1 MiB"):
        archives.load_archive("cifar10", ArchiveOptions(root=str(tmp_path)))
    tar.unlink()
    _cifar(tmp_path, bytes(2**20 + 1))
    with pytest.raises(NasError, match="data_batch_1: larger than the allowed 1 MiB"):
        archives.load_archive("cifar10", ArchiveOptions(root=str(tmp_path)))


def _npy(shape: tuple[int, ...], content: bytes) -> bytes:
    """Return an ``.npy`` file that claims a shape, whatever it holds."""
    stream = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + content


ARRAYS: dict[str, Callable[[Path], object]] = {
    "training arrays": lambda path: load_npz(NpzOptions(file=str(path), train=1)),
    "images of a search": lambda path: load_images(str(path)),
    "predictor": read_predictor,
}


@pytest.mark.parametrize("reader", ARRAYS)
def test_arrays_that_unpack_to_too_much_are_refused(
    reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, "MAX_BYTES", 2**20)
    monkeypatch.setattr(images, "MAX_BYTES", 2**20)
    monkeypatch.setattr(arrays, "MOST_BYTES", 2**20)
    members = {f"{name}.npy": _npy((2**20,), bytes(2**20)) for name in ("images", "labels")}
    path = _zip(tmp_path / "bomb.npz", members)
    assert path.stat().st_size < 2**14
    with pytest.raises(NasError, match="unpacks to more than the allowed 1 MiB"):
        ARRAYS[reader](path)


@pytest.mark.parametrize("reader", ARRAYS)
@pytest.mark.parametrize("shape", [(2**50,), (2**40, 2**40), (10**9, 3, 32, 32), (-1,)])
def test_arrays_that_claim_more_than_they_hold_are_refused(
    reader: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    claims = {f"{name}.npy": _npy(shape, b"x") for name in ("images", "labels", "header")}
    with pytest.raises(NasError, match=r"bomb\.npz"):
        ARRAYS[reader](_zip(tmp_path / "bomb.npz", claims))


def test_a_table_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nas.benchmark.table as table

    monkeypatch.setattr(table, "MAX_BYTES", 2**20)
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(bytes(2**20 + 1)))
    with pytest.raises(NasError, match=r"t\.csv\.gz: unpacks to more than the allowed 1 MiB"):
        read_table(path, NATS_TSS)
    path.write_bytes(b"arch,x\n" + b"," * 2**20)
    with pytest.raises(NasError, match=r"t\.csv\.gz: larger than the allowed 1 MiB"):
        read_table(path, NATS_TSS)


@pytest.mark.parametrize(
    "cell",
    ["../../etc/passwd", "$(touch x)", "=cmd|'/c calc'!A0", "|" * 100_000, "\x1b[2J", "a\0b"],
)
def test_a_cell_of_a_table_is_an_architecture_or_refused(cell: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f'arch,x\n"{cell}",1\n')
    with pytest.raises(NasError, match=r"t\.csv:2: ") as caught:
        parse_truth(f"{path}:x", NATS_TSS)
    assert len(str(caught.value)) < 1000
    assert [entry.name for entry in tmp_path.iterdir()] == ["t.csv"]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON scores BEGIN DELETE FROM scores; END",
        "CREATE VIEW v AS SELECT * FROM scores",
        "CREATE TABLE other (x)",
        "DROP TABLE scores; CREATE VIEW scores AS WITH RECURSIVE t(x) AS "
        "(SELECT 1 UNION ALL SELECT x + 1 FROM t) SELECT x AS key, x AS value, '' AS reason FROM t",
    ],
)
def test_a_score_cache_with_a_program_in_it_is_refused(statement: str, tmp_path: Path) -> None:
    path = tmp_path / "scores.sqlite"
    with Store(path) as store:
        store.put_many({"a": 1.0})
    with closing(sqlite3.connect(path)) as plain:
        plain.executescript(statement)
    before = path.read_bytes()
    with pytest.raises(NasError, match=r"it holds the|its table is gone"):
        Store(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("value", ["'not a number'", "x'00ff'", "9e999", "-9e999"])
def test_a_score_that_is_no_number_is_refused(value: str, tmp_path: Path) -> None:
    path = tmp_path / "scores.sqlite"
    Store(path).close()
    with closing(sqlite3.connect(path)) as plain:
        plain.execute(f"INSERT INTO scores VALUES ('a', {value}, NULL)")
        plain.commit()
    with Store(path) as store, pytest.raises(NasError, match="neither a finite number nor"):
        store.get_many(["a"])


@pytest.mark.parametrize(
    "setting",
    ["proxy=MOD:mark", "strategy=MOD:mark", "strategy.name=MOD", "proxy.name=MOD:mark",
     "tie_break=MOD:mark", "summary=MOD:mark", "oracle.predictor=MOD:mark", "latency=MOD:mark",
     "benchmark=MOD:mark", "conditions.images=MOD:mark", "cache=MOD:mark", "train.recipe=MOD"],
)  # fmt: skip
def test_only_a_space_and_a_data_set_import_what_they_name(
    setting: str, tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil_module.py").write_text(f"open({str(mark)!r}, 'w')\nmark = 1\n")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "r.yaml"
    path.write_text("space: nats_tss\nproxy: sed\n")
    word = setting.replace("MOD", "evil_module")
    try:
        load_recipe(path, [word])
    except NasError as error:
        assert setting.split("=")[0].split(".")[0] in str(error)  # noqa: PT017
    assert not mark.exists()
    assert "evil_module" not in sys.modules


def test_an_import_path_that_a_person_wrote_is_imported(
    tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As documented; so that the test above says something."""
    (tmp_path / "another_module.py").write_text(f"open({str(mark)!r}, 'w').close()\nSPACE = 1\n")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "r.yaml"
    path.write_text("space: another_module:SPACE\nproxy: sed\n")
    with pytest.raises(NasError, match="is no Space, but int"):
        load_recipe(path)
    assert mark.exists()
    monkeypatch.delitem(sys.modules, "another_module")


@pytest.mark.parametrize("code", ['"""\nimport os\nos.abort()\n"""', '\\"""\nx = 1\n#', "\\", '"'])
def test_a_file_name_cannot_write_code_into_best_py(code: str) -> None:
    def statements(code: str, space: str) -> list[str]:
        row = {"arch": code, "params": 1, "flops": 1}
        tree = ast.parse(builder("name", f"formula:{code} 0.5", space, row, 10))
        return [type(node).__name__ for node in ast.walk(tree)]

    for ending in ("", ".yaml"):
        assert statements(code, f"{code}{ending}") == statements("harmless", f"harmless{ending}")


def test_a_cache_never_writes_over_a_file_that_is_none(tmp_path: Path) -> None:
    precious = tmp_path / "diary.txt"
    precious.write_text("dear diary\n" * 1000)
    words = ["search", "smoke", "budget=1", "proxy=sed", f"cache={precious}", "--quiet"]
    done = CliRunner().invoke(app, [*words, f"report.folder={tmp_path}/runs"])
    assert done.exit_code == 2
    assert "diary.txt: no score cache, or a damaged one" in done.stderr
    assert precious.read_text() == "dear diary\n" * 1000


def test_the_tiny_archive_of_the_attacks_is_read_where_nothing_is_wrong(tmp_path: Path) -> None:
    """Else the refusals above could have other reasons."""
    from tests.nas.training.official import tiny, unpacked

    record, files, tar = tiny("cifar10")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(archives.ARCHIVES, "cifar10", replace(record))
        unpacked(tmp_path / "cifar-10-batches-py", files)
        assert (
            len(archives.load_archive("cifar10", ArchiveOptions(root=str(tmp_path))).classes) == 10
        )
        (tmp_path / "tar").mkdir()
        (tmp_path / "tar" / "cifar-10-python.tar.gz").write_bytes(tar)
        archives.load_archive("cifar10", ArchiveOptions(root=str(tmp_path / "tar")))


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("{width: 65537}", r"width: expected numbers of at least 1 and at most 65,536"),
        ("{width: 8, depth: [1, 1000000000]}", r"depth: .* at most 256"),
        ("{width: 8, kernel: [3, 777777777777777777777777]}", r"kernel: .* at most 255"),
        ("{width: 8, expansion: [1, 100000]}", r"expansion: .* at most 256"),
    ],
)
def test_a_space_that_would_fill_the_memory_is_refused(
    stage: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(f"name: x\nstages: [{stage}]\n")
    with pytest.raises(NasError, match=rf"s\.yaml: {message}"):
        find_space(str(path))
    path.write_text(f"name: x\nstages: [{','.join(['{width: [8, 16]}'] * 65)}]\n")
    with pytest.raises(NasError, match="at most 64"):
        find_space(str(path))
