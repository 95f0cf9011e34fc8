"""Spaces of one's own: what a file means, what is refused, and the example of the docs."""

import re
import runpy
import shlex
import sys
import types
from dataclasses import replace
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from nas import Conditions, NasError, Searcher, plugins
from nas.cli import app, search_app
from nas.proxies import PROXIES
from nas.proxies.base import ProxySpec, score_batch
from nas.recipe import RecipeError, parse_recipe
from nas.space_file import find_space, parse_space
from searchers import STRATEGIES
from spaces import NATS_TSS, ChainSpace, UnknownName
from spaces.own_cell import OwnCellSpace, SizedCellSpace
from tests.docs.blocks import blocks_of
from tests.spaces.examples import SPACES_PAGE

CHAIN = """
name: edge
stem: {width: 8, stride: 2}
stages:
  - {width: [8, 12], depth: [1, 2], kernel: [3, 5], expansion: 1}
  - {width: 16, stride: 2}
"""
CELLS = """
name: cells
cell: {nodes: 3, operations: [none, skip, conv_3x3, {name: wide, kind: conv, kernel: 9}]}
stages: [{width: 8, cells: 2}, {width: 16, cells: 2}]
"""
OWN_OPERATION = """
import torch.nn as nn

class Twice(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 1)
    def forward(self, x):
        return self.conv(x) * 2

class Plain(nn.Conv2d):
    def __init__(self, c_in, c_out, stride, kernel, expansion):
        super().__init__(c_in, c_out, kernel, stride, kernel // 2, bias=False)
"""


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_a_chain_by_hand() -> None:
    space = parse_space(CHAIN, "x.yaml")
    assert isinstance(space, ChainSpace)
    # width, depth, kernel of two blocks; of the second stage there is nothing to choose
    assert space.dimensions == (2, 2, 2, 2)
    assert space.to_str((1, 0, 1, 0)) == "12x1:k5e1/k3e1+16x1:k3e6"
    assert space.canonical((1, 0, 1, 1)) == (1, 0, 1, 0)
    costs = space.costs(np.asarray([(1, 0, 1, 0)]), resolution=32)
    stem = 3 * 8 * 9 + 16
    first = 8 * 25 + 16 + 8 * 12 + 24  # depthwise 5x5, then to 12 channels; no expansion
    second = 12 * 72 + 144 + 72 * 9 + 144 + 72 * 16 + 32
    assert costs.params[0] == stem + first + second + 17 * 10
    at_16, at_8 = 16 * 16, 8 * 8
    flops = 3 * 8 * 9 * at_16 + (8 * 25 + 8 * 12) * at_16
    flops += 12 * 72 * at_16 + (72 * 9 + 72 * 16) * at_8
    assert costs.flops[0] == flops + 17 * 10


def test_cells() -> None:
    space = parse_space(CELLS, "x.yaml")
    assert isinstance(space, OwnCellSpace)
    assert space.to_str((3, 0, 2)) == "|wide~0|+|none~0|conv_3x3~1|"
    assert space.canonical((3, 1, 0)) == (0, 1, 0)  # the first edge leads nowhere
    assert ProxySpec.parse("meco").route(space) == "batched"
    sized = parse_space(CELLS.replace("cells: 2}]", "cells: [1, 2]}]"), "x.yaml")
    assert isinstance(sized, SizedCellSpace)
    assert sized.to_str((3, 0, 2, 1)) == "|wide~0|+|none~0|conv_3x3~1|:8x2-16x2"
    drawn = parse_space(CELLS.replace("nodes: 3", "edges: [[0, 1], [1, 2], [0, 3], [2, 3]]"), "x")
    assert len(drawn) == 4**4


