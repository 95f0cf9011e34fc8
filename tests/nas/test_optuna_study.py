"""A search as a study of Optuna: what the study says is what the search said."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import optuna
import pytest

from nas.optuna_study import to_optuna
from nas.oracle import DirectionWarning
from nas.runs.read import read_run
from spaces.errors import NasError
from tests.nas.finished import fail_when, finished


def url_of(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'x.db'}"


def loaded(url: str, name: str) -> optuna.Study:
    return optuna.load_study(study_name=name, storage=url)


def test_a_study_has_every_trial_with_what_is_known(tmp_path: Path) -> None:
    path = finished(tmp_path)
    url = url_of(tmp_path)
    made = to_optuna(path, url)
    study, run = loaded(url, "run"), read_run(path)
    assert made.study_name == study.study_name == "run"
    assert [trial.value for trial in study.trials] == [row.score for row in run.trials]
    assert study.best_trial.user_attrs["architecture"] == run.result["best"]["arch"]
    assert study.metric_names == ["params"]
    assert study.user_attrs["space"] == "nats_sss"
    for trial, row in zip(study.trials, run.trials, strict=True):
        told = trial.user_attrs
        assert (told["params"], told["flops"], told["score"]) == (row.params, row.flops, row.score)
        assert "accuracy" not in told  # nobody knows it
        assert tuple(trial.params.values()) == run.space.from_str(row.arch)
        assert trial.datetime_start is not None
        assert trial.datetime_complete is not None
        assert trial.datetime_start <= trial.datetime_complete


def test_failures_are_failed_trials_with_their_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_when(monkeypatch, "too tired", every=4)
    study = to_optuna(finished(tmp_path, ["proxy=meco_opt"]), url_of(tmp_path))
    states = [trial.state for trial in study.trials]
    assert states.count(optuna.trial.TrialState.FAIL) == 3
    failed = study.trials[states.index(optuna.trial.TrialState.FAIL)]
    assert failed.user_attrs["failure"] == "too tired"
    assert failed.values is None


def test_directions_and_objectives_are_those_of_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["proxy=meco_opt", "direction=minimise"]
    fail_when(monkeypatch, "too tired", every=4)
    with pytest.warns(DirectionWarning):
        fewest = finished(tmp_path, settings, name="fewest")
    monkeypatch.undo()
    study = to_optuna(fewest, url_of(tmp_path))
    assert study.direction == optuna.study.StudyDirection.MINIMIZE
    assert study.best_value == read_run(fewest).result["best"]["score"]
    several = finished(tmp_path, ["strategy=nsga2", "objectives=[score, -flops]"], name="several")
    study = to_optuna(several, url_of(tmp_path), name="other name")
    assert study.study_name == "other name"
    assert study.metric_names == ["score", "flops"]
    front = {row["arch"] for row in read_run(several).result["front"]}
    assert {trial.user_attrs["architecture"] for trial in study.best_trials} >= front


def test_the_strategy_is_the_one_that_ran(tmp_path: Path) -> None:
    """The recipe asks for a random search; ranking the whole small space is cheaper."""
    space = tmp_path / "small.yaml"
    space.write_text(
        "name: small\nstem: {width: 8, stride: 1}\n"
        "stages: [{width: [8, 12], depth: [1, 2]}, {width: [12, 16], depth: [1, 2]}]\n"
    )
    path = finished(tmp_path, [f"space={space}", "exhaustive=when_cheaper"])
    run = read_run(path)
    assert run.recipe["strategy"]["name"] == "random"
    assert run.strategy == "exhaustive"
    assert to_optuna(path, url_of(tmp_path)).user_attrs["strategy"] == "exhaustive"
    assert read_run(finished(tmp_path, name="other")).strategy == "random"


def test_accuracy_is_trained_else_tabulated(tmp_path: Path) -> None:
    path = finished(tmp_path)
    first, second = (row.arch for row in read_run(path).trials[:2])
    (path / "truth.csv").write_text(f"arch,value\n{first},91.5\n{second},92.5\n")
    (path / "training").mkdir()
    nothing: dict[str, Any] = {"validation": None, "best_run": None, "runs": []}
    trained = {
        "name": "training",
        "archs": [{"number": 0, "arch": second, "accuracy": 93.5, **nothing}],
        "best": 0,
        "data": {"name": "digits", "classes": ["0"], "shape": [1, 8, 8], "test": 9},
        "recipe": {"space": "nats_tss", "archs": [{"arch": second}]},
    }
    (path / "training" / "result.json").write_text(json.dumps(trained))
    study = to_optuna(path, url_of(tmp_path))
    told = [trial.user_attrs.get("accuracy") for trial in study.trials[:3]]
    assert told == [91.5, 93.5, None]


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    path = finished(tmp_path)
    url = url_of(tmp_path)
    to_optuna(path, url)
    with pytest.raises(NasError, match="a study named 'run' is there already"):
        to_optuna(path, url)
    with pytest.raises(NasError, match="nonsense: no storage of Optuna"):
        to_optuna(path, "nonsense")
    with pytest.raises(NasError, match="no run folder of a search"):
        to_optuna(tmp_path, url)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def asked(address: str) -> Any:
    """Return the answer of a server on this machine, whatever proxy the environment names."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(address, timeout=10) as answer:
        return json.load(answer)


@pytest.mark.slow
def test_the_real_dashboard_shows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna_dashboard", reason="pip install optuna-dashboard")
    fail_when(monkeypatch, "too tired", every=4)
    path, url, port = finished(tmp_path, ["proxy=meco_opt"]), url_of(tmp_path), free_port()
    to_optuna(path, url)
    code = "from optuna_dashboard._cli import main; main()"
    words = [sys.executable, "-c", code, url, "--port", str(port), "--host", "127.0.0.1"]
    server = subprocess.Popen(words, env={**os.environ}, stderr=subprocess.DEVNULL)
    try:
        for _ in range(120):
            try:
                studies = asked(f"http://127.0.0.1:{port}/api/studies")["study_summaries"]
                break
            except OSError:
                time.sleep(0.5)
        else:
            raise AssertionError("the dashboard did not answer within a minute")
        assert [study["study_name"] for study in studies] == ["run"]
        number = studies[0]["study_id"]
        study = asked(f"http://127.0.0.1:{port}/api/studies/{number}?after=0")
    finally:
        server.terminate()
        server.wait(timeout=20)
    run = read_run(path)
    assert [trial["state"] for trial in study["trials"]].count("Fail") == 3
    told = [
        {each["key"]: each["value"] for each in trial["user_attrs"]} for trial in study["trials"]
    ]
    for row, attributes in zip(run.trials, told, strict=True):
        assert attributes["architecture"] == row.arch
        assert int(attributes["params"]) == row.params
        assert attributes.get("failure") == row.error
