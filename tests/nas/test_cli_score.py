"""``nas score --model``: a network of the user's own, from the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nas.cli import app
from nas.proxies import PROXIES, ProxySpec
from spaces import SPACES

CHECKOUT = Path(__file__).resolve().parents[2]
CELL = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"
NETS = '''
"""Networks of a user's."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

class Net(nn.Sequential):
    def __init__(self, classes=4):
        super().__init__(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(4, classes),
        )

class Factory:
    @staticmethod
    def make():
        return Net(7)

def wide(classes):
    return Net(classes)

def loader():
    data = TensorDataset(torch.randn(20, 1, 8, 8), torch.randint(4, (20,)))
    return DataLoader(data, batch_size=5, shuffle=True)

ready = Net()
batches = [(torch.ones(2, 1, 8, 8), torch.zeros(2).long())]
number = 3
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a package of networks, in which the commands run."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "nets.py").write_text(NETS)
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    (tmp_path / "wrong.py").write_text("def f(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    for name in ("own", "own.nets"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def run(*words: str) -> tuple[str, str]:
    done = CliRunner().invoke(app, ["score", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return done.stdout, done.stderr


MODEL = ("--model", "own.nets:Net", "--input-shape", "1,8,8", "--minibatch", "4")


def test_a_table_with_one_row_per_proxy_and_the_reasons_beside(folder: Path) -> None:
    out, told = run(*MODEL, "--proxy", "params,flops,sed")
    assert out.splitlines() == ["score  proxy", "   60  params", "1,312  flops", "    -  sed"]
    assert told == "sed: it is defined for architectures of a space, not for a network\n"


def test_in_a_process_of_its_own_the_current_folder_is_looked_in(folder: Path) -> None:
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = f"import sys; sys.path[0] = {str(CHECKOUT)!r}; from nas.cli import main; main()"
    words = ("score", *MODEL, "--loader", "own.nets:loader", "--proxy", "grad_norm,sed")
    answers = [
        subprocess.run(
            [sys.executable, "-W", "error", "-c", command, *words, "--json", "-"], cwd=folder,
            env=kept, capture_output=True, text=True, timeout=120, check=False,
        )
        for _ in range(2)
    ]  # fmt: skip
    first, second = (json.loads(answer.stdout) for answer in answers)
    assert first["rows"] == second["rows"], "weights, images and dropout come from the seed"
    number, failure = first["rows"]
    assert (number["model"], number["proxy"]) == ("own.nets:Net", "grad_norm")
    assert number["score"] > 0
    assert number["error"] is None
    assert failure["score"] is None
    assert failure["error"].startswith("sed: it is defined for architectures")
    assert first["environment"]["device"] == "cpu"
    assert answers[0].stderr == f"{failure['error']}\n"


def test_the_seed_and_the_images_matter(folder: Path) -> None:
    def score(*words: str) -> float:
        out, _ = run(*MODEL, "--proxy", "grad_norm", "--json", "-", *words)
        value = json.loads(out)["rows"][0]["score"]
        assert isinstance(value, float)
        return value

    first = score()
    assert score() == first
    others = [
        score("--seed", "1"),
        score("--loader", "own.nets:loader"),
        score("--minibatch", "6"),
        score("--repeats", "2"),
        score("--num-classes", "2"),
    ]
    assert len({first, *others}) == 1 + len(others)


@pytest.mark.parametrize("model", ["own.nets:Net", "own.nets:ready"])
def test_a_class_a_function_and_a_network_will_do(folder: Path, model: str) -> None:
    words = ("--input-shape", "1,8,8", "--proxy", "params")
    assert run("--model", model, *words)[0].splitlines()[1] == "   60  params"
    assert run("--model", "own.nets:Factory.make", *words)[0].splitlines()[1] == "   75  params"
    ready = ("--loader", "own.nets:batches", "--minibatch", "2")
    assert "plain" in run("--model", model, *words, *ready, "--proxy", "plain")[0]


MISTAKES = {
    "": "nothing to score: give architectures, or --model with --input-shape\n",
    "--model own.nets:Net": "--model needs --input-shape C,H,W, such as 3,32,32\n",
    f"--model own.nets:Net --input-shape 1,8,8 {CELL}": "--model and ARCH exclude each other, got "
    f"'own.nets:Net' and '{CELL}'\n",
    f"--input-shape 1,8,8 {CELL}": "--input-shape is for --model, but architectures are given\n",
    f"--loader a:b {CELL}": "--loader is for --model, but architectures are given\n",
    "--model a:b --input-shape 1,8,8 --space nats_tss": "--space is for architectures, not for "
    "--model: a model lives in none\n",
    "--model a:b --input-shape 1,8,8 --images x.npy": "--images is for architectures, not for "
    "--model: give --loader\n",
    "--model a:b --input-shape 1,8": "--input-shape: expected C,H,W such as 3,32,32, got '1,8'\n",
    "--model a:b --input-shape 1,8,-8": "--input-shape: expected C,H,W such as 3,32,32, got ",
    "--model own.nets --input-shape 1,8,8": "--model: expected package.module:callable, got 'own.",
    "--model own.nots:Net --input-shape 1,8,8": "--model: cannot import 'own.nots' from HERE or "
    "from where Python finds packages: ModuleNotFoundError: No module named 'own.nots'\n",
    "--model broken:Net --input-shape 1,8,8": "--model: cannot import 'broken' from HERE or from "
    "where Python finds packages: ModuleNotFoundError: No module named 'nothing_of_this_name'\n",
    "--model wrong:Net --input-shape 1,8,8": "--model: cannot import 'wrong' from HERE or from "
    "where Python finds packages: SyntaxError: ",
    "--model own.nets:Nett --input-shape 1,8,8": "--model: 'own.nets' has no 'Nett'. Did you mean "
    "'Net'?\n",
    "--model own.nets:wide --input-shape 1,8,8": "--model: 'own.nets:wide' is called without "
    "arguments, which it does not allow: missing a required argument: 'classes'\n",
    "--model own.nets:number --input-shape 1,8,8": "model: expected a torch.nn.Module, got int\n",
    "--model own.nets:Net --input-shape 3,8,8": "model: it does not run on an image of shape (1, ",
    "--model own.nets:Net --input-shape 1,8,8 --loader own.nets:lodaer": "--loader: 'own.nets' has "
    "no 'lodaer'. Did you mean 'loader'?\n",
    "--model own.nets:Net --input-shape 1,8,8 --loader own.nets:loader --proxy nwot": "loader: it "
    "ends after 20 images, but 64 are needed; give more, or take a minibatch below 64\n",
    "--model own.nets:Net --input-shape 1,8,8 --proxy nwto": "no proxy named 'nwto'. Did you mean ",
}


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(folder: Path, command: str) -> None:
    words = command.split() or ["--proxy", "params"]
    done = CliRunner().invoke(app, ["score", *words])
    assert done.stderr.startswith(MISTAKES[command].replace("HERE", str(folder)))
    assert len(done.stderr.splitlines()) == 1
    assert done.exit_code == 2
    assert not done.stdout


def test_what_the_users_code_raises_is_not_hidden(folder: Path) -> None:
    (folder / "own" / "faulty.py").write_text("def make():\n    raise KeyError('mine')\n")
    with pytest.raises(KeyError, match="mine"):
        CliRunner().invoke(
            app,
            ["score", "--model", "own.faulty:make", "--input-shape", "1,8,8"],
            catch_exceptions=False,
        )


def test_architectures_take_a_minibatch_too() -> None:
    words = ("--proxy", "nwot", "--resolution", "8", "--json", "-", CELL)
    few, many = (json.loads(run(*words, "--minibatch", m)[0])["rows"] for m in ("4", "8"))
    assert 0 < few[0]["score"] < many[0]["score"]


def test_the_list_says_how_a_proxy_runs() -> None:
    table = json.loads(CliRunner().invoke(app, ["list", "--json"]).stdout)["proxies"]
    space = SPACES["nats_tss"]
    for entry in table:
        assert entry["route"] == ProxySpec.make(entry["name"]).route(space)
    assert {entry["name"] for entry in table} == set(PROXIES)
    assert {entry["route"] for entry in table} == {"data-free", "batched", "one by one"}
    lines = CliRunner().invoke(app, ["list"]).stdout.splitlines()
    assert any(line.split()[:4] == ["zico", "one", "by", "one"] for line in lines)