def test_another_text_is_another_space_for_the_cache() -> None:
    first, second = (parse_space(text, "x") for text in (CHAIN, CHAIN.replace("16", "24")))
    assert first.name == second.name
    assert first.revision != second.revision


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CHAIN.replace("depth", "dept"), "x.yaml:5: stages.0.dept: unknown key; did you mean"),
        (CHAIN.replace("[8, 12]", "[8, 8]"), "x.yaml: width: expected different numbers"),
        (CHAIN.replace("[3, 5]", "[3, 4]"), "x.yaml: kernel: expected odd numbers, got (3, 4)"),
        (CHAIN.replace("[8, 12]", "wide"), "x.yaml:5: stages.0.width.0: input should be"),
        (CHAIN.replace("depth", "cells"), "cells belong to a space with a cell"),
        (CELLS.replace("cells: 2}, {", "depth: 2}, {"), "depth belongs to a chain"),
        (CELLS.replace("conv_3x3", "conv3x3"), "no operation named 'conv3x3'. Did you"),
        (CELLS.replace("kernel: 9", "kernel: 8"), "operation wide: expected an odd kernel, got 8"),
        (CELLS.replace("nodes: 3", "edges: [[1, 0]]"), "edge [1, 0] does not lead to a later node"),
        (CELLS.replace("nodes: 3", "edges: [[0, 2]]"), "no edge leads to node 1"),
        (CELLS.replace("nodes: 3, ", ""), "cell: expected nodes or edges, one of the two"),
        (CELLS.replace("kind: conv", "module: 'no_such:Thing'"), "wide: cannot import 'no_such'"),
        ("stages: []", "name: required, but missing"),
        ("name: nats_tss\nstages: [{width: [1, 2]}]", "is the name of a space that comes with nas"),
        ("name: x\nstages: [{width: 3}]", "space x: nothing to choose"),
    ],
)  # fmt: skip
def test_faults_are_told(text: str, message: str) -> None:
    with pytest.raises(NasError, match=re.escape(message)):
        parse_space(text, "x.yaml")


def test_what_a_text_may_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_space("nats_tss") is NATS_TSS
    assert find_space("spaces.nats_tss:NATS_TSS") is NATS_TSS
    with pytest.raises(UnknownName, match=r"no space named 'nats_ts'\. Did you mean 'nats_tss'"):
        find_space("nats_ts")
    with pytest.raises(NasError, match="'spaces:Space' is no Space"):
        find_space("spaces:Space")
    with pytest.raises(NasError, match=r"nothing\.yaml: cannot read: No such file"):
        find_space("nothing.yaml")
    monkeypatch.chdir(tmp_path)
    Path("edge.yaml").write_text(CHAIN)
    assert find_space("edge.yaml") is find_space("edge.yaml")
    result = Searcher(space="edge.yaml", proxy="meco", budget=6).run()
    assert result.space.name == "edge"


def test_modules_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_operations_of_a_test.py").write_text(OWN_OPERATION)
    monkeypatch.syspath_prepend(tmp_path)
    module = '{name: twice, module: "own_operations_of_a_test:Twice"}'
    space = parse_space(CELLS.replace("conv_3x3", module), "x.yaml")
    assert isinstance(space, OwnCellSpace)
    arch = space.from_str("|twice~0|+|skip~0|none~1|")
    assert space.canonical(arch) == space.from_str("|none~0|+|skip~0|none~1|")
    arch = space.from_str("|twice~0|+|twice~0|none~1|")
    plain = space.costs(np.asarray([space.from_str("|none~0|+|skip~0|none~1|")]))
    costs = space.costs(np.asarray([arch]))
    # two on each of two cells: 8 x 8 + 8 at 32 x 32, 16 x 16 + 16 at 16 x 16
    assert costs.params - plain.params == 2 * 2 * (72 + 272)
    assert costs.flops - plain.flops == 2 * 2 * (64 * 1024 + 256 * 256)
    net = space.build(arch)
    assert sum(type(module).__name__ == "Twice" for module in net.modules()) == 2 * 2 * 2
    assert costs.params[0] == sum(weight.numel() for weight in net.parameters())
    assert ProxySpec.parse("meco").route(space) == "one by one"
    twin = parse_space(CELLS, "x.yaml")  # what SED takes it for is a 3x3 convolution
    texts = ("|twice~0|+|none~0|twice~1|", "|conv_3x3~0|+|none~0|conv_3x3~1|")
    mine, other = (
        score_batch(s, [ProxySpec.parse("sed")], [s.from_str(text)], Conditions())
        for s, text in zip((space, twin), texts, strict=True)
    )
    assert mine == other
    assert Searcher(space=space, proxy="meco", budget=5).run().best.build()(
        torch.zeros(1, 3, 32, 32)
    ).shape == (1, 10)
    chain = parse_space(CHAIN.replace("stride: 2}\n", "stride: 2}\n", 1).replace(
        "expansion: 1}", 'block: "own_operations_of_a_test:Plain"}'
    ), "x.yaml")  # fmt: skip
    row = np.asarray([(0, 1, 1, 0)])
    net = chain.build((0, 1, 1, 0))
    assert chain.costs(row).params[0] == sum(weight.numel() for weight in net.parameters())


