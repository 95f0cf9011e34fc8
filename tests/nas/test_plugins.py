"""A package of somebody else's, installed as packages are, used from the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = """
import numpy as np
from nas.proxies.base import Proxy
from searchers import StrategyInfo
from searchers.base import NoOptions, Strategy
from spaces import ChainSpace, Stage

SPACE = ChainSpace(
    "third_chain", stages=[Stage(width=(8, 16), depth=(1, 2)), Stage(width=(8, 12, 16), stride=2)]
)
PROXY = Proxy(
    name="third_width",
    summary="channels of the last stage",
    paper="",
    population=lambda space, population, conditions, options: np.asarray(
        [float(space.blocks(tuple(row))[-1].c_out) for row in population.tolist()]
    ),
)


class FromTheEnd(Strategy):
    one_score = "it looks at none"

    def _propose(self, n):
        return self.space.all()[::-1]


STRATEGY = StrategyInfo(
    name="third_backwards", summary="the last first", paper="", strategy=FromTheEnd,
    options=NoOptions, uses_seed=False,
)
"""
ENTRIES = """
[nas_search.spaces]
third_chain = third_party:SPACE
[nas_search.proxies]
third_width = third_party:PROXY
[nas_search.strategies]
third_backwards = third_party:STRATEGY
"""
RECIPE = """
space: third_chain
proxy: third_width
strategy: third_backwards
budget: 5
constraints: {params: <= 1.0e5}
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder on Python's path with a package and what its installer wrote beside it."""
    folder = tmp_path / "site"
    about = folder / "third_party-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / "third_party.py").write_text(MODULE)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRIES)
    return folder


@pytest.mark.slow
def test_a_package_brings_a_space_a_proxy_and_a_strategy(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "third.yaml").write_text(RECIPE)

    def run(entry: str, *words: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])
        code = f"from nas.cli import {entry}; {entry}()"
        return subprocess.run(
            [sys.executable, "-c", code, *words],
            capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip

    done = run("main_search", "third.yaml", "--json", "-")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    # Of the last five of 2 x 2 x 3, two have the widest end; of equals the smaller one is best.
    assert told["best"]["score"] == 16.0
    texts = [row["arch"] for row in told["top"]]
    assert texts[0] == "16x1:k3e6/k3e6+16x1:k3e6"
    scored = run("main", "score", "--space", "third_chain", "--proxy", "third_width", texts[0])
    assert scored.returncode == 0, scored.stderr
    assert "16" in scored.stdout
    listed = run("main", "list")
    assert listed.returncode == 0, listed.stderr
    for name in ("third_chain", "third_width", "third_backwards"):
        assert f"{name} " in listed.stdout
    assert "third_party:SPACE" in listed.stdout
    wrong = run("main", "score", "--space", "third_chian", "--proxy", "sed", texts[0])
    assert wrong.returncode == 2
    assert "Did you mean 'third_chain'?" in wrong.stderr

    # A package that is broken stops who asks for it, and nobody else.
    (installed / "third_party.py").write_text("import nothing_of_this_name\n")
    broken = run("main_search", "third.yaml")
    assert broken.returncode == 2
    assert "space 'third_chain': cannot load plugin 'third_party:SPACE'" in broken.stderr
    assert "Traceback" not in broken.stderr
    assert run("main", "list").returncode == 0
