"""Chains of one's own: stages of blocks with choices of width, depth, kernel and expansion.

The block is the inverted residual of MobileNetV2 (Sandler et al. 2018,
https://arxiv.org/abs/1801.04381): a 1x1 convolution to ``expansion`` times the channels that come
(left out at 1), a depthwise convolution, a 1x1 convolution to the channels that go; batch-norm
after each, ReLU6 after the first two; a residual connection where nothing changes shape. The
choices are those of ProxylessNAS and Once-for-All. A block may also be a class of one's own.

Stem: 3x3 convolution, batch-norm, ReLU6. End: 1x1 convolution to ``head`` channels, batch-norm,
ReLU6 (left out at 0), pooling, a linear classifier.

Written ``24x2:k3e6,k5e3/k7e3+40x1:k3e6``: for each stage its width, its depth, and the blocks;
those behind ``/`` are beyond the depth, and are no part of the network.

Letters: N architectures, L layers that there is room for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spaces.base import (
    MOST_CHOSEN,
    MOST_STAGES,
    Arch,
    Costs,
    Population,
    ProductSpace,
    check_choices,
)
from spaces.cell import CellGraph, Operation, conv_flops, conv_params
from spaces.errors import InvalidArch, NasError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Stage:
    """Blocks in a row; the first may halve the resolution.

    Attributes:
        width: Choices of the channels that leave each block.
        depth: Choices of how many blocks.
        stride: Of the first block, 1 or 2.
        kernel: Choices of each block's window, odd.
        expansion: Choices of each block's expansion.
        block: A class of one's own in the place of the inverted residual,
            ``package.module:Class``, called as ``Class(c_in, c_out, stride=..., kernel=...,
            expansion=...)``.
    """

    width: tuple[int, ...]
    depth: tuple[int, ...] = (1,)
    stride: int = 1
    kernel: tuple[int, ...] = (3,)
    expansion: tuple[int, ...] = (6,)
    block: str = ""

    def __post_init__(self) -> None:
        for name in ("width", "depth", "kernel", "expansion"):
            check_choices(name, getattr(self, name))
        if any(kernel % 2 == 0 for kernel in self.kernel):
            raise NasError(f"kernel: expected odd numbers, got {self.kernel}")
        if self.stride not in (1, 2):
            raise NasError(f"stride: expected 1 or 2, got {self.stride}")


class Block(NamedTuple):
    """One block of a network, in numbers."""

    stage: int
    layer: int
    c_in: int
    c_out: int
    stride: int
    kernel: int
    expansion: int
    path: str

    @property
    def is_residual(self) -> bool:
        """Whether what comes is added to what goes."""
        return self.stride == 1 and self.c_in == self.c_out


class _Position(NamedTuple):
    """What one choice of an architecture is about."""

    stage: int
    layer: int  # -1: the whole stage
    what: str  # width, depth, kernel, expansion
    values: tuple[int, ...]


class ChainSpace(ProductSpace):
    """Every combination of choices; what has one value only is no choice.

    Attributes:
        stages: From the stem on.
        stem: Channels and stride of the first convolution.
        head: Channels of the last 1x1 convolution, 0 for none.
    """

    def __init__(
        self, name: str, *, stages: Sequence[Stage], stem: tuple[int, int] = (16, 1), head: int = 0
    ) -> None:
        """Describe the space.

        Args:
            name: What it is called.
            stages: One or more.
            stem: Channels and stride of the first convolution.
            head: Channels of the last 1x1 convolution, 0 for none.

        Raises:
            NasError: No stage, no choice, or a number out of range.
        """
        if not 1 <= len(stages) <= MOST_STAGES:
            raise NasError(f"space {name}: expected at least one stage and at most {MOST_STAGES}")
        most = MOST_CHOSEN["width"]
        if not 1 <= stem[0] <= most or stem[1] not in (1, 2) or not 0 <= head <= most:
            raise NasError(
                f"space {name}: expected a stem of at least 1 channel and stride 1 or 2, and a "
                f"head of at least 0 channels, both at most {most:,}, got {stem} and {head}"
            )
        self.name = name
        self.stages = tuple(stages)
        self.stem = stem
        self.head = head
        if not self._positions:
            raise NasError(f"space {name}: nothing to choose, every setting has one value only")
        self.summary = f"own chain of blocks: {len(self.stages)} stages, {len(self):.3g} networks"

    @cached_property
    def _positions(self) -> tuple[_Position, ...]:
        found = []
        for s, stage in enumerate(self.stages):
            found += [
                _Position(s, -1, "width", stage.width),
                _Position(s, -1, "depth", stage.depth),
            ]
            for layer in range(max(stage.depth)):
                found.append(_Position(s, layer, "kernel", stage.kernel))
                found.append(_Position(s, layer, "expansion", stage.expansion))
        return tuple(position for position in found if len(position.values) > 1)

    @cached_property
    def dimensions(self) -> tuple[int, ...]:
        return tuple(len(position.values) for position in self._positions)

    @cached_property
    def _columns(self) -> dict[tuple[int, int, str], int]:
        """Where each choice stands in an architecture."""
        return {(p.stage, p.layer, p.what): i for i, p in enumerate(self._positions)}

    def _values(self, population: Population, stage: int, layer: int, what: str) -> Population:
        """Return what was chosen, as a number of channels, blocks or so on, ``(N,)``."""
        values = np.asarray(getattr(self.stages[stage], what), dtype=np.int64)
        column = self._columns.get((stage, layer, what))
        if column is None:
            return np.full(len(population), values[0])
        return values[population[:, column]]

    def blocks(self, arch: Arch) -> list[Block]:
        """Return the blocks of a network, from the stem on."""
        row = np.asarray([arch], dtype=np.int64)
        found, before = [], self.stem[0]
        for s, stage in enumerate(self.stages):
            width = int(self._values(row, s, -1, "width")[0])
            for layer in range(int(self._values(row, s, -1, "depth")[0])):
                kernel = int(self._values(row, s, layer, "kernel")[0])
                expansion = int(self._values(row, s, layer, "expansion")[0])
                stride = 1 if layer else stage.stride
                found.append(Block(s, layer, before, width, stride, kernel, expansion, stage.block))
                before = width
        return found

    def to_str(self, arch: Arch) -> str:
        row = np.asarray([self.validate(arch)], dtype=np.int64)
        texts = []
        for s, stage in enumerate(self.stages):
            width, depth = (int(self._values(row, s, -1, what)[0]) for what in ("width", "depth"))
            blocks = [
                f"k{self._values(row, s, layer, 'kernel')[0]}"
                f"e{self._values(row, s, layer, 'expansion')[0]}"
                for layer in range(max(stage.depth))
            ]
            beyond = f"/{','.join(blocks[depth:])}" if blocks[depth:] else ""
            texts.append(f"{width}x{depth}:{','.join(blocks[:depth])}{beyond}")
        return "+".join(texts)

    def from_str(self, text: str) -> Arch:
        arch = [0] * len(self.dimensions)
        for s, part in enumerate(text.split("+")[: len(self.stages)]):
            match = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,3}):([ke0-9,/]+)", part)
            if match is None:
                break
            numbers = [(-1, "width", match[1]), (-1, "depth", match[2])]
            for layer, block in enumerate(re.split("[,/]", match[3])):
                kernel, _, expansion = block.removeprefix("k").partition("e")
                numbers += [(layer, "kernel", kernel), (layer, "expansion", expansion)]
            for layer, what, number in numbers:
                column = self._columns.get((s, layer, what))
                known = [str(value) for value in getattr(self.stages[s], what)]
                if column is not None and number in known:
                    arch[column] = known.index(number)
        # Printing what was parsed and comparing catches every malformed text at once.
        if self.to_str(tuple(arch)) != text:
            example = self.to_str((0,) * len(self.dimensions))
            raise InvalidArch(f"{self.name}: cannot read {text!r}; expected the form {example!r}")
        return tuple(arch)

    def canonicalise(self, population: Population) -> Population:
        """Set the choices of blocks beyond the depth to their first value."""
        rows = population.copy()
        for column, position in enumerate(self._positions):
            if position.layer >= 0:
                beyond = self._values(population, position.stage, -1, "depth") <= position.layer
                rows[beyond, column] = 0
        return rows

    def costs(
        self, population: Population, *, num_classes: int = 10, resolution: int = 32
    ) -> Costs:
        width, stride = self.stem
        size = -(-resolution // stride)
        before = np.full(len(population), width)
        params = np.full(len(population), conv_params(3, width, 3))
        flops = np.full(len(population), conv_flops(3, width, 3, size))
        for s, stage in enumerate(self.stages):
            after = self._values(population, s, -1, "width")
            depth = self._values(population, s, -1, "depth")
            for layer in range(max(stage.depth)):
                entering = size
                size = -(-size // stage.stride) if layer == 0 else size
                kernel = self._values(population, s, layer, "kernel")
                expansion = self._values(population, s, layer, "expansion")
                c_in = after if layer else before
                strides = np.full(len(population), 1 if layer else stage.stride)
                settings = np.stack([c_in, after, kernel, expansion, strides], axis=1)
                more = _block_costs(settings, entering, size, stage.block)
                there = layer < depth
                params, flops = params + there * more[:, 0], flops + there * more[:, 1]
            before = after
        last = np.full(len(population), self.head) if self.head else before
        if self.head:
            params = params + before * self.head + 2 * self.head
            flops = flops + before * self.head * size**2
        classifier = (last + 1) * num_classes
        return Costs(params=params + classifier, flops=flops + classifier)

    def layers(self, population: Population) -> Iterator[CellGraph]:
        """Describe every block that there is room for.

        Nodes: what comes, what was expanded, what left the depthwise convolution, what goes. A
        depthwise convolution counts as one of its window; a block that is absent is a skip.
        """
        kernels = sorted({k for stage in self.stages for k in stage.kernel} | {1})
        operations = (
            Operation("none", "none"),
            Operation("skip", "skip"),
            *(Operation(f"conv_{k}x{k}", "conv", k) for k in kernels),
        )
        widest = max(max(stage.width) * max(stage.expansion) for stage in self.stages)
        widest = max(widest, max(self.stem[0], 1) * max(self.stages[0].expansion))
        before = np.full(len(population), self.stem[0])
        place = np.zeros(max(kernels) + 1, dtype=np.int64)
        place[kernels] = 2 + np.arange(len(kernels))
        for s, stage in enumerate(self.stages):
            after = self._values(population, s, -1, "width")
            depth = self._values(population, s, -1, "depth")
            for layer in range(max(stage.depth)):
                c_in = after if layer else before
                expansion = self._values(population, s, layer, "expansion")
                hidden = c_in * expansion
                there = layer < depth
                same = (c_in == after) & (stage.stride == 1 or layer > 0)
                kernel = place[self._values(population, s, layer, "kernel")]
                chosen = np.stack(
                    [
                        np.where(there, np.where(expansion > 1, place[1], 1), 0),
                        np.where(there, kernel, 0),
                        np.where(there, place[1], 0),
                        np.where(there, same * 1, 1),
                    ],
                    axis=1,
                )
                widths = np.stack([c_in, hidden, hidden, after], axis=1) / widest
                yield CellGraph(_BLOCK_EDGES, operations, chosen, widths)
            before = after

    def build(self, arch: Arch, *, num_classes: int = 10, in_chans: int = 3) -> nn.Module:
        from spaces.chain_net import ChainNetwork  # late: only a caller who builds needs torch

        blocks = self.blocks(self.validate(arch))
        return ChainNetwork(blocks, self.stem, self.head, num_classes, in_chans)


_BLOCK_EDGES = ((0, 1), (1, 2), (2, 3), (0, 3))


def _block_costs(
    settings: NDArray[np.int64], entering: int, size: int, path: str
) -> NDArray[np.int64]:
    """Return parameters and multiply-accumulates of blocks, ``(N, 2)``.

    Args:
        settings: Channels that come and go, kernel, expansion and stride, ``(N, 5)``.
        entering: Height and width of what comes.
        size: Height and width of what goes.
        path: A class of one's own, run on shapes once for each distinct row.
    """
    if path:
        from spaces.own_net import own_costs  # late: only who has own modules needs torch

        distinct, place = np.unique(settings, axis=0, return_inverse=True)
        names = ("kernel", "expansion", "stride")
        costs = [
            own_costs(path, (row[0], row[1]), entering, tuple(zip(names, row[2:], strict=True)))
            for row in distinct.tolist()
        ]
        return np.asarray(costs, dtype=np.int64).reshape(-1, 2)[place.reshape(-1)]
    c_in, c_out, kernel, expansion = settings.T[:4]
    hidden = c_in * expansion
    expands = expansion > 1
    params = expands * (c_in * hidden + 2 * hidden)
    params = params + hidden * kernel**2 + 2 * hidden + hidden * c_out + 2 * c_out
    flops = expands * c_in * hidden * entering**2
    flops = flops + (hidden * kernel**2 + hidden * c_out) * size**2
    return np.stack([params, flops], axis=1)
