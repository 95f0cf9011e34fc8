"""`nas export` as a person uses it: every format, of every kind of source."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import nas
from nas.cli import app, search_app
from nas.export import formats
from nas.export.source import module_source
from spaces import SPACES

RUNNER = CliRunner()
SKIP = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|none~2|"
DEAD = "|nor_conv_3x3~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|"  # 0 to 1 leads nowhere
SMALL = ["8:8:8:8:8", "--space", "nats_sss"]
EDGE = """\
name: edge
stem: {width: 8, stride: 2}
stages:
  - {width: [8, 12], depth: [1, 2], kernel: [3, 5], expansion: [1, 3]}
  - {width: [16, 24], stride: 2, kernel: [3, 5, 7], expansion: [2, 4]}
"""
HAS_ONNX = all(importlib.util.find_spec(name) for name in formats.FORMATS["onnx"].needs)
ONNX = pytest.mark.skipif(not HAS_ONNX, reason="the extra 'onnx' is not installed")


def export(*words: str) -> Any:
    return RUNNER.invoke(app, ["export", *words])


def done(*words: str) -> dict[str, Any]:
    """Export, and return what the command said as JSON."""
    result = export(*words, "--json", "-")
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def images(n: int = 2, in_chans: int = 3, size: int = 32) -> torch.Tensor:
    shape = (n, in_chans, size, size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


def smallest(name: str) -> str:
    space = SPACES[name]
    drawn = space.sample_many(200, np.random.default_rng(0))
    return space.to_str(tuple(drawn[int(space.costs(drawn).params.argmin())].tolist()))


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a search of a space that is a file of one's own."""
    folder = tmp_path_factory.mktemp("search")
    (folder / "edge.yaml").write_text(EDGE)
    (folder / "r.yaml").write_text(
        "space: edge.yaml\nproxy: params\nbudget: 8\nreport: {top: 3}\n"
        "conditions: {num_classes: 4, resolution: 24}\n"
    )
    out = folder / "run"
    result = RUNNER.invoke(search_app, [str(folder / "r.yaml"), "--out", str(out), "--quiet"])
    assert result.exit_code == 0, result.stderr
    (folder / "edge.yaml").unlink()  # its copy in the run folder has to do
    return out


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training of two architectures, one of them with an operation for nothing."""
    out = tmp_path_factory.mktemp("training") / "run"
    recipe = out.parent / "r.yaml"
    recipe.write_text(
        f"data: {{name: digits, limit: 6}}\nepochs: 1\nbatch: 64\nsplit: 0.2\n"
        f"archs: ['{DEAD}', '{SKIP}']\n"
    )
    result = RUNNER.invoke(app, ["train", str(recipe), "--out", str(out), "--quiet"])
    assert result.exit_code == 0, result.stderr
    return out


def test_a_search_in_a_space_of_ones_own(search: Path) -> None:
    told = done(str(search), "--format", "safetensors, python", "--rank", "2")
    out = search / "export-2"
    assert {path.name for path in out.iterdir()} == {
        "config.json", "model.safetensors", "model.py", "space.yaml",
    }  # fmt: skip
    row = json.loads((search / "result.json").read_text())["top"][1]
    assert (told["arch"], told["params"], told["macs"]) == (
        row["arch"],
        row["params"],
        row["flops"],
    )
    assert (told["num_classes"], told["input_size"]) == (4, 24)
    assert "seed 0, not trained" in told["weights"]
    network = nas.load_model(out)
    assert not network.training
    assert network(images()).shape == (2, 4)
    assert len({str(row) for row in network(images(3)).tolist()}) == 3  # it looks at its images


def test_a_search_as_a_study(search: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    result = export(str(search), "--optuna", url)
    assert result.exit_code == 0, result.stderr
    assert result.stderr == f"{url}: study run, 8 trials\n"
    again = export(str(search), "--optuna", url)
    assert again.exit_code == 2
    assert "a study named 'run' is there already" in again.stderr


def test_weights_follow_the_seed(tmp_path: Path) -> None:
    torch.rand(1)
    first = [*SMALL, "--format", "safetensors", "--out"]
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        done(*first, str(tmp_path / name), "--seed", seed)
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_a_training(training: Path, tmp_path: Path) -> None:
    result = json.loads((training / "result.json").read_text())
    for rank in (1, 2):
        out = tmp_path / str(rank)
        done(str(training), "--format", "safetensors", "--rank", str(rank), "--out", str(out))
        number = result["best"] if rank == 1 else 1 - result["best"]
        trained = load_file(training / "jobs" / f"{number}-seed0" / "weights.safetensors")
        exported = load_file(out / "model.safetensors")
        is_dead = result["archs"][number]["arch"] == DEAD
        assert is_dead == any(".edge01." in key for key in trained)
        kept = {key for key in trained if not (is_dead and ".edge01." in key)}
        assert set(exported) == kept
        assert all(torch.equal(exported[key], trained[key]) for key in exported)
        name = f"nats_tss/{result['archs'][number]['arch']}"
        whole = training / "jobs" / f"{number}-seed0" / "weights.safetensors"
        ours = nas.create_model(name, pretrained=whole).eval()
        assert torch.equal(nas.load_model(out)(images()), ours(images()))


def test_weights_that_do_not_fit_are_refused(training: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    result = export(str(training), "--format", "python", "--num-classes", "7", "--out", out)
    assert result.exit_code == 2
    assert "expected 7x64" in result.stderr
    assert "--untrained" in result.stderr
    words = [str(training), "--format", "python", "--num-classes", "7", "--in-chans", "1"]
    told = done(*words, "--untrained", "--out", out)
    assert told["num_classes"] == 7
    assert "not trained" in told["weights"]


SCRIPT = """\
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("nas", "spaces", "searchers"):
            raise ImportError(f"{name} is not here")

