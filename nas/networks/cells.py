"""A whole batch of architectures of one cell space, run as one network.

Cells of a space differ only in which operation sits on which edge. One seeded weight per (cell,
edge, kernel) serves every architecture, so each convolution is called once for all that chose it
there. Batch-norm in train mode normalises the maps of one network over its own images and
positions, so architectures do not mix, forwards or backwards. Names and weights are those of
:class:`spaces.cell_net.CellNetwork`; a test compares the two.

What is known is not computed: a convolution of zeros, an operation whose result reaches no output,
the ReLU of a node more than once, and everything behind the last map that a listener wants.

Letters: N architectures in the batch, K of them at one operation, M images per architecture,
C channels, H W size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nas.networks.events import Event, Listener
from nas.networks.run import Layer, Norm, Run, Window, along, normalise_plainly
from nas.networks.weights import Kind, layer_bias, layer_weight
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
    """Return batch-norm in train mode, ``(K, M, C, H, W)``: each network by its own images."""
    count, images, channels = maps.shape[:3]
    if images == 1:
        # One group per channel. torch.var_mean over two dimensions takes 30 times as long on a CPU.
        return F.group_norm(maps[:, 0], channels, eps=EPSILON)[:, None]
    # All networks side by side as channels of one; a copy, but for a single network.
    side = maps.transpose(0, 1).reshape(images, count * channels, *maps.shape[3:])
    out = F.batch_norm(side, None, None, training=True, eps=EPSILON)
    apart = out.view(images, count, *maps.shape[2:]).transpose(0, 1)
    return apart.contiguous()


def convolve(maps: Tensor, weight: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
    """Convolve ``(K, M, C, H, W)`` with half a window of padding."""
    half = weight.shape[2] // 2
    flat: Tensor = F.conv2d(maps.flatten(0, 1), weight, None, stride, half, 1, groups)
    apart: Tensor = flat.view(*maps.shape[:2], *flat.shape[1:])
    return apart


@dataclass
class Feed:
    """One pass of one batch: weights, listeners, what is kept, and the numbering of maps.

    Attributes:
        seed: Of the weights.
        listeners: Who hears.
        n: N.
        like: A tensor of the networks' format and place.
        weights: How weights are drawn.
        norm: What batch-norms do; ``plain`` is ``image`` in steps that can be differentiated twice.
        keep: Gradients will be asked for, so nothing may be left out.
        whole: The pass goes on to the end, whoever listens.
        layers: Outputs of convolutions, if kept.
        blocks: Outputs of cells and reductions, if kept.
    """

    seed: int
    listeners: Sequence[Listener]
    n: int
    like: Tensor
    weights: Kind = "default"
    norm: Norm | Literal["plain"] = "batch"
    keep: bool = False
    whole: bool = False
    layers: list[Layer] = field(default_factory=list)
    blocks: list[Tensor] = field(default_factory=list)
    _next: int = field(default=0)

    def weight(self, name: str, c_out: int, c_in: int, kernel: int) -> Tensor:
        shape = (c_out, c_in, kernel, kernel)
        return layer_weight(self.seed, name, shape, self.weights).to(self.like)

    def normalise(self, maps: Tensor, archs: Tensor) -> Tensor:
        """Return the maps after a batch-norm."""
        self.tell("normalised", maps, archs)
        if self.norm == "identity":  # running mean 0, running variance 1
            return maps / math.sqrt(1.0 + EPSILON)
        if self.norm == "plain":
            return normalise_plainly(maps, EPSILON)
        if self.norm == "image":
            return normalise(maps.flatten(0, 1)[:, None]).view(maps.shape)
        return normalise(maps)

    def convolve(
        self, name: str, maps: Tensor, width: int, kernel: int, archs: Tensor, stride: int = 1
    ) -> Tensor:
        """Run the convolution called ``name`` for some architectures; tell and keep its output."""
        weight = self.weight(name, width, maps.shape[2], kernel)
        out = convolve(maps, weight, stride)
        self.tell("conv", out, archs)
        if self.keep:
            window = Window((stride, stride), (kernel // 2, kernel // 2))
            self.layers.append(Layer(out, archs, entered=maps, weight=weight, window=window))
        return out

    def block(self, maps: Tensor, archs: Tensor) -> None:
        """Tell and keep what leaves a building block."""
        self.tell("block", maps, archs)
        if self.keep:
            self.blocks.append(maps)

    def wanted(self, role: str, channels: int, positions: int) -> list[Listener]:
        return [x for x in self.listeners if role in x.roles and x.wants(channels, positions)]

    def tell(self, role: str, maps: Tensor, archs: Tensor, counts: Tensor | int = 1) -> None:
        """Make one event of ``maps``, ``(K, M, C, H, W)``, and tell it to whoever wants it.

        ``(1, M, C, H, W)`` where all K have the same.
        """
        hearers = self.wanted(role, maps.shape[2], maps.shape[3] * maps.shape[4])
        if hearers:
            self._next += 1
            if len(maps) != len(archs):  # all have the same
                maps = maps.expand(len(archs), -1, -1, -1, -1)
            event = Event(maps.detach(), archs, {role: counts}, self._next, self._next)
            with torch.no_grad():
                for listener in hearers:
                    listener.hear(event)


class CellNetworks:
    """The networks of a population of one cell space, in the form that proxies ask.

    Attributes:
        count: N, how many.
        rows: Of a listener's totals, N.
    """

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
        self.count = self.rows = len(population)
        self._space = space
        self._seed = seed
        self._classes = num_classes
        self._plan = _plan(space, population, device)
        self._everyone = torch.arange(self.count, device=device)

    def feed(self, images: Tensor, listeners: Sequence[Listener], weights: Kind) -> list[Tensor]:
        """Run forwards on images ``(M, 3, R, R)``; return each listener's scores, ``(N,)``.

        Tells the roles ``relu``, ``conv``, ``normalised``, ``block`` and ``last``.
        """
        feed = Feed(self._seed, listeners, self.count, images, weights)
        with torch.inference_mode():
            self._forward(feed, images[None])
        return [listener.scores() for listener in listeners]

    def run(
        self,
        images: Tensor,
        labels: Tensor | None = None,
        *,
        listeners: Sequence[Listener] = (),
        weights: Kind = "default",
        norm: Norm = "batch",
        dtype: torch.dtype | None = None,
        twice: bool = False,
    ) -> Run:
        """Run with gradients, as :meth:`nas.networks.module.ModuleNetwork.run`."""
        images = images.to(dtype or images.dtype)
        leaf = images.expand(self.count, *images.shape).clone().requires_grad_()
        feed = Feed(self._seed, listeners, self.count, leaf, weights, norm, keep=True, whole=True)
        with torch.enable_grad():
            features = self._forward(feed, leaf)
            assert features is not None
            logits = self._classify(feed, features)
        return Run(leaf, logits, labels=labels, layers=feed.layers, blocks=feed.blocks, twice=twice)

    def along(self, path: Callable[[Tensor], Tensor], at: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`nas.networks.module.ModuleNetwork.along`, ``(N, M, classes)`` each."""

        def logits(images: Tensor) -> Tensor:
            feed = Feed(self._seed, (), self.count, images, norm="plain", whole=True)
            features = self._forward(feed, images[None])
            assert features is not None
            return self._classify(feed, features)

        return along(logits, path, at)

    def weights(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Return the weight of every layer, after the places of those who have it, ``(k,)``.

        Layers that reach no output are left out.
        """
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
        yield self._everyone, layer_weight(self._seed, "classifier", (self._classes, before))

    def _forward(self, feed: Feed, images: Tensor) -> Tensor | None:
        """Run to the last map that is wanted; return the maps before pooling if all is kept.

        Args:
            feed: The pass.
            images: ``(N, M, 3, R, R)``, or ``(1, M, 3, R, R)`` where all see the same ones.
        """
        space, plan, everyone = self._space, self._plan, self._everyone
        last = _last_wanted(feed, space, images.shape[3])
        x = feed.convolve("stem.0", images, space.skeleton.widths[0], 3, everyone)
        x = feed.normalise(x, everyone).expand(feed.n, -1, -1, -1, -1)
        for number, (kind, name, width) in enumerate(_steps(space)):
            if number > last:
                return None
            if kind == "cell":
                x = _cell(feed, plan, name, x)
                feed.block(x, everyone)
            elif kind == "reduction":
                rectified = F.relu(x)
                feed.tell("relu", rectified, everyone)
                if number == last and not self._inside_wanted(feed, x, width):
                    return None  # only what enters the block was wanted
                x = reduction(feed, name, x, rectified, width, everyone)
                feed.block(x, everyone)
            else:
                x = F.relu(feed.normalise(x, everyone))
                feed.tell("relu", x, everyone)
                feed.tell("last", x, everyone)
        return x

    @staticmethod
    def _inside_wanted(feed: Feed, x: Tensor, width: int) -> bool:
        positions = ((x.shape[3] + 1) // 2) * ((x.shape[4] + 1) // 2)
        return feed.whole or any(feed.wanted(role, width, positions) for role in _TOLD)

    def _classify(self, feed: Feed, features: Tensor) -> Tensor:
        """Return logits ``(N, M, classes)``."""
        shape = (self._classes, features.shape[2])
        weight = layer_weight(self._seed, "classifier", shape, feed.weights).to(features)
        bias = layer_bias(self._seed, "classifier", shape, feed.weights).to(features)
        pooled = features.mean(dim=(3, 4))
        logits = F.linear(pooled, weight, bias)
        if feed.keep:
            feed.layers.append(
                Layer(logits, self._everyone, linear=True, bias=bias, entered=pooled, weight=weight)
            )
        return logits


def _steps(space: CellSpace) -> Iterator[tuple[str, str, int]]:
    """List the parts of the network behind the stem: (kind, name, width)."""
    for stage, width in enumerate(space.skeleton.widths):
        if stage:
            yield "reduction", f"body.reduction{stage}", width
        for number in range(space.skeleton.cells):
            yield "cell", f"body.stage{stage}.{number}", width
    yield "end", "last", space.skeleton.widths[-1]


_TOLD = ("relu", "conv", "normalised", "block", "last")


def _last_wanted(feed: Feed, space: CellSpace, resolution: int) -> int:
    """Return the number of the last step with a map that some listener wants, -1 for none."""
    last, size, before = -1, resolution, space.skeleton.widths[0]
    for number, (kind, _, width) in enumerate(_steps(space)):
        roles = ("relu", "normalised", "last") if kind == "end" else _TOLD[:-1]
        entering = (before, size)
        if kind == "reduction":
            size = (size + 1) // 2
        shapes = {entering, (width, size)}
        if feed.whole or any(feed.wanted(role, c, s * s) for role in roles for c, s in shapes):
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
    return maps if operation.kind == "skip" else _pool(operation, maps)


def _rectify(feed: Feed, plan: _Plan, node: int, source: Tensor) -> Tensor:
    """Return the ReLU of a node for all, ``(N, M, C, H, W)``; tell it for those that read it."""
    rectified = F.relu(source)
    archs = plan.relu_archs[node]
    heard = rectified if len(archs) == feed.n else rectified.index_select(0, archs)
    feed.tell("relu", heard, archs, plan.relu_counts[node])
    return rectified


def _pool(operation: Operation, maps: Tensor) -> Tensor:
    kernel, half = operation.kernel, operation.kernel // 2
    if operation.kind == "max_pool":
        return F.max_pool2d(maps.flatten(0, 1), kernel, 1, half).view(maps.shape)
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
