"""Runs side by side: means and intervals worked out by hand, and what does not compare."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from nas.cli import app
from nas.pages.compare import bands, compare, for_json, page, table, to_csv
from nas.runs.folder import RESULT
from nas.statistics import mean_estimate, spearman_estimate, welch_difference
from spaces.errors import NasError
from tests.nas.finished import finished


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two seeds of random, two of evolution, and one by another score."""
    parent = tmp_path_factory.mktemp("runs")
    found = {
        f"{strategy}{seed}": finished(
            parent, [f"strategy={strategy}", f"seed={seed}"], name=f"{strategy}{seed}"
        )
        for strategy in ("random", "evolution")
        for seed in (0, 1)
    }
    found["flops"] = finished(parent, ["proxy=flops"], name="flops")
    return found


def named(runs: dict[str, Path], *names: str) -> list[Path]:
    return [runs[name] for name in names]


def test_students_interval_by_hand() -> None:
    told = mean_estimate([1.0, 2.0, 3.0])  # t(0.975, 2) = 4.303, standard error 1 / sqrt(3)
    assert told.value == 2.0
    assert told.high - 2.0 == pytest.approx(4.30265 / math.sqrt(3), abs=1e-4)
    assert 2.0 - told.low == pytest.approx(told.high - 2.0)
    alone = mean_estimate([5.0])
    assert alone.value == 5.0
    assert math.isnan(alone.low)


def test_welchs_interval_by_hand() -> None:
    # variances 1 and 4 of 3 each: error sqrt(5/3), freedom (5/3)^2 / ((1/3)^2/2 + (4/3)^2/2) = 2.94
    told = welch_difference([2.0, 3.0, 4.0], [-1.0, 1.0, 3.0])
    assert told.value == 2.0
    assert told.high - 2.0 == pytest.approx(3.2176 * math.sqrt(5 / 3), abs=0.01)
    same = welch_difference([1.0, 1.0], [1.0, 1.0])
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    assert math.isnan(welch_difference([1.0], [1.0, 2.0]).low)


def test_an_interval_of_a_correlation_by_hand() -> None:
    scores = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    values = [1.0, 3.0, 2.0, 4.0, 6.0, 5.0, 7.0]  # squared rank differences sum to 4: 1 - 24 / 336
    told = spearman_estimate(scores, values)
    r = 1 - 24 / 336
    assert told.value == pytest.approx(r)
    reach = 1.95996 * math.sqrt((1 + r**2 / 2) / 4)
    assert told.low == pytest.approx(math.tanh(math.atanh(r) - reach), abs=1e-4)
    assert told.high == pytest.approx(math.tanh(math.atanh(r) + reach), abs=1e-4)
    perfect = spearman_estimate(scores, scores)
    assert perfect.low <= perfect.value == 1.0 == perfect.high


def test_runs_that_differ_in_the_seed_only_are_one_group(runs: dict[str, Path]) -> None:
    found = compare(named(runs, "random0", "evolution0", "random1", "evolution1"))
    assert [group.label for group in found.groups] == [
        "tiny (strategy.name=random)",
        "tiny (strategy.name=evolution, strategy.population=40, strategy.tournament=10)",
    ]
    best = [
        [json.loads((runs[f"{x}{seed}"] / RESULT).read_text())["best"]["score"] for seed in (0, 1)]
        for x in ("random", "evolution")
    ]
    told = for_json(found)
    for group, values in zip(told["groups"], best, strict=True):
        mean = sum(values) / 2
        assert group["best"]["value"] == pytest.approx(mean)
        assert group["std"] == pytest.approx(abs(values[0] - values[1]) / math.sqrt(2))
        # with two values the error is half of their distance; t(0.975, 1) = 12.706
        reach = 12.7062 * abs(values[0] - values[1]) / 2
        assert group["best"]["high"] == pytest.approx(mean + reach, rel=1e-4)
    assert told["groups"][0]["minus_first"] is None
    difference = sum(best[1]) / 2 - sum(best[0]) / 2
    assert told["groups"][1]["minus_first"]["value"] == pytest.approx(difference)
    assert len(to_csv(found).splitlines()) == 5
    headers, rows = table(found)
    assert headers[0] == "seeds"
    assert [row[0] for row in rows] == ["2", "2"]


def test_one_seed_has_a_mean_and_no_interval(runs: dict[str, Path]) -> None:
    found = compare(named(runs, "random0", "evolution0"))
    _, rows = table(found)
    assert [row[2:4] for row in rows] == [["-", "-"], ["-", "-"]]
    assert "[" not in rows[1][4]


def test_bands_reach_from_the_lowest_seed_to_the_highest(runs: dict[str, Path]) -> None:
    found = compare(named(runs, "random0", "random1"))
    curves = [run.best_so_far for run in found.groups[0].runs]
    (band,) = bands(found, lambda run: run.best_so_far).values()
    np.testing.assert_array_equal(band.low, np.minimum(*curves))
    np.testing.assert_array_equal(band.high, np.maximum(*curves))
    np.testing.assert_allclose(band.middle, (curves[0] + curves[1]) / 2)


def test_a_run_that_ended_early_keeps_its_best(runs: dict[str, Path]) -> None:
    found = compare(named(runs, "random0", "random1"))
    first, _ = found.groups[0].runs
    curve = {str(first.path): [1.0]}
    (band,) = bands(found, lambda run: curve.get(str(run.path), [None, 3.0, 5.0])).values()
    np.testing.assert_array_equal(band.middle, [np.nan, 2.0, 3.0])


def test_what_does_not_compare_is_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(NasError, match=r'proxy differs: .*random0 has {"name": "params"}, .*flops'):
        compare(named(runs, "random0", "flops"))
    with pytest.raises(NasError, match="expected at least two runs, got 1"):
        compare(named(runs, "random0"))
    again = tmp_path / "again"
    shutil.copytree(runs["random0"], again)
    with pytest.raises(NasError, match="are the same search with the same seed 0; leave one"):
        compare([runs["random0"], again])
    with pytest.raises(NasError, match="no run folder of a search"):
        compare([runs["random0"], tmp_path])


def test_the_page_links_to_the_runs(runs: dict[str, Path]) -> None:
    from nas.pages.search import write_page

    write_page(runs["random0"])
    text = page(compare(named(runs, "random0", "random1")), runs["random0"].parent / "c.html")
    assert 'href="random0/report.html"' in text
    assert 'href="random1/report.html"' not in text  # it is not there
    assert text.count("<svg") == 1


def test_the_command_writes_every_form(runs: dict[str, Path], tmp_path: Path) -> None:
    words = [str(runs["random0"]), str(runs["random1"])]
    files = {kind: tmp_path / f"c.{kind}" for kind in ("html", "csv", "json")}
    options = [word for kind, path in files.items() for word in (f"--{kind}", str(path))]
    done = CliRunner().invoke(app, ["compare", *words, *options])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0].split()[0] == "seeds"
    assert files["html"].read_text().startswith("<!doctype html>")
    assert json.loads(files["json"].read_text())["space"] == "nats_sss"
    done = CliRunner().invoke(app, ["compare", *words, "--csv", "-"])
    assert done.stdout == files["csv"].read_text()
