"""GradSign: in how many weights the images agree which way to go.

    score = sum over weights w of | sum over images n of sign( dl_n/dw ) |

l_n is the cross-entropy of image n, which the network sees alone: batch-norms normalise every image
by itself. Zhang, Jia, "GradSign: Model Performance Inference with Theoretical Insights", ICLR 2022,
https://arxiv.org/abs/2110.08616, algorithm 1. Reads images, labels and the gradient of every image
by every weight. Images do not mix, so one backward pass over feature maps gives all of them, layer
by layer, for all networks of a batch.

Weights are those of convolutions and linear layers. The number of images is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.proxies.base import Proxy

if TYPE_CHECKING:
    from torch import Tensor

    from nas.proxies.routes import Subject


@dataclass(frozen=True)
class GradsignOptions:
    """Settings of GradSign.

    Attributes:
        images: How many images of the minibatch are used, at most.
    """

    images: int = 32

    def __post_init__(self) -> None:
        if self.images < 2:
            raise ValueError(f"images must be at least 2, got {self.images}")


def _gradsign(subject: Subject, options: GradsignOptions) -> Tensor:
    import torch

    run = subject.apart(options.images)
    total = torch.zeros(run.count, dtype=torch.float64, device=run.images.device)
    for layer, gradients in run.gradients_by_image(run.losses):
        agreed = gradients.sign().sum(dim=1).abs()  # (k, P)
        agreed = agreed.masked_fill(gradients.isnan().any(dim=1), torch.nan)  # has no sign
        total.index_add_(0, layer.archs, agreed.sum(dim=1, dtype=torch.float64))
    return total


GRADSIGN = Proxy(
    name="gradsign",
    summary="GradSign: weights on whose direction the images agree",
    paper="https://arxiv.org/abs/2110.08616",
    reads=frozenset({"images", "labels", "gradients"}),
    options=GradsignOptions,
    gauge=_gradsign,
    images_read=32,
)
