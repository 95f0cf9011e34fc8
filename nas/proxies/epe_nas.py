"""EPE-NAS: how differently the network reacts to images of one class, class by class.

    J_n   = gradient of the summed logits of image n by its pixels
    s_c   = sum over pairs of images of class c of  ln( |corr(J)| + k ),   k = 1e-5
    score = sum over classes c of |s_c|                                 (at most 100 classes)
          = mean over classes c of sum over classes d of |t_c - t_d|    (more; t_c = s_c / n_c)

n_c is the number of images of class c, batch-norms are in train mode. Lopes, Alirezazadeh,
Alexandre, "EPE-NAS: Efficient Performance Estimation Without Training for Neural Architecture
Search", ICANN 2021, https://arxiv.org/abs/2102.08099. Reads images, labels and the gradient by the
images. One backward pass serves all networks of a batch.

A class with one image has the correlation matrix [1], so s_c = ln(1 + k), as in the authors' code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.proxies.base import NoOptions, Proxy

if TYPE_CHECKING:
    from torch import Tensor

    from nas.proxies.routes import Subject

_K = 1e-5
_MANY_CLASSES = 100


def _epe_nas(subject: Subject, options: NoOptions) -> Tensor:
    import torch

    from nas.networks.forward import ForwardError
    from nas.proxies.spectrum import correlation_of_rows

    run = subject.minibatch()
    if run.labels is None:
        raise ForwardError("the images have no labels")
    terms = (correlation_of_rows(run.input_gradient).abs() + _K).log()  # (K, M, M)
    found, members = torch.unique(run.labels, return_counts=True)
    belongs = (run.labels[:, None] == found).double()  # (M, classes)
    sums: Tensor = torch.einsum("kmn,mc,nc->kc", terms, belongs, belongs)
    if run.logits.shape[2] <= _MANY_CLASSES:
        return sums.abs().sum(dim=1)
    scaled = sums / members
    between: Tensor = (scaled[:, :, None] - scaled[:, None, :]).abs()
    return between.sum(dim=(1, 2)) / len(found)


EPE_NAS = Proxy(
    name="epe_nas",
    summary="How little the gradients by images of one class correlate",
    paper="https://arxiv.org/abs/2102.08099",
    reads=frozenset({"images", "labels", "gradients"}),
    gauge=_epe_nas,
    undefined="the gradient by an image is constant",
)
