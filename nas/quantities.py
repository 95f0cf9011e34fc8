"""What an architecture costs, by name: the quantities that limits and objectives speak of.

    params      trainable weights
    flops       multiply-accumulates for one image
    memory_mb   peak memory of inference with one image, 10^6 bytes (nas.hardware.memory)
    latency_ms  milliseconds for a batch, from the latency source of the search (nas.hardware)

The first two are counted by the space for a whole population at once. Memory takes a run of every
network on torch's meta device, some ten milliseconds; each is run once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas.hardware import Latency, peak_memory_mb
from nas.proxies.base import Conditions
from spaces import Arch, NasError, Population, Space

QUANTITIES = ("params", "flops", "memory_mb", "latency_ms")
COUNTED = ("params", "flops")  # known of a whole population at once, without a network

_FULL_EFFORT = 4096
_MEMORY_EFFORT = 192


class Quantities:
    """The costs of architectures under the conditions of one search.

    Attributes:
        space: Where the architectures live.
        conditions: Classes and resolution of the networks.
        latency: Where latencies come from; None where nothing asks for one.
    """

    def __init__(self, space: Space, conditions: Conditions, latency: Latency | None) -> None:
        self.space = space
        self.conditions = conditions
        self.latency = latency
        self._memory: dict[Arch, float] = {}

    def check(self, names: Sequence[str]) -> None:
        """Refuse quantities that this search has no source for.

        Raises:
            NasError: A latency is asked for, but the search was given no source of one.
        """
        if "latency_ms" in names and self.latency is None:
            raise NasError(
                "latency_ms: the search has no source of latencies; give latency: 'measure', a "
                "table's 'FILE.csv:COLUMN', or the 'FILE.yaml' that `nas latency --fit` wrote"
            )

    def effort(self, names: Sequence[str]) -> int:
        """Return how many architectures may be looked at for one that is wanted."""
        self.check(names)
        efforts = [_FULL_EFFORT]
        if "memory_mb" in names:
            efforts.append(_MEMORY_EFFORT)
        if "latency_ms" in names and self.latency is not None:
            efforts.append(self.latency.effort)
        return min(efforts)

    def of(self, name: str, population: Population) -> NDArray[np.float64]:
        """Return one quantity of every architecture, ``(N,)``; NaN where it is not known.

        Args:
            name: One of :data:`QUANTITIES`.
            population: ``(N, D)``.
        """
        if name in COUNTED:
            costs = self.space.costs(
                population,
                num_classes=self.conditions.num_classes,
                resolution=self.conditions.resolution,
            )
            return np.asarray(getattr(costs, name), dtype=np.float64)
        if name == "memory_mb":
            archs = [tuple(row) for row in population.tolist()]
            return np.asarray([self._memory_of(arch) for arch in archs], dtype=np.float64)
        self.check([name])
        assert self.latency is not None
        return self.latency(self.space, population, self.conditions)

    def _memory_of(self, arch: Arch) -> float:
        if arch not in self._memory:
            import torch  # late: only memory needs it

            with torch.device("meta"):
                net = self.space.build(arch, num_classes=self.conditions.num_classes)
            shape = (3, self.conditions.resolution, self.conditions.resolution)
            self._memory[arch] = peak_memory_mb(net, shape)
        return self._memory[arch]
