"""Optimisers and schedules, by numbers worked out by hand and by torch's own."""

import math

import pytest
import torch
from torch import nn

from nas.training.plan import OPTIMISERS, SCHEDULES, Plan
from spaces.errors import NasError


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Linear(4, 2))


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_stays_between_nothing_and_the_highest_rate(name: str) -> None:
    info = SCHEDULES[name]
    factors = [info.factor(step / 1000, info.options()) for step in range(1000)]
    assert all(0 <= factor <= 1 + 1e-12 for factor in factors)
    assert max(factors) == pytest.approx(1, abs=1e-2)
    assert info.name == name
    assert info.summary


@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_optimiser_takes_a_step_downhill(name: str) -> None:
    weight = nn.Parameter(torch.tensor([[2.0]]))
    layer = nn.Linear(1, 1, bias=False)
    layer.weight = weight
    plan = Plan(epochs=1, batch=1, optimiser=name, optimiser_options={"weight_decay": 0.0})
    optimiser = plan.make_optimiser(layer)
    (weight**2).sum().backward()
    optimiser.step()
    assert 0 < weight.item() < 2


def test_the_cosine_is_that_of_torch_step_by_step() -> None:
    plan = Plan(epochs=3, batch=1, schedule_options={"floor": 0.0})
    steps = 3 * 7
    layer = nn.Linear(1, 1)
    reference = torch.optim.SGD(layer.parameters(), lr=0.1)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(reference, steps)
    for step in range(steps):
        assert plan.learning_rate(step, steps) == pytest.approx(reference.param_groups[0]["lr"])
        reference.step()
        cosine.step()


def test_a_warm_up_rises_from_nothing_and_the_cosine_ends_at_the_floor() -> None:
    options = SCHEDULES["cosine"].options(warmup=0.2, floor=0.1)
    factor = SCHEDULES["cosine"].factor
    assert [factor(t, options) for t in (0.0, 0.1, 0.2)] == pytest.approx([0, 0.5, 1])
    # Half of the way from 0.2 to 1: the cosine is 0, so the mean of 1 and the floor.
    assert factor(0.6, options) == pytest.approx(0.55)
    assert factor(1.0, options) == pytest.approx(0.1)


def test_a_triangle_goes_straight_up_and_straight_down() -> None:
    options = SCHEDULES["triangle"].options(peak=0.25, start=0.2, floor=0.0)
    factor = SCHEDULES["triangle"].factor
    assert [factor(t, options) for t in (0, 0.125, 0.25, 0.625)] == pytest.approx(
        [0.2, 0.6, 1, 0.5]
    )


def test_decay_is_for_all_parameters_or_for_weights_alone() -> None:
    everything = Plan(epochs=1, batch=1).make_optimiser(network())
    assert [len(group["params"]) for group in everything.param_groups] == [5]
    options = {"decay": "weights", "weight_decay": 0.01}
    some = Plan(epochs=1, batch=1, optimiser_options=options).make_optimiser(network())
    told = [(len(group["params"]), group["weight_decay"]) for group in some.param_groups]
    assert told == [(2, 0.01), (3, 0.0)]  # two weights; scale and shift of the norm, and a bias


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(NasError, match="no weights to train"):
        Plan(epochs=1, batch=1).make_optimiser(nn.ReLU())
    for name, options in (
        ("lr", {"lr": -1.0}),
        ("momentum", {"momentum": 1.5}),
        ("nesterov", {"momentum": 0.0}),
    ):
        with pytest.raises(NasError, match=f"^{name}"):
            OPTIMISERS["sgd"].options(**options)
    with pytest.raises(NasError, match=r"^peak must be between 0 and 0\.9, got 1"):
        SCHEDULES["triangle"].options(peak=1)


def test_the_learning_rate_is_that_of_the_options_at_every_progress() -> None:
    plan = Plan(epochs=1, batch=1, optimiser_options={"lr": 0.4}, schedule="constant")
    assert plan.learning_rate(3, 10) == 0.4
    assert math.isclose(Plan(epochs=1, batch=1).learning_rate(5, 10), 0.05)
