"""SED-R: how well a topology keeps the local entropy of its feature maps from falling.

    SED-R = sum over layers of
            sum over live convolutions  of  1/2 ln(2 pi e k^2 c)          (conv part: raises)
          - sum over live poolings      of  ln k                          (pool part: lowers)
          - sum over live skips         of  beta                          (skip part; beta = 0)
          + flow * 1/2 ln(2 pi e V)                                       (what arrives)

    V of the input is 1;  V_j = sum over edges (i, j) of g V_i,
    g: convolution 1 + k^2 c, skip 1, k x k pooling 1 / k^2, none 0

k is the window; c is the geometric mean of the channels that are read and written, each as a share
of its nominal number (1 wherever width does not vary). An edge is live if it lies on a path from
input to output.

Wu, Huang, Xu, Hao, "Zero-Shot NAS via the Suppression of Local Entropy Decrease", 2024,
https://arxiv.org/abs/2411.06236. **This is a derivation, not the authors' formula**, which we could
not obtain; we know its three parts (skip, conv, pool), their signs, and that they rest on Gaussian
entropy. Hence the name in the docs, SED-R ("reconstructed"). Ours: a local feature is Gaussian, of
entropy 1/2 ln(2 pi e variance). A convolution makes a new feature from k^2 c_in inputs with unit
weights, and its feedback to an input sums k^2 c_out terms; c averages the two. An average over k^2
values divides the variance by k^2; a skip adds nothing new. The first three lines add up the
entropy that each operation contributes wherever it sits; the last is the entropy of what finally
arrives at the output, where position counts. The coefficients are data
(:class:`SedOptions`), so that published ones can be put in their place.

``entropy_flow`` is that last term alone, the sum over layers of 1/2 ln(2 pi e V): what the topology
lets through, whatever it is made of. It ranks the topology space worse than SED-R and every other
space that was looked at better, which is why the label-free ensemble has it as a member.

Reads nothing but the architecture. No path from input to output is a failure, not a number.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.proxies.base import Conditions, NoOptions, Proxy
from spaces import Population, Space
from spaces.cell import CellGraph

_GAUSS = 0.5 * math.log(2.0 * math.pi * math.e)  # entropy of a Gaussian of variance 1, in nats


@dataclass(frozen=True)
class SedOptions:
    """Coefficients of SED-R, in nats.

    Attributes:
        conv: Entropy of a 1x1 convolution at nominal width.
        conv_window: Times ln k, for a k x k convolution.
        conv_width: Times ln c, for one between layers of a share c of the nominal channels.
        pool_window: Times -ln k, for k x k pooling.
        skip: Taken off for each skip (beta).
        flow: Weight of the entropy that arrives at the output.
    """

    conv: float = _GAUSS
    conv_window: float = 1.0
    conv_width: float = 0.5
    pool_window: float = 1.0
    skip: float = 0.0
    flow: float = 1.0


def _sed(
    space: Space, population: Population, conditions: Conditions, options: SedOptions
) -> NDArray[np.float64]:
    total = np.zeros(len(population))
    for graph in space.layers(population):
        variance = _variance(graph)
        arrives = variance > 0
        entropy = _GAUSS + 0.5 * np.log(np.where(arrives, variance, 1.0))
        total += np.where(arrives, _operations(graph, options) + options.flow * entropy, -np.inf)
    return total


def _entropy_flow(
    space: Space, population: Population, conditions: Conditions, options: NoOptions
) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):  # nothing arrives: minus infinity
        return sum(
            (_GAUSS + 0.5 * np.log(_variance(graph)) for graph in space.layers(population)),
            start=np.zeros(len(population)),
        )


def _operations(graph: CellGraph, options: SedOptions) -> NDArray[np.float64]:
    """Add up what the live operations contribute, ``(N,)``."""
    live = graph.live()
    log_kernel = np.log(np.maximum(graph.kernels(), 1))
    log_width = np.log(_widths(graph))
    conv = options.conv + options.conv_window * log_kernel + options.conv_width * log_width
    entropy = np.where(graph.is_kind("conv", "own"), conv, 0.0)
    pool = graph.is_kind("avg_pool", "max_pool")
    entropy -= np.where(pool, options.pool_window * log_kernel, 0.0)
    entropy -= np.where(graph.is_kind("skip"), options.skip, 0.0)
    total: NDArray[np.float64] = np.where(live, entropy, 0.0).sum(axis=1)
    return total


def _widths(graph: CellGraph) -> NDArray[np.float64]:
    """Return c of every edge, ``(N, E)``."""
    sources, targets = (list(ends) for ends in zip(*graph.edges, strict=True))
    means: NDArray[np.float64] = np.sqrt(graph.widths[:, sources] * graph.widths[:, targets])
    return means


def _variance(graph: CellGraph) -> NDArray[np.float64]:
    """Return V of the output, ``(N,)``; 0 where nothing arrives."""
    square = graph.kernels() ** 2
    widths = _widths(graph)
    variance = np.zeros(graph.widths.shape)
    variance[:, 0] = 1.0
    conv = graph.is_kind("conv", "own")
    pool = graph.is_kind("avg_pool", "max_pool")
    skip = graph.is_kind("skip")
    for e in graph.forwards():
        source, target = graph.edges[e]
        gain = np.where(conv[:, e], 1.0 + square[:, e] * widths[:, e], skip[:, e] * 1.0)
        gain = np.where(pool[:, e], 1.0 / np.maximum(square[:, e], 1), gain)
        variance[:, target] += gain * variance[:, source]
    return variance[:, -1]


SED = Proxy(
    name="sed",
    summary="SED-R: local entropy that a topology keeps (a derivation; the paper's formula is "
    "not public)",
    paper="https://arxiv.org/abs/2411.06236",
    options=SedOptions,
    population=_sed,
    undefined="no path from input to output",
    of_function=lambda options: False,  # counts what is written, and costs less than canonicalising
)
ENTROPY_FLOW = Proxy(
    name="entropy_flow",
    summary="The part of SED-R that counts what arrives at the output of a cell",
    paper="https://arxiv.org/abs/2411.06236",
    population=_entropy_flow,
    undefined="no path from input to output",
    of_function=lambda options: False,
)
