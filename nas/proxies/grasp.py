"""GraSP: how much the flow of gradients would change if weights were taken away.

    score = - sum over weights w of convolutions and linear layers of w * (H g)_w

g is the gradient and H the Hessian of the mean cross-entropy of one minibatch, batch-norms in
train mode. Wang et al., "Picking Winning Tickets Before Training by Preserving Gradient Flow", ICLR
2020, https://arxiv.org/abs/2002.07376. The sign is that of Abdelfattah et al. 2021, eq. 2,
https://arxiv.org/abs/2101.08134, who made it a proxy. Reads images, labels, and gradients twice;
networks are run one by one.

Deviation from the authors' code: one minibatch gives g both times (there, too, in NAS); no
temperature. H g is exact, by differentiating the gradient once more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.proxies.base import NoOptions, Proxy

if TYPE_CHECKING:
    from torch import Tensor

    from nas.proxies.routes import Subject


def _grasp(subject: Subject, options: NoOptions) -> Tensor:
    import torch

    run = subject.minibatch()
    pairs = zip(run.weights, run.curvature_times_gradient(), strict=True)
    return -torch.stack([(w * hg).detach().double().sum() for w, hg in pairs]).sum()[None]


GRASP = Proxy(
    name="grasp",
    summary="Change of the gradient flow when weights are taken away, summed up",
    paper="https://arxiv.org/abs/2002.07376",
    reads=frozenset({"images", "labels", "gradients"}),
    gauge=_grasp,
    batched=lambda options: False,
    twice=True,
)
