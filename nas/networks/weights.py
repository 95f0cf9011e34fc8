"""Seeded weights: common random numbers for every architecture of a space.

A weight depends on the seed, on its name and on its shape, not on which network holds it. Two
architectures therefore share what they have in common, which takes noise out of comparisons, and a
network that runs many architectures at once can use the very weights of each.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor, nn

from nas.seeds import torch_generator

#: Channels are drawn for this width at least and cut to the layer's, so that networks that differ
#: in width share weights too.
WIDEST = 64

#: How weights are drawn: ``default`` as PyTorch does, uniform in +-1/sqrt(fan-in); ``positive``,
#: the same made positive; ``gaussian``, standard normal without a bias.
Kind = Literal["default", "positive", "gaussian"]

#: What enters a generator's name, so that the default draws keep the names they always had.
_STREAM: dict[Kind, str] = {"default": "weights", "positive": "weights", "gaussian": "gaussian"}


@lru_cache(maxsize=1024)
def _drawn(seed: int, name: str, shape: tuple[int, ...], kind: Kind) -> Tensor:
    """Draw standard numbers, float32; the caller only reads them."""
    rng = torch_generator(seed, _STREAM[kind], name)
    if kind == "gaussian":
        return torch.randn(shape, generator=rng)
    draws = torch.rand(shape, generator=rng).mul_(2.0).sub_(1.0)
    return draws.abs_() if kind == "positive" else draws


def layer_weight(seed: int, name: str, shape: tuple[int, ...], kind: Kind = "default") -> Tensor:
    """Return the weight of a convolution or linear layer.

    Args:
        seed: Seed of the weights.
        name: Dotted name of the layer in its network.
        shape: ``(C_out, C_in, ...)``.
        kind: How it is drawn.
    """
    c_out, c_in, *kernel = shape
    # The three channels of an image are the same in every network; other inputs vary in width.
    widest = (max(WIDEST, c_out), max(WIDEST, c_in) if c_in > 3 else c_in, *kernel)
    drawn = _drawn(seed, name, widest, kind)[:c_out, :c_in]
    return drawn if kind == "gaussian" else drawn / math.sqrt(math.prod(shape[1:]))


def layer_bias(seed: int, name: str, shape: tuple[int, ...], kind: Kind = "default") -> Tensor:
    """Return the bias ``(C_out,)`` of a layer whose weight has ``shape``."""
    if kind == "gaussian":
        return torch.zeros(shape[0])
    draw = _drawn(seed, f"{name}.bias", (shape[0], 1), kind)[:, 0]
    return draw / math.sqrt(math.prod(shape[1:]))


@torch.no_grad()
def seed_weights(net: nn.Module, seed: int, kind: Kind = "default") -> None:
    """Overwrite every weight of ``net`` with the seeded one of its name; norms become identities.

    Args:
        net: Changed in place.
        seed: Seed of the weights.
        kind: How they are drawn.
    """
    for name, module in net.named_modules():
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
            shape = tuple(module.weight.shape)
            module.weight.copy_(layer_weight(seed, name, shape, kind))
            if module.bias is not None:
                module.bias.copy_(layer_bias(seed, name, shape, kind))
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_parameters()
