"""Real images, where they are at hand: CIFAR-10 as JPEG files against exact ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nas.training.archives import ARCHIVES
from nas.training.data import load_data
from nas.training.images import Bytes
from nas.training.splits import split


def psnr(some: Bytes, exact: Bytes) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the peak signal-to-noise ratio of every image, in decibels, ``(N,)``."""
    error = (some.astype(np.float64) - exact.astype(np.float64)) ** 2
    ratio: np.ndarray[tuple[int], np.dtype[np.float64]] = 10 * np.log10(
        255**2 / error.mean(axis=(1, 2, 3))
    )
    return ratio


def test_exact_images_are_read_from_an_npz_file(shared_data: Path) -> None:
    data = load_data("npz", {"file": str(shared_data / "cifar10_lossless_subset.npz")})
    assert (len(data.train), len(data.test), data.shape) == (8336, 1017, (3, 32, 32))
    with np.load(shared_data / "cifar10_lossless_subset.npz") as arrays:
        assert np.array_equal(data.train.images.permute(0, 2, 3, 1).numpy(), arrays["x_train"])
        assert data.test.labels.tolist() == arrays["y_test"].tolist()
    # the benchmark's statistics of all 50,000, within the error of a sixth of them
    archive = ARCHIVES["cifar10"]
    assert np.allclose(np.multiply(data.mean, 255), archive.mean_255, atol=2)
    assert np.allclose(np.multiply(data.std, 255), archive.std_255, atol=2)


def test_pictures_in_a_blob_are_in_the_official_order(shared_data: Path) -> None:
    file = str(shared_data / "cifar10_jpeg_blobs.npz")
    data = load_data("npz", {"file": file, "train": 50_000, "limit": 20})
    assert (len(data.train), len(data.test)) == (200, 200)
    with np.load(file) as arrays:
        labels = arrays["labels"].astype(np.int64)
    first = np.sort(np.concatenate([np.flatnonzero(labels[:50_000] == k)[:20] for k in range(10)]))
    assert data.train.labels.tolist() == labels[first].tolist()
    with np.load(shared_data / "cifar10_lossless_subset.npz") as arrays:
        _, mine, exact = np.intersect1d(first, arrays["idx_train"], return_indices=True)
        assert len(mine) > 15
        images = arrays["x_train"][exact]
        assert labels[first[mine]].tolist() == arrays["y_train"][exact].tolist()
    found = psnr(data.train.images[torch.from_numpy(mine)].permute(0, 2, 3, 1).numpy(), images)
    assert found.min() > 22


@pytest.mark.slow
def test_all_60000_pictures(shared_data: Path) -> None:
    file = str(shared_data / "cifar10_jpeg_blobs.npz")
    data = load_data("npz", {"file": file, "train": 50_000})
    assert (len(data.train), len(data.test), data.shape) == (50_000, 10_000, (3, 32, 32))
    assert torch.bincount(data.train.labels).tolist() == [5000] * 10
    assert torch.bincount(data.test.labels).tolist() == [1000] * 10
    archive = ARCHIVES["cifar10"]
    assert np.allclose(np.multiply(data.mean, 255), archive.mean_255, atol=0.2)
    assert np.allclose(np.multiply(data.std, 255), archive.std_255, atol=0.6)  # JPEG smooths a bit
    ratios = []
    with np.load(shared_data / "cifar10_lossless_subset.npz") as arrays:
        for name, part in (("train", data.train), ("test", data.test)):
            places = torch.from_numpy(arrays[f"idx_{name}"].astype(np.int64))
            assert part.labels[places].tolist() == arrays[f"y_{name}"].tolist()
            some = part.images[places].permute(0, 2, 3, 1).numpy()
            ratios.append(psnr(some, arrays[f"x_{name}"]))
    assert 30 < np.median(np.concatenate(ratios)) < 31
    parts = split(data, 5000)
    assert parts.validation is not None
    assert torch.bincount(parts.validation.labels).tolist() == [500] * 10
