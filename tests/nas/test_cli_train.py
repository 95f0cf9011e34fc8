"""`nas train` and the `train` section of a search, as a person uses them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nas.cli import app, search_app
from nas.recipe import parse_recipe

CHECKOUT = Path(__file__).resolve().parents[2]
RUNNER = CliRunner()
SKIPS = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|none~2|"
SHORT = ["epochs=1", "split=300", "batch=256"]


def nas(*words: str) -> Any:
    return RUNNER.invoke(app, [*words])


def test_an_architecture(tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = nas("train", SKIPS, *SHORT, "--recipe", "train_digits", "--out", str(out), "--json", "-")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((out / "result.json").read_text())
    assert f"run folder {out}" in done.stderr
    assert "epoch 1 of 1" in done.stderr
    again = nas("train", "--resume", str(out))
    assert again.exit_code == 0, again.stderr
    assert "test accuracy on" in again.stdout
    assert SKIPS in again.stdout
    quiet = nas("train", SKIPS, *SHORT, "--recipe", "train_digits", "--out", str(out), "--quiet")
    assert quiet.exit_code == 0
    assert "epoch" not in quiet.stderr


def test_a_recipe_that_lists_architectures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(
        f"data: digits\nepochs: 1\nbatch: 256\nsplit: 0.2\narchs: ['{SKIPS}']\n"
    )
    done = nas("train", "mine.yaml", "--quiet")
    assert done.exit_code == 0, done.stderr
    (folder,) = Path("runs").glob("*-mine")
    assert json.loads((folder / "result.json").read_text())["data"]["validation"] == 287


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", SKIPS], "--recipe: say how to train, by a file or the name of a shipped recipe"),
        (["train", "nonsense", "--recipe", "train_digits"], "nonsense"),
        (["train", SKIPS, "--recipe", "train_digit"], "Did you mean the recipe 'train_digits'?"),
        (["train", SKIPS, "epoch=3", "--recipe", "train_digits"], "did you mean 'epochs'?"),
        (["train", ".", "--recipe", "train_digits"], "no run folder of a search"),
        (["train", "--resume", "."], "no training to resume"),
        (["train", "--resume", ".", "--fresh"], "takes everything from its folder"),
        (
            ["train", SKIPS, "device=cuda:7", "--recipe", "train_digits"],
            "'cuda:7' is not available",
        ),
        (["verify", ".", "--recipe", "train_digits"], "no run folder of a search"),
        (["train", SKIPS, "--recipe", "train_nats_12"], "cifar-10-python.tar.gz"),
    ],
)
def test_a_mistake_is_one_message(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = nas(*words)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("result.json"))


def test_a_search_that_trains_what_it_found(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["smoke", "proxy=params", "budget=8", "train.recipe=train_digits", "train.top=2"]
    words += ["train.set={epochs: 1, split: 300, batch: 256}"]
    done = RUNNER.invoke(search_app, [*words, "--out", str(out), "--quiet"])
    assert done.exit_code == 0, done.stderr
    assert "test accuracy on 360 images of digits" in done.stdout
    trained = json.loads((out / "training" / "result.json").read_text())
    found = json.loads((out / "result.json").read_text())
    assert [row["arch"] for row in trained["archs"]] == [row["arch"] for row in found["top"][:2]]
    assert (out / "best.safetensors").exists() == (trained["best"] == 0)
    # Killed between search and training, it is not finished: the same command goes on.
    (out / "training" / "result.json").unlink()
    again = RUNNER.invoke(search_app, [*words, "--out", str(out)])
    assert again.exit_code == 0, again.stderr
    assert "going on in" in again.stderr
    assert "8 known before" in again.stderr
    assert json.loads((out / "training" / "result.json").read_text())["archs"] == trained["archs"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recipe: train_digit", "train.recipe: no such file: 'train_digit'"),
        ("recipe: train_digits\n  top: 20", r"train.top is 20, but only report.top = 10"),
        ("recipe: train_digits\n  tpo: 1", "train.tpo: unknown key; did you mean 'top'"),
        ("top: 1", "train.recipe: required"),
    ],
)
def test_a_mistake_about_training_is_told_before_the_search(text: str, message: str) -> None:
    with pytest.raises(Exception, match=re.escape(message)):
        parse_recipe(f"space: nats_tss\nproxy: meco\ntrain:\n  {text}\n", "r.yaml")


def test_settings_of_the_training_are_checked_before_the_search(tmp_path: Path) -> None:
    words = ["smoke", "train.recipe=train_digits", "train.set={epochs: 0}"]
    done = RUNNER.invoke(search_app, [*words, "--out", str(tmp_path / "run")])
    assert done.exit_code == 2
    assert "epochs: must be at least 1" in done.stderr
    assert not (tmp_path / "run").exists()


def test_tensorboard_is_written_where_it_is_installed(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["train", SKIPS, *SHORT, "--recipe", "train_digits", "--out", str(out), "--tensorboard"]
    done = nas(*words)
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        assert done.exit_code == 2
        assert "pip install tensorboard" in done.stderr
        pytest.skip("TensorBoard is not installed")
    assert done.exit_code == 0, done.stderr
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out / "tensorboard" / "0-seed0"))
    events.Reload()
    result = json.loads((out / "jobs" / "0-seed0" / "result.json").read_text())
    (loss,) = events.Scalars("loss/train")
    assert loss.value == pytest.approx(result["epochs"][0]["train_loss"])


MAIN = "import sys; from nas.cli import app; app(sys.argv[1:])"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals here")
def test_interrupted_it_says_how_to_go_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["train", SKIPS, "epochs=200", "split=300", "--recipe", "train_digits"]
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, *words, "--out", str(out)],
        cwd=CHECKOUT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(out.rglob("checkpoint.pt")) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"nas train --resume {out}" in errors
    assert "Traceback" not in errors


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="gloo is for Linux here")
def test_torchrun_shares_a_job(tmp_path: Path) -> None:
    out = tmp_path / "run"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = ["-m", "nas.cli", "train", SKIPS, "epochs=2", "split=300", "--recipe", "train_digits"]
    done = subprocess.run(
        [*launch, *words, "--out", str(out), "--json", str(tmp_path / "told.json")],
        cwd=CHECKOUT, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    summary = json.loads((tmp_path / "told.json").read_text())
    assert summary["archs"][0]["accuracy"] > 10
    assert sum(map(sum, json.loads((out / "jobs" / "0-seed0" / "result.json").read_text())
                   ["test"]["confusion"])) == 360  # fmt: skip
