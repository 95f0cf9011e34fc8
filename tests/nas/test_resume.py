"""Resume is a replay: a search that is killed at any moment ends as one that is not.

A real process is killed with SIGKILL, at moments drawn over the time that a whole search takes,
and started again until it finishes.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from nas.seeds import generator
from tests.nas.toys import TOY

CHECKOUT = Path(__file__).resolve().parents[2]
BUDGET = {"toy": 96, "real": 24}
BATCH = 6

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")


def start(folder: Path, scene: str, strategy: str) -> subprocess.Popen[bytes]:
    """Start a search and return when its own clock begins."""
    files = [str(folder / name) for name in ("scores.sqlite", "log", "out.json")]
    what = [scene, strategy, str(BUDGET[scene]), str(BATCH)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.nas.toys", *files, *what],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    if process.stdout.readline() != b"started\n":
        with process:
            process.kill()
        pytest.fail("the search did not start; its own error is above")
    return process


def finish(process: subprocess.Popen[bytes]) -> None:
    with process:
        assert process.wait(timeout=120) == 0


def kill_at(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Kill the process after ``seconds``; tell whether it was still at work."""
    with process:
        try:
            process.wait(timeout=seconds)  # returns early when the search is over before
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
        return process.wait(timeout=120) == -signal.SIGKILL


def scorings(folder: Path) -> Counter[str]:
    log = folder / "log"
    return Counter(log.read_text(encoding="utf-8").splitlines() if log.exists() else [])


def check_kills(tmp_path: Path, scene: str, strategy: str, n_kills: int) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    process = start(whole, scene, strategy)
    began = time.perf_counter()
    finish(process)
    expected_seconds = time.perf_counter() - began
    expected = json.loads((whole / "out.json").read_text(encoding="utf-8"))
    assert len(expected["trials"]) == BUDGET[scene]
    assert sum(scorings(whole).values()) == len(scorings(whole)) == BUDGET[scene]
    # failures are replayed, too
    assert scene == "real" or any(trial["error"] for trial in expected["trials"])

    moments = generator(0, "kill", strategy)
    kills = searches = 0
    while kills < n_kills:
        searches += 1
        folder = tmp_path / f"search-{searches}"
        folder.mkdir()
        kills_here = 0
        while not (folder / "out.json").exists():
            process = start(folder, scene, strategy)
            if kills + kills_here == n_kills:
                finish(process)
            elif kill_at(process, moments.uniform(0, expected_seconds)):
                kills_here += 1
        kills += kills_here
        assert json.loads((folder / "out.json").read_text(encoding="utf-8")) == expected
        counts = scorings(folder)
        assert set(counts) == set(scorings(whole))
        assert sum(counts.values()) - len(counts) <= kills_here * BATCH


def test_five_kills(tmp_path: Path) -> None:
    check_kills(tmp_path, "toy", "evolution", 5)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["random", "evolution", "local_search", "tpe"])
def test_eight_kills(strategy: str, tmp_path: Path) -> None:
    check_kills(tmp_path, "toy", strategy, 8)


@pytest.mark.slow
def test_four_kills_of_a_real_search(tmp_path: Path) -> None:
    check_kills(tmp_path, "real", "evolution", 4)


def test_the_toy_search_is_worth_killing() -> None:
    """It leaves most of the space unseen, so that a wrong replay would be seen in its trials."""
    assert len(TOY) > 2 * BUDGET["toy"]
    assert BUDGET["toy"] / BATCH >= 10
