"""Atoms: numbers worked out by hand, and the same ones from either feeder."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas.design.atoms import PASSES, ROLES, TINY, passes_of
from nas.design.layers import Layers
from nas.design.measure import Maps, measure, measure_population
from nas.networks.module import ModuleNetwork
from nas.proxies.base import Conditions
from nas.proxies.routes import form_of, network_of, one_repeat, place, seeded
from spaces import SPACES, CellSpace, Space
from spaces.cell import Skeleton
from spaces.nasbench101 import NasBench101
from tests.nas.proxies.by_hand import doubles, linear

ALL = {role.name: role.names for role in ROLES.values()}

# Two channels, four positions. Products .75 - .75 - .75 + .75: no correlation. And one of 4 / 5:
# centred, (-1.5, -.5, .5, 1.5) and (-1.5, -.5, 1.5, .5) have products 2.25 + .25 + .75 + .75 of 5.
PLAIN = doubles([[[[-1.5, -0.5, 0.5, 1.5]], [[-0.5, 1.5, -1.5, 0.5]]]])
TILTED = doubles([[[[1.0, 2.0, 3.0, 4.0]], [[1.0, 2.0, 4.0, 3.0]]]])


def one(maps: Maps, name: str) -> float:
    found: Tensor = ROLES["block"].atom(name).of(maps)
    return float(found)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("one", 1),
        ("channels", 2),
        ("positions", 4),
        ("rms", math.sqrt(60 / 8)),
        ("mean", 2.5),
        ("std", math.sqrt(1.25)),
        ("kurtosis", (2 * (2 * 1.5**4 + 2 * 0.5**4) / 8) / 1.25**2),
        ("active", 1),
        ("variety", 0),
        ("min_eigenvalue", 0.2),
        ("min_eigenvalue_8", 0.2),
        ("log_volume", math.log(1 - 0.8**2)),
        ("entropy", -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))),
        ("correlation", 0.8),
        ("rank", 4 / (2 + 2 * 0.8**2) / 2),
    ],
)
def test_a_map_by_hand(name: str, expected: float) -> None:
    assert one(Maps(TILTED), name) == pytest.approx(expected, rel=1e-12)


def test_a_map_without_correlation_by_hand() -> None:
    maps = Maps(PLAIN)
    assert one(maps, "active") == 0.5
    assert one(maps, "variety") == 1  # half of either channel
    assert one(maps, "correlation") == pytest.approx(0, abs=1e-12)
    assert one(maps, "rank") == pytest.approx(1)
    assert one(maps, "entropy") == pytest.approx(math.log(2))
    assert one(maps, "log_volume") == pytest.approx(0, abs=1e-12)


def test_growth_and_gain_by_hand() -> None:
    maps = Maps(TILTED, doubles([[[[1.0, -1.0]]]]))
    assert one(maps, "growth") == pytest.approx(math.log(math.sqrt(7.5)))
    flow = Maps(TILTED, doubles([[[[1.0, 2.0]]]]))
    assert float(ROLES["flow"].atom("gain").of(flow)) == pytest.approx(math.log(2.5 / 1.5))
    nothing = Maps(torch.zeros(1, 2, 1, 4, dtype=torch.float64), torch.zeros(1, 1, 1, 2))
    assert one(nothing, "growth") == pytest.approx(math.log(TINY))


@pytest.mark.parametrize("maps", [torch.zeros(2, 9, 3, 3), torch.ones(1, 1, 1, 1)])
def test_atoms_are_finite_on_maps_that_hold_nothing(maps: Tensor) -> None:
    known = Maps(maps, torch.zeros(len(maps), 1, 2, 2))
    for atom in ROLES["block"].atoms:
        assert torch.isfinite(atom.of(known)).all(), atom.name


def alone(net: nn.Module, image: Tensor) -> dict[str, Layers]:
    return measure(ModuleNetwork(net, 0, seeded=False), image, ALL)


def test_a_linear_layer_by_hand() -> None:
    # y = (1 + 2, 3 - 4) = (3, -1); the gradient of the sum is 1; by the weights (1, 2; 1, 2).
    net = nn.Sequential(nn.Flatten(), linear([[1.0, 1.0], [3.0, -2.0]]))
    found = alone(net, doubles([[[[1.0, 2.0]]]]))["layer"]
    expected = {
        "one": 1.0,
        "log_output": math.log(math.sqrt(5)),
        "log_gradient": 0.0,
        "log_weight_gradient": math.log(math.sqrt(2.5)),
        "log_saliency": math.log(2),
        "alignment": 1 / math.sqrt(5),
    }
    assert dict(zip(found.atoms, found.values[:, 0], strict=True)) == pytest.approx(expected)
    weights = alone(net, doubles([[[[1.0, 2.0]]]]))["weight"]
    expected = {
        "one": 1.0,
        "log_count": math.log(4),
        "log_fan_in": math.log(2),
        "log_width": math.log(2),
        "window": 1.0,
        "rms": math.sqrt(15 / 4),
    }
    assert dict(zip(weights.atoms, weights.values[:, 0], strict=True)) == pytest.approx(expected)


class Twice(nn.Module):
    """Doubles what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        inside: Tensor = self.inside(x)
        return inside * 2


