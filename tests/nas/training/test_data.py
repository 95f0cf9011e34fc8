"""What holds for every source of images, and how a data set is split."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nas.recipe.fields import choice_of
from nas.training.data import DATA, load_data
from nas.training.images import (
    TEST,
    TRAIN,
    UNUSED,
    VALIDATION,
    DataError,
    Found,
    ImageData,
    Labelled,
    Raw,
    Split,
    Statistics,
    image_data,
    three_channels,
)
from nas.training.splits import split, stratified
from spaces.errors import NasError, UnknownName
from tests.nas.training.sources import SOURCES

every_source = pytest.mark.parametrize("name", list(DATA))


def toy(n_train: int = 40, n_test: int = 10, n_classes: int = 4) -> ImageData:
    """Return images of one value each: their place in the part."""

    def raw(n: int) -> Raw:
        values = np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1)
        return Raw(np.broadcast_to(values, (n, 3, 2, 2)).copy(), np.arange(n) % n_classes)

    return image_data(Found("toy", "toy", raw(n_train), raw(n_test)))


def places(part: Labelled | None) -> list[int]:
    assert part is not None
    return [int(value) for value in part.images[:, 0, 0, 0]]


def test_every_source_has_a_tiny_data_set() -> None:
    assert set(SOURCES) == set(DATA)


@every_source
def test_a_source_gives_what_it_says(name: str, options: dict[str, Any]) -> None:
    data = load_data(name, options)
    assert data.name == name
    for part in (data.train, data.test):
        assert part.images.dtype == torch.uint8
        assert part.images.shape == (len(part), *data.shape)
        assert part.images.is_contiguous()
        assert part.labels.dtype == torch.int64
        assert 0 <= int(part.labels.min()) <= int(part.labels.max()) < len(data.classes)
    assert data.shape[0] == len(data.mean) == len(data.std) == 3
    assert all(0 < value < 1 for value in (*data.mean, *data.std))
    assert len(set(data.classes)) == len(data.classes)
    assert len(data.fingerprint) == 64


@every_source
def test_a_source_gives_the_same_again(name: str, options: dict[str, Any]) -> None:
    state = torch.get_rng_state(), random.getstate(), str(np.random.get_state())  # noqa: NPY002
    first, second = load_data(name, options), load_data(name, options)
    assert first.fingerprint == second.fingerprint
    assert torch.equal(first.train.images, second.train.images)
    assert torch.equal(first.test.labels, second.test.labels)
    assert torch.equal(torch.get_rng_state(), state[0])
    assert (random.getstate(), str(np.random.get_state())) == state[1:]  # noqa: NPY002


@every_source
def test_a_limit_keeps_the_first_images_of_every_class(name: str, options: dict[str, Any]) -> None:
    whole, cut = load_data(name, options), load_data(name, options | {"limit": 2})
    for part in ("train", "test"):
        images, labels = getattr(whole, part).images, getattr(whole, part).labels
        seen: dict[int, int] = {}
        kept = []
        for place, label in enumerate(labels.tolist()):
            seen[label] = seen.get(label, 0) + 1
            if seen[label] <= 2:
                kept.append(place)
        assert torch.equal(getattr(cut, part).images, images[kept]), part
        assert torch.equal(getattr(cut, part).labels, labels[kept]), part
    assert cut.classes == whole.classes
    if len(cut.train) < len(whole.train):
        assert cut.fingerprint != whole.fingerprint


@every_source
def test_a_source_can_be_named_in_a_recipe(name: str, options: dict[str, Any]) -> None:
    source = DATA[name]
    assert source.name == name
    assert "\n" not in source.summary
    assert dataclasses.is_dataclass(source.options)
    choice = choice_of(DATA, "data set", {"name": name, **options})
    assert choice.options == dataclasses.asdict(source.options(**options))
    assert load_data(name, choice.options).fingerprint == load_data(name, options).fingerprint


@every_source
def test_a_wrong_option_is_an_error(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=f"^{name}: limit must be at least 1, got 0$"):
        load_data(name, options | {"limit": 0})
    with pytest.raises(DataError, match=r"colour"):
        load_data(name, options | {"colour": "blue"})


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "imagenet16_120", "folder"])
def test_what_is_not_there_is_one_message(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as info:
        load_data(name, {"root": str(tmp_path / "nowhere")})
    assert str(tmp_path / "nowhere") in str(info.value)
    assert "\n" not in str(info.value)


def test_an_unknown_source_is_an_error() -> None:
    with pytest.raises(UnknownName, match=r"no data set named 'cifar'\. Did you mean 'cifar10'\?"):
        load_data("cifar")


def test_the_digits_are_all_there() -> None:
    data = load_data("digits")
    assert (len(data.train), len(data.test), data.shape) == (1437, 360, (3, 8, 8))
    assert data.classes == tuple("0123456789")
    # by scikit-learn's own description: 174 to 183 of every class
    counts = torch.bincount(torch.cat([data.train.labels, data.test.labels]))
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    shares = torch.bincount(data.test.labels) / counts
    assert bool(((shares - 0.2).abs() < 0.01).all())
    assert int(data.train.images.max()) == 255
    assert torch.equal(data.train.images[:, 0], data.train.images[:, 2])


def test_statistics_are_exact() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (7, 3, 5, 4), dtype=np.uint8)
    found = Statistics.of(images)
    scaled = images.astype(np.float64) / 255
    np.testing.assert_allclose(found.mean, scaled.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(found.std, scaled.std(axis=(0, 2, 3)), rtol=1e-12)


def test_grey_images_become_three_channels_and_others_are_refused() -> None:
    grey = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4)
    for images in (grey, grey[:, None], grey[..., None]):
        assert np.array_equal(three_channels(images, "x"), np.repeat(grey[:, None], 3, axis=1))
    with pytest.raises(DataError, match=r"x: expected images of shape .* got \(2, 4, 4, 4\)"):
        three_channels(np.zeros((2, 4, 4, 4), np.uint8), "x")
    with pytest.raises(DataError, match=r"x: expected images of type uint8, 0 to 255, got float32"):
        three_channels(np.zeros((2, 4, 4, 3), np.float32), "x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((4, 3, 2, 2), np.int8)}, "expected uint8 images"),
        ({"images": np.zeros((4, 1, 2, 2), np.uint8)}, r"of shape \(N, 3, H, W\), got"),
        ({"labels": np.zeros(3, np.int64)}, "expected 4 whole numbers as labels"),
        ({"labels": np.zeros(4)}, "expected 4 whole numbers as labels, got float64"),
        ({"labels": np.array([0, 1, 2, -1])}, "labels must be 0 to 2, got -1 to 2"),
        ({"labels": np.array([0, 1, 2, 3])}, "labels must be 0 to 2, got 0 to 3"),
        ({"images": np.zeros((4, 3, 4, 4), np.uint8)}, "they must be of one shape"),
        ({"images": np.ones((4, 3, 2, 2), np.uint8)}, "is the same everywhere"),
        (
            {"images": np.zeros((0, 3, 2, 2), np.uint8), "labels": np.zeros(0, np.int64)},
            "it holds no image",
        ),
    ],
)
def test_images_that_cannot_be_are_refused(change: dict[str, Any], message: str) -> None:
    images = np.arange(48, dtype=np.uint8).reshape(4, 3, 2, 2)
    good = Raw(images, np.array([0, 1, 2, 0]))
    odd = dataclasses.replace(good, **change)
    with pytest.raises(DataError, match=f"^here: .*{message}"):
        image_data(Found("odd", "here", odd, good, ("a", "b", "c")))


def test_a_fingerprint_depends_on_all_that_was_read() -> None:
    images = np.arange(48, dtype=np.uint8).reshape(4, 3, 2, 2)
    raw = Raw(images, np.array([0, 1, 2, 0]))
    found = Found("x", "x", raw, raw, ("a", "b", "c"))
    other = dataclasses.replace(raw, labels=np.array([0, 1, 2, 1]))
    darker = dataclasses.replace(raw, images=images // 2)
    changed = [
        dataclasses.replace(found, train=other),
        dataclasses.replace(found, test=other),
        dataclasses.replace(found, train=darker),
        dataclasses.replace(found, classes=("a", "b", "d")),
    ]
    prints = {image_data(one).fingerprint for one in [found, *changed]}
    assert len(prints) == 5
    again = image_data(dataclasses.replace(found, name="y", where="y"))
    assert again.fingerprint == image_data(found).fingerprint


def test_labelled_is_checked() -> None:
    images, labels = torch.zeros((2, 3, 4, 4), dtype=torch.uint8), torch.zeros(2).long()
    assert len(Labelled(images, labels)) == 2
    with pytest.raises(DataError, match=r"images: expected uint8 .*, got torch.float32"):
        Labelled(images.float(), labels)
    with pytest.raises(DataError, match=r"labels: expected int64 of shape \(2,\)"):
        Labelled(images, labels.int())
    with pytest.raises(DataError, match=r"labels: expected int64 of shape \(2,\)"):
        Labelled(images, torch.zeros(3).long())


def test_official_trains_on_everything() -> None:
    parts = split(toy(), "official")
    assert places(parts.train) == list(range(40))
    assert parts.validation is None
    assert places(parts.test) == list(range(10))


@pytest.mark.parametrize("how", [8, 0.2])
def test_a_hold_out_is_stratified_and_leaves_the_test_alone(how: float) -> None:
    parts = split(toy(), how)
    held = places(parts.validation)
    assert sorted(held + places(parts.train)) == list(range(40))
    assert parts.validation is not None
    assert torch.bincount(parts.validation.labels).tolist() == [2, 2, 2, 2]
    assert places(parts.test) == list(range(10))
    assert held == places(split(toy(), how).validation)
    assert held != list(range(8))


def test_a_larger_hold_out_contains_a_smaller_one() -> None:
    small, large = (set(places(split(toy(), count).validation)) for count in (8, 16))
    assert small < large


@given(
    labels=st.lists(st.integers(0, 5), min_size=2, max_size=60),
    share=st.floats(0.01, 0.99),
)
def test_stratified_takes_exactly_its_number(labels: list[int], share: float) -> None:
    array = np.asarray(labels)
    count = min(max(1, round(share * len(labels))), len(labels) - 1)
    chosen = stratified(array, count)
    assert int(chosen.sum()) == count
    for label in set(labels):
        size, held = int((array == label).sum()), int(chosen[array == label].sum())
        assert abs(held - count * size / len(labels)) < 1


@pytest.mark.parametrize("how", [0, -1, 40, 41, 0.0, 1.0, 1.5, True, None])
def test_a_hold_out_that_cannot_be_is_refused(how: Any) -> None:
    with pytest.raises(DataError, match=r"^split: expected"):
        split(toy(), how)


def test_a_published_split_is_found_by_name() -> None:
    roles = Split(
        np.array([TRAIN, VALIDATION, UNUSED, *[TRAIN] * 37], np.uint8),
        np.array([VALIDATION, TEST, UNUSED, *[TEST] * 7], np.uint8),
    )
    data = dataclasses.replace(toy(), splits=MappingProxyType({"halves": roles}))
    parts = split(data, "halves")
    assert places(parts.train) == [0, *range(3, 40)]
    assert places(parts.validation) == [1, 0]  # of the training images, then of the test images
    assert places(parts.test) == [1, *range(3, 10)]
    with pytest.raises(DataError, match=r"none named 'halve'\. Did you mean 'halves'"):
        split(data, "halve")


def test_a_limit_cuts_published_splits() -> None:
    def raw(n: int) -> Raw:
        return Raw(np.arange(12 * n, dtype=np.uint8).reshape(n, 3, 2, 2), np.arange(n) % 2)

    roles = Split(np.array([0, 0, 1, 1, 0, 0], np.uint8), np.array([1, 1, 2, 2], np.uint8))
    found = Found("x", "x", raw(6), raw(4), splits={"halves": roles})
    cut = image_data(found, limit=2)
    parts = split(cut, "halves")
    assert (len(parts.train), len(parts.test)) == (2, 2)
    assert parts.validation is not None
    assert len(parts.validation) == 4
    with pytest.raises(NasError, match=r"it leaves no image"):
        image_data(found, limit=1)  # the test half begins after the first image of each class


@pytest.mark.parametrize(
    ("train", "test"), [([TEST], [TEST]), ([TRAIN], [TRAIN]), ([VALIDATION], [TEST]), ([4], [TEST])]
)
def test_roles_that_cannot_be_are_refused(train: list[int], test: list[int]) -> None:
    with pytest.raises(DataError, match=r"^split: "):
        Split(np.array(train, np.uint8), np.array(test, np.uint8))
