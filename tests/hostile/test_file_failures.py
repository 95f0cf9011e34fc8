"""Disks that are full, folders that are read-only, files that are damaged: told in one line.

Nothing of somebody else's is overwritten, no score that was written down is lost, and the same
command goes on once the fault is gone. The processes are real ones.
"""

from __future__ import annotations

import datetime
import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nas.cli import app
from nas.store import SCHEMA, Store

from .conftest import lock

CHECKOUT = Path(__file__).resolve().parents[2]
BUDGET = 600


def started(*words: str | Path, cwd: Path, size: int | None = None) -> subprocess.Popen[str]:
    """Start ``nas`` in a process; no file of it may be larger than ``size`` bytes."""

    def limited() -> None:
        if size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "nas.cli", *map(str, words)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "MPLBACKEND": "agg"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limited,
    )


def nas(*words: str | Path, cwd: Path, size: int | None = None) -> tuple[int, str, str]:
    """Run ``nas`` and return its exit code, output and messages."""
    process = started(*words, cwd=cwd, size=size)
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def searching(folder: Path, *more: str | Path) -> tuple[str | Path, ...]:
    """Return a search of some seconds whose runs go into a folder."""
    return (
        *("search", "smoke", "proxy=sed", f"budget={BUDGET}", "batch=50", "report.top=3"),
        *(f"report.folder={folder}", *more),
    )


def one_line(code: int, err: str, *parts: str) -> None:
    """Check that a failure is told by one last line, without a traceback."""
    assert code == 2, err
    assert "Traceback" not in err
    last = err.strip().splitlines()[-1]
    for part in parts:
        assert part in last, err


def result(folder: Path) -> dict[str, Any]:
    """Return what does not depend on when and where of the result in a run folder."""
    (path,) = folder.glob("*/result.json")
    told: dict[str, Any] = json.loads(path.read_text())
    return {key: told[key] for key in ("top", "n_trials", "failures")}


def rows(folder: Path) -> dict[str, float]:
    """Return the scores in the cache of the one run in a folder."""
    (path,) = folder.glob("*/scores.sqlite")
    with closing(sqlite3.connect(path)) as plain:
        return dict(plain.execute("SELECT key, value FROM scores"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The result of a search that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole")
    code, _, err = nas(*searching(folder / "runs"), cwd=folder)
    assert code == 0, err
    return result(folder / "runs")


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [1, 12, 40, 70, 100])
def test_a_file_that_may_not_grow(kilobytes: int, tmp_path: Path, whole: dict[str, Any]) -> None:
    runs = tmp_path / "runs"
    code, _, err = nas(*searching(runs), cwd=tmp_path, size=kilobytes * 1024)
    one_line(code, err, str(runs))
    known = rows(runs) if list(runs.glob("*/scores.sqlite")) and kilobytes > 20 else {}
    code, _, err = nas(*searching(runs), cwd=tmp_path)
    assert code == 0, err
    assert result(runs) == whole
    assert known.items() <= rows(runs).items()


@pytest.mark.slow
@pytest.mark.parametrize("free", [20, 60, 120, 200])
def test_a_full_disk(free: int, small_disk: Path, tmp_path: Path, whole: dict[str, Any]) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes((256 - free) * 1024))
    runs = small_disk / "runs"
    code, _, err = nas(*searching(runs), cwd=tmp_path)
    one_line(code, err, str(runs))
    filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    code, _, err = nas(*searching(runs), cwd=tmp_path)
    assert code == 0, err
    assert result(runs) == whole


@pytest.mark.slow
def test_results_that_do_not_fit(tmp_path: Path) -> None:
    score = ("score", "--proxy", "params", "--space", "nats_sss", "8:8:8:8:8")
    code, _, err = nas(*score, "--json", "r.json", cwd=tmp_path, size=16)
    one_line(code, err, "r.json: cannot write: File too large")


