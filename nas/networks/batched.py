"""What networks that run many at a time have in common: one pass, and what it leaves behind.

A space's networks differ only in which operation sits where. One seeded weight per place, kind of
operation and shape serves every architecture, so that a convolution is called once for all that
chose it there. Batch-norm in train mode normalises the maps of one network over its own images and
positions, so architectures do not mix, forwards or backwards. Names and weights are those of the
``nn.Module`` that the space builds; a test compares the two.

Letters: N architectures in the batch, K of them at one operation, U maps that they have between
them, M images per architecture, C channels, H W size, R resolution of the images.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from nas.networks.events import Event, Listener
from nas.networks.forward import ForwardPass, Layer, Norm, Window, along, normalise_plainly
from nas.networks.weights import Kind, layer_bias, layer_weight

EPSILON = 1e-5  # of nn.BatchNorm2d

#: What is told inside of building blocks, and of them.
INSIDE = ("relu", "conv", "normalised")
OF_BLOCKS = (*INSIDE, "block")


def normalise(maps: Tensor) -> Tensor:
    """Return batch-norm in train mode, ``(K, M, C, H, W)``: each network by its own images."""
    count, images, channels = maps.shape[:3]
    if images == 1:
        # One group per channel. torch.var_mean over two dimensions takes 30 times as long on a CPU.
        return F.group_norm(maps[:, 0], channels, eps=EPSILON)[:, None]
    # All networks side by side as channels of one; a copy, but for a single network.
    side = maps.transpose(0, 1).reshape(images, count * channels, *maps.shape[3:])
    out = F.batch_norm(side, None, None, training=True, eps=EPSILON)
    apart = out.view(images, count, *maps.shape[2:]).transpose(0, 1)
    return apart.contiguous()


def convolve(
    maps: Tensor, weight: Tensor, stride: int = 1, groups: int = 1, dilation: int = 1
) -> Tensor:
    """Convolve ``(K, M, C, H, W)`` with half a window of padding."""
    half = dilation * (weight.shape[2] // 2)
    flat: Tensor = F.conv2d(maps.flatten(0, 1), weight, None, stride, half, dilation, groups)
    apart: Tensor = flat.view(*maps.shape[:2], *flat.shape[1:])
    return apart


def max_pool(maps: Tensor, kernel: int) -> Tensor:
    """Return the largest value of each window, ``(K, M, C, H, W)`` to the same."""
    flat, half = maps.flatten(0, 1), kernel // 2
    if not torch.is_inference_mode_enabled():  # at a tie, the gradient goes to the first
        return _pool_by_position(flat, kernel, 1, half).view(maps.shape)
    # Along one dimension, then the other: F.max_pool2d takes 20 times as long on a CPU.
    height, width = maps.shape[3:]
    flat = F.pad(flat, (half, half, half, half), value=-math.inf)
    rows = flat[..., :width]
    for shift in range(1, kernel):
        rows = torch.maximum(rows, flat[..., shift : shift + width])
    best = rows[:, :, :height]
    for shift in range(1, kernel):
        best = torch.maximum(best, rows[:, :, shift : shift + height])
    return best.view(maps.shape)


def halve(maps: Tensor) -> Tensor:
    """Return 2x2 max pooling; an odd last row or column makes a window of its own."""
    pooled = _pool_by_position(maps.flatten(0, 1), 2, 2, 0)
    return pooled.view(*maps.shape[:2], *pooled.shape[1:])


def _pool_by_position(flat: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """Return max pooling, ``(B, C, H, W)``; channels last it takes a quarter of the time."""
    last = flat.contiguous(memory_format=torch.channels_last)
    return F.max_pool2d(last, kernel, stride, padding, ceil_mode=True).contiguous()


@dataclass
class Feed:
    """One pass of one batch: weights, listeners, what is kept, and the numbering of maps.

    Attributes:
        seed: Of the weights.
        listeners: Who hears.
        n: N.
        like: A tensor of the networks' format and place.
        weights: How weights are drawn.
        norm: What batch-norms do; ``plain`` is ``image`` in steps that can be differentiated twice.
        keep: Gradients will be asked for, so nothing may be left out.
        whole: The pass goes on to the end, whoever listens.
        layers: Outputs of convolutions, if kept.
        blocks: Outputs of cells and reductions, if kept.
    """

    seed: int
    listeners: Sequence[Listener]
    n: int
    like: Tensor
    weights: Kind = "default"
    norm: Norm | Literal["plain"] = "batch"
    keep: bool = False
    whole: bool = False
    layers: list[Layer] = field(default_factory=list)
    blocks: list[Tensor] = field(default_factory=list)
    _next: int = field(default=0)

    def weight(self, name: str, c_out: int, c_in: int, kernel: int) -> Tensor:
        shape = (c_out, c_in, kernel, kernel)
        return layer_weight(self.seed, name, shape, self.weights).to(self.like)

    def normalise(self, maps: Tensor, archs: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return the maps after a batch-norm."""
        self.tell("normalised", maps, archs, rows=rows)
        if self.norm == "identity":  # running mean 0, running variance 1
            return maps / math.sqrt(1.0 + EPSILON)
        if self.norm == "plain":
            return normalise_plainly(maps, EPSILON)
        if self.norm == "image":
            return normalise(maps.flatten(0, 1)[:, None]).view(maps.shape)
        return normalise(maps)

    def convolve(
        self,
        name: str,
        maps: Tensor,
        width: int,
        kernel: int,
        archs: Tensor,
        *,
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Run the convolution called ``name`` for some architectures; tell and keep its output."""
        weight = self.weight(name, width, maps.shape[2] // groups, kernel)
        out = convolve(maps, weight, stride, groups, dilation)
        self.tell("conv", out, archs, rows=rows)
        if self.keep:
            assert len(maps) == len(archs)  # gradients are each network's own
            half = dilation * (kernel // 2)
            window = Window((stride, stride), (half, half), (dilation, dilation), groups)
            self.layers.append(Layer(out, archs, entered=maps, weight=weight, window=window))
        return out

    def block(self, maps: Tensor, archs: Tensor, entered: Tensor) -> None:
        """Tell and keep what leaves a building block; ``entered`` is what entered it."""
        self.tell("block", maps, archs, entered=entered)
        if self.keep:
            self.blocks.append(maps)

    def wanted(self, role: str, channels: int, positions: int) -> list[Listener]:
        return [x for x in self.listeners if role in x.roles and x.wants(channels, positions)]

    def needs(self, roles: Sequence[str], channels: int, positions: int) -> bool:
        """Tell whether a map that has one of these roles must be computed."""
        return self.whole or any(self.wanted(role, channels, positions) for role in roles)

    def tell(
        self,
        role: str,
        maps: Tensor,
        archs: Tensor,
        counts: Tensor | int = 1,
        rows: Tensor | None = None,
        entered: Tensor | None = None,
    ) -> None:
        """Make one event of some maps and tell it to whoever wants it.

        Args:
            role: What they are.
            maps: ``(U, M, C, H, W)``: one for each architecture, or one for all.
            archs: Whose they are, ``(K,)``.
            counts: How many modules emit them.
            rows: Which of the maps each architecture has, where neither of the two holds.
            entered: What entered the block that made them, one for each map.
        """
        hearers = self.wanted(role, maps.shape[2], maps.shape[3] * maps.shape[4])
        if hearers:
            self._next += 1
            if rows is None and len(maps) != len(archs):  # all have the same
                rows = torch.zeros_like(archs)
            came = None if entered is None else entered.detach()
            event = Event(maps.detach(), archs, {role: counts}, self._next, self._next, rows, came)
            with torch.no_grad():
                for listener in hearers:
                    listener.hear(event)


class BatchedNetworks(ABC):
    """Networks of one space that share seeded weights, in the form that proxies ask.

    Attributes:
        count: N, how many.
        rows: Of a listener's totals, N.
    """

    def __init__(self, count: int, seed: int, num_classes: int, device: str) -> None:
        """Set up what does not depend on the space; nothing runs yet.

        Args:
            count: N.
            seed: Seed of the weights, as for :func:`nas.networks.weights.seed_weights`.
            num_classes: Width of the classifier.
            device: Where they run.
        """
        self.count = self.rows = count
        self._seed = seed
        self._classes = num_classes
        self._everyone = torch.arange(count, device=device)

    def feed(
        self,
        images: Tensor,
        listeners: Sequence[Listener],
        weights: Kind,
        *,
        norm: Norm = "batch",
        dtype: torch.dtype | None = None,
    ) -> list[Tensor]:
        """Run forwards on images ``(M, 3, R, R)``; return each listener's scores, ``(N,)``.

        Tells the roles ``relu``, ``conv``, ``normalised``, ``block`` and ``last``.

        Args:
            images: What all networks see.
            listeners: Who hears.
            weights: Which weights.
            norm: What batch-norms do.
            dtype: Another number format.
        """
        images = images.to(dtype or images.dtype)
        feed = Feed(self._seed, listeners, self.count, images, weights, norm)
        with torch.inference_mode():
            self._forward(feed, images[None])
        return [listener.scores() for listener in listeners]

    def run(
        self,
        images: Tensor,
        labels: Tensor | None = None,
        *,
        listeners: Sequence[Listener] = (),
        weights: Kind = "default",
        norm: Norm = "batch",
        dtype: torch.dtype | None = None,
        twice: bool = False,
    ) -> ForwardPass:
        """Run with gradients, as :meth:`nas.networks.module.ModuleNetwork.run`."""
        images = images.to(dtype or images.dtype)
        leaf = images.expand(self.count, *images.shape).clone().requires_grad_()
        feed = Feed(self._seed, listeners, self.count, leaf, weights, norm, keep=True, whole=True)
        with torch.enable_grad():
            features = self._forward(feed, leaf)
            assert features is not None
            logits = self._classify(feed, features)
        return ForwardPass(
            leaf, logits, labels=labels, layers=feed.layers, blocks=feed.blocks, twice=twice
        )

    def along(self, path: Callable[[Tensor], Tensor], at: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`nas.networks.module.ModuleNetwork.along`, ``(N, M, classes)`` each."""

        def logits(images: Tensor) -> Tensor:
            feed = Feed(self._seed, (), self.count, images, norm="plain", whole=True)
            features = self._forward(feed, images[None])
            assert features is not None
            return self._classify(feed, features)

        return along(logits, path, at)

    @abstractmethod
    def weights(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Return the weight of every layer, after the places of those who have it, ``(k,)``.

        Layers that reach no output are left out.
        """

    @abstractmethod
    def _forward(self, feed: Feed, images: Tensor) -> Tensor | None:
        """Run to the last map that is wanted; return the maps before pooling if all is kept.

        Args:
            feed: The pass.
            images: ``(N, M, 3, R, R)``, or ``(1, M, 3, R, R)`` where all see the same ones.
        """

    def _classifier(self, width: int, weights: Kind = "default") -> tuple[Tensor, Tensor]:
        """Return weight ``(classes, width)`` and bias of the linear head."""
        shape = (self._classes, width)
        return (
            layer_weight(self._seed, "classifier", shape, weights),
            layer_bias(self._seed, "classifier", shape, weights),
        )

    def _classify(self, feed: Feed, features: Tensor) -> Tensor:
        """Return logits ``(N, M, classes)`` of maps ``(N, M, C, H, W)``."""
        weight, bias = (
            tensor.to(features) for tensor in self._classifier(features.shape[2], feed.weights)
        )
        pooled = features.mean(dim=(3, 4))
        logits = F.linear(pooled, weight, bias)
        if feed.keep:
            feed.layers.append(
                Layer(logits, self._everyone, linear=True, bias=bias, entered=pooled, weight=weight)
            )
        return logits
