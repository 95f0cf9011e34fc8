"""Labelled images to train on: what they are, where they come from, and how they are split.

:data:`DATA` is the table of sources. Each has a name, a frozen dataclass of options and a function
that reads them into an :class:`ImageData`; :func:`split` then says which images are for training,
for choosing (validation) and for the one number at the end (test). Nothing here loads torch before
images are read, and nothing is ever downloaded (:mod:`nas.training.fetch` does that when asked).

Letters: N images, C channels, H W size, K classes, M images held out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from nas.seeds import generator
from spaces.errors import NasError, did_you_mean, look_up

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

# The hold-out of a data set is the same in all runs: it belongs to the data, not to the training.
_SPLIT_SEED = 0


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


# ------------------------------------------------------------------------------------ options


def _at_least(name: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


@dataclass(frozen=True)
class DigitsOptions:
    """Settings of ``digits``.

    Attributes:
        limit: At most so many images of a class, the first ones, in each of train and test.
    """

    limit: int | None = None

    def __post_init__(self) -> None:
        _at_least("limit", self.limit, 1)


@dataclass(frozen=True)
class NpzOptions:
    """Settings of ``npz``.

    Attributes:
        file: An ``.npz`` file with one of three sets of arrays: ``x_train, y_train, x_test,
            y_test``; ``images, labels``; or ``blob, offsets, labels``, where image i is the JPEG
            or PNG file of the bytes ``blob[offsets[i]:offsets[i + 1]]``. Names of the classes
            may stand in ``classes``. Images are uint8 ``(N, H, W, C)`` or ``(N, C, H, W)``.
        train: How many of ``images`` or ``blob`` are for training; the rest is for testing.
        like: ``cifar10``, ``cifar100`` or ``imagenet16_120``, where the file holds all of its
            images in the official order: mean, standard deviation and splits are the published
            ones then.
        limit: At most so many images of a class, the first ones, in each of train and test.
    """

    file: str
    train: int | None = None
    like: str | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        _at_least("train", self.train, 1)
        _at_least("limit", self.limit, 1)


@dataclass(frozen=True)
class ArchiveOptions:
    """Settings of ``cifar10``, ``cifar100`` and ``imagenet16_120``.

    Attributes:
        root: Folder that the official files are looked for in: in itself and in sub-folders of
            the usual names; ``nas data`` lists them.
        limit: At most so many images of a class, the first ones, in each of train and test.
    """

    root: str = ROOT
    limit: int | None = None

    def __post_init__(self) -> None:
        _at_least("limit", self.limit, 1)


@dataclass(frozen=True)
class FolderOptions:
    """Settings of ``folder``.

    Attributes:
        root: Folder with ``TRAIN/CLASS/PICTURE`` and ``TEST/CLASS/PICTURE``.
        resolution: Height and width that pictures are brought to, pixels: the largest square in
            the middle, made smaller or larger.
        train: Name of the folder of training images.
        test: Name of the folder of test images.
        limit: At most so many images of a class, the first ones by name, in each of both.
    """

    root: str = ROOT
    resolution: int = 32
    train: str = "train"
    test: str = "test"
    limit: int | None = None

    def __post_init__(self) -> None:
        _at_least("resolution", self.resolution, 8)
        _at_least("limit", self.limit, 1)


@dataclass(frozen=True)
class DatasetOptions:
    """Settings of ``dataset``.

    Attributes:
        train: ``package.module:callable`` that returns a ``torch.utils.data.Dataset``, or is one,
            of ``(image, label)``. An image is a picture of Pillow, uint8 ``(H, W)``, ``(H, W, C)``
            or ``(C, H, W)``, or a float tensor ``(C, H, W)`` from 0 to 1, as ``ToTensor`` makes it.
        test: The same for the test images.
        limit: At most so many images of a class, the first ones, in each of train and test.
    """

    train: str
    test: str
    limit: int | None = None

    def __post_init__(self) -> None:
        _at_least("limit", self.limit, 1)


Options = TypeVar("Options")


@dataclass(frozen=True)
class DataSource(Generic[Options]):
    """One way to get labelled images.

    Attributes:
        name: Key in the table.
        summary: One line for a person.
        options: Frozen dataclass of its settings.
        load: Reads the images.
    """

    name: str
    summary: str
    options: type[Options]
    load: Callable[[Options], ImageData]


def _digits(options: DigitsOptions) -> ImageData:
    from nas.training.arrays import load_digits

    return load_digits(options)


def _npz(options: NpzOptions) -> ImageData:
    from nas.training.arrays import load_npz

    return load_npz(options)


def _archive(name: str) -> Callable[[ArchiveOptions], ImageData]:
    def load(options: ArchiveOptions) -> ImageData:
        from nas.training.archives import load_archive

        return load_archive(name, options)

    return load


def _folder(options: FolderOptions) -> ImageData:
    from nas.training.pictures import load_folder

    return load_folder(options)


def _dataset(options: DatasetOptions) -> ImageData:
    from nas.training.pictures import load_dataset

    return load_dataset(options)


DATA: dict[str, DataSource[Any]] = {
    source.name: source
    for source in (
        DataSource("digits", "1,797 digits of 8x8, from scikit-learn", DigitsOptions, _digits),
        DataSource(
            "cifar10", "60,000 images of 32x32 in 10 classes", ArchiveOptions, _archive("cifar10")
        ),
        DataSource(
            "cifar100",
            "60,000 images of 32x32 in 100 classes",
            ArchiveOptions,
            _archive("cifar100"),
        ),
        DataSource(
            "imagenet16_120",
            "157,700 images of 16x16, the first 120 classes of ImageNet",
            ArchiveOptions,
            _archive("imagenet16_120"),
        ),
        DataSource("folder", "pictures in train/CLASS and test/CLASS", FolderOptions, _folder),
        DataSource("npz", "arrays or packed pictures in an .npz file", NpzOptions, _npz),
        DataSource("dataset", "a torch Dataset of yours, by import path", DatasetOptions, _dataset),
    )
}


def load_data(name: str, options: Mapping[str, Any] | None = None) -> ImageData:
    """Read a data set.

    Args:
        name: Key of :data:`DATA`.
        options: Settings of that source; those left out are at their defaults.

    Raises:
        DataError: It is not there, or not what it should be; the text names the file.
        UnknownName: There is no such source.
    """
    source = look_up(DATA, name, kind="data set")
    try:
        chosen = source.options(**(options or {}))
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: {error}") from None
    return source.load(chosen)


# -------------------------------------------------------------------------------------- splits


def split(data: ImageData, how: str | int | float | Mapping[str, str]) -> Parts:
    """Split a data set.

    Args:
        data: What to split.
        how: ``"official"``: all training images, no validation, the official test images. A whole
            number or a fraction below 1: so many training images, as many of each class as its
            share says, are held out as validation; which ones depends on the data alone, and a
            larger hold-out contains a smaller one. A name of ``data.splits``. Or
            ``{"file": PATH}``, a split file of NATS-Bench.

    Raises:
        DataError: No such split, or one that does not fit the data.
    """
    if how == "official":
        return Parts(data.train, None, data.test)
    if isinstance(how, str):
        return _by_roles(data, _named(data, how))
    if isinstance(how, Mapping):
        from nas.training.splits import read_split

        return _by_roles(data, read_split(how, len(data.train), len(data.test)))
    return _held_out(data, _count(how, len(data.train)))


def _named(data: ImageData, name: str) -> Split:
    if name in data.splits:
        return data.splits[name]
    from nas.training.splits import FILES, PUBLISHED, as_a_file

    if name in PUBLISHED and data.name in FILES:
        raise DataError(as_a_file(data.name, name))
    known = ["official", *data.splits]
    raise DataError(
        f"split: {data.name} has none named {name!r}.{did_you_mean(name, known)} Known: "
        f"{', '.join(known)}, a number of images to hold out, a fraction of them, {{file: PATH}}"
    )


def _count(how: float, n: int) -> int:
    if isinstance(how, bool) or not isinstance(how, int | float):
        raise DataError(f"split: expected a name, a number or a fraction, got {how!r}")
    count = round(how * n) if isinstance(how, float) else how
    if not 0 < count < n or (isinstance(how, float) and how >= 1):
        raise DataError(
            f"split: expected 1 to {n - 1:,} training images to hold out, or a fraction between 0 "
            f"and 1, got {how}"
        )
    return count


def _held_out(data: ImageData, count: int) -> Parts:
    held = stratified(data.train.labels.cpu().numpy(), count)
    roles = np.where(held, VALIDATION, TRAIN).astype(np.uint8)
    return _by_roles(data, Split(roles, np.full(len(data.test), TEST, np.uint8)))


def _by_roles(data: ImageData, roles: Split) -> Parts:
    import torch

    train = data.train.take(np.flatnonzero(roles.train == TRAIN))
    test = data.test.take(np.flatnonzero(roles.test == TEST))
    first = data.train.take(np.flatnonzero(roles.train == VALIDATION))
    second = data.test.take(np.flatnonzero(roles.test == VALIDATION))
    validation = Labelled(
        torch.cat([first.images, second.images]), torch.cat([first.labels, second.labels])
    )
    return Parts(train, validation if len(validation) else None, test)


def stratified(labels: Ints, count: int) -> NDArray[np.bool_]:
    """Choose ``count`` images, of every class its share; return which ones, ``(N,)``.

    The images of a class stand in one fixed random order, of which the first are chosen, so that
    what is chosen depends on the labels alone. Shares are rounded by largest remainder, ties go to
    the lower class.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    exact = count * sizes / len(labels)
    shares = np.floor(exact).astype(np.int64)
    rest = np.argsort(shares - exact, kind="stable")[: count - int(shares.sum())]
    shares[rest] += 1
    chosen = np.zeros(len(labels), dtype=np.bool_)
    for label, share in zip(classes.tolist(), shares.tolist(), strict=True):
        rng = generator(_SPLIT_SEED, "hold-out", label)
        chosen[rng.permutation(np.flatnonzero(labels == label))[:share]] = True
    return chosen


# ---------------------------------------------------------------------- for those who read files


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


def expanded(text: str) -> Path:
    """Return a path with ``~`` replaced."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # "~nobody"
        return Path(text)
