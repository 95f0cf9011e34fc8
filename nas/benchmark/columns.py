"""What a column of accuracies measures: data set, split, epochs and seeds, read from its name.

The names are those of the tables that :func:`nas.benchmark.nats.import_archive` writes:

    c10_test_200          CIFAR-10, trained on training + validation images, test accuracy,
                          200 epochs
    c10_val_200           CIFAR-10, trained on the training half, accuracy on the validation half
    c10valid_val_90       the same kind, in the spelling of the size-space table
    c10valid_test_200     trained on the training half, test accuracy
    c100_test_200, in16_val_12 ...   CIFAR-100, ImageNet16-120; their validation images were
                          never trained on
    ..._seed777           of the training with seed 777 alone; without it, the mean over all seeds
    ..._v1                of an older release of the benchmark
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from spaces.errors import NasError, did_you_mean

Dataset: TypeAlias = Literal["cifar10", "cifar10-valid", "cifar100", "ImageNet16-120"]
Split: TypeAlias = Literal["validation", "test"]

#: ``cifar10`` is trained on training + validation images, ``cifar10-valid`` on the training half.
DATASETS: tuple[Dataset, ...] = get_args(Dataset)

_SHORT: dict[str, Dataset] = {
    "c10": "cifar10",
    "c10valid": "cifar10-valid",
    "c100": "cifar100",
    "in16": "ImageNet16-120",
}
_NAME = re.compile(
    r"(?P<dataset>c10|c10valid|c100|in16)_(?P<split>val|test)_(?P<epochs>[1-9][0-9]{0,3})"
    r"(?:_seed(?P<seed>[0-9]{1,9}))?(?:_(?P<release>v[0-9]+))?",
    re.ASCII,
)


class NotMeasured(NasError, LookupError):
    """The benchmark holds no such accuracy."""


@dataclass(frozen=True)
class Measure:
    """One kind of accuracy.

    Attributes:
        dataset: What the network was trained for, and on which images; see :data:`DATASETS`.
        split: Which images the accuracy was measured on.
        epochs: Length of the whole training, which its learning-rate schedule was made for.
        seed: The one training, or None for the mean over all seeds that the benchmark has.
        release: An older release of the benchmark ("v1"), or None for the current one.
    """

    dataset: Dataset
    split: Split
    epochs: int
    seed: int | None = None
    release: str | None = None

    def __str__(self) -> str:
        seeds = "mean over seeds" if self.seed is None else f"seed {self.seed}"
        release = f", release {self.release}" if self.release else ""
        return f"{self.dataset} {self.split} accuracy, {self.epochs} epochs, {seeds}{release}"


def parse_column(name: str) -> Measure | None:
    """Return what a column measures, or None when its name is not one of an accuracy."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    dataset = _SHORT[match["dataset"]]
    split: Split = "test" if match["split"] == "test" else "validation"
    if dataset == "cifar10" and split == "validation":
        # a network that saw the validation images has no validation accuracy
        dataset = "cifar10-valid"
    seed = None if match["seed"] is None else int(match["seed"])
    return Measure(dataset, split, int(match["epochs"]), seed, match["release"])


def check_dataset(dataset: str, split: Split) -> Dataset:
    """Return ``dataset`` where it names one of the benchmark's trainings that has this split.

    Raises:
        NotMeasured: No such data set, or one without validation images.
    """
    if dataset not in DATASETS:
        known = ", ".join(DATASETS)
        raise NotMeasured(
            f"no data set named {dataset!r}.{did_you_mean(dataset, list(DATASETS))} Known: {known}"
        )
    if dataset == "cifar10" and split == "validation":
        raise NotMeasured(
            "'cifar10' was trained on training and validation images and has no validation "
            "accuracy; use 'cifar10-valid', which was trained on the training half"
        )
    return dataset
