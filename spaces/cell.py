"""The generic cell: a table of edges and of the operations that may sit on each.

A cell is a small directed acyclic graph. Node 0 is its input, the last node its output; every
other node is the sum of what its incoming edges deliver. An architecture chooses one operation
per edge, so a population is an integer array ``(N, E)``, and everything here works on whole
populations. A new cell space is a new pair of tables.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from spaces.base import Arch, Costs, Population, ProductSpace, Space

if TYPE_CHECKING:
    from torch import nn

Kind = Literal["none", "skip", "conv", "avg_pool", "max_pool", "own"]


@dataclass(frozen=True)
class Operation:
    """One thing that an edge can do to a feature map.

    Attributes:
        name: The benchmark's word for it.
        kind: ``none`` delivers zeros, ``skip`` copies, ``conv`` is ReLU-convolution-BN, the pools
            have stride 1 and keep the size, ``own`` is a module of the user's own.
        kernel: Height and width of the window, 0 where there is none. Of an own module, what SED
            and graph features take it for: a convolution of this window.
        path: Of an own module, where its class is: ``package.module:Class``. It is called with the
            channels that come and go, ``Class(c_in, c_out)``, and keeps height and width.
    """

    name: str
    kind: Kind
    kernel: int = 0
    path: str = ""


@dataclass(frozen=True)
class Edge:
    """A place for an operation, from node ``source`` to node ``target``."""

    source: int
    target: int
    operations: tuple[Operation, ...]


@dataclass(frozen=True)
class Skeleton:
    """The network around the cells: stem, stages of equal cells, a residual reduction between them.

    Attributes:
        widths: Channels of each stage; the stem has those of the first.
        cells: Cells per stage.
    """

    widths: tuple[int, ...] = (16, 32, 64)
    cells: int = 5


def complete_edges(n_nodes: int, operations: tuple[Operation, ...]) -> tuple[Edge, ...]:
    """Return an edge from every node to every later one, ordered by target, then source."""
    return tuple(
        Edge(source, target, operations) for target in range(1, n_nodes) for source in range(target)
    )


def conv_params(c_in: int, c_out: int, kernel: int) -> int:
    """Count the weights of a bias-free convolution and of its batch-norm."""
    return c_in * c_out * kernel * kernel + 2 * c_out


def conv_flops(c_in: int, c_out: int, kernel: int, size: int) -> int:
    """Count the multiply-accumulates of a convolution with ``size x size`` outputs."""
    return c_in * c_out * kernel * kernel * size * size


@dataclass(frozen=True)
class CellGraph:
    """The same directed acyclic graph with N choices of operations on its edges.

    Attributes:
        edges: (source, target) of each of E edges; a source is smaller than its target, node 0 is
            the input and the last node the output.
        operations: What ``chosen`` points into.
        chosen: ``(N, E)``.
        widths: Channels of every node as a share of the nominal number, ``(N, nodes)``.
    """

    edges: tuple[tuple[int, int], ...]
    operations: tuple[Operation, ...]
    chosen: NDArray[np.int64]
    widths: NDArray[np.float64]

    def forwards(self) -> list[int]:
        """Return the edges in an order in which a source is complete before it is read."""
        return sorted(range(len(self.edges)), key=lambda e: self.edges[e][1])

    def backwards(self) -> list[int]:
        """Return the edges in an order in which a target is complete before it is read."""
        return sorted(range(len(self.edges)), key=lambda e: -self.edges[e][0])

    def is_kind(self, *kinds: Kind) -> NDArray[np.bool_]:
        """Tell which edges hold an operation of these kinds, ``(N, E)``."""
        table = np.asarray([op.kind in kinds for op in self.operations])
        return table[self.chosen]

    def kernels(self) -> NDArray[np.int64]:
        """Return the window of the operation on every edge, ``(N, E)``, 0 where there is none."""
        return np.asarray([op.kernel for op in self.operations])[self.chosen]

    def reach(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Tell which nodes the input reaches, and which reach the output, ``(N, nodes)`` each.

        A path is a chain of edges whose operation is not ``none``.
        """
        is_open = ~self.is_kind("none")
        fed = np.zeros(self.widths.shape, dtype=bool)
        used = np.zeros_like(fed)
        fed[:, 0] = used[:, -1] = True
        for e in self.forwards():
            source, target = self.edges[e]
            fed[:, target] |= is_open[:, e] & fed[:, source]
        for e in self.backwards():
            source, target = self.edges[e]
            used[:, source] |= is_open[:, e] & used[:, target]
        return fed, used

    def live(self) -> NDArray[np.bool_]:
        """Tell which edges lie on a path from input to output, ``(N, E)``."""
        fed, used = self.reach()
        sources, targets = (list(ends) for ends in zip(*self.edges, strict=True))
        live: NDArray[np.bool_] = ~self.is_kind("none") & fed[:, sources] & used[:, targets]
        return live


