"""DARTS: a normal and a reduction cell of four nodes with two inputs each, seven operations.

Liu, Simonyan, Yang 2019, https://arxiv.org/abs/1806.09055; the surrogate benchmark of the space is
NAS-Bench-301 (Zela et al. 2022, https://arxiv.org/abs/2008.09777). A cell reads the outputs of the
two cells before it, as nodes 0 and 1; each of the nodes 2 to 5 adds up what operations make of two
different earlier nodes; the cell's output concatenates the four. Written as published::

    Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=[2, 3, 4, 5], reduce=[...], ...)

The order in which a node names its two inputs is part of the text, so it is a choice, too;
canonical forms have the earlier one first. ``len`` counts without it, as papers do:
(7^8 * 1 * 3 * 6 * 10)^2, about 10^18.

The network is NAS-Bench-301's for CIFAR: 32 initial channels, 8 cells, two of which (the third and
the sixth) are reductions, no auxiliary head (:mod:`spaces.darts_net`).

Letters: N architectures.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import permutations, product
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from spaces.base import Arch, Costs, Population, ProductSpace
from spaces.cell import CellGraph, Operation, conv_flops, conv_params
from spaces.cell import Kind as GraphKind
from spaces.errors import InvalidArch

if TYPE_CHECKING:
    from torch import nn

Kind: TypeAlias = Literal["avg_pool", "max_pool", "skip", "sep_conv", "dil_conv"]


class DartsOperation(NamedTuple):
    """One of the seven.

    Attributes:
        name: The papers' word for it.
        kind: ``sep_conv`` is ReLU, depthwise, pointwise, BN, and the same again; ``dil_conv`` is
            ReLU, depthwise of dilation 2, pointwise, BN.
        kernel: Height and width of the window.
    """

    name: str
    kind: Kind
    kernel: int = 0


OPERATIONS = (
    DartsOperation("max_pool_3x3", "max_pool", 3),
    DartsOperation("avg_pool_3x3", "avg_pool", 3),
    DartsOperation("skip_connect", "skip"),
    DartsOperation("sep_conv_3x3", "sep_conv", 3),
    DartsOperation("sep_conv_5x5", "sep_conv", 5),
    DartsOperation("dil_conv_3x3", "dil_conv", 3),
    DartsOperation("dil_conv_5x5", "dil_conv", 5),
)
NODES = range(2, 6)  # those that compute; 0 and 1 are the outputs of the two cells before
CONCAT = list(NODES)
CELLS = ("normal", "reduce")

#: The ordered pairs of different earlier nodes, for each node.
PAIRS = tuple(tuple(permutations(range(node), 2)) for node in NODES)
_NODE = 3  # choices of a node: its pair, and two operations
_CELL = _NODE * len(NODES)
_NAMES = [op.name for op in OPERATIONS]
N_ARCHS = (len(OPERATIONS) ** 8 * 1 * 3 * 6 * 10) ** 2

# A node in one number: two sources below 6, two operations below 7.
_BASE = 6 * 6 * len(OPERATIONS) ** 2


#: For each node, the number of a pair by its two sources, the first one times six.
_PLACES_OF_PAIRS = tuple(
    np.asarray([pairs.index(pair) if pair in pairs else 0 for pair in np.ndindex(6, 6)])
    for pairs in PAIRS
)


#: For each node, how its two edges are written, by its three choices in one number.
_NODE_TEXTS = tuple(
    [f"({one!r}, {a}), ({two!r}, {b})" for (a, b), one, two in product(pairs, _NAMES, _NAMES)]
    for pairs in PAIRS
)


_FORM = "Genotype({})".format(
    ", ".join(
        f"{cell}=[{', '.join(['%s'] * len(NODES))}], {cell}_concat={CONCAT}" for cell in CELLS
    )
)


class Place(NamedTuple):
    """One cell of the network.

    Attributes:
        name: Of its module.
        reduction: Whether it halves the size.
        after_reduction: Whether the cell before does, so that node 0 is twice as large.
        c_older: Channels of the output before the last.
        c_last: Channels of the last output.
        width: Channels of every node.
        size: Height and width of its output.
    """

    name: str
    reduction: bool
    after_reduction: bool
    c_older: int
    c_last: int
    width: int
    size: int


def places(width: int, n_cells: int, resolution: int) -> Iterator[Place]:
    """List the cells of the network.

    Args:
        width: Initial channels; the stem has three times as many.
        n_cells: How many; those after one and two thirds are reductions.
        resolution: Height and width of the images.
    """
    older = last = 3 * width
    size, after_reduction = resolution, False
    for number in range(n_cells):
        reduction = number in (n_cells // 3, 2 * n_cells // 3)
        if reduction:
            width, size = 2 * width, (size + 1) // 2
        yield Place(f"body.cell{number}", reduction, after_reduction, older, last, width, size)
        older, last, after_reduction = last, len(NODES) * width, reduction


class Darts(ProductSpace):
    """An architecture is 24 choices: for each cell and node its pair of inputs, two operations.

    Attributes:
        width: Initial channels.
        n_cells: Cells of the network.
    """

    name = "darts"
    summary = "DARTS: two cells of four nodes, 7 operations, about 10^18 architectures"
    dimensions = tuple(size for pairs in PAIRS for size in (len(pairs), 7, 7)) * len(CELLS)
    row_columns = ("genotype",)
    halvings = 2
    width: int = 32
    n_cells: int = 8

    def __len__(self) -> int:
        return N_ARCHS

    def to_str(self, arch: Arch) -> str:
        valid = self.validate(arch)
        chosen = zip(
            _NODE_TEXTS * len(CELLS), valid[::_NODE], valid[1::_NODE], valid[2::_NODE], strict=True
        )
        ops = len(OPERATIONS)
        return _FORM % tuple([texts[(pair * ops + a) * ops + b] for texts, pair, a, b in chosen])

    def edges(self, arch: Arch, cell: int) -> list[tuple[int, int, int]]:
        """Return (source, target, operation) of the eight edges of a cell.

        Args:
            arch: An architecture.
            cell: 0 for the normal cell, 1 for the reduction.
        """
        found = []
        for number, node in enumerate(NODES):
            start = cell * _CELL + number * _NODE
            pair, *chosen = arch[start : start + _NODE]
            sources = PAIRS[number][pair]
            found += [(s, node, op) for s, op in zip(sources, chosen, strict=True)]
        return found

    def from_str(self, text: str) -> Arch:
        match = _TEXT.fullmatch(text)
        arch: list[int] = []
        for part in match.groups() if match is not None else ():
            try:
                listed = ast.literal_eval(part)
                arch += _read_cell(listed)
            except (ValueError, SyntaxError, TypeError, KeyError, IndexError):
                break
        # Printing what was parsed and comparing catches every malformed text at once.
        if len(arch) != len(self.dimensions) or self.to_str(tuple(arch)) != text:
            raise InvalidArch(
                f"{self.name}: cannot read {text[:200]!r}; expected the published form "
                f"{self.to_str(_EXAMPLE)!r}, operations {', '.join(_NAMES)}"
            )
        return tuple(arch)

    def from_row(self, row: Mapping[str, str]) -> Arch:
        """Read the column ``genotype``; spaces and the end of lines may be other than published.

        Raises:
            InvalidArch: No such column, or no genotype of the space.
        """
        if "genotype" not in row:
            raise InvalidArch(f"{self.name}: the row has no column 'genotype'")
        text = re.sub(r"range\(2,\s*6\)", "[2, 3, 4, 5]", row["genotype"])
        packed = re.sub(r"\s+", "", text).replace(",", ", ").replace('"', "'")
        return self.from_str(re.sub(r", (?=[\])])", "", packed))

    def canonicalise(self, population: Population) -> Population:
        """Replace each architecture by the representative of those isomorphic to it.

        Two are the same if a renaming of the nodes 2 to 5 of a cell turns one into the other, for
        the output concatenates them all, or if they differ in the order of a node's two inputs.
        They have the same parameters; the representative has the smallest encoding.
        """
        rows = np.empty_like(population)
        for cell in range(len(CELLS)):
            start = cell * _CELL
            rows[:, start : start + _CELL] = _canonical_cell(population[:, start : start + _CELL])
        return rows

    def costs(
        self, population: Population, *, num_classes: int = 10, resolution: int = 32
    ) -> Costs:
        stem = 3 * self.width
        params = np.full(len(population), conv_params(3, stem, 3))
        flops = np.full(len(population), conv_flops(3, stem, 3, resolution))
        sources, operations = parts(population)
        last = stem
        for place in places(self.width, self.n_cells, resolution):
            cell = int(place.reduction)
            halved = (sources[:, cell] < 2) & place.reduction
            table = np.asarray([[_costs(op, place, bool(h)) for op in OPERATIONS] for h in (0, 1)])
            chosen = table[halved.astype(np.int64), operations[:, cell]]  # (N, 4, 2, 2)
            more = chosen.sum(axis=(1, 2)) + np.asarray(_entry_costs(place))
            params, flops = params + more[:, 0], flops + more[:, 1]
            last = len(NODES) * place.width
        classifier = (last + 1) * num_classes
        return Costs(params=params + classifier, flops=flops + classifier)

    def layers(self, population: Population) -> Iterator[CellGraph]:
        """Describe the normal cell, then the reduction.

        Node 0 is what both inputs come from, 1 and 2 are the inputs behind their 1x1 convolutions,
        3 to 6 the nodes that compute, 7 the output. A separable or dilated convolution counts as
        one of its window.
        """
        sources, operations = parts(population)
        rows = np.arange(len(population))[:, None]
        between = np.asarray([_PLACE_OF.get(edge, 0) for edge in np.ndindex(8, 8)]).reshape(8, 8)
        for cell in range(len(CELLS)):
            chosen = np.full((len(population), len(_GRAPH_EDGES)), _NONE)
            chosen[:, :2] = _CONV_1X1
            chosen[:, -len(NODES) :] = _SKIP
            for number in range(len(NODES)):
                edge = between[sources[:, cell, number] + 1, number + 3]
                chosen[rows, edge] = operations[:, cell, number]
            widths = np.ones((len(population), 8))
            yield CellGraph(_GRAPH_EDGES, GRAPH_OPERATIONS, chosen, widths)

    def build(self, arch: Arch, *, num_classes: int = 10, in_chans: int = 3) -> nn.Module:
        from spaces.darts_net import DartsNetwork  # late: only a caller who builds needs torch

        valid = self.validate(arch)
        cells = [self.edges(valid, cell) for cell in range(len(CELLS))]
        return DartsNetwork(cells, self.width, self.n_cells, num_classes, in_chans)


_TEXT = re.compile(
    r"Genotype\(normal=(\[[^\[\]]*\]), normal_concat=\[2, 3, 4, 5\], "
    r"reduce=(\[[^\[\]]*\]), reduce_concat=\[2, 3, 4, 5\]\)"
)
_EXAMPLE: Arch = (0, 3, 3) * (len(NODES) * len(CELLS))


def _read_cell(listed: list[tuple[str, int]]) -> list[int]:
    """Return the choices of one cell from its eight pairs of operation and source."""
    choices = []
    for number, pairs in enumerate(PAIRS):
        (first, a), (second, b) = listed[2 * number : 2 * number + 2]
        choices += [pairs.index((a, b)), _NAMES.index(first), _NAMES.index(second)]
    return choices if len(listed) == 2 * len(PAIRS) else []


def parts(population: Population) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return sources and operations of every edge, ``(N, cells, nodes, 2)`` each."""
    choices = population.reshape(len(population), len(CELLS), len(NODES), _NODE)
    sources = np.stack(
        [np.asarray(PAIRS[number])[choices[:, :, number, 0]] for number in range(len(NODES))],
        axis=2,
    )
    return sources, choices[..., 1:]


