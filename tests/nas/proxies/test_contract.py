"""What every proxy promises, checked on the whole table."""

import copy
import dataclasses
import math
import random
import subprocess
import sys
from functools import cache, partial
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from nas.networks.module import ModuleNetwork
from nas.proxies import PROXIES, Conditions, ProxyError, ProxySpec, score_batch
from nas.proxies.base import Outcome, Route
from nas.proxies.routes import ask, one_repeat, seeded
from nas.seeds import seeded_torch
from spaces import SPACES, Arch, Space
from spaces.nats_tss import NATS_TSS, NatsTss
from tests.nas.proxies.by_hand import Block, given

#: Few classes, for VKDNW goes backwards once per class; images enough for SWAP to tell cells apart.
#: In float64, so that one route and another give the same numbers.
SMALL = Conditions(num_classes=4, resolution=8, minibatch=12, dtype="float64")

#: Less than by default: passes of dextr, architectures in the sample of an ensemble.
CHEAPER = {"dextr": "dextr:points=2", "zero_shot": "zero_shot:reference=8"}
CHEAPER |= {"ensemble": "ensemble:reference=8"}
VARIANTS = [CHEAPER.get(name, name) for name in PROXIES]
VARIANTS += ["meco:hooks=conv", "meco:hooks=unique", "meco:hooks=reference"]
VARIANTS += ["meco_opt:hooks=relu", "meco_opt:hooks=unique", "meco_opt:hooks=reference"]


def reads(name: str) -> frozenset[str]:
    return ProxySpec.parse(name).reads


def data_free(name: str) -> bool:
    spec = ProxySpec.parse(name)
    return spec.proxy.population is not None and not spec.parts


def has_own_conditions(name: str) -> bool:
    return ProxySpec.parse(name).proxy.asks is not None


def joined(name: str) -> bool:
    return bool(ProxySpec.parse(name).parts)


#: Those that run networks themselves.
RUNNING = [name for name in VARIANTS if not data_free(name) and not joined(name)]


def some_archs(space: Space, count: int, seed: int = 2) -> list[Arch]:
    rng = np.random.default_rng(seed)
    return [space.canonical(space.sample(rng)) for _ in range(count)]


#: Pooling is read by no convolution: over the 2x2 positions of the last stage it is constant, a
#: normalisation makes 0 of that, and the sign of what rounding leaves (GradSign) is anybody's.
ARCHS = [
    NATS_TSS.canonical(NATS_TSS.from_str(text))
    for text in (
        "|skip_connect~0|+|nor_conv_1x1~0|none~1|+|none~0|nor_conv_3x3~1|skip_connect~2|",
        "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|nor_conv_1x1~0|nor_conv_3x3~1|avg_pool_3x3~2|",
    )
]


def numbers(row: list[Outcome]) -> list[float]:
    """Failures as NaN, so that two rows can be compared."""
    return [math.nan if isinstance(value, ProxyError) else value for value in row]


def score(name: str, archs: list[Arch], conditions: Conditions = SMALL) -> list[float]:
    return numbers(score_batch(NATS_TSS, [ProxySpec.parse(name)], archs, conditions)[0])


@cache
def alone(name: str) -> list[float]:
    return score(name, ARCHS)


@cache
def together(conditions: Conditions, count: int = 1) -> dict[str, list[float]]:
    """Scores of the first cells by all proxies, which share passes."""
    specs = [ProxySpec.parse(name) for name in VARIANTS]
    rows = score_batch(NATS_TSS, specs, ARCHS[:count], conditions)
    return dict(zip(VARIANTS, map(numbers, rows), strict=True))


def test_the_cells_asked_about_have_scores() -> None:
    # Below, rows are compared: two failures would always agree.
    for row in together(SMALL, 2).values():
        assert np.isfinite(row).all()


def global_state() -> list[object]:
    return [torch.random.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())]  # noqa: NPY002


