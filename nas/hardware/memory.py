"""Peak memory of inference: weights, buffers, and the maps that are alive at the same time.

Nothing is computed: the network runs on torch's ``meta`` device, which has shapes and no numbers,
while every tensor that an operation returns is counted until nobody holds it any more. What a
library allocates inside of an operation (work space of a convolution) is not seen.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


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
            args: tuple[object, ...] = (),
            kwargs: dict[str, object] | None = None,
        ) -> object:
            out = func(*args, **(kwargs or {}))
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
