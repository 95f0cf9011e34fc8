"""The two feeders agree: hooks on one network, and the network that runs a whole batch."""

import copy
import dataclasses
import math
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from _pytest.mark import ParameterSet
from torch import nn

from nas.networks.events import Event
from nas.networks.module import feed_module
from nas.proxies import PROXIES, Conditions, ProxyError, ProxySpec
from nas.proxies.base import Outcome
from nas.proxies.routes import judge, judge_one_by_one
from spaces import SPACES, CellSpace, Population, Space
from spaces.cell import Skeleton
from spaces.darts import Darts
from spaces.nasbench101 import NasBench101
from spaces.transnas_macro import TransnasMacro

CHEAPER = {"dextr": "dextr:points=2"}
VARIANTS = [*(CHEAPER.get(name, name) for name in PROXIES), "meco:hooks=conv"]
VARIANTS += ["meco_opt:hooks=relu", "fisher:per_weight=false"]


def batched(space: Space) -> list[ProxySpec]:
    specs = [ProxySpec.parse(name) for name in VARIANTS]
    return [spec for spec in specs if spec.route(space) == "batched" and not spec.parts]


def short(space: Space) -> Space:
    """Return a space with two cells per stage, which differ in nothing; the large one also thin."""
    if isinstance(space, Darts):
        small = Darts()
        small.width, small.n_cells = 4, 3
        return small
    if not isinstance(space, CellSpace | NasBench101):
        return space
    made = copy.copy(space)
    made.__dict__["skeleton"] = dataclasses.replace(space.skeleton, cells=2)
    if isinstance(space, NasBench101):  # widths that two, three or four vertices cannot share
        made.__dict__["skeleton"] = Skeleton(widths=(17, 22, 34), cells=2)
    return made


SHORT = [short(space) for space in SPACES.values()]
IN_FLOAT32 = [space for space in SHORT if space.name in ("nats_tss", "nats_sss", "nasbench101")]


#: A DARTS network ends in batch-norms that are pooled as they are, so where no node ends in a pool
#: or a copy, the gradient of logits summed over the images is 0 but for rounding. What reads it has
#: no number there that two feeders could agree on.
ROUNDING = {"darts": {"jacov", "epe_nas", "gradsign", "ntk", "vkdnw"}}


def asked(spaces: Iterable[Space]) -> list[ParameterSet]:
    return [
        pytest.param(space, str(spec), id=f"{space.name}-{spec}")
        for space in spaces
        for spec in batched(space)
        if spec.name not in ROUNDING.get(space.name, ())
    ]


#: Relative differences in float32. Where a ReLU's input is 0 but for rounding, one feeder may let a
#: gradient pass that the other stops; what asks every image by itself feels it most. Measured on 50
#: cells each, over seeds: ntk 4e-2, gradsign 4e-4, vkdnw 1e-4, decorrelation 2e-4 (logarithms of
#: eigenvalues near 0), formula 3e-2 (logarithms of gradients), all others 3e-5 at most.
FLOAT32 = {"ntk": 0.2, "gradsign": 2e-3, "vkdnw": 1e-3, "decorrelation": 1e-3, "formula": 0.1}

#: Sums of what cancels (before a batch-norm, weights and their gradients are orthogonal), so that a
#: score may be as small as it likes beside its terms: an absolute difference, as a share of the
#: largest score. Measured as above, on two kinds of processor: plain 1e-4 at most.
CANCELS = {"plain": 1e-3}

#: In whole NAS-Bench-101 networks either feeder is off by as much from its own float64: measured on
#: 12 cells, epe_nas 3e-2, meco of convolutions 4e-2, fisher 3e-3, az_trainability 8e-4.
LARGE = 0.1
#: In whole DARTS networks fisher, az_trainability, dextr and formula differ by 7e-3 at most.
WHOLE_AND_LARGE = (SPACES["nasbench101"], SPACES["darts"])


