"""A whole batch of TransNAS macro networks, run as a tree of their beginnings.

Networks that begin with the same modules have the same maps there. At each module, those of the
same kind that are given maps of one shape are one call, and each different map is computed once
and belongs to all that have it. Names and weights are those of
:class:`spaces.transnas_macro_net.MacroNetwork`. See :mod:`nas.networks.batched`.

Letters: N architectures in the batch, K of them at one kind of module, U maps that they have
between them, M images, C channels, H W size.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nas.networks.batched import BatchedNetworks, Feed
from nas.networks.forward import ForwardError
from spaces import Population
from spaces.transnas_macro import BASE, TransnasMacro

_ABSENT = 4


class MacroNetworks(BatchedNetworks):
    """The networks of a population of the macro space, for listeners that add up over maps."""

    def __init__(
        self,
        space: TransnasMacro,
        population: Population,
        seed: int,
        num_classes: int,
        device: str,
    ) -> None:
        """Keep the population; nothing runs yet.

        Args:
            space: The space.
            population: ``(N, 6)``.
            seed: Seed of the weights, as for :func:`nas.networks.weights.seed_weights`.
            num_classes: Width of the classifier.
            device: Where they run.
        """
        super().__init__(len(population), seed, num_classes, device)
        self._population = population

    def weights(self) -> Iterator[tuple[Tensor, Tensor]]:
        raise NotImplementedError("only listeners are served")  # see the table of forms

    def _forward(self, feed: Feed, images: Tensor) -> Tensor | None:
        everyone = self._everyone
        x = feed.convolve("stem.0", images, BASE // 2, 3, everyone)
        x = F.relu(feed.normalise(x, everyone))
        feed.tell("relu", x, everyone)
        x = feed.normalise(feed.convolve("stem.3", x, BASE, 3, everyone), everyone)
        # Maps by shape; which shape each architecture has, and which of its maps.
        maps = {x.shape[2:]: x}
        shapes = np.full(self.count, 0)
        known = [x.shape[2:]]
        rows = np.arange(self.count) if len(x) == self.count else np.zeros(self.count, np.int64)
        for number, kinds in enumerate(self._population.T):
            made: dict[torch.Size, list[Tensor]] = {}
            new_shapes, new_rows = shapes.copy(), rows.copy()
            for place, kind, here in _groups(shapes, kinds):
                entering, own = np.unique(rows[here], return_inverse=True)
                given = maps[known[place]][torch.from_numpy(entering).to(x.device)]
                out = _module(feed, f"body.module{number}", kind, given, here, own.reshape(-1))
                parts = made.setdefault(out.shape[2:], [])
                new_rows[here] = own.reshape(-1) + sum(map(len, parts))
                parts.append(out)
                if out.shape[2:] not in known:
                    known.append(out.shape[2:])
                new_shapes[here] = known.index(out.shape[2:])
            maps = {shape: torch.cat(parts) for shape, parts in made.items()}
            shapes, rows = new_shapes, new_rows
        for place in np.unique(shapes).tolist():
            here = np.flatnonzero(shapes == place)
            archs, owned = (torch.from_numpy(v).to(x.device) for v in (here, rows[here]))
            feed.tell("last", maps[known[place]], archs, rows=owned)
        return None


def _groups(
    shapes: NDArray[np.int64], kinds: NDArray[np.int64]
) -> Iterator[tuple[int, int, NDArray[np.int64]]]:
    """Yield (shape, kind, places of the architectures that have both)."""
    for place in np.unique(shapes).tolist():
        for kind in range(_ABSENT + 1):
            here = np.flatnonzero((shapes == place) & (kinds == kind))
            if len(here):
                yield place, kind, here


def _module(
    feed: Feed,
    name: str,
    kind: int,
    x: Tensor,
    here: NDArray[np.int64],
    own: NDArray[np.int64],
) -> Tensor:
    """Run one module, ``(U, M, C, H, W)``; one that is absent hands on what comes.

    Args:
        feed: The pass.
        name: Of the module.
        kind: Of the module.
        x: What enters.
        here: Whose it is, ``(K,)``.
        own: Which of the maps each of them has, ``(K,)``.
    """
    if kind == _ABSENT:
        return x
    archs, rows = (torch.from_numpy(values).to(x.device) for values in (here, own))
    width, stride = x.shape[2] * (2 if kind % 2 else 1), 2 if kind >= 2 else 1
    for block in range(2):
        entered, place = x, f"{name}.{block}"
        for part in ("conv_a", "conv_b"):
            rectified = F.relu(x)
            feed.tell("relu", rectified, archs, rows=rows)
            stride = stride if part == "conv_a" else 1
            if x.shape[1] * (-(-x.shape[3] // stride)) ** 2 == 1:  # as batch-norms refuse it, too
                raise ForwardError("a batch-norm of a single number: use a larger resolution")
            x = feed.convolve(
                f"{place}.{part}.op.1", rectified, width, 3, archs, stride=stride, rows=rows
            )
            x = feed.normalise(x, archs, rows)
        if x.shape != entered.shape:
            step = 2 if entered.shape[3] != x.shape[3] or kind >= 2 else 1
            short = feed.convolve(
                f"{place}.downsample.0", entered, width, 1, archs, stride=step, rows=rows
            )
            x = x + feed.normalise(short, archs, rows)
        else:
            x = x + entered
        feed.tell("block", x, archs, rows=rows, entered=entered)
    return x
