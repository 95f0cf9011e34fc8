"""The feeder that runs a whole batch of architectures of one cell space as one network.

Cells of a space differ only in which operation sits on which edge. One seeded weight per (cell,
edge, kernel) serves every architecture, so each convolution is called once for all that chose it
there. Batch-norm in train mode with one image per network is a normalisation of each map over its
positions, so architectures do not mix. Names and weights are those of
:class:`spaces.cell_net.CellNetwork`; a test compares the two feeders.

What is known is not computed: a convolution of zeros, an operation whose result reaches no output,
the ReLU of a node more than once, and everything behind the last map that a listener wants.

Letters: N architectures in the batch, K of them at one operation, C channels, H W size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nas.proxies.events import Event, Listener
from nas.proxies.weights import layer_weight
from spaces import CellSpace, Population
from spaces.cell import Operation

EPSILON = 1e-5  # of nn.BatchNorm2d


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


def normalise(maps: Tensor) -> Tensor:
    """Return batch-norm in train mode for one image per network: ``(K, C, H, W)``, per map."""
    # One group per channel. torch.var_mean over two dimensions takes 30 times as long on a CPU.
    return F.group_norm(maps, maps.shape[1], eps=EPSILON)


@dataclass
class Feed:
    """One pass of one batch: weights, listeners, and the numbering of maps."""

    seed: int
    listeners: Sequence[Listener]
    n: int
    like: Tensor
    _next: int = field(default=0)

    def weight(self, name: str, c_out: int, c_in: int, kernel: int) -> Tensor:
        return layer_weight(self.seed, name, (c_out, c_in, kernel, kernel)).to(self.like)

    def wanted(self, role: str, channels: int, positions: int) -> list[Listener]:
        return [x for x in self.listeners if role in x.roles and x.wants(channels, positions)]

    def tell(self, role: str, maps: Tensor, archs: Tensor, counts: Tensor | int = 1) -> None:
        """Make one event of ``maps``, ``(K, C, H, W)``, and tell it to whoever wants it."""
        hearers = self.wanted(role, maps.shape[1], maps.shape[2] * maps.shape[3])
        if hearers:
            self._next += 1
            event = Event(maps, archs, {role: counts}, self._next, self._next)
            for listener in hearers:
                listener.hear(event)


def feed_cells(
    space: CellSpace,
    population: Population,
    image: Tensor,
    seed: int,
    make: Callable[[int], Sequence[Listener]],
) -> list[Tensor]:
    """Run the networks of a population on one image; return each listener's scores, ``(N,)``.

    Tells the roles ``relu`` and ``conv``.

    Args:
        space: A cell space.
        population: ``(N, E)``. What reaches no output makes no event; canonical forms hold none
            of it, and for them the events are those of :func:`nas.proxies.hooks.feed_module`.
        image: ``(1, 3, R, R)``; its format and place are those of the networks.
        seed: Seed of the weights, as for :func:`nas.proxies.weights.seed_weights`.
        make: Returns listeners for a number of architectures.
    """
    listeners = make(len(population))
    feed = Feed(seed, listeners, len(population), image)
    plan = _plan(space, population, str(image.device))
    everyone = torch.arange(feed.n, device=image.device)
    with torch.inference_mode():
        last = _last_wanted(feed, space, image.shape[2])
        x = F.conv2d(image, feed.weight("stem.0", space.skeleton.widths[0], 3, 3), padding=1)
        x = x.expand(feed.n, -1, -1, -1)  # the stem is the same for all
        feed.tell("conv", x, everyone)
        x = normalise(x[:1]).expand(feed.n, -1, -1, -1)
        for number, (kind, name, width) in enumerate(_steps(space)):
            if number > last:
                break
            if kind == "cell":
                x = _cell(feed, plan, name, x)
            elif kind == "reduction":
                rectified = F.relu(x)
                feed.tell("relu", rectified, everyone)
                inside = width, (x.shape[2] + 1) // 2 * ((x.shape[3] + 1) // 2)
                if number == last and not (
                    feed.wanted("conv", *inside) or feed.wanted("relu", *inside)
                ):
                    break  # only what enters the block was wanted
                x = reduction(feed, name, x, rectified, width, everyone)
            else:
                feed.tell("relu", F.relu(normalise(x)), everyone)
    return [listener.scores() for listener in listeners]


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
        roles = ("relu",) if kind == "end" else ("relu", "conv")
        entering = (before, size)
        if kind == "reduction":
            size = (size + 1) // 2
        shapes = {entering, (width, size)}
        if any(feed.wanted(role, c, s * s) for role in roles for c, s in shapes):
            last = number
        before = width
    return last


def _cell(feed: Feed, plan: _Plan, name: str, x: Tensor) -> Tensor:
    """Run one cell for all: ``(N, C, H, W)`` to ``(N, C, H, W)``."""
    nodes: list[Tensor | None] = [x] + [None] * (plan.n_nodes - 1)
    rectified: dict[int, Tensor] = {}
    width = x.shape[1]
    for route in plan.routes:  # by source: a node is complete before it is read
        source = nodes[route.source]
        if source is None:
            continue
        if route.source in plan.relu_archs and route.source not in rectified:
            rectified[route.source] = _rectify(feed, plan, route.source, source)
        for group in route.groups:
            target = nodes[route.target]
            if target is None:
                target = nodes[route.target] = x.new_zeros(x.shape)
            if group.operation.kind == "conv":
                out = _convolve(feed, f"{name}.{route.name}", group, rectified[route.source], width)
            elif group.operation.kind == "skip":
                out = source.index_select(0, group.archs)
            else:
                out = _pool(group.operation, source.index_select(0, group.archs))
            target.index_add_(0, group.archs, out)
    result = nodes[-1]
    return x.new_zeros(x.shape) if result is None else result


def _rectify(feed: Feed, plan: _Plan, node: int, source: Tensor) -> Tensor:
    """Return the ReLU of a node for all, ``(N, C, H, W)``, and tell it for those that read it."""
    rectified = F.relu(source)
    archs = plan.relu_archs[node]
    heard = rectified if len(archs) == feed.n else rectified.index_select(0, archs)
    feed.tell("relu", heard, archs, plan.relu_counts[node])
    return rectified


def _convolve(feed: Feed, name: str, group: _Group, rectified: Tensor, width: int) -> Tensor:
    kernel = group.operation.kernel
    weight = feed.weight(f"{name}.op.1", width, width, kernel)
    maps = F.conv2d(rectified.index_select(0, group.archs), weight, padding=kernel // 2)
    feed.tell("conv", maps, group.archs)
    return normalise(maps)


def _pool(operation: Operation, maps: Tensor) -> Tensor:
    kernel, half = operation.kernel, operation.kernel // 2
    if operation.kind == "max_pool":
        return F.max_pool2d(maps, kernel, 1, half)
    # The average without its padding, as a depthwise sum over the number of summands: F.avg_pool2d
    # takes 20 times as long on a CPU.
    ones = maps.new_ones((1, 1, kernel, kernel))
    summed = F.conv2d(
        maps, ones.expand(maps.shape[1], -1, -1, -1), padding=half, groups=maps.shape[1]
    )
    summands = F.conv2d(maps.new_ones((1, 1, *maps.shape[2:])), ones, padding=half)
    return summed / summands


def reduction(
    feed: Feed, name: str, x: Tensor, rectified: Tensor, width: int, numbers: Tensor
) -> Tensor:
    """Run one residual reduction, ``(K, C, H, W)`` to ``(K, width, H/2, W/2)``.

    Args:
        feed: The pass.
        name: Of the block in its network.
        x: What enters.
        rectified: Its ReLU, which the caller has told.
        width: Channels that leave.
        numbers: What the listeners know the K maps by.
    """
    before = x.shape[1]
    first = F.conv2d(rectified, feed.weight(f"{name}.conv_a.op.1", width, before, 3), None, 2, 1)
    feed.tell("conv", first, numbers)
    rectified = F.relu(normalise(first))
    feed.tell("relu", rectified, numbers)
    second = F.conv2d(rectified, feed.weight(f"{name}.conv_b.op.1", width, width, 3), None, 1, 1)
    feed.tell("conv", second, numbers)
    short = F.conv2d(F.avg_pool2d(x, 2), feed.weight(f"{name}.downsample.1", width, before, 1))
    feed.tell("conv", short, numbers)
    return normalise(second) + short
