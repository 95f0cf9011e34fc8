"""SWAP: how many different answers the ReLU units give to a minibatch.

    p_v      = signs of unit v (a channel at a position of a ReLU map) over the M images
    swap     = number of distinct p_v in the network
    swap_reg = swap * exp( - (T - mu)^2 / sigma ),   T = weights in millions

Peng et al., "SWAP-NAS: Sample-Wise Activation Patterns for Ultra-fast NAS", ICLR 2024,
https://arxiv.org/abs/2403.04161, definitions 3.2 to 3.5. Reads one minibatch, forward only,
batch-norms in train mode.

mu and sigma are settings of the paper for each space, which we could not obtain. Our defaults lie
above every network here, so that the factor rises with size throughout; that, too, is how the
paper uses it. T counts weights of convolutions and linear layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.networks.events import Event
from nas.proxies.base import Conditions, NoOptions, Proxy

if TYPE_CHECKING:
    from torch import Tensor

    from nas.proxies.routes import Networks

_ODD = 0x9E3779B97F4A7C15 - 2**64  # as a signed number


@dataclass(frozen=True)
class SwapRegOptions:
    """Settings of regularised SWAP, in millions of weights.

    Attributes:
        mu: Size that is not penalised.
        sigma: Width of the penalty, not squared.
    """

    mu: float = 40.0
    sigma: float = 40.0

    def __post_init__(self) -> None:
        if self.sigma <= 0:
            raise ValueError(f"sigma must be positive, got {self.sigma}")


def packed(rows: Tensor) -> Iterator[Tensor]:
    """Return the signs along the second dimension as 64-bit words.

    Args:
        rows: ``(K, B, V)``; positive is a set bit.

    Returns:
        ``(K, V)`` int64 for every 64 of the B bits.
    """
    import torch

    bits = (rows > 0).long()
    for start in range(0, bits.shape[1], 64):
        part = bits[:, start : start + 64]
        places = torch.arange(part.shape[1], device=part.device)
        yield (part << places[:, None]).sum(dim=1)


def mixed(words: Tensor) -> Tensor:
    """Scramble 64-bit words, each value to another one."""
    words = (words ^ ((words >> 32) & 0xFFFFFFFF)) * _ODD
    return (words ^ ((words >> 29) & 0x7FFFFFFFF)) * _ODD


def without_sign(features: Tensor) -> Tensor:
    """Tell which of K maps hold a NaN, ``(K,)``: it is neither positive nor not."""
    return features.flatten(1).isnan().any(dim=1)


class _Swap:
    """Collects the distinct patterns of every network."""

    roles = frozenset({"relu"})

    def __init__(
        self, networks: Networks, conditions: Conditions, options: NoOptions | SwapRegOptions
    ) -> None:
        import torch

        self.totals = torch.zeros(networks.rows, dtype=torch.float64, device=conditions.device)
        self._odd = torch.zeros(networks.rows, dtype=torch.bool, device=conditions.device)
        self._networks = networks
        self._options = options
        self._found: list[list[Tensor]] = [[] for _ in range(networks.rows)]

    def wants(self, channels: int, positions: int) -> bool:
        return True

    def hear(self, event: Event) -> None:
        import torch

        self._odd[event.archs] |= without_sign(event.features)
        first, *rest = packed(event.features.flatten(2))  # (K, V) each
        for words in rest:  # up to 64 images the words are the patterns; above, hashes of them
            first = mixed(first) + words
        for arch, patterns in zip(event.archs.tolist(), first, strict=True):
            self._found[arch].append(torch.unique(patterns))

    def scores(self) -> Tensor:
        import torch

        for row, patterns in enumerate(self._found):
            self.totals[row] = len(torch.unique(torch.cat(patterns))) if patterns else 0
        if isinstance(self._options, SwapRegOptions):
            size = torch.zeros_like(self.totals)
            for archs, weight in self._networks.weights():
                size[archs] += weight.numel() / 1e6
            distance = (size - self._options.mu).square() / self._options.sigma
            self.totals = self.totals * torch.exp(-distance)
        return self.totals.masked_fill(self._odd, torch.nan)


_PAPER = "https://arxiv.org/abs/2403.04161"

SWAP = Proxy(
    name="swap",
    summary="SWAP: number of distinct sign patterns of ReLU units over a minibatch",
    paper=_PAPER,
    reads=frozenset({"images"}),
    listener=_Swap,
    sees="minibatch",
)
SWAP_REG = Proxy(
    name="swap_reg",
    summary="SWAP times a factor of the network's size",
    paper=_PAPER,
    reads=frozenset({"images"}),
    options=SwapRegOptions,
    listener=_Swap,
    sees="minibatch",
)
