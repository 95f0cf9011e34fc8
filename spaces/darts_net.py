"""The networks of :mod:`spaces.darts` as ``nn.Module``: images ``(N, 3, H, W)`` in, logits out.

Layers and order are those of the paper's evaluation network for CIFAR, without its auxiliary head
and drop-path. Modules are named by their place: ``node3.from1`` is what node 3 makes of node 1, so
that two architectures share the names, and thus the seeded weights, of what they have in common.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spaces.cell_net import classifier
from spaces.darts import CONCAT, NODES, OPERATIONS, DartsOperation, Place, places


class ReluConvBn(nn.Module):
    """ReLU, 1x1 convolution, batch-norm."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.op = nn.Sequential(
            nn.ReLU(), nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.op(x)
        return out


class FactorizedReduce(nn.Module):
    """Halve the size by two 1x1 convolutions of stride 2, the second one shifted by a pixel."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.even = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(c_in, c_out - c_out // 2, 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x)
        out: Tensor = self.bn(torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], dim=1))
        return out


def _depthwise(c: int, kernel: int, stride: int, dilation: int = 1) -> nn.Conv2d:
    padding = dilation * (kernel // 2)
    return nn.Conv2d(c, c, kernel, stride, padding, dilation, groups=c, bias=False)


class SeparableConv(nn.Sequential):
    """ReLU, depthwise convolution, pointwise convolution, batch-norm, all of it twice."""

    def __init__(self, c: int, kernel: int, stride: int) -> None:
        super().__init__(
            nn.ReLU(),
            _depthwise(c, kernel, stride),
            nn.Conv2d(c, c, 1, bias=False),
            nn.BatchNorm2d(c),
            nn.ReLU(),
            _depthwise(c, kernel, 1),
            nn.Conv2d(c, c, 1, bias=False),
            nn.BatchNorm2d(c),
        )


class DilatedConv(nn.Sequential):
    """ReLU, dilated depthwise convolution, pointwise convolution, batch-norm."""

    def __init__(self, c: int, kernel: int, stride: int) -> None:
        super().__init__(
            nn.ReLU(),
            _depthwise(c, kernel, stride, dilation=2),
            nn.Conv2d(c, c, 1, bias=False),
            nn.BatchNorm2d(c),
        )


def _operation(operation: DartsOperation, c: int, stride: int) -> nn.Module:
    if operation.kind == "avg_pool":
        return nn.AvgPool2d(3, stride, 1, count_include_pad=False)
    if operation.kind == "max_pool":
        return nn.MaxPool2d(3, stride, 1)
    if operation.kind == "skip":
        return nn.Identity() if stride == 1 else FactorizedReduce(c, c)
    if operation.kind == "dil_conv":
        return DilatedConv(c, operation.kernel, stride)
    return SeparableConv(c, operation.kernel, stride)


class Cell(nn.Module):
    """Two inputs, four nodes, their concatenation.

    Attributes:
        title: What it is called where its code is written out: cells of one title are alike.
    """

    def __init__(self, place: Place, edges: Sequence[tuple[int, int, int]]) -> None:
        super().__init__()
        self.title = "ReductionCell" if place.reduction else "NormalCell"
        if place.after_reduction:
            self.title += "AfterReduction"
        entry = FactorizedReduce if place.after_reduction else ReluConvBn
        self.older = entry(place.c_older, place.width)
        self.last = ReluConvBn(place.c_last, place.width)
        self.edges = [(source, node) for source, node, _ in edges]
        for node in NODES:
            self.add_module(f"node{node}", nn.Module())
        for source, node, number in edges:
            stride = 2 if place.reduction and source < 2 else 1
            made = _operation(OPERATIONS[number], place.width, stride)
            self.get_submodule(f"node{node}").add_module(f"from{source}", made)

    def forward(self, last: Tensor, older: Tensor) -> Tensor:
        nodes: dict[int, Tensor] = {0: self.older(older), 1: self.last(last)}
        for source, node in self.edges:
            out = self.get_submodule(f"node{node}.from{source}")(nodes[source])
            nodes[node] = nodes[node] + out if node in nodes else out
        return torch.cat([nodes[node] for node in CONCAT], dim=1)


class DartsNetwork(nn.Module):
    """Stem, cells, global average pooling, linear classifier."""

    def __init__(
        self,
        cells: Sequence[Sequence[tuple[int, int, int]]],
        width: int,
        n_cells: int,
        num_classes: int,
        in_chans: int = 3,
    ) -> None:
        """Build it.

        Args:
            cells: Edges (source, target, operation) of the normal and of the reduction cell.
            width: Initial channels.
            n_cells: How many cells.
            num_classes: Width of the classifier; 0 leaves it out.
            in_chans: Channels of the images.
        """
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_chans, 3 * width, 3, padding=1, bias=False), nn.BatchNorm2d(3 * width)
        )
        self.body = nn.Sequential()  # a list of cells; each reads the two before it
        for place in places(width, n_cells, 32):
            made = Cell(place, cells[int(place.reduction)])
            self.body.add_module(place.name.removeprefix("body."), made)
            width = place.width
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = classifier(len(NODES) * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        older = last = self.stem(images)
        for cell in self.body.children():
            older, last = last, cell(last, older)
        logits: Tensor = self.classifier(self.pool(last).flatten(1))
        return logits