def test_plugins_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {
        "spaces": EntryPoint("nats_tss", "nas.nothing:X", "nas_search.spaces"),
        "proxies": EntryPoint("plugged", "tests_plugin_missing:X", "nas_search.proxies"),
        "strategies": EntryPoint("evolution2", "searchers:EVOLUTION", "nas_search.strategies"),
    }

    def announced(*, group: str) -> EntryPoints:
        return EntryPoints([entries[group.removeprefix("nas_search.")]])

    monkeypatch.setattr("importlib.metadata.entry_points", announced)
    assert find_space("nats_tss") is NATS_TSS  # what is built in cannot be replaced
    assert plugins.plugin_values("proxy") == {"plugged": "tests_plugin_missing:X"}
    with pytest.raises(NasError, match=r"proxy 'plugged': cannot load plugin 'tests_plugin"):
        Searcher(proxy="plugged")
    with pytest.raises(NasError, match="plugin 'searchers:EVOLUTION' calls itself 'evolution'"):
        Searcher(proxy="sed", strategy="evolution2")
    with pytest.raises(UnknownName, match=r"no strategy named 'evolution3'.*evolution2, exhaus"):
        Searcher(proxy="sed", strategy="evolution3")
    entries["strategies"] = EntryPoint("own", "searchers:STRATEGIES", "nas_search.strategies")
    with pytest.raises(NasError, match="is no StrategyInfo, but dict"):
        Searcher(proxy="sed", strategy="own")
    own = types.ModuleType("tests_plugin")
    own.MINE = replace(STRATEGIES["evolution"], name="mine")  # type: ignore[attr-defined]
    own.READER = replace(PROXIES["formula"], name="reader")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tests_plugin", own)
    entries["strategies"] = EntryPoint("mine", "tests_plugin:MINE", "nas_search.strategies")
    with pytest.raises(RecipeError, match=r"strategy\.populaton: unknown key; did you mean 'popul"):
        parse_recipe(
            "space: nats_tss\nproxy: sed\nstrategy: {name: mine, populaton: 3}\n", "r.yaml"
        )
    entries["proxies"] = EntryPoint("reader", "tests_plugin:READER", "nas_search.proxies")
    assert ProxySpec.parse("reader:a.yaml").settings["file"] == "a.yaml"
    monkeypatch.setitem(STRATEGIES, "spare", STRATEGIES["random"])
    entries["strategies"] = EntryPoint("random", "searchers:RANDOM", "nas_search.strategies")
    assert Searcher(proxy="sed", strategy="random", budget=3).run().trials


def test_the_example_of_the_docs_runs_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = [(block.language, block.text) for block in blocks_of(SPACES_PAGE)]
    assert [kind for kind, _ in blocks] == ["yaml", "yaml", "sh", "python"]
    monkeypatch.chdir(tmp_path)
    for _, content in blocks[:2]:
        name = content.splitlines()[0].removeprefix("# ")
        Path(name).write_text(content)
    for line in blocks[2][1].splitlines():
        command, *words = shlex.split(line)
        done = CliRunner().invoke({"nas": app, "nas-search": search_app}[command], words)
        assert done.exit_code == 0, done.output
    (folder, other) = sorted(Path("runs").iterdir())
    assert "latency_ms" in (folder / "trials.csv").read_text().splitlines()[0]
    assert (folder / "space.yaml").read_text() == blocks[0][1]
    best = runpy.run_path(str(other / "best.py"))
    assert best["build"]()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    Path("example.py").write_text(blocks[3][1])
    found = runpy.run_path("example.py")
    assert found["result"].best.params <= 100_000
    assert found["space"].dimensions == find_space("edge.yaml").dimensions
