"""NTK condition number: how evenly the network can learn in all directions (half of TE-NAS).

    J_n   = gradient of the summed logits of image n by the weights
    score = - lambda_max / lambda_min  of  the M x M matrix  J_n . J_m

Chen, Gong, Wang, "Neural Architecture Search on ImageNet in Four GPU Hours: A Theoretically
Inspired Perspective" (TE-NAS), ICLR 2021, https://arxiv.org/abs/2102.11535, eq. 4; small condition
numbers train well, hence the sign. Reads images and the gradient of every image by every weight.

Deviations from the authors' code: every image is seen alone (batch-norms normalise it by itself),
so that J_n is a function of image n, as the theory has it, and one backward pass over feature maps
gives all of them. Only weights of convolutions and linear layers count. PyTorch's initialisation in
place of Kaiming's. A singular matrix is a failure, not 100000.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.proxies.base import Proxy

if TYPE_CHECKING:
    from torch import Tensor

    from nas.proxies.routes import Subject


@dataclass(frozen=True)
class NtkOptions:
    """Settings of the NTK condition number.

    Attributes:
        images: How many images of the minibatch are used, at most.
    """

    images: int = 32

    def __post_init__(self) -> None:
        if self.images < 2:
            raise ValueError(f"images must be at least 2, got {self.images}")


def _ntk(subject: Subject, options: NtkOptions) -> Tensor:
    import torch

    run = subject.apart(options.images)
    images = run.logits.shape[1]
    kernel = torch.zeros((run.count, images, images), dtype=torch.float64, device=run.images.device)
    for layer, gradients in run.gradients_by_image(run.logits.sum(dim=2)):
        kernel.index_add_(0, layer.archs, (gradients @ gradients.mT).double())
    values = torch.linalg.eigvalsh(kernel)
    low, high = values[:, 0], values[:, -1]
    precision = torch.finfo(run.logits.dtype).eps * images
    return torch.where(low > precision * high, -high / low, torch.nan)


NTK = Proxy(
    name="ntk",
    summary="Condition number of the neural tangent kernel, negative (half of TE-NAS)",
    paper="https://arxiv.org/abs/2102.11535",
    reads=frozenset({"images", "gradients"}),
    options=NtkOptions,
    gauge=_ntk,
    images_read=32,
    undefined="the kernel is singular",
)
