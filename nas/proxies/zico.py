"""ZiCo: how large gradients are against how much they vary between minibatches.

    score = sum over layers l of  ln( sum over weights w of l of  mean |g| / std |g| )

g is the gradient of the mean cross-entropy of one minibatch by w; mean and standard deviation (that
of the population) go over N minibatches, batch-norms in train mode, weights never updated. Li,
Yang, Bhardwaj, Marculescu, "ZiCo: Zero-shot NAS via Inverse Coefficient of Variation on Gradients",
ICLR 2023, https://arxiv.org/abs/2301.11300, eq. 15. Reads images, labels and the gradient by every
weight, so networks are run one by one.

Deviations from the authors' code: std is that of |g|, as in the equation; there it is that of g.
Weights whose gradient does not vary are left out, and so are layers with no other (their
convolution is of zeros); a network with no other layer fails. One minibatch is refused: it would
give a standard deviation of 0 everywhere. Gradients are kept as they are taken, not as references
to a buffer that the next pass overwrites, which on a CPU gave 0 throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.proxies.base import Proxy

if TYPE_CHECKING:
    from torch import Tensor

    from nas.proxies.routes import Subject


@dataclass(frozen=True)
class ZicoOptions:
    """Settings of ZiCo.

    Attributes:
        minibatches: How many, N.
    """

    minibatches: int = 2

    def __post_init__(self) -> None:
        if self.minibatches < 2:
            raise ValueError(f"minibatches must be at least 2, got {self.minibatches}")


def _zico(subject: Subject, options: ZicoOptions) -> Tensor:
    import torch

    runs = [subject.minibatch().weight_gradients]
    for number in range(1, options.minibatches):
        runs.append(subject.other_minibatch(number).weight_gradients)
    terms = []
    for gradients in zip(*runs, strict=True):
        sizes = torch.stack([gradient.detach() for gradient in gradients]).abs().double()
        spread = sizes.std(dim=0, correction=0)
        varies = spread > 0
        if bool(varies.any()):
            terms.append((sizes.mean(dim=0)[varies] / spread[varies]).sum().log())
    return torch.stack(terms).sum()[None] if terms else torch.full((1,), torch.nan)


ZICO = Proxy(
    name="zico",
    summary="ZiCo: size of gradients against their spread between minibatches",
    paper="https://arxiv.org/abs/2301.11300",
    reads=frozenset({"images", "labels", "gradients"}),
    options=ZicoOptions,
    gauge=_zico,
    batched=lambda options: False,
    undefined="no gradient varies between minibatches",
)
