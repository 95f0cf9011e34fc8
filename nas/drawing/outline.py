"""The whole network around an architecture's choices, as rows of equal modules.

Nothing is built: every space says by its own tables what stands where. A test runs the real
networks and compares channels and sizes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import singledispatch
from itertools import groupby

import numpy as np

from spaces import nats_sss, transnas_macro
from spaces.base import Arch, Space
from spaces.cell import CellSpace
from spaces.chain import ChainSpace
from spaces.darts import NODES, Darts, places
from spaces.nasbench101 import NasBench101
from spaces.nats_sss import NatsSss
from spaces.own_cell import SizedCellSpace
from spaces.transnas_macro import TransnasMacro


@dataclass(frozen=True)
class Part:
    """Equal modules in a row.

    Attributes:
        label: What they are, for a person.
        channels: That leave each of them.
        size: Height and width of what leaves them, pixels.
        repeat: How many.
        chosen: Whether the architecture decides what is in them.
    """

    label: str
    channels: int
    size: int
    repeat: int = 1
    chosen: bool = False


@singledispatch
def body(space: Space, arch: Arch, resolution: int) -> Iterator[Part]:
    """Yield what stands between the image and the classifier, first to last.

    Nothing comes of a space that this module does not know.

    Args:
        space: Where the architecture lives.
        arch: The architecture.
        resolution: Height and width of the image, pixels.
    """
    yield from ()


def outline(space: Space, arch: Arch, *, num_classes: int, resolution: int) -> list[Part]:
    """Return the parts of a whole network, from the image to the classifier.

    Empty for a space that this module does not know.
    """
    parts = list(_together(body(space, arch, resolution)))
    if not parts:
        return []
    image = Part("image", 3, resolution)
    return [image, *parts, Part("average pooling, linear classifier", num_classes, 1)]


def _together(parts: Iterable[Part]) -> Iterator[Part]:
    """Join equal parts that follow each other."""
    for part, run in groupby(parts, key=lambda part: replace(part, repeat=1)):
        yield replace(part, repeat=sum(each.repeat for each in run))


@body.register
def _(space: CellSpace, arch: Arch, resolution: int) -> Iterator[Part]:
    cells = [space.skeleton.cells] * len(space.skeleton.widths)
    yield from _stages(space.skeleton.widths, cells, resolution)


@body.register
def _(space: SizedCellSpace, arch: Arch, resolution: int) -> Iterator[Part]:
    yield from _stages(*space.sizes(arch), resolution)


def _stages(widths: Iterable[int], cells: Iterable[int], size: int) -> Iterator[Part]:
    """Yield stem and stages with a residual reduction between two of them."""
    for stage, (width, repeat) in enumerate(zip(widths, cells, strict=True)):
        if stage:
            size = _half(size)
            yield Part("residual reduction", width, size)
        else:
            yield Part("stem: 3x3 convolution", width, size)
        yield Part("cell", width, size, repeat, chosen=True)


@body.register
def _(space: NatsSss, arch: Arch, resolution: int) -> Iterator[Part]:
    widths = space.channels(np.asarray([arch]))[0].tolist()
    yield Part("stem: 3x3 convolution", widths[0], resolution)
    size = resolution
    for width, reduces in zip(widths, nats_sss.REDUCTIONS, strict=True):
        size = _half(size) if reduces else size
        yield Part("residual reduction" if reduces else "cell", width, size, chosen=True)


@body.register
def _(space: NasBench101, arch: Arch, resolution: int) -> Iterator[Part]:
    widths, size = space.skeleton.widths, resolution
    yield Part("stem: 3x3 convolution", widths[0], size)
    for stack, width in enumerate(widths):
        if stack:
            size = _half(size)
            yield Part("max pooling", widths[stack - 1], size)
        yield Part("cell", width, size, space.skeleton.cells, chosen=True)


@body.register
def _(space: Darts, arch: Arch, resolution: int) -> Iterator[Part]:
    yield Part("stem: 3x3 convolution", 3 * space.width, resolution)
    for place in places(space.width, space.n_cells, resolution):
        label = "reduction cell" if place.reduction else "normal cell"
        yield Part(label, len(NODES) * place.width, place.size, chosen=True)


@body.register
def _(space: TransnasMacro, arch: Arch, resolution: int) -> Iterator[Part]:
    width, size = transnas_macro.BASE, resolution
    yield Part("stem: two 3x3 convolutions", width, size)
    for kind in arch:
        if kind in range(len(_MODULES)):  # one that is absent has another number
            doubles, halves = _MODULES[kind]
            width, size = width * (1 + doubles), _half(size) if halves else size
            yield Part("module: two residual blocks", width, size, chosen=True)


#: For each kind of module whether it doubles the channels, and whether it halves the resolution.
_MODULES = ((False, False), (True, False), (False, True), (True, True))


@body.register
def _(space: ChainSpace, arch: Arch, resolution: int) -> Iterator[Part]:
    width, stride = space.stem
    size = -(-resolution // stride)
    yield Part("stem: 3x3 convolution", width, size)
    for block in space.blocks(arch):
        size = -(-size // block.stride)
        what = block.path.partition(":")[2] or "inverted residual"
        label = f"{what} k{block.kernel} e{block.expansion}"
        yield Part(label, block.c_out, size, chosen=True)
    if space.head:
        yield Part("head: 1x1 convolution", space.head, size)


def _half(size: int) -> int:
    return (size + 1) // 2
