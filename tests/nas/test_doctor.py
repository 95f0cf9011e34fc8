"""``nas doctor``: what is broken on purpose is found, and told with what to do about it."""

from __future__ import annotations

import errno
import importlib.metadata
import json
import shutil
import sqlite3
import tempfile
from collections import namedtuple
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from nas import doctor
from nas.cli import app
from nas.doctor import CHECKS, ENGINES, Finding, Where, examine
from nas.predictor import shipped
from nas.store import SCHEMA, Store
from nas.training import archives
from tests.nas.training.official import tiny, unpacked


def findings(name: str, where: Where) -> list[Finding]:
    """Return what one check says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doctor, "CHECKS", {name: CHECKS[name]})
        return list(examine(where))


def broken(name: str, where: Where) -> Finding:
    """Return the one thing that a check finds broken."""
    (found,) = [one for one in findings(name, where) if one.status == "broken"]
    assert found.advice
    return found


@pytest.fixture
def where(tmp_path: Path) -> Where:
    return Where(tmp_path / "runs", str(tmp_path / "data"))


def test_nothing_is_broken_here(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    words = ["doctor", "--runs", str(tmp_path), "--root", str(tmp_path), "--json", str(path)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "nothing is broken" in done.stdout
    told = json.loads(path.read_text())
    assert told["broken"] == 0
    assert {one["check"] for one in told["findings"]} == set(CHECKS)
    assert all(one["advice"] for one in told["findings"] if one["status"] == "note")
    assert any(one["text"].startswith("torch ") for one in told["findings"])
    assert sorted(tmp_path.iterdir()) == [path]


def test_what_is_broken_ends_with_1_and_says_what_to_do(tmp_path: Path) -> None:
    words = ["doctor", str(tmp_path / "no.sqlite"), "--runs", str(tmp_path), "--json", "-"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doctor, "CHECKS", {"cache": CHECKS["cache"]})
        done = CliRunner().invoke(app, words)
        shown = CliRunner().invoke(app, words[:-2])
    assert (done.exit_code, shown.exit_code) == (1, 1)
    told = json.loads(done.stdout)
    assert told["broken"] == 1
    assert told["findings"][0]["text"].endswith("no.sqlite: no such file")
    assert "broken  cache " in shown.stdout
    assert "-> name a run folder, or its scores.sqlite" in shown.stdout
    assert shown.stdout.endswith("1 broken\n")


def a_run(where: Where, rows: int = 500) -> Path:
    """Return a run folder with a cache."""
    folder = where.runs / "2026-01-01_000000-x"
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("")
    (folder / "result.json").write_text("{}")
    verdicts: dict[str, float | str] = {f"{i:064}": float(i) for i in range(rows)}
    with Store(folder / "scores.sqlite") as store:
        store.put_many({**verdicts, "f": "no score"})
    return folder


def test_a_sound_cache(where: Where) -> None:
    a_run(where)
    (found,) = findings("cache", where)
    assert found.status == "ok"
    assert "501 rows, 1 of them failures; sound" in found.text


def test_an_unfinished_run_is_a_note(where: Where) -> None:
    folder = a_run(where)
    (folder / "result.json").unlink()
    note = findings("cache", where)[1]
    assert (note.status, note.advice) == ("note", f"nas-search --resume {folder}")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20_000])


def _scribbled(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[8192:12288] = b"\xa5" * 4096  # the third page: the first rows
    path.write_bytes(content)


def _newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as plain:
        plain.execute(f"PRAGMA user_version = {SCHEMA + 1}")


def _foreign(path: Path) -> None:
    path.write_bytes(b"not a database at all, but long enough to be looked at" * 100)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("breaks", "text"),
    [
        (_cut, "damaged"),
        (_scribbled, "damaged"),
        (_newer, f"format {SCHEMA + 1}, this version reads format {SCHEMA}"),
        (_foreign, "no score cache"),
        (_folder, "no such file"),
    ],
)
def test_a_broken_cache(breaks: Any, text: str, where: Where) -> None:
    path = a_run(where) / "scores.sqlite"
    breaks(path)
    before = path.read_bytes() if path.is_file() else b""
    found = broken("cache", where)
    assert text in found.text
    assert str(path) in found.text
    assert before == (path.read_bytes() if path.is_file() else b"")


def test_an_archive_of_images_that_is_not_the_published_one(where: Where) -> None:
    record, files, _ = tiny("cifar10")
    folder = unpacked(Path(where.data) / "cifar-10-batches-py", files)
    assert "not the published file" in broken("data", where).text
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(archives.ARCHIVES, "cifar10", replace(record))
        (found,) = [one for one in findings("data", where) if "cifar10:" in one.text]
    assert (found.status, str(folder) in found.text) == ("ok", True)


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that announces things, found as an installed one is."""
    site = tmp_path / "site"
    info = site / "some_plugin-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-plugin\nVersion: 1.0\n")
    (site / "doctors_plugin.py").write_text("import os\nraise RuntimeError('I am broken')\n")
    monkeypatch.syspath_prepend(str(site))
    return info / "entry_points.txt"


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ("x = doctors_plugin:X", "space 'x': RuntimeError: I am broken"),
        ("x = nowhere_at_all:X", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("x = spaces:Space", "is no Space, but ABCMeta"),
        ("x = spaces:NATS_TSS", "calls itself 'nats_tss'"),
    ],
)
def test_a_plugin_that_does_not_load(plugin: Path, entry: str, text: str, where: Where) -> None:
    plugin.write_text(f"[nas_search.spaces]\n{entry}\n")
    assert text in broken("plugins", where).text


