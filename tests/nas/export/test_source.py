"""The exported Python module: readable, its own, and the same network, for every space."""

import ast
import re
import subprocess
import sys
import types
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas.export.models import without_dead
from nas.export.source import About, module_source
from nas.seeds import seeded_torch
from nas.space_file import parse_space
from spaces import SPACES, Arch, Space
from spaces.errors import NasError

EDGE = """\
name: edge
stem: {width: 8, stride: 2}
stages:
  - {width: [8, 12], depth: [1, 2], kernel: [3, 5], expansion: [1, 3]}
  - {width: [16, 24], depth: [1, 2, 3], stride: 2, kernel: [3, 5, 7], expansion: [2, 4]}
head: 32
"""
CELLS = """\
name: cells
cell: {nodes: 4, operations: [none, skip, conv_1x1, conv_3x3, max_pool_3x3]}
stages: [{width: [8, 12], cells: [1, 2]}, {width: 16, cells: [1, 2, 3]}]
"""
OWN = {text.split()[1]: parse_space(text, "a.yaml") for text in (EDGE, CELLS)}
ALL: dict[str, Space] = {**SPACES, **OWN}
ANY_SPACE = pytest.mark.parametrize("space", ALL.values(), ids=ALL.keys())
ABOUT = About("a space", "an arch", "Drawn by a test.", "some parameters", "", "0")


def source(space: Space, arch: Arch, num_classes: int = 10, in_chans: int = 3) -> str:
    return module_source(
        space, space.to_str(arch), ABOUT, num_classes=num_classes, in_chans=in_chans
    )


def loaded(text: str) -> types.ModuleType:
    module = types.ModuleType("exported")
    exec(compile(text, "exported.py", "exec"), module.__dict__)  # noqa: S102 - what we wrote
    return module


def smallest(space: Space, n: int = 200) -> Arch:
    drawn = space.sample_many(n, np.random.default_rng(0))
    return space.validate(drawn[int(space.costs(drawn).params.argmin())].tolist())


@lru_cache(maxsize=32)
def smallest_source(space: Space) -> str:
    return source(space, smallest(space))


