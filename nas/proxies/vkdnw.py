"""VKDNW: how evenly the weights are known, by the spectrum of the Fisher information.

    F     = mean over images n of  J_n^T ( diag(s_n) - s_n s_n^T ) J_n
    t_k   = k-th decile of the eigenvalues of F, k = 1..9, divided by their sum
    score = L - sum over k of t_k ln t_k

J_n is the Jacobian of the logits of image n by one weight of each of the first 128 layers, s_n
their softmax, L the number of convolutions and linear layers. Tybl, Neumann, "Training-free Neural
Architecture Search through Variance of Knowledge of Deep Network Weights", CVPR 2025,
https://arxiv.org/abs/2502.04975, eqs. 8 to 12 (VKDNW_single; ``layers=false`` leaves L out). Reads
images and gradients, no labels. Written from descriptions of the paper, not from the authors' code.

The eigenvalues are squares of the singular values of the stacked (diag(sqrt s) - sqrt(s) s^T) J_n,
divided by the number of images: the same numbers without squaring the condition number.

What we could not read in the paper, and chose: the weight of a layer is its first; norms do not
count as layers, nor do layers that are not reached; every image is seen alone (batch-norms
normalise it by itself). 16 images in place of 64: each costs a backward pass per class, and 16
times the classes are more rows than there are weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.proxies.base import Proxy

if TYPE_CHECKING:
    from torch import Tensor

    from nas.proxies.routes import Subject

_MOST_LAYERS = 128


@dataclass(frozen=True)
class VkdnwOptions:
    """Settings of VKDNW.

    Attributes:
        layers: Whether the number of layers is added.
        images: How many images of the minibatch are used, at most.
    """

    layers: bool = True
    images: int = 16

    def __post_init__(self) -> None:
        if self.images < 1:
            raise ValueError(f"images must be at least 1, got {self.images}")


def _vkdnw(subject: Subject, options: VkdnwOptions) -> Tensor:
    import torch

    run = subject.apart(options.images)
    count, images, classes = run.logits.shape
    reached = torch.zeros((count, len(run.layers)), dtype=torch.bool, device=run.images.device)
    jacobian = torch.zeros(
        (count, images, classes, len(run.layers)), dtype=torch.float64, device=run.images.device
    )
    for c in range(classes):
        for place, (layer, gradients) in enumerate(run.first_weight_by_image(run.logits[:, :, c])):
            jacobian[layer.archs, :, c, place] = gradients.double()
            reached[layer.archs, place] = True
    likely = run.logits.detach().double().softmax(dim=2)
    root = likely.sqrt()
    # rows of (diag(sqrt s) - sqrt(s) s^T) J
    mean = torch.einsum("kmc,kmcp->kmp", likely, jacobian)
    stacked = root[..., None] * (jacobian - mean[:, :, None])
    scores = [
        _of_one(stacked[k][..., reached[k]].flatten(0, 1), images, options) for k in range(count)
    ]
    return torch.stack(scores)


def _of_one(stacked: Tensor, images: int, options: VkdnwOptions) -> Tensor:
    """Return the score of one network, from its ``(images * classes, layers)``."""
    import torch

    layers = stacked.shape[1]
    values = torch.linalg.svdvals(stacked[:, :_MOST_LAYERS]).square() / images
    tenths = torch.arange(1, 10, device=values.device).double() / 10
    deciles = torch.quantile(values, tenths)
    share = deciles / deciles.sum()
    entropy: Tensor = -torch.special.xlogy(share, share).sum()
    return entropy + layers if options.layers else entropy


VKDNW = Proxy(
    name="vkdnw",
    summary="VKDNW: number of layers plus the evenness of the Fisher information's spectrum",
    paper="https://arxiv.org/abs/2502.04975",
    reads=frozenset({"images", "gradients"}),
    options=VkdnwOptions,
    gauge=_vkdnw,
    images_read=16,
    undefined="the logits do not depend on the weights",
)
