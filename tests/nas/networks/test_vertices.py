"""NAS-Bench-101 networks that run together: what they share, and what is left out."""

import copy
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nas.networks.batched import Feed, max_pool
from nas.networks.events import Event
from nas.networks.module import feed_module, weight_layers
from nas.networks.vertices import VertexNetworks
from nas.networks.weights import seed_weights
from spaces import Population
from spaces.cell import Skeleton
from spaces.nasbench101 import NASBENCH101, NasBench101

#: Of three vertices that share the output, the first gets one channel more than the last.
WIDTHS = (8, 14)

INPUT_TO_OUTPUT = "conv3x3~+conv3x3~+conv3x3~+conv3x3~+conv3x3~+output~0"
ONE_VERTEX = "conv3x3~0+conv3x3~+conv3x3~+conv3x3~+conv3x3~+output~1"
LONGER = "conv3x3~0+maxpool3x3~1+conv3x3~+conv3x3~+conv3x3~+output~02"
THREE_SHARE = "conv3x3~0+conv1x1~01+maxpool3x3~12+conv3x3~+conv3x3~+output~123"


def small() -> NasBench101:
    space = copy.copy(NASBENCH101)
    space.__dict__["skeleton"] = Skeleton(widths=WIDTHS, cells=2)
    return space


SPACE = small()


def population(*texts: str) -> Population:
    return np.asarray([SPACE.from_str(text) for text in texts])


def networks(*texts: str) -> VertexNetworks:
    return VertexNetworks(SPACE, population(*texts), seed=3, num_classes=5, device="cpu")


def images(count: int = 1, size: int = 8) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randn((count, 3, size, size), generator=rng, dtype=torch.float64)


class Recorder:
    """Keeps the events of some roles; wants what it is told to want."""

    def __init__(self, *roles: str, wants: Callable[[int, int], bool] = lambda c, p: True) -> None:
        self.roles = frozenset(roles)
        self.totals = torch.zeros(1)
        self._wants = wants
        self.events: list[Event] = []

    def wants(self, channels: int, positions: int) -> bool:
        return self._wants(channels, positions)

    def hear(self, event: Event) -> None:
        maps = event.maps.clone()  # what is heard may be overwritten
        self.events.append(
            Event(maps, event.archs, event.counts, event.map_id, event.affine_id, event.rows)
        )

    def scores(self) -> Tensor:
        return self.totals

    def of(self, arch: int) -> list[Tensor]:
        """Return the maps of one architecture, ``(M, C, positions)`` each, in a fixed order."""
        found = [
            event.features[place].flatten(2)
            for event in self.events
            for place in torch.nonzero(event.archs == arch)[:, 0].tolist()
        ]
        return sorted(found, key=lambda x: (x.shape[1:], float(x.sum())))


ROLES = ("relu", "conv", "normalised", "block", "last")
MIXED = (INPUT_TO_OUTPUT, ONE_VERTEX, LONGER, THREE_SHARE, ONE_VERTEX)

#: The second vertex reads the same first one, alone and with the input.
ALIKE = (
    "conv3x3~0+conv1x1~1+conv3x3~+conv3x3~+conv3x3~+output~2",
    "conv3x3~0+conv1x1~01+conv3x3~+conv3x3~+conv3x3~+output~2",
)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("count", "size"), [(1, 8), (3, 9)])
def test_every_network_emits_the_maps_of_its_module(role: str, count: int, size: int) -> None:
    together = Recorder(role)
    texts = (*MIXED, *ALIKE)
    networks(*texts).feed(images(count, size), [together], "default")
    for place, arch in enumerate(population(*texts)):
        net = SPACE.build(tuple(arch.tolist()), num_classes=5).double().train()
        seed_weights(net, 3)
        alone = Recorder(role)
        feed_module(net, images(count, size), [alone])
        assert len(together.of(place)) == len(alone.of(0)) > 0
        for mine, its in zip(together.of(place), alone.of(0), strict=True):
            torch.testing.assert_close(mine, its)


def test_what_networks_have_in_common_is_computed_once() -> None:
    recorder = Recorder("conv")
    networks(*MIXED).feed(images(), [recorder], "default")
    first = [event for event in recorder.events if event.rows is not None]
    sizes = [(len(event.archs), len(event.maps)) for event in first]
    # The stem of all; vertex 1 of those where it is as wide, its projection and its operation;
    # the projections of the input that two add to their output.
    assert sizes == [(5, 1), (3, 1), (3, 1), (2, 1)]
    for event in first:
        assert event.rows is not None
        assert event.features.shape[0] == len(event.archs)
        assert event.rows.tolist() == [0] * len(event.archs)


