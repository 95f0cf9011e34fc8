"""Latency: how it is timed, read from a table, looked up; and peak memory, by hand."""

import json
import re
from copy import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from nas import Conditions, MemoryCache, NasError, Searcher
from nas.cli import app
from nas.hardware import LookupLatency, MeasuredLatency, TableLatency, measure_latency, memory
from nas.hardware import latency as latency_module
from nas.hardware.latency import MeasureOptions, median_interval
from nas.hardware.lookup import fit_to
from nas.hardware.memory import peak_memory_mb
from spaces import NATS_TSS, SPACES, Population

HEADER = "arch,edge_latency,c10_test_200\n"
ARCHS = [(3, 3, 3, 3, 3, 3), (1, 0, 0, 3, 0, 0), (0, 0, 0, 2, 0, 0)]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    rows = zip(ARCHS, ("12.5", "-1", "3"), strict=True)
    lines = [f"{NATS_TSS.to_str(arch)},{ms},90" for arch, ms in rows]
    path.write_text(HEADER + "\n".join(lines) + "\n")
    return path


def test_a_table_is_read_and_minus_one_is_unknown(table: Path) -> None:
    source = TableLatency(f"{table}:edge_latency", NATS_TSS)
    found = source(NATS_TSS, np.asarray([*ARCHS, (1, 1, 1, 1, 1, 1)]), Conditions())
    assert found[[0, 2]].tolist() == [12.5, 3.0]
    assert np.isnan(found[[1, 3]]).all()


def test_an_accuracy_is_no_latency(table: Path) -> None:
    with pytest.raises(NasError, match="the column holds an accuracy, not a latency"):
        Searcher(latency=f"{table}:c10_test_200")


def test_the_interval_of_a_median_is_made_of_order_statistics() -> None:
    # For 15 runs: the 4th and the 12th, between which the median is with 96.5 %.
    assert median_interval([float(x) for x in range(1, 16)][::-1]) == (4.0, 12.0)
    assert median_interval([2.0, 1.0, 3.0]) == (1.0, 3.0)


def test_timing_states_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            Slow.calls += 1
            assert not self.training
            assert not torch.is_grad_enabled()
            assert x.shape == (4, 3, 8, 8)
            return x

    ticks = iter(range(1000))
    # Each pass takes one tick more than the one before: 0 + 2 + ... by hand below.
    clock = SimpleNamespace(perf_counter=lambda: next(ticks) ** 2 / 1000)
    monkeypatch.setattr(latency_module, "time", clock)
    timing = measure_latency(Slow(), (3, 8, 8), MeasureOptions(batch_size=4, warm_up=2, runs=5))
    assert Slow.calls == 7
    # Run k begins at tick 2k and ends at 2k + 1: 4k + 1 milliseconds.
    assert timing.median_ms == pytest.approx(9.0)
    assert (timing.low_ms, timing.high_ms) == pytest.approx((1.0, 17.0))
    assert (timing.batch_size, timing.runs, timing.device) == (4, 5, "cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runs": 2}, "runs must be at least 3, got 2"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"warm_up": 1.5}, "warm_up: expected int, got 1.5"),
    ],
)
def test_wrong_ways_to_time_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(NasError, match=re.escape(message)):
        MeasureOptions(**options)


def test_what_was_timed_once_is_not_timed_again() -> None:
    options = MeasureOptions(warm_up=0, runs=3)
    cache = MemoryCache()
    first, second = MeasuredLatency(options), MeasuredLatency(options)
    first.cache = second.cache = cache
    rows = np.asarray([ARCHS[2], ARCHS[2]])
    conditions = Conditions(resolution=8)
    found = first(NATS_TSS, rows, conditions)
    assert found[0] == found[1] > 0
    assert len(cache) == 1
    assert second(NATS_TSS, rows, conditions).tolist() == found.tolist()
    assert "batch of 1, median of 3 runs after 0" in first.name


def _drawn(n: int) -> Population:
    rows = NATS_TSS.canonicalise(NATS_TSS.sample_many(3 * n, np.random.default_rng(0)))
    return np.random.default_rng(1).permutation(np.unique(rows, axis=0))[:n]


def test_a_look_up_finds_an_additive_latency_and_its_error(tmp_path: Path) -> None:
    per_operation = np.asarray([0.0, 0.5, 2.0, 7.0, 3.0])
    per_place = np.asarray([1.0, 2.0, 1.0, 1.5, 1.0, 1.0])
    rows = _drawn(200)
    times = np.asarray(4.0 + per_operation[rows] @ per_place, dtype=np.float64)
    fitted = fit_to(NATS_TSS, rows, times, Conditions(), MeasureOptions(), check_on=50)
    assert fitted.error.networks == 50
    assert fitted.error.median_percent < 0.1  # the worst is one faster than any it was fitted to
    assert fitted.error.spearman > 0.999
    fresh = NATS_TSS.canonicalise(NATS_TSS.sample_many(50, np.random.default_rng(2)))
    truth = 4.0 + per_operation[fresh] @ per_place
    truth = np.maximum(truth, fitted.fastest)
    assert fitted(NATS_TSS, fresh, Conditions()) == pytest.approx(truth, rel=0.01)
    least = fitted(NATS_TSS, np.asarray([(0, 0, 0, 0, 0, 0)]), Conditions())[0]
    assert least == fitted.fastest == times[:150].min() > 4.0  # where it has seen nothing
    fitted.save(tmp_path / "t.yaml")
    assert LookupLatency.load(tmp_path / "t.yaml") == fitted
    noisy = np.where(np.random.default_rng(3).random(len(rows)) < 0.5, 0.8, 1.2) * times
    worse = fit_to(NATS_TSS, rows, noisy, Conditions(), MeasureOptions(), check_on=50)
    assert 15 < worse.error.median_percent < 30
    assert f"off by {worse.error.median_percent:.1f} %" in worse.name


