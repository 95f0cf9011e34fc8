"""Images from arrays: scikit-learn's digits, and ``.npz`` files of arrays or packed pictures.

Letters: N images, C channels, H W size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.reading import UnreadableFile, array_of, expanded, reading_arrays
from nas.training.archives import ARCHIVES
from nas.training.images import (
    CHANNELS,
    MOST_BYTES,
    Bytes,
    DataError,
    Found,
    ImageData,
    Raw,
    Statistics,
    at_least,
    check_memory,
    image_data,
    three_channels,
)
from nas.training.pictures import decoded, in_threads, stacked
from nas.training.splits import stratified
from spaces.errors import look_up

_DIGITS_TEST = 360  # of 1,797: a fifth
_DIGITS_WHITE = 16  # pixels are 0 to 16

_PAIRS = ("x_train", "y_train", "x_test", "y_test")
_ONE = ("images", "labels")
_BLOBS = ("blob", "offsets", "labels")

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class DigitsOptions:
    """Settings of ``digits``.

    Attributes:
        limit: At most so many images of a class, the first ones, in each of train and test.
    """

    limit: int | None = None

    def __post_init__(self) -> None:
        at_least("limit", self.limit, 1)


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
        at_least("train", self.train, 1)
        at_least("limit", self.limit, 1)


def load_digits(options: DigitsOptions) -> ImageData:
    """Return scikit-learn's digits, ``(1797, 3, 8, 8)``: 1,437 to train on and 360 to test on.

    The split is stratified and always the same. They are the test part of "Optical Recognition of
    Handwritten Digits" (Alpaydin, Kaynak 1998, https://doi.org/10.24432/C50P49), which comes with
    the library; nothing is downloaded.
    """
    from sklearn.datasets import load_digits as embedded

    bunch = embedded()
    grey = np.rint(bunch.images * (255 / _DIGITS_WHITE)).astype(np.uint8)
    whole = Raw(three_channels(grey, "digits"), bunch.target.astype(np.int64))
    test = stratified(whole.labels, _DIGITS_TEST)
    classes = tuple(map(str, bunch.target_names.tolist()))
    found = Found("digits", "digits", whole.only(~test), whole.only(test), classes)
    return image_data(found, options.limit)


def load_npz(options: NpzOptions) -> ImageData:
    """Read a file as :class:`~nas.training.data.NpzOptions` describes it.

    Raises:
        DataError: No such file, other arrays, or arrays that do not fit together.
    """
    path = expanded(options.file)
    where = str(path)
    arrays = _read(where)
    classes = tuple(map(str, arrays["classes"].tolist())) if "classes" in arrays else None
    statistics = None  # of all training images, if nothing better is known
    if all(name in arrays for name in _PAIRS):
        if options.train is not None:
            raise DataError(f"{where}: it says itself what is for training; leave out 'train'")
        train, test = (
            Raw(three_channels(arrays[f"x_{part}"], where), _labels(arrays, f"y_{part}", where))
            for part in ("train", "test")
        )
    elif all(name in arrays for name in _BLOBS):
        train, test, statistics = _decoded(arrays, options, where)
    else:
        labels = _labels(arrays, "labels", where)
        images = three_channels(arrays["images"], where)
        if len(images) != len(labels):
            raise DataError(f"{where}: it has {len(images):,} images, but {len(labels):,} labels")
        first = _first(options, len(labels), where)
        train, test = (Raw(images[part], labels[part]) for part in (first, ~first))
    found = Found("npz", where, train, test, classes, statistics)
    return image_data(_as_published(found, options), options.limit)


def _as_published(found: Found, options: NpzOptions) -> Found:
    """Return what was read with the published statistics and splits, where it is asked for."""
    if options.like is None:
        return found
    archive = look_up(ARCHIVES, options.like, kind="published data set")
    sizes = (len(found.train.labels), len(found.test.labels))
    if sizes != (archive.n_train, archive.n_test):
        raise DataError(
            f"{found.where}: like: {archive.name} has {archive.n_train:,} images to train on and "
            f"{archive.n_test:,} to test on, but here are {sizes[0]:,} and {sizes[1]:,}"
        )
    return replace(found, statistics=archive.statistics, splits=archive.published_splits())


def _read(where: str) -> Arrays:
    """Return the arrays that are used; nothing pickled is ever loaded."""
    try:
        with reading_arrays(Path(where), MOST_BYTES) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError(f"{where}: it is a single array, not an .npz file of several")
            for names in (_PAIRS, _BLOBS, _ONE):
                if all(name in archive.files for name in names):
                    wanted = [*names, *(["classes"] if "classes" in archive.files else [])]
                    return {name: array_of(archive, name) for name in wanted}
            known = archive.files
    except FileNotFoundError:
        raise DataError(f"{where}: no such file") from None
    except DataError:
        raise
    except UnreadableFile as error:
        raise DataError(f"{where}: not a readable .npz file: {error}") from None
    allowed = "; ".join(", ".join(names) for names in (_PAIRS, _ONE, _BLOBS))
    raise DataError(f"{where}: expected the arrays {allowed}; got {', '.join(known) or 'none'}")


def _labels(arrays: Arrays, name: str, where: str) -> NDArray[np.int64]:
    labels = arrays[name]
    if labels.ndim == 2 and labels.shape[1] == 1:  # as Keras has them
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(
            f"{where}: {name}: expected whole numbers of shape (N,), got {labels.dtype} of shape "
            f"{arrays[name].shape}"
        )
    return labels.astype(np.int64)


def _first(options: NpzOptions, n: int, where: str) -> NDArray[np.bool_]:
    """Return which of n images are for training."""
    if options.train is None or options.train >= n:
        got = "none" if options.train is None else str(options.train)
        raise DataError(
            f"{where}: train: expected how many of its {n:,} images, the first ones, are for "
            f"training, 1 to {n - 1:,}, got {got}"
        )
    return np.arange(n) < options.train


def _decoded(arrays: Arrays, options: NpzOptions, where: str) -> tuple[Raw, Raw, Statistics]:
    """Decode pictures; those that ``limit`` leaves out, and is yet to take away, are black.

    Returns:
        Training images, test images, and the statistics of those training images that stay.
    """
    blob, offsets, labels = arrays["blob"], arrays["offsets"], _labels(arrays, "labels", where)
    _check_offsets(blob, offsets, labels, where)
    first = _first(options, len(labels), where)

    def one(place: int) -> Bytes:
        content = blob[offsets[place] : offsets[place + 1]].tobytes()
        return decoded(content, f"{where}: picture {place}")

    parts, stays = [], []
    for part in (first, ~first):
        raw = Raw(np.zeros((0, CHANNELS, 0, 0), np.uint8), labels[part])
        kept = raw.first_of_each(options.limit)
        some = stacked(in_threads(one, np.flatnonzero(part)[kept].tolist()), where)
        check_memory(where, len(kept), max(some.shape[2:]))
        images = np.zeros((len(kept), *some.shape[1:]), np.uint8)
        images[kept] = some
        parts.append(Raw(images, labels[part]))
        stays.append(some)
    return parts[0], parts[1], Statistics.of(stays[0])


def _check_offsets(
    blob: NDArray[Any], offsets: NDArray[Any], labels: NDArray[np.int64], where: str
) -> None:
    fits = (
        blob.dtype == np.uint8
        and blob.ndim == 1
        and offsets.shape == (len(labels) + 1,)
        and offsets.dtype.kind in "iu"
        and bool((np.diff(offsets.astype(np.int64)) > 0).all())
        and int(offsets[0]) >= 0
        and int(offsets[-1]) <= len(blob)
    )
    if not fits:
        raise DataError(
            f"{where}: expected blob uint8 (bytes,), and rising offsets (N + 1,) into it for N "
            f"labels, got {blob.dtype} {blob.shape}, {offsets.dtype} {offsets.shape}, "
            f"labels {labels.shape}"
        )
