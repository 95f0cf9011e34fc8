"""The networks of :mod:`spaces.transnas_macro` as ``nn.Module``: images in, logits out.

Modules are named by their place, so that networks share the seeded weights of a common beginning.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from spaces.cell_net import ReluConvBn, classifier
from spaces.transnas_macro import BASE


class BasicBlock(nn.Module):
    """Two 3x3 ReLU-conv-BN; what comes is added, behind a 1x1 convolution and BN if need be.

    Attributes:
        title: What it is called where its code is written out: blocks of one title are alike.
    """

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv_a = ReluConvBn(c_in, c_out, 3, stride)
        self.conv_b = ReluConvBn(c_out, c_out, 3)
        self.downsample: nn.Module = nn.Identity()
        self.title = "BasicBlock"
        if stride != 1 or c_in != c_out:
            self.title = "ProjectedBlock"
            self.downsample = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.downsample(x) + self.conv_b(self.conv_a(x))
        return out


class MacroNetwork(nn.Module):
    """Stem, modules, global average pooling, linear classifier."""

    def __init__(self, kinds: Sequence[int], num_classes: int, in_chans: int = 3) -> None:
        """Build it.

        Args:
            kinds: Of the modules: 0 normal, 1 doubles the channels, 2 halves the size, 3 both.
            num_classes: Width of the classifier; 0 leaves it out.
            in_chans: Channels of the images.
        """
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_chans, BASE // 2, 3, padding=1, bias=False),
            nn.BatchNorm2d(BASE // 2),
            nn.ReLU(),
            nn.Conv2d(BASE // 2, BASE, 3, padding=1, bias=False),
            nn.BatchNorm2d(BASE),
        )
        self.body = nn.Sequential()
        width = BASE
        for number, kind in enumerate(kinds):
            after = 2 * width if kind % 2 else width
            blocks = nn.Sequential(
                BasicBlock(width, after, 2 if kind >= 2 else 1), BasicBlock(after, after, 1)
            )
            self.body.add_module(f"module{number}", blocks)
            width = after
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = classifier(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.body(self.stem(images))
        logits: Tensor = self.classifier(self.pool(features).flatten(1))
        return logits
