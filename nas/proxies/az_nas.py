"""AZ-NAS: expressivity, progressivity and trainability of the blocks of a network.

    f_l             features of block l, C channels at M * H * W places; v its principal values,
                    eigenvalues of the C x C covariance, divided by their sum
    H_l             = - sum over v of v ln v
    expressivity    = sum over l of H_l
    progressivity   = min over l > 1 of (H_l - H_{l-1})
    A_l             = E[ u w^T ],  w random signs put at the output of block l, u what arrives at
                    its input by backpropagation; E over images and places
    s_l             largest singular value of A_l
    trainability    = mean over l > 1 of (2 - s_l - 1 / s_l)

The fourth, complexity, is ``flops``. Lee, Ham, "AZ-NAS: Assembling Zero-Cost Proxies for Network
Architecture Search", CVPR 2024, https://arxiv.org/abs/2403.19232, eqs. 1 to 10; the four are joined
by the sum of logarithms of relative ranks (eq. 12): :func:`nas.statistics.log_rank`, and ``nas rank
--join``. Read one minibatch, batch-norms in train mode; trainability reads gradients by feature
maps. The paper's images are noise, as they are here unless a file is given; on real images
progressivity says little. Written from descriptions of the paper's equations, not from code.

Blocks are cells and reductions, or what a network strings together
(:func:`nas.networks.module.blocks_of`); the stem is none. Where a block lowers the resolution, u is
averaged over the places that w's stand for. PyTorch's initialisation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.networks.events import Event
from nas.proxies.base import Conditions, NoOptions, Proxy

if TYPE_CHECKING:
    from torch import Tensor

    from nas.proxies.routes import Networks, Subject


def entropy_of_components(features: Tensor) -> Tensor:
    """Return the entropy H of the principal values of the channels, ``(K,)`` in float64.

    Args:
        features: ``(K, M, C, H, W)``. NaN where they are constant.
    """
    import torch

    flat = features.transpose(1, 2).flatten(2)  # (K, C, M * H * W)
    flat = flat - flat.mean(dim=2, keepdim=True)
    values = torch.linalg.eigvalsh((flat @ flat.mT).double()).clamp_min(0.0)
    share = values / values.sum(dim=1, keepdim=True)
    entropy: Tensor = -torch.special.xlogy(share, share).sum(dim=1)
    return entropy


class _Expressivity:
    """Adds up the entropies of the blocks."""

    roles = frozenset({"block"})

    def __init__(self, networks: Networks, conditions: Conditions, options: NoOptions) -> None:
        import torch

        self.totals = torch.full(
            (networks.rows,), torch.nan, dtype=torch.float64, device=conditions.device
        )
        self._entropies: list[Tensor] = []

    def wants(self, channels: int, positions: int) -> bool:
        return True

    def hear(self, event: Event) -> None:
        self._entropies.append(entropy_of_components(event.features))

    def scores(self) -> Tensor:
        import torch

        if self._entropies:
            self.totals = self._join(torch.stack(self._entropies))
        return self.totals

    def _join(self, entropies: Tensor) -> Tensor:
        return entropies.sum(dim=0)


class _Progressivity(_Expressivity):
    """Takes the smallest rise from one block to the next."""

    def _join(self, entropies: Tensor) -> Tensor:
        import torch

        if len(entropies) < 2:
            return self.totals
        rises = entropies.diff(dim=0)
        return torch.where(rises.isnan().any(dim=0), torch.nan, rises.amin(dim=0))


def _trainability(subject: Subject, options: NoOptions) -> Tensor:
    import torch
    import torch.nn.functional as F

    from nas.networks.forward import ForwardError
    from nas.seeds import torch_generator

    run = subject.minibatch()
    if len(run.blocks) < 2:
        raise ForwardError("trainability needs two building blocks at least")
    terms = []
    for number, block in enumerate(run.blocks[1:], start=1):
        rng = torch_generator(subject.conditions.seed, "az_trainability", number)
        # the same signs for every network, as all else that is drawn
        signs = torch.randint(2, block.shape[-4:], generator=rng).to(block) * 2 - 1
        arrived = run.through_block(number, signs)  # (K, M, C_in, H, W)
        pooled = F.adaptive_avg_pool2d(arrived.flatten(0, 1), (signs.shape[2], signs.shape[3]))
        u = pooled.view(*arrived.shape[:3], -1).transpose(1, 2).flatten(2)  # (K, C_in, places)
        w = signs.transpose(0, 1).flatten(1)  # (C, places)
        jacobian = (u @ w.mT).double() / w.shape[1]
        largest = torch.linalg.matrix_norm(jacobian, 2)
        terms.append(2 - largest - 1 / largest)
    return torch.stack(terms).mean(dim=0)


_PAPER = "https://arxiv.org/abs/2403.19232"

AZ_EXPRESSIVITY = Proxy(
    name="az_expressivity",
    summary="AZ-NAS: entropy of the principal components of each block, summed up",
    paper=_PAPER,
    reads=frozenset({"images"}),
    listener=_Expressivity,
    sees="minibatch",
    undefined="no building block, or the output of one is constant",
)
AZ_PROGRESSIVITY = Proxy(
    name="az_progressivity",
    summary="AZ-NAS: smallest rise of that entropy from one block to the next",
    paper=_PAPER,
    reads=frozenset({"images"}),
    listener=_Progressivity,
    sees="minibatch",
    undefined="fewer than two building blocks, or the output of one is constant",
)
AZ_TRAINABILITY = Proxy(
    name="az_trainability",
    summary="AZ-NAS: how close the gradient's way through each block is to keeping its length",
    paper=_PAPER,
    reads=frozenset({"images", "gradients"}),
    gauge=_trainability,
    undefined="no gradient passes a block",
)
