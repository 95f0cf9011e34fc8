"""A checkpoint is whole or as before, and nothing in it can run."""

import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nas.training import checkpoint
from spaces.errors import NasError

CHECKOUT = Path(__file__).resolve().parents[3]


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    assert checkpoint.load(path, "k", "cpu") is None
    checkpoint.save(
        path, {"key": "k", "weights": {"w": torch.arange(3)}, "epochs": [{"loss": 1.5}]}
    )
    state = checkpoint.load(path, "k", "cpu")
    assert state is not None
    assert state["weights"]["w"].tolist() == [0, 1, 2]
    assert state["epochs"] == [{"loss": 1.5}]
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_the_state_of_another_training_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"key": "one"})
    with pytest.raises(NasError, match="of another training"):
        checkpoint.load(path, "other", "cpu")


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_a_torn_file_is_one_clear_error(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"key": "k", "w": torch.zeros(100)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(NasError, match=r"checkpoint\.pt: not a readable checkpoint: .*delete it"):
        checkpoint.load(path, "k", "cpu")


@given(st.binary(max_size=200), st.integers(0, 400))
def test_any_bytes_are_one_clear_error(some: bytes, place: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pt"
        path.write_bytes(some)
        with pytest.raises(NasError, match=r"not a readable checkpoint|not a checkpoint of this"):
            checkpoint.load(path, "k", "cpu")
        checkpoint.save(path, {"key": "other", "w": torch.zeros(10)})
        whole = bytearray(path.read_bytes())
        whole[place : place + len(some)] = some
        path.write_bytes(whole)
        with pytest.raises(NasError):
            checkpoint.load(path, "k", "cpu")


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"format": 0, "key": "k"}, path)
    with pytest.raises(NasError, match="not a checkpoint of this version"):
        checkpoint.load(path, "k", "cpu")


class _Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def test_a_hostile_file_runs_nothing(tmp_path: Path) -> None:
    path, mark = tmp_path / "checkpoint.pt", tmp_path / "ran"
    torch.save({"format": 1, "key": _Hostile(mark)}, path)
    with pytest.raises(NasError, match="not a readable checkpoint"):
        checkpoint.load(path, "k", "cpu")
    path.write_bytes(pickle.dumps(_Hostile(mark)))
    with pytest.raises(NasError, match="not a readable checkpoint"):
        checkpoint.load(path, "k", "cpu")
    assert not mark.exists()


FULL = """
import resource, signal, sys
from pathlib import Path
import torch
from nas.training import checkpoint
from spaces.errors import NasError

path = Path(sys.argv[1])
checkpoint.save(path, {"key": "k", "epoch": 1})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails instead, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    checkpoint.save(path, {"key": "k", "epoch": 2, "w": torch.zeros(100_000)})
except NasError as error:
    sys.stdout.write(str(error))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files here")
def test_a_full_disk_keeps_the_last_good_one(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)],
        cwd=CHECKOUT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "cannot write: " in done.stdout
    assert "the last good checkpoint is still there" in done.stdout
    state = checkpoint.load(path, "k", "cpu")
    assert state is not None
    assert state["epoch"] == 1
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint.pt"]
