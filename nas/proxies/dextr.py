"""Dextr: how independent the channels of each map are, and how much the output curves.

    a     = ln( 1 + sum over maps l of  s_min(F_l) / s_max(F_l) )
    b     = ln( 1 + k )
    score = a b / (a + b)

F_l is the C x (H * W) matrix of map l for one image, s its singular values. k is the extrinsic
curvature of the logits h(t) on a circle of images, sqrt(D) (u cos t + v sin t), u and v orthonormal
and random: with h' and h" the derivatives by t,

    k = mean over t of  sqrt( |h'|^2 |h"|^2 - (h' . h")^2 ) / |h'|^3

"Dextr: Zero-Shot Neural Architecture Search with Singular Value Decomposition and Extrinsic
Curvature", TMLR 2025, https://arxiv.org/abs/2508.12977, eq. 8; the curvature is that of Poole et
al. 2016, https://arxiv.org/abs/1606.05340. Reads one image, noise of its own, and two derivatives
by the angle, in forward mode. Every image is seen alone (batch-norms normalise it by itself).

What we could not read in the paper, and chose: the maps are those that ``hooks`` names (as in
:mod:`nas.proxies.meco`; the authors hook every module), the circle has ``points`` points, and k is
their mean, so that it does not depend on their number (theirs is a sum).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from nas.networks.events import Event
from nas.proxies.base import Conditions, Proxy

if TYPE_CHECKING:
    from torch import Tensor

    from nas.proxies.routes import Networks, Subject


@dataclass(frozen=True)
class DextrOptions:
    """Settings of Dextr.

    Attributes:
        hooks: Which maps are summed: outputs of activations, or of convolutions.
        points: Angles on the circle.
    """

    hooks: Literal["relu", "conv"] = "relu"
    points: int = 8

    def __post_init__(self) -> None:
        if self.points < 1:
            raise ValueError(f"points must be at least 1, got {self.points}")


class _Conditioning:
    """Adds up the inverse condition numbers of the maps that it hears."""

    def __init__(self, networks: Networks, conditions: Conditions, options: DextrOptions) -> None:
        import torch

        self.roles: frozenset[str] = frozenset({options.hooks})
        self.totals = torch.zeros(networks.rows, dtype=torch.float64, device=conditions.device)

    def wants(self, channels: int, positions: int) -> bool:
        return positions > 1

    def hear(self, event: Event) -> None:
        import torch

        flat = event.maps[:, 0].flatten(2)  # (U, C, H * W)
        tall = flat if flat.shape[1] <= flat.shape[2] else flat.mT
        # Eigenvalues of the smaller Gram matrix are the squares of the singular values.
        squares = torch.linalg.eigvalsh(tall.double() @ tall.double().mT)
        low, high = squares[:, 0], squares[:, -1]
        zero = high * (torch.finfo(high.dtype).eps * squares.shape[1])  # what rounding leaves of it
        inverse = torch.where(low > zero, low / high, 0.0).sqrt()
        value = event.of_each(inverse) * event.count(self.roles)
        self.totals.index_add_(0, event.archs, value)

    def scores(self) -> Tensor:
        return self.totals


def _dextr(subject: Subject, options: DextrOptions) -> Tensor:
    import torch

    from nas.proxies.routes import place

    listener = _Conditioning(subject.networks, subject.conditions, options)
    image = place(subject.images.first(), subject.conditions)
    (independent,) = subject.networks.feed(image, [listener], "default")
    a = independent.log1p()
    b = _curvature(subject, options.points).log1p()
    return torch.where(a > 0, a * b / (a + b), torch.nan)  # no map at all, or none of full rank


def _curvature(subject: Subject, points: int) -> Tensor:
    """Return the mean extrinsic curvature of the logits on a circle of images, ``(K,)``."""
    import torch

    from nas.proxies.routes import place

    noise = place(subject.images.noise(2, "dextr"), subject.conditions)
    u, v = torch.linalg.qr(noise.flatten(1).double().T).Q.T.to(noise).view(noise.shape)
    radius = math.sqrt(u.numel())

    def circle(t: Tensor) -> Tensor:
        t = t[:, None, None, None]
        at: Tensor = radius * (u * t.cos() + v * t.sin())
        return at

    angles = torch.arange(points, device=noise.device).to(noise) * (2 * math.pi / points)
    first, second = subject.networks.along(circle, angles)  # (K, points, classes) each
    speed = first.double().square().sum(dim=2)
    bend = second.double().square().sum(dim=2)
    mixed = (first.double() * second.double()).sum(dim=2)
    area: Tensor = (speed * bend - mixed.square()).clamp_min(0.0).sqrt()
    curvature: Tensor = (area / speed.pow(1.5)).mean(dim=1)
    return curvature


DEXTR = Proxy(
    name="dextr",
    summary="Dextr: independence of channels joined with the curvature of the output",
    paper="https://arxiv.org/abs/2508.12977",
    reads=frozenset({"images", "noise", "gradients"}),
    options=DextrOptions,
    gauge=_dextr,
    images_read=8,
    undefined="no map of full rank, or the logits do not change along the circle",
)
