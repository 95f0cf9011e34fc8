"""Folders that cannot be written: a disk of a few hundred kilobytes, and one that is read-only."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


def _mounted(folder: Path, *words: str) -> Iterator[Path]:
    """Mount something at a folder while a test runs; skip where that is not allowed."""
    folder.mkdir()
    try:
        done = subprocess.run(["mount", *words, str(folder)], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if done.returncode:
        pytest.skip(f"may not mount here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    yield from _mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=256k", "none")


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A folder of which :func:`lock` takes the right to write."""
    folder = tmp_path / "locked"
    if os.geteuid() == 0:  # who may write wherever the file system lets anybody write
        yield from _mounted(folder, "-t", "tmpfs", "none")
    else:
        folder.mkdir()
        yield folder
        for path in (folder, *folder.rglob("*")):
            if path.is_dir():
                path.chmod(0o755)


def lock(folder: Path) -> None:
    """Let nobody write into a folder of the fixture ``locked``."""
    if os.geteuid() == 0:
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    else:
        for path in (*folder.rglob("*"), folder):
            if path.is_dir():
                path.chmod(0o555)