sys.meta_path.insert(0, Blocked())
sys.path.insert(0, sys.argv[1])
import torch
from safetensors.torch import load_file
from model import Network

network = Network(num_classes=5, in_chans=2)
network.load_state_dict(load_file(sys.argv[1] + "/model.safetensors"), strict=True)
images, logits = torch.load(sys.argv[1] + "/expected.pt")
assert torch.equal(network.eval()(images), logits)
assert not [name for name in sys.modules if name.split(".")[0] in ("nas", "spaces", "searchers")]
print("same")
"""


def test_the_module_stands_alone(tmp_path: Path) -> None:
    words = ["--format", "python,safetensors", "--num-classes", "5", "--in-chans", "2"]
    done(*SMALL, *words, "--out", str(tmp_path))
    batch = images(in_chans=2)
    torch.save((batch, nas.load_model(tmp_path)(batch)), tmp_path / "expected.pt")
    result = subprocess.run(
        [sys.executable, "-I", "-c", SCRIPT, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "same\n"


def check_program(folder: Path, size: int) -> None:
    program: Any = torch.export.load(folder / "model.pt2").module()
    network = nas.load_model(folder)
    for n in (1, 2, 5):
        batch = images(n, size=size)
        torch.testing.assert_close(program(batch), network(batch), rtol=1e-4, atol=1e-5)


def check_onnx(folder: Path, size: int) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    network = nas.load_model(folder)
    for n in (1, 4):
        batch = images(n, size=size)
        (logits,) = session.run(["logits"], {"images": batch.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), network(batch), rtol=1e-3, atol=1e-4)


def test_a_program(tmp_path: Path) -> None:
    told = done(
        *SMALL, "--format", "torch,safetensors", "--input-size", "20", "--out", str(tmp_path)
    )
    assert told["input_size"] == 20
    check_program(tmp_path, 20)


@ONNX
@pytest.mark.slow
def test_onnx(tmp_path: Path) -> None:
    result = export(*SMALL, "--format", "onnx,safetensors", "--out", str(tmp_path))
    assert result.exit_code == 0, result.stderr
    assert "onnxruntime, batches of 1 and 3" in result.stdout
    assert len(result.stdout.splitlines()) == 4  # the exporter's own words are not for a person
    assert len(result.stderr.splitlines()) == 4
    check_onnx(tmp_path, 32)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SPACES, "edge"])
def test_every_space_in_every_format(name: str, tmp_path: Path, search: Path) -> None:
    if name == "edge":
        words = [str(search), "--input-size", "32"]
    else:
        words = [smallest(name), "--space", name]
    kinds = ["torch", "safetensors", "python", *(["onnx"] if HAS_ONNX else [])]
    done(*words, "--format", ",".join(kinds), "--out", str(tmp_path))
    check_program(tmp_path, 32)
    if HAS_ONNX:
        check_onnx(tmp_path, 32)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*SMALL, "--out", "o"], "--format: say what to write, one or several of torch"),
        ([*SMALL, "--format", "onx", "--out", "o"], "Did you mean 'onnx'?"),
        ([*SMALL, "--format", "python"], "--out: name a folder"),
        (["8:8:8:8:8", "--format", "python", "--out", "o"], "say where it lives by --space"),
        (["8:8", "--space", "nats_sss", "--format", "python", "--out", "o"], "cannot read '8:8'"),
        (["x" * 5000, "--space", "nats_sss", "--format", "python", "--out", "o"], "cannot read"),
        ([*SMALL, "--rank", "2", "--format", "python", "--out", "o"], "--rank is for a run folder"),
        (["empty", "--format", "python"], "no run folder of a search or a training"),
        (["unfinished", "--format", "python"], "its run is not finished"),
        (["broken", "--format", "python"], "not the result of a search or a training"),
        (["nothing", "--format", "python"], "it found nothing to export"),
        (["empty", "--space", "nats_sss", "--format", "python"], "that of empty is known"),
        ([*SMALL, "--format", "python", "--out", "o", "--input-size", "0"], "input_size: expected"),
        ([*SMALL, "--format", "python", "--out", "o", "--num-classes", "-1"], "num_classes: exp"),
        ([*SMALL, "--format", "python", "--out", "file"], "file: cannot write: it is no folder"),
    ],
)
def test_a_mistake_is_one_message(
    words: Sequence[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, result in (
        ("empty", None),
        ("unfinished", None),
        ("broken", "[]"),
        ("nothing", '{"name": "x", "top": [], "n_trials": 0, "objectives": null, "recipe": '
                    '{"space": "nats_sss", "seed": 0, "direction": "maximise", '
                    '"proxy": {"name": "meco"}, "conditions": {"num_classes": 10, '
                    '"resolution": 32}}}'),
    ):  # fmt: skip
        Path(name).mkdir()
        if name != "empty":
            Path(name, "recipe.yaml").write_text("")
        if result is not None:
            Path(name, "result.json").write_text(result)
    Path("file").write_text("")
    found = export(*words)
    assert found.exit_code == 2, found.output
    assert message in found.stderr
    assert "Traceback" not in found.stderr
    assert not Path("o").exists()


def test_a_rank_that_there_is_not(search: Path) -> None:
    found = export(str(search), "--rank", "4", "--format", "python")
    assert found.exit_code == 2
    assert "its result lists 3; for more: nas-search --resume" in found.stderr


def test_nothing_is_overwritten_without_force(tmp_path: Path) -> None:
    words = [*SMALL, "--format", "python", "--out", str(tmp_path)]
    (tmp_path / "model.py").write_text("mine")
    found = export(*words)
    assert found.exit_code == 2
    assert "model.py is there already; --force overwrites" in found.stderr
    assert (tmp_path / "model.py").read_text() == "mine"
    done(*words, "--force")
    assert "class Network" in (tmp_path / "model.py").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["model.py"]


def test_a_module_that_computes_something_else_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = module_source

    def wrong(*args: Any, **kwargs: Any) -> str:
        text = written(*args, **kwargs)
        assert "return x + " in text
        return text.replace("return x + ", "return 1.01 * x + ")

    monkeypatch.setattr(formats, "module_source", wrong)
    found = export(*SMALL, "--format", "safetensors,python", "--out", str(tmp_path))
    assert found.exit_code == 2
    assert "python: the exported file computes something else: off by" in found.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: (
            None if name == "onnxruntime" else object() if "onnx" in name else there(name, *rest)
        ),
    )
    found = export("no such run", "--format", "python,onnx", "--out", str(tmp_path / "o"))
    assert found.exit_code == 2
    assert found.stderr == "--format onnx needs onnxruntime: pip install 'nas-search[onnx]'\n"