def test_gradients_of_networks_that_see_the_same_images_stay_apart() -> None:
    alone = networks(ONE_VERTEX).run(images(3)).input_gradient[0]
    run = networks(ONE_VERTEX, ONE_VERTEX, LONGER).run(images(3))
    together = run.input_gradient
    torch.testing.assert_close(together[0], alone)
    torch.testing.assert_close(together[1], alone)
    assert not torch.allclose(together[2], alone)
    assert all(len(layer.output) == len(layer.archs) for layer in run.layers)


def convolutions(
    texts: tuple[str, ...],
    wants: Callable[[int, int], bool],
    monkeypatch: pytest.MonkeyPatch,
    size: int = 8,
) -> list[tuple[str, int]]:
    """Return the names of the convolutions of a pass and on how many maps they ran."""
    ran = []
    real = Feed.convolve

    def spy(feed: Feed, name: str, maps: Tensor, *args: object, **kwargs: object) -> Tensor:
        ran.append((name.removeprefix("body."), len(maps)))
        return real(feed, name, maps, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Feed, "convolve", spy)
    networks(*texts).feed(images(1, size), [Recorder("relu", wants=wants)], "default")
    return ran


def test_nothing_behind_the_last_wanted_map_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert convolutions(MIXED, lambda c, p: False, monkeypatch) == [("stem.0", 1)]

    texts = (INPUT_TO_OUTPUT, LONGER, THREE_SHARE)
    # In the first stack all of them; in the second only the narrow maps of the third network, and
    # there not the vertex that pools what nobody wants afterwards.
    ran = convolutions(texts, lambda c, p: p == 64 or c <= 5, monkeypatch)
    assert {name for name, _ in ran if name.startswith("stack1")} == {
        f"stack1module{number}.{layer}"
        for number in (0, 1)
        for layer in ("vertex1.project.0", "vertex1.op.0", "vertex2.project.0", "vertex2.op.0")
    }
    assert {many for name, many in ran if name.startswith("stack1")} == {1}
    assert ("stack0module1.project.0", 2) in ran

    # The last module of a network without another one: what leaves it is not added up.
    ran = convolutions((LONGER,), lambda c, p: p == 64, monkeypatch)
    assert ran[-1] == ("stack0module1.project.0", 1)
    pooled: list[int] = []

    def spy(maps: Tensor, kernel: int) -> Tensor:
        pooled.append(kernel)
        return max_pool(maps, kernel)

    monkeypatch.setattr("nas.networks.vertices.max_pool", spy)
    convolutions((LONGER,), lambda c, p: p == 64, monkeypatch)
    assert pooled == [3]  # in the first module

    ran = convolutions((ONE_VERTEX,), lambda c, p: p == 25, monkeypatch, size=9)
    assert ran[-1] == ("stack1module1.vertex1.op.0", 1)


def test_every_layer_has_the_weight_of_its_module() -> None:
    texts = tuple(SPACE.to_str(SPACE.sample(np.random.default_rng(k))) for k in range(12))
    found: dict[int, list[Tensor]] = {place: [] for place in range(len(texts))}
    for archs, weight in networks(*texts).weights():
        for arch in archs.tolist():
            found[arch].append(weight)
    for place, arch in enumerate(population(*texts)):
        net = SPACE.build(tuple(arch.tolist()), num_classes=5)
        seed_weights(net, 3)
        expected = [layer.get_parameter("weight") for layer in weight_layers(net)]
        assert summary(found[place]) == summary(expected)


def summary(weights: Sequence[Tensor]) -> list[tuple[tuple[int, ...], float]]:
    return sorted((tuple(w.shape), round(float(w.detach().double().sum()), 6)) for w in weights)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 3), (1, 2)])
def test_max_pooling_is_that_of_the_module(height: int, width: int) -> None:
    rng = torch.Generator().manual_seed(1)
    maps = torch.randn((2, 3, 4, height, width), generator=rng)
    with torch.inference_mode():
        torch.testing.assert_close(max_pool(maps, 3), plainly(maps), rtol=0, atol=0)
    ending = torch.randn(maps.shape, generator=rng)
    maps = maps.relu().requires_grad_()  # zeros are ties
    (mine,) = torch.autograd.grad(max_pool(maps, 3), maps, ending)
    (its,) = torch.autograd.grad(plainly(maps), maps, ending)
    torch.testing.assert_close(mine, its, rtol=0, atol=0)


def plainly(maps: Tensor) -> Tensor:
    return F.max_pool2d(maps.flatten(0, 1), 3, 1, 1).view(maps.shape)