@pytest.mark.parametrize("name", VARIANTS)
def test_same_question_same_answer_and_the_global_generators_are_left_alone(name: str) -> None:
    first = alone(name)
    torch.rand(3)
    before = global_state()
    assert score(name, ARCHS) == first
    assert global_state() == before


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Conditions]:
    """Conditions on files: one of images with labels, other images, other labels."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    images, others = rng.integers(0, 256, (2, 20, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(20) % 4
    found = {}
    for name, x, y in (
        ("first", images, labels),
        ("images", others, labels),
        ("labels", images, rng.permutation(labels)),
    ):
        np.savez(folder / f"{name}.npz", images=x, labels=y)
        found[name] = dataclasses.replace(SMALL, images=str(folder / f"{name}.npz"))
    return found


@pytest.mark.parametrize("what", ["images", "labels"])
@pytest.mark.parametrize("name", VARIANTS)
def test_reads_the_images_and_labels_that_it_says_it_reads(
    name: str, what: str, files: dict[str, Conditions]
) -> None:
    first, other = together(files["first"])[name], together(files[what])[name]
    assert np.isfinite([first, other]).all()
    assert (first != other) == (what in reads(name))


@pytest.mark.parametrize("name", VARIANTS)
def test_the_seed_matters_unless_no_network_is_run(name: str) -> None:
    other = together(dataclasses.replace(SMALL, seed=1))[name]
    first = together(SMALL, 2)[name][:1]
    if has_own_conditions(name):
        assert other == pytest.approx(first, rel=1e-5)
    else:
        assert (first == other) == data_free(name)


#: What these draw besides inputs: the channels of a map; the signs that are sent backwards.
DRAW = {"meco_opt", "az_trainability"}


@pytest.mark.parametrize("name", RUNNING)
def test_reads_noise_of_its_own_if_it_says_so(name: str) -> None:
    # Weights, images and labels are given, so that only what a proxy draws is left to the seed.
    with seeded_torch(0, "weights"):
        net = nn.Sequential(
            nn.Conv2d(3, 12, 3, stride=3), nn.BatchNorm2d(12), nn.ReLU(),  # 12 ReLUs for 3x3 pixels
            Block(nn.Conv2d(12, 12, 1)), Block(nn.Conv2d(12, 12, 1)),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4),
        )  # fmt: skip
        images = given(torch.randn(24, 3, 16, 16), [k % 4 for k in range(24)], minibatch=12)
    answers = []
    for seed in (0, 1):
        (answer,) = ask(
            ModuleNetwork(copy.deepcopy(net).double(), 0, seeded=False),  # it updates its norms
            [ProxySpec.parse(name)],
            dataclasses.replace(SMALL, seed=seed),
            dataclasses.replace(images, seed=seed),
        )
        assert isinstance(answer, torch.Tensor), answer
        answers.append(answer.item())
    draws = "noise" in reads(name) or name.split(":")[0] in DRAW
    assert (answers[0] != answers[1]) == draws


@pytest.mark.parametrize("name", VARIANTS)
def test_takes_gradients_if_it_says_so(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    for owner, function in ((torch.autograd, "grad"), (torch.func, "jvp")):
        real = getattr(owner, function)
        spy = partial(_told, taken, real)
        monkeypatch.setattr(owner, function, spy)
    score(name, ARCHS[:1])
    assert bool(taken) == ("gradients" in reads(name))


def _told(taken: list[str], real: object, *args: object, **kwargs: object) -> object:
    assert callable(real)
    taken.append("gradients")
    return real(*args, **kwargs)


@pytest.mark.parametrize("name", VARIANTS)
def test_proxies_asked_together_do_not_change_each_other(name: str) -> None:
    # Together, what needs the minibatch runs one network at a time; alone, many at a time.
    assert together(SMALL, 2)[name] == pytest.approx(alone(name), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", [x for x in VARIANTS if ProxySpec.parse(x).of_function])
def test_functionally_identical_cells_score_the_same(name: str) -> None:
    written = NATS_TSS.from_str(  # the convolution into node 2 reaches nothing
        "|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|none~0|skip_connect~1|none~2|"
    )
    same = NATS_TSS.canonical(written)
    assert same != written
    first, second = score(name, [written, same])
    assert first == second


@pytest.mark.parametrize("name", RUNNING)
def test_repeats_are_the_mean_over_draws_of_weights_and_images(name: str) -> None:
    spec = ProxySpec.parse(name)
    conditions = dataclasses.replace(SMALL, minibatch=4, repeats=2)
    space = NATS_TSS.thin() if spec.proxy.thin else NATS_TSS
    draws = []
    for repeat in range(2):
        now = one_repeat(conditions, repeat)
        net = space.build(ARCHS[0], num_classes=4).double()
        inputs = seeded(conditions, repeat)
        (answer,) = ask(ModuleNetwork(net, now.seed, seeded=True), [spec], now, inputs)
        assert isinstance(answer, torch.Tensor), answer
        draws.append(answer.item())
    assert score(name, ARCHS[:1], conditions) == pytest.approx([np.mean(draws)], rel=1e-9)
    once = dataclasses.replace(conditions, repeats=1)
    assert score(name, ARCHS[:1], once) == pytest.approx(draws[:1], rel=1e-9)


def test_one_draw_that_fails_fails_all() -> None:
    # No mean over those draws that happen to work: a failure is more frequent in bad networks.
    class Sometimes(NatsTss):
        name = "sometimes"

        def build(self, arch: Arch, *, num_classes: int = 10, in_chans: int = 3) -> torch.nn.Module:
            return _FailsAt(super().build(arch, num_classes=num_classes, in_chans=in_chans), run=2)

    spec = ProxySpec.parse("grad_norm")
    conditions = dataclasses.replace(SMALL, minibatch=4)
    once, thrice = (
        score_batch(Sometimes(), [spec], ARCHS[:1], dataclasses.replace(conditions, repeats=n))[0]
        for n in (1, 3)
    )
    assert isinstance(once[0], float)
    assert isinstance(thrice[0], ProxyError)


class _FailsAt(nn.Module):
    """A network that breaks when it is run for the n-th time."""

    def __init__(self, net: nn.Module, run: int) -> None:
        super().__init__()
        self.net = net
        self.left = run

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.left -= 1
        if not self.left:
            raise RuntimeError("enough")
        result: torch.Tensor = self.net(x)
        return result


@cache
def everywhere(space: str) -> dict[str, list[Outcome]]:
    """Scores of some members of a space by all proxies together."""
    big = space == "nasbench101"
    archs = some_archs(SPACES[space], 1 if big else 2)
    conditions = dataclasses.replace(SMALL, minibatch=4)
    specs = [ProxySpec.parse(name) for name in VARIANTS]
    return dict(zip(VARIANTS, score_batch(SPACES[space], specs, archs, conditions), strict=True))


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", VARIANTS)
def test_finite_or_a_failure_with_a_reason_in_every_space(name: str, space: str) -> None:
    row = everywhere(space)[name]
    assert row
    spec = ProxySpec.parse(name)
    judges = tuple(f"{each}: " for each in (spec, *spec.parts))  # an ensemble hands a reason on
    for value in row:
        if isinstance(value, ProxyError):
            assert str(value).startswith(judges)
            assert len(str(value)) > len(name) + 10
        else:
            assert math.isfinite(value)
    if not ProxySpec.parse(name).proxy.thin:  # two spaces have no thin form
        holds = space == "nats_tss" or not has_own_conditions(name)  # fitted on that space
        assert any(isinstance(value, float) for value in row) == holds


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())
@pytest.mark.parametrize("name", VARIANTS)
def test_the_route_is_one_of_three(name: str, space: Space) -> None:
    route = ProxySpec.parse(name).route(space)
    assert route in get_args(Route)
    assert (route == "data-free") == data_free(name)


def test_a_data_free_proxy_needs_no_torch() -> None:
    code = """
