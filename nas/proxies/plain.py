"""plain: the sum of weight times gradient, with its sign.

    score = sum over weights w of convolutions and linear layers of w * dL/dw

L is the mean cross-entropy of one minibatch, batch-norms in train mode. A baseline of Abdelfattah
et al., "Zero-Cost Proxies for Lightweight NAS", ICLR 2021, https://arxiv.org/abs/2101.08134. Reads
images, labels and gradients.

The gradient by every weight is not needed: a layer's output y is linear in its weights, so by
Euler's identity its share is the sum over outputs of y * dL/dy, which separates by network even
where networks share weights. Networks are therefore run batched. Where a batch-norm follows, the
share is exactly 0 (it undoes any scaling of y) but for its epsilon; what remains is mostly the
classifier, and rounding. The published values are of that kind, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.proxies.base import NoOptions, Proxy

if TYPE_CHECKING:
    from torch import Tensor

    from nas.proxies.routes import Subject


def _plain(subject: Subject, options: NoOptions) -> Tensor:
    run = subject.minibatch()
    return run.weighted_gradient(run.layer_gradients())


PLAIN = Proxy(
    name="plain",
    summary="Sum of weight times gradient, with its sign",
    paper="https://arxiv.org/abs/2101.08134",
    reads=frozenset({"images", "labels", "gradients"}),
    gauge=_plain,
)
