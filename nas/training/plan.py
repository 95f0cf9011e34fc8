"""How a network is trained: the optimiser, its learning rate over time, and what else is set.

A schedule is a function of progress t, the share of all steps that are done, 0 <= t < 1, and gives
the factor of the learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from spaces.errors import NasError

Precision = Literal["float32", "bfloat16"]
Decay = Literal["all", "weights"]


@dataclass(frozen=True)
class SgdOptions:
    """Settings of SGD with momentum.

    Attributes:
        lr: Highest learning rate.
        momentum: Of the gradient.
        nesterov: Whether to look ahead.
        weight_decay: L2 penalty, added to the gradient.
        decay: ``all`` parameters, as benchmarks do, or only ``weights`` of convolutions and linear
            layers.
    """

    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    decay: Decay = "all"

    def __post_init__(self) -> None:
        _within("lr", self.lr, 0, 1000)
        _within("momentum", self.momentum, 0, 1)
        _within("weight_decay", self.weight_decay, 0, 1)
        if self.nesterov and self.momentum == 0:
            raise NasError("nesterov: needs a momentum above 0")


@dataclass(frozen=True)
class AdamwOptions:
    """Settings of AdamW (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101).

    Attributes:
        lr: Highest learning rate.
        beta1: Decay of the mean gradient.
        beta2: Decay of the mean square.
        weight_decay: Decoupled from the gradient.
        decay: As of SGD.
    """

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 0.05
    decay: Decay = "weights"

    def __post_init__(self) -> None:
        _within("lr", self.lr, 0, 1000)
        _within("beta1", self.beta1, 0, 1)
        _within("beta2", self.beta2, 0, 1)
        _within("weight_decay", self.weight_decay, 0, 10)


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise NasError(f"{name} must be between {low} and {high}, got {value}")


@dataclass(frozen=True)
class OptimiserInfo:
    """An entry of the table of optimisers.

    Attributes:
        name: Under which it is chosen.
        summary: One line.
        options: Dataclass of its settings.
        make: From groups of parameters and the settings to the optimiser.
    """

    name: str
    summary: str
    options: type
    make: Callable[[list[dict[str, Any]], Any, bool], torch.optim.Optimizer]


def _sgd(groups: list[dict[str, Any]], options: SgdOptions, fused: bool) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        groups,
        lr=options.lr,
        momentum=options.momentum,
        nesterov=options.nesterov,
        fused=fused,
    )


def _adamw(
    groups: list[dict[str, Any]], options: AdamwOptions, fused: bool
) -> torch.optim.Optimizer:
    betas = (options.beta1, options.beta2)
    return torch.optim.AdamW(groups, lr=options.lr, betas=betas, fused=fused)


OPTIMISERS: dict[str, OptimiserInfo] = {
    info.name: info
    for info in (
        OptimiserInfo("sgd", "SGD with momentum", SgdOptions, _sgd),
        OptimiserInfo("adamw", "Adam with decoupled weight decay", AdamwOptions, _adamw),
    )
}


@dataclass(frozen=True)
class CosineOptions:
    """Half a cosine from 1 down to ``floor``, after a straight rise.

    Attributes:
        warmup: Share of all steps in which the factor rises from 0 to 1.
        floor: Factor at the end.
    """

    warmup: float = 0.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        _within("warmup", self.warmup, 0, 0.9)
        _within("floor", self.floor, 0, 1)


@dataclass(frozen=True)
class TriangleOptions:
    """A straight rise from ``start`` to 1, and a straight fall to ``floor``.

    Attributes:
        peak: Share of all steps at which the factor is 1.
        start: Factor at the beginning.
        floor: Factor at the end.
    """

    peak: float = 0.2
    start: float = 0.2
    floor: float = 0.0

    def __post_init__(self) -> None:
        _within("peak", self.peak, 0, 0.9)
        _within("start", self.start, 0, 1)
        _within("floor", self.floor, 0, 1)


@dataclass(frozen=True)
class ConstantOptions:
    """No settings."""


@dataclass(frozen=True)
class ScheduleInfo:
    """An entry of the table of schedules.

    Attributes:
        name: Under which it is chosen.
        summary: One line.
        options: Dataclass of its settings.
        factor: From progress t and the settings to the factor of the learning rate.
    """

    name: str
    summary: str
    options: type
    factor: Callable[[float, Any], float]


def _cosine(t: float, options: CosineOptions) -> float:
    if t < options.warmup:
        return t / options.warmup
    rest = (t - options.warmup) / (1 - options.warmup)
    return options.floor + (1 - options.floor) * (1 + math.cos(math.pi * rest)) / 2


def _triangle(t: float, options: TriangleOptions) -> float:
    if t < options.peak:
        return options.start + (1 - options.start) * t / options.peak
    return 1 - (1 - options.floor) * (t - options.peak) / (1 - options.peak)


def _constant(t: float, options: ConstantOptions) -> float:
    return 1.0


SCHEDULES: dict[str, ScheduleInfo] = {
    info.name: info
    for info in (
        ScheduleInfo("cosine", "half a cosine down to the floor", CosineOptions, _cosine),
        ScheduleInfo("triangle", "straight up, straight down", TriangleOptions, _triangle),
        ScheduleInfo("constant", "the same throughout", ConstantOptions, _constant),
    )
}


@dataclass(frozen=True)
class Plan:
    """Everything besides the network, the data and the seed that a training depends on.

    Attributes:
        epochs: Passes over the training images.
        batch: Images of one step, over all devices together.
        optimiser: Name in :data:`OPTIMISERS`.
        optimiser_options: Its settings.
        schedule: Name in :data:`SCHEDULES`.
        schedule_options: Its settings.
        label_smoothing: Share of the target that goes to all classes alike.
        average: Decay per step of the moving average of weights that is evaluated; 0 is none.
        clip: Largest norm of the gradient; None is no limit.
        precision: In which layers compute; weights are float32 throughout.
        channels_last: Memory order of images and weights.
        compile: Whether ``torch.compile`` makes kernels for the network.
        evaluate_every: Epochs between two looks at the validation images.
        device: Where.
    """

    epochs: int
    batch: int
    optimiser: str = "sgd"
    optimiser_options: Mapping[str, Any] = field(default_factory=dict)
    schedule: str = "cosine"
    schedule_options: Mapping[str, Any] = field(default_factory=dict)
    label_smoothing: float = 0.0
    average: float = 0.0
    clip: float | None = None
    precision: Precision = "float32"
    channels_last: bool = False
    compile: bool = False
    evaluate_every: int = 1
    device: str = "cpu"

    def make_optimiser(self, network: nn.Module) -> torch.optim.Optimizer:
        """Return the optimiser of a network's parameters."""
        info = OPTIMISERS[self.optimiser]
        options = info.options(**self.optimiser_options)
        parameters = [x for x in network.parameters() if x.requires_grad]
        if not parameters:
            raise NasError("the network has no weights to train")
        decayed = [x for x in parameters if options.decay == "all" or x.dim() > 1]
        others = [x for x in parameters if options.decay != "all" and x.dim() <= 1]
        groups = [{"params": decayed, "weight_decay": options.weight_decay}]
        if others:
            groups.append({"params": others, "weight_decay": 0.0})
        fused = torch.device(self.device).type in ("cpu", "cuda")
        return info.make([group for group in groups if group["params"]], options, fused)

    def learning_rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step.

        Args:
            step: How many are done.
            steps: Of the whole training.
        """
        info = SCHEDULES[self.schedule]
        options = info.options(**self.schedule_options)
        lr: float = OPTIMISERS[self.optimiser].options(**self.optimiser_options).lr
        return lr * info.factor(step / steps, options)
