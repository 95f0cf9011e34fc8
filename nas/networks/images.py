"""Images and labels for untrained networks: noise from a seed, a file, or a loader.

Letters: M images of a minibatch, H W size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from nas.reading import read_arrays
from nas.seeds import torch_generator
from spaces.errors import NasError

#: Per-channel mean and standard deviation of CIFAR-10's training images, for images of a file.
CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR_STD = (0.2470, 0.2435, 0.2616)


#: What a file of images may unpack to: ten times all of CIFAR-10 in float32.
MAX_BYTES = 8 * 2**30


class Images(Protocol):
    """Where the inputs of one repeat come from."""

    def first(self) -> Tensor:
        """Return the one image of proxies that read a single one, ``(1, C, H, W)``."""

    def minibatch(self, number: int) -> tuple[Tensor, Tensor | None]:
        """Return the images ``(M, C, H, W)`` and labels ``(M,)`` of one minibatch."""

    def noise(self, count: int, *names: str | int) -> Tensor:
        """Return standard normal noise of the images' shape, ``(count, C, H, W)``."""


@dataclass(frozen=True)
class SeededImages:
    """Noise with random labels, or images of a file with its labels.

    Attributes:
        seed: Seed of noise, labels and draws.
        repeat: Each has images of its own.
        shape: ``(C, H, W)`` of an image.
        count: M, images per minibatch.
        classes: Labels are below this number; None where the network's width is not known.
        path: A file for :func:`load_images`; None is noise.
    """

    seed: int
    repeat: int
    shape: tuple[int, ...]
    count: int
    classes: int | None
    path: str | None = None

    def first(self) -> Tensor:
        if self.path is None:
            rng = torch_generator(self.seed, "images", self.repeat)
            return torch.randn((1, *self.shape), generator=rng)
        images, _ = load_images(self.path)
        return self._fit(images[[self.repeat % len(images)]])

    def minibatch(self, number: int) -> tuple[Tensor, Tensor | None]:
        if self.path is None:
            labels = None
            if self.classes is not None:
                rng = torch_generator(self.seed, "labels", self.repeat, number)
                labels = torch.randint(self.classes, (self.count,), generator=rng)
            return self.noise(self.count, "minibatch", number), labels
        images, known = load_images(self.path)
        if len(images) < self.count:
            raise NasError(
                f"images: {self.path!r} holds {len(images)} images, a minibatch takes {self.count}"
            )
        rng = torch_generator(self.seed, "draw", self.repeat)
        order = torch.randperm(len(images), generator=rng)
        places = (torch.arange(self.count) + number * self.count) % len(images)
        chosen = order[places]
        labels = None if known is None else known[chosen]
        if labels is not None and self.classes is not None and int(labels.max()) >= self.classes:
            raise NasError(
                f"images: {self.path!r} holds the label {int(labels.max())}, but num_classes is "
                f"{self.classes}"
            )
        return self._fit(images[chosen]), labels

    def noise(self, count: int, *names: str | int) -> Tensor:
        rng = torch_generator(self.seed, "images", self.repeat, *names)
        return torch.randn((count, *self.shape), generator=rng)

    def _fit(self, images: Tensor) -> Tensor:
        if images.shape[2:] == self.shape[1:]:
            return images
        return nn.functional.interpolate(
            images, size=self.shape[1:], mode="bilinear", antialias=True
        )


@dataclass(frozen=True)
class LoadedImages(SeededImages):
    """Minibatches of a loader, in its order; what else is drawn comes from the seed.

    Attributes:
        taken: All images ``(n, C, H, W)`` and labels ``(n,)`` that the minibatches are cut from.
    """

    taken: tuple[Tensor, Tensor | None] = (torch.empty(0), None)

    def first(self) -> Tensor:
        return self.taken[0][:1]

    def minibatch(self, number: int) -> tuple[Tensor, Tensor | None]:
        images, labels = self.taken
        start = number * self.count
        if len(images) < start + self.count:
            raise NasError(
                f"loader: {len(images)} images, but minibatch {number + 1} of {self.count} is "
                "asked for; give a loader of more images or a smaller minibatch"
            )
        part = slice(start, start + self.count)
        return images[part], None if labels is None else labels[part]


