"""NAS-Bench-101: cells of up to five operations, joined by up to nine edges.

Ying et al. 2019, https://arxiv.org/abs/1902.09635. A cell is a directed acyclic graph of 7
vertices: the input, five operations, the output. An architecture is 26 choices: the 21 bits of the
strictly upper-triangular adjacency matrix, row by row, then the operations of vertices 1 to 5. What
lies on no path from input to output is *pruned*: it is no part of the network. An architecture is
a member if, after pruning, the input reaches the output over at most 9 edges. A smaller cell leaves
vertices without edges, which hold operation 0.

The benchmark writes a cell as matrix and list of operations and knows no string. Ours is one group
``operation~sources`` for each of the vertices 1 to 5, then the output, with ``+`` between, such as
``conv3x3~0+conv1x1~0+maxpool3x3~12+conv3x3~+conv3x3~+output~23``.

Letters: N architectures, V = 7 vertices, P orders of the vertices.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import permutations
from typing import TYPE_CHECKING, Any, Never, TypeVar

import numpy as np
from numpy.typing import NDArray

from spaces.base import Arch, Costs, Population, Space
from spaces.cell import CellGraph, Operation, Skeleton, conv_flops, conv_params
from spaces.errors import InvalidArch, NasError, did_you_mean

if TYPE_CHECKING:
    from torch import nn

OPERATIONS = (
    Operation("conv3x3-bn-relu", "conv", 3),
    Operation("conv1x1-bn-relu", "conv", 1),
    Operation("maxpool3x3", "max_pool", 3),
)
INPUT, OUTPUT = "input", "output"  # what the benchmark calls the ends in its list of operations
N_VERTICES = 7
MAX_EDGES = 9
N_CELLS = 423_624  # distinct cells, as published; a test counts them

INNER = range(1, N_VERTICES - 1)  # the vertices that hold an operation
_EDGES = tuple((i, j) for i in range(N_VERTICES) for j in range(i + 1, N_VERTICES))
_SOURCES, _TARGETS = (list(ends) for ends in zip(*_EDGES, strict=True))
_NAMES = tuple(op.name.removesuffix("-bn-relu") for op in OPERATIONS)
_DRAWS = 32  # candidates per block of a rejection; about three in ten are members
_BLOCKS = 64

_Matrices = NDArray[np.bool_]  # (N, V, V), [source, target]
_Number = TypeVar("_Number", np.int64, np.float64)


class NasBench101(Space):
    """The cell space; an architecture is 21 edges (0 or 1) and five indices of operations.

    Attributes:
        skeleton: The stacks of equal cells; max pooling between them halves the resolution.
    """

    name = "nasbench101"
    summary = "NAS-Bench-101: 3 operations on 5 vertices, at most 9 edges, 423,624 cells"
    dimensions = (2,) * len(_EDGES) + (len(OPERATIONS),) * len(INNER)
    row_columns = ("matrix", "ops")
    skeleton: Skeleton = Skeleton(widths=(128, 256, 512), cells=3)

    def __len__(self) -> int:
        return N_CELLS

    def validate(self, arch: Sequence[int]) -> Arch:
        """Return ``arch`` as a tuple of Python integers.

        Raises:
            InvalidArch: Wrong length, a value out of range, no path from input to output, or more
                than 9 edges on such paths.
        """
        values = super().validate(arch)
        edges = int(_count_edges(np.asarray([values]))[0])
        if not edges:
            raise InvalidArch(f"{self.name}: no path leads from input to output: {values}")
        if edges > MAX_EDGES:
            raise InvalidArch(
                f"{self.name}: at most {MAX_EDGES} edges may lie on paths from input to output, "
                f"got {edges}: {values}"
            )
        return values

    def sample(self, rng: np.random.Generator) -> Arch:
        """Draw one of the architectures (pruned or not) uniformly, by rejection."""
        return tuple(self._draw(rng)[0].tolist())

    def sample_many(self, n: int, rng: np.random.Generator) -> Population:
        blocks = [np.empty((0, len(self.dimensions)), dtype=np.int64)]
        while sum(map(len, blocks)) < n:
            blocks.append(self._draw(rng))
        return np.concatenate(blocks)[:n]

    def _draw(self, rng: np.random.Generator) -> Population:
        """Draw members uniformly, at least one."""
        for _ in range(_BLOCKS):
            drawn = rng.integers(self.dimensions, size=(_DRAWS, len(self.dimensions)))
            drawn = drawn[_are_members(drawn)]
            if len(drawn):
                return drawn
        raise AssertionError("a generator that never draws a member")  # chance: below 1e-200

    def neighbours(self, arch: Arch) -> tuple[Arch, ...]:
        """Return every member that differs in exactly one choice, in a fixed order."""
        near = np.asarray(super().neighbours(arch), dtype=np.int64)
        return tuple(map(tuple, near[_are_members(near)].tolist()))

    def leaps(self, arch: Arch) -> tuple[Arch, ...]:
        """Return the members with one edge or one vertex more that no single choice leads to.

        A vertex is put between any two that it can join, with any operation, beside their edge or
        in its place; and an edge joins any two that would make no circle, whichever comes first in
        the present order. So every cell is reached from every other: taking away, one by one, what
        a cell can do without is always possible, and each of these steps has its inverse here.
        """
        made = [move() for move in self._moves(arch)]
        rows = np.asarray(list(dict.fromkeys(made)), dtype=np.int64)
        rows = rows.reshape(-1, len(self.dimensions))
        return tuple(map(tuple, rows[self._is_leap(arch, rows)].tolist()))

    def _is_leap(self, arch: Arch, rows: Population) -> NDArray[np.bool_]:
        far: NDArray[np.bool_] = (rows != np.asarray(arch)).sum(axis=1) > 1
        return far & _are_members(rows)

    def _moves(self, arch: Arch) -> list[Callable[[], Arch]]:
        """Return what makes the leaps, and some that are none."""
        pruned = prune(np.asarray([arch]))[0]
        live = np.flatnonzero(pruned.any(axis=0) | pruned.any(axis=1))
        small = pruned[np.ix_(live, live)]
        operations = [arch[len(_EDGES) - 1 + v] for v in live[1:-1].tolist()]
        room = len(operations) < len(INNER) and int(small.sum()) < MAX_EDGES
        moves: list[Callable[[], Arch]] = []
        for pair in _joinable(small):
            joined = bool(small[pair])
            if not joined:
                moves.append(partial(_with_edge, small, operations, *pair))
            for keeps in ((True, False) if joined else (True,)) if room else ():
                moves += [
                    partial(_with_vertex, small, operations, *pair, op, keeps=keeps)
                    for op in range(len(OPERATIONS))
                ]
        return moves

    def mutate(self, arch: Arch, rng: np.random.Generator) -> Arch:
        """Return one of what is near, drawn uniformly; there are always ten at least."""
        near, moves = self.neighbours(arch), self._moves(arch)
        while True:  # ends: some of ten at least are drawn at last
            drawn = int(rng.integers(len(near) + len(moves)))
            if drawn < len(near):
                return near[drawn]
            child = moves[drawn - len(near)]()
            if self._is_leap(arch, np.asarray([child]))[0]:
                return child

    def crossover(self, first: Arch, second: Arch, rng: np.random.Generator) -> Arch:
        """Take each choice from one of the two parents with equal probability.

        Draws that are no members are rejected; should every draw of a block be one, the child has
        all edges of ``first``.
        """
        take_first = rng.integers(2, size=(_DRAWS, len(first)), dtype=np.int64)
        children = np.where(take_first, np.asarray(first), np.asarray(second))
        child = _first_member(children)
        if child is not None:
            return child
        operations = children[0, len(_EDGES) :].tolist()
        return (*first[: len(_EDGES)], *operations)

    def to_str(self, arch: Arch) -> str:
        matrix, operations = self._parts(self.validate(arch))
        names = [*(_NAMES[op] for op in operations), OUTPUT]
        groups = []
        for target, name in enumerate(names, start=1):
            sources = "".join(str(source) for source in np.flatnonzero(matrix[:, target]))
            groups.append(f"{name}~{sources}")
        return "+".join(groups)

    def from_str(self, text: str) -> Arch:
        matrix = np.zeros((N_VERTICES, N_VERTICES), dtype=bool)
        operations = []
        known = [*_NAMES, OUTPUT]
        groups = text.split("+")[: N_VERTICES - 1]
        for target, group in enumerate(groups, start=1):
            name, _, sources = group.partition("~")
            if name not in known:
                raise InvalidArch(
                    f"{self.name}: no operation named {name!r} in {text!r}."
                    f"{did_you_mean(name, known)} Known: {', '.join(known)}"
                )
            operations.append(known.index(name) % len(_NAMES))
            matrix[[i for i in range(target) if str(i) in sources], target] = True
        arch = (*matrix[_SOURCES, _TARGETS].astype(int).tolist(), *operations[:-1])
        # Printing what was parsed and comparing catches every malformed text at once.
        if len(arch) != len(self.dimensions) or self.to_str(arch) != text:
            example = self.to_str(_EXAMPLE)
            raise InvalidArch(f"{self.name}: cannot read {text!r}; expected the form {example!r}")
        return arch

    def from_row(self, row: Mapping[str, str]) -> Arch:
        """Read the columns ``matrix`` and ``ops``, JSON in the benchmark's form.

        The matrix has 2 to 7 rows; a smaller one leaves the last inner vertices without edges.

        Raises:
            InvalidArch: No such columns, not this form, or no member of the space.
        """
        matrix, names = (self._read(row, column) for column in self.row_columns)
        size = len(names)
        square = [len(line) if isinstance(line, list) else 0 for line in matrix] == [size] * size
        if not 2 <= size <= N_VERTICES or not square:
            raise InvalidArch(
                f"{self.name}: expected a square matrix of 2 to {N_VERTICES} rows and one "
                f"operation per row, got {row['matrix']!r} and {row['ops']!r}"
            )
        known = [op.name for op in OPERATIONS]
        inner = names[1:-1]
        if [names[0], names[-1]] != [INPUT, OUTPUT] or any(name not in known for name in inner):
            raise InvalidArch(
                f"{self.name}: expected {INPUT!r}, then operations ({', '.join(known)}), then "
                f"{OUTPUT!r}, got {row['ops']!r}"
            )
        places = [*range(size - 1), N_VERTICES - 1]
        embedded = np.zeros((N_VERTICES, N_VERTICES), dtype=np.int64)
        for i, line in enumerate(matrix):
            for j, bit in enumerate(line):
                if bit not in (0, 1) or (bit and j <= i):
                    raise InvalidArch(
                        f"{self.name}: entry {i}, {j} of the matrix must be "
                        f"{'0 or 1' if j > i else '0, edges lead to later vertices only'}, "
                        f"got {bit!r}"
                    )
                embedded[places[i], places[j]] = int(bit)
        operations = [known.index(name) for name in inner] + [0] * (len(INNER) - len(inner))
        return self.validate((*embedded[_SOURCES, _TARGETS].tolist(), *operations))

    def _read(self, row: Mapping[str, str], column: str) -> list[Any]:
        """Parse one cell that holds a JSON list."""
        try:
            value = json.loads(row[column])
        except KeyError:
            raise InvalidArch(f"{self.name}: the row has no column {column!r}") from None
        except (ValueError, RecursionError) as error:
            raise InvalidArch(f"{self.name}: {column}: not JSON: {error}") from None
        if not isinstance(value, list):
            raise InvalidArch(f"{self.name}: {column}: expected a list, got {row[column]!r}")
        return value

    def all(self) -> Population:
        self._has_no_order()

    def index(self, arch: Arch) -> int:
        self._has_no_order()

    def at(self, index: int) -> Arch:
        self._has_no_order()

    def _has_no_order(self) -> Never:
        raise NasError(
            f"{self.name}: the benchmark numbers its {N_CELLS:,} cells in no official order, so "
            "there is no index and no list of all; name a cell by its string, or draw some"
        )

    def canonicalise(self, population: Population) -> Population:
        """Replace each architecture by the representative of the cells isomorphic to it.

        Two architectures are the same if, pruned, a renaming of the inner vertices turns one into
        the other; that is the benchmark's own equivalence. Of all names that let every edge lead to
        a later vertex, unused vertices last, the representative has the fewest parameters (when
        channels do not divide evenly, the first vertices get one more), then the smallest encoding.

        Raises:
            InvalidArch: A row is no member of the space.
        """
        pruned = prune(population)
        n_edges = pruned.sum(axis=(1, 2))
        for row in population[(n_edges == 0) | (n_edges > MAX_EDGES)]:
            self.validate(row.tolist())  # words the message
        result = np.empty_like(population)
        live = pruned[:, :, 1:-1].any(axis=1)  # (N, 5): an inner vertex with an edge
        n_live = live.sum(axis=1)
        order = np.argsort(~live, axis=1, kind="stable")
        operations = np.where(live, inner_operations(population), 0)
        operations = np.take_along_axis(operations, order, axis=1)
        ends = np.zeros((len(population), 1), dtype=np.int64)
        order = np.concatenate([ends, 1 + order, ends + N_VERTICES - 1], axis=1)
        rows = np.arange(len(population))[:, None, None]
        packed = pruned[rows, order[:, :, None], order[:, None, :]]
        features = np.concatenate([packed.reshape(-1, N_VERTICES**2), operations], axis=1)
        for size in range(len(INNER) + 1):
            here = np.flatnonzero(n_live == size)
            for start in range(0, len(here), _CHUNK):
                chunk = here[start : start + _CHUNK]
                result[chunk] = self._best_order(features[chunk], size)
        return result

    def _best_order(self, features: NDArray[np.int64], size: int) -> Population:
        """Return the representative of each cell, ``(N, 26)``.

        Args:
            features: Pruned matrix and operations, vertices in use first, ``(N, 54)``.
            size: How many inner vertices are in use.
        """
        keys = (features @ _encoders(size)).astype(np.int64)  # (N, P)
        leads_on = keys < 2**_KEY_BITS
        # Where all widths divide (by 1, 2 and 4), all orders have the same parameters.
        fan_in = features[:, [v * N_VERTICES + N_VERTICES - 1 for v in INNER]].sum(axis=1)
        rest = np.asarray(self.skeleton.widths) % np.maximum(fan_in, 1)[:, None]
        uneven = rest.any(axis=1)
        cells, orders = np.nonzero(leads_on & uneven[:, None])
        if len(cells):
            found, place = np.unique(keys[cells, orders], return_inverse=True)
            params = self.costs(_decode(found)).params  # below 2**26
            keys[cells, orders] += (params << _KEY_BITS)[place]
        best = np.where(leads_on, keys, np.iinfo(np.int64).max).min(axis=1)
        return _decode(best % 2**_KEY_BITS)

    def costs(
        self, population: Population, *, num_classes: int = 10, resolution: int = 32
    ) -> Costs:
        pruned = prune(population)
        kernels = np.asarray([op.kernel * (op.kind == "conv") for op in OPERATIONS])
        squares = kernels[inner_operations(population)] ** 2
        widths, cells = self.skeleton.widths, self.skeleton.cells
        before = widths[0]
        head = (widths[-1] + 1) * num_classes
        params = np.full(len(population), conv_params(3, before, 3) + head)
        flops = np.full(len(population), conv_flops(3, before, 3, resolution) + head)
        size = resolution
        for stack, width in enumerate(widths):
            size = (size + 1) // 2 if stack else size
            channels = infer_channels(pruned, width)
            for c_in, times in ((before, 1), (width, cells - 1)):
                weights, norms = _module(pruned, squares, channels, c_in, width)
                params += times * (weights + norms)
                flops += times * weights * size**2
            before = width
        return Costs(params=params, flops=flops)

    def layers(self, population: Population) -> Iterator[CellGraph]:
        """Describe one module per architecture.

        Vertex v becomes nodes 2v - 1 and 2v with its operation between them; the edges of the
        matrix are skips. A vertex that feeds the output has an equal share of its channels, any
        other the largest share that it feeds; rounding to whole channels is left out, so that
        isomorphic cells are described alike. A pruned vertex has share 1, which nothing reads.
        """
        enter = [0, *(2 * v - 1 for v in INNER), 2 * N_VERTICES - 3]
        leave = [0, *(2 * v for v in INNER), 2 * N_VERTICES - 3]
        connections = [(leave[i], enter[j]) for i, j in _EDGES]
        places = [(enter[v], leave[v]) for v in INNER]
        chosen = population.copy()
        chosen[:, len(_EDGES) :] += 2  # behind none and skip
        shares = np.ones((len(population), enter[-1] + 1))
        for v, share in zip(INNER, _shares(prune(population)).T, strict=True):
            shares[:, [enter[v], leave[v]]] = np.where(share > 0, share, 1.0)[:, None]
        yield CellGraph(
            edges=(*connections, *places),
            operations=(Operation("none", "none"), Operation("skip", "skip"), *OPERATIONS),
            chosen=chosen,
            widths=shares,
        )

    def build(self, arch: Arch, *, num_classes: int = 10, in_chans: int = 3) -> nn.Module:
        from spaces.nasbench101_net import NasBench101Network  # late: only a builder needs torch

        population = np.asarray([self.validate(arch)])
        operations = tuple(OPERATIONS[op] for op in inner_operations(population)[0])
        return NasBench101Network(
            prune(population)[0], operations, self.skeleton, num_classes, in_chans
        )

    @staticmethod
    def _parts(arch: Arch) -> tuple[_Matrices, Sequence[int]]:
        """Return the adjacency matrix ``(V, V)``, not pruned, and the operations."""
        return _matrices(np.asarray([arch]))[0], arch[len(_EDGES) :]


def _matrices(population: Population) -> _Matrices:
    """Return the adjacency matrices of a population, not pruned."""
    matrices = np.zeros((len(population), N_VERTICES, N_VERTICES), dtype=bool)
    matrices[:, _SOURCES, _TARGETS] = population[:, : len(_EDGES)]
    return matrices


def inner_operations(population: Population) -> NDArray[np.int64]:
    """Return places in :data:`OPERATIONS`, ``(N, 5)``; those of pruned vertices do not matter."""
    return population[:, len(_EDGES) :]


def prune(population: Population) -> _Matrices:
    """Return which edges lie on a path from input to output, ``(N, V, V)``: [source, target]."""
    matrices = _matrices(population)
    fed = np.zeros((len(population), N_VERTICES), dtype=bool)
    used = np.zeros_like(fed)
    fed[:, 0] = used[:, -1] = True
    for v in range(1, N_VERTICES):
        fed[:, v] = (matrices[:, :v, v] & fed[:, :v]).any(axis=1)
    for v in reversed(range(N_VERTICES - 1)):
        used[:, v] = (matrices[:, v, v + 1 :] & used[:, v + 1 :]).any(axis=1)
    return matrices & fed[:, :, None] & used[:, None, :]


def _count_edges(population: Population) -> NDArray[np.int64]:
    """Count the edges on paths from input to output, ``(N,)``; 0 where there is no path."""
    counts: NDArray[np.int64] = prune(population).sum(axis=(1, 2))
    return counts


def _are_members(population: Population) -> NDArray[np.bool_]:
    """Tell which rows, each choice within its range, are members of the space, ``(N,)``."""
    counts = _count_edges(population)
    return (counts > 0) & (counts <= MAX_EDGES)


def _first_member(population: Population) -> Arch | None:
    """Return the first row that is a member of the space, None where there is none."""
    members = np.flatnonzero(_are_members(population))
    return tuple(population[members[0]].tolist()) if len(members) else None


def _joinable(matrix: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Yield the pairs of vertices that an edge may join, in either order, without a circle."""
    size = len(matrix)
    reaches = np.eye(size, dtype=bool)
    for v in reversed(range(size)):
        reaches[v] |= (matrix[v][:, None] & reaches).any(axis=0)
    for source in range(size - 1):  # the output leads nowhere
        for target in range(1, size):  # and nothing leads to the input
            if not reaches[target, source]:
                yield source, target


