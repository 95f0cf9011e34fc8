"""SynFlow: how much signal flows through the network when every weight is made positive.

    score = ln( sum over weights w of convolutions and linear layers of |w| * dR/d|w| )
    R     = sum of the logits of |weights| for an image of ones

Tanaka et al., "Pruning neural networks without any data by iteratively conserving synaptic flow",
NeurIPS 2020, https://arxiv.org/abs/2006.05467; as a proxy Abdelfattah et al. 2021,
https://arxiv.org/abs/2101.08134. Reads no image, only its shape. Batch-norms are in evaluation
mode, which at initialisation is the identity but for epsilon; the authors take them out.

The logarithm is ours, and that of NAS-Bench-Suite-Zero's values: the sum is a product over layers
and spans a hundred decades. The order is the same. No path from image to logits is a failure.

The gradient by every weight is not needed: a layer's output y is linear in its weights, so by
Euler's identity its share is the sum over outputs of y * dR/dy, which separates by network.
Everything is computed in float64, for the range.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.proxies.base import NoOptions, Proxy

if TYPE_CHECKING:
    from torch import Tensor

    from nas.proxies.routes import Subject


def _synflow(subject: Subject, options: NoOptions) -> Tensor:
    import torch

    ones = torch.ones_like(subject.images.noise(1)).to(subject.conditions.device)
    run = subject.networks.run(ones, weights="positive", norm="identity", dtype=torch.float64)
    return run.weighted_gradient(run.output_gradients()).log()


SYNFLOW = Proxy(
    name="synflow",
    summary="Flow of signal through positive weights, as a logarithm",
    paper="https://arxiv.org/abs/2006.05467",
    reads=frozenset({"gradients"}),
    gauge=_synflow,
    images_read=1,
    undefined="no path from image to logits",
)
