"""What a predictor reads of an architecture: graph features and scores of proxies, as one table.

Letters: N architectures, F inputs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.features import graph_features
from nas.proxies.base import Conditions, Outcome, ProxySpec, score_batch
from spaces import Arch, Space
from spaces.cell import CellGraph
from spaces.errors import NasError

GRAPH = "graph"

#: The same, and pairs of operations, averaged over all cells that compute the same function.
ORBITS = "orbits"
GRAPHS = (GRAPH, ORBITS)
LISTED = 50_000  # most members of a space that are gone through for that

PROXY_BLOCK = "proxy"

#: Of a feature of the graph, by what its name begins with; what is missing here is about paths.
_BLOCKS = {
    **dict.fromkeys(("count", "nodes", "wires"), "count"),
    **dict.fromkeys(("max_in_degree", "max_out_degree", "in_degree", "out_degree"), "count"),
    "op": "edge",
    **dict.fromkeys(("then", "fork", "meet"), "pair"),
    **dict.fromkeys(("width", "log2_width", "conv_weights"), "width"),
}


def block_of(name: str) -> str:
    """Return what an input tells about: counts, paths, edges, pairs, widths, or ``proxy``."""
    source, _, feature = name.partition(":")
    if source not in GRAPHS:
        return PROXY_BLOCK
    kind = re.sub(r"^layer\d+\.", "", feature).partition(":")[0]
    return _BLOCKS.get(kind, "path")


#: Scores architectures by several proxies, one row each.
Scorer = Callable[[Sequence[ProxySpec], Sequence[Arch]], Sequence[Sequence[Outcome]]]


@dataclass(frozen=True)
class Inputs:
    """Which inputs, and under which conditions the proxies among them are asked.

    Attributes:
        sources: ``graph`` for :func:`nas.features.graph_features`; ``orbits`` for those and pairs
            of operations, averaged over all cells that are written differently and compute the
            same; and proxies.
        conditions: Of the proxies.
    """

    sources: tuple[str, ...]
    conditions: Conditions = field(default_factory=Conditions)

    def __post_init__(self) -> None:
        if not self.sources:
            raise NasError("inputs: expected 'graph', 'orbits' or a proxy at least, got none")
        if len(set(self.sources)) < len(self.sources):
            raise NasError(f"inputs: each may be named once, got {', '.join(self.sources)}")
        self.proxies()  # an unknown one is told now

    def proxies(self) -> list[ProxySpec]:
        """Return the proxies among the sources, in order."""
        return [ProxySpec.parse(source) for source in self.sources if source not in GRAPHS]

    def table(
        self, space: Space, archs: Sequence[Arch], score: Scorer | None = None
    ) -> tuple[list[str], NDArray[np.float64]]:
        """Return the names and the values of the inputs, ``(N, F)``; NaN where a proxy fails.

        They are those of the canonical forms, so that equal functions have equal inputs.

        Args:
            space: Where the architectures live.
            archs: Members of it.
            score: Asks the proxies; by default nothing is kept.
        """
        given = np.asarray([space.validate(arch) for arch in archs], dtype=np.int64)
        distinct, place = np.unique(space.canonicalise(given), axis=0, return_inverse=True)
        forms = [tuple(row) for row in distinct.tolist()]
        names: list[str] = []
        columns: list[NDArray[np.float64]] = []
        if GRAPH in self.sources:
            features = graph_features(space, distinct)
            names += [f"{GRAPH}:{name}" for name in features.names]
            columns += list(features.values.T)
        if ORBITS in self.sources:
            means = orbit_means(space)
            names += [f"{ORBITS}:{name}" for name in means.names]
            columns += list(means.of(distinct).T)
        proxies = self.proxies()
        if proxies:
            ask = score or (lambda specs, some: score_batch(space, specs, some, self.conditions))
            for spec, row in zip(proxies, ask(proxies, forms), strict=True):
                names.append(str(spec))
                columns.append(np.asarray([x if isinstance(x, float) else np.nan for x in row]))
        return names, np.stack(columns, axis=1)[place.reshape(-1)]

    def to_json(self) -> dict[str, Any]:
        """Return plain values, for :meth:`from_json`."""
        return {"sources": list(self.sources), "conditions": asdict(self.conditions)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Inputs:
        """Return what :meth:`to_json` was called on."""
        return cls(tuple(values["sources"]), Conditions(**values["conditions"]))


@dataclass(frozen=True, eq=False)
class OrbitMeans:
    """Features of every function of a space: the means over the cells that compute it.

    Attributes:
        names: Of the features.
        forms: Canonical forms, in lexicographic order, ``(M, D)``.
        values: ``(M, F)``.
    """

    names: tuple[str, ...]
    forms: NDArray[np.int64]
    values: NDArray[np.float64]

    def of(self, forms: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the features of canonical forms, ``(N, F)``."""
        rows = {row.tobytes(): i for i, row in enumerate(self.forms)}
        places = [rows[row.tobytes()] for row in np.ascontiguousarray(forms)]
        return self.values[places]


