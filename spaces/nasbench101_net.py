"""The NAS-Bench-101 network as ``nn.Module``, with the benchmark's layers and initialisation.

Ying et al. 2019, https://arxiv.org/abs/1902.09635. Images ``(N, C, H, W)`` in, logits ``(N, K)``
out. Modules are named by their place (``vertex3`` is the cell's vertex 3), so that two
architectures share the names, and thus the seeded weights, of what they have in common.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spaces.cell import Operation, Skeleton
from spaces.cell_net import classifier
from spaces.nasbench101 import INNER, infer_channels

_TRUNCATED_STD = 0.87962566103423978  # standard deviation of a standard normal cut at +-2


class ConvBnRelu(nn.Sequential):
    """Bias-free convolution, batch-norm, ReLU."""

    def __init__(self, c_in: int, c_out: int, kernel: int) -> None:
        super().__init__(
            nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(c_out, eps=1e-5, momentum=0.003),  # TensorFlow's momentum is 0.997
            nn.ReLU(),
        )


class Vertex(nn.Module):
    """An operation on the sum of what other vertices deliver, cut to its width, and the input.

    Only the input is fitted by a convolution; an earlier vertex is as wide, or one channel wider.
    """

    def __init__(self, op: Operation, c_in: int, c_out: int, *, reads_input: bool) -> None:
        super().__init__()
        self.c_out = c_out
        self.project = ConvBnRelu(c_in, c_out, 1) if reads_input else None
        self.op: nn.Module
        if op.kind == "conv":
            self.op = ConvBnRelu(c_out, c_out, op.kernel)
        else:
            self.op = nn.MaxPool2d(op.kernel, 1, op.kernel // 2)

    def forward(self, image: Tensor, sources: Sequence[Tensor]) -> Tensor:
        terms = [source[:, : self.c_out] for source in sources]
        if self.project is not None:
            terms.append(self.project(image))
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        out: Tensor = self.op(total)
        return out


class Module(nn.Module):
    """One cell: what feeds the output is concatenated, the projected input is added.

    Attributes:
        title: What it is called where its code is written out.
    """

    title = "Cell"

    def __init__(
        self, matrix: NDArray[np.bool_], operations: Sequence[Operation], c_in: int, c_out: int
    ) -> None:
        super().__init__()
        channels = infer_channels(matrix[None], c_out)[0].tolist()
        self.sources = {v: [s for s in INNER if matrix[s, v]] for v in INNER if matrix[:, v].any()}
        self.concatenated = [v for v in INNER if matrix[v, -1]]
        for v in self.sources:
            vertex = Vertex(
                operations[v - 1], c_in, channels[v - 1], reads_input=bool(matrix[0, v])
            )
            self.add_module(f"vertex{v}", vertex)
        self.project = ConvBnRelu(c_in, c_out, 1) if matrix[0, -1] else None

    def forward(self, image: Tensor) -> Tensor:
        values: dict[int, Tensor] = {}
        for v, sources in self.sources.items():
            values[v] = self.get_submodule(f"vertex{v}")(image, [values[s] for s in sources])
        parts = [values[v] for v in self.concatenated]
        inner = torch.cat(parts, dim=1) if parts else None
        if self.project is None:
            assert inner is not None  # a cell without any path is no architecture
            return inner
        projected: Tensor = self.project(image)
        return projected if inner is None else inner + projected


class NasBench101Network(nn.Module):
    """Stem, stacks of equal modules, global average pooling, linear head.

    Args:
        matrix: Adjacency, pruned, ``(7, 7)``.
        operations: Of the five inner vertices; those of pruned ones do not matter.
        skeleton: Widths of the stacks, and modules in each.
        num_classes: K; 0 leaves the classifier out.
        in_chans: C.
    """

    def __init__(
        self,
        matrix: NDArray[np.bool_],
        operations: Sequence[Operation],
        skeleton: Skeleton,
        num_classes: int,
        in_chans: int = 3,
    ) -> None:
        super().__init__()
        before = skeleton.widths[0]
        self.stem = ConvBnRelu(in_chans, before, 3)
        self.body = nn.Sequential()
        for stack, width in enumerate(skeleton.widths):
            if stack:  # an odd last row or column makes a window of its own, as in TensorFlow
                self.body.add_module(f"pool{stack}", nn.MaxPool2d(2, 2, ceil_mode=True))
            for number in range(skeleton.cells):
                module = Module(matrix, operations, width if number else before, width)
                self.body.add_module(f"stack{stack}module{number}", module)
            before = width
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = classifier(before, num_classes)
        self._initialise()

    def _initialise(self) -> None:
        """Draw the weights as the benchmark's code does."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                std = 1.0 / math.sqrt(module.weight[0].numel()) / _TRUNCATED_STD
                nn.init.trunc_normal_(module.weight, std=std, a=-2.0 * std, b=2.0 * std)
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        features = self.body(self.stem(images))
        logits: Tensor = self.classifier(self.pool(features).flatten(1))
        return logits