import sys
from nas.proxies import PROXIES, Conditions, ProxySpec, score_batch
from spaces import SPACES
names = [name for name, proxy in PROXIES.items() if proxy.population and not proxy.asks]
specs = [ProxySpec.parse(name) for name in names]
for space in SPACES.values():
    assert all(spec.route(space) == "data-free" for spec in specs)
rows = score_batch(SPACES["nats_tss"], specs, [(1, 2, 3, 4, 0, 1)], Conditions())
assert len(rows) == len(specs) > 2
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_network_that_cannot_run_fails_alone() -> None:
    class Broken(NatsTss):
        name = "broken"

        def build(self, arch: Arch, *, num_classes: int = 10, in_chans: int = 3) -> torch.nn.Module:
            if arch[0] == 1:
                raise RuntimeError("the 0-1 edge is cursed")
            return super().build(arch, num_classes=num_classes, in_chans=in_chans)

    archs = [(3, 0, 0, 0, 3, 0), (1, 0, 0, 0, 3, 0)]
    good, bad = score_batch(Broken(), [ProxySpec.parse("meco:hooks=reference")], archs, SMALL)[0]
    assert isinstance(good, float)
    assert isinstance(bad, ProxyError)
    assert "the 0-1 edge is cursed" in str(bad)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", VARIANTS)
def test_the_gpu_agrees_with_the_cpu(name: str) -> None:
    # In float64: in float32 a ReLU that rounding turns on or off can change a gradient for good.
    gpu = dataclasses.replace(SMALL, device="cuda")
    assert score(name, ARCHS, gpu) == pytest.approx(score(name, ARCHS), rel=1e-6, abs=1e-9)
