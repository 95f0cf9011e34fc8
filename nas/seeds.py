"""One seed, named children: the only place that turns the seed of a run into generators.

A child is named by what it is for: ``child_seed(0, "search")``, ``child_seed(0, "weights", 3)``.
Because children are found by name and not by position, a new consumer shifts no other one.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
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
        # Not torch.manual_seed, which would seed every accelerator there is.
        torch.default_generator.manual_seed(child_seed(seed, *names))
        if own:
            with torch.cuda.device(own[0]) if kind == "cuda" else nullcontext():
                getattr(torch, kind).manual_seed(child_seed(seed, *names))
        yield


@contextmanager
def seeded_globals(seed: int, *names: str | int, device: str = "cpu") -> Iterator[None]:
    """As :func:`seeded_torch`, and so for Python's and NumPy's global generators.

    For code that we did not write: a network of the user's, or a loader. What it draws on other
    CUDA devices is not seeded, but the generators are as before afterwards.
    """
    import torch  # late, as above

    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - to leave it alone
    child = child_seed(seed, *names)
    try:
        with seeded_torch(seed, *names, device=device):
            random.seed(child)
            np.random.seed(child % 2**32)  # noqa: NPY002 - for those who still draw from it
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
