"""One forward pass of some networks, and what can be asked of it afterwards.

Everything is computed when it is first asked for and then kept, so proxies that are asked together
share forward and backward passes. Networks that run together never mix: a gradient of the sum of
their losses is, for each of them, the gradient of its own.

Letters: K networks, M images, C channels, H W size, P positions of a map.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor


class RunError(RuntimeError):
    """The networks ran, but have no answer to a question; the text says why."""


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
    """

    output: Tensor
    archs: Tensor
    alone: bool = False
    linear: bool = False
    bias: Tensor | None = None

    def by_position(self, values: Tensor) -> Tensor:
        """Return values that are shaped like ``output`` as ``(k, M, C, P)``."""
        values = values[None] if self.alone else values
        values = values.movedim(-1, 2) if self.linear else values
        return values.reshape(*values.shape[:3], -1)

    def without_bias(self) -> Tensor:
        """Return the output as ``(k, M, C, P)`` before the bias was added."""
        output = self.by_position(self.output.detach())
        return output if self.bias is None else output - self.bias.detach()[:, None]


class Run:
    """K networks on M images each.

    Attributes:
        images: ``(K, M, 3, H, W)``; gradients are taken with respect to it.
        labels: ``(M,)``, or None.
        logits: ``(K, M, classes)``.
        layers: Outputs of convolutions and linear layers, in the order of the pass.
        blocks: Outputs of the building blocks (cells, reductions), ``(K, M, C, H, W)`` each.
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
            raise RunError("the images have no labels")
        if self.logits.dim() != 3 or self.logits.shape[2] <= int(self.labels.max()):
            raise RunError(
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
        (gradient,) = torch.autograd.grad(self.logits.sum(), self.images, retain_graph=True)
        return gradient.flatten(2)

    @cached_property
    def _loss_gradients(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Gradients of the mean loss by the weights and by the layers' outputs, in one pass."""
        outputs = [layer.output for layer in self.layers]
        total = self.losses.mean(dim=1).sum()
        gradients = torch.autograd.grad(
            total, [*self.weights, *outputs], create_graph=self._twice, retain_graph=True,
            allow_unused=True, materialize_grads=True,
        )  # fmt: skip
        return gradients[: len(self.weights)], gradients[len(self.weights) :]

    @property
    def weight_gradients(self) -> tuple[Tensor, ...]:
        """Gradient of the mean loss by each of ``weights``; parts of the graph if asked ``twice``.

        Raises:
            RunError: Several networks share their weights.
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
        gradients = torch.autograd.grad(
            self.logits.sum(), [layer.output for layer in self.layers], retain_graph=True,
            allow_unused=True, materialize_grads=True,
        )  # fmt: skip
        return zip(self.layers, gradients, strict=True)

    def curvature_times_gradient(self) -> tuple[Tensor, ...]:
        """Return H g by each of ``weights``: g the gradient of the mean loss, H its Hessian."""
        gradients = self.weight_gradients
        product = sum((g * g.detach()).sum() for g in gradients)
        assert isinstance(product, Tensor)
        return torch.autograd.grad(
            product, self.weights, retain_graph=True, allow_unused=True, materialize_grads=True
        )

    def gradients_by_image(self, values: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Return the gradient by ``weights`` of each of ``values`` ``(M,)``, one at a time."""
        self._alone()
        for value in values:
            yield torch.autograd.grad(
                value, self.weights, retain_graph=True, allow_unused=True, materialize_grads=True
            )

    def _alone(self) -> None:
        if self.count > 1:
            raise RunError(f"{self.count} networks share their weights: run one at a time")
        if not self.weights:
            raise RunError("the network has no convolution and no linear layer")
