"""A whole batch of NAS-Bench-101 architectures, run as one network.

Here operations sit on the vertices of a cell, and their widths follow from the edges: the maps of
one vertex are ragged over the batch. At each vertex, the architectures with the same operation and
width are one convolution call; so are the 1x1 projections of the cell's input of one width. See
:mod:`nas.networks.batched`; names and weights are those of
:class:`spaces.nasbench101_net.NasBench101Network`.

What is known is not computed. Where networks see the same image, they have the stem in common, and
in the first module whatever was made of it in the same way: each is computed once and belongs to
all of them. An architecture drops out of the batch behind the last map of its own that a listener
wants, and of that module only what leads there is run.

Letters: N architectures in the batch, K of them at one operation, U maps that they have between
them, M images per architecture, C channels, H W size, R resolution of the images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.networks.batched import INSIDE, BatchedNetworks, Feed, halve, max_pool
from spaces import Population
from spaces.nasbench101 import (
    INNER,
    OPERATIONS,
    NasBench101,
    infer_channels,
    inner_operations,
    prune,
)

_Flags = NDArray[np.bool_]

#: Maps ``(M, C, H, W)`` of some architectures, by their places in the batch; several may have the
#: same object.
_Maps = dict[int, Tensor]


@dataclass(frozen=True)
class _Step:
    """One module of the network behind the stem.

    Attributes:
        name: Of the module.
        halved: Whether max pooling stands before it.
        size: Height and width of its maps.
        c_in: Channels that come.
        c_out: Channels that go.
    """

    name: str
    halved: bool
    size: int
    c_in: int
    c_out: int


@dataclass(frozen=True)
class _Need:
    """What of one module has to be run, for each architecture of the batch.

    Attributes:
        vertices: ``(N, 5)``.
        projection: The projection of its input that is added to its output, ``(N,)``.
        output: ``(N,)``.
    """

    vertices: _Flags
    projection: _Flags
    output: _Flags

    @property
    def anything(self) -> _Flags:
        """Who has to enter the module, ``(N,)``."""
        active: _Flags = self.vertices.any(axis=1) | self.projection | self.output
        return active


class VertexNetworks(BatchedNetworks):
    """The networks of a population of NAS-Bench-101."""

    def __init__(
        self, space: NasBench101, population: Population, seed: int, num_classes: int, device: str
    ) -> None:
        """Work out the widths; nothing runs yet.

        Args:
            space: The space.
            population: ``(N, 26)``. Pruned vertices are no part of the networks.
            seed: Seed of the weights, as for :func:`nas.networks.weights.seed_weights`.
            num_classes: Width of the classifier.
            device: Where they run.
        """
        super().__init__(len(population), seed, num_classes, device)
        self._skeleton = space.skeleton
        self._edges = prune(population)  # (N, 7, 7), [source, target]
        self._live = np.any(self._edges[:, :, 1:-1], axis=1)  # (N, 5)
        self._operations = inner_operations(population)
        self._channels = {w: infer_channels(self._edges, w) for w in space.skeleton.widths}

    def weights(self) -> Iterator[tuple[Tensor, Tensor]]:
        feed = Feed(self._seed, (), self.count, torch.empty(0, device=self._everyone.device))
        yield self._everyone, feed.weight("stem.0", self._skeleton.widths[0], 3, 3)
        for step in self._steps(1):
            for name, kernel, c_in, widths, here in self._convolutions(step):
                for width, archs in _by_width(widths, here):
                    weight = feed.weight(name, width, c_in or width, kernel)
                    yield self._everyone[archs], weight
        yield self._everyone, self._classifier(self._skeleton.widths[-1])[0]

    def _convolutions(
        self, step: _Step
    ) -> Iterator[tuple[str, int, int | None, NDArray[np.int64], _Flags]]:
        """List the convolutions of a module.

        Returns:
            Name, kernel, channels that come (None: as many as leave), channels that leave ``(N,)``,
            and who has it ``(N,)``.
        """
        for v in INNER:
            widths, live = self._channels[step.c_out][:, v - 1], self._live[:, v - 1]
            place = f"{step.name}.vertex{v}"
            yield f"{place}.project.0", 1, step.c_in, widths, live & self._edges[:, 0, v]
            for number, operation in enumerate(OPERATIONS):
                if operation.kind == "conv":
                    chosen = live & (self._operations[:, v - 1] == number)
                    yield f"{place}.op.0", operation.kernel, None, widths, chosen
        everywhere = np.full(self.count, step.c_out)
        yield f"{step.name}.project.0", 1, step.c_in, everywhere, self._edges[:, 0, -1]

    def _steps(self, resolution: int) -> list[_Step]:
        """List the modules of the network for images of a size."""
        steps = []
        size, before = resolution, self._skeleton.widths[0]
        for stack, width in enumerate(self._skeleton.widths):
            for number in range(self._skeleton.cells):
                halved = stack > 0 and number == 0
                size = (size + 1) // 2 if halved else size
                name = f"body.stack{stack}module{number}"
                steps.append(_Step(name, halved, size, before, width))
                before = width
        return steps

    def _needs(self, feed: Feed, steps: Sequence[_Step]) -> list[_Need]:
        """Return what has to be run of each module."""
        later = np.zeros(self.count, dtype=bool)
        needs = []
        for number, step in reversed(list(enumerate(steps))):
            positions = step.size**2
            roles = ("block", "last") if number == len(steps) - 1 else ("block",)
            output = later | feed.needs(roles, step.c_out, positions)
            heard = feed.needs(INSIDE, step.c_out, positions)
            projection = self._edges[:, 0, -1] & (output | heard)
            vertices = self._vertices_needed(feed, step, output)
            needs.append(_Need(vertices, projection, output))
            later = needs[-1].anything
        return needs[::-1]

    def _vertices_needed(self, feed: Feed, step: _Step, output: _Flags) -> _Flags:
        """Tell which inner vertices of a module lead to something that is wanted, ``(N, 5)``."""
        channels = self._channels[step.c_out]
        heard = {
            width: feed.needs(INSIDE, width, step.size**2) for width in np.unique(channels).tolist()
        }
        convolves = np.asarray([operation.kind == "conv" for operation in OPERATIONS])
        has_maps = convolves[self._operations] | self._edges[:, 0, 1:-1]  # of its own
        told = np.vectorize(heard.get, otypes=[bool])(channels)
        needed: _Flags = self._live & ((has_maps & told) | output[:, None])
        for v in reversed(INNER):  # what needs a vertex needs what that reads
            needed[:, : v - 1] |= self._edges[:, 1:v, v] & needed[:, v - 1, None]
        return needed

    def _forward(self, feed: Feed, images: Tensor) -> Tensor | None:
        steps = self._steps(images.shape[-1])
        x = _conv_bn_relu(feed, "stem.0", self._skeleton.widths[0], 3, images, self._everyone)
        here = np.arange(self.count)  # whose maps x are, unless all have the same one
        for step, need in zip(steps, self._needs(feed, steps), strict=True):
            active = np.flatnonzero(need.anything)
            if not len(active):
                return None
            x = halve(x) if step.halved else x
            if len(x) == 1:
                entering = dict.fromkeys(active.tolist(), x[0])
            else:
                given = dict(zip(here.tolist(), x.unbind(0), strict=True))
                entering = {arch: given[arch] for arch in active.tolist()}
            leaving = self._module(feed, step, need, entering)
            here = np.flatnonzero(need.output)
            if not len(here):
                return None
            entered, x = x, _stack([leaving[arch] for arch in here.tolist()])
            # Who hears of blocks needs them of all, so that what entered is that of all, too.
            if len(entered) == 1:
                entered = entered.expand(len(here), -1, -1, -1, -1)
            feed.block(x, self._everyone[here], entered)
        feed.tell("last", x, self._everyone)
        return x

    def _module(self, feed: Feed, step: _Step, need: _Need, entering: _Maps) -> _Maps:
        """Run one module; return what leaves it, for those who need that."""
        values: dict[int, _Maps] = {}
        for v in INNER:
            values[v] = self._vertex(feed, step, v, need.vertices[:, v - 1], entering, values)
        width = np.full(self.count, step.c_out)
        added = _convolve(feed, f"{step.name}.project.0", 1, width, need.projection, entering)
        leaving = {}
        for arch in np.flatnonzero(need.output).tolist():
            parts = [values[v][arch] for v in INNER if self._edges[arch, v, -1]]
            terms = [torch.cat(parts, dim=1)] if parts else []
            terms += [added[arch]] if arch in added else []
            leaving[arch] = terms[0] + terms[1] if len(terms) > 1 else terms[0]
        return leaving

    def _vertex(
        self,
        feed: Feed,
        step: _Step,
        v: int,
        needed: _Flags,
        entering: _Maps,
        values: Mapping[int, _Maps],
    ) -> _Maps:
        """Run one vertex for those who need it.

        Args:
            feed: The pass.
            step: The module.
            v: The vertex.
            needed: Who needs it, ``(N,)``.
            entering: What enters the module.
            values: What the vertices before deliver.
        """
        place, widths = f"{step.name}.vertex{v}", self._channels[step.c_out][:, v - 1]
        reads_input = needed & self._edges[:, 0, v]
        fitted = _convolve(feed, f"{place}.project.0", 1, widths, reads_input, entering)
        sums: dict[tuple[int, ...], Tensor] = {}  # one object for all who add up the same
        totals = {}
        for arch in np.flatnonzero(needed).tolist():
            width = int(widths[arch])
            terms = [values[s][arch] for s in values if self._edges[arch, s, v]]
            terms += [fitted[arch]] if arch in fitted else []
            key = (width, *map(id, terms))
            if key not in sums:
                cut = [term[:, :width] for term in terms]
                sums[key] = sum(cut[1:], cut[0])
            totals[arch] = sums[key]
        made: _Maps = {}
        for number, operation in enumerate(OPERATIONS):
            chosen = needed & (self._operations[:, v - 1] == number)
            if operation.kind == "conv":
                made |= _convolve(feed, f"{place}.op.0", operation.kernel, widths, chosen, totals)
                continue
            for _, archs in _by_width(widths, chosen):
                pooled, rows = _gather(totals, archs.tolist())
                made |= _scatter(max_pool(pooled, operation.kernel), archs.tolist(), rows)
        return made


def _by_width(widths: NDArray[np.int64], here: _Flags) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Return each width that occurs, and the places of those who have it.

    Args:
        widths: ``(N,)``.
        here: Who counts, ``(N,)``.
    """
    for width in np.unique(widths[here]).tolist():
        yield width, np.flatnonzero(here & (widths == width))


