"""Norm growth: whether the building blocks carry their input on and add to it.

    norm_growth = sum over blocks b of  ln( rms(f_b) / rms(x_b) )

x_b is what enters block b, f_b what leaves it, rms the root of the mean square over images,
channels and positions; over the blocks that keep the resolution. Random weights, batch-norms in
train mode. Reads one image, forward only.

Why. A branch that ends in a batch-norm has variance 1 whatever enters. A block that replaces its
input by such branches therefore has the same rms at every depth, and its growth is 0 after the
first; one that carries the input on and adds b branches has variance 1 + l b after l blocks. There
each branch is a share 1 / (1 + l b) of the stream: the network is near the identity, behaves like
a shallower one and passes gradients on (De & Smith 2020, "Batch Normalization Biases Residual
Blocks Towards the Identity Function in Deep Networks", https://arxiv.org/abs/2002.10444), where a
chain of batch-norms makes them explode with depth (Yang et al. 2019, "A Mean Field Theory of Batch
Normalization", https://arxiv.org/abs/1902.08129). So growth is about whether a network can be
trained, not about what it could express. Alone it says next to nothing, for a cell of skips grows
best; among cells that can express about the same it tells which one trains to the better optimum.

Found for this project; the formula is from no paper.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.networks.events import Event
from nas.proxies.base import Conditions, NoOptions, Proxy

if TYPE_CHECKING:
    from torch import Tensor

    from nas.proxies.routes import Networks


def root_mean_square(maps: Tensor) -> Tensor:
    """Return the rms of each map, ``(K, M, C, H, W)`` to ``(K,)`` in float64."""
    import torch

    # In the format of the maps: adding up in float64 takes five times as long, for the 7th digit.
    norms: Tensor = torch.linalg.vector_norm(maps.flatten(1), dim=1).double()
    return norms / float(maps[0].numel() ** 0.5)


class _NormGrowth:
    """Adds up the growth of the blocks, and how many there were."""

    roles = frozenset({"block"})

    def __init__(self, networks: Networks, conditions: Conditions, options: NoOptions) -> None:
        import torch

        self.totals = torch.zeros((networks.rows, 2), dtype=torch.float64, device=conditions.device)

    def wants(self, channels: int, positions: int) -> bool:
        return True

    def hear(self, event: Event) -> None:
        import torch

        if event.entered is None or not event.keeps_resolution():
            return
        gain = root_mean_square(event.maps) / root_mean_square(event.entered)
        growth = event.of_each(gain.log())
        self.totals.index_add_(0, event.archs, torch.stack([growth, torch.ones_like(growth)], 1))

    def scores(self) -> Tensor:
        # nothing heard is 0 / 0, no number
        return self.totals[:, 0] * (self.totals[:, 1] / self.totals[:, 1])


NORM_GROWTH = Proxy(
    name="norm_growth",
    summary="Whether blocks carry their input on and add to it; says something among good cells",
    paper="none; found for this project. See nas/proxies/norm_growth.py",
    reads=frozenset({"images"}),
    listener=_NormGrowth,
    additive=True,
    undefined="no building block keeps the resolution, or nothing arrives at one",
)
