"""grad_norm: how strongly the loss pulls at the weights at initialisation.

    score = sum over convolutions and linear layers of ||dL/dW||_2

L is the mean cross-entropy of one minibatch, batch-norms in train mode. Baseline of Abdelfattah et
al., "Zero-Cost Proxies for Lightweight NAS", ICLR 2021, https://arxiv.org/abs/2101.08134. Reads
images, labels and the gradient by every weight, so networks are run one by one.

Deviation from the authors' code: none in the formula. The minibatch is never cut in pieces when
memory is short, which there changes the value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.proxies.base import NoOptions, Proxy

if TYPE_CHECKING:
    from torch import Tensor

    from nas.proxies.routes import Subject


def _grad_norm(subject: Subject, options: NoOptions) -> Tensor:
    import torch

    gradients = subject.minibatch().weight_gradients
    return torch.stack([gradient.norm() for gradient in gradients]).double().sum()[None]


GRAD_NORM = Proxy(
    name="grad_norm",
    summary="Norm of the loss's gradient by the weights, summed over layers",
    paper="https://arxiv.org/abs/2101.08134",
    reads=frozenset({"images", "labels", "gradients"}),
    gauge=_grad_norm,
    batched=lambda options: False,
)