@cache
def _renamings() -> tuple[NDArray[np.int64], ...]:
    """Return, for each node, its part of a cell's key: ``(24 renamings, choices of the node)``.

    A key is four nodes of one number each, in the order of their new names. Where a renaming lets
    an arrow lead back, the part is so large that no sum with it is the smallest.
    """
    keys = []
    for number, pairs in enumerate(PAIRS):
        sources = np.repeat(np.asarray(pairs), len(OPERATIONS) ** 2, axis=0)
        operations = np.tile(list(product(range(len(OPERATIONS)), repeat=2)), (len(pairs), 1))
        rows = []
        for order in permutations(range(len(NODES))):  # order[i]: the new place of node i
            place = order[number]
            renamed = np.asarray([0, 1, *(2 + new for new in order)])[sources]
            swap = renamed[:, 0] > renamed[:, 1]
            (a, b), (one, two) = (
                np.where(swap, each[:, ::-1].T, each.T) for each in (renamed, operations)
            )
            digits = ((a * 6 + b) * len(OPERATIONS) + one) * len(OPERATIONS) + two
            key = digits * _BASE ** (len(NODES) - 1 - place)
            rows.append(np.where(b < 2 + place, key, 2**60))
        keys.append(np.stack(rows))
    return tuple(keys)


