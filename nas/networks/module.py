"""Any ``nn.Module``, run alone: hooks make the events, and are removed whatever happens.

Letters: M images, C channels, H W size.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nas.networks.events import Event, Listener
from nas.networks.forward import (
    ForwardError,
    ForwardPass,
    Layer,
    Norm,
    Window,
    along,
    normalise_plainly,
)
from nas.networks.weights import Kind, seed_weights
from nas.seeds import seeded_globals

_ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Hardswish, nn.ELU, nn.PReLU, nn.Mish,
)  # fmt: skip
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

#: The first class that fits gives the role; anything else is ``other``.
_ROLES: tuple[tuple[tuple[type[nn.Module], ...], str], ...] = (
    (_ACTIVATIONS, "relu"),
    (_CONVOLUTIONS, "conv"),
    (_BATCH_NORMS, "norm"),
    ((nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d), "pool"),
    ((nn.Identity,), "skip"),
    ((nn.Linear,), "linear"),
)

#: Activations that a network may call without a module.
_FUNCTIONS = frozenset(
    {
        *(F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.relu6, F.gelu),
        *(F.leaky_relu, F.silu, F.hardswish, F.elu, F.mish, F.prelu),
    }
)


def role_of(module: nn.Module) -> str:
    """Return what a module is to a listener, one of :data:`nas.networks.events.MODULES`."""
    return next((role for classes, role in _ROLES if isinstance(module, classes)), "other")


def weight_layers(net: nn.Module) -> list[nn.Module]:
    """Return the convolutions and linear layers of a network, in the order of their names."""
    return [x for x in net.modules() if isinstance(x, (*_CONVOLUTIONS, nn.Linear))]


def blocks_of(net: nn.Module) -> list[nn.Module]:
    """Return the building blocks: what the network strings together, opened lists left out.

    A block is a module with members that is neither a ``Sequential`` nor a ``ModuleList``; those
    are opened, and bare layers between blocks are passed over. Cells and reductions of a cell
    network, residual blocks of a ResNet.
    """
    found: list[nn.Module] = []
    for child in net.children():
        if isinstance(child, nn.Sequential | nn.ModuleList):
            found.extend(blocks_of(child))
        elif any(True for _ in child.children()):
            found.append(child)
    return found


class _Identities:
    """Recognises maps that repeat: the same tensor, its ReLU, its batch-norm."""

    def __init__(self) -> None:
        # An id is only good while its object lives, hence the reference beside the numbers.
        self._known: dict[tuple[int, int], tuple[weakref.ref[Tensor], tuple[int, int]]] = {}
        self._rectified: dict[int, tuple[int, int]] = {}
        self._next = 0

    def of(self, tensor: Tensor) -> tuple[int, int]:
        """Return (map id, affine id); an in-place change makes a tensor another map."""
        return self._find(tensor) or self._remember(tensor, self._new())

    def _find(self, tensor: Tensor) -> tuple[int, int] | None:
        # Inference tensors keep no version; the feeder therefore runs under no_grad.
        reference, ids = self._known.get((id(tensor), tensor._version), (None, None))
        return ids if reference is not None and reference() is tensor else None

    def _new(self) -> tuple[int, int]:
        self._next += 1
        return self._next, self._next

    def _remember(self, tensor: Tensor, ids: tuple[int, int]) -> tuple[int, int]:
        self._known[id(tensor), tensor._version] = weakref.ref(tensor), ids
        return ids

    def derived(self, role: str, result: Tensor, came: tuple[int, int]) -> None:
        """Note that ``result`` is the ReLU or the batch-norm of the map with ids ``came``."""
        if self._find(result) is not None:
            return
        if role == "norm":
            self._remember(result, (self._new()[0], came[1]))
        elif role == "relu":
            ids = self._rectified.get(came[0]) or self._rectified.setdefault(came[0], self._new())
            self._remember(result, ids)


@dataclass
class _Heard:
    """What the hooks of one pass collect, and whom they tell."""

    listeners: Sequence[Listener]
    keep: bool
    device: torch.device
    layers: list[tuple[Layer, int]] = field(default_factory=list)
    blocks: list[Tensor] = field(default_factory=list)
    last: Tensor | None = None
    identities: _Identities = field(default_factory=_Identities)
    inputs: dict[nn.Module, tuple[int, int]] = field(default_factory=dict)
    inside: int = 0  # activation modules that are running

    def tell(
        self,
        role: str,
        maps: Tensor,
        ids: tuple[int, int] | None = None,
        entered: Tensor | None = None,
    ) -> None:
        """Make one event of ``maps``, ``(M, C, ...)``, and tell it to whoever wants it."""
        if maps.dim() < 2:
            return
        positions = maps[0, 0].numel()
        hearers = [x for x in self.listeners if role in x.roles]
        hearers = [x for x in hearers if x.wants(maps.shape[1], positions)]
        if not hearers:
            return
        map_id, affine_id = ids or self.identities.of(maps)
        features = _in_a_row(maps)
        here = torch.zeros(1, dtype=torch.long, device=self.device)
        came = None if entered is None else _in_a_row(entered)
        event = Event(features, here, {role: 1}, map_id, affine_id, entered=came)
        with torch.no_grad():
            for listener in hearers:
                listener.hear(event)

    def before(self, module: nn.Module, args: tuple[object, ...]) -> None:
        self.inside += isinstance(module, _ACTIVATIONS)
        # Read before the call: an in-place module overwrites its input.
        if args and isinstance(args[0], Tensor):
            self.inputs[module] = self.identities.of(args[0])
            if isinstance(module, _BATCH_NORMS):
                self.tell("normalised", args[0], self.inputs[module])

    def after(self, module: nn.Module, args: tuple[object, ...], output: object) -> None:
        self.inside -= isinstance(module, _ACTIVATIONS)
        if not isinstance(output, Tensor):
            return
        role = role_of(module)
        if module in self.inputs:
            self.identities.derived(role, output, self.inputs[module])
        if self.keep and isinstance(module, (*_CONVOLUTIONS, nn.Linear)):
            here = torch.zeros(1, dtype=torch.long, device=self.device)
            layer = Layer(
                output,
                here,
                alone=True,
                linear=isinstance(module, nn.Linear),
                bias=module.bias,
                entered=args[0] if args and isinstance(args[0], Tensor) else None,
                weight=module.weight,
                window=_window(module),
            )
            self.layers.append((layer, output._version))
        if output.dim() > 2 and output[0, 0].numel() > 1:
            self.last = output
        self.tell(role, output)

    def block(self, module: nn.Module, args: tuple[object, ...], output: object) -> None:
        if isinstance(output, Tensor) and output.dim() == 4:
            given = [x for x in args if isinstance(x, Tensor) and x.dim() == 4]
            self.tell("block", output, entered=given[0] if given else None)
            if self.keep:
                self.blocks.append(output)


def _in_a_row(maps: Tensor) -> Tensor:
    """Return maps ``(M, C, ...)`` as those of one network, ``(1, M, C, positions, 1)``."""
    return maps.detach().reshape(1, *maps.shape[:2], -1, 1)


def _window(module: nn.Module) -> Window | None:
    if not isinstance(module, nn.Conv2d) or module.padding_mode != "zeros":
        return None
    if isinstance(module.padding, str):
        return None
    stride, padding, dilation = (
        (x[0], x[1]) for x in (module.stride, module.padding, module.dilation)
    )
    return Window(stride, padding, dilation, module.groups)


class _ImageNorm(nn.Module):
    """A batch-norm in train mode that sees every image alone."""

    def __init__(self, norm: nn.Module, plainly: bool) -> None:
        super().__init__()
        self._norm = norm
        self._plainly = plainly

    def forward(self, x: Tensor) -> Tensor:
        norm = self._norm
        assert isinstance(norm, _BATCH_NORMS)
        if x.dim() < 3:
            raise ForwardError("a batch-norm over single numbers needs more than one image")
        if self._plainly:
            out = normalise_plainly(x.flatten(2)[:, :, None], norm.eps)  # (M, C, 1, positions)
            if norm.affine:
                out = out * norm.weight[:, None, None] + norm.bias[:, None, None]
            return out.view(x.shape)
        return F.instance_norm(x, weight=norm.weight, bias=norm.bias, eps=norm.eps)


def _apart(net: nn.Module, *, plainly: bool = False) -> None:
    """Replace every batch-norm by one that sees every image alone."""
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, _BATCH_NORMS):
                setattr(module, name, _ImageNorm(child, plainly))


class _Functions(TorchFunctionMode):
    """Hears activations that a network calls as functions."""

    def __init__(self, heard: _Heard) -> None:
        super().__init__()
        self._heard = heard

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function returns
        if func not in _FUNCTIONS or self._heard.inside:
            return func(*args, **(kwargs or {}))
        came = self._heard.identities.of(args[0] if args else (kwargs or {})["input"])
        result = func(*args, **(kwargs or {}))
        self._heard.identities.derived("relu", result, came)
        self._heard.tell("relu", result)
        return result


def _forward(net: nn.Module, images: Tensor, heard: _Heard) -> Tensor:
    """Run ``net`` once with hooks on every module; return what it returned."""
    handles = []
    try:
        for module in net.modules():
            handles.append(module.register_forward_pre_hook(heard.before))
            handles.append(module.register_forward_hook(heard.after))
        for module in blocks_of(net):
            handles.append(module.register_forward_hook(heard.block))
        with _Functions(heard):
            result: Tensor = net(images)
    finally:
        for handle in handles:
            handle.remove()
    if heard.last is not None:
        heard.tell("last", heard.last)
    return result


def feed_module(net: nn.Module, images: Tensor, listeners: Sequence[Listener]) -> Tensor:
    """Run ``net`` once, without gradients, and tell every module's output to the listeners.

    Outputs that are no tensors are passed over; vectors are maps of one position.

    Args:
        net: Any network; its hooks are as before on return. Mode and weights are used as they are.
        images: ``(M, C, H, W)``.
        listeners: Who hears.

    Returns:
        What the network returned.
    """
    with torch.no_grad():
        return _forward(net, images, _Heard(listeners, keep=False, device=images.device))


class ModuleNetwork:
    """One network, run alone, in the form that proxies ask.

    Attributes:
        count: 1.
        rows: Of a listener's totals, 1.
    """

    count = rows = 1

    def __init__(self, net: nn.Module, seed: int, *, seeded: bool) -> None:
        """Take a network over; it is changed.

        Args:
            net: A private copy, on its device and in its number format.
            seed: Of weights that are drawn, and of what the network itself draws (dropout).
            seeded: Whether its weights are those that the seed and their names give; otherwise
                they are used as they came.
        """
        self._net = net.train().requires_grad_()
        self._seed = seed
        self._seeded = seeded
        self._device = next((str(x.device) for x in net.parameters()), "cpu")
        for module in net.modules():
            if getattr(module, "inplace", False):  # gradients of what it overwrites are asked for
                module.inplace = False  # type: ignore[assignment]
        if seeded:
            seed_weights(net, seed)
        self._buffers = [] if seeded else _buffers_of(net)

    def feed(
        self,
        images: Tensor,
        listeners: Sequence[Listener],
        weights: Kind,
        *,
        norm: Norm = "batch",
        dtype: torch.dtype | None = None,
    ) -> list[Tensor]:
        """Run forwards on images ``(M, C, H, W)``; return each listener's scores, ``(1,)``."""
        with self._draws():
            net = self._prepared(weights, norm, dtype)
            feed_module(net, images.to(dtype or images.dtype), listeners)
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
        """Run with gradients; see :class:`nas.networks.forward.ForwardPass`.

        Args:
            images: ``(M, C, H, W)``.
            labels: ``(M,)``.
            listeners: Who hears the maps.
            weights: Which weights.
            norm: What batch-norms do: ``batch`` normalises by the minibatch, ``image`` each image
                by itself, as if it came alone, and ``identity`` is evaluation mode.
            dtype: Another number format.
            twice: Gradients by the weights will be differentiated again.
        """
        net = self._prepared(weights, norm, dtype)
        leaf = images.to(dtype or images.dtype)[None].clone().requires_grad_()
        heard = _Heard(listeners, keep=True, device=images.device)
        with torch.enable_grad(), self._draws():
            logits = _logits(_forward(net, leaf[0], heard))
        if any(layer.output._version != version for layer, version in heard.layers):
            raise ForwardError("the network changes the output of a layer in place")
        return ForwardPass(
            leaf,
            logits,
            labels=labels,
            layers=[layer for layer, _ in heard.layers],
            blocks=heard.blocks,
            weights=[weight for _, weight in _weights(net)],
            twice=twice,
        )

    def along(self, path: Callable[[Tensor], Tensor], at: Tensor) -> tuple[Tensor, Tensor]:
        """Return two derivatives of the logits along a curve of images, ``(1, M, classes)`` each.

        Batch-norms see every image alone. See :func:`nas.networks.forward.along`.
        """
        self._reset()
        net = copy.deepcopy(self._net)
        _apart(net, plainly=True)
        with self._draws():
            return along(lambda images: _logits(net(images)), path, at)

    def weights(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Return the weight of every convolution and linear layer, after whose it is, ``(1,)``."""
        yield from _weights(self._net)

    def module(self) -> nn.Module:
        """Return the network itself."""
        return self._net

    def _reset(self) -> None:
        """Give the network the buffers that it came with, whoever ran it before.

        Those of a space only have running statistics, which no proxy reads.
        """
        for module, name, value in self._buffers:
            module._buffers[name] = value.clone()  # not in place: a graph may hold the old one

    def _draws(self) -> AbstractContextManager[None]:
        """Seed what the network draws as it runs; those of a space draw nothing."""
        if self._seeded:
            return nullcontext()
        return seeded_globals(self._seed, "running", device=self._device)

    def _prepared(self, weights: Kind, norm: Norm, dtype: torch.dtype | None) -> nn.Module:
        self._reset()
        if weights == "default" and norm == "batch" and dtype is None:
            return self._net
        net = copy.deepcopy(self._net)
        if dtype is not None:
            net = net.to(dtype)
        if weights == "gaussian" or (self._seeded and weights != "default"):
            seed_weights(net, self._seed, weights)
        elif weights == "positive":
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter.abs_()
        if norm == "image":
            _apart(net)
        return net.train(norm != "identity")


def _logits(result: object) -> Tensor:
    """Return what a network returned as ``(1, M, classes)``."""
    if not isinstance(result, Tensor):
        raise ForwardError(f"the network returns {type(result).__name__}, not a tensor of logits")
    return result.flatten(1)[None] if result.dim() > 1 else result[None, :, None]


def _buffers_of(net: nn.Module) -> list[tuple[nn.Module, str, Tensor]]:
    """Return copies of all buffers, and where they belong."""
    return [
        (module, name, value.detach().clone())
        for module in net.modules()
        for name, value in module._buffers.items()
        if value is not None
    ]


def _weights(net: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    told: set[int] = set()
    for module in weight_layers(net):
        weight = module.weight
        assert isinstance(weight, Tensor)
        if id(weight) not in told:  # two layers may share one
            told.add(id(weight))
            yield torch.zeros(1, dtype=torch.long, device=weight.device), weight
