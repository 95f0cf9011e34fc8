"""Who takes part in one training: this process alone, or all that torchrun has started.

    torchrun --nproc-per-node 4 -m nas.cli train ... device=cuda

Every process takes its share of each batch, and gradients are averaged
(``torch.nn.parallel.DistributedDataParallel``). Batch-norm looks at the share of one process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from spaces.errors import NasError


@dataclass(frozen=True)
class World:
    """The processes of one training.

    Attributes:
        rank: Number of this one.
        size: How many there are.
        local: Number of this one on its machine.
    """

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def device(self, device: str) -> str:
        """Return the device of this process, where ``cuda`` alone means one for each."""
        return f"cuda:{self.local}" if device == "cuda" and self.size > 1 else device

    def wrapped(self, network: nn.Module, device: str) -> nn.Module:
        """Return the network whose gradients are averaged over all processes."""
        if self.size == 1:
            return network
        ids = [torch.device(device)] if device.startswith("cuda") else None
        return nn.parallel.DistributedDataParallel(network, device_ids=ids)

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over all processes."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def wait(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            distributed.barrier()


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Join the other processes that torchrun has started, if it has started any.

    Raises:
        NasError: More processes than devices.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in os.environ:
        yield World()
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device.startswith("cuda"):
        if device != "cuda":
            raise NasError(f"device: under torchrun write 'cuda', each takes its own; got {device}")
        if local >= torch.cuda.device_count():
            raise NasError(
                f"torchrun: process {local} of this machine has no device of its own, there are "
                f"{torch.cuda.device_count()}; start fewer"
            )
        torch.cuda.set_device(local)
    distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield World(int(os.environ["RANK"]), size, local)
    finally:
        distributed.destroy_process_group()
