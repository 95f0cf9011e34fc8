"""Labelled images: what every reader of a data set makes, and what a training takes.

Letters: N images, C channels, H W size, K classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spaces.errors import NasError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]

CHANNELS = 3  # what the networks of every space take
ROOT = "data"  # where downloads go and archives are looked for, unless told otherwise

#: The most that images which are decoded one by one may take, as uint8.
MOST_BYTES = 16 * 2**30

#: Roles of an image in a :class:`Split`.
TRAIN, VALIDATION, TEST, UNUSED = 0, 1, 2, 3


class DataError(NasError, ValueError):
    """Images that are not there, or are not what they should be; the text names the file."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images with their classes.

    Attributes:
        images: uint8 ``(N, 3, H, W)``, on any device.
        labels: int64 ``(N,)``, from 0 to K - 1.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        import torch  # late, as everywhere in this file: the table is shown without it

        if self.images.dtype != torch.uint8 or self.images.dim() != 4:
            raise DataError(
                f"images: expected uint8 of shape (N, C, H, W), got {self.images.dtype} of shape "
                f"{tuple(self.images.shape)}"
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise DataError(
                f"labels: expected int64 of shape ({len(self.images)},), got {self.labels.dtype} "
                f"of shape {tuple(self.labels.shape)}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, places: Tensor | Ints) -> Labelled:
        """Return the images at some places, in that order."""
        import torch

        at = torch.as_tensor(places, dtype=torch.int64, device=self.labels.device)
        return Labelled(self.images[at], self.labels[at])

    def to(self, device: str | torch.device) -> Labelled:
        """Return the same on a device."""
        return Labelled(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class Split:
    """Which part every image of a data set belongs to.

    Attributes:
        train: Role of every image of ``ImageData.train``, uint8 ``(N,)``: :data:`TRAIN`,
            :data:`VALIDATION` or :data:`UNUSED`.
        test: Role of every image of ``ImageData.test``: :data:`VALIDATION`, :data:`TEST` or
            :data:`UNUSED`; never :data:`TRAIN`.
    """

    train: Bytes
    test: Bytes

    def __post_init__(self) -> None:
        for name, roles, never in (("train", self.train, TEST), ("test", self.test, TRAIN)):
            if (roles == never).any() or (roles > UNUSED).any():
                raise DataError(f"split: an image of the {name} part has a role it cannot have")
        if not (self.train == TRAIN).any() or not (self.test == TEST).any():
            raise DataError("split: it leaves no image to train on, or none to test on")


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set, read.

    Attributes:
        name: Of its source.
        train: The official training images; what may be trained on or chosen by.
        test: The official test images.
        classes: Names of the K classes.
        mean: Mean of every channel of the training images scaled to 0..1.
        std: Standard deviation of the same, over all pixels.
        splits: Published splits, by name.
        fingerprint: sha256 of images, labels and classes.
    """

    name: str
    train: Labelled
    test: Labelled
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    splits: Mapping[str, Split]
    fingerprint: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C, H, W)`` of an image."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width


@dataclass(frozen=True, eq=False)
class Parts:
    """A data set, split.

    Attributes:
        train: What the weights are fitted to.
        validation: What epochs, settings and architectures are chosen by; None where all of the
            training images are trained on.
        test: For one number at the end.
    """

    train: Labelled
    validation: Labelled | None
    test: Labelled


@dataclass(frozen=True, eq=False)
class Raw:
    """Images as a source reads them.

    Attributes:
        images: uint8 ``(N, 3, H, W)``.
        labels: int64 ``(N,)``.
    """

    images: Bytes
    labels: Ints

    def first_of_each(self, limit: int | None) -> NDArray[np.bool_]:
        """Return which images are among the first ``limit`` of their class, ``(N,)``."""
        kept = np.ones(len(self.labels), dtype=np.bool_)
        if limit is not None:
            for label in np.unique(self.labels):
                kept[np.flatnonzero(self.labels == label)[limit:]] = False
        return kept

    def only(self, kept: NDArray[np.bool_]) -> Raw:
        """Return the images where ``kept`` is true."""
        return self if kept.all() else Raw(self.images[kept], self.labels[kept])

    def labelled(self) -> Labelled:
        """Return the same as tensors."""
        import torch

        return Labelled(
            torch.from_numpy(np.ascontiguousarray(self.images)),
            torch.from_numpy(np.ascontiguousarray(self.labels, dtype=np.int64)),
        )


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of every channel, of images scaled to 0..1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, images: Bytes) -> Statistics:
        """Return those of images ``(N, C, H, W)``, exactly: by counting the 256 values."""
        values = np.arange(256) / 255.0
        mean, std = [], []
        for channel in range(images.shape[1]):
            plane = np.ascontiguousarray(images[:, channel]).ravel()
            share = np.bincount(plane, minlength=256) / plane.size
            center = float(share @ values)
            mean.append(center)
            std.append(float(np.sqrt(share @ (values - center) ** 2)))
        return cls(tuple(mean), tuple(std))


@dataclass(frozen=True, eq=False)
class Found:
    """What a source has read, before it is checked and cut down.

    Attributes:
        name: Of the source.
        where: File or folder, for messages.
        train: Training images.
        test: Test images.
        classes: Names of the classes; None for ``"0"``, ``"1"``, ...
        statistics: Published ones; None to compute them from the training images.
        splits: Published splits of all the images.
    """

    name: str
    where: str
    train: Raw
    test: Raw
    classes: tuple[str, ...] | None = None
    statistics: Statistics | None = None
    splits: Mapping[str, Split] = field(default_factory=dict)


def image_data(found: Found, limit: int | None = None) -> ImageData:
    """Return a checked data set.

    Args:
        found: What was read.
        limit: At most so many images of a class, the first ones, in each of train and test.

    Raises:
        DataError: A part is empty, shapes differ, labels and classes do not fit together, or a
            channel is the same everywhere, which cannot be normalised.
    """
    for part, raw in (("train", found.train), ("test", found.test)):
        _check(found, part, raw)
    if found.train.images.shape[1:] != found.test.images.shape[1:]:
        raise DataError(
            f"{found.where}: training images are {found.train.images.shape[1:]}, test images "
            f"{found.test.images.shape[1:]}; they must be of one shape"
        )
    classes = found.classes or _numbers(found)
    statistics = found.statistics or Statistics.of(found.train.images)
    if min(statistics.std) <= 0:
        raise DataError(f"{found.where}: a channel of the training images is the same everywhere")
    kept_train, kept_test = found.train.first_of_each(limit), found.test.first_of_each(limit)
    train, test = found.train.only(kept_train), found.test.only(kept_test)
    splits = cut(found.splits, kept_train, kept_test)
    return ImageData(
        name=found.name,
        train=train.labelled(),
        test=test.labelled(),
        classes=classes,
        mean=statistics.mean,
        std=statistics.std,
        splits=MappingProxyType(splits),
        fingerprint=_fingerprint(train, test, classes),
    )


def cut(
    splits: Mapping[str, Split], train: NDArray[np.bool_], test: NDArray[np.bool_]
) -> dict[str, Split]:
    """Return splits of the images that are kept, ``(N,)`` of each part."""
    return {
        name: replace(one, train=one.train[train], test=one.test[test])
        for name, one in splits.items()
    }


def _numbers(found: Found) -> tuple[str, ...]:
    most = max(int(found.train.labels.max()), int(found.test.labels.max()))
    return tuple(map(str, range(most + 1)))


def _check(found: Found, part: str, raw: Raw) -> None:
    images, labels = raw.images, raw.labels
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != CHANNELS:
        raise DataError(
            f"{found.where}: {part}: expected uint8 images of shape (N, {CHANNELS}, H, W), got "
            f"{images.dtype} of shape {images.shape}"
        )
    if labels.ndim != 1 or len(labels) != len(images) or labels.dtype.kind not in "iu":
        raise DataError(
            f"{found.where}: {part}: expected {len(images)} whole numbers as labels, got "
            f"{labels.dtype} of shape {labels.shape}"
        )
    if not len(images):
        raise DataError(f"{found.where}: {part}: it holds no image")
    top = len(found.classes) - 1 if found.classes else 99_999
    if int(labels.min()) < 0 or int(labels.max()) > top:
        raise DataError(
            f"{found.where}: {part}: labels must be 0 to {top}, got {int(labels.min())} to "
            f"{int(labels.max())}"
        )


def _fingerprint(train: Raw, test: Raw, classes: tuple[str, ...]) -> str:
    digest = hashlib.sha256(repr(classes).encode())
    for raw in (train, test):
        digest.update(repr(raw.images.shape).encode())
        digest.update(np.ascontiguousarray(raw.images).data)
        digest.update(np.ascontiguousarray(raw.labels, dtype="<i8").data)
    return digest.hexdigest()


def three_channels(images: NDArray[Any], where: str) -> Bytes:
    """Return images as ``(N, 3, H, W)``; grey ones are repeated.

    Args:
        images: uint8 ``(N, H, W)``, ``(N, H, W, C)`` or ``(N, C, H, W)``, C 1 or 3.
        where: What they were read from, for messages.

    Raises:
        DataError: Another type or shape.
    """
    if images.dtype != np.uint8:
        raise DataError(
            f"{where}: expected images of type uint8, 0 to 255, got {images.dtype}; "
            "mean and standard deviation are computed here"
        )
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim == 4 and images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise DataError(
            f"{where}: expected images of shape (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or "
            f"{CHANNELS} channels, for that is what the networks take, got {images.shape}"
        )
    if images.shape[1] == 1:
        images = np.repeat(images, CHANNELS, axis=1)
    return np.ascontiguousarray(images)


def check_memory(where: str, n: int, size: int) -> None:
    """Refuse more images than are held in memory, where all of them are.

    Args:
        where: What they are read from, for the message.
        n: Images.
        size: Height and width, pixels.

    Raises:
        DataError: They would take more than :data:`MOST_BYTES`.
    """
    needed = n * CHANNELS * size**2
    if needed > MOST_BYTES:
        raise DataError(
            f"{where}: {n:,} images of {size}x{size} take {needed / 2**30:.1f} GiB; all are held "
            f"in memory, at most {MOST_BYTES / 2**30:.0f} GiB; take a lower resolution or a limit"
        )


def at_least(name: str, value: int | None, least: int) -> None:
    """Refuse an option below the least that it may be; None is left out."""
    if value is not None and value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
