"""Many widths of the size space, run at once: what their prefixes share is computed once.

A layer's map depends only on the widths up to that layer. The population is a tree of prefixes,
and each node of the tree is run once: for the whole space 8 + 64 + 512 + 4,096 + 32,768 layers in
place of 5 x 32,768. All nodes of one layer with the same two widths are one batch, and every weight
is a corner of the widest one (:func:`nas.networks.weights.layer_weight`), so one set serves all.
Names and weights are those of :class:`spaces.cell_net.SizeNetwork`; a test compares the feeders.

A listener hears tree nodes in the place of architectures and must be additive: what it adds up for
an architecture is the sum over its prefixes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nas.networks.batched import Feed, convolve
from nas.networks.cells import reduction
from nas.networks.events import Listener
from nas.networks.forward import ForwardError
from nas.networks.weights import Kind
from spaces import Population
from spaces.nats_sss import CELL, REDUCTIONS, WIDTHS
from spaces.nats_tss import NATS_TSS

_EDGES = tuple(zip(NATS_TSS.edges, NATS_TSS.operations(CELL), strict=True))
_READERS = {  # of each node's ReLU
    node: sum(edge.source == node and op.kind == "conv" for edge, op in _EDGES)
    for node in range(NATS_TSS.n_nodes)
}


@dataclass(frozen=True)
class _Level:
    """The prefixes of one length, each once.

    Attributes:
        parents: Place of each prefix's parent in the level before, ``(M,)``.
        widths: Its last two widths (the stem's repeats the first), ``(M, 2)``.
        first: Number of its first prefix among the prefixes of all levels.
    """

    parents: NDArray[np.int64]
    widths: NDArray[np.int64]
    first: int


def _tree(population: Population) -> tuple[list[_Level], NDArray[np.int64]]:
    """Return the levels, and for each architecture the numbers of its prefixes, ``(N, 5)``."""
    levels: list[_Level] = []
    paths = np.empty(population.shape, dtype=np.int64)
    first = 0
    widths = np.asarray(WIDTHS)[population]
    for length in range(1, population.shape[1] + 1):
        prefixes, place = np.unique(population[:, :length], axis=0, return_inverse=True)
        place = place.reshape(-1)
        example = np.empty(len(prefixes), dtype=np.int64)
        example[place] = np.arange(len(population))
        parents = paths[example, length - 2] - levels[-1].first if levels else example * 0
        ends = widths[example][:, [max(length - 2, 0), length - 1]]
        levels.append(_Level(parents, ends, first))
        paths[:, length - 1] = first + place
        first += len(prefixes)
    return levels, paths


class SizeNetworks:
    """The networks of a population of the size space, in the form that listeners ask.

    Attributes:
        count: N, how many.
    """

    def __init__(self, population: Population, seed: int) -> None:
        """Find the prefixes; nothing runs yet.

        Args:
            population: ``(N, 5)``.
            seed: Seed of the weights, as for :func:`nas.networks.weights.seed_weights`.
        """
        self.count = len(population)
        self._seed = seed
        self._levels, self._paths = _tree(population)

    @property
    def rows(self) -> int:
        """How many rows an additive listener needs: one per node of the tree."""
        return self._levels[-1].first + len(self._levels[-1].parents)

    def weights(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Refuse: the nodes of the tree are no networks."""
        raise ForwardError("the size space has no weights before its networks are built")

    def feed(self, images: Tensor, listeners: Sequence[Listener], weights: Kind) -> list[Tensor]:
        """Run forwards on images ``(M, 3, R, R)``; return each listener's scores, ``(N,)``.

        Tells the roles ``relu``, ``conv``, ``normalised`` and ``block``.

        Args:
            images: What the networks see.
            listeners: Additive ones, of :attr:`rows` rows; what they have added up is replaced
                by the totals of the architectures.
            weights: Which weights.
        """
        feed = Feed(self._seed, listeners, self.count, images, weights)
        with torch.inference_mode():
            maps = _stems(feed, self._levels[0], images)
            for layer, level in enumerate(self._levels):
                maps = _layer(feed, layer, level, maps)
        path = torch.from_numpy(self._paths).to(images.device)
        for listener in listeners:
            listener.totals = listener.totals[path].sum(dim=1)  # (N, ...)
        return [listener.scores() for listener in listeners]


def _stems(feed: Feed, level: _Level, images: Tensor) -> list[Tensor]:
    """Return the stem's maps for each first width, ``(M, C, R, R)`` each."""
    stems = []
    for number, width in enumerate(level.widths[:, 0]):
        made = convolve(images[None], feed.weight("stem.0", int(width), 3, 3))
        numbers = _numbers(images, [level.first + number])
        feed.tell("conv", made, numbers)
        x = feed.normalise(made, numbers)
        feed.tell("relu", F.relu(x), numbers, _READERS[0])
        stems.append(x[0])
    return stems


def _layer(feed: Feed, layer: int, level: _Level, maps: list[Tensor]) -> list[Tensor]:
    """Return the layer's maps for each prefix of the level, ``(M, C, H, W)`` each."""
    results: list[Tensor] = [maps[0]] * len(level.parents)
    pairs, group = np.unique(level.widths, axis=0, return_inverse=True)
    for number, (_, c_out) in enumerate(pairs.tolist()):
        members = np.flatnonzero(group.reshape(-1) == number)
        parents = [int(level.parents[i]) if layer else int(i) for i in members]
        x = torch.stack([maps[parent] for parent in parents])
        nodes = _numbers(x, level.first + members)
        name = f"body.layer{layer}"
        if REDUCTIONS[layer]:
            made = reduction(feed, name, x, F.relu(x), c_out, nodes)
        else:
            made = _cell(feed, name, x, c_out, nodes)
        feed.block(made, nodes, x)
        _tell_leaving(feed, layer, made, nodes)
        for i, result in zip(members, made, strict=True):
            results[i] = result
    return results


def _tell_leaving(feed: Feed, layer: int, made: Tensor, nodes: Tensor) -> None:
    """Tell the ReLU of what leaves a layer once, for all prefixes that go on from it."""
    if layer + 1 == len(REDUCTIONS):
        feed.tell("relu", F.relu(feed.normalise(made, nodes)), nodes)
    else:
        readers = 1 if REDUCTIONS[layer + 1] else _READERS[0]
        feed.tell("relu", F.relu(made), nodes, readers)


def _numbers(like: Tensor, numbers: Sequence[int] | NDArray[np.int64]) -> Tensor:
    return torch.as_tensor(np.asarray(numbers), device=like.device)


def _cell(feed: Feed, name: str, x: Tensor, width: int, numbers: Tensor) -> Tensor:
    """Run the size space's cell, ``(K, M, C_in, H, W)`` to ``(K, M, width, H, W)``."""
    values: dict[int, Tensor] = {0: x}
    rectified: dict[int, Tensor] = {}
    for edge, op in sorted(_EDGES, key=lambda pair: (pair[0].source, pair[0].target)):
        source = values[edge.source]
        place = f"{name}.edge{edge.source}{edge.target}"
        if op.kind == "conv":
            if edge.source not in rectified:
                rectified[edge.source] = F.relu(source)
                if edge.source:  # the input's was told when it left the layer before
                    feed.tell("relu", rectified[edge.source], numbers, _READERS[edge.source])
            made = feed.convolve(f"{place}.op.1", rectified[edge.source], width, op.kernel, numbers)
            made = feed.normalise(made, numbers)
        elif source.shape[2] == width:
            made = source
        else:
            made = feed.convolve(f"{place}.conv", source, width, 1, numbers)
            made = feed.normalise(made, numbers)
        known = values.get(edge.target)
        values[edge.target] = made if known is None else known + made
    return values[max(values)]
