"""A whole batch of architectures of one cell space, run as one network.

Cells of a space differ only in which operation sits on which edge. One seeded weight per (cell,
edge, kernel) serves every architecture, see :mod:`nas.networks.batched`. Names and weights are
those of :class:`spaces.cell_net.CellNetwork`.

What is known is not computed: a convolution of zeros, an operation whose result reaches no output,
the ReLU of a node more than once, and everything behind the last map that a listener wants.

Letters: N architectures in the batch, K of them at one operation, M images per architecture,
C channels, H W size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nas.networks.batched import OF_BLOCKS, BatchedNetworks, Feed, convolve, max_pool
from spaces import CellSpace, Population
from spaces.cell import Operation


@dataclass(frozen=True)
class _Group:
    """The architectures of the batch that have one operation on one edge."""

    operation: Operation
    archs: Tensor  # (K,)


@dataclass(frozen=True)
class _Route:
    """What happens on one edge, and at its source, for every architecture of the batch."""

    source: int
    target: int
    name: str
    groups: tuple[_Group, ...]


@dataclass(frozen=True)
class _Plan:
    """Routing of a batch: the same in every cell, so it is worked out once."""

    routes: tuple[_Route, ...]
    relu_archs: dict[int, Tensor]  # node -> architectures with a convolution on its ReLU, (K,)
    relu_counts: dict[int, Tensor]  # node -> how many convolutions read it, (K,)
    n_nodes: int


def _plan(space: CellSpace, population: Population, device: str) -> _Plan:
    """Sort the architectures of a batch by operation, edge by edge; dead edges are left out."""
    live = space.graph(population).live()
    routes = []
    readers: dict[int, NDArray[np.int64]] = {}
    for e, edge in enumerate(space.edges):
        groups = []
        for choice, operation in enumerate(edge.operations):
            here = live[:, e] & (population[:, e] == choice)
            if operation.kind == "conv":
                counts = readers.setdefault(edge.source, np.zeros(len(population), np.int64))
                counts += here
            archs = torch.from_numpy(np.flatnonzero(here)).to(device)
            if len(archs):
                groups.append(_Group(operation, archs))
        name = f"edge{edge.source}{edge.target}"
        routes.append(_Route(edge.source, edge.target, name, tuple(groups)))
    order = sorted(routes, key=lambda route: (route.source, route.target))
    archs_of = {node: np.flatnonzero(counts) for node, counts in readers.items() if counts.any()}
    return _Plan(
        routes=tuple(order),
        relu_archs={node: torch.from_numpy(a).to(device) for node, a in archs_of.items()},
        relu_counts={
            node: torch.from_numpy(readers[node][a]).to(device) for node, a in archs_of.items()
        },
        n_nodes=space.n_nodes,
    )


class CellNetworks(BatchedNetworks):
    """The networks of a population of one cell space."""

    def __init__(
        self, space: CellSpace, population: Population, seed: int, num_classes: int, device: str
    ) -> None:
        """Work out who goes where; nothing runs yet.

        Args:
            space: A cell space.
            population: ``(N, E)``. What reaches no output makes no event; canonical forms hold
                none of it, and for them the events are those of :mod:`nas.networks.module`.
            seed: Seed of the weights, as for :func:`nas.networks.weights.seed_weights`.
            num_classes: Width of the classifier.
            device: Where they run.
        """
        super().__init__(len(population), seed, num_classes, device)
        self._space = space
        self._plan = _plan(space, population, device)

    def weights(self) -> Iterator[tuple[Tensor, Tensor]]:
        feed = Feed(self._seed, (), self.count, torch.empty(0, device=self._everyone.device))
        widths = self._space.skeleton.widths
        yield self._everyone, feed.weight("stem.0", widths[0], 3, 3)
        before = widths[0]
        for kind, name, width in _steps(self._space):
            if kind == "cell":
                for route in self._plan.routes:
                    for group in route.groups:
                        if group.operation.kind == "conv":
                            place = f"{name}.{route.name}.op.1"
                            kernel = group.operation.kernel
                            yield group.archs, feed.weight(place, width, width, kernel)
            elif kind == "reduction":
                yield self._everyone, feed.weight(f"{name}.conv_a.op.1", width, before, 3)
                yield self._everyone, feed.weight(f"{name}.conv_b.op.1", width, width, 3)
                yield self._everyone, feed.weight(f"{name}.downsample.1", width, before, 1)
            before = width
        yield self._everyone, self._classifier(before)[0]

    def _forward(self, feed: Feed, images: Tensor) -> Tensor | None:
        space, plan, everyone = self._space, self._plan, self._everyone
        last = _last_wanted(feed, space, images.shape[3])
        x = feed.convolve("stem.0", images, space.skeleton.widths[0], 3, everyone)
        x = feed.normalise(x, everyone).expand(feed.n, -1, -1, -1, -1)
        for number, (kind, name, width) in enumerate(_steps(space)):
            if number > last:
                return None
            if kind == "cell":
                entered, x = x, _cell(feed, plan, name, x)
                feed.block(x, everyone, entered)
            elif kind == "reduction":
                rectified = F.relu(x)
                feed.tell("relu", rectified, everyone)
                if number == last and not self._inside_wanted(feed, x, width):
                    return None  # only what enters the block was wanted
                entered, x = x, reduction(feed, name, x, rectified, width, everyone)
                feed.block(x, everyone, entered)
            else:
                x = F.relu(feed.normalise(x, everyone))
                feed.tell("relu", x, everyone)
                feed.tell("last", x, everyone)
        return x

    @staticmethod
    def _inside_wanted(feed: Feed, x: Tensor, width: int) -> bool:
        positions = ((x.shape[3] + 1) // 2) * ((x.shape[4] + 1) // 2)
        return feed.needs(OF_BLOCKS, width, positions)


def _steps(space: CellSpace) -> Iterator[tuple[str, str, int]]:
    """List the parts of the network behind the stem: (kind, name, width)."""
    for stage, width in enumerate(space.skeleton.widths):
        if stage:
            yield "reduction", f"body.reduction{stage}", width
        for number in range(space.skeleton.cells):
            yield "cell", f"body.stage{stage}.{number}", width
    yield "end", "last", space.skeleton.widths[-1]


def _last_wanted(feed: Feed, space: CellSpace, resolution: int) -> int:
    """Return the number of the last step with a map that some listener wants, -1 for none."""
    last, size, before = -1, resolution, space.skeleton.widths[0]
    for number, (kind, _, width) in enumerate(_steps(space)):
        roles = ("relu", "normalised", "last") if kind == "end" else OF_BLOCKS
        entering = (before, size)
        if kind == "reduction":
            size = (size + 1) // 2
        shapes = {entering, (width, size)}
        if any(feed.needs(roles, c, s * s) for c, s in shapes):
            last = number
        before = width
    return last


def _cell(feed: Feed, plan: _Plan, name: str, x: Tensor) -> Tensor:
    """Run one cell for all: ``(N, M, C, H, W)`` to the same."""
    nodes: dict[int, Tensor] = {0: x}
    owned: set[int] = set()  # nodes that are nobody else's, so that more may be added in place
    rectified: dict[int, Tensor] = {}
    for route in plan.routes:  # by source: a node is complete before it is read
        if route.source not in nodes:
            continue
        source, target = nodes[route.source], route.target
        if route.source in plan.relu_archs and route.source not in rectified:
            rectified[route.source] = _rectify(feed, plan, route.source, source)
        for group in route.groups:
            some = len(group.archs) < feed.n
            maps = rectified[route.source] if group.operation.kind == "conv" else source
            maps = maps.index_select(0, group.archs) if some else maps
            maps = _operate(feed, f"{name}.{route.name}.op.1", group, maps)
            if target not in nodes and not some:
                nodes[target] = maps  # perhaps the source itself
                continue
            if target not in owned:
                nodes[target] = nodes[target].clone() if target in nodes else torch.zeros_like(x)
                owned.add(target)
            nodes[target].index_add_(0, group.archs, maps)
    # Nothing arrives for anybody; 0 times x stays a part of the graph that gradients ask for.
    return nodes[plan.n_nodes - 1] if plan.n_nodes - 1 in nodes else x * 0.0


def _operate(feed: Feed, name: str, group: _Group, maps: Tensor) -> Tensor:
    """Return what an edge makes of the maps that enter it (rectified, for a convolution)."""
    operation = group.operation
    if operation.kind == "conv":
        out = feed.convolve(name, maps, maps.shape[2], operation.kernel, group.archs)
        return feed.normalise(out, group.archs)
    return maps if operation.kind == "skip" else pool(operation, maps)


def _rectify(feed: Feed, plan: _Plan, node: int, source: Tensor) -> Tensor:
    """Return the ReLU of a node for all, ``(N, M, C, H, W)``; tell it for those that read it."""
    rectified = F.relu(source)
    archs = plan.relu_archs[node]
    heard = rectified if len(archs) == feed.n else rectified.index_select(0, archs)
    feed.tell("relu", heard, archs, plan.relu_counts[node])
    return rectified


def pool(operation: Operation, maps: Tensor) -> Tensor:
    """Return pooling of stride 1 that keeps the size, ``(K, M, C, H, W)`` to the same."""
    kernel, half = operation.kernel, operation.kernel // 2
    if operation.kind == "max_pool":
        return max_pool(maps, kernel)
    # The average without its padding, as a depthwise sum over the number of summands: F.avg_pool2d
    # takes 20 times as long on a CPU.
    ones = maps.new_ones((1, 1, kernel, kernel))
    channels = maps.shape[2]
    summed = convolve(maps, ones.expand(channels, -1, -1, -1), groups=channels)
    summands = F.conv2d(maps.new_ones((1, 1, *maps.shape[3:])), ones, padding=half)
    return summed / summands


def reduction(
    feed: Feed, name: str, x: Tensor, rectified: Tensor, width: int, numbers: Tensor
) -> Tensor:
    """Run one residual reduction, ``(K, M, C, H, W)`` to ``(K, M, width, H/2, W/2)``.

    Args:
        feed: The pass.
        name: Of the block in its network.
        x: What enters.
        rectified: Its ReLU, which the caller has told.
        width: Channels that leave.
        numbers: What the listeners know the K maps by.
    """
    first = feed.convolve(f"{name}.conv_a.op.1", rectified, width, 3, numbers, stride=2)
    rectified = F.relu(feed.normalise(first, numbers))
    feed.tell("relu", rectified, numbers)
    second = feed.convolve(f"{name}.conv_b.op.1", rectified, width, 3, numbers)
    pooled = F.avg_pool2d(x.flatten(0, 1), 2)
    pooled = pooled.view(*x.shape[:2], *pooled.shape[1:])
    short = feed.convolve(f"{name}.downsample.1", pooled, width, 1, numbers)
    return feed.normalise(second, numbers) + short
