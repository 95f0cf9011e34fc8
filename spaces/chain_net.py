"""Networks of :mod:`spaces.chain` as ``nn.Module``: images ``(N, C, H, W)`` in, logits out.

Blocks are named by stage and place in it, so that two networks of one space share the names, and
thus the seeded weights, of what they have in common.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from spaces.cell_net import classifier
from spaces.chain import Block
from spaces.own_net import own_module


class ConvBn(nn.Sequential):
    """Bias-free 1x1 convolution, batch-norm."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out))


class ConvBnRelu6(nn.Sequential):
    """Bias-free convolution, batch-norm, ReLU6."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU6(inplace=True),
        )


class DepthwiseBnRelu6(nn.Sequential):
    """Bias-free depthwise convolution, batch-norm, ReLU6."""

    def __init__(self, c: int, kernel: int, stride: int) -> None:
        super().__init__(
            nn.Conv2d(c, c, kernel, stride, kernel // 2, groups=c, bias=False),
            nn.BatchNorm2d(c),
            nn.ReLU6(inplace=True),
        )


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, projection; what comes is added where it fits.

    Attributes:
        title: What it is called where its code is written out: blocks of one title are alike.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        hidden = block.c_in * block.expansion
        expands = block.expansion > 1
        self.expand = ConvBnRelu6(block.c_in, hidden, 1) if expands else nn.Identity()
        self.depthwise = DepthwiseBnRelu6(hidden, block.kernel, block.stride)
        self.project = ConvBn(hidden, block.c_out)
        self.is_residual = block.is_residual
        kind = "Inverted" if expands else "Separable"
        self.title = f"{kind}{'Residual' if block.is_residual else 'Block'}"

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + out if self.is_residual else out


def _block(block: Block) -> nn.Module:
    if not block.path:
        return InvertedResidual(block)
    settings = {"kernel": block.kernel, "expansion": block.expansion, "stride": block.stride}
    return own_module(block.path, block.c_in, block.c_out, **settings)


class ChainNetwork(nn.Module):
    """Stem, blocks, 1x1 convolution, global average pooling, linear classifier."""

    def __init__(
        self,
        blocks: Sequence[Block],
        stem: tuple[int, int],
        head: int,
        num_classes: int,
        in_chans: int = 3,
    ) -> None:
        super().__init__()
        self.stem = ConvBnRelu6(in_chans, stem[0], 3, stem[1])
        self.body = nn.Sequential()
        for block in blocks:
            self.body.add_module(f"stage{block.stage}block{block.layer}", _block(block))
        last = blocks[-1].c_out
        self.head = ConvBnRelu6(last, head, 1) if head else nn.Identity()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = classifier(head or last, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.head(self.body(self.stem(images)))
        logits: Tensor = self.classifier(self.pool(features).flatten(1))
        return logits
