"""The training itself: epochs of steps, a look at the validation images, the test images once.

An epoch depends on the state after the one before, on the seed and on its number, and on nothing
else: order and augmentation of its images and whatever the network draws (dropout) come from
generators that are named by the epoch (:mod:`nas.seeds`). So a checkpoint needs no state of a
generator, and a training that was killed goes on to the very same numbers on the same device.

Letters: N images, K classes.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nas.seeds import seeded_torch
from nas.training import checkpoint
from nas.training.augment import Augment
from nas.training.images import ImageData, Labelled, Parts
from nas.training.loader import Loader
from nas.training.plan import Plan
from nas.training.world import World
from spaces.errors import NasError

SECONDS_BETWEEN_STEPS = 0.5  # that are told of


@dataclass(frozen=True)
class Epoch:
    """One epoch, as the curves show it.

    Attributes:
        number: From 1.
        learning_rate: Of its last step.
        train_loss: Mean over its steps, label smoothing included.
        train_accuracy: Per cent, on augmented images while the weights change.
        validation_loss: Cross-entropy; None where there was no look.
        validation_accuracy: Per cent.
        seconds: It took, looks included.
    """

    number: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    seconds: float


@dataclass(frozen=True)
class Step:
    """How far a training is.

    Attributes:
        epoch: The one it is in, from 1.
        epochs: Of the whole.
        step: Done in this epoch.
        steps: Of an epoch.
        loss: Of this step.
        done: The epoch, where this was its last step.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    done: Epoch | None = None


@dataclass(frozen=True)
class Measured:
    """What a network does on images that it is not trained on.

    Attributes:
        loss: Cross-entropy.
        accuracy: Per cent.
        confusion: Images of each class (rows) by what they are taken for (columns), ``(K, K)``.
    """

    loss: float
    accuracy: float
    confusion: list[list[int]]


@dataclass(frozen=True)
class Trained:
    """A training that is over.

    Attributes:
        epochs: Each of them.
        validation: At the end; None where there are no validation images.
        test: At the end, the only time that test images were looked at.
        seconds: Spent in epochs, over all processes that worked on it one after another.
        weights: The network's state, averaged where the plan says so, on the CPU.
    """

    epochs: list[Epoch]
    validation: Measured | None
    test: Measured
    seconds: float
    weights: dict[str, Tensor] = field(repr=False)


Tell = Callable[[Step], None]


def train_network(
    network: nn.Module,
    data: ImageData,
    parts: Parts,
    plan: Plan,
    augment: Augment,
    *,
    seed: int,
    key: str = "",
    folder: Path | None = None,
    world: World | None = None,
    tell: Tell | None = None,
) -> Trained:
    """Train a network and measure it.

    Args:
        network: Freshly initialised; images ``(N, C, H, W)`` in, logits ``(N, K)`` out. It holds
            the trained weights afterwards.
        data: What the images are of.
        parts: Which of them train, validate and test.
        plan: How.
        augment: What is done to training images; all are normalised as it says.
        seed: Of order, augmentation and dropout.
        key: What the training is of, so that no other one goes on from its checkpoint.
        folder: Where the checkpoint is kept; None keeps none.
        world: The processes that take part.
        tell: Hears of steps and epochs.

    Raises:
        NasError: The loss or the weights are no numbers any more, the checkpoint is of another
            training, or it cannot be written. The last good checkpoint is kept.
    """
    job = _Job(network, data, plan, augment, seed=seed, world=world or World())
    path = None if folder is None else folder / checkpoint.NAME
    if path is not None:
        job.restore(checkpoint.load(path, key, job.device))
    train = job.loader(parts.train, training=True)
    while len(job.epochs) < plan.epochs:
        try:
            job.run_epoch(train, parts.validation, tell)
        except Diverged as error:
            kept = "there is no checkpoint" if path is None or not job.epochs else f"{path} is"
            kept += f" of epoch {len(job.epochs)}, before it" if kept.endswith("is") else ""
            raise Diverged(f"{error}; {kept}") from None
        if path is not None and job.world.leads:
            checkpoint.save(path, {"key": key, **job.state()})
        job.world.wait()
    validation = None if parts.validation is None else job.measure(parts.validation)
    return Trained(
        epochs=job.epochs,
        validation=validation,
        test=job.measure(parts.test),
        seconds=math.fsum(epoch.seconds for epoch in job.epochs),
        weights={k: v.detach().cpu() for k, v in job.judged.state_dict().items()},
    )


class Diverged(NasError):
    """The loss or the weights of a training are no numbers any more."""


