"""Reading ``.npz`` files of arrays and of packed pictures."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nas.training.archives import ARCHIVES
from nas.training.data import load_data
from nas.training.images import Bytes, DataError, Split, Statistics
from nas.training.splits import split
from spaces.errors import NasError
from tests.nas.training.sources import random_images


def saved(folder: Path, **arrays: Any) -> str:
    file = folder / "some.npz"
    np.savez(file, **arrays)
    return str(file)


def png(image: Bytes) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="PNG")
    return stream.getvalue()


def packed(images: Bytes) -> dict[str, Any]:
    """Return images as the files of one blob."""
    files = [png(image) for image in images]
    return {
        "blob": np.frombuffer(b"".join(files), np.uint8),
        "offsets": np.cumsum([0, *map(len, files)]),
        "labels": np.arange(len(images)) % 2,
    }


def test_channels_may_come_first_or_last(tmp_path: Path) -> None:
    images = random_images(6)
    labels = np.arange(6) % 2
    last = load_data("npz", {"file": saved(tmp_path, images=images, labels=labels), "train": 4})
    turned = images.transpose(0, 3, 1, 2)
    first = load_data("npz", {"file": saved(tmp_path, images=turned, labels=labels), "train": 4})
    assert last.fingerprint == first.fingerprint
    assert torch.equal(last.train.images, torch.from_numpy(turned[:4].copy()))
    assert torch.equal(last.test.images, torch.from_numpy(turned[4:].copy()))
    assert last.test.labels.tolist() == [0, 1]


def test_pictures_in_a_blob_are_decoded(tmp_path: Path) -> None:
    images = random_images(6)
    blobs = load_data("npz", {"file": saved(tmp_path, **packed(images)), "train": 4})
    labels = np.arange(6) % 2
    plain = load_data("npz", {"file": saved(tmp_path, images=images, labels=labels), "train": 4})
    assert blobs.fingerprint == plain.fingerprint


def test_grey_pictures_are_repeated(tmp_path: Path) -> None:
    grey = random_images(4)[..., 0]
    data = load_data("npz", {"file": saved(tmp_path, **packed(grey)), "train": 2})
    assert torch.equal(data.train.images[:, 1], torch.from_numpy(grey[:2].copy()))


def test_classes_may_have_names(tmp_path: Path) -> None:
    file = saved(tmp_path, images=random_images(4), labels=np.arange(4) % 2, classes=["cat", "dog"])
    assert load_data("npz", {"file": file, "train": 2}).classes == ("cat", "dog")


def test_labels_may_be_a_column(tmp_path: Path) -> None:
    labels = (np.arange(4) % 2)[:, None].astype(np.uint8)
    file = saved(tmp_path, images=random_images(4), labels=labels)
    assert load_data("npz", {"file": file, "train": 2}).train.labels.tolist() == [0, 1]


def good() -> dict[str, Any]:
    return {"images": random_images(4), "labels": np.arange(4) % 2}


@pytest.mark.parametrize(
    ("arrays", "train", "message"),
    [
        (good(), None, "train: expected how many of its 4 images, .* 1 to 3, got none"),
        (good(), 4, "train: expected how many of its 4 images, .* 1 to 3, got 4"),
        (good() | {"labels": np.arange(3)}, 2, "it has 4 images, but 3 labels"),
        (good() | {"labels": np.ones((4, 2), int)}, 2, "labels: expected whole numbers"),
        (good() | {"labels": np.ones(4)}, 2, "labels: expected whole numbers .* got float64"),
        (good() | {"images": np.ones((4, 8, 8, 3))}, 2, "type uint8, 0 to 255, got float64"),
        (good() | {"images": np.ones((4, 9, 9, 2), np.uint8)}, 2, "with 1 or 3 channels"),
        (good() | {"classes": ["cat"]}, 2, "labels must be 0 to 0, got 0 to 1"),
        ({"pixels": random_images(4)}, 2, "expected the arrays .* got pixels"),
        ({}, 2, "expected the arrays .* got none"),
        (
            {f"{kind}_{part}": good()["images" if kind == "x" else "labels"]
             for kind in "xy" for part in ("train", "test")},
            2,
            "leave out 'train'",
        ),
        (packed(random_images(4)) | {"offsets": np.arange(3)}, 2, "expected blob uint8"),
        (packed(random_images(4)) | {"offsets": np.array([0, 9, 5, 7, 8])}, 2, "rising offsets"),
        (packed(random_images(4)) | {"offsets": 10**6 * np.arange(5)}, 2, "rising offsets"),
        (packed(random_images(4)) | {"offsets": np.arange(5.0)}, 2, "rising offsets"),
        (packed(random_images(4)) | {"blob": np.zeros(5000, np.uint8)}, 2, "picture 0: not a rea"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(
    tmp_path: Path, arrays: dict[str, Any], train: int | None, message: str
) -> None:
    file = saved(tmp_path, **arrays)
    with pytest.raises(DataError, match=f"some.npz: .*{message}") as info:
        load_data("npz", {"file": file, "train": train})
    assert str(info.value).startswith(file)


def test_pictures_of_several_sizes_are_refused(tmp_path: Path) -> None:
    first, second = png(random_images(1)[0]), png(random_images(1, size=9)[0])
    file = saved(
        tmp_path,
        blob=np.frombuffer(first + second + first, np.uint8),
        offsets=np.cumsum([0, len(first), len(second), len(first)]),
        labels=np.zeros(3, int),
    )
    with pytest.raises(DataError, match=r"pictures must be of one size"):
        load_data("npz", {"file": file, "train": 2})


class Calls:
    """Unpickles into a call."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.system, (self.text,)


