"""MeCo: how far the channels of each feature map are from being linearly dependent.

    MeCo     = sum over maps f of             lambda_min(P(f))            (paper, Def. 3, Eq. 12)
    MeCo_opt = sum over maps f of  C(f) / n * lambda_min(P_n(f))          (paper, Eq. 13)

P is the Pearson correlation matrix of the C channels of f over its H*W positions, for one image at
initialisation, batch-norm in train mode; P_n is that of n channels drawn without replacement.
MeCo_opt counters that lambda_min shrinks with C, which turns MeCo's sign where width varies.

Jiang, Wang, Bie, "MeCo: Zero-Shot NAS with One Data and Single Forward Pass via Minimum Eigenvalue
of Correlation", NeurIPS 2023, https://openreview.net/forum?id=KFm2lZiI7n. Reads one image.

Which maps: the paper says the feature maps of each layer. ``hooks`` chooses a reading:

``relu``       outputs of activations, that is, the inputs of convolutions
``conv``       outputs of convolutions (a batch-norm behind one repeats its value)
``unique``     every distinct map once
``reference``  the output of every module, containers included, as the authors' script does: a
               ReLU-conv-BN block counts its ReLU once, its convolution once, its result three times

Deviations from the authors' script: symmetric eigen-solver in float64 instead of a general one in
float32; the image is standard normal noise unless one is given; under ``reference`` the channels
are redrawn at each module, as there, but from a seed; under the other readings one draw per width
serves the whole network (at initialisation channels are exchangeable, so which are drawn does not
matter, only that they are few).
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from nas.networks.events import MODULES, Event
from nas.proxies.base import Conditions, Proxy
from nas.seeds import generator

if TYPE_CHECKING:
    from torch import Tensor

    from nas.proxies.routes import Networks

Hooks = Literal["relu", "conv", "unique", "reference"]
_HEARD: dict[Hooks, frozenset[str]] = {
    "relu": frozenset({"relu"}),
    "conv": frozenset({"conv"}),
    "unique": MODULES,
    "reference": MODULES,
}


@dataclass(frozen=True)
class MecoOptions:
    """Settings of MeCo.

    Attributes:
        hooks: Which maps are summed; see the module.
    """

    hooks: Hooks = "relu"


@dataclass(frozen=True)
class MecoOptOptions:
    """Settings of MeCo_opt.

    Attributes:
        hooks: Which maps are summed; see the module.
        channels: Size n of the correlation matrices.
    """

    hooks: Hooks = "conv"
    channels: int = 8

    def __post_init__(self) -> None:
        if self.channels < 2:
            raise ValueError(f"channels must be at least 2, got {self.channels}")


class _Meco:
    """Sums smallest eigenvalues over the maps that it hears."""

    def __init__(
        self, networks: Networks, conditions: Conditions, options: MecoOptions | MecoOptOptions
    ) -> None:
        import torch

        self.roles = _HEARD[options.hooks]
        self._hooks = options.hooks
        self._size = options.channels if isinstance(options, MecoOptOptions) else None
        self._seed = conditions.seed
        self.totals = torch.zeros(networks.rows, dtype=torch.float64, device=conditions.device)
        self._values: dict[int, Tensor] = {}
        self._drawn: dict[int, Tensor] = {}
        self._redrawn = generator(self._seed, "meco_opt", "reference")

    def wants(self, channels: int, positions: int) -> bool:
        matrix = min(channels, self._size or channels)
        return matrix <= positions - 1  # otherwise the smallest eigenvalue is exactly 0

    def hear(self, event: Event) -> None:
        weight = event.count(self.roles)
        if self._hooks == "unique" and event.affine_id in self._values:
            return
        # A value heard before is used again, unless each module draws channels of its own.
        redraw = self._hooks == "reference" and self._size is not None
        value = None if redraw else self._values.get(event.affine_id)
        if value is None:
            value = event.of_each(self._value(event.maps[:, 0], redraw))
            self._values[event.affine_id] = value
        self.totals.index_add_(0, event.archs, value * weight)

    def _value(self, features: Tensor, redraw: bool) -> Tensor:
        from nas.proxies.spectrum import smallest_correlation_eigenvalue

        channels = features.shape[1]
        if self._size is None:
            return smallest_correlation_eigenvalue(features)
        size = min(self._size, channels)
        if size < channels:
            features = features[:, self._channels(channels, size, features, redraw)]
        return smallest_correlation_eigenvalue(features) * (channels / size)

    def _channels(self, channels: int, size: int, like: Tensor, redraw: bool) -> Tensor:
        import torch

        if redraw:
            rows = self._redrawn.choice(channels, size=size, replace=False)
            return torch.from_numpy(rows).to(like.device)
        if channels not in self._drawn:
            rng = generator(self._seed, "meco_opt", channels)
            rows = rng.choice(channels, size=size, replace=False)
            self._drawn[channels] = torch.from_numpy(rows).to(like.device)
        return self._drawn[channels]

    def scores(self) -> Tensor:
        return self.totals


_PAPER = "https://openreview.net/forum?id=KFm2lZiI7n"

MECO = Proxy(
    name="meco",
    summary="Smallest eigenvalue of the channels' correlation matrix, summed over feature maps",
    paper=_PAPER,
    reads=frozenset({"images"}),
    options=MecoOptions,
    listener=_Meco,
    additive=True,
    batched=lambda options: options.hooks in ("relu", "conv"),
    of_function=lambda options: options.hooks != "reference",
    directions=MappingProxyType({"nats_sss": -1}),
    advice=MappingProxyType(
        {
            "nats_sss": "MeCo falls as networks get wider (lambda_min shrinks with the channel "
            "count), so on nats_sss its maximum is among the worst networks; use meco_opt, which "
            "corrects for width, or direction: minimise"
        }
    ),
)
MECO_OPT = Proxy(
    name="meco_opt",
    summary="MeCo on n drawn channels of each map, weighted by its width: right where width varies",
    paper=_PAPER,
    reads=frozenset({"images"}),
    options=MecoOptOptions,
    listener=_Meco,
    additive=True,
    batched=lambda options: options.hooks in ("relu", "conv"),
    of_function=lambda options: options.hooks != "reference",
)
