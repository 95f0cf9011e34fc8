"""The run folder: what is in it, and how a search goes on in it."""

import csv
import json
import runpy
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.benchmark import Truth
from nas.drawing.plots import draw_scores
from nas.drawing.sketches import arc_levels, draw_arch
from nas.recipe import Recipe, parse_recipe
from nas.result import Result, Trial
from nas.runs.folder import RESULT
from nas.runs.search import (
    CACHE,
    RunFolder,
    TrialWriter,
    new_folder,
    resume_folder,
    summarise,
    verdict_text,
)
from spaces import SPACES
from spaces.errors import NasError

TEXT = """\
name: tiny
space: nats_sss
proxy: params
budget: 12
batch: 4
report: {top: 3}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return parse_recipe(TEXT, "r.yaml", [f"report.folder={tmp_path / 'runs'}"])


def run(folder: RunFolder) -> Result:
    folder.begin(device="cpu", seed=0)
    with TrialWriter(folder.path / "trials.csv") as writer:
        result = folder.recipe.searcher(cache=folder.cache).run(writer)
    folder.finish(result)
    folder.close()
    return result


def test_a_finished_run_folder_holds_everything(recipe: Recipe) -> None:
    folder = new_folder(recipe)
    result = run(folder)
    files = {path.name for path in folder.path.iterdir() if not path.name.startswith(".")}
    assert files >= {
        "recipe.yaml", "environment.json", "trials.csv", "result.json", "best_cell.png",
        "scores.png", "best.py", CACHE,
    }  # fmt: skip
    summary = json.loads((folder.path / RESULT).read_text(encoding="utf-8"))
    assert summary["best"]["arch"] == result.best.text
    assert [row["arch"] for row in summary["top"]] == [arch.text for arch in result.top(3)]
    assert summary["recipe"] == recipe.resolved()
    assert summary["n_trials"] == 12
    assert summary["environment"]["seed"] == 0
    assert summary["environment"]["torch"]
    with (folder.path / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["arch"] for row in rows] == [trial.text for trial in result.trials]
    assert [float(row["score"]) for row in rows] == [trial.score for trial in result.trials]


def test_the_builder_call_rebuilds_the_best_network_with_its_weights(recipe: Recipe) -> None:
    import safetensors.torch
    import torch

    folder = new_folder(recipe)
    best = run(folder).best
    builder = runpy.run_path(str(folder.path / "best.py"))
    network = builder["build"]()
    assert sum(weight.numel() for weight in network.parameters()) == best.params
    safetensors.torch.save_model(network, str(folder.path / "best.safetensors"))
    loaded = builder["load"]()
    images = torch.zeros(2, 3, 32, 32)
    assert not loaded.training
    assert torch.equal(loaded(images), network.eval()(images))


def test_two_runs_never_share_a_folder(recipe: Recipe) -> None:
    first = new_folder(recipe)
    run(first)
    second = new_folder(recipe)
    run(second)
    assert first.path != second.path
    assert not second.resumed


def test_the_same_recipe_goes_on_in_an_unfinished_folder(recipe: Recipe) -> None:
    first = new_folder(recipe)
    first.begin(device="cpu", seed=0)
    first.close()
    other = parse_recipe(recipe.to_yaml(), "r.yaml", ["seed=1"])
    for again, path_is_same in ((other, False), (recipe, True)):
        folder = new_folder(again)
        assert (folder.path == first.path) is path_is_same
        folder.close()
    fresh = new_folder(recipe, fresh=True)
    assert fresh.path != first.path
    fresh.close()


def test_a_folder_in_use_is_left_alone(recipe: Recipe) -> None:
    first = new_folder(recipe)
    first.begin(device="cpu", seed=0)
    second = new_folder(recipe)
    assert second.path != first.path
    with pytest.raises(NasError, match="another process is running this search"):
        resume_folder(first.path)
    first.close()
    second.close()


def test_a_resumed_run_may_go_further_but_not_elsewhere(recipe: Recipe) -> None:
    folder = new_folder(recipe)
    short = run(folder)
    longer = resume_folder(folder.path, ["budget=20"])
    result = run(longer)
    assert len(result.trials) == 20
    assert result.trials[:12] == short.trials
    assert [trial.cached for trial in result.trials] == [True] * 12 + [False] * 8
    with pytest.raises(NasError, match="seed: cannot change in a resumed run"):
        resume_folder(folder.path, ["seed=3"])
    with pytest.raises(NasError, match=r"no run to resume, for there is no recipe\.yaml in it"):
        resume_folder(folder.path.parent)


def test_out_names_the_folder_and_overwrites_nothing(recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    folder = new_folder(recipe, out=out)
    assert folder.path == out
    run(folder)
    with pytest.raises(NasError, match="this search is there already, complete; name a new folder"):
        new_folder(recipe, out=out)
    (tmp_path / "file").write_text("")
    with pytest.raises(NasError, match="cannot make the run folder"):
        new_folder(recipe, out=tmp_path / "file")


def test_the_truth_is_told_beside_the_best_possible(recipe: Recipe) -> None:
    result = recipe.searcher(cache=None).run()
    archs = tuple(arch.arch for arch in result.top(3))
    best = (7, 7, 7, 7, 7)
    truth = Truth(
        space="nats_sss",
        archs=(best, archs[2], archs[0]),
        values=np.asarray([94.375, 93.5, 93.0]),
        column="c10_test_90",
        source="t.csv",
        sha256="",
    )
    summary = summarise(recipe, result, truth)
    assert [row["rank"] for row in summary["top"]] == [3, None, 2]
    assert summary["benchmark"]["best_possible"] == 94.375
    assert verdict_text(summary) == "c10_test_90: 93.00, rank 3 of 3; best possible 94.38"


def test_arcs_of_a_cell_never_share_a_level_where_they_overlap() -> None:
    pairs = [(a, b) for b in range(6) for a in range(b)]
    levels = arc_levels(pairs)
    for i, first in enumerate(pairs):
        for second in pairs[:i]:
            overlap = first[0] < second[1] and second[0] < first[1]
            assert not overlap or levels[first] != levels[second]


def test_pictures_of_odd_searches_are_drawn(tmp_path: Path) -> None:
    for scores in ([], [None], [1.0], [1.0, None, 2.0]):
        draw_scores(scores, title="t", proxy="p", maximise=False).savefig(tmp_path / "s.png")
    for space in SPACES.values():
        draw_arch(space, space.sample(np.random.default_rng(0)), "caption").savefig(
            tmp_path / "a.png"
        )


WRITTEN = st.characters(codec="utf-8") | st.sampled_from(',"\n\r')


@given(
    st.lists(
        st.tuples(
            st.text(WRITTEN, max_size=8),
            st.none() | st.text(WRITTEN, max_size=8),
            st.floats() | st.none(),
        ),
        max_size=4,
    )
)
def test_trials_are_read_as_they_were_written(rows: list[tuple[str, str | None, float]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trials.csv"
        trials = [
            Trial(number=number, arch=(0,), text=text, score=score, error=error, seconds=0.5,
                  cached=False, params=3, flops=4, best=score, measures={"m": 0.1})
            for number, (text, error, score) in enumerate(rows)
        ]  # fmt: skip
        with TrialWriter(path, ["m", "none"]) as writer:
            for trial in trials:
                writer(trial)
        with path.open(newline="", encoding="utf-8") as file:
            found = list(csv.DictReader(file))
    for row, trial in zip(found, trials, strict=True):
        assert row["arch"] == trial.text
        assert row["error"] == (trial.error or "")
        assert row["score"] == row["best"] == ("" if trial.score is None else str(trial.score))
        assert (row["number"], row["m"], row["none"]) == (str(trial.number), "0.1", "")
