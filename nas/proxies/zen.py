"""Zen-score: how strongly the last feature map answers a small change of the image.

    score = ln E|| f(x) - f(x + a e) ||
          + sum over batch-norms of  ln sqrt( mean over channels of s^2 )

f is the last feature map before global pooling, x and e are standard normal noise, a = 0.01, s^2
the variance that a batch-norm finds in its channel, E the mean over the minibatch, all weights
standard normal. The second term puts back the scale that batch-norms take out. Lin et al.,
"Zen-NAS: A Zero-Shot NAS for High-Performance Image Recognition", ICCV 2021,
https://arxiv.org/abs/2102.01063, eq. 4 and algorithm 1. Reads noise of its own, forward only.

Deviations from the authors' code: the variance is that of the minibatch, as in the paper; there it
is the running average, which after two passes is four fifths its initial 1. x and x + a e are one
minibatch of twice the size, so that one variance serves both. The norm is Euclidean, as in the
paper; in the code it is the sum of absolute values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.networks.events import Event
from nas.proxies.base import Conditions, Proxy

if TYPE_CHECKING:
    from torch import Tensor

    from nas.networks.images import Images
    from nas.proxies.routes import Networks


@dataclass(frozen=True)
class ZenOptions:
    """Settings of the Zen-score.

    Attributes:
        change: Size of the change, a.
    """

    change: float = 0.01


def _pairs(images: Images, conditions: Conditions, options: ZenOptions) -> Tensor:
    import torch

    before, change = images.noise(2 * conditions.minibatch, "zen").chunk(2)
    return torch.cat([before, before + options.change * change])


class _Zen:
    """Adds up the scales of batch-norms, and takes the difference of the last map."""

    roles = frozenset({"normalised", "last"})

    def __init__(self, networks: Networks, conditions: Conditions, options: ZenOptions) -> None:
        import torch

        self.totals = torch.full(
            (networks.rows,), -torch.inf, dtype=torch.float64, device=conditions.device
        )
        self._scales = torch.zeros_like(self.totals)

    def wants(self, channels: int, positions: int) -> bool:
        return True

    def hear(self, event: Event) -> None:
        if "last" in event.counts:
            before, after = event.features.chunk(2, dim=1)
            change = (after - before).flatten(2).norm(dim=2).mean(dim=1).double()
            self.totals[event.archs] = change.log()
            return
        flat = event.features.transpose(1, 2).flatten(2)  # (K, C, M * H * W)
        variance = flat.var(dim=2, correction=0).mean(dim=1).double()
        self._scales.index_add_(0, event.archs, variance.log() / 2)

    def scores(self) -> Tensor:
        return self.totals + self._scales


ZEN = Proxy(
    name="zen",
    summary="Zen-score: answer of the last feature map to a small change of a noise image",
    paper="https://arxiv.org/abs/2102.01063",
    reads=frozenset({"noise"}),
    options=ZenOptions,
    listener=_Zen,
    sees="own",
    own=_pairs,
    weights="gaussian",
    undefined="the last feature map does not depend on the image",
)
