"""What every proxy promises, checked on the whole table."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from nas.proxies import PROXIES, Conditions, ProxyError, ProxySpec, score_batch
from nas.proxies.base import Outcome
from spaces import SPACES, Arch, Space
from spaces.nats_tss import NATS_TSS, NatsTss

SMALL = Conditions(resolution=16)
VARIANTS = [*PROXIES, "meco:hooks=conv", "meco:hooks=unique", "meco:hooks=reference"]
VARIANTS += ["meco_opt:hooks=relu", "meco_opt:hooks=unique", "meco_opt:hooks=reference"]


def some_archs(space: Space, count: int, seed: int = 0) -> list[Arch]:
    rng = np.random.default_rng(seed)
    return [space.canonical(space.sample(rng)) for _ in range(count)]


def numbers(row: list[Outcome]) -> list[float]:
    """Failures as NaN, so that two rows can be compared."""
    return [math.nan if isinstance(value, ProxyError) else value for value in row]


def score(name: str, archs: list[Arch], conditions: Conditions = SMALL) -> list[float]:
    return numbers(score_batch(NATS_TSS, [ProxySpec.parse(name)], archs, conditions)[0])


@pytest.mark.parametrize("name", VARIANTS)
def test_same_question_same_answer_and_the_global_generators_are_left_alone(name: str) -> None:
    archs = some_archs(NATS_TSS, 4)
    before = torch.random.get_rng_state()
    first = score(name, archs)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.rand(3)
    assert score(name, archs) == pytest.approx(first, rel=0, abs=0, nan_ok=True)


@pytest.mark.parametrize("name", VARIANTS)
def test_reads_what_it_says_it_reads(name: str) -> None:
    archs = some_archs(NATS_TSS, 3)
    reads = PROXIES[name.split(":")[0]].reads
    other = dataclasses.replace(SMALL, seed=1)  # other images and weights
    changed = score(name, archs) != pytest.approx(score(name, archs, other), nan_ok=True)
    assert changed == ("images" in reads)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())
@pytest.mark.parametrize("name", PROXIES)
def test_finite_or_a_failure_with_a_reason_in_every_space(name: str, space: Space) -> None:
    archs = some_archs(space, 2)
    row = score_batch(space, [ProxySpec.parse(name)], archs, SMALL)[0]
    assert len(row) == len(archs)
    for value in row:
        if isinstance(value, ProxyError):
            assert name in str(value)
        else:
            assert math.isfinite(value)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_rest_of_the_batch_does_not_matter(name: str) -> None:
    archs = some_archs(NATS_TSS, 7)
    together = score(name, archs)
    alone = [score(name, [arch])[0] for arch in archs]
    assert together == pytest.approx(alone, rel=1e-4, nan_ok=True)


@pytest.mark.parametrize("name", VARIANTS)
def test_proxies_asked_together_do_not_change_each_other(name: str) -> None:
    archs = some_archs(NATS_TSS, 3)
    specs = [ProxySpec.parse(other) for other in VARIANTS]
    together = score_batch(NATS_TSS, specs, archs, SMALL)[VARIANTS.index(name)]
    assert numbers(together) == pytest.approx(score(name, archs), rel=1e-6, nan_ok=True)


@pytest.mark.parametrize("name", [n for n in VARIANTS if ProxySpec.parse(n).of_function])
def test_functionally_identical_cells_score_the_same(name: str) -> None:
    written = NATS_TSS.from_str(  # the convolution into node 2 reaches nothing
        "|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|none~0|skip_connect~1|none~2|"
    )
    same = NATS_TSS.canonical(written)
    assert same != written
    first, second = score(name, [written, same])
    assert first == second


@pytest.mark.parametrize("name", VARIANTS)
def test_repeats_are_the_mean_over_draws(name: str) -> None:
    archs = some_archs(NATS_TSS, 2)
    singles = score(name, archs)
    thrice = score(name, archs, dataclasses.replace(SMALL, repeats=3))
    if "images" in PROXIES[name.split(":")[0]].reads:
        assert thrice != singles
    assert thrice == pytest.approx(singles, rel=0.5, nan_ok=True)


def test_a_network_that_cannot_run_fails_alone() -> None:
    class Broken(NatsTss):
        name = "broken"

        def build(self, arch: Arch, *, num_classes: int = 10) -> torch.nn.Module:
            if arch[0] == 1:
                raise RuntimeError("the 0-1 edge is cursed")
            return super().build(arch, num_classes=num_classes)

    archs = [(3, 0, 0, 0, 3, 0), (1, 0, 0, 0, 3, 0)]
    good, bad = score_batch(Broken(), [ProxySpec.parse("meco:hooks=reference")], archs, SMALL)[0]
    assert isinstance(good, float)
    assert isinstance(bad, ProxyError)
    assert "the 0-1 edge is cursed" in str(bad)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", VARIANTS)
def test_the_gpu_agrees_with_the_cpu(name: str) -> None:
    archs = some_archs(NATS_TSS, 4)
    gpu = dataclasses.replace(SMALL, device="cuda")
    assert score(name, archs, gpu) == pytest.approx(score(name, archs), rel=1e-3, nan_ok=True)
