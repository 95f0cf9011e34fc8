"""Several objectives: names, values, the front, and what a run leaves behind."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from nas import NasError, Searcher
from nas.cli import search_app
from nas.objectives import Objective, parse_objective
from nas.pareto import front_of
from nas.recipe import parse_recipe
from nas.runs.read import TRIALS
from nas.runs.search import TrialWriter, measures_of, new_folder
from searchers import InvalidOption


def test_names() -> None:
    assert parse_objective("score") == Objective("score", 1)
    assert parse_objective(" - latency_ms") == Objective("latency_ms", -1)
    for wrong in ("", "-", None, 3):
        with pytest.raises(NasError, match="objectives: expected a name such as"):
            parse_objective(wrong)


def test_the_front_is_that_of_the_trials() -> None:
    result = Searcher(
        proxy="sed", strategy="nsga2", budget=200, objectives=["score", "-params", "-flops"]
    ).run()
    scored = [trial for trial in result.trials if trial.score is not None]
    points = np.asarray([(trial.score, -trial.params, -trial.flops) for trial in scored])
    expected = [scored[place].number for place in front_of(points)]
    assert [found.number for found in result.front] == expected
    assert len(expected) > 3
    assert result.best == result.front[0]
    assert result.top(2) == result.front[:2]
    best = max(scored, key=lambda trial: trial.score or 0.0)
    assert result.best.score == best.score
    assert scored[0].measures == {
        "score": scored[0].score,
        "params": scored[0].params,
        "flops": scored[0].flops,
    }


def test_one_objective_has_a_front_of_one() -> None:
    result = Searcher(proxy="sed", budget=30).run()
    assert result.front == result.top(1)
    assert result.trials[0].measures == {}


def test_other_proxies_are_objectives_too() -> None:
    result = Searcher(
        proxy="sed", strategy="random", budget=20, objectives=["-params", "entropy_flow"]
    ).run()
    alone = Searcher(proxy="entropy_flow", strategy="random", budget=20).run()
    flows = [trial.measures.get("entropy_flow") for trial in result.trials]
    assert flows == [trial.score for trial in alone.trials]
    assert result.best.params == min(t.params for t in result.trials if t.score is not None)
    failed = [trial for trial in result.trials if trial.error is not None]
    assert [trial.error for trial in failed] == [t.error for t in alone.trials if t.error]


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        (["score"], "objectives: expected at least two, got ['score']"),
        ("score", "objectives: expected a list of names, got 'score'"),
        (["score", "-score"], "objectives: 'score' stands there twice"),
        (["score", "-latency_ms"], "latency_ms: the search has no source of latencies"),
        (["predicted_accuracy", "-params"], "predicted_accuracy needs a fitted predictor"),
        (["score", "-prams"], "objectives: no proxy named 'prams'. Did you mean 'params'?"),
    ],
)
def test_what_cannot_be_searched_for_is_refused(objectives: list[str], message: str) -> None:
    with pytest.raises(NasError, match=re.escape(message)):
        Searcher(proxy="sed", strategy="nsga2", objectives=objectives)


def test_who_takes_one_objective_says_so() -> None:
    with pytest.raises(InvalidOption, match="Evolution takes one objective, got 2: a tournament"):
        Searcher(proxy="sed", strategy="evolution", objectives=["score", "-params"])
    with pytest.raises(NasError, match="a minus before a name is what makes less better"):
        Searcher(strategy="nsga2", objectives=["score", "-params"], direction="minimise")


RECIPE = """
space: nats_tss
proxy: sed
strategy: nsga2
budget: 60
objectives: [score, -params]
constraints: {flops: <= 1.0e8}
"""


def test_the_run_folder_holds_the_front(tmp_path: Path) -> None:
    recipe = parse_recipe(RECIPE, "x.yaml")
    assert parse_recipe(recipe.to_yaml(), "again.yaml") == recipe
    folder = new_folder(recipe, out=tmp_path / "run")
    folder.begin(device="cpu", seed=0)
    with TrialWriter(folder.path / TRIALS, measures_of(recipe)) as writer:
        result = recipe.searcher(cache=folder.cache).run(writer)
    folder.finish(result)
    folder.close()
    told = json.loads((folder.path / "result.json").read_text())
    assert told["objectives"] == ["score", "-params"]
    assert [row["arch"] for row in told["front"]] == [found.text for found in result.front]
    assert told["best"] == told["front"][0]
    assert told["explanation"] is None
    assert (folder.path / "front.png").stat().st_size > 1000
    with (folder.path / TRIALS).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 60
    assert float(rows[0]["score"]) == result.trials[0].score
    header = (folder.path / TRIALS).read_text().splitlines()[0].split(",")
    assert len(set(header)) == len(header)
    assert max(int(row["flops"]) for row in rows) <= 1e8


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("constraints: {params: < 5}", "x.yaml:2: constraints.params: expected '<= NUMBER'"),
        ("constraints: {prams: 5}", "constraints.prams: unknown key; did you mean 'params'?"),
        ("objectives: [score]", "x.yaml:2: objectives: expected at least two, got ['score']"),
        ("objectives: [score, -x y]", "objectives: no proxy named 'x y'"),
        ("latency: soon", "x.yaml:2: latency: expected 'measure', a table's"),
        ("latency: nothing.csv:ms", "x.yaml:2: latency: no such file: 'nothing.csv'"),
    ],
)
def test_faults_of_recipes_are_told(line: str, message: str) -> None:
    with pytest.raises(NasError, match=re.escape(message)):
        parse_recipe(f"{{space: nats_tss, proxy: sed,\n {line}}}", "x.yaml")


def test_the_command_shows_the_front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text(RECIPE)
    done = CliRunner().invoke(search_app, ["x.yaml", "report.top=3", "--json", "told.json"])
    assert done.exit_code == 0, done.output
    told = json.loads(Path("told.json").read_text())
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["#", "score", "params", "MFLOPs", "architecture"]
    assert len(told["top"]) == 3
    assert lines[4] == (
        f"front of score and -params: {len(told['front'])} architectures, the first 3 shown; "
        "all in result.json and front.png"
    )
    refused = CliRunner().invoke(search_app, ["x.yaml", "constraints.params=<= 10"])
    assert refused.exit_code == 2
    assert "nothing within the limits in nats_tss, of all 15,625" in refused.output