def _with_edge(
    matrix: NDArray[np.bool_], operations: Sequence[int], source: int, target: int
) -> Arch:
    """Return a cell with an edge more."""
    joined = matrix.copy()
    joined[source, target] = True
    return _embedded(joined, operations)


def _with_vertex(
    matrix: NDArray[np.bool_],
    operations: Sequence[int],
    source: int,
    target: int,
    operation: int,
    *,
    keeps: bool,
) -> Arch:
    """Return a cell with a vertex more, between two others.

    Args:
        matrix: Of the cell, ``(S, S)``.
        operations: Of its inner vertices.
        source: What the new vertex reads.
        target: What it feeds.
        operation: Its own.
        keeps: Whether an edge between the two stays.
    """
    new = len(matrix) - 1  # before the output
    old = [*range(new), new + 1]
    grown = np.zeros((new + 2, new + 2), dtype=bool)
    grown[np.ix_(old, old)] = matrix
    grown[old[source], old[target]] &= keeps
    grown[old[source], new] = grown[new, old[target]] = True
    return _embedded(grown, [*operations, operation])


def _embedded(matrix: NDArray[np.bool_], operations: Sequence[int]) -> Arch:
    """Return the 26 choices of a cell whose edges may lead to any vertex, but in no circle."""
    order: list[int] = []
    left = list(range(len(matrix)))
    while left:  # the output comes last, for every other vertex leads to it
        first = next(v for v in left if not matrix[left, v].any())
        order.append(first)
        left.remove(first)
    places = [*range(len(matrix) - 1), N_VERTICES - 1]
    whole = np.zeros((N_VERTICES, N_VERTICES), dtype=np.int64)
    whole[np.ix_(places, places)] = matrix[np.ix_(order, order)]
    chosen = [operations[v - 1] for v in order[1:-1]]
    return (
        *whole[_SOURCES, _TARGETS].tolist(),
        *chosen,
        *[0] * (len(INNER) - len(chosen)),
    )


