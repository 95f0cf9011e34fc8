"""Graph features: what a cell looks like, in numbers that need no data, weights or training.

After the neural graph features (GRAF) of Kadlecová, Lukasik, Pilát, Vidnerová, Safari, Neruda and
Hutter, "Surprisingly Strong Performance Prediction with Neural Graph Features", ICML 2024,
https://arxiv.org/abs/2404.16551: cheap inputs of a predictor. o is an operation other than
``none``, S a set of them that is not empty, written ``{o1,o2}``. A path leads from the input of the
cell to its output over edges that are not ``none``; its length is the number of its operations.

    count:o           operations o
    wires             connections (see below), where there are any
    nodes             nodes on paths, input and output included
    max_in_degree     most edges that enter one node
    max_out_degree    most edges that leave one node
    out_degree:o      operations o that read the input of the cell
    in_degree:o       operations o that feed its output
    min_path:S        length of the shortest path that has no operation outside S
    max_path:S        length of the longest such path
    paths:S           number of such paths; S of all operations: number of paths
    min_on_path:S     fewest operations of S on a path, whatever else is on it
    max_on_path:S     most operations of S on a path, whatever else is on it
    on_shortest:o     most operations o on one of the shortest paths
    on_longest:o      most operations o on one of the longest paths
    op:i-j=o          1 if the edge from node i to node j holds o; ``none`` is 0 for every o
    width:i           channels of node i as a share of the nominal number
    log2_width:i      its logarithm
    width:o           such shares, summed over the operations o
    conv_weights      k^2 c_in c_out, k the window, c such shares, summed over the convolutions

**A dead edge, one on no path, counts as** ``none``: what it computes reaches no output, so cells
that differ in dead edges only have equal features. (The paper counts what is written, and leaves
such cells out.) Features that name no node do not depend on how the nodes are numbered.

**Where there is no such path**, the most is 0 and the least is one more than the longest path that
the layer has room for; ``paths`` is 0 only there. Every value is finite.

A *wire* is an edge that can hold no more than a skip: the connections of NAS-Bench-101, whose
operations sit on vertices. It is no operation, adds no length and is open to every S. Operations
that wires join to the input or output read or feed it. Where wires are choices, the vertices
between them are interchangeable: such a layer has no features by node, but has ``width:o``.

What cannot vary in a space has no features: a layer with fixed operations has those of width only,
fixed widths have none, and ``conv_weights`` needs an edge with two ends that vary. If a space
describes several layers, names begin with ``layer0.``, ``layer1.`` and so on, and a width that one
layer has told (the output of one is the input of the next) is not told again.

Not here, of GRAF: mean degrees, which are counts divided by the number of nodes, and degrees by
set, which are sums of degrees by operation. The number of sets S doubles with every operation.

Letters: N architectures, F features, E edges, O operations, V nodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.seeds import generator
from spaces import InvalidArch, NasError, Population, Space
from spaces.cell import CellGraph

_Bools: TypeAlias = NDArray[np.bool_]
_Floats: TypeAlias = NDArray[np.float64]
_Column: TypeAlias = _Bools | _Floats | NDArray[np.int64]  # (N,)
_Columns: TypeAlias = Iterator[tuple[str, _Column]]

_PROBED = 8  # members of a space that are looked at to learn what can vary in it


@dataclass(frozen=True)
class GraphFeatures:
    """Features of N architectures of one space.

    Attributes:
        names: What each column is, ``(F,)``; the same, in the same order, for every population of
            a space.
        values: ``(N, F)``, always finite.
    """

    names: tuple[str, ...]
    values: NDArray[np.float64]


def graph_features(space: Space, population: ArrayLike) -> GraphFeatures:
    """Return the graph features of a population; the module says what each of them is.

    An edge on no path from input to output counts as ``none``. Where there is no path of a kind,
    the greatest length is 0 and the least is one more than the longest that there is room for.

    Args:
        space: Any space: what is read are its layers, and those of a few of its members, which show
            what can vary in them.
        population: ``(N, D)``, an architecture per row; N may be 0.

    Raises:
        InvalidArch: No integer array of this shape, or a choice out of range.
        NasError: An edge holds what a few fixed members and their neighbours never put there.
    """
    rows = _checked(space, population)
    layers = list(zip(space.layers(_probe(space)), space.layers(rows), strict=True))
    columns: dict[str, _Column] = {}
    told: set[bytes] = set()
    for place, (probe, graph) in enumerate(layers):
        prefix = f"layer{place}." if len(layers) > 1 else ""
        layer = _Layer(probe, graph, f"{space.name}, layer {place}")
        for name, column in _of_layer(layer, told):
            columns[prefix + name] = column
    values = np.empty((len(rows), len(columns)))
    for place, column in enumerate(columns.values()):
        values[:, place] = column
    return GraphFeatures(tuple(columns), values)


def _checked(space: Space, population: ArrayLike) -> Population:
    """Return the population as an array of choices in range."""
    rows = np.asarray(population)
    sizes = np.asarray(space.dimensions)
    if rows.ndim != 2 or rows.shape[1] != len(sizes) or rows.dtype.kind not in "iu":
        raise InvalidArch(
            f"{space.name}: expected an array of integers, (N, {len(sizes)}), "
            f"got {rows.dtype}, {rows.shape}"
        )
    for row in rows[((rows < 0) | (rows >= sizes)).any(axis=1)]:
        space.validate(row.tolist())  # words the message
    return rows.astype(np.int64)


def _probe(space: Space) -> Population:
    """Return a few fixed members and their neighbours: there, every choice takes all its values.

    So what an edge can hold, and which widths can vary, is read off them. One member would do where
    every combination of choices is one; in NAS-Bench-101 it may lack a neighbour that matters.
    """
    rng = generator(0, "features")
    members = [space.sample(rng) for _ in range(_PROBED)]
    near = [neighbour for member in members for neighbour in space.neighbours(member)]
    return np.asarray([*members, *near], dtype=np.int64)


class _Layer:
    """One kind of layer: what can vary in it, and what the population makes of it.

    Attributes:
        probe: The layer in the members of :func:`_probe`.
        graph: The layer in the population.
        can_hold: Which operations an edge can hold, ``(E, O)``.
        is_wire: Which edges are wires, ``(E, 1)``.
        operations: Number of every operation that counts, by name.
        live: Which edges lie on a path, ``(E, N)``: a row is one edge in all cells.
        works: Which of them hold an operation that counts, ``(E, N)``.
    """

    def __init__(self, probe: CellGraph, graph: CellGraph, where: str) -> None:
        self.probe, self.graph = probe, graph
        edges = np.arange(len(graph.edges))
        none = np.asarray([op.kind == "none" for op in graph.operations])
        idle = none | np.asarray([op.kind == "skip" for op in graph.operations])
        self.can_hold = np.zeros((len(edges), len(none)), dtype=bool)
        self.can_hold[edges, probe.chosen] = True
        self.is_wire: _Bools = np.logical_not(self.can_hold & ~idle).all(axis=1)[:, None]
        self.can_hold |= self.is_wire & idle
        strange = np.argwhere(~self.can_hold[edges, graph.chosen])
        if len(strange):
            cell, e = strange[0]
            known = ", ".join(graph.operations[o].name for o in np.flatnonzero(self.can_hold[e]))
            raise NasError(
                f"{where}: edge {'-'.join(map(str, graph.edges[e]))} holds "
                f"{graph.operations[graph.chosen[cell, e]].name!r}; expected one of {known}, which "
                "some members of the space and their neighbours hold there"
            )
        held = (self.can_hold & ~self.is_wire).any(axis=0) & ~none
        self.operations = {graph.operations[o].name: int(o) for o in np.flatnonzero(held)}
        self.live = np.ascontiguousarray(graph.live().T)
        self.works = self.live & ~self.is_wire
        self._chosen = np.ascontiguousarray(graph.chosen.T)

    def holds(self, *names: str) -> _Bools:
        """Tell which edges are live and hold one of these operations, ``(E, N)``."""
        wanted = np.zeros(len(self.graph.operations), dtype=bool)
        wanted[[self.operations[name] for name in names]] = True
        holds: _Bools = self.works & wanted[self._chosen]
        return holds

    def varies(self) -> bool:
        """Tell whether any edge has a choice."""
        return bool((self.probe.chosen != self.probe.chosen[0]).any())

    def is_wired(self) -> bool:
        """Tell whether connections are choices, so that vertices have no fixed place."""
        return bool((self.probe.chosen != self.probe.chosen[0])[:, self.is_wire[:, 0]].any())

    def varying_widths(self) -> _Bools:
        """Tell which nodes have a choice of width, ``(V,)``."""
        vary: _Bools = (self.probe.widths != self.probe.widths[0]).any(axis=0)
        return vary


def _of_layer(layer: _Layer, told: set[bytes]) -> _Columns:
    """Yield the features of one kind of layer.

    Args:
        layer: The layer.
        told: Widths of nodes, in the probe, that have a feature already; added to.
    """
    by_node = not layer.is_wired()
    if layer.varies():
        yield from _counts(layer)
        yield from _degrees(layer)
        yield from _paths(layer)
        if by_node:
            yield from _operations_by_edge(layer)
    if by_node:
        yield from _widths_by_node(layer, told)
    elif layer.varying_widths().any():
        yield from _widths_by_operation(layer)
    yield from _conv_weights(layer)


def _counts(layer: _Layer) -> _Columns:
    for name in layer.operations:
        yield f"count:{name}", layer.holds(name).sum(axis=0)
    if layer.is_wired():
        yield "wires", (layer.live & layer.is_wire).sum(axis=0)


def _degrees(layer: _Layer) -> _Columns:
    graph, live = layer.graph, layer.live
    shape = (graph.widths.shape[1], live.shape[1])  # (V, N)
    entering, leaving = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    is_start, is_end = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    is_start[0] = is_end[-1] = True  # and what wires join to them
    for e in graph.forwards():
        source, target = graph.edges[e]
        leaving[source] += live[e]
        entering[target] += live[e]
        is_start[target] |= is_start[source] & live[e] & layer.is_wire[e]
    for e in graph.backwards():
        source, target = graph.edges[e]
        is_end[source] |= is_end[target] & live[e] & layer.is_wire[e]
    yield "nodes", ((entering > 0) | (leaving > 0)).sum(axis=0)
    yield "max_in_degree", entering.max(axis=0)
    yield "max_out_degree", leaving.max(axis=0)
    sources, targets = (list(ends) for ends in zip(*graph.edges, strict=True))
    for name in layer.operations:
        yield f"out_degree:{name}", (layer.holds(name) & is_start[sources]).sum(axis=0)
    for name in layer.operations:
        yield f"in_degree:{name}", (layer.holds(name) & is_end[targets]).sum(axis=0)


def _paths(layer: _Layer) -> _Columns:
    names = tuple(layer.operations)
    wires = layer.live & layer.is_wire  # open to every set
    room = _over_paths(layer.graph, np.ones_like(layer.is_wire), ~layer.is_wire).most
    missing = np.maximum(room, 0) + 1
    for members in _subsets(names):
        label = "{" + ",".join(members) + "}"
        of_set = layer.holds(*members)
        within = _over_paths(layer.graph, of_set | wires, of_set)
        yield f"min_path:{label}", np.minimum(within.least, missing)
        yield f"max_path:{label}", np.maximum(within.most, 0)
        yield f"paths:{label}", within.number
        if len(members) < len(names):  # of all operations they are min_path and max_path again
            among = _over_paths(layer.graph, layer.live, of_set)
            yield f"min_on_path:{label}", np.minimum(among.least, missing)
            yield f"max_on_path:{label}", np.maximum(among.most, 0)
    scale = missing  # more than a path has of one operation, so that length decides first
    for name in names:
        tied = _over_paths(layer.graph, layer.live, scale * layer.works - layer.holds(name)).least
        yield f"on_shortest:{name}", np.where(np.isfinite(tied), -tied, 0) % scale
    for name in names:
        tied = _over_paths(layer.graph, layer.live, scale * layer.works + layer.holds(name)).most
        yield f"on_longest:{name}", np.where(np.isfinite(tied), tied, 0) % scale


def _subsets(names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield every set of names but the empty one, small ones first."""
    for size in range(1, len(names) + 1):
        yield from combinations(names, size)


