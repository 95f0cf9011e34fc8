"""Networks by name, and out of folders: ``create_model`` and ``load_model``.

A network may hold weights that its logits do not depend on: an operation of a cell whose result no
edge carries on. They count in the benchmark's parameters, but nobody needs them in a product.
:func:`without_dead` takes them out; weights are loaded into either form of the network.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas.reading import read_json
from nas.space_file import find_space
from spaces.errors import NasError

CONFIG, WEIGHTS = "config.json", "model.safetensors"
BEST = "best.safetensors"  # of a run folder
FORMAT = 1
_YAML = (".yaml/", ".yml/")
_SHOWN = 3  # names in a message
_PROBED = (32, 64, 128, 256)  # pixels


def create_model(
    name: str,
    *,
    num_classes: int = 10,
    in_chans: int = 3,
    pretrained: str | os.PathLike[str] | None = None,
) -> nn.Module:
    """Return a network by name, in train mode: ``create_model("nats_sss/64:64:64:64:64")``.

    Without weights it is initialised by torch's global generator, as any layer is that you make;
    ``torch.manual_seed`` before makes it the same again.

    Args:
        name: A space and one of its official strings, joined by ``/``. The space is a name of
            ``nas.SPACES`` or of a plugin, ``package.module:SPACE``, or the path of a YAML file.
        num_classes: Width of the classifier; 0 leaves it out, so that the network returns the
            pooled features ``(N, F)``.
        in_chans: Channels of the images.
        pretrained: A file of weights (safetensors), or the folder of an export or of a run.

    Raises:
        NasError: No such space or architecture, or weights that do not fit.
    """
    where, text = split_name(name)
    check_sizes(num_classes=num_classes, in_chans=in_chans)
    space = find_space(where)
    network = space.build(space.from_str(text), num_classes=num_classes, in_chans=in_chans)
    if pretrained is not None:
        path = _weights_at(Path(pretrained))
        load_weights(network, read_weights(path), str(path), in_chans)
    return network


def split_name(name: str) -> tuple[str, str]:
    """Return the space and the architecture of a name.

    Raises:
        NasError: It is not two texts joined by ``/``.
    """
    for ending in _YAML:  # a path may hold slashes of its own
        path, found, text = name.partition(ending)
        if found:
            return path + ending.removesuffix("/"), text
    where, slash, text = name.partition("/")
    if not slash or not where or not text:
        raise NasError(
            f"model: expected SPACE/ARCHITECTURE, such as 'nats_sss/64:64:64:64:64', got {name!r}"
        )
    return where, text


def check_sizes(**sizes: int) -> None:
    """Refuse sizes that no network has.

    Raises:
        NasError: One is not an integer, or too small; only of classes there may be none.
    """
    for name, value in sizes.items():
        least = 0 if name == "num_classes" else 1
        if isinstance(value, bool) or not isinstance(value, int):
            raise NasError(f"{name}: expected int, got {value!r}")
        if value < least:
            raise NasError(f"{name}: expected at least {least}, got {value}")


def load_model(folder: str | os.PathLike[str]) -> nn.Module:
    """Return the network in a folder of ``nas export --format safetensors``, in evaluation mode.

    Raises:
        NasError: There is none, or its parts do not fit together.
    """
    path = Path(folder)
    config = read_config(path)
    where = config["space"]
    space = find_space(str(path / where) if where.endswith((".yaml", ".yml")) else where)
    network = space.build(
        space.from_str(config["arch"]),
        num_classes=config["num_classes"],
        in_chans=config["in_chans"],
    )
    weights = path / WEIGHTS
    load_weights(network, read_weights(weights), str(weights), config["in_chans"])
    return network.eval()


_FIELDS = {"space": str, "arch": str, "num_classes": int, "in_chans": int}


def read_config(folder: Path) -> dict[str, Any]:
    """Return what ``config.json`` of an export says.

    Raises:
        NasError: There is none, or it says something else.
    """
    path = folder / CONFIG
    try:
        config = read_json(path)
    except FileNotFoundError:
        raise NasError(
            f"{folder}: not an export, for there is no {CONFIG} in it; "
            "make one by: nas export RUN --format safetensors"
        ) from None
    except (OSError, ValueError) as error:
        raise NasError(f"{path}: cannot be read: {error}") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise NasError(f"{path}: not a configuration of this version (format {FORMAT})")
    for name, kind in _FIELDS.items():
        if type(config.get(name)) is not kind:
            raise NasError(f"{path}: {name}: expected {kind.__name__}, got {config.get(name)!r}")
    check_sizes(num_classes=config["num_classes"], in_chans=config["in_chans"])
    return config


def _weights_at(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = [path / name for name in (WEIGHTS, BEST) if (path / name).is_file()]
    if not found:
        raise NasError(f"{path}: there is no {WEIGHTS} (of an export) nor {BEST} (of a training)")
    return found[0]


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors in a file.

    Raises:
        NasError: It is not there, or no safetensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except FileNotFoundError:
        raise NasError(f"{path}: no such file") from None
    except (OSError, SafetensorError) as error:
        raise NasError(f"{path}: not readable as safetensors: {error}") from None


def load_weights(
    network: nn.Module, state: Mapping[str, Tensor], source: str, in_chans: int
) -> None:
    """Load weights into a network; where they lack its dead operations, these are taken out.

    Args:
        network: Changed in place.
        state: Tensors by name.
        source: Where they come from, for the message.
        in_chans: Channels of its images.

    Raises:
        NasError: They are those of another network.
    """
    own = network.state_dict()
    missing = [key for key in own if key not in state]
    if missing and not any(key not in own for key in state):
        dead = tuple(f"{name}." for name in dead_modules(network, in_chans))
        missing = [key for key in missing if not key.startswith(dead)]
        if not missing:
            without_dead(network, in_chans)
            own = network.state_dict()
    faults = [f"{key} is missing" for key in missing]
    faults += [f"{key} is not the network's" for key in state if key not in own]
    faults += [
        f"{key} is {_shape(state[key])}, expected {_shape(own[key])}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    if faults:
        more = f", and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise NasError(
            f"{source}: weights of another network, or of another number of classes or channels: "
            f"{'; '.join(faults[:_SHOWN])}{more}"
        )
    network.load_state_dict(dict(state))


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"


def probe(network: nn.Module, in_chans: int) -> Tensor:
    """Return the smallest image that a network in evaluation mode can run on, ``(1, C, H, W)``.

    Raises:
        NasError: It runs on none.
    """
    reason = ""
    for size in _PROBED:
        image = torch.zeros((1, in_chans, size, size))
        try:
            with torch.no_grad():
                network(image)
        except (RuntimeError, ValueError) as error:
            reason = reason or str(error).splitlines()[0]
        else:
            return image
    raise NasError(f"the network cannot run on images of {_PROBED[0]} pixels: {reason}")


def dead_modules(network: nn.Module, in_chans: int) -> list[str]:
    """Return the modules with weights whose results the logits do not depend on.

    Stem, body and head of a network are never among them, nor what changes the shape of maps: in
    the place of a dead module stands a copy, and the network has to run with it.
    """
    shadow = copy.deepcopy(network).eval()
    results: dict[str, Tensor] = {}
    for name, module in shadow.named_modules():
        if "." in name and any(True for _ in module.parameters()):
            module.register_forward_hook(_noting(results, name))
    with torch.enable_grad():
        total = shadow(probe(shadow, in_chans)).sum()
    grown = {name: result for name, result in results.items() if result.requires_grad}
    if not grown:
        return []
    if not total.requires_grad:
        return list(grown)
    gradients = torch.autograd.grad(total, list(grown.values()), allow_unused=True)
    dead = [name for name, gradient in zip(grown, gradients, strict=True) if gradient is None]
    return [name for name in dead if not any(name.startswith(f"{other}.") for other in dead)]


def _noting(results: dict[str, Tensor], name: str) -> Any:  # noqa: ANN401 - torch's type of a hook
    def note(module: nn.Module, args: object, result: object) -> None:
        given = args[0] if isinstance(args, tuple) and args else None
        if isinstance(given, Tensor) and isinstance(result, Tensor) and given.shape == result.shape:
            results[name] = result

    return note


def without_dead(network: nn.Module, in_chans: int) -> list[str]:
    """Take out what the logits do not depend on, in place, and return the names of it."""
    dead = dead_modules(network, in_chans)
    take_out(network, dead)
    return dead


def take_out(network: nn.Module, names: list[str]) -> None:
    """Put a copy in the place of some modules."""
    for name in names:
        network.set_submodule(name, nn.Identity())
