"""A space of a user's own goes through every command; the user's file may be gone by then."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import nas
from nas.cli import app, search_app
from nas.recipe import RecipeError
from nas.recipe.fit import load_fit_recipe
from nas.space_file import find_space
from spaces import NasError

FILE = """\
name: small_chain
stem: {width: 8, stride: 1}
stages:
  - {width: [8, 12], depth: [1, 2], kernel: [3], expansion: [1]}
  - {width: [12, 16], depth: [1, 2], stride: 2, kernel: [3], expansion: [1]}
"""
TINY = ("epochs=1", "data.limit=4", "batch=16", "split=0.25")


def run(application: object, *words: str) -> str:
    done = CliRunner().invoke(application, list(words))  # type: ignore[arg-type]
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a search, and the current folder, in which the file lies no more."""
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(FILE)
    Path("r.yaml").write_text("space: mine.yaml\nproxy: params\nstrategy: random\nbudget: 12\n")
    run(search_app, "r.yaml", "-q", "--out", "run")
    best = json.loads(Path("run/result.json").read_text())["best"]["arch"]
    assert best in run(app, "score", "--space", "mine.yaml", "--proxy", "params", best)
    return tmp_path


@pytest.mark.slow
def test_commands_that_take_a_run(searched: Path) -> None:
    Path("mine.yaml").write_text("moved: away")
    best = json.loads(Path("run/result.json").read_text())["best"]["arch"]
    run(app, "report", "run")
    run(app, "export", "run", "--format", "python", "--out", "taken")
    words = ("run", "--recipe", "train_digits", "--quiet")
    run(app, "train", *words, "--out", "trained", *TINY)
    assert json.loads(Path("trained/result.json").read_text())["archs"][0]["arch"] == best
    run(app, "verify", *words, "--top", "2", "--random", "2", "--out", "verified", *TINY)
    assert len(json.loads(Path("verified/result.json").read_text())["archs"]) == 4


def test_training_what_was_found(searched: Path) -> None:
    found = nas.Searcher(space="mine.yaml", proxy="params", budget=4).run()
    settings = {"epochs": 1, "data.limit": 4, "batch": 16, "split": 0.25, "folder": str(searched)}
    trained = nas.train(found.best, "train_digits", settings, space="mine.yaml")
    assert trained.summary["archs"][0]["arch"] == found.best.text
    with pytest.raises(NasError, match=r"small_chain: no space has this name; say where it is"):
        nas.train(found.best, "train_digits", settings)
    other = nas.Searcher(space="nats_tss", proxy="params", budget=4).run()
    with pytest.raises(NasError, match="architectures of one space"):
        nas.train([found.best, other.best], "train_digits", settings, space="mine.yaml")


def test_a_predictor_of_it_is_refused_before_anything_is_computed(searched: Path) -> None:
    Path("fit.yaml").write_text(
        "space: mine.yaml\ninputs: [params]\nregressor: gaussian\ntrain: 8\n"
    )
    with pytest.raises(RecipeError, match=r"space: a predictor's file names its space.*mine\.yaml"):
        load_fit_recipe(Path("fit.yaml"))


def write_truth(name: str) -> list[str]:
    """Write accuracies of all architectures; return their official strings."""
    space = find_space(name)
    rows = [space.to_str(tuple(arch)) for arch in space.all().tolist()]
    lines = [f'"{row}",{number}' for number, row in enumerate(rows)]
    Path("truth.csv").write_text("\n".join(["arch,accuracy", *lines]) + "\n")
    return rows


def test_ranking_proxies_on_it(searched: Path) -> None:
    rows = write_truth("mine.yaml")
    words = ("--space", "mine.yaml", "--truth", "truth.csv:accuracy", "--proxy", "params", "-q")
    shown = run(app, "rank", *words).splitlines()
    assert any(line.split()[0] == str(len(rows)) and line.endswith("params") for line in shown[1:])


MODULE = """\
from spaces import ChainSpace, Stage

SPACE = ChainSpace("my_chain", stages=[Stage(width=(8, 12), depth=(1, 2, 3)), Stage(width=(8, 16))])
"""


@pytest.mark.slow
def test_a_predictor_of_a_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read again from its file, it predicts; its space is found by the plugin's name."""
    about = tmp_path / "site" / "my_chain_package-1.0.dist-info"
    about.mkdir(parents=True)
    (about.parent / "my_chain_package.py").write_text(MODULE)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-chain-package\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[nas_search.spaces]\nmy_chain = my_chain_package:SPACE\n"
    )
    monkeypatch.syspath_prepend(str(about.parent))
    monkeypatch.chdir(tmp_path)
    rows = write_truth("my_chain")
    Path("fit.yaml").write_text(
        "space: my_chain\ntruth: truth.csv:accuracy\ninputs: [params, flops]\n"
        "regressor: {name: extra_trees, trees: 5}\ntrain: 8\n"
    )
    run(app, "fit", "fit.yaml", "--quiet", "--out", "mine.npz")
    assert rows[0] in run(app, "predict", "mine.npz", rows[0])