def images(n: int = 2, in_chans: int = 3, size: int = 16) -> Tensor:
    shape = (n, in_chans, size, size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def run(network: nn.Module, batch: Tensor, *, train: bool) -> Tensor:
    with torch.no_grad():
        logits: Tensor = network.train(train)(batch)
    return logits


def check_same(space: Space, arch: Arch, text: str, num_classes: int, in_chans: int) -> None:
    """Check that the module is the network: names of weights, logits, statistics after them."""
    with seeded_torch(0, "test"):
        ours = space.build(arch, num_classes=num_classes, in_chans=in_chans)
    without_dead(ours, in_chans)
    theirs = loaded(text).Network(num_classes=num_classes, in_chans=in_chans)
    assert list(theirs.state_dict()) == list(ours.state_dict())
    theirs.load_state_dict(ours.state_dict())
    # The most halved networks of the macro space need 32 pixels.
    batch = images(in_chans=in_chans, size=32 if space.name == "transnas_macro" else 16)
    for train in (True, False):
        assert torch.equal(run(ours, batch, train=train), run(theirs, batch, train=train))
    for one, other in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.equal(one, other)


@ANY_SPACE
def test_the_module_is_the_network(space: Space) -> None:
    check_same(space, smallest(space), smallest_source(space), 10, 3)


@pytest.mark.parametrize("name", ["nats_sss", "edge"])
def test_classes_and_channels_are_arguments(name: str) -> None:
    text = source(ALL[name], smallest(ALL[name]), num_classes=4, in_chans=1)
    check_same(ALL[name], smallest(ALL[name]), text, 7, 5)
    check_same(ALL[name], smallest(ALL[name]), text, 0, 1)
    usual = loaded(text).Network()
    assert usual(images(in_chans=1)).shape == (2, 4)


@pytest.mark.slow
@ANY_SPACE
def test_the_module_is_the_network_for_many_draws(space: Space) -> None:
    rng = np.random.default_rng(3)
    n_networks = 3 if space.name in ("nasbench101", "darts") else 12
    for _ in range(n_networks):
        arch = space.sample(rng)
        check_same(space, arch, source(space, arch), 10, 3)


@ANY_SPACE
def test_it_imports_torch_only_and_says_where_it_comes_from(space: Space) -> None:
    text = smallest_source(space)
    tree = ast.parse(text)
    names = {
        name
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert names <= {"torch", "collections"}
    assert "Drawn by a test." in (ast.get_docstring(tree) or "")
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert all(ast.get_docstring(node) for node in classes)
    decisions = [node for node in ast.walk(tree) if isinstance(node, ast.If | ast.IfExp)]
    assert [ast.unparse(node.test) for node in decisions] == ["num_classes"]
    assert "get_submodule" not in text


def test_it_is_formatted(tmp_path: Path) -> None:
    pytest.importorskip("ruff", reason="ruff is not installed")
    for name, space in ALL.items():
        (tmp_path / f"{name}.py").write_text(smallest_source(space))
        largest = tuple(size - 1 for size in space.dimensions)
        if space.name in ("nats_tss", "darts", "edge", "cells"):
            (tmp_path / f"{name}_last.py").write_text(source(space, largest))
    ruff = [sys.executable, "-m", "ruff"]
    options = ["--isolated", "--line-length", "100", str(tmp_path)]
    done = subprocess.run(
        [*ruff, "format", "--diff", *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    done = subprocess.run(
        [*ruff, "check", "--select", "E,W,F,I,UP", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_a_cell_is_what_it_really_does() -> None:
    space = SPACES["nats_tss"]
    text = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_1x1~2|"
    code = source(space, space.from_str(text))
    cell = code.split("class Cell")[1].split("class ")[0]
    assert re.findall(r"self\.(edge\d\d) = (.*)", cell) == [
        ("edge01", "ReluConvBn(c, c, 3)"),
        ("edge13", "nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)"),
        ("edge23", "ReluConvBn(c, c, 1)"),
    ]
    # node 2 is node 1, for the edge between them copies and the other one is not there
    forward = cell.split("-> Tensor:\n")[1].strip().splitlines()
    assert [line.strip() for line in forward] == [
        "node1 = self.edge01(x)",
        "return x + self.edge13(node1) + self.edge23(node1)",
    ]


def test_what_leads_nowhere_is_not_there() -> None:
    space = SPACES["nats_tss"]
    arch = space.from_str("|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|nor_conv_1x1~0|none~1|none~2|")
    text = source(space, arch)
    assert "edge01" not in text
    assert "edge02" not in text
    check_same(space, arch, text, 10, 3)
    # stem 464, 5 cells of one 1x1 convolution each in 16, 32, 64 channels 28,000, reductions
    # 72,064, batch-norm 128, classifier 650
    network = loaded(text).Network()
    assert sum(weight.numel() for weight in network.parameters()) == 101_306


def test_a_cell_without_any_path() -> None:
    space = SPACES["nats_tss"]
    arch = space.from_str("|none~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|nor_conv_1x1~2|")
    check_same(space, arch, source(space, arch), 10, 3)
    nothing = space.from_str("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|avg_pool_3x3~2|")
    check_same(space, nothing, source(space, nothing), 10, 3)


def test_parameters_by_hand() -> None:
    # 8 channels everywhere: stem 216 + 16; 3 cells of 5 convolutions of 592; 2 reductions of
    # 592 + 592 + 64; batch-norm 16; classifier 90
    network = loaded(source(SPACES["nats_sss"], (0,) * 5))
    for (num_classes, in_chans), params in {
        (10, 3): 11_714,
        (5, 1): 11_525,
        (0, 3): 11_624,
    }.items():
        made = network.Network(num_classes=num_classes, in_chans=in_chans)
        assert sum(weight.numel() for weight in made.parameters()) == params


class Attention(nn.Module):
    """A module of somebody's own."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(c_out))
        self.squeeze = nn.Linear(c_in, c_in)
        self.conv = nn.Conv2d(c_in, c_out, 1)
        self.twice = c_in > 0

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.sigmoid(self.squeeze(x.mean(dim=(2, 3))))
        out: Tensor = self.conv(x * weights[:, :, None, None])
        if self.twice:
            out = out - torch.relu(x) / 2
        return out * self.scale.reshape(1, -1, 1, 1)


class Looks(nn.Module):
    """A module that decides by what it is given."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x) if x.shape[2] > 8 else self.conv(-x)
        return out


def own_space(monkeypatch: pytest.MonkeyPatch, name: str) -> Space:
    module = types.ModuleType("own_operations")
    module.__dict__.update({"Attention": Attention, "Looks": Looks})
    monkeypatch.setitem(sys.modules, "own_operations", module)
    operations = f'[skip, {{name: mine, module: "own_operations:{name}"}}]'
    return parse_space(
        f"name: own\ncell: {{nodes: 3, operations: {operations}}}\n"
        "stages: [{width: 8, cells: 1}, {width: 16, cells: 2}]\n",
        "own.yaml",
    )


def test_a_module_of_ones_own_is_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    space = own_space(monkeypatch, "Attention")
    text = source(space, (1, 1, 0))
    assert "class Attention(nn.Module):" in text
    check_same(space, (1, 1, 0), text, 10, 3)


def test_a_module_that_cannot_be_written_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    space = own_space(monkeypatch, "Looks")
    with pytest.raises(NasError, match=r"Looks\.forward cannot be written out as Python"):
        source(space, (1, 1, 0))


HOSTILE = ('"""\nimport os\nos.abort()\n"""', '\\"""\nx = 1', '"', "\\", "'''")


@pytest.mark.parametrize("code", HOSTILE)
def test_words_of_a_run_folder_cannot_write_code(code: str) -> None:
    space = SPACES["nats_sss"]

    def statements(words: str) -> list[str]:
        about = About(words, words, words, words, words, words)
        text = module_source(space, "8:8:8:8:8", about, num_classes=10, in_chans=3)
        return [type(node).__name__ for node in ast.walk(ast.parse(text))]

    assert statements(code.replace("\n", " ")) == statements("harmless")
    assert statements(code) == statements("harmless")
