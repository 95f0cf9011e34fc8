"""Seeded weights and images: common random numbers for every architecture of a space.

A weight depends on the seed, on its name and on its shape, not on which network holds it. Two
architectures therefore share what they have in common, which takes noise out of comparisons, and a
network that runs many architectures at once can use the very weights of each.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nas.seeds import torch_generator
from spaces.errors import NasError

#: Channels are drawn for this width at least and cut to the layer's, so that networks that differ
#: in width share weights too.
WIDEST = 64

#: Per-channel mean and standard deviation of CIFAR-10's training images, for images of a file.
CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR_STD = (0.2470, 0.2435, 0.2616)


@lru_cache(maxsize=1024)
def _drawn(seed: int, name: str, shape: tuple[int, ...]) -> Tensor:
    """Draw uniform numbers in [-1, 1), float32; the caller only reads them."""
    draws = torch.rand(shape, generator=torch_generator(seed, "weights", name))
    return draws.mul_(2.0).sub_(1.0)


def layer_weight(seed: int, name: str, shape: tuple[int, ...]) -> Tensor:
    """Return the weight of a convolution or linear layer in PyTorch's default distribution.

    Uniform in +-1/sqrt(fan-in), as ``nn.Conv2d`` and ``nn.Linear`` draw it.

    Args:
        seed: Seed of the weights.
        name: Dotted name of the layer in its network.
        shape: ``(C_out, C_in, ...)``.
    """
    c_out, c_in, *kernel = shape
    # The three channels of an image are the same in every network; other inputs vary in width.
    widest = (max(WIDEST, c_out), max(WIDEST, c_in) if c_in > 3 else c_in, *kernel)
    return _drawn(seed, name, widest)[:c_out, :c_in] / math.sqrt(math.prod(shape[1:]))


@torch.no_grad()
def seed_weights(net: nn.Module, seed: int) -> None:
    """Overwrite every weight of ``net`` with the seeded one of its name; norms become identities.

    Args:
        net: Changed in place.
        seed: Seed of the weights.
    """
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.copy_(layer_weight(seed, name, tuple(module.weight.shape)))
            if module.bias is not None:
                bound = 1.0 / math.sqrt(math.prod(module.weight.shape[1:]))
                draw = _drawn(seed, f"{name}.bias", (len(module.bias), 1))[: len(module.bias), 0]
                module.bias.copy_(draw * bound)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()


def draw_images(
    seed: int, repeat: int, resolution: int, path: str | None, *, count: int = 1
) -> Tensor:
    """Return the input of one repeat, ``(count, 3, resolution, resolution)`` float32.

    Args:
        seed: Seed of the images.
        repeat: Which repeat; each has images of its own.
        resolution: Height and width in pixels.
        path: ``None`` for standard normal noise, else a file of images: see :func:`load_images`.
        count: How many images.
    """
    if path is None:
        rng = torch_generator(seed, "images", repeat)
        return torch.randn((count, 3, resolution, resolution), generator=rng)
    images = load_images(path)
    chosen = (torch.arange(count) + repeat * count) % len(images)
    images = images[chosen]
    if images.shape[2:] != (resolution, resolution):
        images = nn.functional.interpolate(
            images, size=(resolution, resolution), mode="bilinear", antialias=True
        )
    return images


@lru_cache(maxsize=4)
def load_images(path: str) -> Tensor:
    """Read images from a file and normalise them as CIFAR-10 is, ``(N, 3, H, W)`` float32.

    ``.npy`` or ``.npz`` (array ``images`` or ``x_train``, or the only one): uint8
    ``(N, H, W, 3)`` or ``(N, 3, H, W)``, normalised here, or float32 ``(N, 3, H, W)``, taken as
    it is. Anything else is opened as one picture by Pillow.

    Raises:
        NasError: No such file, or not images.
    """
    file = Path(path)
    if not file.is_file():
        raise NasError(f"images: no file {path!r}")
    try:
        array = _read_array(file)
    except (OSError, ValueError) as error:
        raise NasError(f"images: cannot read {path!r}: {error}") from error
    if array.ndim == 3:
        array = array[None]
    if array.ndim == 4 and array.shape[1] != 3 and array.shape[3] == 3:
        array = array.transpose(0, 3, 1, 2)
    if array.ndim != 4 or array.shape[1] != 3 or not len(array):
        raise NasError(f"images: {path!r} holds shape {array.shape}, expected (N, 3, H, W)")
    if array.dtype == np.uint8:
        scaled = torch.from_numpy(np.ascontiguousarray(array)).float() / 255.0
        mean, std = torch.tensor(CIFAR_MEAN), torch.tensor(CIFAR_STD)
        return (scaled - mean[:, None, None]) / std[:, None, None]
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _read_array(file: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    if file.suffix == ".npy":
        return np.asarray(np.load(file, allow_pickle=False))
    if file.suffix == ".npz":
        with np.load(file, allow_pickle=False) as archive:
            names = archive.files
            name = next((name for name in ("images", "x_train") if name in names), names[0])
            if name not in ("images", "x_train") and len(names) > 1:
                raise ValueError(f"no array 'images' or 'x_train' among {', '.join(names)}")
            return np.asarray(archive[name])
    from PIL import Image  # comes with matplotlib

    with Image.open(file) as picture:
        return np.asarray(picture.convert("RGB"))[None]