class _Job:
    """One training between two epochs."""

    def __init__(
        self,
        network: nn.Module,
        data: ImageData,
        plan: Plan,
        augment: Augment,
        *,
        seed: int,
        world: World,
    ) -> None:
        self.plan, self.world = plan, world
        self.device = world.device(plan.device)
        self.epochs: list[Epoch] = []
        # MPS has no float64.
        self._exact = torch.float32 if self.device.startswith("mps") else torch.float64
        self._data, self._augment, self._seed = data, augment, seed
        layout = torch.channels_last if plan.channels_last else torch.contiguous_format
        self._network = network.to(self.device, memory_format=layout)  # type: ignore[call-overload]
        self._average: AveragedModel | None = None
        if plan.average:
            rule = get_ema_multi_avg_fn(plan.average)
            self._average = AveragedModel(self._network, multi_avg_fn=rule, use_buffers=True)
        self._optimiser = plan.make_optimiser(self._network)
        forward = world.wrapped(self._network, self.device)
        self._forward: Callable[[Tensor], Tensor] = forward
        if plan.compile:
            self._forward = torch.compile(forward)

    @property
    def judged(self) -> nn.Module:
        """The network that is measured: the average, where there is one."""
        return self._network if self._average is None else self._average.module

    def loader(self, images: Labelled, *, training: bool) -> Loader:
        """Return batches of images on the device of this process."""
        world, augment = self.world, self._augment
        try:
            return Loader(
                images,
                self.plan.batch,
                augment if training else replace(augment, crop=0, flip=False, cutout=0),
                seed=self._seed,
                device=self.device,
                shuffle=training,
                shard=(world.rank, world.size),
            )
        except ValueError as error:
            raise NasError(str(error)) from None

    def run_epoch(self, train: Loader, validation: Labelled | None, tell: Tell | None) -> None:
        """Train for one more epoch."""
        began = time.perf_counter()
        number, steps = len(self.epochs), len(train)
        sums = torch.zeros(3, dtype=self._exact, device=self.device)  # loss, right, images
        rate, told = 0.0, began
        self._network.train()
        with seeded_torch(self._seed, "training", number, self.world.rank, device=self.device):
            for step, (images, labels) in enumerate(train.epoch(number)):
                rate = self.plan.learning_rate(number * steps + step, self.plan.epochs * steps)
                loss = self._step(images, labels, rate, sums)
                if tell is not None and time.perf_counter() - told >= SECONDS_BETWEEN_STEPS:
                    told = time.perf_counter()
                    value = self._finite(float(loss), number)
                    tell(Step(number + 1, self.plan.epochs, step + 1, steps, value))
        total, right, count = self.world.total(sums).tolist()
        mean = self._finite(total / count, number)
        if not all(bool(torch.isfinite(x).all()) for x in self.judged.parameters()):
            raise Diverged(f"epoch {number + 1}: weights are not finite any more")
        looked: Measured | None = None
        if validation is not None and self._looks(number):
            looked = self.measure(validation)
        done = Epoch(
            number=number + 1,
            learning_rate=rate,
            train_loss=mean,
            train_accuracy=100 * right / count,
            validation_loss=None if looked is None else looked.loss,
            validation_accuracy=None if looked is None else looked.accuracy,
            seconds=time.perf_counter() - began,
        )
        self.epochs.append(done)
        if tell is not None:
            tell(Step(number + 1, self.plan.epochs, steps, steps, mean, done))

    def _looks(self, number: int) -> bool:
        last = number + 1 == self.plan.epochs
        return last or (number + 1) % self.plan.evaluate_every == 0

    def _step(self, images: Tensor, labels: Tensor, rate: float, sums: Tensor) -> Tensor:
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        with self._cast():
            logits = self._of_classes(self._forward(images))
        loss = nn.functional.cross_entropy(
            logits, labels, label_smoothing=self.plan.label_smoothing
        )
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if self.plan.clip is not None:
            nn.utils.clip_grad_norm_(self._network.parameters(), self.plan.clip)
        self._optimiser.step()
        if self._average is not None:
            self._average.update_parameters(self._network)
        with torch.no_grad():
            right = (logits.argmax(1) == labels).sum()
            count = right.new_tensor(len(labels))
            sums += torch.stack([loss.detach() * count, right, count])
        return loss.detach()

    def _of_classes(self, logits: Tensor) -> Tensor:
        """Return logits in float32, for bfloat16 has three digits, too few for a loss."""
        classes = len(self._data.classes)
        if logits.dim() != 2 or logits.shape[1] != classes:
            raise NasError(
                f"{self._data.name} has {classes} classes, the network's output has the shape "
                f"{tuple(logits.shape)} instead of (images, {classes})"
            )
        return logits.float()

    def _cast(self) -> contextlib.AbstractContextManager[Any]:
        if self.plan.precision == "float32":
            return contextlib.nullcontext()
        kind = torch.device(self.device).type
        return torch.autocast(kind, dtype=getattr(torch, self.plan.precision))

    def _finite(self, loss: float, number: int) -> float:
        if not math.isfinite(loss):
            raise Diverged(
                f"epoch {number + 1}: the loss is {loss}; a lower optimiser.lr, a warm-up or clip "
                "may help"
            )
        return loss

    @torch.no_grad()
    def measure(self, images: Labelled) -> Measured:
        """Measure the network on some images."""
        network = self.judged
        before = network.training
        network.eval()
        classes = len(self._data.classes)
        confusion = torch.zeros(classes * classes, dtype=torch.int64, device=self.device)
        total = torch.zeros((), dtype=self._exact, device=self.device)
        for batch, labels in self.loader(images, training=False).epoch(0):
            with self._cast():
                logits = self._of_classes(network(batch))
            total += nn.functional.cross_entropy(logits, labels, reduction="sum")
            places = labels * classes + logits.argmax(1)
            confusion += torch.bincount(places, minlength=classes * classes)
        network.train(before)
        confusion = self.world.total(confusion).reshape(classes, classes)
        count = int(confusion.sum())
        return Measured(
            loss=float(self.world.total(total)) / count,
            accuracy=100 * int(confusion.diagonal().sum()) / count,
            confusion=confusion.tolist(),
        )

    def state(self) -> dict[str, Any]:
        """Return what a later process goes on from."""
        return {
            "network": self._network.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "epochs": [asdict(epoch) for epoch in self.epochs],
        }

    def restore(self, state: dict[str, Any] | None) -> None:
        """Go on from what an earlier process left."""
        if state is None:
            return
        self._network.load_state_dict(state["network"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.epochs = [Epoch(**epoch) for epoch in state["epochs"]]
