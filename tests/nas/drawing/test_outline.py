"""What a space says of its whole networks is what the real networks do."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nas.drawing.outline import outline
from spaces import NATS_TSS, SPACES, Space

_EXAMPLES = Path(__file__).resolve().parents[2] / "spaces" / "examples.py"
_spec = importlib.util.spec_from_file_location("own_examples", _EXAMPLES)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
EVERY: dict[str, Space] = {**SPACES, **_module.OWN}
SIDE = 20  # odd after two halvings, so that a rounding the other way would show


def shapes(network: nn.Module) -> list[tuple[int, int]]:
    """Return channels and size of what leaves the stem, each part of the body, and the head."""
    parts = [network.get_submodule("stem")]
    for name, part in network.get_submodule("body").named_children():
        # a stage of cells is a container, of which each cell is a part
        parts += part.children() if re.fullmatch(r"stage\d+", name) else [part]
    head = dict(network.named_children()).get("head")
    if head is not None and not isinstance(head, nn.Identity):
        parts.append(head)
    found: list[tuple[int, int]] = []
    for part in parts:
        part.register_forward_hook(
            lambda _module, _inputs, out: found.append((out.shape[1], out.shape[-1]))
        )
    with torch.no_grad():
        network(torch.zeros(2, 3, SIDE, SIDE))
    return found


@pytest.mark.parametrize("name", EVERY)
def test_channels_and_sizes_are_those_of_the_network(name: str) -> None:
    space = EVERY[name]
    for seed in range(2):
        arch = space.sample(np.random.default_rng(seed))
        image, *parts, head = outline(space, arch, num_classes=7, resolution=SIDE)
        assert (image.channels, image.size) == (3, SIDE)
        assert (head.channels, head.size) == (7, 1)
        told = [(part.channels, part.size) for part in parts for _ in range(part.repeat)]
        assert told == shapes(space.build(arch, num_classes=7))


def test_the_nats_network_by_hand() -> None:
    parts = outline(NATS_TSS, (0,) * 6, num_classes=10, resolution=32)
    assert [(part.label, part.channels, part.size, part.repeat) for part in parts[2:5]] == [
        ("cell", 16, 32, 5),
        ("residual reduction", 32, 16, 1),
        ("cell", 32, 16, 5),
    ]


def test_a_space_that_says_nothing_has_no_outline() -> None:
    class Other:
        pass

    assert outline(Other(), (0,), num_classes=10, resolution=32) == []  # type: ignore[arg-type]
