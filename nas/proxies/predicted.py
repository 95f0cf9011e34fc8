"""Predicted accuracy: what a fitted predictor makes of graph features and proxies.

    score = predicted test accuracy, in the unit of the table that the predictor was fitted on

See :mod:`nas.predictor`. ``file`` is a file that ``nas fit`` wrote, or the name of a predictor that
comes with the package. It holds for one space, and its inputs are always computed under the
conditions of its training: seed, images and resolution of a search change nothing.

The idea is that of GreenFactory: Cortês, Lourenço, Romano, Machado, "GreenFactory: Ensembling
Zero-Cost Proxies to Estimate Performance of Neural Networks", 2025,
https://arxiv.org/abs/2505.09344.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.proxies.base import Conditions, Proxy, ProxyError, ProxySpec
from spaces import Population, Space
from spaces.errors import NasError


@dataclass(frozen=True)
class PredictedOptions:
    """Settings of the predicted accuracy.

    Attributes:
        file: A file, or the name of a predictor that comes with the package.
    """

    file: str = "tss_cifar10"


def _predicted(
    space: Space, population: Population, conditions: Conditions, options: PredictedOptions
) -> NDArray[np.float64]:
    from nas.predictor.predictor import remembered  # late: it imports this package

    try:
        answers = remembered(options.file)(space, [tuple(row) for row in population.tolist()])
    except NasError as error:
        raise ProxyError(f"predicted: {error}") from None
    return np.asarray(answers, dtype=np.float64)


def _checksum(options: PredictedOptions) -> str:
    from nas.predictor.predictor import remembered  # late, as above

    return remembered(options.file).checksum


def _asks(options: PredictedOptions) -> Sequence[ProxySpec]:
    from nas.predictor.shipped import inputs_of  # late, as above

    return inputs_of(options.file).proxies()


PREDICTED = Proxy(
    name="predicted",
    summary="Test accuracy as a fitted predictor sees it; `nas fit` makes one",
    paper="https://arxiv.org/abs/2505.09344",
    options=PredictedOptions,
    population=_predicted,
    content=_checksum,
    shorthand="file",
    asks=_asks,
)
