"""The training loop: against a plain one written out here, interrupted, averaged, diverging."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nas.seeds import torch_generator
from nas.training import checkpoint
from nas.training.augment import Augment
from nas.training.images import ImageData, Labelled, Parts
from nas.training.loader import Loader
from nas.training.loop import Diverged, Step, Trained, train_network
from nas.training.plan import Plan
from spaces.errors import NasError

CLASSES = 3
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def images(count: int, seed: int) -> Labelled:
    """Squares whose brightest channel is their class, with noise."""
    rng = torch_generator(seed, "test images")
    labels = torch.randint(CLASSES, (count,), generator=rng)
    pixels = torch.randint(0, 120, (count, 3, 6, 6), generator=rng)
    pixels[torch.arange(count), labels] += 100
    return Labelled(pixels.to(torch.uint8), labels)


def data() -> ImageData:
    names = tuple("abc")
    return ImageData("squares", images(50, 0), images(30, 1), names, MEAN, STD, {}, "none")


PARTS = Parts(images(50, 0), images(20, 2), images(30, 1))


def network(dropout: float = 0.0) -> nn.Module:
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(5)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Dropout(dropout), nn.Linear(8, CLASSES),
        )  # fmt: skip


PLAN = Plan(epochs=4, batch=16, optimiser_options={"lr": 0.2})


def train(
    made: nn.Module, plan: Plan = PLAN, folder: Path | None = None, **settings: object
) -> Trained:
    return train_network(
        made,
        data(),
        PARTS,
        plan,
        Augment(MEAN, STD, crop=1, flip=True),
        seed=3,
        folder=folder,
        **settings,  # type: ignore[arg-type]
    )


def same(first: Trained, second: Trained) -> None:
    """All numbers and weights are equal to the last bit; times are not compared."""
    for a, b in zip(first.epochs, second.epochs, strict=True):
        assert (a.train_loss, a.validation_accuracy) == (b.train_loss, b.validation_accuracy)
    assert first.test == second.test
    assert first.validation == second.validation
    for name, weight in first.weights.items():
        assert torch.equal(weight, second.weights[name]), name


def test_it_is_what_a_plain_loop_does() -> None:
    plan = Plan(epochs=2, batch=16, optimiser_options={"lr": 0.2}, label_smoothing=0.1, clip=1.0)
    trained = train(network(), plan)

    made = network()
    loader = Loader(PARTS.train, 16, Augment(MEAN, STD, crop=1, flip=True), seed=3)
    sgd = torch.optim.SGD(made.parameters(), 0.2, momentum=0.9, nesterov=True, weight_decay=5e-4)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, 2 * len(loader))
    losses: list[list[float]] = []
    for epoch in range(2):
        losses.append([])
        for batch, labels in loader.epoch(epoch):
            loss = nn.functional.cross_entropy(made(batch), labels, label_smoothing=0.1)
            sgd.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(made.parameters(), 1.0)
            sgd.step()
            cosine.step()
            losses[-1] += [float(loss.detach())] * len(labels)
    for name, weight in made.state_dict().items():
        torch.testing.assert_close(trained.weights[name], weight, rtol=1e-5, atol=1e-6)
    means = [sum(some) / len(some) for some in losses]
    assert [epoch.train_loss for epoch in trained.epochs] == pytest.approx(means, rel=1e-5)

    made.eval()
    pixels = PARTS.test.images.float() / 255
    inputs = (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    taken = made(inputs).argmax(1)
    right = int((taken == PARTS.test.labels).sum())
    assert trained.test.accuracy == pytest.approx(100 * right / 30)
    assert sum(map(sum, trained.test.confusion)) == 30
    truths = torch.bincount(PARTS.test.labels, minlength=CLASSES).tolist()
    assert [sum(row) for row in trained.test.confusion] == truths


def test_it_learns() -> None:
    trained = train(network(), Plan(epochs=12, batch=16, optimiser_options={"lr": 0.2}))
    assert trained.test.accuracy > 90
    assert trained.epochs[-1].train_loss < trained.epochs[0].train_loss


class Stop(Exception):
    """What a test interrupts a training by."""


def stop_after(epoch: int) -> object:
    def tell(step: Step) -> None:
        if step.done is not None and step.epoch == epoch + 1:
            raise Stop  # the epoch is over, but its checkpoint is not written yet

    return tell


@pytest.mark.parametrize("average", [0.0, 0.9])
@pytest.mark.parametrize("stops", [[0], [1], [1, 2], [3]])
def test_interrupted_it_ends_as_it_would_have(
    tmp_path: Path, stops: list[int], average: float
) -> None:
    plan = Plan(epochs=4, batch=16, optimiser_options={"lr": 0.2}, average=average)
    whole = train(network(0.3), plan)
    for stop in stops:
        with pytest.raises(Stop):
            train(network(0.3), plan, tmp_path, tell=stop_after(stop))
    same(train(network(0.3), plan, tmp_path), whole)


def test_the_global_generators_are_left_alone_and_do_not_matter() -> None:
    first = train(network(0.5))
    before = torch.get_rng_state()
    torch.rand(7)
    same(train(network(0.5)), first)
    torch.set_rng_state(before)
    train(network(0.5))
    assert torch.equal(torch.get_rng_state(), before)


def test_what_diverges_says_so_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    made = network()
    train(made, Plan(epochs=1, batch=16, optimiser_options={"lr": 0.2}), tmp_path)
    before = (tmp_path / checkpoint.NAME).read_bytes()

    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, batch: Tensor) -> Tensor:
            out: Tensor = self.inner(batch) / 0.0
            return out

    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(Diverged, match=r"^epoch 1: the loss is (nan|inf); a lower optimiser\.lr"):
        train(Broken(), PLAN, other)
    assert (tmp_path / checkpoint.NAME).read_bytes() == before
    assert not (other / checkpoint.NAME).exists()


def test_divergence_after_a_good_epoch_names_the_checkpoint(tmp_path: Path) -> None:
    class Later(nn.Module):
        """Fine for a whole epoch of 4 steps and its looks, then infinite."""

        def __init__(self) -> None:
            super().__init__()
            self.inner, self.steps = network(), 0

        def forward(self, batch: Tensor) -> Tensor:
            self.steps += self.training
            out: Tensor = self.inner(batch)
            return out if self.steps <= 4 else out * torch.inf

    with pytest.raises(Diverged, match=r"^epoch 2: .*checkpoint\.pt is of epoch 1, before it"):
        train(Later(), PLAN, tmp_path)
    state = checkpoint.load(tmp_path / checkpoint.NAME, "", "cpu")
    assert state is not None
    assert [epoch["number"] for epoch in state["epochs"]] == [1]


def test_the_average_is_of_the_weights_after_every_step() -> None:
    decay = 0.5
    plan = Plan(epochs=1, batch=50, optimiser_options={"lr": 0.2}, average=decay)
    made = network()
    trained = train(made, plan)  # one step: torch's average begins with the first weights it sees
    after = made.state_dict()
    for name in ("0.weight", "6.bias"):
        torch.testing.assert_close(trained.weights[name], after[name])
    made = network()
    trained = train(made, Plan(epochs=2, batch=50, optimiser_options={"lr": 0.2}, average=decay))
    weight = made.state_dict()["0.weight"]
    assert not torch.equal(trained.weights["0.weight"], weight)


def test_outputs_that_are_not_the_classes_are_refused() -> None:
    made = nn.Sequential(nn.Flatten(), nn.Linear(108, 1000))
    with pytest.raises(NasError, match=r"squares has 3 classes, .* \(16, 1000\) instead of"):
        train(made)


def test_there_need_be_no_validation_images() -> None:
    parts = Parts(PARTS.train, None, PARTS.test)
    trained = train_network(network(), data(), parts, PLAN, Augment(MEAN, STD), seed=0)
    assert trained.validation is None
    assert all(epoch.validation_accuracy is None for epoch in trained.epochs)


def test_looks_at_validation_images_are_as_rare_as_asked() -> None:
    plan = Plan(epochs=5, batch=16, optimiser_options={"lr": 0.2}, evaluate_every=2)
    looks = [epoch.validation_accuracy is not None for epoch in train(network(), plan).epochs]
    assert looks == [False, True, False, True, True]


@pytest.mark.parametrize(
    "plan",
    [
        Plan(epochs=3, batch=16, precision="bfloat16", optimiser_options={"lr": 0.2}),
        Plan(epochs=3, batch=16, channels_last=True, optimiser_options={"lr": 0.2}),
        Plan(epochs=3, batch=16, optimiser="adamw", optimiser_options={"lr": 0.02}),
    ],
)
def test_other_ways_come_to_about_the_same(plan: Plan) -> None:
    assert train(network(), plan).epochs[-1].train_accuracy > 60
