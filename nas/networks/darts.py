"""A whole batch of DARTS architectures, run as one network.

Architectures differ in which earlier nodes a node reads, and by which operations. All that make the
same operation of the same node for the same node are one group, and each of its convolutions is one
call. See :mod:`nas.networks.batched`; names and weights are those of
:class:`spaces.darts_net.DartsNetwork`.

What is known is not computed: the ReLU of a map more than once, what is made of a map that all have
in common (the stem's, where they see the same images) more than once, and everything behind the
last map that a listener wants.

Letters: N architectures in the batch, K of them in a group, M images per architecture, C channels,
H W size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nas.networks.batched import OF_BLOCKS, BatchedNetworks, Feed
from nas.networks.cells import pool
from spaces import Population
from spaces.cell import Operation
from spaces.darts import CELLS, NODES, OPERATIONS, Darts, DartsOperation, Place, parts, places

_POOLS = {
    op.kind: Operation(op.name, op.kind, op.kernel)
    for op in OPERATIONS
    if op.kind == "max_pool" or op.kind == "avg_pool"
}


@dataclass(frozen=True)
class _Group:
    """The architectures that make the same of one node for another."""

    source: int
    node: int
    operation: DartsOperation
    archs: Tensor  # (K,)

    @property
    def name(self) -> str:
        return f"node{self.node}.from{self.source}"

    def reads_relu(self, place: Place) -> bool:
        """Tell whether the operation begins with a ReLU."""
        halves = place.reduction and self.source < 2
        return self.operation.kind in ("sep_conv", "dil_conv") or (
            self.operation.kind == "skip" and halves
        )


def _groups(space: Darts, population: Population, cell: int, device: str) -> list[_Group]:
    """Sort the edges of one cell of a batch by ends and operation; a source before its readers."""
    sources, operations = parts(population)
    groups = []
    for number, node in enumerate(NODES):
        for source in range(node):
            for choice, operation in enumerate(OPERATIONS):
                here = (sources[:, cell, number] == source) & (
                    operations[:, cell, number] == choice
                )
                archs = np.flatnonzero(here.any(axis=1))
                if len(archs):
                    owners = torch.from_numpy(archs).to(device)
                    groups.append(_Group(source, node, operation, owners))
    return groups


class DartsNetworks(BatchedNetworks):
    """The networks of a population of DARTS."""

    def __init__(
        self, space: Darts, population: Population, seed: int, num_classes: int, device: str
    ) -> None:
        """Work out who goes where; nothing runs yet.

        Args:
            space: The space.
            population: ``(N, 24)``.
            seed: Seed of the weights, as for :func:`nas.networks.weights.seed_weights`.
            num_classes: Width of the classifier.
            device: Where they run.
        """
        super().__init__(len(population), seed, num_classes, device)
        self._space = space
        self._cells = [_groups(space, population, c, device) for c in range(len(CELLS))]

    def _places(self, resolution: int) -> list[Place]:
        return list(places(self._space.width, self._space.n_cells, resolution))

    def weights(self) -> Iterator[tuple[Tensor, Tensor]]:
        feed = Feed(self._seed, (), self.count, torch.empty(0, device=self._everyone.device))
        stem = 3 * self._space.width
        yield self._everyone, feed.weight("stem.0", stem, 3, 3)
        steps = self._places(32)
        for place in steps:
            for name, c_in in (("older", place.c_older), ("last", place.c_last)):
                factorized = name == "older" and place.after_reduction
                for shape in _entry_shapes(f"{place.name}.{name}", c_in, place.width, factorized):
                    yield self._everyone, feed.weight(*shape)
            for group in self._cells[int(place.reduction)]:
                for shape in _shapes(group, place):
                    yield group.archs, feed.weight(*shape)
        yield self._everyone, self._classifier(len(NODES) * steps[-1].width)[0]

    def _forward(self, feed: Feed, images: Tensor) -> Tensor | None:
        everyone = self._everyone
        steps = self._places(images.shape[-1])
        final = _last_wanted(feed, steps)
        x = feed.convolve("stem.0", images, 3 * self._space.width, 3, everyone)
        x = feed.normalise(x, everyone)
        # The stem enters two cells, the first of them twice; any other output the next two.
        older = last = self._leave(feed, x, min(3, 1 + len(steps)))
        for number, place in enumerate(steps):
            if number > final:
                return None
            inside = number < final or _any_wanted(feed, place)
            made = self._cell(feed, place, older, last, inside)
            if made is None:
                return None
            feed.block(made, everyone, x.expand(feed.n, -1, -1, -1, -1))
            x = made
            if number + 1 < len(steps):
                older, last = last, self._leave(feed, made, min(2, len(steps) - 1 - number))
        feed.tell("last", x, everyone)
        return x

    def _leave(self, feed: Feed, output: Tensor, readers: int) -> Tensor:
        """Return the ReLU of what leaves a cell; tell it as often as cells begin with it."""
        rectified = F.relu(output)
        feed.tell("relu", rectified, self._everyone, readers)
        return rectified

    def _cell(
        self, feed: Feed, place: Place, older: Tensor, last: Tensor, inside: bool
    ) -> Tensor | None:
        """Run one cell for all, or only what is told of its inputs where nothing else is wanted.

        Args:
            feed: The pass.
            place: The cell.
            older: ReLU of the output before the last, ``(N, M, C, H, W)`` or ``(1, M, C, H, W)``.
            last: ReLU of the last output, likewise.
            inside: Whether anything but the ReLUs of its two inputs is wanted.
        """
        states = {
            0: _entry(feed, f"{place.name}.older", older, place, place.after_reduction),
            1: _entry(feed, f"{place.name}.last", last, place, False),
        }
        groups = self._cells[int(place.reduction)]
        rectified: dict[int, Tensor] = {}
        for source in (0, 1):
            self._rectify(feed, place, groups, source, states, rectified)
        if not inside:
            return None
        for node in NODES:
            total: Tensor | None = None
            for group in groups:
                if group.node == node:
                    out = _operate(feed, place, group, states, rectified)
                    if total is None:
                        total = out.new_zeros((feed.n, *out.shape[1:]))
                    total.index_add_(0, group.archs, out.expand(len(group.archs), -1, -1, -1, -1))
            assert total is not None  # every node reads two others
            states[node] = total
            self._rectify(feed, place, groups, node, states, rectified)
        return torch.cat([states[node] for node in NODES], dim=2)

    def _rectify(
        self,
        feed: Feed,
        place: Place,
        groups: Sequence[_Group],
        source: int,
        states: dict[int, Tensor],
        rectified: dict[int, Tensor],
    ) -> None:
        """Keep the ReLU of a node, and tell it for those that read it, as often as they do."""
        readers = [g for g in groups if g.source == source and g.reads_relu(place)]
        if not readers:
            return
        counts = torch.zeros_like(self._everyone)
        for group in readers:
            counts[group.archs] += 1
        archs = counts.nonzero()[:, 0]
        rectified[source] = F.relu(states[source])
        feed.tell("relu", _of(rectified[source], archs), archs, counts[archs])


def _of(maps: Tensor, archs: Tensor) -> Tensor:
    """Return the maps of some architectures; the one map, where all have the same."""
    return maps if len(maps) in (1, len(archs)) else maps.index_select(0, archs)


def _last_wanted(feed: Feed, steps: Sequence[Place]) -> int:
    """Return the number of the last cell with a map that some listener wants, -1 for none."""
    if feed.needs(("last",), len(NODES) * steps[-1].width, steps[-1].size ** 2):
        return len(steps) - 1
    final = -1
    for number, place in enumerate(steps):
        entering = 2 * place.size if place.reduction else place.size
        sizes = (place.width, place.width // 2)
        entry = any(feed.needs(OF_BLOCKS, width, entering**2) for width in sizes)
        if entry or _any_wanted(feed, place):
            final = number
    return final


def _any_wanted(feed: Feed, place: Place) -> bool:
    """Tell whether some listener wants a map of the size that leaves a cell."""
    widths = (place.width, len(NODES) * place.width, place.width // 2)
    return any(feed.needs(OF_BLOCKS, width, place.size**2) for width in widths)


def _entry_shapes(
    name: str, c_in: int, width: int, factorized: bool
) -> list[tuple[str, int, int, int]]:
    """List name, channels that go and come, and kernel of what a cell begins with."""
    if factorized:
        return [
            (f"{name}.even", width // 2, c_in, 1),
            (f"{name}.odd", width - width // 2, c_in, 1),
        ]
    return [(f"{name}.op.1", width, c_in, 1)]


def _shapes(group: _Group, place: Place) -> list[tuple[str, int, int, int]]:
    """List the convolutions of one operation as :func:`_entry_shapes` does."""
    name, c, kernel = f"{place.name}.{group.name}", place.width, group.operation.kernel
    if group.operation.kind == "skip":
        halves = place.reduction and group.source < 2
        return _entry_shapes(name, c, c, factorized=True) if halves else []
    if group.operation.kind not in ("sep_conv", "dil_conv"):
        return []
    times = 2 if group.operation.kind == "sep_conv" else 1
    return [
        shape
        for first in range(1, 4 * times, 4)
        for shape in ((f"{name}.{first}", c, 1, kernel), (f"{name}.{first + 1}", c, c, 1))
    ]


def _entry(feed: Feed, name: str, rectified: Tensor, place: Place, factorized: bool) -> Tensor:
    """Return what a cell makes of one of its inputs' ReLU: 1x1 convolution, batch-norm."""
    everyone = torch.arange(feed.n, device=rectified.device)
    if factorized:
        return _factorized(feed, name, rectified, place.width, everyone)
    out = feed.convolve(f"{name}.op.1", rectified, place.width, 1, everyone)
    return feed.normalise(out, everyone)