def test_a_pickle_inside_is_never_loaded(tmp_path: Path) -> None:
    marker = tmp_path / "was_here"
    hostile = np.array([Calls(f"touch {marker}")] * 4, dtype=object)
    file = saved(tmp_path, images=random_images(4), labels=hostile)
    with pytest.raises(DataError, match=r"not a readable .npz file: .*pickled objects"):
        load_data("npz", {"file": file, "train": 2})
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"nothing of the kind"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"x.npz: not a readable .npz file"):
        load_data("npz", {"file": str(tmp_path / "x.npz"), "train": 2})


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    file = Path(saved(tmp_path, **good()))
    whole = file.read_bytes()
    for share in (0.1, 0.5, 0.9):
        file.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(DataError, match=r"some.npz: not a readable"):
            load_data("npz", {"file": str(file), "train": 2})


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file"):
        load_data("npz", {"file": str(tmp_path / "none.npz"), "train": 2})
    np.save(tmp_path / "one.npy", random_images(4))
    with pytest.raises(DataError, match=r"a single array"):
        load_data("npz", {"file": str(tmp_path / "one.npy"), "train": 2})
    with pytest.raises(DataError, match=r"not a readable"):
        load_data("npz", {"file": str(tmp_path), "train": 2})


def test_only_the_pictures_that_are_kept_are_decoded(tmp_path: Path) -> None:
    arrays = packed(random_images(6))
    broken = arrays["blob"].copy()
    broken[arrays["offsets"][2] : arrays["offsets"][4]] = 0  # the second of both classes
    file = saved(tmp_path, **(arrays | {"blob": broken}))
    assert len(load_data("npz", {"file": file, "train": 4, "limit": 1}).train) == 2
    with pytest.raises(DataError, match=r"picture 2"):
        load_data("npz", {"file": file, "train": 4})


def test_a_file_may_stand_for_a_published_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    halves = Split(np.array([0, 1, 0, 1], np.uint8), np.array([2, 2], np.uint8))
    small = replace(ARCHIVES["cifar10"], n_train=4, n_test=2, splits=lambda: {"nats_valid": halves})
    monkeypatch.setitem(ARCHIVES, "cifar10", small)
    file = saved(tmp_path, **packed(random_images(6)))
    data = load_data("npz", {"file": file, "train": 4, "like": "cifar10"})
    assert data.mean == tuple(mean / 255 for mean in (125.3, 123.0, 113.9))
    assert data.std == tuple(std / 255 for std in (63.0, 62.1, 66.7))
    validation = split(data, "nats_valid").validation
    assert validation is not None
    assert torch.equal(validation.images, data.train.images[[1, 3]])
    with pytest.raises(DataError, match=r"some\.npz: like: cifar10 has 4 images .* here are 3 and"):
        load_data("npz", {"file": file, "train": 3, "like": "cifar10"})
    with pytest.raises(NasError, match=r"no published data set named 'cifar'\. Did you mean"):
        load_data("npz", {"file": file, "train": 4, "like": "cifar"})


def test_a_limit_cuts_the_splits_and_statistics_of_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    halves = Split(np.array([0, 1, 0, 1], np.uint8), np.array([2, 2], np.uint8))
    small = replace(ARCHIVES["cifar10"], n_train=4, n_test=2, splits=lambda: {"nats_valid": halves})
    monkeypatch.setitem(ARCHIVES, "cifar10", small)
    images = random_images(6)
    options = {"file": saved(tmp_path, **packed(images)), "train": 4, "limit": 1}
    plain = load_data("npz", options)
    assert plain.mean == Statistics.of(images[:2].transpose(0, 3, 1, 2)).mean
    alike = load_data("npz", options | {"like": "cifar10"})
    assert torch.equal(alike.train.images, plain.train.images)
    parts = split(alike, "nats_valid")
    assert parts.validation is not None
    assert torch.equal(parts.validation.images, plain.train.images[1:])