def test_a_full_device(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    words = ["score", "--proxy", "params", "--space", "nats_sss", "8:8:8:8:8"]
    done = CliRunner().invoke(app, [*words, "--json", "/dev/full"])
    one_line(done.exit_code, done.stderr, "/dev/full: cannot write: No space left on device")


@pytest.mark.slow
def test_folders_that_are_read_only(locked: Path, tmp_path: Path) -> None:
    runs, cache = locked / "runs", locked / "shared.sqlite"
    code, _, err = nas(*searching(runs, "budget=50", f"cache={cache}"), cwd=tmp_path)
    assert code == 0, err
    (old,) = runs.iterdir()
    before = {path: path.read_bytes() for path in locked.rglob("*") if path.is_file()}
    lock(locked)
    wanted: dict[str, tuple[str | Path, ...]] = {
        "runs": searching(runs),
        "new": searching(tmp_path / "a", "--out", locked / "new"),
        "shared.sqlite": searching(tmp_path / "b", f"cache={cache}"),
        "result.json": ("search", "--resume", old, "budget=60"),
        "r.json": ("score", "--proxy", "params", "--space", "nats_sss", "8:8:8:8:8", "--json",
                   locked / "r.json"),
    }  # fmt: skip
    for name, words in wanted.items():
        code, _, err = nas(*words, cwd=tmp_path)
        one_line(code, err)
        assert name in err or str(old) in err, err
    assert before == {path: path.read_bytes() for path in locked.rglob("*") if path.is_file()}


def _quick(folder: Path, *more: str) -> Any:
    words = ("search", "smoke", "proxy=sed", "budget=40", "batch=20", f"report.folder={folder}")
    return CliRunner().invoke(app, [*words, "--quiet", *more])


@pytest.mark.slow
def test_a_clock_that_goes_backwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of a folder is all that depends on it."""

    class Clock(datetime.datetime):
        moment = datetime.datetime(2026, 5, 1, 12, tzinfo=datetime.UTC)

        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Clock:
            made = cls.fromtimestamp(cls.moment.timestamp(), tz or datetime.UTC)
            assert isinstance(made, Clock)
            return made

    monkeypatch.setattr("nas.runs.folder.datetime.datetime", Clock)
    for moment in ("2026-05-01", "2026-05-01", "2020-01-01", "2031-01-01", "1970-01-02"):
        Clock.moment = datetime.datetime.fromisoformat(moment).replace(tzinfo=datetime.UTC)
        before = {path: path.read_bytes() for path in tmp_path.rglob("result.json")}
        assert _quick(tmp_path).exit_code == 0
        assert all(path.read_bytes() == content for path, content in before.items())
    assert len(list(tmp_path.iterdir())) == 5
    # An interrupted run is found whatever its name says of the time.
    (tmp_path / "2020-01-01_000000-smoke" / "result.json").unlink()
    assert _quick(tmp_path).exit_code == 0
    assert len(list(tmp_path.glob("*/result.json"))) == 5


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _overwritten(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4096] = os.urandom(4096)
    path.write_bytes(content)


def _of_version(version: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with closing(sqlite3.connect(path)) as plain:
            plain.execute(f"PRAGMA user_version = {version}")

    return change


def _of_nobody(path: Path) -> None:
    path.write_bytes(os.urandom(8192))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncated, "damaged"),
        pytest.param(_overwritten, "damaged", marks=pytest.mark.slow),
        pytest.param(
            _of_version(SCHEMA + 1),
            f"format {SCHEMA + 1}, this version reads format {SCHEMA}",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            _of_version(0),
            f"format 0, this version reads format {SCHEMA}",
            marks=pytest.mark.slow,
        ),
        pytest.param(_of_nobody, "no score cache", marks=pytest.mark.slow),
    ],
)
def test_a_damaged_cache(damage: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    cache = tmp_path / "shared.sqlite"
    with Store(cache) as store:  # rows of others, so that there is a middle
        store.put_many({f"{i:064x}": float(i) for i in range(2000)})
    done = _quick(tmp_path / "runs", f"cache={cache}")
    assert done.exit_code == 0, done.output
    damage(cache)
    damaged = cache.read_bytes()
    done = _quick(tmp_path / "runs", f"cache={cache}", "seed=1")
    if done.exit_code:  # the damaged page need not be one that is read
        one_line(done.exit_code, done.stderr, str(cache), message)
        assert cache.read_bytes() == damaged
    else:
        assert damage is _overwritten
    shutil.move(cache, tmp_path / "aside")  # as the message says
    done = _quick(tmp_path / "runs", f"cache={cache}", "seed=1")
    assert done.exit_code == 0, done.output


@pytest.mark.slow
def test_two_runs_of_one_name_in_one_folder(tmp_path: Path, whole: dict[str, Any]) -> None:
    words = searching(tmp_path / "runs", "--out", tmp_path / "runs" / "same")
    both = [started(*words, cwd=tmp_path) for _ in range(2)]
    ended = [process.communicate(timeout=240) for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes[0] == 0, ended
    for process, (_, err) in zip(both, ended, strict=True):
        if process.returncode:
            assert process.returncode == 2
            assert "another process is running this search" in err or "something else" in err, err
    assert result(tmp_path / "runs") == whole


@pytest.mark.slow
def test_two_runs_of_one_name_side_by_side(tmp_path: Path, whole: dict[str, Any]) -> None:
    runs = tmp_path / "runs"
    both = [started(*searching(runs), cwd=tmp_path) for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
    folders = list(runs.iterdir())
    assert len(folders) == 2
    for folder in folders:
        alone = tmp_path / f"alone-{folder.name}"
        alone.mkdir()
        folder.rename(alone / folder.name)
        assert result(alone) == whole


@pytest.mark.parametrize(
    "name",
    [
        "trials.csv",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("recipe.yaml", "result.json", "best.py", ".lock", "scores.sqlite")
        ),
        pytest.param("scores.png", marks=pytest.mark.slow),
    ],
)
def test_a_folder_where_a_file_of_a_run_should_be(name: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = _quick(tmp_path, "--out", str(out))
    assert done.exit_code == 0, done.output
    (out / "result.json").unlink()
    (out / name).unlink(missing_ok=True)
    (out / name / "precious").mkdir(parents=True)
    done = _quick(tmp_path, "--out", str(out))
    one_line(done.exit_code, done.stderr, str(out))
    assert (out / name / "precious").is_dir()


@pytest.mark.slow
def test_a_folder_where_a_file_should_be(tmp_path: Path) -> None:
    folder = tmp_path / "folder.yaml"
    folder.mkdir()
    wanted: dict[str, list[str]] = {
        "recipe": ["search", str(folder)],
        "space": ["score", "--space", str(folder), "--proxy", "params", "x"],
        "cache": ["search", "smoke", f"cache={folder}", f"report.folder={tmp_path}/runs"],
        "benchmark": ["search", "smoke", f"benchmark={folder}:x"],
        "truth": ["rank", "--space", "nats_sss", "--proxy", "params", "--truth", f"{folder}:x"],
        "json": ["score", "--space", "nats_sss", "--proxy", "params", "8:8:8:8:8", "--json",
                 str(folder)],
        "images": ["score", "--space", "nats_sss", "--proxy", "meco", "8:8:8:8:8", "--images",
                   str(folder)],
        "predictor": ["predict", str(folder)],
        "training": ["train", "--space", "nats_sss", "8:8:8:8:8", "--recipe", str(folder)],
        "archive": ["bench", "import", str(folder), str(tmp_path / "t.csv")],
    }  # fmt: skip
    for words in wanted.values():
        done = CliRunner().invoke(app, words)
        one_line(done.exit_code, done.stderr, "folder.yaml")
    file = tmp_path / "file"
    file.write_text("precious")
    done = _quick(file)
    one_line(done.exit_code, done.stderr, str(file), "cannot make the run folder")
    assert file.read_text() == "precious"