def test_blocks_by_hand() -> None:
    net = nn.Sequential(Twice(), Twice(), nn.Sequential(nn.ReLU()), Twice(), nn.Flatten())
    found = alone(net, TILTED)
    assert found["block"].atom("growth").tolist() == pytest.approx([math.log(2)] * 3)
    assert found["block"].atom("depth").tolist() == pytest.approx([0, 1 / 3, 2 / 3])
    assert found["relu"].atom("depth").tolist() == pytest.approx([2 / 3])
    assert found["flow"].atom("gain").tolist() == pytest.approx([math.log(2)] * 3)
    # From the end of a block to the end of the next: each doubles the gradient.
    assert found["slope"].atom("gain").tolist() == pytest.approx([math.log(2)] * 2)


class Nothing(nn.Module):
    """Lets nothing through."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        inside: Tensor = self.inside(x)
        return inside * 0


def test_a_block_that_nothing_leaves_is_dead() -> None:
    for last, expected in ((Nothing(), True), (Twice(), False)):
        found = alone(nn.Sequential(Twice(), last, nn.Flatten()), TILTED)
        for role in ("block", "flow", "slope"):
            dead = found[role].dead
            assert dead is not None
            assert dead.tolist() == [expected], role


SHORT: list[Space] = []
for _space in SPACES.values():
    if isinstance(_space, CellSpace | NasBench101):
        _made = copy.copy(_space)
        _made.__dict__["skeleton"] = dataclasses.replace(_space.skeleton, cells=2)
        if isinstance(_space, NasBench101):
            _made.__dict__["skeleton"] = Skeleton(widths=(17, 22, 34), cells=2)
        SHORT.append(_made)

EXACT = Conditions(num_classes=3, resolution=16, dtype="float64")


@pytest.mark.parametrize("space", SHORT, ids=lambda space: space.name)
@pytest.mark.parametrize("asked", PASSES)
def test_both_feeders_give_the_same_statistics(space: Space, asked: str) -> None:
    drawn = np.asarray([space.sample(np.random.default_rng(k)) for k in range(5)])
    if isinstance(space, CellSpace):
        drawn = np.concatenate([drawn, np.zeros_like(drawn[:1])])  # the cell without a path
    archs = np.unique(space.canonicalise(drawn), axis=0)
    now = one_repeat(EXACT, 0)
    image = place(seeded(EXACT, 0).first(), EXACT)
    wanted = {role: ALL[role] for role in ALL if ROLES[role].asked == asked}
    form = form_of(space)
    assert form is not None
    networks = form.networks(space, archs, now)
    many = measure(networks, image, wanted)  # type: ignore[arg-type]
    for number, arch in enumerate(archs):
        single = measure(network_of(space, arch, now), image, wanted)
        for role in wanted:
            mine, other = many[role].of(np.asarray([number])), single[role]
            for name in mine.atoms:
                for reduce in (Layers.sum, Layers.min, Layers.max, Layers.std):
                    assert reduce(mine, mine.atom(name)) == pytest.approx(
                        reduce(other, other.atom(name)), rel=1e-7, abs=1e-7
                    ), f"{role} {name}"
            flags = [None if x.dead is None else x.dead.tolist() for x in (mine, other)]
            assert flags[0] == flags[1]
            if asked != "weights" and isinstance(space, CellSpace):
                assert flags[0] == [not arch.any()]


def test_a_population_is_measured_in_parts_of_the_right_size() -> None:
    space, conditions = SHORT[0], Conditions(num_classes=3, resolution=8)
    rng = np.random.default_rng(0)
    archs = [space.canonical(space.sample(rng)) for _ in range(70)]  # two parts forwards
    wanted = {"relu": ("rms", "depth"), "slope": ("gain",), "weight": ("log_count",)}
    whole = measure_population(space, archs, conditions, wanted)
    some = measure_population(space, archs[66:68], conditions, wanted)
    for role in wanted:
        assert len(whole[role]) == 70
        part = whole[role].of(np.asarray([66, 67]))
        np.testing.assert_allclose(part.values, some[role].values, rtol=1e-4, atol=1e-6)
        assert part.counts.tolist() == some[role].counts.tolist()


def test_the_size_space_is_measured_one_by_one() -> None:
    space = SPACES["nats_sss"]
    archs = [tuple(space.dimensions[0] - 1 for _ in range(5)), (0, 0, 0, 0, 0)]
    found = measure_population(space, archs, Conditions(num_classes=3, resolution=8), ALL)
    assert {role: len(layers) for role, layers in found.items()} == dict.fromkeys(ALL, 2)
    assert (found["weight"].sum(found["weight"].atom("log_count"))[0]) > 0
    widths = found["conv"].max(found["conv"].atom("channels"))
    assert widths.tolist() == [64, 8]


def test_passes() -> None:
    assert passes_of({"relu", "conv"}) == {"image"}
    assert passes_of({"layer", "flow", "weight"}) == {"backward", "ones", "weights"}
    assert {role.asked for role in ROLES.values()} == set(PASSES)
    for role in ROLES.values():
        assert len(set(role.names)) == len(role.names)
