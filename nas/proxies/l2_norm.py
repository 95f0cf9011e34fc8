"""l2_norm: the size of the weights themselves.

    score = sum over convolutions and linear layers of ||W||_2

Used as a baseline by Abdelfattah et al., "Zero-Cost Proxies for Lightweight NAS", ICLR 2021,
https://arxiv.org/abs/2101.08134. Reads the weights alone: no image, no pass. Biases and norms do
not count, as in the authors' code.

Deviation: layers whose result reaches no output are left out in the spaces that are run batched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.proxies.base import NoOptions, Proxy

if TYPE_CHECKING:
    from torch import Tensor

    from nas.proxies.routes import Subject


def _l2_norm(subject: Subject, options: NoOptions) -> Tensor:
    import torch

    total = torch.zeros(subject.count, dtype=torch.float64, device=subject.conditions.device)
    for archs, weight in subject.networks.weights():
        total[archs] += weight.detach().double().norm()
    return total


L2_NORM = Proxy(
    name="l2_norm",
    summary="Norm of the initial weights, summed over layers",
    paper="https://arxiv.org/abs/2101.08134",
    gauge=_l2_norm,
    images_read=0,
)