#: Input to output alone, which is narrowest and widest; a single vertex of each kind; all five in
#: a row, with edges past them; three that share the output, cut where the later are narrower.
CELLS_101 = (
    "conv3x3~+conv3x3~+conv3x3~+conv3x3~+conv3x3~+output~0",
    "conv3x3~0+conv3x3~+conv3x3~+conv3x3~+conv3x3~+output~1",
    "conv1x1~0+conv3x3~+conv3x3~+conv3x3~+conv3x3~+output~01",
    "maxpool3x3~0+conv3x3~+conv3x3~+conv3x3~+conv3x3~+output~1",
    "conv3x3~0+maxpool3x3~1+conv1x1~2+conv3x3~3+conv1x1~04+output~05",
    "conv3x3~0+conv1x1~01+maxpool3x3~12+conv3x3~+conv3x3~+output~123",
)


def degenerate(space: Space) -> list[tuple[int, ...]]:
    """All of one choice each: all none, all skip, all pooling, all convolution; all as wide."""
    if isinstance(space, NasBench101):
        return [space.from_str(text) for text in CELLS_101]
    sizes = space.dimensions
    if isinstance(space, TransnasMacro):
        return [space.from_str(f"64-{kinds}-basic") for kinds in ("1114", "222333", "441113")]
    if isinstance(space, Darts):  # all of one operation each, of the first and of the last nodes
        return [(min(k, 1), k, k) * 8 for k in range(7)]
    return [tuple(min(k, size - 1) for size in sizes) for k in range(max(sizes))]


@cache
def population(space: Space) -> Population:
    rng = np.random.default_rng(1)
    count = 4 if space in SHORT else 8
    drawn = [space.sample(rng) for _ in range(count)] + degenerate(space)
    if isinstance(
        space, TransnasMacro
    ):  # four halvings of 16 pixels leave one, which no norm takes
        drawn = [arch for arch in drawn if sum(kind in (2, 3) for kind in arch) < 4]
    return np.unique(space.canonicalise(np.asarray(drawn)), axis=0)


def conditions(dtype: str) -> Conditions:
    # Few classes: VKDNW goes backwards once per class.
    return Conditions(num_classes=3, resolution=16, minibatch=6, dtype=dtype)  # type: ignore[arg-type]


@cache
def one_by_one(space: Space, dtype: str) -> dict[str, list[Outcome]]:
    """Scores by hooks, all proxies on the same pass."""
    rows: dict[str, list[Outcome]] = {}
    for thin in (False, True):
        specs = [spec for spec in batched(space) if spec.proxy.thin is thin]
        if specs:
            built = space.thin() if thin else space
            judged = judge_one_by_one(built, specs, population(space), conditions(dtype))
            rows.update(zip(map(str, specs), judged, strict=True))
    return rows


def many_at_a_time(
    space: Space, name: str, archs: Population, dtype: str, patch: pytest.MonkeyPatch
) -> list[Outcome]:
    """Scores of a batch; one that breaks, so that it would be scored one by one, is no success."""
    patch.setattr("nas.proxies.routes.judge_one_by_one", lambda *args: pytest.fail("broke"))
    return judge(space, [ProxySpec.parse(name)], archs, conditions(dtype))[0]


def failures(row: list[Outcome]) -> list[str]:
    return [str(value) if isinstance(value, ProxyError) else "" for value in row]


def finite(row: list[Outcome]) -> list[float]:
    return [value for value in row if not isinstance(value, ProxyError)]


def order(row: list[Outcome]) -> list[int]:
    """Places from the lowest score to the highest, failures first; what rounds equal is equal."""
    rounded = [-math.inf if isinstance(x, ProxyError) else float(f"{x + 0.0:.9e}") for x in row]
    return [int(place) for place in np.argsort(np.round(rounded, 12), kind="stable")]