def infer_channels(pruned: _Matrices, width: int) -> NDArray[np.int64]:
    """Return the channels of the inner vertices by the benchmark's rule, ``(N, 5)``.

    The output concatenates the vertices that feed it, so they divide its channels equally; what is
    left over goes one by one to the first of them. Any other vertex has as many as the widest that
    it feeds. A pruned vertex has none.

    Args:
        pruned: Adjacency matrices without what lies on no path.
        width: Channels of the output.
    """
    feeds = pruned[:, 1:-1, -1]
    each, left = np.divmod(width, np.maximum(feeds.sum(axis=1), 1))
    gets_more = np.cumsum(feeds, axis=1) <= left[:, None]
    return _widest_fed(pruned, np.where(feeds, each[:, None] + gets_more, 0))


def _shares(pruned: _Matrices) -> NDArray[np.float64]:
    """Return :func:`infer_channels` for an output of width 1, not rounded."""
    feeds = pruned[:, 1:-1, -1]
    return _widest_fed(pruned, feeds / np.maximum(feeds.sum(axis=1, keepdims=True), 1))


def _widest_fed(pruned: _Matrices, channels: NDArray[_Number]) -> NDArray[_Number]:
    """Give each inner vertex without channels those of the widest inner vertex that it feeds."""
    for v in reversed(range(len(INNER))):
        widest = (pruned[:, 1 + v, 1:-1] * channels).max(axis=1)
        channels[:, v] = np.where(channels[:, v] > 0, channels[:, v], widest)
    return channels


