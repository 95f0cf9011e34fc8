"""The feeder for any ``nn.Module``: forward hooks on every module, removed whatever happens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nas.proxies.events import Event, Listener

#: The first class that fits gives the role; anything else is ``other``.
_ROLES: tuple[tuple[tuple[type[nn.Module], ...], str], ...] = (
    ((nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Hardswish, nn.ELU), "relu"),
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d), "conv"),
    ((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), "norm"),
    ((nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d), "pool"),
    ((nn.Identity,), "skip"),
    ((nn.Linear,), "linear"),
)


def role_of(module: nn.Module) -> str:
    """Return what a module is to a listener, one of :data:`nas.proxies.events.ROLES`."""
    return next((role for classes, role in _ROLES if isinstance(module, classes)), "other")


class _Identities:
    """Recognises maps that repeat: the same tensor, its ReLU, its batch-norm."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], tuple[int, int]] = {}
        self._kept: list[Tensor] = []  # an id is only good while its object lives
        self._next = 0

    def of(self, tensor: Tensor) -> tuple[int, int]:
        """Return (map id, affine id); an in-place change makes a tensor another map."""
        key = self._key(tensor)
        if key not in self._known:
            self._next += 1
            self._remember(tensor, (self._next, self._next))
        return self._known[key]

    @staticmethod
    def _key(tensor: Tensor) -> tuple[object, ...]:
        # Inference tensors keep no version; the feeder therefore runs under no_grad.
        return (id(tensor), tensor._version)

    def _remember(self, tensor: Tensor, ids: tuple[int, int]) -> None:
        self._known[self._key(tensor)] = ids
        self._kept.append(tensor)

    def derived(self, role: str, source: Tensor, result: Tensor, came: tuple[int, int]) -> None:
        """Note that ``result`` is the ReLU or the batch-norm of the map with ids ``came``."""
        if self._key(result) in self._known:
            return
        if role == "norm":
            self._next += 1
            self._remember(result, (self._next, came[1]))
        elif role == "relu":
            key = ("relu", came[0])
            if key not in self._known:
                self._next += 1
                self._known[key] = (self._next, self._next)
            self._remember(result, self._known[key])


def feed_module(net: nn.Module, images: Tensor, listeners: Sequence[Listener]) -> Tensor:
    """Run ``net`` once and tell every module's output to the listeners.

    Only the first image of the batch is told; the others matter through batch statistics. Outputs
    that are not feature maps (fewer than three dimensions, not a tensor) are passed over.

    Args:
        net: Any network; its hooks are as before on return. Mode and weights are used as they are.
        images: ``(N, 3, H, W)``.
        listeners: Who hears.

    Returns:
        What the network returned.
    """
    identities = _Identities()
    inputs: dict[nn.Module, tuple[int, int]] = {}
    here = torch.zeros(1, dtype=torch.long, device=images.device)

    def before(module: nn.Module, args: tuple[object, ...]) -> None:
        # Read before the call: an in-place module overwrites its input.
        if args and isinstance(args[0], Tensor):
            inputs[module] = identities.of(args[0])

    def after(module: nn.Module, args: tuple[object, ...], output: object) -> None:
        if not isinstance(output, Tensor) or output.dim() < 3:
            return
        role = role_of(module)
        if module in inputs and isinstance(args[0], Tensor):
            identities.derived(role, args[0], output, inputs[module])
        map_id, affine_id = identities.of(output)
        features = output[:1].detach().flatten(2).unsqueeze(-1)
        event = Event(features, here, {role: 1}, map_id, affine_id)
        for listener in listeners:
            if role in listener.roles and listener.wants(features.shape[1], features.shape[2]):
                listener.hear(event)

    handles = []
    try:
        for module in net.modules():
            handles.append(module.register_forward_pre_hook(before))
            handles.append(module.register_forward_hook(after))
        with torch.no_grad():
            result: Tensor = net(images)
    finally:
        for handle in handles:
            handle.remove()
    return result
