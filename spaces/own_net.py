"""Modules of the user's own, named by an import path: built, and counted on shapes alone."""

import importlib
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from spaces.errors import NasError


def own_module(path: str, *channels: int, **settings: Any) -> nn.Module:  # noqa: ANN401 - the user's
    """Return the module that a class makes, freshly initialised.

    Args:
        path: ``package.module:Class``.
        *channels: What it is called with: the channels that come and go.
        **settings: Further arguments, such as ``stride``.

    Raises:
        NasError: It cannot be imported, or makes no module.
    """
    name, _, attribute = path.partition(":")
    try:
        found: Any = importlib.import_module(name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise NasError(f"module {path!r}: cannot be imported: {error}") from None
    made = found(*channels, **settings)
    if not isinstance(made, nn.Module):
        raise NasError(f"module {path!r}: expected a torch.nn.Module, got {type(made).__name__}")
    return made


@lru_cache(maxsize=4096)
def own_costs(
    path: str, channels: tuple[int, int], size: int, settings: tuple[tuple[str, Any], ...] = ()
) -> tuple[int, int]:
    """Return parameters and multiply-accumulates of one module for one image.

    It is run on torch's meta device, once for each shape. Multiply-accumulates are half of what
    torch's counter counts.

    Args:
        path: ``package.module:Class``.
        channels: That come and go.
        size: Height and width of what comes.
        settings: Further arguments of the class.
    """
    with torch.device("meta"):
        made = own_module(path, *channels, **dict(settings))
        maps = torch.empty((1, channels[0], size, size))
    made.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        made(maps)
    params = sum(weight.numel() for weight in made.parameters() if weight.requires_grad)
    return params, counter.get_total_flops() // 2
