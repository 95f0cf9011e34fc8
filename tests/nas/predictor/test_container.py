"""Files of numbers: what was changed, cut short, or written by something else is refused."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.predictor import container
from nas.predictor.container import BadPredictor, read, write

HEADER = {"space": "nats_tss", "rows": [1, 2, 3]}
ARRAYS = {"a": np.arange(6.0).reshape(2, 3), "b": np.asarray(2.5), "c": np.zeros(0, np.int32)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "p.npz"
    write(path, HEADER, ARRAYS)
    return path


def test_what_is_written_is_read(path: Path) -> None:
    header, arrays, checksum = read(path)
    assert header == HEADER
    assert set(arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype
    assert len(checksum) == 64
    assert write(path, HEADER, ARRAYS) == checksum, "of the content, not of the time"
    assert [x.name for x in path.parent.iterdir()] == ["p.npz"]


def repacked(path: Path, changed: dict[str, np.ndarray]) -> None:
    with np.load(path) as content:
        arrays = {name: content[name] for name in content.files}
    np.savez(path, **{**arrays, **changed})


def test_a_changed_number_is_noticed(path: Path) -> None:
    repacked(path, {"a": ARRAYS["a"] + 1e-12})
    with pytest.raises(BadPredictor, match="was changed after it was written"):
        read(path)


def test_a_changed_header_is_noticed(path: Path) -> None:
    with np.load(path) as content:
        whole = json.loads(bytes(content["header"]))
    whole["content"]["space"] = "nats_sss"
    repacked(path, {"header": np.frombuffer(json.dumps(whole).encode(), np.uint8)})
    with pytest.raises(BadPredictor, match="was changed"):
        read(path)


def test_another_format_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "FORMAT", 99)
    with pytest.raises(BadPredictor, match="a predictor of format 2, this version reads 99"):
        read(path)


def test_other_files_are_told(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.npz"
    np.savez(foreign, a=np.zeros(3))
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "empty.npz").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "zip.npz", "w") as archive:
        archive.writestr("header.npy", b"not an array")
    json_ = tmp_path / "json.npz"
    np.savez(json_, header=np.frombuffer(b'{"magic": "other"}', np.uint8))
    for name in ("foreign", "text", "empty", "zip", "json"):
        with pytest.raises(BadPredictor, match="no predictor file"):
            read(tmp_path / f"{name}.npz")
    with pytest.raises(BadPredictor, match="cannot read: No such file"):
        read(tmp_path / "absent.npz")


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    path = tmp_path / "hostile.npz"

    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (str(tmp_path / "ran"),))

    buffer = io.BytesIO()
    np.save(buffer, np.asarray([Hostile()], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.npy", buffer.getvalue())
    with pytest.raises(BadPredictor, match="no predictor file"):
        read(path)
    assert not (tmp_path / "ran").exists()


def test_a_file_that_unpacks_to_too_much_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, "MAX_BYTES", 100)
    with pytest.raises(BadPredictor, match="unpacks to more"):
        read(path)


@settings(max_examples=300)
@given(at=st.integers(0, 10_000), value=st.integers(0, 255), cut=st.booleans())
def test_whatever_byte_is_changed_the_numbers_are_right_or_refused(
    tmp_path_factory: pytest.TempPathFactory, at: int, value: int, cut: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.npz"
    write(path, HEADER, ARRAYS)
    content = bytearray(path.read_bytes())
    at %= len(content)
    content[at] = value
    path.write_bytes(bytes(content[:at] if cut else content))
    try:
        header, arrays, _ = read(path)
    except BadPredictor:
        return
    assert header == HEADER
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
