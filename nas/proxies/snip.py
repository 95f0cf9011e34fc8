"""SNIP: how much the loss would change if single weights were taken away.

    score = sum over weights w of convolutions and linear layers of |w * dL/dw|

L is the mean cross-entropy of one minibatch, batch-norms in train mode. Lee et al., "SNIP:
Single-shot Network Pruning based on Connection Sensitivity", ICLR 2019,
https://arxiv.org/abs/1810.02340; summed up as a proxy by Abdelfattah et al. 2021,
https://arxiv.org/abs/2101.08134. Reads images, labels and the gradient by every weight, so networks
are run one by one.

Deviation: the gradient by the weight times the weight, in place of the gradient by a mask of ones
that multiplies it; the two are equal. The authors' initialisation scales with fan-in and fan-out,
ours is PyTorch's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.proxies.base import NoOptions, Proxy

if TYPE_CHECKING:
    from torch import Tensor

    from nas.proxies.routes import Subject


def _snip(subject: Subject, options: NoOptions) -> Tensor:
    import torch

    run = subject.minibatch()
    pairs = zip(run.weights, run.weight_gradients, strict=True)
    return torch.stack([(w * g).detach().abs().sum().double() for w, g in pairs]).sum()[None]


SNIP = Proxy(
    name="snip",
    summary="Sensitivity of the loss to single weights, summed up",
    paper="https://arxiv.org/abs/1810.02340",
    reads=frozenset({"images", "labels", "gradients"}),
    gauge=_snip,
    batched=lambda options: False,
)