class CellSpace(ProductSpace):
    """Every choice of one operation per edge of a cell, repeated through a skeleton.

    Attributes:
        edges: The cell, E entries, every node's incoming edges before any edge that leaves it.
        skeleton: What stands around the cells.
    """

    edges: ClassVar[tuple[Edge, ...]]
    skeleton: Skeleton = Skeleton()

    @cached_property
    def dimensions(self) -> tuple[int, ...]:
        return tuple(len(edge.operations) for edge in self.edges)

    @property
    def halvings(self) -> int:
        return len(self.skeleton.widths) - 1

    @property
    def n_nodes(self) -> int:
        """Number of nodes, input and output included."""
        return 1 + max(edge.target for edge in self.edges)

    @property
    def has_own_modules(self) -> bool:
        """Whether some edge may hold a module of the user's own."""
        return any(op.kind == "own" for edge in self.edges for op in edge.operations)

    def operations(self, arch: Arch) -> tuple[Operation, ...]:
        """Return the chosen operation of every edge, in the order of ``edges``."""
        return tuple(edge.operations[i] for edge, i in zip(self.edges, arch, strict=True))

    def canonicalise(self, population: Population) -> Population:
        if len(self) > _COMPARED:
            return self._without_dead(population)
        return self.enumerate_rows(self._representative[population @ self._strides])

    def enumerate_rows(self, places: NDArray[np.int64]) -> Population:
        """Return the rows of :meth:`enumerate` at ``places``, ``(N, E)``."""
        sizes = np.asarray(self.dimensions, dtype=np.int64)
        return (places[:, None] // self._strides) % sizes

    def _without_dead(self, population: Population) -> Population:
        """Return the cells with ``none`` on every edge that lies on no path, where it may be."""
        live = self.graph(population).live()
        rows = population.copy()
        for e, edge in enumerate(self.edges):
            nothing = [place for place, op in enumerate(edge.operations) if op.kind == "none"]
            if nothing:
                rows[~live[:, e], e] = nothing[0]
        return rows

    @cached_property
    def _representative(self) -> NDArray[np.int64]:
        """For each enumeration place, that of the cheapest functionally identical cell."""
        members = self.enumerate()
        _, group = np.unique(self.function_key(members), return_inverse=True)
        cost = self.costs(members).params
        # Sorted by class, then cost, then enumeration order; the first of a class stands for it.
        ranked = np.lexsort((np.arange(len(members)), cost, group))
        first = np.searchsorted(group[ranked], np.arange(group.max() + 1))
        return ranked[first][group]

    def function_key(self, population: Population) -> NDArray[np.uint64]:
        """Return one number per architecture, equal where the cells compute the same function.

        Two cells are the same when, given independent random weights, they are equal in
        distribution: ``none`` and convolutions of zeros vanish (batch-norm without a learned shift
        maps 0 to 0), edges that reach no output are dropped, skips are contracted, sums commute,
        average pooling is linear. One convolution used twice stays distinct from two convolutions
        used once.

        The number is a 64-bit hash. Nodes are hashed forwards (what they compute) and backwards
        (what becomes of them); each convolution is then coloured by both and the passes are
        repeated, as in the Weisfeiler-Lehman test, which tells shared from separate convolutions.

        Args:
            population: ``(N, E)``.

        Returns:
            ``(N,)``.
        """
        colour = np.zeros(population.shape, dtype=np.uint64)
        forward, backward = self._passes(population, colour)
        for _ in range(self.n_nodes - 1):  # its depth; a test compares with exact isomorphism
            colour = self._colours(population, forward, backward)
            forward, backward = self._passes(population, colour)
        atoms = _mix(self._colours(population, forward, backward)).sum(axis=1, dtype=np.uint64)
        key: NDArray[np.uint64] = _mix(forward[:, -1]) + atoms
        return key

    def _kinds(self, population: Population, edge: int) -> tuple[_Row, _Row, _Row]:
        """Return per architecture: multiplier if linear, is-weighted, and salt of its operation."""
        operations = self.edges[edge].operations
        linear = {"none": 0, "skip": 1}
        gain = [linear.get(op.kind, _POOL * (2 * op.kernel + 1)) for op in operations]
        apart = [op.kind in ("conv", "max_pool", "own") for op in operations]
        salt = [_SALTS[op.kind] + 1000 * op.kernel + _salt_of(op.path) for op in operations]
        chosen = population[:, edge]
        table = np.asarray([gain, apart, salt], dtype=np.uint64)
        return table[0][chosen], table[1][chosen], table[2][chosen]

    def _passes(
        self, population: Population, colour: NDArray[np.uint64]
    ) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Hash every node by what it computes and by what is made of it, ``(N, nodes)`` each."""
        shape = (len(population), self.n_nodes)
        forward = np.zeros(shape, dtype=np.uint64)
        backward = np.zeros(shape, dtype=np.uint64)
        forward[:, 0] = _INPUT
        backward[:, -1] = _OUTPUT
        order = sorted(range(len(self.edges)), key=lambda e: self.edges[e].target)
        for e in order:
            edge = self.edges[e]
            forward[:, edge.target] += self._through(population, e, colour, forward[:, edge.source])
        for e in sorted(order, key=lambda e: -self.edges[e].source):
            edge = self.edges[e]
            backward[:, edge.source] += self._through(
                population, e, colour, backward[:, edge.target]
            )
        return forward, backward

    def _through(
        self, population: Population, e: int, colour: NDArray[np.uint64], value: _Row
    ) -> _Row:
        """Return what edge ``e`` makes of the hash ``value``, ``(N,)``; zero stays zero."""
        gain, apart, salt = self._kinds(population, e)
        weighted = _mix(value + salt * _STEP + colour[:, e])
        return np.where(apart.astype(bool) & (value != 0), weighted, gain * (1 - apart) * value)

    def _colours(
        self, population: Population, forward: NDArray[np.uint64], backward: NDArray[np.uint64]
    ) -> NDArray[np.uint64]:
        """Colour each live convolution by its surroundings, ``(N, E)``; 0 for any other edge."""
        colour = np.zeros(population.shape, dtype=np.uint64)
        for e, edge in enumerate(self.edges):
            _, apart, salt = self._kinds(population, e)
            before, after = forward[:, edge.source], backward[:, edge.target]
            live = apart.astype(bool) & (before != 0) & (after != 0)
            # A max-pool has no weights: two of one source are one, so they are not told apart.
            shared = salt < _SALTS["max_pool"]
            value = _mix(_mix(before + salt) ^ (after * _STEP))
            colour[:, e] = np.where(live & shared, value, 0)
        return colour

    @cached_property
    def _vocabulary(self) -> tuple[Operation, ...]:
        """Every operation that some edge may hold, each once."""
        return tuple(dict.fromkeys(op for edge in self.edges for op in edge.operations))

    def graph(self, population: Population) -> CellGraph:
        """Return the cells of a population ``(N, E)`` as one graph with N choices."""
        chosen = np.empty_like(population)
        for e, edge in enumerate(self.edges):
            numbers = [self._vocabulary.index(op) for op in edge.operations]
            chosen[:, e] = np.asarray(numbers)[population[:, e]]
        return CellGraph(
            edges=tuple((edge.source, edge.target) for edge in self.edges),
            operations=self._vocabulary,
            chosen=chosen,
            widths=np.ones((len(population), self.n_nodes)),
        )

    def layers(self, population: Population) -> Iterator[CellGraph]:
        yield self.graph(population)

    def costs(
        self, population: Population, *, num_classes: int = 10, resolution: int = 32
    ) -> Costs:
        widths, cells = self.skeleton.widths, self.skeleton.cells
        params = conv_params(3, widths[0], 3) + 2 * widths[-1] + (widths[-1] + 1) * num_classes
        flops = conv_flops(3, widths[0], 3, resolution) + (widths[-1] + 1) * num_classes
        size = resolution
        by_kernel: dict[int, list[int]] = {}
        for stage, width in enumerate(widths):
            if stage:
                size = (size + 1) // 2
                more_params, more_flops = reduction_costs(widths[stage - 1], width, size)
                params, flops = params + more_params, flops + more_flops
            for kernel in self._kernels:
                total = by_kernel.setdefault(kernel, [0, 0])
                total[0] += cells * conv_params(width, width, kernel)
                total[1] += cells * conv_flops(width, width, kernel, size)
        counts = self.count_convolutions(population)
        table = np.asarray([by_kernel[k] for k in self._kernels], dtype=np.int64).reshape(-1, 2)
        variable = counts @ table + self._own_costs(population, resolution)
        return Costs(params=params + variable[:, 0], flops=flops + variable[:, 1])

    def _own_costs(self, population: Population, resolution: int) -> NDArray[np.int64]:
        """Count what modules of the user's own add, ``(N, 2)``: they are run on shapes once."""
        total = np.zeros((len(population), 2), dtype=np.int64)
        for e, edge in enumerate(self.edges):
            for choice, op in enumerate(edge.operations):
                if op.kind == "own":
                    total[population[:, e] == choice] += self._own_cost(op, resolution)
        return total

    def _own_cost(self, operation: Operation, resolution: int) -> NDArray[np.int64]:
        from spaces.own_net import own_costs  # late: only who has own modules needs torch

        total, size = np.zeros(2, dtype=np.int64), resolution
        for stage, width in enumerate(self.skeleton.widths):
            size = (size + 1) // 2 if stage else size
            one = own_costs(operation.path, (width, width), size)
            total += self.skeleton.cells * np.asarray(one)
        return total

    @cached_property
    def _kernels(self) -> tuple[int, ...]:
        """Kernel sizes of the convolutions that the cell may hold, ascending."""
        found = {op.kernel for edge in self.edges for op in edge.operations if op.kind == "conv"}
        return tuple(sorted(found))

    def count_convolutions(self, population: Population) -> NDArray[np.int64]:
        """Count the convolutions of each kernel size, dead ones included, ``(N, kernels)``."""
        counts = np.zeros((len(population), len(self._kernels)), dtype=np.int64)
        for e, edge in enumerate(self.edges):
            for k, kernel in enumerate(self._kernels):
                is_it = [op.kind == "conv" and op.kernel == kernel for op in edge.operations]
                counts[:, k] += np.asarray(is_it)[population[:, e]]
        return counts

    def thin(self) -> Space:
        space = copy(self)
        space.__dict__["skeleton"] = Skeleton(widths=(1,) * len(self.skeleton.widths), cells=1)
        return space

    def build(self, arch: Arch, *, num_classes: int = 10, in_chans: int = 3) -> nn.Module:
        from spaces.cell_net import CellNetwork  # late: only a caller who builds needs torch

        return CellNetwork(
            self.edges,
            self.operations(self.validate(arch)),
            self.skeleton,
            num_classes,
            in_chans=in_chans,
        )


def reduction_costs(c_in: int, c_out: int, size: int) -> tuple[int, int]:
    """Return parameters and multiply-accumulates of a residual reduction block.

    Two 3x3 ReLU-conv-BN blocks, the first with stride 2; the shortcut is 2x2 average pooling and
    a bare 1x1 convolution.

    Args:
        c_in: Channels that come.
        c_out: Channels that go.
        size: Height and width of the output.
    """
    params = conv_params(c_in, c_out, 3) + conv_params(c_out, c_out, 3) + c_in * c_out
    flops = (
        conv_flops(c_in, c_out, 3, size)
        + conv_flops(c_out, c_out, 3, size)
        + conv_flops(c_in, c_out, 1, size)
    )
    return params, flops


_COMPARED = 2**18  # members among which the cheapest of every function is looked for


def _salt_of(path: str) -> int:
    """Return what tells one module of the user's own from another, 0 for none."""
    return 100_000 + zlib.crc32(path.encode()) % 800_000 if path else 0


_Row = NDArray[np.uint64]
_INPUT = np.uint64(0x9E3779B97F4A7C15)
_OUTPUT = np.uint64(0xC2B2AE3D27D4EB4F)
_STEP = np.uint64(0x165667B19E3779F9)
_POOL = 0x1000001B3  # odd, so that a product with it is never zero unless the value is
_SALTS: dict[str, int] = {
    "none": 0,
    "skip": 0,
    "avg_pool": 0,
    "conv": 7,
    "own": 7,
    "max_pool": 1_000_003,
}


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64-bit integers (the finaliser of SplitMix64); 0 is mapped to 0."""
    values = values ^ (values >> np.uint64(30))
    values = values * np.uint64(0xBF58476D1CE4E5B9)
    values = values ^ (values >> np.uint64(27))
    values = values * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
