"""Parameters and multiply-accumulates of the network: the baselines that any proxy must beat.

    params = trainable weights,   flops = multiply-accumulates of one image

Both in the unit and by the cost model of NATS-Bench (https://arxiv.org/abs/2009.00437). They count
what is written, dead edges included, so two cells of one function may differ.

On a network of the user's, params are the numbers whose ``requires_grad`` is set, and flops are
half of what ``torch.utils.flop_counter`` counts in evaluation mode: convolutions, matrix products
and attention, without biases, norms, activations and pooling. The cost model of the benchmark is
the same but for the bias of the classifier, which it counts, so that it is higher by the number of
classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nas.proxies.base import Conditions, NoOptions, Proxy
from spaces import Population, Space

if TYPE_CHECKING:
    from torch import Tensor, nn

NATS_BENCH = "https://arxiv.org/abs/2009.00437"


def _params(
    space: Space, population: Population, conditions: Conditions, options: NoOptions
) -> NDArray[np.float64]:
    costs = space.costs(population, num_classes=conditions.num_classes)
    return costs.params.astype(np.float64)


def _flops(
    space: Space, population: Population, conditions: Conditions, options: NoOptions
) -> NDArray[np.float64]:
    costs = space.costs(
        population, num_classes=conditions.num_classes, resolution=conditions.resolution
    )
    return costs.flops.astype(np.float64)


def _params_of(net: nn.Module, image: Tensor) -> float:
    return float(sum(x.numel() for x in net.parameters() if x.requires_grad))


def _flops_of(net: nn.Module, image: Tensor) -> float:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    net.eval().requires_grad_()
    # With gradients and by plain products, for the counter does not see into fused attention.
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as told:
        net(image)
    return float(told.get_total_flops() / 2)


PARAMS = Proxy(
    name="params",
    summary="Number of trainable weights",
    paper=NATS_BENCH,
    population=_params,
    module=_params_of,
    of_function=lambda options: False,
)
FLOPS = Proxy(
    name="flops",
    summary="Multiply-accumulates of one image",
    paper=NATS_BENCH,
    population=_flops,
    module=_flops_of,
    of_function=lambda options: False,
)
