"""Fisher: how much the loss would change if single channels were taken away.

    score = sum over layers, over channels c, of  n_c / 2 * mean over images of (sum over positions
            of a * dL/da)^2

a is the output of a convolution or linear layer, n_c the number of weights of channel c, L the mean
cross-entropy of one minibatch, batch-norms in train mode. Theis et al., "Faster gaze prediction
with dense networks and Fisher pruning", 2018, https://arxiv.org/abs/1801.05787; to choose blocks
Turner et al., "BlockSwap", ICLR 2020, https://arxiv.org/abs/1906.04113. Reads images, labels and
gradients by feature maps. Networks that share weights do not mix in those, so they run batched.

A channel counts as often as it has weights: so does the code of Abdelfattah et al. 2021,
https://arxiv.org/abs/2101.08134, who made it a proxy of whole networks, and of all who compare
with it. ``per_weight=false`` counts it once, as the papers about pruning do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.proxies.base import Proxy

if TYPE_CHECKING:
    from torch import Tensor

    from nas.proxies.routes import Subject


@dataclass(frozen=True)
class FisherOptions:
    """Settings of Fisher.

    Attributes:
        per_weight: Whether a channel counts as often as it has weights.
    """

    per_weight: bool = True


def _fisher(subject: Subject, options: FisherOptions) -> Tensor:
    import torch

    run = subject.minibatch()
    total = torch.zeros(run.count, dtype=torch.float64, device=run.images.device)
    for layer, gradient in run.layer_gradients():
        products = layer.by_position(layer.output.detach()) * layer.by_position(gradient)
        saliency = products.sum(dim=3).square().mean(dim=1) / 2  # (k, C)
        weights = 1
        if options.per_weight and layer.weight is not None:
            weights = layer.weight[0].numel()
        total.index_add_(0, layer.archs, saliency.double().sum(dim=1) * weights)
    return total


FISHER = Proxy(
    name="fisher",
    summary="Sensitivity of the loss to single channels, summed up",
    paper="https://arxiv.org/abs/1906.04113",
    reads=frozenset({"images", "labels", "gradients"}),
    options=FisherOptions,
    gauge=_fisher,
)