def _canonical_cell(choices: Population) -> Population:
    """Return the representative of one cell, ``(N, 12)``."""
    n, ops = len(choices), len(OPERATIONS)
    nodes = choices.reshape(n, len(NODES), _NODE)
    chosen = (nodes[..., 0] * ops + nodes[..., 1]) * ops + nodes[..., 2]
    keys = [table[:, chosen[:, number]] for number, table in enumerate(_renamings())]
    best = np.sum(keys, axis=0).min(axis=0)
    digits = best[:, None] // _BASE ** np.arange(len(NODES))[::-1] % _BASE
    result = np.empty((n, len(NODES), _NODE), dtype=np.int64)
    for number, table in enumerate(_PLACES_OF_PAIRS):
        result[:, number, 0] = table[digits[:, number] // ops**2]
    result[..., 1] = digits // ops % ops
    result[..., 2] = digits % ops
    return result.reshape(n, _CELL)


def _costs(operation: DartsOperation, place: Place, halved: bool) -> tuple[int, int]:
    """Return parameters and multiply-accumulates of one operation, all of them at its output."""
    c, size = place.width, place.size
    if operation.kind == "skip":
        return (c * c + 2 * c, c * c * size * size) if halved else (0, 0)
    if operation.kind not in ("sep_conv", "dil_conv"):
        return 0, 0
    times = 2 if operation.kind == "sep_conv" else 1
    weights = operation.kernel**2 * c + c * c
    return times * (weights + 2 * c), times * weights * size * size


def _entry_costs(place: Place) -> tuple[int, int]:
    """Return those of the two 1x1 convolutions that a cell begins with."""
    c = place.width
    entering = 2 * place.size if place.reduction else place.size
    params = conv_params(place.c_older, c, 1) + conv_params(place.c_last, c, 1)
    return params, conv_flops(place.c_older, c, 1, entering) + conv_flops(
        place.c_last, c, 1, entering
    )


_SEEN_AS: dict[Kind, GraphKind] = {
    "avg_pool": "avg_pool",
    "max_pool": "max_pool",
    "skip": "skip",
    "sep_conv": "conv",
    "dil_conv": "conv",
}

#: What graphs of the space take the seven for, and two more.
GRAPH_OPERATIONS = (
    *(Operation(op.name, _SEEN_AS[op.kind], op.kernel) for op in OPERATIONS),
    Operation("conv_1x1", "conv", 1),
    Operation("none", "none"),
)
_SKIP = _NAMES.index("skip_connect")
_CONV_1X1, _NONE = len(OPERATIONS), len(OPERATIONS) + 1
_GRAPH_EDGES = (
    (0, 1),
    (0, 2),
    *((source + 1, node + 1) for node in NODES for source in range(node)),
    *((node + 1, 7) for node in NODES),
)
_PLACE_OF = {edge: place for place, edge in enumerate(_GRAPH_EDGES)}

DARTS = Darts()