@pytest.mark.parametrize(("space", "name"), asked(SHORT))
def test_both_feeders_give_the_same_scores(
    space: Space, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    agree(space, name, "float64", monkeypatch)


@pytest.mark.parametrize(("space", "name"), asked(IN_FLOAT32))
def test_both_feeders_give_nearly_the_same_scores_in_float32(
    space: Space, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    agree(space, name, "float32", monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize(("space", "name"), asked(SPACES.values()))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_feeders_give_the_same_scores_of_whole_networks(
    space: Space, name: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    agree(space, name, dtype, monkeypatch)


def agree(space: Space, name: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # All cells in one batch, also where memory would let only one run at a time.
    monkeypatch.setattr("nas.proxies.routes._together", lambda *args: 10_000)
    many = many_at_a_time(space, name, population(space), dtype, monkeypatch)
    single = one_by_one(space, dtype)[name]
    assert failures(many) == failures(single)
    loose = LARGE if space in WHOLE_AND_LARGE else FLOAT32.get(name.split(":")[0], 1e-4)
    tolerance = 1e-9 if dtype == "float64" else loose
    share = 0.0 if dtype == "float64" else CANCELS.get(name, 0.0)
    nothing = max(1e-9, share * max(map(abs, finite(single)), default=0.0))
    assert finite(many) == pytest.approx(finite(single), rel=tolerance, abs=nothing)
    assert len(finite(many)) >= len(many) - 1  # all but the cell without a path
    if dtype == "float64":
        assert order(many) == order(single)


@pytest.mark.parametrize(("space", "name"), asked(SHORT))
def test_a_batch_of_a_single_cell_breaks_nothing(
    space: Space, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first is the one without a path, where there is one.
    nothing = population(space)[:1]
    many = many_at_a_time(space, name, nothing, "float64", monkeypatch)
    single = one_by_one(space, "float64")[name][:1]
    assert failures(many) == failures(single)
    assert finite(many) == pytest.approx(finite(single), rel=1e-9, abs=1e-9)


class _Recorder:
    totals = torch.zeros(1)
    roles = frozenset({"relu", "conv", "norm", "other"})

    def __init__(self) -> None:
        self.events: list[tuple[str, int, int]] = []

    def wants(self, channels: int, positions: int) -> bool:
        return True

    def hear(self, event: Event) -> None:
        (role,) = event.counts
        self.events.append((role, event.map_id, event.affine_id))

    def scores(self) -> torch.Tensor:
        return torch.zeros(1)


def test_repeated_maps_are_recognised() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
    recorder = _Recorder()
    feed_module(net, torch.randn(1, 3, 4, 4), [recorder])
    (conv, norm, relu, root) = recorder.events
    assert [e[0] for e in recorder.events] == ["conv", "norm", "relu", "other"]
    assert conv[1] != norm[1]
    assert conv[2] == norm[2]  # an affine copy
    assert relu[1] not in (conv[1], norm[1])  # in place, yet another map
    assert relu[1] == root[1]  # the container hands on what its last member made


def test_hooks_are_gone_even_when_the_network_fails() -> None:
    class Fails(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no")

    net = nn.Sequential(nn.Conv2d(3, 4, 1), Fails())
    with pytest.raises(RuntimeError, match="no"):
        feed_module(net, torch.randn(1, 3, 4, 4), [_Recorder()])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_images_from_a_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "a.npy", rng.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8))
    space: Space = SPACES["nats_tss"]
    archs = np.asarray([[3, 3, 3, 3, 3, 3]])
    spec = [ProxySpec.parse("meco")]
    noise = judge(space, spec, archs, Conditions(resolution=16))
    image = judge(space, spec, archs, Conditions(resolution=16, images=str(tmp_path / "a.npy")))
    assert noise != image


def test_the_number_of_workers_changes_nothing() -> None:
    space = SPACES["nats_tss"]
    archs = np.unique(space.canonicalise(space.all()[:300]), axis=0)[:80]  # two parts
    specs = [ProxySpec.parse("meco"), ProxySpec.parse("meco_opt:hooks=reference")]
    before = torch.get_num_threads()
    scores = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            scores.append(judge(space, specs[:1], archs, Conditions(resolution=8)))
            scores[-1] += judge(space, specs[1:], archs[:4], Conditions(resolution=8))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert scores[0] == scores[1]