@dataclass(frozen=True)
class _OverPaths:
    """The least and greatest length of N cells' paths, and how many there are, ``(N,)`` each.

    Where there is no path: inf, -inf and 0.
    """

    least: _Floats
    most: _Floats
    number: _Floats


def _over_paths(graph: CellGraph, passable: _Bools, length: _Bools | _Floats) -> _OverPaths:
    """Walk the edges once and keep for each node what the paths to it are like.

    Args:
        graph: Whose edges they are.
        passable: Which edges a path may take, ``(E, N)``.
        length: What each adds to a path, ``(E, N)``.
    """
    shape = (graph.widths.shape[1], passable.shape[1])  # (V, N)
    least, most, number = np.full(shape, np.inf), np.full(shape, -np.inf), np.zeros(shape)
    least[0] = most[0] = 0.0
    number[0] = 1.0
    for e in graph.forwards():
        source, target = graph.edges[e]
        closed = np.where(passable[e], 0.0, np.inf)
        least[target] = np.minimum(least[target], least[source] + length[e] + closed)
        most[target] = np.maximum(most[target], most[source] + length[e] - closed)
        number[target] += number[source] * passable[e]
    return _OverPaths(least[-1], most[-1], number[-1])


def _operations_by_edge(layer: _Layer) -> _Columns:
    for e, (source, target) in enumerate(layer.graph.edges):
        for name, number in layer.operations.items():
            if layer.can_hold[e, number] and not layer.is_wire[e]:
                yield f"op:{source}-{target}={name}", layer.holds(name)[e]


def _widths_by_node(layer: _Layer, told: set[bytes]) -> _Columns:
    for node in reversed(np.flatnonzero(layer.varying_widths()).tolist()):  # the output first
        in_probe = layer.probe.widths[:, node].tobytes()
        if in_probe not in told:
            told.add(in_probe)
            width = layer.graph.widths[:, node]
            yield f"width:{node}", width
            yield f"log2_width:{node}", np.log2(width)


def _widths_by_operation(layer: _Layer) -> _Columns:
    targets = [target for _, target in layer.graph.edges]
    for name in layer.operations:
        yield f"width:{name}", (layer.holds(name) * layer.graph.widths.T[targets]).sum(axis=0)


def _conv_weights(layer: _Layer) -> _Columns:
    graph, vary = layer.graph, layer.varying_widths()
    sources, targets = (list(ends) for ends in zip(*graph.edges, strict=True))
    if (vary[sources] & vary[targets]).any():  # else it is linear in counts and widths
        is_conv = layer.live & graph.is_kind("conv").T
        widths = graph.widths.T
        weights = graph.kernels().T ** 2 * widths[sources] * widths[targets]
        yield "conv_weights", np.where(is_conv, weights, 0.0).sum(axis=0)
