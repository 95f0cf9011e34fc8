"""Files of ours are whole; what a killed process left half is taken away by the next."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from nas.writing import partial_of, write_whole
from spaces.errors import NasError


def test_the_next_writer_takes_away_what_a_killed_one_left(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    node = platform.node()
    stale = tmp_path / f".table.csv.{node}.{dead.pid}.partial"
    others = [
        tmp_path / f".table.csv.{node}.{os.getppid()}.partial",  # a living one's
        tmp_path / f".table.csv.elsewhere.{dead.pid}.partial",  # of another machine
        tmp_path / f".other.csv.{node}.{dead.pid}.partial",
        tmp_path / f".table.csv.{node}.x.partial",
    ]
    for each in [stale, *others]:
        each.write_text("half")
    write_whole(path, "whole")
    assert path.read_text() == "whole"
    assert sorted(tmp_path.iterdir()) == sorted([path, *others])
    assert partial_of(path).parent == tmp_path


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(NasError, match="folder: cannot write: Is a directory; it is kept"):
        write_whole(tmp_path / "folder", b"x", "it is kept")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]
