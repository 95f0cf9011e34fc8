"""The NATS-Bench networks as ``nn.Module``, with the benchmark's layers and initialisation.

Dong et al. 2021, https://arxiv.org/abs/2009.00437. Images ``(N, C, H, W)`` in, logits ``(N, K)``
out. Modules of one architecture are named by their place, not by a running number (``edge02`` is
the edge from node 0 to node 2), so that two architectures of one space share the names, and thus
the seeded weights, of what they have in common.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from spaces.cell import Edge, Operation, Skeleton
from spaces.own_net import own_module


class ReluConvBn(nn.Module):
    """ReLU, bias-free convolution, batch-norm."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.op = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(c_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.op(x)
        return out


class Pool(nn.Module):
    """Pooling of stride 1 that keeps the size; the average leaves the padding out."""

    def __init__(self, kind: str, kernel: int) -> None:
        super().__init__()
        self.op: nn.Module
        if kind == "avg_pool":
            self.op = nn.AvgPool2d(kernel, 1, kernel // 2, count_include_pad=False)
        else:
            self.op = nn.MaxPool2d(kernel, 1, kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.op(x)
        return out


class Zero(nn.Module):
    """Zeros of the right width."""

    def __init__(self, c_out: int) -> None:
        super().__init__()
        self.c_out = c_out

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros((x.shape[0], self.c_out, *x.shape[2:]))


def classifier(c_in: int, num_classes: int) -> nn.Module:
    """Return a linear head; for 0 classes what returns the features as they come."""
    return nn.Linear(c_in, num_classes) if num_classes else nn.Identity()


class ConvBn(nn.Module):
    """A 1x1 convolution and batch-norm without ReLU: the skip that changes the width."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.bn = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.conv(x))
        return out


class Reduction(nn.Module):
    """Residual block that halves the size: two 3x3 ReLU-conv-BN plus pooled 1x1 shortcut."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv_a = ReluConvBn(c_in, c_out, 3, stride=2)
        self.conv_b = ReluConvBn(c_out, c_out, 3)
        self.downsample = nn.Sequential(nn.AvgPool2d(2, 2), nn.Conv2d(c_in, c_out, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.downsample(x) + self.conv_b(self.conv_a(x))
        return out


def _operation(op: Operation, c_in: int, c_out: int) -> nn.Module:
    if op.kind == "none":
        return Zero(c_out)
    if op.kind == "skip":
        return nn.Identity() if c_in == c_out else ConvBn(c_in, c_out)
    if op.kind == "conv":
        return ReluConvBn(c_in, c_out, op.kernel)
    if op.kind == "own":
        return own_module(op.path, c_in, c_out)
    return Pool(op.kind, op.kernel)


class Cell(nn.Module):
    """A directed acyclic graph of operations; a node is the sum of its incoming edges.

    Attributes:
        title: What it is called where its code is written out: cells of one title are alike.
    """

    def __init__(
        self, edges: Sequence[Edge], operations: Sequence[Operation], c_in: int, c_out: int
    ) -> None:
        super().__init__()
        self.title = "Cell" if c_in == c_out else "ResizingCell"
        self.routes = [(edge.source, edge.target) for edge in edges]
        for edge, op in zip(edges, operations, strict=True):
            source = c_in if edge.source == 0 else c_out
            self.add_module(f"edge{edge.source}{edge.target}", _operation(op, source, c_out))

    def forward(self, x: Tensor) -> Tensor:
        nodes: dict[int, Tensor] = {0: x}
        for source, target in self.routes:
            out = self.get_submodule(f"edge{source}{target}")(nodes[source])
            nodes[target] = nodes[target] + out if target in nodes else out
        return nodes[max(nodes)]


class _Network(nn.Module):
    """Stem, body, BN-ReLU, global average pooling, linear head."""

    def __init__(
        self, body: nn.Module, first: int, last: int, num_classes: int, in_chans: int
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_chans, first, 3, padding=1, bias=False), nn.BatchNorm2d(first)
        )
        self.body = body
        self.last = nn.Sequential(nn.BatchNorm2d(last), nn.ReLU(inplace=True))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = classifier(last, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.last(self.body(self.stem(images)))
        logits: Tensor = self.classifier(self.pool(features).flatten(1))
        return logits


class CellNetwork(_Network):
    """One cell, repeated in every stage of a skeleton."""

    def __init__(
        self,
        edges: Sequence[Edge],
        operations: Sequence[Operation],
        skeleton: Skeleton,
        num_classes: int,
        cells: Sequence[int] = (),
        *,
        in_chans: int = 3,
    ) -> None:
        """Build it.

        Args:
            edges: Of the cell.
            operations: On its edges.
            skeleton: What stands around the cells.
            num_classes: Width of the classifier; 0 leaves it out.
            cells: Cells of each stage, where they are not those of the skeleton.
            in_chans: Channels of the images.
        """
        body = nn.Sequential()
        widths = skeleton.widths
        for stage, width in enumerate(widths):
            if stage:
                body.add_module(f"reduction{stage}", Reduction(widths[stage - 1], width))
            number = cells[stage] if cells else skeleton.cells
            repeated = [Cell(edges, operations, width, width) for _ in range(number)]
            body.add_module(f"stage{stage}", nn.Sequential(*repeated))
        super().__init__(body, widths[0], widths[-1], num_classes, in_chans)


class SizeNetwork(_Network):
    """Layers of given widths, each one cell or one reduction."""

    def __init__(
        self,
        edges: Sequence[Edge],
        operations: Sequence[Operation],
        widths: Sequence[int],
        reductions: Sequence[bool],
        num_classes: int,
        in_chans: int = 3,
    ) -> None:
        body = nn.Sequential()
        before = widths[0]
        for layer, (width, reduction) in enumerate(zip(widths, reductions, strict=True)):
            block = (
                Reduction(before, width) if reduction else Cell(edges, operations, before, width)
            )
            body.add_module(f"layer{layer}", block)
            before = width
        super().__init__(body, widths[0], widths[-1], num_classes, in_chans)
