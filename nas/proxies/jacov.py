"""jacov: how differently the network reacts to different images.

    J_n   = gradient of the summed logits of image n by its pixels
    score = - sum over eigenvalues v of corr(J) of  ( ln(v + k) + 1 / (v + k) ),   k = 1e-5

corr(J) is the M x M correlation matrix of the M gradients, batch-norms in train mode. Mellor et
al., "Neural Architecture Search without Training", first version, 2020,
https://arxiv.org/abs/2006.04647v1. Reads images and the gradient by them. One backward pass serves
all networks of a batch.

Deviation from the authors' code: a symmetric eigen-solver in float64 in place of a general one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.proxies.base import NoOptions, Proxy

if TYPE_CHECKING:
    from torch import Tensor

    from nas.proxies.routes import Subject

_K = 1e-5


def _jacov(subject: Subject, options: NoOptions) -> Tensor:
    import torch

    from nas.proxies.spectrum import correlation_of_rows

    matrix = correlation_of_rows(subject.minibatch().input_gradient)  # (K, M, M)
    finite = matrix.isfinite().all(dim=2).all(dim=1)
    values = torch.linalg.eigvalsh(torch.where(finite[:, None, None], matrix, 0.0)).clamp_min(0.0)
    score = -((values + _K).log() + 1.0 / (values + _K)).sum(dim=1)
    return torch.where(finite, score, torch.nan)


JACOV = Proxy(
    name="jacov",
    summary="How little the gradients by different images correlate, by eigenvalues",
    paper="https://arxiv.org/abs/2006.04647v1",
    reads=frozenset({"images", "gradients"}),
    gauge=_jacov,
    undefined="the gradient by an image is constant",
)
