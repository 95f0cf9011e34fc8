"""Inputs that once did harm do none, and every target runs; the fuzzing itself is ``run.py``."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS, survives

HERE = Path(__file__).resolve().parent
KNOWN = sorted(HERE.glob("corpus/*/*"))


@pytest.mark.parametrize("path", KNOWN, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_once_crashed_is_a_clean_error(path: Path) -> None:
    survives(TARGETS[path.parent.name], path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_takes_its_seeds_and_nothing_at_all(name: str) -> None:
    target = TARGETS[name]
    survives(target, b"")
    if name == "recipe":  # there are many, and they have a test of their own
        return
    read = 0
    for seed in target.seeds():
        survives(target, seed)
        read += 1
    assert read


def test_a_crash_is_seen() -> None:
    """Else the tests above would say nothing."""
    from dataclasses import replace

    def crashes(data: bytes) -> None:
        raise KeyError(data)

    with pytest.raises(KeyError):
        survives(replace(TARGETS["words"], run=crashes), b"x")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
@pytest.mark.parametrize("name", TARGETS)
def test_a_few_seconds_of_fuzzing(name: str, tmp_path: Path) -> None:
    words = ["--seconds", "6", "--target", name, "--crashes", str(tmp_path), "--seed", "1"]
    done = subprocess.run(
        [sys.executable, str(HERE / "run.py"), *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["executions"] > 0
    assert told["crashes"] == []
