"""NATS-Bench size space: five widths of one fixed cell network.

Dong et al. 2021, https://arxiv.org/abs/2009.00437. Each of five layers has 8, 16, ..., 64 channels:
32,768 networks, written ``8:16:64:8:32``. Layers: cell, residual reduction, cell, residual
reduction, cell. A cell may change the width, then the edges that leave its input do it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spaces.base import Arch, Costs, Population, ProductSpace
from spaces.cell import CellGraph, Operation, conv_flops, conv_params, reduction_costs
from spaces.errors import InvalidArch
from spaces.nats_tss import NATS_TSS

if TYPE_CHECKING:
    from torch import nn

WIDTHS = tuple(range(8, 65, 8))
REDUCTIONS = (False, True, False, True, False)  # which of the five layers halves the resolution
CELL = NATS_TSS.from_str(
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|"
    "+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
)


class NatsSss(ProductSpace):
    """The size space; an architecture is five indices into 8, 16, ..., 64 channels."""

    name = "nats_sss"
    summary = "NATS-Bench size: 8 widths in each of 5 layers, 32,768 networks"
    dimensions = (len(WIDTHS),) * len(REDUCTIONS)
    halvings = sum(REDUCTIONS)

    def to_str(self, arch: Arch) -> str:
        return ":".join(str(WIDTHS[i]) for i in self.validate(arch))

    def from_str(self, text: str) -> Arch:
        widths = text.split(":")
        known = [str(width) for width in WIDTHS]
        if len(widths) != len(REDUCTIONS) or any(width not in known for width in widths):
            raise InvalidArch(
                f"{self.name}: cannot read {text!r}; expected {len(REDUCTIONS)} widths joined by "
                f"':', each one of {', '.join(known)}, such as '64:64:64:64:64'"
            )
        return tuple(known.index(width) for width in widths)

    def canonicalise(self, population: Population) -> Population:
        return population  # different widths are different functions

    def channels(self, population: Population) -> Population:
        """Return the channels of every layer, ``(N, 5)``."""
        return np.asarray(WIDTHS, dtype=np.int64)[population]

    def costs(
        self, population: Population, *, num_classes: int = 10, resolution: int = 32
    ) -> Costs:
        channels = self.channels(population)
        first, last = channels[:, 0], channels[:, -1]
        params = 3 * first * 9 + 2 * first + 2 * last + (last + 1) * num_classes
        flops = 3 * first * 9 * resolution**2 + (last + 1) * num_classes
        size, before = resolution, first
        for layer, reduction in enumerate(REDUCTIONS):
            after = channels[:, layer]
            if reduction:
                size = (size + 1) // 2
            table = np.asarray(
                [[_layer_costs(a, b, size, reduction) for b in WIDTHS] for a in WIDTHS]
            )
            more = table[before // 8 - 1, after // 8 - 1]
            params, flops, before = params + more[:, 0], flops + more[:, 1], after
        return Costs(params=params, flops=flops)

    def layers(self, population: Population) -> Iterator[CellGraph]:
        shares = self.channels(population) / WIDTHS[-1]
        image = np.ones(len(population))
        before = shares[:, 0]
        yield _fixed_graph(((0, 1),), (Operation("stem", "conv", 3),), image, before, (0,))
        for layer, reduction in enumerate(REDUCTIONS):
            after = shares[:, layer]
            if reduction:
                yield _fixed_graph(_REDUCTION_EDGES, _REDUCTION_OPERATIONS, before, after, (0, 1))
            else:
                edges = tuple((edge.source, edge.target) for edge in NATS_TSS.edges)
                yield _fixed_graph(edges, NATS_TSS.operations(CELL), before, after, (0,))
            before = after
        classes = np.ones(len(population))
        yield _fixed_graph(((0, 1),), (Operation("head", "conv", 1),), before, classes, (0,))

    def build(self, arch: Arch, *, num_classes: int = 10, in_chans: int = 3) -> nn.Module:
        from spaces.cell_net import SizeNetwork  # late: only a caller who builds needs torch

        widths = tuple(WIDTHS[i] for i in self.validate(arch))
        operations = NATS_TSS.operations(CELL)
        return SizeNetwork(NATS_TSS.edges, operations, widths, REDUCTIONS, num_classes, in_chans)


def _layer_costs(c_in: int, c_out: int, size: int, reduction: bool) -> tuple[int, int]:
    """Return parameters and multiply-accumulates of one of the five layers."""
    if reduction:
        return reduction_costs(c_in, c_out, size)
    params = flops = 0
    for edge, op in zip(NATS_TSS.edges, NATS_TSS.operations(CELL), strict=True):
        source = c_in if edge.source == 0 else c_out
        if op.kind == "conv":
            params += conv_params(source, c_out, op.kernel)
            flops += conv_flops(source, c_out, op.kernel, size)
        elif source != c_out:  # a skip that must change the width is a 1x1 convolution and BN
            params += conv_params(source, c_out, 1)
            flops += conv_flops(source, c_out, 1, size)
    return params, flops


#: Node 1 is the pooled input, node 2 the result of the first convolution, node 3 the output.
_REDUCTION_EDGES = ((0, 1), (0, 2), (1, 3), (2, 3))
_REDUCTION_OPERATIONS = (
    Operation("avg_pool_2x2", "avg_pool", 2),
    Operation("nor_conv_3x3", "conv", 3),
    Operation("conv_1x1", "conv", 1),
    Operation("nor_conv_3x3", "conv", 3),
)


def _fixed_graph(
    edges: tuple[tuple[int, int], ...],
    operations: tuple[Operation, ...],
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    wide_as_input: tuple[int, ...],
) -> CellGraph:
    """Return N copies of one graph whose nodes are as wide as what comes or as what goes."""
    n_nodes = 1 + max(target for _, target in edges)
    widths = np.repeat(after[:, None], n_nodes, axis=1)
    widths[:, list(wide_as_input)] = before[:, None]
    chosen = np.tile(np.arange(len(edges)), (len(before), 1))
    return CellGraph(edges, operations, chosen, widths)


NATS_SSS = NatsSss()
