"""The restricted unpickler: official records come through, everything else is refused unrun."""

from __future__ import annotations

import bz2
import io
import os
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.benchmark.unpickle import (
    UnreadablePickle,
    UnsafePickle,
    load_arrays,
    load_pickle,
)
from spaces.errors import NasError


class Calls:
    """Pickles into a call of any function, the usual way to attack an unpickler."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.function = function
        self.arguments = arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.function, self.arguments


def write(path: Path, content: bytes, *, packed: bool = True) -> Path:
    path.write_bytes(bz2.compress(content) if packed else content)
    return path


def a_record() -> dict[str, Any]:
    return {
        "12": OrderedDict({
            "params": np.float64(0.129306),
            "half": np.float32(0.5),
            "epochs": np.int64(12),
            "big_endian": np.dtype(">i4").type(7),
            "all_results": {("cifar10", 777): {"train": {0: 26.5}, "net": None}},
            "seeds": [111, 777],
            "done": True,
            "evaluated": {1, 2},
        })
    }  # fmt: skip


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("packed", [True, False])
def test_the_content_of_a_record_comes_through(tmp_path: Path, protocol: int, packed: bool) -> None:
    record = a_record()
    if protocol == 2:  # writes the bytes of numbers through _codecs.encode, which no archive does
        record["12"] = {"evaluated": {1, 2}, "seeds": [111, 777]}
    path = write(tmp_path / "record", pickle.dumps(record, protocol=protocol), packed=packed)
    assert load_pickle(path) == record


def test_numbers_become_plain_python_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "record", pickle.dumps(a_record(), protocol=4))
    loaded = load_pickle(path)
    assert isinstance(loaded, dict)
    kinds = {name: type(value) for name, value in loaded["12"].items()}
    assert (kinds["params"], kinds["half"], kinds["epochs"]) == (float, float, int)
    assert type(loaded["12"]) is dict


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
@pytest.mark.parametrize(("order", "code"), [("<", "<d"), (">", ">d")])
def test_numbers_of_old_and_new_numpy(tmp_path: Path, module: str, order: str, code: str) -> None:
    # written by hand, opcode by opcode: scalar(dtype('f8', False, True).BUILD(state), bytes)
    state = (3, order, None, None, None, -1, -1, 0)
    content = b"".join([
        b"\x80\x03",
        f"c{module}\nscalar\n".encode(),
        b"cnumpy\ndtype\nX\x02\x00\x00\x00f8\x89\x88\x87R",
        pickle.dumps(state, protocol=3)[2:-1],
        b"bC\x08" + struct.pack(code, 85.625) + b"\x86R.",
    ])  # fmt: skip
    assert load_pickle(write(tmp_path / "number", content)) == 85.625


def hostile(marker: Path) -> dict[str, bytes]:
    """Return pickles that would create ``marker``; by a real unpickler, most of them do."""
    touch = f"touch {marker}"
    code = f"open({str(marker)!r}, 'w').close()"
    attacks: dict[str, bytes] = {}
    for protocol in range(6):
        attacks[f"system {protocol}"] = pickle.dumps(Calls(os.system, touch), protocol=protocol)
        attacks[f"eval {protocol}"] = pickle.dumps(Calls(eval, code), protocol=protocol)
    attacks["exec"] = pickle.dumps(Calls(exec, code))
    attacks["open"] = pickle.dumps(Calls(open, str(marker), "w"))
    attacks["touch"] = pickle.dumps(Calls(Path.touch, marker))
    attacks["getattr"] = pickle.dumps(Calls(getattr, Calls(__import__, "os"), "system"))
    attacks["import"] = pickle.dumps(Calls(__import__, "os"))
    attacks["in a record"] = pickle.dumps({"12": OrderedDict(x=[Calls(os.system, touch)])})
    text = touch.encode()
    attacks["INST"] = b"(S'" + text + b"'\nios\nsystem\n."
    attacks["OBJ"] = b"(cos\nsystem\nS'" + text + b"'\no."
    attacks["BUILD"] = b"ccollections\nOrderedDict\n)Rcos\nsystem\nS'" + text + b"'\n\x85Rb."
    for name in (
        "collections\nOrderedDict.__init__.__globals__",
        "collections\n_sys.modules",
        "collections.abc\nMapping",
        "numpy\nload",
        "numpy.core.multiarray\n_reconstruct",
        "numpy\ndtype.__new__",
        "builtins\nset.__class__",
        "builtins\ndict",
        "copyreg\n_reconstructor",
        "functools\npartial",
        "operator\nattrgetter",
        "__main__\nCalls",
    ):
        module, attribute = name.split("\n")
        attacks[f"GLOBAL {module}.{attribute}"] = f"c{module}\n{attribute}\n.".encode()
        attacks[f"STACK_GLOBAL {module}.{attribute}"] = b"".join([
            b"\x80\x04", *(b"\x8c" + bytes([len(p)]) + p.encode() for p in (module, attribute)),
            b"\x93.",
        ])  # fmt: skip
    return attacks


@pytest.mark.parametrize("attack", hostile(Path("never")))
@pytest.mark.parametrize("packed", [True, False])
def test_a_hostile_pickle_is_refused_by_name_and_runs_nothing(
    tmp_path: Path, attack: str, packed: bool
) -> None:
    marker = tmp_path / "was_here"
    path = write(tmp_path / "attack", hostile(marker)[attack], packed=packed)
    with pytest.raises(UnsafePickle, match=r"refused the global '.*'; an official archive") as info:
        load_pickle(path)
    assert str(info.value).startswith(f"{path}: ")
    assert not marker.exists()


def test_the_attacks_are_real(tmp_path: Path) -> None:
    """What the test above refuses does its harm under the ordinary unpickler."""
    for number, attack in enumerate(["system 4", "eval 2", "exec", "INST", "OBJ", "in a record"]):
        marker = tmp_path / f"marker{number}"
        pickle.loads(hostile(marker)[attack])  # noqa: S301 - harmless ones, written above
        assert marker.exists(), attack


def test_the_refusal_names_the_global(tmp_path: Path) -> None:
    path = write(tmp_path / "attack", pickle.dumps(Calls(os.system, "true"), protocol=4))
    with pytest.raises(UnsafePickle, match=r"refused the global '(posix|nt)\.system'"):
        load_pickle(path)


@pytest.mark.parametrize(
    "content",
    [
        b"Psomething\n.",  # PERSID
        b"Vsomething\nQ.",  # BINPERSID
    ],
)
def test_persistent_ids_are_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UnsafePickle, match="persistent id 'something'"):
        load_pickle(write(tmp_path / "attack", content))


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("an object array", np.array([None], dtype=object)),
        ("an array", np.zeros(3)),
        ("a dtype with fields", np.dtype([("x", "f8")])),
        ("the dtype of objects", np.dtype("O")),
        ("a dtype with metadata", np.dtype("f8", metadata={"x": 1})),
        ("a complex number", np.complex128(1)),
        ("a text", np.str_("x")),
    ],
)
def test_only_plain_numbers_come_from_numpy(tmp_path: Path, what: str, value: object) -> None:
    with pytest.raises(UnsafePickle, match=r"refused"):
        load_pickle(write(tmp_path / "record", pickle.dumps({what: value}, protocol=4)))


@pytest.mark.parametrize(
    "content",
    [
        b"ccollections\nOrderedDict\n)R}S'items'\nI1\nsb.",  # BUILD: an attribute of a dict
        b"cnumpy.core.multiarray\nscalar\n(S'f8'\nS'x'\ntR.",
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'f8'\ntRC\x02abtR.",
        b"cnumpy\ndtype\n(S'f8'\ntR(I3\nS'V'\ntb.",
        b"\x82\x01.",  # EXT1
        b"\x82\x00.",
        b"N",  # no STOP
        b"",
        b"not a pickle",
        b"\x80\xff.",
        b"]N\x85R.",
        b"S'abc'\n)R.",
        b"(" * 10_000 + b".",
    ],
)
def test_everything_else_that_is_odd_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path / "record", content)
    with pytest.raises(NasError) as info:
        load_pickle(path)
    assert str(info.value).startswith(f"{path}: ")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_file_that_is_cut_off_is_an_error(tmp_path: Path, share: float) -> None:
    whole = pickle.dumps(a_record(), protocol=4)
    for cut in (whole[: int(len(whole) * share)], bz2.compress(whole)[: int(300 * share)]):
        (tmp_path / "record").write_bytes(cut)
        with pytest.raises(UnreadablePickle, match="not a readable pickle"):
            load_pickle(tmp_path / "record")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnreadablePickle, match="no such file"):
        load_pickle(tmp_path / "record")
    with pytest.raises(UnreadablePickle, match="not a readable pickle"):
        load_pickle(tmp_path)


def test_a_decompression_bomb_ends_at_the_limit(tmp_path: Path) -> None:
    bomb = pickle.dumps(b"\0" * 30_000_000, protocol=4)
    path = write(tmp_path / "bomb", bomb)
    assert path.stat().st_size < 1_000
    with pytest.raises(UnreadablePickle, match="more than the allowed 1,000,000 bytes"):
        load_pickle(path, max_bytes=1_000_000)
    assert load_pickle(path, max_bytes=len(bomb)) == b"\0" * 30_000_000
    with pytest.raises(UnreadablePickle, match="more than the allowed"):
        load_pickle(path, max_bytes=len(bomb) - 1)


@pytest.mark.parametrize(
    "opcode", [b"\x8e", b"\x8d", b"\x96"]
)  # BINBYTES8, BINUNICODE8, BYTEARRAY8
@pytest.mark.parametrize("size", [2**34, 2**62])
def test_a_claimed_size_reserves_no_memory(tmp_path: Path, opcode: bytes, size: int) -> None:
    path = write(tmp_path / "claim", b"\x80\x05" + opcode + struct.pack("<Q", size) + b"x.")
    with pytest.raises(UnreadablePickle):
        load_pickle(path, max_bytes=1_000_000)


def test_text_opcodes_are_bounded_as_well(tmp_path: Path) -> None:
    path = write(tmp_path / "long_line", b"I" + b"1" * 5_000_000 + b"\n.")
    with pytest.raises(UnreadablePickle, match="more than the allowed"):
        load_pickle(path, max_bytes=1_000_000)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["u1", "<i4", ">i8", "<f4", "f8", "b1"])
def test_arrays_of_plain_numbers_come_through(protocol: int, kind: str) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(kind)
    for each in (array, np.asfortranarray(array), array[:1]):
        content = pickle.dumps({"data": each, "labels": [1, 2]}, protocol=protocol)
        loaded = load_arrays(content, "here")
        assert loaded["labels"] == [1, 2]
        data = loaded["data"]
        assert isinstance(data, np.ndarray)
        assert (data.dtype, data.shape) == (each.dtype, each.shape)
        assert np.array_equal(data, each)


def test_what_python_2_wrote_is_read_as_bytes_under_keys_of_text() -> None:
    content = b"\x80\x02}(U\x05namesq\x01]q\x02(U\x01aU\x02\xc3\xa9eu."
    assert load_arrays(content, "here") == {"names": [b"a", b"\xc3\xa9"]}


@pytest.mark.parametrize(
    "attack", [name for name in hostile(Path("never")) if "multiarray" not in name]
)
def test_hostile_pickles_are_refused_among_arrays_as_well(tmp_path: Path, attack: str) -> None:
    marker = tmp_path / "was_here"
    with pytest.raises(UnsafePickle, match=r"^here: refused the global '.*'; an official archive"):
        load_arrays(hostile(marker)[attack], "here")
    assert not marker.exists()


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n"
EMPTY = ARRAY + b"(cnumpy\nndarray\n(K\x00tU\x01btR"


@pytest.mark.parametrize(
    "content",
    [
        ARRAY + b"(cnumpy\nndarray\n(K\x05tU\x01btR.",  # not empty
        ARRAY + b"(ccollections\nOrderedDict\n(K\x00tU\x01btR.",  # of another kind
        EMPTY + b"(K\x01(K\x02tU\x02u1\x89U\x02abtb.",  # the type is a text
        EMPTY + b"}U\x05arrayK\x01sb.",  # BUILD by attributes
        b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tR.",
        pickle.dumps({"data": np.array([None], dtype=object)}, protocol=2),
        pickle.dumps({"data": np.zeros(2, [("x", "f8")])}, protocol=2),
        pickle.dumps({"data": np.zeros(2, "U3")}, protocol=2),
        pickle.dumps({"data": np.zeros(2, "M8[s]")}, protocol=2),
        pickle.dumps({"data": np.ma.masked_array([1, 2], [True, False])}, protocol=2),
    ],
)
def test_only_plain_arrays_are_made(content: bytes) -> None:
    with pytest.raises(UnsafePickle, match=r"^here: refused"):
        load_arrays(content, "here")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"cnumpy\nndarray\n(J\xff\xff\xff\x7ftR.", "not a readable pickle"),  # made directly
        (b"}U\x04data" + EMPTY + b"s.", "an array without content"),
        (EMPTY + b".", "expected a dict"),
        (b"", "not a readable pickle"),
        (b"]N.", "expected a dict|not a readable"),
    ],
)
def test_a_pickle_without_a_dict_of_arrays_is_an_error(content: bytes, message: str) -> None:
    with pytest.raises(UnreadablePickle, match=rf"^here: .*({message})"):
        load_arrays(content, "here")


def test_an_array_has_as_many_bytes_as_its_shape_says() -> None:
    whole = pickle.dumps({"data": np.zeros((2, 3), np.uint8)}, protocol=3)
    assert whole.count(b"K\x02K\x03") == 1
    for shape in (b"K\x02K\x04", b"K\x00K\x03", b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f"):
        with pytest.raises(UnsafePickle, match=r"refused a numpy array of shape .* with 6 bytes"):
            load_arrays(whole.replace(b"K\x02K\x03", shape), "here")
    with pytest.raises(UnsafePickle, match="refused a numpy array that does not hold"):
        load_arrays(whole.replace(b"K\x02K\x03", b"K\x02J\xff\xff\xff\xff"), "here")


def test_records_hold_no_arrays(tmp_path: Path) -> None:
    content = pickle.dumps({"data": np.zeros(3)}, protocol=4)
    load_arrays(content, "here")
    with pytest.raises(UnsafePickle, match="refused the global"):
        load_pickle(write(tmp_path / "record", content))


def test_every_official_record_is_read_exactly(shared_data: Path) -> None:
    files = sorted((shared_data / "nats_bench").glob("*/*.pickle.pbz2"))
    assert len(files) == 8
    for file in files:
        trusted = pickle.load(io.BytesIO(bz2.decompress(file.read_bytes())))  # noqa: S301 - real ones
        assert load_pickle(file) == trusted
