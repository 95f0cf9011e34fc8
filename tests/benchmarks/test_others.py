"""What stands behind the comparison with other tools; none of them is needed here.

A checkout of NASLib is stood in for by one of the same form, with measures that are written here.
"""

import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks import others
from nas.proxies import Conditions, ProxyError
from spaces import SPACES, Arch

SPACE = SPACES["nats_tss"]
SMALL = Conditions(minibatch=4, resolution=8, seed=3)
CELLS = [
    SPACE.from_str("|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|none~1|none~2|"),
    SPACE.from_str("|nor_conv_1x1~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|none~2|"),
]

PREDICTIVE = """
import torch
from . import measures

def find_measures_arrays(net, loader, info, device, measure_names, loss_fn):
    ((images, labels),) = loader
    return {name: measures.known[name](net, images, labels, loss_fn) for name in measure_names}
"""
MEASURES = """
known = {}
available_measures = []

def add(name, function):
    known[name] = function
    available_measures.append(name)
"""
LISTED = """
from . import add

def layers(net):
    return [m for m in net.modules() if type(m).__name__ in ("Conv2d", "Linear")]

def grad_norm(net, images, labels, loss_fn):
    loss_fn(net(images), labels).backward()
    return [m.weight.grad.norm() for m in layers(net) if m.weight.grad is not None]

add("grad_norm", grad_norm)
add("plain", lambda net, images, *_: [images.new_tensor([1.0, 2.0]), images.new_ones(3)])
add("nwot", lambda *_: float("nan"))

def zen(net, images, *_):
    maps = net.forward_before_global_avg_pool(images)
    return [maps.new_tensor(maps.shape)]

add("zen", zen)
add("theirs_only", None)
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """A folder with the parts of NASLib that are imported, under packages that cannot be."""
    pruners = tmp_path / "naslib" / "predictors" / "pruners"
    (pruners / "measures").mkdir(parents=True)
    for package in (tmp_path / "naslib", tmp_path / "naslib" / "predictors"):
        (package / "__init__.py").write_text("raise ImportError('no benchmark files')\n")
    (pruners / "predictive.py").write_text(PREDICTIVE)
    (pruners / "measures" / "__init__.py").write_text(MEASURES)
    (pruners / "measures" / "listed.py").write_text(LISTED)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "naslib"]:
        del sys.modules[name]


def test_only_the_measures_are_imported_and_those_of_both_found(checkout: Path) -> None:
    assert others.known_to(others.load_naslib(checkout)) == ["grad_norm", "nwot", "plain", "zen"]


def test_theirs_see_the_weights_and_the_minibatch_of_ours(checkout: Path) -> None:
    # the sum of gradients' norms, by plain autograd, is what our proxy is defined to be
    theirs, seconds = others.naslib_way(others.load_naslib(checkout), SMALL)("grad_norm", CELLS)
    ours, _ = others.alone(SMALL)("grad_norm", CELLS)
    shipped, _ = others.as_shipped(SMALL)("grad_norm", CELLS)
    assert theirs == pytest.approx(ours, rel=1e-4)
    assert theirs == pytest.approx(shipped, rel=1e-4)
    assert seconds > 0


def test_theirs_are_added_up_and_a_nan_stays(checkout: Path) -> None:
    judge = others.naslib_way(others.load_naslib(checkout), SMALL)
    assert judge("plain", CELLS)[0] == [6.0, 6.0]  # 1 + 2 + 1 + 1 + 1
    assert math.isnan(judge("nwot", CELLS[:1])[0][0])
    assert judge("zen", CELLS[:1])[0] == [4 + 64 + 2 + 2]  # 4 images, 64 channels, 8 / 2 / 2


def test_every_way_gets_every_cell_once_a_round() -> None:
    seen: dict[str, list[Arch]] = {"a": [], "b": []}

    def way(label: str) -> others.Way:
        def judge(name: str, archs: Sequence[Arch]) -> tuple[list[float], float]:
            seen[label] += archs
            return [float(arch[0]) for arch in archs], float(len(archs))

        return judge

    archs = [(number,) for number in range(5)]
    ways = {"a": way("a"), "b": way("b")}
    scores, seconds = others.run_rounds(ways, ["one"], archs, rounds=2)
    assert scores["a one"] == scores["b one"] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert seconds["a one"] == [3.0, 2.0]
    assert seen["a"] == seen["b"] == [(0,), *archs]  # one to warm up


def test_a_ratio_is_that_of_one_round() -> None:
    assert others.ratios([2.0, 9.0, 4.0], [1.0, 3.0, 1.0]) == {"median": 3, "min": 2, "max": 4}


def test_cells_are_different_functions_and_depend_on_the_seed() -> None:
    drawn = others.draw(400, seed=1)
    assert drawn == others.draw(400, seed=1) != others.draw(400, seed=2)
    assert len(set(drawn)) == 400
    assert all(SPACE.canonical(arch) == arch for arch in drawn)


def test_a_failure_is_counted_and_left_out_of_the_agreement() -> None:
    scores = others.numbers([1.0, ProxyError("no"), 3.0, 4.0])
    assert others.correlations(scores, [1.0, 2.0, 3.0, 4.0])["failed"] == 1
    found = others.agreement(scores, [1.0, 9.0, 3.0001, 2.0])
    assert found["spearman"] == pytest.approx(0.5)  # places 1, 2, 3 and 1, 3, 2
    assert found["same_to_a_thousandth"] == pytest.approx(2 / 3)


def test_archai_searches_the_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # it leaves a log
    pytest.importorskip("archai", reason="Archai is not installed")
    from benchmarks import archai_search

    seconds, evaluated = archai_search.run(45, seed=1)
    assert seconds > 0
    assert 40 < evaluated <= 45
    assert np.isfinite(seconds)
