"""Networks of :mod:`spaces.chain` as ``nn.Module``: images ``(N, 3, H, W)`` in, logits out.

Blocks are named by stage and place in it, so that two networks of one space share the names, and
thus the seeded weights, of what they have in common.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from spaces.chain import Block
from spaces.own_net import own_module


def _conv(
    c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1, *, bends: bool = True
) -> nn.Sequential:
    """Return convolution, batch-norm and, if it bends, ReLU6."""
    made = nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(c_out),
    )
    if bends:
        made.append(nn.ReLU6(inplace=True))
    return made


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, projection; what comes is added where it fits."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        hidden = block.c_in * block.expansion
        self.expand = _conv(block.c_in, hidden, 1) if block.expansion > 1 else nn.Identity()
        self.depthwise = _conv(hidden, hidden, block.kernel, block.stride, hidden)
        self.project = _conv(hidden, block.c_out, 1, bends=False)
        self.is_residual = block.is_residual

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
        self, blocks: Sequence[Block], stem: tuple[int, int], head: int, num_classes: int
    ) -> None:
        super().__init__()
        self.stem = _conv(3, stem[0], 3, stem[1])
        self.body = nn.Sequential()
        for block in blocks:
            self.body.add_module(f"stage{block.stage}block{block.layer}", _block(block))
        last = blocks[-1].c_out
        self.head = _conv(last, head, 1) if head else nn.Identity()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(head or last, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.head(self.body(self.stem(images)))
        logits: Tensor = self.classifier(self.pool(features).flatten(1))
        return logits