def test_a_plugin_with_the_name_of_a_built_in_one_is_a_note(plugin: Path, where: Where) -> None:
    plugin.write_text("[nas_search.proxies]\nsed = doctors_plugin:X\n")
    (found,) = findings("plugins", where)
    assert (found.status, "built-in" in found.text) == ("note", True)


def test_a_package_that_is_missing_or_too_old(
    where: Where, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "1.0" if name == "torch" else real(name)
    )
    found = broken("versions", where)
    assert (found.text, found.advice) == ("torch 1.0, expected >=2.6", "pip install 'torch>=2.6'")

    def missing(name: str) -> str:
        if name == "scipy":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert broken("versions", where).text == "scipy is not installed"


def test_a_device_that_fails_or_computes_nonsense(
    where: Where, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = doctor._convolved
    answers = iter([real("cpu"), real("cpu") + 1])
    monkeypatch.setattr(doctor, "_convolved", lambda device: next(answers))
    assert "a small convolution is off by 1" in broken("device", where).text

    def fails(device: str) -> torch.Tensor:
        if next(calls):
            raise RuntimeError("no kernel image is available\nand more")
        return real(device)

    calls = iter([0, 1])
    monkeypatch.setattr(doctor, "_convolved", fails)
    assert broken("device", where).text.endswith("no kernel image is available")


def test_more_threads_than_cores_is_a_note(where: Where, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4096)
    (found,) = findings("threads", where)
    assert found.status == "note"
    assert found.advice.startswith("set OMP_NUM_THREADS=")


def test_a_full_disk_and_one_that_may_not_be_written(
    where: Where, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**40, 2**40, 2**20))
    found = findings("disk", where)
    assert [one.status for one in found] == ["broken", "broken"]
    assert "writable, 1 MiB free" in found[0].text

    def refused(**_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refused)
    assert "cannot write: Read-only file system" in findings("disk", where)[0].text
    where.runs.touch()
    assert "is no folder" in findings("disk", where)[0].text


def test_an_engine_that_does_not_answer(where: Where, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent() -> doctor.Told:
        raise TimeoutError

    monkeypatch.setitem(ENGINES, "far_away", silent)
    monkeypatch.delitem(ENGINES, "processes")
    assert broken("engine", where).text.startswith("far_away: TimeoutError")


def test_a_damaged_file_of_the_package(
    where: Where, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p.npz").write_bytes(b"x")
    monkeypatch.setattr(shipped, "shipped_predictors", lambda: {"p": tmp_path / "p.npz"})
    found = broken("package", where)
    assert "BadPredictor" in found.text
    assert found.advice.startswith("install again")


def test_checks_have_names_that_fit_a_column() -> None:
    assert max(map(len, CHECKS)) <= 8
