"""Decorrelation: how little the channels that leave each building block repeat one another.

    decorrelation = mean over blocks b of  mean over groups g of  ln det P_g(f_b)

f_b is the map that leaves block b, over the blocks that keep the resolution: a reduction is built
alike in all architectures of a space, so that its output adds little but noise. P_g is the Pearson
correlation matrix of a group of n = 8 of its channels over their positions, eigenvalues below 1e-6
taken as 1e-6. The C channels are dealt out into C // n groups (channel i goes to group i mod
C // n; what is left over is not looked at), so that all of them count, none is drawn, and the size
of the matrix does not depend on the width.

For Gaussian channels -1/2 ln det P is their total correlation (Watanabe 1960, "Information
theoretical analysis of multivariate correlation", https://doi.org/10.1147/rd.41.0066): what is
known of one channel from the others, in nats. MeCo asks the same of the worst direction inside a
block; this asks all directions what has survived the whole of it. The atom, with one drawn group,
was found for this project; it is from no paper. Reads one image, forward only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.networks.events import Event
from nas.proxies.base import Conditions, Proxy

if TYPE_CHECKING:
    from torch import Tensor

    from nas.proxies.routes import Networks

#: Eigenvalues below are taken as this: what rounding leaves of 0 must not decide.
FLOOR = 1e-6


@dataclass(frozen=True)
class DecorrelationOptions:
    """Settings of the decorrelation.

    Attributes:
        channels: Channels per group, n; all of them where a map has fewer.
    """

    channels: int = 8

    def __post_init__(self) -> None:
        if self.channels < 2:
            raise ValueError(f"channels must be at least 2, got {self.channels}")


def log_volume(features: Tensor, size: int) -> Tensor:
    """Return the mean of ln det P over the groups of channels, ``(K,)`` in float64.

    Args:
        features: ``(K, C, H, W)``.
        size: Channels per group, at most C.
    """
    import torch

    from nas.proxies.spectrum import correlation

    count, channels = features.shape[:2]
    groups = channels // size
    dealt = features[:, : groups * size].unflatten(1, (size, groups)).transpose(1, 2)
    matrices, _ = correlation(dealt.flatten(0, 1))  # (K * groups, n, n)
    values = torch.linalg.eigvalsh(matrices.double()).clamp_min(FLOOR)
    volume: Tensor = values.log().sum(dim=1).view(count, groups).mean(dim=1)
    return volume


class _Decorrelation:
    """Adds up the volumes of the blocks, and how many there were."""

    roles = frozenset({"block"})

    def __init__(
        self, networks: Networks, conditions: Conditions, options: DecorrelationOptions
    ) -> None:
        import torch

        self.totals = torch.zeros((networks.rows, 2), dtype=torch.float64, device=conditions.device)
        self._size = options.channels

    def wants(self, channels: int, positions: int) -> bool:
        return 2 <= min(channels, self._size) <= positions - 1  # no volume otherwise

    def hear(self, event: Event) -> None:
        import torch

        if not event.keeps_resolution():
            return
        maps = event.maps[:, 0]
        volume = event.of_each(log_volume(maps, min(self._size, maps.shape[1])))
        self.totals.index_add_(0, event.archs, torch.stack([volume, torch.ones_like(volume)], 1))

    def scores(self) -> Tensor:
        return self.totals[:, 0] / self.totals[:, 1]


DECORRELATION = Proxy(
    name="decorrelation",
    summary="How little the channels that leave each block repeat one another (log determinant)",
    paper="none; found for this project. See nas/proxies/decorrelation.py",
    reads=frozenset({"images"}),
    options=DecorrelationOptions,
    listener=_Decorrelation,
    additive=True,
    undefined="no building block keeps the resolution, with channels and positions enough",
)
