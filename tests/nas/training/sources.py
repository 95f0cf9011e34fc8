"""A tiny data set of every kind in the table, made in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from nas.training.images import Bytes
from tests.nas.training.official import tiny, unpacked


def random_images(n: int, size: int = 12, seed: int = 0) -> Bytes:
    """Return uint8 images ``(n, size, size, 3)``."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8)


class TinyDataset(torch.utils.data.Dataset[tuple[Image.Image, int]]):
    """Twelve pictures in three classes."""

    seed = 0

    def __len__(self) -> int:
        return 12

    def __getitem__(self, place: int) -> tuple[Image.Image, int]:
        return Image.fromarray(random_images(12, seed=self.seed)[place]), place % 3


class TinyTest(TinyDataset):
    """Twelve other ones."""

    seed = 1


def npz(folder: Path) -> dict[str, Any]:
    np.savez(
        folder / "tiny.npz",
        x_train=random_images(12),
        y_train=np.arange(12) % 3,
        x_test=random_images(6, seed=1),
        y_test=np.arange(6) % 3,
    )
    return {"file": str(folder / "tiny.npz")}


def pictures(folder: Path) -> dict[str, Any]:
    for part in ("train", "test"):
        for at, image in enumerate(random_images(12, size=40)):
            name = folder / part / f"class_{at % 3}" / f"{at:02d}.png"
            name.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(name)
    return {"root": str(folder), "resolution": 16}


def official(name: str) -> Callable[[Path], dict[str, Any]]:
    def make(folder: Path) -> dict[str, Any]:
        archive, files, _ = tiny(name)
        unpacked(folder / archive.folder, files)
        return {"root": str(folder)}

    return make


#: Makes a tiny data set in a folder and returns the options to read it with, by source.
SOURCES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "digits": lambda folder: {},
    "cifar10": official("cifar10"),
    "cifar100": official("cifar100"),
    "imagenet16_120": official("imagenet16_120"),
    "folder": pictures,
    "npz": npz,
    "dataset": lambda folder: {
        "train": "tests.nas.training.sources:TinyDataset",
        "test": "tests.nas.training.sources:TinyTest",
    },
}