def _factorized(feed: Feed, name: str, rectified: Tensor, width: int, archs: Tensor) -> Tensor:
    """Return half the size by two 1x1 convolutions, the second one shifted by a pixel."""
    even = feed.convolve(f"{name}.even", rectified, width // 2, 1, archs, stride=2)
    shifted = rectified[..., 1:, 1:]
    odd = feed.convolve(f"{name}.odd", shifted, width - width // 2, 1, archs, stride=2)
    return feed.normalise(torch.cat([even, odd], dim=2), archs)


def _operate(
    feed: Feed,
    place: Place,
    group: _Group,
    states: dict[int, Tensor],
    rectified: dict[int, Tensor],
) -> Tensor:
    """Return what a group makes of its source, ``(K, M, C, H, W)``."""
    reads = rectified if group.reads_relu(place) else states
    maps = _of(reads[group.source], group.archs)
    stride = 2 if place.reduction and group.source < 2 else 1
    name, kind = f"{place.name}.{group.name}", group.operation.kind
    if kind == "skip":
        return maps if stride == 1 else _factorized(feed, name, maps, place.width, group.archs)
    if kind == "sep_conv" or kind == "dil_conv":
        return _separable(feed, name, group, maps, stride)
    if stride == 1:
        return pool(_POOLS[kind], maps)
    flat = maps.flatten(0, 1)
    if kind == "max_pool":
        flat = F.max_pool2d(flat, 3, 2, 1)
    else:
        flat = F.avg_pool2d(flat, 3, 2, 1, count_include_pad=False)
    return flat.view(*maps.shape[:2], *flat.shape[1:])


def _separable(feed: Feed, name: str, group: _Group, maps: Tensor, stride: int) -> Tensor:
    """Run a separable convolution (twice) or a dilated one (once) on rectified maps."""
    c, kernel = maps.shape[2], group.operation.kernel
    dilation = 2 if group.operation.kind == "dil_conv" else 1
    for first in (1, 5) if dilation == 1 else (1,):
        if first > 1:
            maps = F.relu(maps)
            feed.tell("relu", maps, group.archs)
        maps = feed.convolve(
            f"{name}.{first}",
            maps,
            c,
            kernel,
            group.archs,
            stride=stride,
            groups=c,
            dilation=dilation,
        )
        stride = 1
        maps = feed.convolve(f"{name}.{first + 1}", maps, c, 1, group.archs)
        maps = feed.normalise(maps, group.archs)
    return maps
