"""Latency: what a source of it is, and how one network is timed.

A latency is the wall time in milliseconds of one forward pass over one batch, in evaluation mode,
without gradients, float32. Batch size, device and number of threads belong to the number and are
stated with it.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from spaces import NasError, Population, Space

if TYPE_CHECKING:
    from torch import nn

    from nas.proxies.base import Conditions

#: Of the order statistics that bound a median: half the width of a 95 % interval is this many
#: standard deviations of the number of runs below the median, which is sqrt(runs) / 2.
_NORMAL_95 = 1.96


class Latency(Protocol):
    """A source of latencies."""

    @property
    def name(self) -> str:
        """What it is, for a person: the device, the table's column, the file."""

    @property
    def effort(self) -> int:
        """How many architectures may be asked about for one that is wanted."""

    def __call__(
        self, space: Space, population: Population, conditions: Conditions
    ) -> NDArray[np.float64]:
        """Return milliseconds, ``(N,)``; NaN where the latency is not known."""


@dataclass(frozen=True)
class MeasureOptions:
    """How a network is timed.

    Attributes:
        device: Where, as torch writes it.
        batch_size: Images per forward pass.
        warm_up: Passes before the first that counts: they load, allocate and choose kernels.
        runs: Passes that count.
        threads: Of torch while it runs on a CPU; 0 leaves torch's own choice.
    """

    device: str = "cpu"
    batch_size: int = 1
    warm_up: int = 3
    runs: int = 15
    threads: int = 0

    def __post_init__(self) -> None:
        lowest = {"batch_size": 1, "warm_up": 0, "runs": 3, "threads": 0}
        for name, low in lowest.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise NasError(f"{name}: expected int, got {value!r}")
            if value < low:
                raise NasError(f"{name} must be at least {low}, got {value}")


@dataclass(frozen=True)
class Timing:
    """The latency of one network.

    Attributes:
        median_ms: Median of the runs.
        low_ms: Lower end of a 95 % interval of the median, from the order of the runs.
        high_ms: Upper end.
        runs: Passes that counted.
        batch_size: Images per pass.
        device: Where.
        threads: Of torch.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    runs: int
    batch_size: int
    device: str
    threads: int


def measure_latency(
    net: nn.Module, image_shape: tuple[int, int, int], options: MeasureOptions | None = None
) -> Timing:
    """Time a network on a device.

    The network is moved there and left there, in evaluation mode.

    Args:
        net: Maps images ``(N, C, H, W)`` to anything.
        image_shape: ``(C, H, W)``.
        options: How.

    Raises:
        NasError: There is no such device.
    """
    import torch  # late: a latency from a table needs none

    from nas.environment import check_device

    options = options or MeasureOptions()
    check_device(options.device)
    before = torch.get_num_threads()
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        threads = torch.get_num_threads()
        net.to(options.device).eval()
        images = torch.zeros((options.batch_size, *image_shape), device=options.device)
        with torch.inference_mode():
            for _ in range(options.warm_up):
                net(images)
            times = [_seconds(net, images) for _ in range(options.runs)]
    finally:
        torch.set_num_threads(before)
    low, high = median_interval(times)
    return Timing(
        median_ms=1000 * statistics.median(times),
        low_ms=1000 * low,
        high_ms=1000 * high,
        runs=options.runs,
        batch_size=options.batch_size,
        device=options.device,
        threads=threads,
    )


def _seconds(net: nn.Module, images: object) -> float:
    import torch

    waits = getattr(images, "is_cuda", False)
    if waits:
        torch.cuda.synchronize()
    began = time.perf_counter()
    net(images)
    if waits:
        torch.cuda.synchronize()
    return time.perf_counter() - began


def median_interval(values: list[float]) -> tuple[float, float]:
    """Return a 95 % interval of the median that supposes nothing of the distribution.

    Its ends are order statistics: the number of values below the true median is binomial with
    probability 1/2. Fewer than six values have no such interval; theirs is the whole range.
    """
    ordered, n = sorted(values), len(values)
    reach = _NORMAL_95 * n**0.5 / 2
    first = max(int((n - 1) / 2 - reach), 0)
    return ordered[first], ordered[n - 1 - first]