def _gather(maps: _Maps, archs: Sequence[int]) -> tuple[Tensor, list[int]]:
    """Return the maps that some architectures have between them, and which each of them has.

    Returns:
        ``(U, M, C, H, W)`` and K numbers below U.
    """
    distinct: dict[int, int] = {}
    rows = [distinct.setdefault(id(maps[arch]), len(distinct)) for arch in archs]
    first = [rows.index(row) for row in range(len(distinct))]
    return _stack([maps[archs[place]] for place in first]), rows


def _scatter(made: Tensor, archs: Sequence[int], rows: Sequence[int]) -> _Maps:
    """Return what was made of :func:`_gather`'s maps to the architectures."""
    parts = made.unbind(0)
    return {arch: parts[row] for arch, row in zip(archs, rows, strict=True)}


def _stack(maps: Sequence[Tensor]) -> Tensor:
    return maps[0][None] if len(maps) == 1 else torch.stack(list(maps))  # one is not copied


def _convolve(
    feed: Feed, name: str, kernel: int, widths: NDArray[np.int64], here: _Flags, maps: _Maps
) -> _Maps:
    """Run the convolution of one place, batch-norm and ReLU behind it, a call for each width.

    Args:
        feed: The pass.
        name: Of the convolution.
        kernel: Its window.
        widths: Channels that leave, ``(N,)``.
        here: Who has it, ``(N,)``.
        maps: What enters.
    """
    made: _Maps = {}
    for width, archs in _by_width(widths, here):
        entering, rows = _gather(maps, archs.tolist())
        owners = torch.from_numpy(archs).to(feed.like.device)
        shared = torch.tensor(rows, device=owners.device) if len(entering) < len(rows) else None
        out = _conv_bn_relu(feed, name, width, kernel, entering, owners, shared)
        made |= _scatter(out, archs.tolist(), rows)
    return made


def _conv_bn_relu(
    feed: Feed,
    name: str,
    width: int,
    kernel: int,
    maps: Tensor,
    archs: Tensor,
    rows: Tensor | None = None,
) -> Tensor:
    """Return ``(U, M, width, H, W)``; see :meth:`nas.networks.batched.Feed.tell`."""
    out = feed.convolve(name, maps, width, kernel, archs, rows=rows)
    out = feed.normalise(out, archs, rows).relu_()  # nobody else reads what is overwritten
    feed.tell("relu", out, archs, rows=rows)
    return out
