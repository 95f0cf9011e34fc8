"""NASWOT: in how many ways the network's ReLUs tell the images of a minibatch apart.

    c_n     = bits of image n: which units of all ReLUs are positive
    K_nm    = number of bits in which c_n and c_m agree
    nwot    = ln |det K|
    nwot_by_layer = sum over ReLU maps l of ln |det K_l|,  K_l from the bits of map l alone

Mellor et al., "Neural Architecture Search without Training", ICML 2021,
https://arxiv.org/abs/2006.04647. A ReLU map counts as often as it is taken (a node that three
convolutions read has three ReLUs). The form by layer is that of Xiang et al. (T-CET), "Exploiting
Network Compressibility and Topology in Zero-Cost NAS", AutoML 2023, as their toolkit has it, but on
the outputs of the ReLUs, whose bits NASWOT is about; theirs takes the outputs of convolutions.

Reads one minibatch, forward only, batch-norms in train mode. Two images of the same bits make K
singular: that is a failure, not a number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.networks.events import Event
from nas.proxies.base import Conditions, NoOptions, Proxy

if TYPE_CHECKING:
    from torch import Tensor

    from nas.proxies.routes import Networks


def agreement(features: Tensor) -> Tensor:
    """Return in how many bits each pair of images agrees, ``(K, M, M)`` in float64.

    Args:
        features: ``(K, M, C, H, W)``.
    """
    bits = (features.flatten(2) > 0).float()  # (K, M, C * H * W); exact below 2^24 bits
    ones = bits.sum(dim=2).double()
    both = (bits @ bits.mT).double()
    return bits.shape[2] - ones[:, :, None] - ones[:, None, :] + 2 * both


class _Nwot:
    """Adds up the agreement matrices of the maps that it hears."""

    roles = frozenset({"relu"})

    def __init__(self, networks: Networks, conditions: Conditions, options: NoOptions) -> None:
        import torch

        m = conditions.minibatch
        self.totals = torch.zeros(
            (networks.rows, m, m), dtype=torch.float64, device=conditions.device
        )

    def wants(self, channels: int, positions: int) -> bool:
        return True

    def hear(self, event: Event) -> None:
        counts = event.count(self.roles)
        if not isinstance(counts, int):
            counts = counts[:, None, None]
        self.totals.index_add_(0, event.archs, event.of_each(agreement(event.maps)) * counts)

    def scores(self) -> Tensor:
        return log_determinant(self.totals)


class _NwotByLayer(_Nwot):
    """Adds up the log determinants of the maps that it hears."""

    def __init__(self, networks: Networks, conditions: Conditions, options: NoOptions) -> None:
        import torch

        self.totals = torch.zeros(networks.rows, dtype=torch.float64, device=conditions.device)

    def hear(self, event: Event) -> None:
        value = event.of_each(log_determinant(agreement(event.maps)))
        self.totals.index_add_(0, event.archs, value * event.count(self.roles))

    def scores(self) -> Tensor:
        return self.totals


def log_determinant(matrices: Tensor) -> Tensor:
    """Return ln |det K| of integer matrices ``(K, M, M)``; -inf where it is 0."""
    import torch

    value = torch.linalg.slogdet(matrices).logabsdet
    # Rounding may leave a singular matrix of integers a determinant near 0, never one below 1.
    return torch.where(value < -0.5, -torch.inf, value)


NWOT = Proxy(
    name="nwot",
    summary="NASWOT: how well the ReLUs' signs tell images apart",
    paper="https://arxiv.org/abs/2006.04647",
    reads=frozenset({"images"}),
    listener=_Nwot,
    sees="minibatch",
    additive=True,
    undefined="two images set the same ReLUs",
)
NWOT_BY_LAYER = Proxy(
    name="nwot_by_layer",
    summary="NASWOT of every ReLU map by itself, summed up",
    paper="https://openreview.net/forum?id=kMGlgMlVOi9",
    reads=frozenset({"images"}),
    listener=_NwotByLayer,
    sees="minibatch",
    additive=True,
    undefined="two images set the same ReLUs of a map",
)
