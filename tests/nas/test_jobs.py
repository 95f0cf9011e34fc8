"""Final trainings as a whole: what they leave, that they go on, and that devices do not matter."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import nas
from nas import jobs
from nas.jobs import run_training, train
from nas.recipe import RecipeError, resolve_recipe_path, shipped_recipes
from nas.recipe.train import Candidate, TrainRecipe, load_train_recipe, with_archs
from nas.runs.training import BEST, Job, TrainingFolder
from nas.seeds import generator
from spaces.errors import NasError

CHECKOUT = Path(__file__).resolve().parents[2]
TABLE = CHECKOUT / "tests" / "data" / "tiny_tss.csv"
SKIPS = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|none~2|"
CONV = "|nor_conv_1x1~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|"
SHORT = ("epochs=2", "split=300", "batch=256")


def recipe(*overrides: str, archs: tuple[str, ...] = (SKIPS,)) -> TrainRecipe:
    path = resolve_recipe_path("train_digits", "train")
    loaded = load_train_recipe(path, [*SHORT, *overrides])
    return with_archs(loaded, "nats_tss", [Candidate(arch=arch) for arch in archs])


def run(path: Path, made: TrainRecipe, **settings: Any) -> dict[str, Any]:
    folder = TrainingFolder.open_named(made, path)
    try:
        return run_training(folder, **settings)
    finally:
        folder.close()


def numbers(summary: dict[str, Any]) -> list[Any]:
    """What must not depend on how often it was interrupted, nor on where it ran."""
    return [(row["accuracy"], row["validation"], row["best_run"]) for row in summary["archs"]]


@pytest.mark.parametrize("path", shipped_recipes("train").values(), ids=shipped_recipes("train"))
def test_every_shipped_recipe_is_read(path: Path) -> None:
    loaded = load_train_recipe(path)
    assert loaded.name == path.stem
    assert 20 <= len(loaded.summary) <= 90
    assert resolve_recipe_path(path.stem, "train") == path
    text = loaded.to_yaml()
    again = path.parent / f"{path.stem}.yaml"
    assert load_train_recipe(again).to_yaml() == text


def test_what_a_training_leaves(tmp_path: Path) -> None:
    made = recipe("seeds=2", f"benchmark={TABLE}:c10_test_200", archs=(SKIPS, CONV))
    summary = run(tmp_path / "run", made)
    left = {str(x.relative_to(tmp_path / "run")) for x in (tmp_path / "run").rglob("*.*")}
    assert left >= {
        "recipe.yaml", "environment.json", "result.json", "report.html", "curves.png",
        "confusion.png", "best.py", "best.safetensors",
        *(f"jobs/{i}-seed{s}/{name}" for i in (0, 1) for s in (0, 1)
          for name in ("result.json", "weights.safetensors")),
    }  # fmt: skip
    assert not list((tmp_path / "run").rglob("checkpoint.pt"))
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == summary
    for row in summary["archs"]:
        tests = [each["accuracy"] for each in row["runs"]]
        assert row["accuracy"] == pytest.approx(sum(tests) / 2)
        assert row["std"] == pytest.approx(abs(tests[0] - tests[1]) / 2**0.5)
        assert row["params"] > 50_000
    # Validation images choose, never test images.
    looks = [row["validation"] for row in summary["archs"]]
    assert summary["best"] == looks.index(max(looks))
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("<svg") == len(list((tmp_path / "run").glob("*.png")))
    assert "://" not in page.replace("http://www.w3.org", "")  # it needs nothing but itself


def test_the_best_network_is_built_and_loaded_from_its_folder(tmp_path: Path) -> None:
    run(tmp_path / "run", recipe())
    code = "from best import load; print(sum(x.sum() for x in load().parameters()).item())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "run", capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    weights = load_file(tmp_path / "run" / BEST)
    trained = sum(x.sum() for name, x in weights.items() if "running" not in name
                  and "tracked" not in name)  # fmt: skip
    assert float(done.stdout) == pytest.approx(float(trained), rel=1e-4)


def test_done_again_it_trains_nothing(tmp_path: Path) -> None:
    told: list[object] = []
    first = run(tmp_path / "run", recipe(), tell=told.append)
    assert told
    told.clear()
    again = run(tmp_path / "run", recipe(), tell=told.append)
    assert not told
    assert numbers(again) == numbers(first)


def test_other_settings_are_another_training(tmp_path: Path) -> None:
    run(tmp_path / "run", recipe())
    with pytest.raises(NasError, match="holds something else already"):
        run(tmp_path / "run", recipe("epochs=3"))


def test_one_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    made = recipe("seeds=1", archs=(SKIPS, CONV))
    folder = TrainingFolder.open_named(made, tmp_path / "run")
    first, _ = folder.jobs()
    first.folder.mkdir(parents=True)
    (first.folder / "checkpoint.pt").write_bytes(b"torn")
    summary = run_training(folder)
    folder.close()
    assert "not a readable checkpoint" in summary["archs"][0]["runs"][0]["error"]
    assert summary["archs"][0]["accuracy"] is None
    assert summary["best"] == 1
    assert "not a readable checkpoint" in (tmp_path / "run" / "report.html").read_text()


def test_when_all_fail_it_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NasError, match=r"epoch \d: the loss is (nan|inf)"):
        run(tmp_path / "run", recipe("optimiser.lr=1000", "schedule=constant", "epochs=30"))
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_network_of_ones_own(tmp_path: Path) -> None:
    def make(num_classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, num_classes))

    settings = {"epochs": 3, "split": 300, "seeds": 2}
    training = train(make, "train_digits", settings, folder=tmp_path / "run")
    assert training.accuracy > 60
    assert len(training.summary["archs"][0]["runs"]) == 2
    with pytest.raises(NasError, match="make the network, and load"):
        training.load()
    with pytest.raises(NasError, match="trained in place, so once"):
        train(make(10), "train_digits", settings, folder=tmp_path / "other")
    mine = make(10)
    before = [weight.clone() for weight in mine.parameters()]
    train(mine, "train_digits", {"epochs": 1}, folder=tmp_path / "mine")
    assert not torch.equal(before[0], next(mine.parameters()))


def test_from_a_search_in_python(tmp_path: Path) -> None:
    result = nas.Searcher(proxy="params", budget=4, strategy="random").run()
    settings = {"epochs": 1, "split": 300, "folder": str(tmp_path / "runs")}
    training = nas.train(result.best, "train_digits", settings)
    assert training.folder.parent == tmp_path / "runs"
    assert training.summary["archs"][0]["score"] == result.best.score
    network = training.load()
    assert not network.training
    assert network(torch.zeros(2, 3, 8, 8)).shape == (2, 10)


@pytest.mark.slow
def test_several_processes_come_to_the_same(tmp_path: Path) -> None:
    made = recipe("seeds=2", archs=(SKIPS, CONV))
    told: list[Any] = []
    beside = run(tmp_path / "a", made, devices=["cpu", "cpu"], tell=told.append)
    assert {each.job.number for each in told} == {0, 1}
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
    try:
        assert numbers(run(tmp_path / "b", made)) == numbers(beside)
    finally:
        torch.set_num_threads(before)


KILLED = "import sys; from nas.cli import app; app(sys.argv[1:])"


def train_in_a_process(folder: Path, epochs: int) -> subprocess.Popen[bytes]:
    words = ["train", SKIPS, f"epochs={epochs}", "split=300", "batch=128", "seeds=2"]
    words += ["--recipe", "train_digits", "--out", str(folder), "--quiet"]
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, *words], cwd=CHECKOUT, stdout=subprocess.DEVNULL
    )


def kill_and_resume(tmp_path: Path, moments: int, epochs: int) -> None:
    began = time.monotonic()
    assert train_in_a_process(tmp_path / "whole", epochs).wait() == 0
    took = time.monotonic() - began
    rng = generator(0, "kills")
    killed = 0
    for moment in sorted(rng.uniform(0.25, 0.95, moments)):
        process = train_in_a_process(tmp_path / "killed", epochs)
        try:
            process.wait(timeout=float(moment) * took)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed
    assert train_in_a_process(tmp_path / "killed", epochs).wait() == 0
    for name in ("0-seed0", "0-seed1"):
        told = [json.loads((tmp_path / x / "jobs" / name / "result.json").read_text())
                for x in ("whole", "killed")]  # fmt: skip
        assert told[0]["test"] == told[1]["test"]
        assert [e["train_loss"] for e in told[0]["epochs"]] == [
            e["train_loss"] for e in told[1]["epochs"]
        ]
        weights = [load_file(tmp_path / x / "jobs" / name / "weights.safetensors")
                   for x in ("whole", "killed")]  # fmt: skip
        assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_killed_at_five_moments_it_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, moments=5, epochs=8)


def test_paths_are_those_of_the_recipe_and_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    (there / "images").mkdir(parents=True)
    here.mkdir()
    monkeypatch.chdir(here)
    path = there / "mine.yaml"
    path.write_text("data: {name: cifar10, root: images}\nsplit: {file: halves.txt}\n")
    made = load_train_recipe(path)
    assert made.data.options["root"] == str(there / "images")
    assert made.split == {"file": str(here / "halves.txt")}  # in neither: it may come yet
    (here / "images").mkdir()
    assert load_train_recipe(path).data.options["root"] == str(here / "images")


def train_as_listed(folder: Path, override: str) -> None:
    made = load_train_recipe(resolve_recipe_path("train_digits", "train"), [override])
    run(folder, with_archs(made, "nats_tss", made.archs))


def test_mistakes_are_told_before_anything_is_trained(tmp_path: Path) -> None:
    for override, message in (
        ("data=cifra10", "data: no data set named 'cifra10'. Did you mean"),
        ("optimiser=sgdd", "no optimiser named 'sgdd'. Did you mean 'sgd'"),
        ("schedule={name: triangle, peek: 0.1}", "schedule.peek: unknown key"),
        ("optimiser.lr=-1", "optimiser.lr: lr must be between 0 and 1000"),
        ("archs=[nonsense]", "nonsense"),
        ("epochs=0", "epochs: must be at least 1"),
        ("device=gpu", "device: expected 'cpu', 'cuda'"),
        ("precision=float16", "precision: expected 'float32' or 'bfloat16'"),
        ("benchmark=none.csv:x", "benchmark: no such file"),
    ):
        with pytest.raises((RecipeError, NasError), match=message.replace("(", r"\(")):
            train_as_listed(tmp_path / "run", override)
    assert not (tmp_path / "run" / "recipe.yaml").exists()


@pytest.mark.parametrize(
    ("place", "device"), [(None, "cuda"), (0, "cuda:1"), (1, "cuda:0")], ids=["cluster", "0", "1"]
)
def test_a_worker_trains_on_its_device(
    place: int | None, device: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A cluster shows each of its workers one device; processes here share out those named."""
    asked: list[object] = []

    def note(_recipe: object, _job: object, **settings: object) -> dict[str, object]:
        asked.append(settings["device"])
        return {}

    monkeypatch.setattr("nas.jobs.run_job", note)
    monkeypatch.setattr("nas.workers.inside.place", lambda: place)
    jobs._Doing(recipe(), ("cuda:1", "cuda:0"))(Job(0, 0, tmp_path))
    assert asked == [device]
