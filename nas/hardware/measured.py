"""Latency measured on this machine, each architecture once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nas.environment import device_name, version
from nas.hardware.latency import MeasureOptions, measure_latency
from nas.proxies.base import Conditions
from spaces import Arch, Population, Space


class Memory(Protocol):
    """Where measured numbers are kept; :class:`nas.oracle.Cache` is one."""

    def get_many(self, keys: Sequence[str]) -> dict[str, float | str]:
        """Return what is known about the keys."""

    def put_many(self, verdicts: Mapping[str, float | str]) -> dict[str, float | str]:
        """Add numbers, and return what is now known of their keys."""


class MeasuredLatency:
    """Builds and times the networks it is asked about; what was timed once is not timed again.

    Measured times differ from run to run. With a cache file the first number is kept, so that a
    search that is resumed sees what the interrupted one saw.

    Attributes:
        options: How a network is timed.
        cache: Where numbers outlive the object, beside its own memory.
    """

    effort = 64

    def __init__(self, options: MeasureOptions | None = None) -> None:
        self.options = options or MeasureOptions()
        self.cache: Memory | None = None
        self._known: dict[str, float] = {}

    @property
    def name(self) -> str:
        """Device, batch size and runs."""
        how = self.options
        return (
            f"measured on {how.device} ({device_name(how.device)}), batch of {how.batch_size}, "
            f"median of {how.runs} runs after {how.warm_up}"
        )

    def __call__(
        self, space: Space, population: Population, conditions: Conditions
    ) -> NDArray[np.float64]:
        archs = [tuple(row) for row in population.tolist()]
        return np.asarray([self._latency(space, arch, conditions) for arch in archs])

    def _latency(self, space: Space, arch: Arch, conditions: Conditions) -> float:
        key = self._key(space, arch, conditions)
        if key in self._known:
            return self._known[key]
        found = {} if self.cache is None else self.cache.get_many([key])
        value = found.get(key)
        if not isinstance(value, float):
            net = space.build(arch, num_classes=conditions.num_classes)
            shape = (3, conditions.resolution, conditions.resolution)
            value = measure_latency(net, shape, self.options).median_ms
            if self.cache is not None:  # another process may have been faster: the first one counts
                kept = self.cache.put_many({key: value})[key]
                value = float(kept)
        self._known[key] = value
        return value

    def _key(self, space: Space, arch: Arch, conditions: Conditions) -> str:
        """Return what a latency depends on, as a key of the score cache."""
        what = {
            "latency": asdict(self.options),
            "device name": device_name(self.options.device),
            "torch": version("torch"),
            "space": [space.name, space.revision],
            "conditions": [conditions.num_classes, conditions.resolution],
            "arch": space.to_str(arch),
        }
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
