"""What `nas verify` trains, and what it says of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from nas.cli import app, search_app
from nas.pages.training import verdict
from nas.runs.training import summarise_training
from nas.verifying import SAME_SIZE, best_of, candidates, hand_over
from spaces import SPACES
from spaces.errors import NasError
from tests.nas.test_jobs import recipe


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify") / "run"
    words = ["smoke", "proxy=meco", "budget=24", "report.top=4", "--quiet", "--out", str(folder)]
    assert CliRunner().invoke(search_app, words).exit_code == 0
    return folder


def test_random_ones_are_of_the_same_size_and_others(run: Path) -> None:
    space = SPACES["nats_tss"]
    name, chosen = candidates(run, top=3, random=5, seed=0)
    assert name == "nats_tss"
    assert [each.group for each in chosen] == ["top"] * 3 + ["random"] * 5
    archs = [space.from_str(each.arch) for each in chosen]
    assert len({space.canonical(arch) for arch in archs}) == 8
    params = space.costs(np.asarray(archs)).params.astype(float)
    for place, size in enumerate(params[3:]):
        assert size == pytest.approx(params[place % 3], rel=2 * SAME_SIZE)
    assert all(each.score is not None for each in chosen)
    assert candidates(run, 3, 5, 0) == (name, chosen)
    assert candidates(run, 3, 5, 1) != (name, chosen)


def test_the_best_are_those_of_the_result(run: Path) -> None:
    told = json.loads((run / "result.json").read_text())["top"]
    _, found = best_of(run, 2)
    assert [(x.arch, x.score) for x in found] == [(x["arch"], x["score"]) for x in told[:2]]
    with pytest.raises(NasError, match=r"lists 4 architectures; .*report\.top=9"):
        best_of(run, 9)


def test_what_is_no_search_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NasError, match="no run folder of a search"):
        best_of(tmp_path, 1)
    (tmp_path / "recipe.yaml").write_text("name: x")
    with pytest.raises(NasError, match="its search is not finished"):
        best_of(tmp_path, 1)
    (tmp_path / "result.json").write_text("[]")
    with pytest.raises(NasError, match="not the result of a search"):
        best_of(tmp_path, 1)


def test_weights_of_the_best_go_to_the_search(run: Path, tmp_path: Path) -> None:
    best = json.loads((run / "result.json").read_text())["top"][0]["arch"]
    training = {"archs": [{"arch": best}], "best": 0, "data": {"classes": ["a"] * 10}}
    (tmp_path / "best.safetensors").write_bytes(b"weights")
    for change, there in (({"data": {"classes": ["a"]}}, False), ({}, True)):
        (tmp_path / "result.json").write_text(json.dumps({**training, **change}))
        assert hand_over(run, tmp_path) is there
        assert (run / "best.safetensors").exists() is there
    training["archs"] = [{"arch": "another"}]
    (tmp_path / "result.json").write_text(json.dumps(training))
    assert not hand_over(run, tmp_path)


def made_up(accuracies: dict[str, list[float]], scores: dict[str, list[float]]) -> dict[str, Any]:
    """The summary of a verification whose accuracies are given."""
    archs = [SPACES["nats_tss"].to_str((k % 5, k // 5, 3, 3, 3, 3)) for k in range(12)]
    groups = [group for group, values in accuracies.items() for _ in values]
    flat = [x for values in accuracies.values() for x in values]
    marks = [x for values in scores.values() for x in values]
    made = recipe(archs=tuple(archs[: len(flat)]))
    given = [
        each.model_copy(update={"group": group, "score": mark})
        for each, group, mark in zip(made.archs, groups, marks, strict=True)
    ]
    made = made.model_copy(update={"archs": given})
    from nas.runs.training import Job

    jobs = [Job(k, 0, Path()) for k in range(len(flat))]
    results = [
        {"seed": 0, "test": {"accuracy": x}, "validation": {"accuracy": x}, "seconds": 1.0}
        for x in flat
    ]
    return summarise_training(made, jobs, results)


def test_the_verdict_holds_where_it_holds() -> None:
    summary = made_up(
        {"top": [90, 91, 92, 93, 94, 95], "random": [70, 71, 72, 73, 74, 75]},
        {"top": [7, 8, 9, 10, 11, 12], "random": [1, 2, 3, 4, 5, 6]},
    )
    assert summary["agreement"]["score"]["kendall"] == pytest.approx(1)
    gain = summary["gain"]
    assert gain["points"] == pytest.approx(20)
    assert 15 < gain["low"] < 20 < gain["high"] < 25
    sentences = " ".join(verdict(summary))
    assert "Kendall 1.00" in sentences
    assert "the ranking held" in sentences
    assert "The 6 found are 20.00 points better than 6 random ones of their size [+1" in sentences


def test_the_verdict_does_not_hold_where_it_does_not() -> None:
    noise = made_up(
        {"top": [80, 71, 90, 79], "random": [79, 92, 70, 81]},
        {"top": [8, 7, 6, 5], "random": [4, 3, 2, 1]},
    )
    sentences = " ".join(verdict(noise))
    assert "too few, or too much alike, to tell" in sentences
    assert "the interval holds 0" in sentences
    wrong = made_up(
        {"top": [70, 71, 72, 73, 74, 75], "random": [95, 94, 93, 92, 91, 90]},
        {"top": [12, 11, 10, 9, 8, 7], "random": [1, 2, 3, 4, 5, 6]},
    )
    assert "the wrong way round" in " ".join(verdict(wrong))


@pytest.mark.slow
def test_verify_from_the_command_line(run: Path, tmp_path: Path) -> None:
    words = ["verify", str(run), "--top", "2", "--recipe", "train_digits", "epochs=1", "--quiet"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "random" in done.output
    assert "than 2 random ones of their size" in done.output
    summary = json.loads((run / "verification" / "result.json").read_text())
    assert [row["group"] for row in summary["archs"]] == ["top", "top", "random", "random"]
    assert (run / "verification" / "by_score.png").is_file()
