"""Peak memory of inference: weights, buffers, and the maps that are alive at the same time.

Nothing is computed: the network runs on torch's ``meta`` device, which has shapes and no numbers,
while every tensor that an operation returns is counted until nobody holds it any more. What a
library allocates inside of an operation (work space of a convolution) is not seen.

The shapes that an operation makes of other shapes are worked out once and remembered, for torch
does so in Python: networks of one space ask for the same few hundred again and again.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

#: Size, strides and kind of the tensors that an operation makes, by what it is called with.
_Made = list[tuple[tuple[int, ...], tuple[int, ...], Any]]
_KNOWN: dict[object, _Made] = {}
_MOST_KNOWN = 2**16  # beyond, all of it is forgotten


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:  # noqa: ANN401 - of torch
    """Return what an operation makes of tensors on the meta device, by memory where it may be."""
    import torch

    if any(each.alias_info is not None for each in func._schema.returns):
        return func(*args, **kwargs)  # a view, or in place: it returns what it was given
    try:
        key = (func, _shapes(args), _shapes(tuple(kwargs.items())))
        made = _KNOWN.get(key)
    except TypeError:  # something that cannot be compared
        return func(*args, **kwargs)
    if made is None:
        out = func(*args, **kwargs)
        several = out if isinstance(out, tuple) else (out,)
        if all(type(each) is torch.Tensor and each.is_meta for each in several):
            if len(_KNOWN) >= _MOST_KNOWN:
                _KNOWN.clear()
            _KNOWN[key] = [(tuple(x.shape), tuple(x.stride()), x.dtype) for x in several]
        return out
    tensors = tuple(
        torch.empty_strided(size, stride, dtype=dtype, device="meta")
        for size, stride, dtype in made
    )
    return tensors if len(func._schema.returns) > 1 else tensors[0]


def _shapes(value: Any) -> object:  # noqa: ANN401 - any argument of an operation
    """Return what stands for an argument: of a tensor its shape, of all else itself."""
    import torch

    if isinstance(value, torch.Tensor):
        return ("tensor", tuple(value.shape), tuple(value.stride()), value.dtype, value.device)
    if isinstance(value, list | tuple):
        return (type(value), *map(_shapes, value))
    return (type(value), value)  # 1, 1.0 and True are equal, but not the same


def peak_memory_mb(
    net: nn.Module, image_shape: tuple[int, int, int], *, batch_size: int = 1
) -> float:
    """Return the peak memory of a forward pass in evaluation mode, in 10^6 bytes.

    Args:
        net: On the ``meta`` device; it is left in evaluation mode.
        image_shape: ``(C, H, W)``.
        batch_size: Images.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Count(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]  # of torch
            self.holders: Counter[int] = Counter()  # of each storage
            self.seen: set[int] = set()
            self.now = self.peak = 0

        def hold(self, tensor: torch.Tensor) -> None:
            if id(tensor) in self.seen:  # an operation in place returns what it was given
                return
            storage = tensor.untyped_storage()
            place, size = storage._cdata, storage.nbytes()
            self.seen.add(id(tensor))
            if not self.holders[place]:
                self.now += size
                self.peak = max(self.peak, self.now)
            self.holders[place] += 1
            weakref.finalize(tensor, self.release, id(tensor), place, size).atexit = False

        def release(self, tensor: int, place: int, size: int) -> None:
            self.seen.discard(tensor)
            self.holders[place] -= 1
            if not self.holders[place]:
                self.now -= size

        def __torch_dispatch__(
            self,
            func: Callable[..., object],
            types: object,
            args: tuple[Any, ...] = (),
            kwargs: dict[str, Any] | None = None,
        ) -> object:
            out = _run(func, args, kwargs or {})
            for leaf in tree_leaves(out):
                if isinstance(leaf, torch.Tensor):
                    self.hold(leaf)
            return out

    net.eval()
    lasting = [*net.parameters(), *net.buffers()]
    count = Count()
    with torch.no_grad(), count:
        # Held by its name only until the network lets it go, as a caller's images would be.
        images = torch.empty((batch_size, *image_shape), device="meta")
        net(images)
    fixed = sum(tensor.numel() * tensor.element_size() for tensor in lasting)
    return (fixed + count.peak) / 1e6
