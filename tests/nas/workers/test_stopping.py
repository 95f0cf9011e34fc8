"""A command that somebody stops: what is there is kept, no worker stays, the shell is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

NAS = [sys.executable, "-c", "from nas.cli import main; main()", "search", "smoke"]
SETTINGS = ["budget=200", "strategy=evolution", "proxy=synflow", "seed=3"]

# A command that takes its time to end: one signal is heard, two end it.
SLOW_TO_END = """
import time
from nas.cli.console import guarded
@guarded
def command():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("ending", flush=True)
        time.sleep(60)
command()
"""


def start(folder: Path, *settings: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*NAS, "--out", "run", *SETTINGS, *settings], cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"},
        # Whoever runs the tests in the background of a shell has Ctrl-C ignored, and so would we.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def wait_for_trials(folder: Path, process: subprocess.Popen[str]) -> None:
    table = folder / "run" / "trials.csv"
    for _ in range(1200):
        if table.exists() and len(table.read_text().splitlines()) > 40:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError("no trial within two minutes")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "code", "workers"), [(signal.SIGINT, 130, 2), (signal.SIGTERM, 143, 0)]
)
def test_a_stopped_search_ends_cleanly_and_goes_on(
    how: signal.Signals, code: int, workers: int, tmp_path: Path
) -> None:
    process = start(tmp_path, f"workers={workers}")
    wait_for_trials(tmp_path, process)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= workers
    process.send_signal(how)
    _, told = process.communicate(timeout=60)
    assert process.returncode == code, told
    assert told.splitlines()[-1].startswith("interrupted after ")
    assert told.splitlines()[-1].endswith("nas-search --resume run")
    assert "Traceback" not in told
    psutil.wait_procs(family, timeout=10)
    assert not [each for each in family if each.is_running()]

    other = subprocess.run(
        [*NAS, "--out", "run", *SETTINGS, "workers=1"], cwd=tmp_path, capture_output=True, text=True
    )
    assert other.returncode == 0, other.stderr
    assert "going on in run" in other.stderr  # who works is no part of what is searched
    whole = tmp_path / "whole"
    whole.mkdir()
    undisturbed = start(whole)
    undisturbed.communicate()
    assert undisturbed.returncode == 0
    for name in ("top", "n_trials", "failures"):
        found, expected = (
            json.loads((folder / "run" / "result.json").read_text())[name]
            for folder in (tmp_path, whole)
        )
        assert found == expected


def test_a_second_signal_ends_at_once() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SLOW_TO_END], stdout=subprocess.PIPE, text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "ending\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 130