def take(loader: Iterable[object], count: int) -> tuple[Tensor, Tensor | None]:
    """Take the first ``count`` images, and their labels if it has any, from a loader.

    Args:
        loader: Anything that yields batches: ``(images, labels)``, ``(images, labels, ...)``, a
            dictionary with ``images`` (or ``image``, ``x``) and ``labels`` (``label``, ``y``), or
            images alone, such as a ``torch.utils.data.DataLoader``.
        count: How many; fewer if the loader ends.

    Raises:
        NasError: A batch of another form, or no batch at all.
    """
    images: list[Tensor] = []
    labels: list[Tensor] = []
    for batch in loader:
        some, its = _split(batch)
        images.append(some)
        if its is not None:
            labels.append(its)
        if sum(map(len, images)) >= count:
            break
    if not images:
        raise NasError("loader: it yields no batch")
    known = torch.cat(labels)[:count].long() if len(labels) == len(images) else None
    return torch.cat(images)[:count], known


def _split(batch: object) -> tuple[Tensor, Tensor | None]:
    if isinstance(batch, Mapping):
        images = next((batch[key] for key in ("images", "image", "x") if key in batch), None)
        labels = next((batch[key] for key in ("labels", "label", "y") if key in batch), None)
    elif isinstance(batch, tuple | list):
        images, labels = batch[0], batch[1] if len(batch) > 1 else None
    else:
        images, labels = batch, None
    if not isinstance(images, Tensor) or images.dim() < 2:
        raise NasError(
            f"loader: expected batches of (images, labels) as tensors, got {type(batch).__name__}"
        )
    if labels is None:
        return images, None
    whole = isinstance(labels, Tensor) and not labels.is_floating_point()
    if not whole or labels.shape != images.shape[:1] or bool((labels < 0).any()):
        got = type(labels).__name__
        if isinstance(labels, Tensor):
            got = f"{labels.dtype} of shape {tuple(labels.shape)}, {len(images)} images"
        raise NasError(f"loader: labels must be a tensor of one class number per image, got {got}")
    return images, labels


@lru_cache(maxsize=4)
def load_images(path: str) -> tuple[Tensor, Tensor | None]:
    """Read images ``(N, 3, H, W)``, normalised as CIFAR-10 is, and labels ``(N,)`` from a file.

    ``.npy`` or ``.npz`` (array ``images`` or ``x_train``, or the only one): uint8
    ``(N, H, W, 3)`` or ``(N, 3, H, W)``, normalised here, or float32 ``(N, 3, H, W)``, taken as
    it is. Labels are the array ``labels`` or ``y_train`` of an ``.npz``. Anything else is opened
    as one picture by Pillow.

    Raises:
        NasError: No such file, or not images.
    """
    file = Path(path)
    if not file.is_file():
        raise NasError(f"images: no file {path!r}")
    try:
        array, labels = _read_arrays(file)
    except (OSError, ValueError, SyntaxError) as error:
        raise NasError(f"images: cannot read {path!r}: {error}") from None
    if array.ndim == 3:
        array = array[None]
    if array.ndim == 4 and array.shape[1] != 3 and array.shape[3] == 3:
        array = array.transpose(0, 3, 1, 2)
    if array.ndim != 4 or array.shape[1] != 3 or not len(array):
        raise NasError(f"images: {path!r} holds shape {array.shape}, expected (N, 3, H, W)")
    if labels is not None and labels.shape != array.shape[:1]:
        raise NasError(f"images: {path!r} has {len(array)} images, but labels {labels.shape}")
    known = None if labels is None else torch.from_numpy(labels.astype(np.int64))
    if array.dtype == np.uint8:
        scaled = torch.from_numpy(np.ascontiguousarray(array)).float() / 255.0
        mean, std = torch.tensor(CIFAR_MEAN), torch.tensor(CIFAR_STD)
        return (scaled - mean[:, None, None]) / std[:, None, None], known
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)), known


_Array = np.ndarray[tuple[int, ...], np.dtype[np.generic]]


def _read_arrays(file: Path) -> tuple[_Array, _Array | None]:
    if file.suffix in (".npy", ".npz"):
        arrays = read_arrays(file, MAX_BYTES)
        if len(arrays) == 1:
            return next(iter(arrays.values())), None
        images = next((arrays[name] for name in ("images", "x_train") if name in arrays), None)
        if images is None:
            raise ValueError(f"no array 'images' or 'x_train' among {', '.join(arrays) or 'none'}")
        return images, next(
            (arrays[name] for name in ("labels", "y_train") if name in arrays), None
        )
    from PIL import Image  # comes with matplotlib

    try:
        with Image.open(file) as picture:
            return np.asarray(picture.convert("RGB"))[None], None
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from None
