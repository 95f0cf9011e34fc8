"""Parameters and multiply-accumulates of the network: the baselines that any proxy must beat.

    params = trainable weights,   flops = multiply-accumulates of one image

Both in the unit and by the cost model of NATS-Bench (https://arxiv.org/abs/2009.00437). They count
what is written, dead edges included, so two cells of one function may differ.
"""

import numpy as np
from numpy.typing import NDArray

from nas.proxies.base import Conditions, NoOptions, Proxy
from spaces import Population, Space

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


PARAMS = Proxy(
    name="params",
    summary="Number of trainable weights",
    paper=NATS_BENCH,
    population=_params,
    of_function=lambda options: False,
)
FLOPS = Proxy(
    name="flops",
    summary="Multiply-accumulates of one image",
    paper=NATS_BENCH,
    population=_flops,
    of_function=lambda options: False,
)