def _module(
    pruned: _Matrices,
    squares: NDArray[np.int64],
    channels: NDArray[np.int64],
    c_in: int,
    c_out: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the weights of the convolutions and of the batch-norms of one module, ``(N,)`` each.

    Args:
        pruned: Adjacency matrices without what lies on no path.
        squares: Kernel times kernel of the operations, 0 for the pool, ``(N, 5)``.
        channels: Of the inner vertices, ``(N, 5)``.
        c_in: Channels of the input.
        c_out: Channels of the output.
    """
    projected = pruned[:, 0, 1:-1]  # what reads the input does so through a 1x1 convolution
    added = pruned[:, 0, -1]
    inner = projected * c_in * channels + squares * channels**2
    norms = (projected + (squares > 0).astype(np.int64)) * channels
    return (
        inner.sum(axis=1) + added * c_in * c_out,
        2 * (norms.sum(axis=1) + added * c_out),
    )


_CHUNK = 1024  # bounds the memory of the comparison of all orders
_N_OPERATION_CODES = len(OPERATIONS) ** len(INNER)
_KEY_BITS = (2 ** len(_EDGES) * _N_OPERATION_CODES - 1).bit_length()
_BIT_WEIGHTS = 2 ** np.arange(len(_EDGES))[::-1]
_OPERATION_WEIGHTS = len(OPERATIONS) ** np.arange(len(INNER))[::-1]


@cache
def _encoders(size: int) -> NDArray[np.float64]:
    """Return what turns a cell into its encodings under every order of its vertices, ``(54, P)``.

    A cell is 49 entries of its matrix and 5 operations; the product is its 26 choices read as one
    number, most significant first, so that the smallest number is the smallest encoding. An edge
    that would lead to an earlier vertex adds more than any encoding has. All numbers stay below
    2**53, where float64 is exact and the product is one call of BLAS.

    Args:
        size: How many inner vertices are in use; they are the first.
    """
    orders = list(permutations(range(1, size + 1)))
    encoders = np.zeros((N_VERTICES**2 + len(INNER), len(orders)))
    weights = np.full((N_VERTICES, N_VERTICES), 2**_KEY_BITS)
    weights[_SOURCES, _TARGETS] = _BIT_WEIGHTS * _N_OPERATION_CODES
    for p, order in enumerate(orders):
        old = np.asarray([0, *order, *range(size + 1, N_VERTICES)])  # by new place
        entries = old[:, None] * N_VERTICES + old[None, :]
        encoders[entries, p] = weights
        encoders[N_VERTICES**2 + old[1:-1] - 1, p] = _OPERATION_WEIGHTS
    return encoders


def _decode(keys: NDArray[np.int64]) -> Population:
    """Return the 26 choices that a number stands for, ``(N, 26)``."""
    bits = keys[:, None] // (_BIT_WEIGHTS * _N_OPERATION_CODES) % 2
    operations = keys[:, None] // _OPERATION_WEIGHTS % len(OPERATIONS)
    return np.concatenate([bits, operations], axis=1)


#: One 3x3 convolution between input and output.
_EXAMPLE: Arch = (1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1) + (0,) * 15

NASBENCH101 = NasBench101()
