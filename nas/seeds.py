"""One seed, named children: the only place that turns the seed of a run into generators.

A child is named by what it is for: ``child_seed(0, "search")``, ``child_seed(0, "weights", 3)``.
Because children are found by name and not by position, a new consumer shifts no other one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def child_seed(seed: int, *names: str | int) -> int:
    """Return the seed of the child called ``names``, in ``0 .. 2**63 - 1``.

    The same in every process and Python version: sha256 of the JSON of ``[seed, *names]``, which
    keeps ``("a", "b")`` apart from ``("ab",)`` and ``1`` apart from ``"1"``.

    Args:
        seed: The seed of the run, any integer.
        names: What the child is for, from the general to the special.
    """
    text = json.dumps([int(seed), *names])
    # 63 bits: torch's manual_seed takes a signed 64-bit integer
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """Return a NumPy generator that belongs to the child called ``names``."""
    return np.random.default_rng(np.random.SeedSequence(child_seed(seed, *names)))


def torch_generator(seed: int, *names: str | int, device: str = "cpu") -> torch.Generator:
    """Return a torch generator on ``device`` that belongs to the child called ``names``."""
    import torch  # late: this module is imported where no torch may be loaded

    made = torch.Generator(device=device)
    made.manual_seed(child_seed(seed, *names))
    return made


@contextmanager
def seeded_torch(seed: int, *names: str | int, device: str = "cpu") -> Iterator[None]:
    """Let code that draws from torch's global generators draw from the child called ``names``.

    The generators of the CPU and of ``device`` are as before afterwards. For layers, which take
    no generator when they are made, nor when they drop out.
    """
    import torch  # late, as above

    kind = torch.device(device).type
    own = [] if kind == "cpu" else [torch.device(device)]
    with torch.random.fork_rng(devices=own, device_type="cuda" if kind == "cpu" else kind):
        torch.manual_seed(child_seed(seed, *names))
        yield
