"""How a data set is parted: official, held out by number, or as NATS-Bench was made.

The splits of NATS-Bench: Dong, Liu, Musial, Gabrys 2021, https://arxiv.org/abs/2009.00437,
section 3.2. On CIFAR-10 the training images are halved for choosing; on CIFAR-100 and
ImageNet16-120 the official *test* images are, one half for choosing and one for the final number.
Two splits of each data set:

    nats_test    what the test accuracies of the table were trained and measured on
    nats_valid   the same with its validation half held out; on CIFAR-10 a training on one half

CIFAR-10's halves are those of ``random.seed(1021); random.shuffle``, as the benchmark's own code
makes them (``exps/NATS-Bench/main-tss.py`` of AutoDL-Projects). The other two were published as
files only, and no seed is known that makes them; ``{"file": PATH}`` reads them. Nobody is trained
on their validation half either way, so the test accuracy is that of ``nats_test`` as well.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.reading import MIB, expanded, read_json
from nas.seeds import generator
from nas.training.images import (
    TEST,
    TRAIN,
    UNUSED,
    VALIDATION,
    Bytes,
    DataError,
    ImageData,
    Ints,
    Labelled,
    Parts,
    Split,
)
from spaces.errors import did_you_mean

CIFAR_TRAIN, CIFAR_TEST = 50_000, 10_000
MAX_BYTES = 64 * MIB
_CIFAR10_SEED = 1021

#: The benchmark's files, by data set, of those splits that code cannot make.
FILES = {
    "cifar100": "cifar100-test-split.txt",
    "imagenet16_120": "imagenet-16-120-test-split.txt",
}
FILES_AT = "https://github.com/D-X-Y/AutoDL-Projects/tree/main/configs/nas-benchmark"

PUBLISHED = ("nats_test", "nats_valid")

# The hold-out of a data set is the same in all runs: it belongs to the data, not to the training.
_SPLIT_SEED = 0

# The two lists of a file, and the part of the data set that they halve.
_TRAIN_HALVES, _TEST_HALVES = ("train", "valid"), ("xvalid", "xtest")


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
        return _by_roles(data, read_split(how, len(data.train), len(data.test)))
    return _held_out(data, _count(how, len(data.train)))


def _named(data: ImageData, name: str) -> Split:
    if name in data.splits:
        return data.splits[name]
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


def as_a_file(data: str, split: str) -> str:
    """Return what to do about a split that was published as a file."""
    return (
        f"split: {split!r} of {data} was published as a file only: fetch {FILES[data]} from "
        f"{FILES_AT} and give 'split: {{file: {FILES[data]}}}'; it halves the official test images"
    )


def roles(n: int, role: int) -> Bytes:
    """Return one role for n images."""
    return np.full(n, role, dtype=np.uint8)


def cifar10_splits() -> dict[str, Split]:
    """Return ``nats_test`` and ``nats_valid`` of CIFAR-10."""
    order = list(range(CIFAR_TRAIN))
    random.Random(_CIFAR10_SEED).shuffle(order)
    halves = roles(CIFAR_TRAIN, TRAIN)
    halves[order[CIFAR_TRAIN // 2 :]] = VALIDATION
    test = roles(CIFAR_TEST, TEST)
    return {
        "nats_test": Split(roles(CIFAR_TRAIN, TRAIN), test),
        "nats_valid": Split(halves, test),
    }


def read_split(how: Mapping[str, str], n_train: int, n_test: int) -> Split:
    """Read a split file of NATS-Bench: JSON, ``{"xvalid": ["int", ["1", "2", ...]], ...}``.

    ``train`` and ``valid`` halve the training images; the test images are all for testing.
    ``xvalid`` and ``xtest`` halve the test images; the training images are all trained on.

    Args:
        how: ``{"file": PATH}``.
        n_train: Training images of the data set.
        n_test: Its test images.

    Raises:
        DataError: No such file, another form, or places that do not fit the data set.
    """
    if set(how) != {"file"} or not isinstance(how["file"], str):
        raise DataError(f"split: expected a mapping with the key 'file', a path, got {dict(how)}")
    where = how["file"]
    try:
        lists = _lists(read_json(expanded(where), MAX_BYTES))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"split: {where}: not a split file of NATS-Bench: {reason}") from None
    if set(lists) == set(_TRAIN_HALVES):
        train = _placed(where, lists, n_train, {"train": TRAIN, "valid": VALIDATION})
        return Split(train, roles(n_test, TEST))
    test = _placed(where, lists, n_test, {"xvalid": VALIDATION, "xtest": TEST})
    return Split(roles(n_train, TRAIN), test)


def _lists(content: Any) -> dict[str, list[int]]:  # noqa: ANN401 - whatever JSON holds
    """Return the places of each list."""
    if not isinstance(content, dict) or set(content) not in (set(_TRAIN_HALVES), set(_TEST_HALVES)):
        raise ValueError("expected the lists 'train' and 'valid', or 'xvalid' and 'xtest'")
    found = {}
    for name, entry in content.items():
        typed = isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], list)
        if not typed or entry[0] != "int":
            raise ValueError(f'{name}: expected ["int", [places]]')
        if not all(isinstance(text, str) and text.isdecimal() for text in entry[1]):
            raise ValueError(f"{name}: expected places as texts of digits")
        if not all(len(text) < 10 for text in entry[1]):
            raise ValueError(f"{name}: expected places below 10^9")
        found[name] = [int(text) for text in entry[1]]
    return found


def _placed(
    where: str, lists: Mapping[str, list[int]], n: int, roles_of: Mapping[str, int]
) -> Bytes:
    """Return the role of each of n images."""
    placed = roles(n, UNUSED)
    for name, role in roles_of.items():
        places = np.asarray(lists[name], dtype=np.int64)
        if len(places) and places.max() >= n:
            raise DataError(
                f"split: {where}: {name}: it names image {places.max():,}, but there are {n:,}; "
                "is it the file of this data set, and is 'limit' off?"
            )
        if (placed[places] != UNUSED).any() or len(np.unique(places)) < len(places):
            raise DataError(f"split: {where}: {name}: an image is named twice")
        placed[places] = role
    return placed
