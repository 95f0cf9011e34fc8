"""One forward pass of some networks, and what can be asked of it afterwards.

Everything is computed when it is first asked for and then kept, so proxies that are asked together
share forward and backward passes. Networks that run together never mix: a gradient of the sum of
their losses is, for each of them, the gradient of its own.

Letters: K networks, M images, C channels, H W size, P positions of a map.
"""

from __future__ import annotations

import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

#: What batch-norms do; see :meth:`nas.networks.module.ModuleNetwork.run`.
Norm = Literal["batch", "image", "identity"]


class ForwardError(RuntimeError):
    """The networks ran, but have no answer to a question; the text says why."""


class Window(NamedTuple):
    """How a two-dimensional convolution moves; each number is (vertical, horizontal)."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


@dataclass(frozen=True)
class Layer:
    """What a convolution or linear layer delivered.

    Attributes:
        output: A tensor of the graph: ``(k, M, C, ...)``, channels last if ``linear``; without the
            first dimension for a network that runs alone.
        archs: Which k of the K networks have it, ``(k,)``.
        alone: There is no first dimension.
        linear: It is no convolution.
        bias: ``(C,)``, if it has one.
        entered: What it was given, shaped like ``output``.
        weight: Its weight, ``(C, C_in / groups, ...)``.
        window: Stride, padding, dilation and groups of a two-dimensional convolution.
    """

    output: Tensor
    archs: Tensor
    alone: bool = False
    linear: bool = False
    bias: Tensor | None = None
    entered: Tensor | None = None
    weight: Tensor | None = None
    window: Window | None = None

    def by_position(self, values: Tensor) -> Tensor:
        """Return values that are shaped like ``output`` as ``(k, M, C, P)``."""
        values = values[None] if self.alone else values
        values = values.movedim(-1, 2) if self.linear else values
        return values.reshape(*values.shape[:3], -1)

    def without_bias(self) -> Tensor:
        """Return the output as ``(k, M, C, P)`` before the bias was added."""
        output = self.by_position(self.output.detach())
        return output if self.bias is None else output - self.bias.detach()[:, None]

    def first_by_image(self, gradient: Tensor) -> Tensor:
        """As :meth:`by_image`, for the first weight only: ``(k, M)``."""
        if self.entered is None or self.weight is None:
            raise ForwardError("gradients by image need plain convolutions and linear layers")
        entered = self.entered.detach()
        rising = self.by_position(gradient)[:, :, 0]  # (k, M, P), of the first channel
        if self.linear:
            return (self.by_position(entered)[:, :, 0] * rising).sum(dim=2)
        if self.window is None:
            raise ForwardError("gradients by image need two-dimensional convolutions")
        stride, padding, dilation, _ = self.window
        entered = entered[:, :1] if self.alone else entered[:, :, :1].flatten(0, 1)
        kernel = (self.weight.shape[2], self.weight.shape[3])
        first = F.unfold(entered, kernel, dilation, padding, stride)[:, 0]  # the first tap
        return (first.view(rising.shape) * rising).sum(dim=2)

    def by_image(self, gradient: Tensor) -> Tensor:
        """Return the gradient by the weight for every image by itself, ``(k, M, P)``.

        Args:
            gradient: By the output, of something that does not mix images.

        Raises:
            ForwardError: Not a linear layer and not a two-dimensional convolution.
        """
        if self.entered is None or self.weight is None:
            raise ForwardError("gradients by image need plain convolutions and linear layers")
        entered = self.entered.detach()
        rising = self.by_position(gradient)  # (k, M, C, P)
        if self.linear:
            columns = self.by_position(entered)
            groups = 1
        elif self.window is not None:
            stride, padding, dilation, groups = self.window
            flat = entered if self.alone else entered.flatten(0, 1)
            kernel = (self.weight.shape[2], self.weight.shape[3])
            columns = F.unfold(flat, kernel, dilation, padding, stride)
            columns = columns.view(*rising.shape[:2], *columns.shape[1:])  # (k, M, C_in * kk, P)
        else:
            raise ForwardError("gradients by image need two-dimensional convolutions")
        k, m, _, positions = rising.shape
        rising = rising.reshape(k, m, groups, -1, positions)
        columns = columns.reshape(k, m, groups, -1, positions)
        return (rising @ columns.mT).reshape(k, m, -1)


class ForwardPass:
    """K networks on M images each.

    Attributes:
        images: ``(K, M, 3, H, W)``; gradients are taken with respect to it.
        labels: ``(M,)``, or None.
        logits: ``(K, M, classes)``.
        layers: Outputs of convolutions and linear layers, in the order of the pass.
        blocks: Outputs of the building blocks (cells, reductions), ``(K, M, C, H, W)`` each;
            without the first dimension for a network that runs alone.
        weights: Of convolutions and linear layers; only for a network that runs alone.
    """

    def __init__(
        self,
        images: Tensor,
        logits: Tensor,
        *,
        labels: Tensor | None = None,
        layers: Sequence[Layer] = (),
        blocks: Sequence[Tensor] = (),
        weights: Sequence[Tensor] = (),
        twice: bool = False,
    ) -> None:
        self.images = images
        self.logits = logits
        self.labels = labels
        self.layers = tuple(layers)
        self.blocks = tuple(blocks)
        self.weights = tuple(weights)
        self._twice = twice

    @property
    def count(self) -> int:
        """K, the number of networks."""
        return self.images.shape[0]

    @cached_property
    def losses(self) -> Tensor:
        """Cross-entropy of every image, ``(K, M)``."""
        if self.labels is None:
            raise ForwardError("the images have no labels")
        if self.logits.dim() != 3 or self.logits.shape[2] <= int(self.labels.max()):
            raise ForwardError(
                f"labels go up to {int(self.labels.max())}, but the network returns shape "
                f"{tuple(self.logits.shape[1:])}"
            )
        flat = F.cross_entropy(
            self.logits.flatten(0, 1), self.labels.repeat(self.count), reduction="none"
        )
        return flat.view(self.count, -1)

    @cached_property
    def input_gradient(self) -> Tensor:
        """Gradient of each network's summed logits by its images, ``(K, M, 3 * H * W)``."""
        (gradient,) = _gradients(self.logits.sum(), [self.images])
        return gradient.flatten(2)

    @cached_property
    def _loss_gradients(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Gradients of the mean loss by the weights and by the layers' outputs, in one pass."""
        outputs = [layer.output for layer in self.layers]
        total = self.losses.mean(dim=1).sum()
        gradients = _gradients(total, [*self.weights, *outputs], twice=self._twice)
        return gradients[: len(self.weights)], gradients[len(self.weights) :]

    @property
    def weight_gradients(self) -> tuple[Tensor, ...]:
        """Gradient of the mean loss by each of ``weights``; parts of the graph if asked ``twice``.

        Raises:
            ForwardError: Several networks share their weights.
        """
        self._alone()
        return self._loss_gradients[0]

    def layer_gradients(self) -> Iterator[tuple[Layer, Tensor]]:
        """Return every layer and the gradient of the mean loss by its output."""
        for layer, gradient in zip(self.layers, self._loss_gradients[1], strict=True):
            yield layer, gradient.detach()

    def weighted_gradient(self, gradients: Iterator[tuple[Layer, Tensor]]) -> Tensor:
        """Return the sum over weights of w * dR/dw for every network, ``(K,)`` in float64.

        By Euler's identity: the output y of a layer is linear in its weights, so the sum over its
        weights of w * dR/dw is the sum over its outputs (without bias) of y * dR/dy, which
        separates by network even where networks share weights.

        Args:
            gradients: Layers, and dR/dy of each.
        """
        total = torch.zeros(self.count, dtype=torch.float64, device=self.images.device)
        for layer, gradient in gradients:
            products = layer.without_bias() * layer.by_position(gradient)
            sums = products.sum(dim=(1, 2, 3), dtype=torch.float64)
            total.index_add_(0, layer.archs, sums)
        return total

    def output_gradients(self) -> Iterator[tuple[Layer, Tensor]]:
        """Return every layer and the gradient of the summed logits by its output."""
        gradients = _gradients(self.logits.sum(), [layer.output for layer in self.layers])
        return zip(self.layers, gradients, strict=True)

    def block_gradients(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Return what leaves every building block, and the gradient of the summed logits by it.

        Both ``(K, M, C, H, W)``, in the order of the pass.
        """
        gradients = _gradients(self.logits.sum(), self.blocks)
        for block, gradient in zip(self.blocks, gradients, strict=True):
            alone = block.dim() == 4
            yield (block[None], gradient[None]) if alone else (block, gradient)

    def curvature_times_gradient(self) -> tuple[Tensor, ...]:
        """Return H g by each of ``weights``: g the gradient of the mean loss, H its Hessian."""
        gradients = self.weight_gradients
        product = sum((g * g.detach()).sum() for g in gradients)
        assert isinstance(product, Tensor)
        return _gradients(product, self.weights)

    def through_block(self, number: int, ending: Tensor) -> Tensor:
        """Send a gradient backwards through one building block.

        Args:
            number: Of the block, from 1 on: what enters it is the block before.
            ending: The gradient at its output, the same for all networks, ``(M, C, H, W)``.

        Returns:
            The gradient at its input, ``(K, M, C, H, W)`` of the block before.
        """
        before, after = self.blocks[number - 1], self.blocks[number]
        (arrived,) = _gradients(after, [before], ending.expand_as(after))
        return arrived if arrived.dim() == ending.dim() + 1 else arrived[None]

    def gradients_by_image(self, values: Tensor) -> Iterator[tuple[Layer, Tensor]]:
        """Return every layer and the gradients by its weight, image by image, ``(k, M, P)``.

        A weight that is used several times comes once, with the sum.

        Args:
            values: ``(K, M)``, each of them a function of its own image alone.
        """
        yield from self._by_image(values, Layer.by_image)

    def first_weight_by_image(self, values: Tensor) -> Iterator[tuple[Layer, Tensor]]:
        """As :meth:`gradients_by_image`, for the first weight of every layer only: ``(k, M)``."""
        yield from self._by_image(values, Layer.first_by_image)

    def _by_image(
        self, values: Tensor, by_image: Callable[[Layer, Tensor], Tensor]
    ) -> Iterator[tuple[Layer, Tensor]]:
        gradients = _gradients(values.sum(), [layer.output for layer in self.layers])
        uses = Counter(id(layer.weight) for layer in self.layers)
        sums: dict[int, Tensor] = {}  # of weights that will be used again
        for layer, gradient in zip(self.layers, gradients, strict=True):
            weight = id(layer.weight)
            total = by_image(layer, gradient)
            total = total + sums.pop(weight) if weight in sums else total
            uses[weight] -= 1
            if uses[weight]:
                sums[weight] = total
            else:
                yield layer, total

    def _alone(self) -> None:
        if self.count > 1:
            raise ForwardError(f"{self.count} networks share their weights: run one at a time")
        if not self.weights:
            raise ForwardError("the network has no convolution and no linear layer")


def _gradients(
    of: Tensor, by: Sequence[Tensor], ending: Tensor | None = None, *, twice: bool = False
) -> tuple[Tensor, ...]:
    """Return the gradients of a number, or of a tensor times ``ending``; 0 without a path."""
    reached = [x for x in by if x.requires_grad] if of.requires_grad else []
    if not reached:
        return tuple(torch.zeros_like(x) for x in by)
    found = iter(
        torch.autograd.grad(
            of, reached, ending, retain_graph=True, create_graph=twice, allow_unused=True,
            materialize_grads=True,
        )
    )  # fmt: skip
    return tuple(next(found) if x.requires_grad else torch.zeros_like(x) for x in by)


#: The levels of forward mode are the process's, not the thread's: two threads at a time crash it.
_FORWARD_MODE = threading.Lock()


def along(
    logits: Callable[[Tensor], Tensor], path: Callable[[Tensor], Tensor], at: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the first two derivatives of logits along a curve of images.

    Args:
        logits: ``(M, C, H, W)`` to ``(..., M, classes)``; images must not mix.
        path: ``(M,)`` to images ``(M, C, H, W)``.
        at: Where on the curve, ``(M,)``.

    Returns:
        dh/dt and d2h/dt2 at every place, both shaped like the logits.
    """
    one = torch.ones_like(at)

    def first(t: Tensor) -> Tensor:
        slope: Tensor = torch.func.jvp(lambda t: logits(path(t)), (t,), (one,))[1]
        return slope

    with _FORWARD_MODE, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch's, when it loads that mode
        slope, change, *_ = torch.func.jvp(first, (at,), (one,))
    return slope, change


def normalise_plainly(maps: Tensor, eps: float) -> Tensor:
    """Return ``(..., H, W)`` normalised over H and W, in steps that can be differentiated twice.

    The fused norms are wrong in their second derivative in forward mode.
    """
    centred = maps - maps.mean(dim=(-2, -1), keepdim=True)
    return centred * (centred.square().mean(dim=(-2, -1), keepdim=True) + eps).rsqrt()