def test_a_look_up_holds_for_what_it_was_fitted_on(tmp_path: Path) -> None:
    rows = _drawn(20)
    times = np.arange(20) + 1.0
    fitted = fit_to(NATS_TSS, rows, times, Conditions(), MeasureOptions(), check_on=2)
    with pytest.raises(NasError, match="holds for nats_tss, 10 classes, resolution 32; asked"):
        fitted(NATS_TSS, rows, Conditions(resolution=64))
    changed = copy(NATS_TSS)
    changed.revision = NATS_TSS.revision + 1  # as that of an own space whose file was edited
    with pytest.raises(NasError, match="fitted to another version of nats_tss; fit it again"):
        fitted(changed, rows, Conditions())
    with pytest.raises(NasError, match="a look-up table needs 4 networks to fit"):
        fit_to(NATS_TSS, rows[:5], times[:5], Conditions(), MeasureOptions(), check_on=2)
    other = tmp_path / "other.yaml"
    other.write_text("space: nats_tss\n")
    with pytest.raises(NasError, match="no look-up table of latencies; `nas latency --fit`"):
        LookupLatency.load(other)


class Branches(nn.Module):
    """Two convolutions of one image, added: all three maps are alive at the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1, bias=False)
        self.second = nn.Conv2d(3, 8, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        left = self.first(x)
        right = self.second(x)
        del x
        out: Tensor = left + right
        return out


def test_peak_memory_by_hand() -> None:
    with torch.device("meta"):
        chain = nn.Sequential(
            nn.Conv2d(3, 8, 1, bias=False), nn.ReLU(inplace=True), nn.Conv2d(8, 4, 1, bias=False)
        )
        branches = Branches()
    image, wide, narrow = 4 * 3 * 100, 4 * 8 * 100, 4 * 4 * 100  # bytes of maps of 10 x 10
    # The image is the caller's throughout; ReLU works in place.
    weights = 4 * (3 * 8 + 8 * 4)
    assert peak_memory_mb(chain, (3, 10, 10)) == (weights + image + wide + narrow) / 1e6
    weights = 4 * 2 * 3 * 8
    assert peak_memory_mb(branches, (3, 10, 10)) == (weights + image + 3 * wide) / 1e6
    twice = peak_memory_mb(branches, (3, 10, 10), batch_size=2)
    assert twice == (weights + 2 * (image + 3 * wide)) / 1e6


@pytest.mark.parametrize("name", SPACES)
def test_remembered_shapes_change_no_number(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    space = SPACES[name]
    for arch in map(tuple, space.sample_many(2, np.random.default_rng(0)).tolist()):
        with torch.device("meta"):
            net = space.build(arch)
        found = [peak_memory_mb(net, (3, 32, 32)) for _ in range(2)]
        with monkeypatch.context() as patch:
            patch.setattr(memory, "_KNOWN", Forgetful())
            assert found == [peak_memory_mb(net, (3, 32, 32))] * 2


class Forgetful(dict[object, Any]):
    """Remembers nothing, so that torch is asked about every operation."""

    def get(self, key: object, default: Any = None) -> Any:
        return default


def test_the_command_times_and_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["--space", "nats_sss", "--resolution", "8", "--runs", "3", "--warm-up", "0"]
    arch = "8:8:8:8:8"
    done = CliRunner().invoke(app, ["latency", *small, arch, "--json", "told.json"])
    assert done.exit_code == 0, done.output
    (row,) = json.loads(Path("told.json").read_text())
    assert row["low_ms"] <= row["median_ms"] <= row["high_ms"]
    assert (row["arch"], row["runs"], row["batch_size"]) == (arch, 3, 1)
    assert done.stdout.splitlines()[0].split() == ["ms", "95", "%", "interval", "architecture"]
    fitted = CliRunner().invoke(
        app,
        [
            "latency",
            *small,
            "--fit",
            "t.yaml",
            "--sample",
            "6",
            "--check",
            "2",
            "--json",
            "fit.json",
        ],
    )
    assert fitted.exit_code == 0, fitted.output
    assert LookupLatency.load(Path("t.yaml")).fitted_on == 6
    assert json.loads(Path("fit.json").read_text())["file"] == "t.yaml"
    assert re.search(r"t\.yaml: look-up fitted on .* off by [\d.]+ % .*Spearman", fitted.stdout)
    for words, message in (([], "name an architecture"), (["--fit", "a.yaml", arch], "draws its")):
        refused = CliRunner().invoke(app, ["latency", "--space", "nats_sss", *words])
        assert refused.exit_code == 2
        assert message in refused.output