@lru_cache(maxsize=4)
def orbit_means(space: Space) -> OrbitMeans:
    """Return the orbit means of a space, which is gone through once in a process.

    Raises:
        NasError: It has no official order to go along, or too many members.
    """
    if len(space) > LISTED:
        raise NasError(
            f"inputs: 'orbits' goes through all {len(space):,} members of {space.name}, which are "
            f"more than {LISTED:,}; use 'graph'"
        )
    members = space.all()
    forms, orbit = np.unique(space.canonicalise(members), axis=0, return_inverse=True)
    orbit = orbit.reshape(-1)
    features = graph_features(space, members)
    names, pairs = _pairs(space, members)
    written = np.concatenate([features.values, pairs], axis=1)
    sums = np.zeros((len(forms), written.shape[1]))
    np.add.at(sums, orbit, written)
    values = sums / np.bincount(orbit)[:, None]
    return OrbitMeans((*features.names, *names), np.ascontiguousarray(forms), values)


def _pairs(space: Space, members: NDArray[np.int64]) -> tuple[list[str], NDArray[np.float64]]:
    """Count how often two operations follow each other, leave one node, or enter one."""
    columns: dict[str, NDArray[np.float64]] = {}
    for number, graph in enumerate(space.layers(members)):
        for join, places in _joins(graph).items():
            for p, q in _kinds(graph, ordered=join == "then"):
                first, second = (graph.operations[k].name for k in (p, q))
                count = _count(graph.chosen, places, p, q)
                if join != "then" and p != q:
                    count += _count(graph.chosen, places, q, p)
                columns[f"layer{number}.{join}:{first},{second}"] = count
    varying = {name: column for name, column in columns.items() if column.std() > 0}
    table = np.stack(list(varying.values()), axis=1) if varying else np.zeros((len(members), 0))
    return list(varying), table


def _joins(graph: CellGraph) -> dict[str, list[tuple[int, int]]]:
    """List the pairs of edges that follow each other, leave one node, or enter one."""
    edges = list(enumerate(graph.edges))
    pairs = [(i, j, a, b) for i, a in edges for j, b in edges]
    return {
        "then": [(i, j) for i, j, a, b in pairs if a[1] == b[0]],
        "fork": [(i, j) for i, j, a, b in pairs if i < j and a[0] == b[0]],
        "meet": [(i, j) for i, j, a, b in pairs if i < j and a[1] == b[1]],
    }


def _kinds(graph: CellGraph, *, ordered: bool) -> list[tuple[int, int]]:
    """List the pairs of operations, in both orders or in one."""
    some = [i for i, operation in enumerate(graph.operations) if operation.kind != "none"]
    return [(p, q) for p in some for q in some if ordered or p <= q]


def _count(
    chosen: NDArray[np.int64], places: list[tuple[int, int]], p: int, q: int
) -> NDArray[np.float64]:
    """Count the places where p is on the first edge and q on the second, ``(N,)``."""
    count = np.zeros(len(chosen))
    for i, j in places:
        count += (chosen[:, i] == p) & (chosen[:, j] == q)
    return count
