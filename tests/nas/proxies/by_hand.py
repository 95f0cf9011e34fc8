"""Networks, images and labels chosen by hand, and what proxies say about them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nas.networks.images import LoadedImages
from nas.networks.module import ModuleNetwork
from nas.proxies import Conditions, ProxyError, ProxySpec
from nas.proxies.base import Outcome
from nas.proxies.routes import ask_repeatedly

#: Of what a proxy draws itself: noise, which ``given(...).noise`` gives again, and signs.
SEED = 0


def doubles(rows: Sequence[object]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def linear(rows: Sequence[Sequence[float]], bias: Sequence[float] | None = None) -> nn.Linear:
    """Return a linear layer of these weights."""
    weight = doubles(rows)
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = nn.Parameter(weight)
    if bias is not None:
        layer.bias = nn.Parameter(doubles(bias))
    return layer


def conv(rows: Sequence[object], stride: int = 1, padding: int = 0) -> nn.Conv2d:
    """Return a convolution of these weights ``(C_out, C_in, k, k)``, without a bias."""
    weight = doubles(rows)
    c_out, c_in, *kernel = weight.shape
    size = (kernel[0], kernel[1])
    layer = nn.Conv2d(c_in, c_out, size, stride, padding, bias=False)
    layer.weight = nn.Parameter(weight)
    return layer


class Block(nn.Module):
    """A building block around something."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.inside(x)
        return result


def vectors(*rows: Sequence[float]) -> Tensor:
    """Return images of one channel and one row each: ``(M, 1, 1, D)``."""
    return doubles(rows)[:, None, None, :]


def given(images: Tensor, labels: Sequence[int] | None = None, minibatch: int = 0) -> LoadedImages:
    """Return these images and labels in this order, in minibatches (by default one of all)."""
    known = None if labels is None else torch.tensor(labels)
    return LoadedImages(
        seed=SEED,
        repeat=0,
        shape=tuple(images.shape[1:]),
        count=minibatch or len(images),
        classes=None,
        taken=(images.double(), known),
    )


def ask_all(
    names: Sequence[str], net: nn.Module, images: LoadedImages, *, seed: int = SEED
) -> list[Outcome]:
    """Return what proxies say about a network in float64 with the weights that it has."""
    conditions = Conditions(minibatch=max(2, images.count), dtype="float64", seed=seed)
    return ask_repeatedly(
        lambda now: ModuleNetwork(net.double(), now.seed, seeded=False),
        [ProxySpec.parse(name) for name in names],
        conditions,
        lambda repeat: images,
    )


def ask_net(name: str, net: nn.Module, images: LoadedImages) -> float:
    """Return what one proxy says, which is to be a number."""
    (value,) = ask_all([name], net, images)
    assert not isinstance(value, ProxyError), value
    return value
