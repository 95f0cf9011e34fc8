"""Cells of one's own: any graph, any operations, and stages of chosen width and depth.

The network is that of NAS-Bench-201: a 3x3 stem, stages of equal cells, a residual reduction that
halves the size between stages, BN-ReLU, pooling, a linear head (:mod:`spaces.cell_net`).

Written as the benchmark writes cells, ``|conv_3x3~0|+|skip~0|none~1|``; where widths or depths are
choices, they follow: ``:16x2-32x1`` is two cells of 16 channels, then one of 32.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from spaces.base import MOST_STAGES, Arch, Costs, Population, ProductSpace, check_choices
from spaces.cell import CellGraph, CellSpace, Edge, Operation, Skeleton
from spaces.errors import InvalidArch, NasError, did_you_mean

if TYPE_CHECKING:
    from torch import nn

#: Operations by name; any other one is given as an :class:`spaces.cell.Operation`.
OPERATIONS: dict[str, Operation] = {
    op.name: op
    for op in (
        Operation("none", "none"),
        Operation("skip", "skip"),
        Operation("conv_1x1", "conv", 1),
        Operation("conv_3x3", "conv", 3),
        Operation("conv_5x5", "conv", 5),
        Operation("conv_7x7", "conv", 7),
        Operation("avg_pool_3x3", "avg_pool", 3),
        Operation("max_pool_3x3", "max_pool", 3),
    )
}


class OwnCellSpace(CellSpace):
    """A cell space with a fixed skeleton; its networks run many at a time."""

    def __init__(self, name: str, edges: Sequence[Edge], skeleton: Skeleton) -> None:
        """Describe the space.

        Args:
            name: What it is called.
            edges: Of the cell, in any order; node 0 is its input, the last node its output.
            skeleton: What stands around the cells.

        Raises:
            NasError: An edge does not lead to a later node, two have the same ends, a node in
                between has none, or an edge can hold the same operation twice, or none at all.
        """
        ordered = tuple(sorted(edges, key=lambda edge: (edge.target, edge.source)))
        _check_edges(name, ordered)
        self.name = name
        self.__dict__["edges"] = ordered
        self.__dict__["skeleton"] = skeleton
        self.summary = f"own cells: {len(ordered)} edges, {len(self):,} architectures"

    def to_str(self, arch: Arch) -> str:
        groups: dict[int, str] = {}
        for edge, op in zip(self.edges, self.operations(self.validate(arch)), strict=True):
            groups[edge.target] = groups.get(edge.target, "|") + f"{op.name}~{edge.source}|"
        return "+".join(groups.values())

    def from_str(self, text: str) -> Arch:
        names = [part.split("~")[0] for part in text.replace("+", "").split("|") if part]
        arch = []
        for edge, name in zip(self.edges, names, strict=False):
            known = [op.name for op in edge.operations]
            if name not in known:
                raise InvalidArch(
                    f"{self.name}: no operation named {name!r} on the edge from {edge.source} to "
                    f"{edge.target} in {text!r}.{did_you_mean(name, known)} "
                    f"Known: {', '.join(known)}"
                )
            arch.append(known.index(name))
        # Printing what was parsed and comparing catches every malformed text at once.
        if len(arch) != len(self.edges) or self.to_str(tuple(arch)) != text:
            example = self.to_str((0,) * len(self.edges))
            raise InvalidArch(f"{self.name}: cannot read {text!r}; expected the form {example!r}")
        return tuple(arch)


def _check_edges(name: str, edges: Sequence[Edge]) -> None:
    """Raise NasError unless the edges make a cell."""
    if not edges:
        raise NasError(f"space {name}: a cell has at least one edge")
    ends = [(edge.source, edge.target) for edge in edges]
    for edge, pair in zip(edges, ends, strict=True):
        if not 0 <= edge.source < edge.target:
            raise NasError(f"space {name}: edge {list(pair)} does not lead to a later node")
        if ends.count(pair) > 1:
            raise NasError(f"space {name}: edge {list(pair)} stands there twice")
        names = [op.name for op in edge.operations]
        if not names or len(set(names)) < len(names):
            raise NasError(f"space {name}: edge {list(pair)} needs operations of different names")
        wrong = [each for each in names if not re.fullmatch(r"[A-Za-z0-9_.-]+", each)]
        if wrong:
            raise NasError(
                f"space {name}: operation {wrong[0]!r}: expected letters, digits, '_', '.', '-'"
            )
    last = max(edge.target for edge in edges)
    for node in range(1, last + 1):
        if all(edge.target != node for edge in edges):
            raise NasError(f"space {name}: no edge leads to node {node}")
        if node < last and all(edge.source != node for edge in edges):
            raise NasError(f"space {name}: no edge leaves node {node}")


@dataclass(frozen=True)
class CellStage:
    """Equal cells in a row.

    Attributes:
        width: Choices of channels, or a number.
        cells: Choices of how many cells, or a number.
    """

    width: tuple[int, ...]
    cells: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        for name, choices in (("width", self.width), ("cells", self.cells)):
            check_choices(name, choices)


class SizedCellSpace(ProductSpace):
    """Cells together with the widths and depths of their stages.

    An architecture is the operation on every edge, then width and depth of each stage, as far as
    there is a choice.

    Attributes:
        stages: From the stem on.
        cell: The space of the cells alone; their choices are the first of an architecture.
    """

    def __init__(self, name: str, edges: Sequence[Edge], stages: Sequence[CellStage]) -> None:
        """Describe the space; errors are those of :class:`OwnCellSpace`."""
        self.name = name
        self.stages = tuple(stages)
        widest = tuple(stage.width[-1] for stage in stages)
        self.cell = OwnCellSpace(name, edges, Skeleton(widest, 1))
        self._choices = tuple(
            choices for stage in self.stages for choices in (stage.width, stage.cells)
        )
        self.summary = (
            f"own cells: {len(self.cell.edges)} edges, {len(self.stages)} stages of chosen size"
        )

    @property
    def halvings(self) -> int:
        return len(self.stages) - 1

    @cached_property
    def dimensions(self) -> tuple[int, ...]:
        sizes = (len(choices) for choices in self._choices if len(choices) > 1)
        return (*self.cell.dimensions, *sizes)

    def sizes(self, arch: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return width and number of cells of every stage."""
        rest = iter(arch[len(self.cell.edges) :])
        chosen = [
            choices[next(rest)] if len(choices) > 1 else choices[0] for choices in self._choices
        ]
        return tuple(chosen[::2]), tuple(chosen[1::2])

    def to_str(self, arch: Arch) -> str:
        widths, cells = self.sizes(self.validate(arch))
        stages = "-".join(f"{w}x{n}" for w, n in zip(widths, cells, strict=True))
        return f"{self.cell.to_str(self._operations(arch))}:{stages}"

    def from_str(self, text: str) -> Arch:
        cell, _, rest = text.rpartition(":")
        arch = [*self.cell.from_str(cell)]
        numbers = [part for stage in rest.split("-") for part in stage.split("x")]
        for choices, number in zip(self._choices, numbers, strict=False):
            if len(choices) > 1 and number in map(str, choices):
                arch.append(choices.index(int(number)))
        if len(arch) != len(self.dimensions) or self.to_str(tuple(arch)) != text:
            example = self.to_str((0,) * len(self.dimensions))
            raise InvalidArch(f"{self.name}: cannot read {text!r}; expected the form {example!r}")
        return tuple(arch)

    def _operations(self, arch: Arch) -> Arch:
        return arch[: len(self.cell.edges)]

    def canonicalise(self, population: Population) -> Population:
        n_edges = len(self.cell.edges)
        cells = self.cell.canonicalise(population[:, :n_edges])
        return np.concatenate([cells, population[:, n_edges:]], axis=1)

    def costs(
        self, population: Population, *, num_classes: int = 10, resolution: int = 32
    ) -> Costs:
        n_edges = len(self.cell.edges)
        params = np.zeros(len(population), dtype=np.int64)
        flops = np.zeros_like(params)
        sizes, place = np.unique(population[:, n_edges:], axis=0, return_inverse=True)
        for number, row in enumerate(sizes.tolist()):
            here = place.reshape(-1) == number
            widths, depths = self.sizes((*(0,) * n_edges, *row))
            cells = population[here][:, :n_edges]
            params[here], flops[here] = self._costs(cells, widths, depths, num_classes, resolution)
        return Costs(params=params, flops=flops)

    def _costs(
        self,
        cells: Population,
        widths: tuple[int, ...],
        depths: tuple[int, ...],
        num_classes: int,
        resolution: int,
    ) -> tuple[Population, Population]:
        """Return parameters and multiply-accumulates of cells in one skeleton, ``(N,)`` each.

        Those of a stage with d cells are linear in d, so two counts of the whole give the slope.
        """
        whole = self._counted(cells, widths, 0, num_classes, resolution)
        for stage, depth in enumerate(depths):
            size = resolution
            for _ in range(stage):
                size = (size + 1) // 2
            one = self._counted(cells, (widths[stage],), 1, 1, size)
            none = self._counted(cells, (widths[stage],), 0, 1, size)
            whole = whole + depth * (one - none)
        return whole[0], whole[1]

    def _counted(
        self, cells: Population, widths: tuple[int, ...], depth: int, classes: int, size: int
    ) -> Population:
        sized = copy(self.cell)
        sized.__dict__["skeleton"] = Skeleton(widths, depth)
        costs = sized.costs(cells, num_classes=classes, resolution=size)
        return np.stack([costs.params, costs.flops])

    def layers(self, population: Population) -> Iterator[CellGraph]:
        """Describe every cell that there is room for; one that is absent is a skip."""
        base = self.cell.graph(population[:, : len(self.cell.edges)])
        last = self.cell.n_nodes - 1
        edges, operations = base.edges, base.operations
        if (0, last) not in edges:
            edges = (*edges, (0, last))
        usual = (OPERATIONS["none"], OPERATIONS["skip"])
        operations = (*operations, *(op for op in usual if op not in operations))
        nothing, skip = (operations.index(OPERATIONS[name]) for name in ("none", "skip"))
        chosen = np.full((len(population), len(edges)), nothing)
        chosen[:, : base.chosen.shape[1]] = base.chosen
        absent = np.full(len(edges), nothing)
        absent[edges.index((0, last))] = skip
        sizes = np.asarray([self.sizes(row) for row in population.tolist()], dtype=np.int64)
        sizes = sizes.reshape(-1, 2, len(self.stages))
        for stage, described in enumerate(self.stages):
            share = sizes[:, 0, stage] / max(described.width)
            for number in range(max(described.cells)):
                there = sizes[:, 1, stage, None] > number
                widths = np.repeat(share[:, None], self.cell.n_nodes, axis=1)
                yield CellGraph(edges, operations, np.where(there, chosen, absent), widths)

    def build(self, arch: Arch, *, num_classes: int = 10, in_chans: int = 3) -> nn.Module:
        from spaces.cell_net import CellNetwork  # late: only a caller who builds needs torch

        valid = self.validate(arch)
        widths, cells = self.sizes(valid)
        operations = self.cell.operations(self._operations(valid))
        skeleton = Skeleton(widths, 1)
        return CellNetwork(
            self.cell.edges, operations, skeleton, num_classes, cells, in_chans=in_chans
        )


def cell_space(
    name: str, edges: Sequence[Edge], stages: Sequence[CellStage]
) -> OwnCellSpace | SizedCellSpace:
    """Return a space of one's own cells.

    Where every stage has one width and the same number of cells, its networks run many at a time.

    Args:
        name: What it is called.
        edges: Of the cell; :func:`spaces.cell.complete_edges` makes all between some nodes.
        stages: One or more.

    Raises:
        NasError: No stage, or no cell: see :class:`OwnCellSpace`.
    """
    if not 1 <= len(stages) <= MOST_STAGES:
        raise NasError(f"space {name}: expected at least one stage and at most {MOST_STAGES}")
    depths = {stage.cells for stage in stages}
    fixed = all(len(stage.width) == 1 == len(stage.cells) for stage in stages)
    if fixed and len(depths) == 1:
        widths = tuple(stage.width[0] for stage in stages)
        return OwnCellSpace(name, edges, Skeleton(widths, stages[0].cells[0]))
    return SizedCellSpace(name, edges, stages)
