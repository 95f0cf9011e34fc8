"""A network as a Python module that needs torch and nothing else."""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass

from torch import nn

from nas.export.blocks import Blocks, class_lines
from nas.export.models import dead_modules, probe, take_out
from nas.seeds import seeded_torch
from spaces import Space

_TEXT = 96  # columns of the docstring's paragraphs


@dataclass(frozen=True)
class About:
    """What the module says of itself.

    Attributes:
        space: Name of the space.
        arch: Official string.
        origin: Where the architecture comes from, a sentence.
        costs: Parameters and multiply-accumulates, in words.
        left_out: What of the space's network is not there, a sentence or nothing.
        version: Of this package.
    """

    space: str
    arch: str
    origin: str
    costs: str
    left_out: str
    version: str


def module_source(space: Space, arch: str, about: About, *, num_classes: int, in_chans: int) -> str:
    """Return the text of the module.

    Args:
        space: Where the architecture lives.
        arch: Official string.
        about: What stands in its docstring.
        num_classes: Default of its argument.
        in_chans: Default of its argument.

    Raises:
        NasError: A module of the user's own cannot be written as code.
    """
    # Two settings that differ in both: what differs between the networks follows from them.
    classes, channels = (11, 29), (in_chans, in_chans + 2)
    networks: list[nn.Module] = []
    with seeded_torch(0, "export", "source"):  # any weights; the global generator is left alone
        for number, chans in zip(classes, channels, strict=True):
            network = space.build(space.from_str(arch), num_classes=number, in_chans=chans)
            networks.append(network.eval())
    dead = dead_modules(networks[0], channels[0])
    for network in networks:
        take_out(network, dead)
    images = [probe(net, chans) for net, chans in zip(networks, channels, strict=True)]
    blocks = Blocks(networks, images, {"num_classes": classes, "in_chans": channels})
    code: list[str] = []
    for block in blocks.all:
        signature = (f"num_classes: int = {num_classes}", f"in_chans: int = {in_chans}")
        code += ["", "", *class_lines(block, signature if block.name == "Network" else ())]
    body = "\n".join(code)
    head = [f'"""{_docstring(about)}"""', ""]
    if "OrderedDict(" in body:
        head += ["from collections import OrderedDict", ""]
    if "torch." in body:
        head.append("import torch")
    head += ["from torch import Tensor, nn", "", f"ARCH = {_quoted(about.arch)}"]
    return "\n".join(head) + "\n" + body + "\n"


_USE = """\
    network = Network()  # initialised by PyTorch's defaults
    network.load_state_dict(safetensors.torch.load_file("model.safetensors"))"""


def _docstring(about: About) -> str:
    told = [
        about.origin,
        about.left_out,
        "Needs torch only; the names of weights are those of the exported safetensors file:",
    ]
    paragraphs = [
        f"A network of {about.space}: {about.costs}.",
        *(textwrap.fill(text, _TEXT, break_on_hyphens=False) for text in told if text),
        _USE,
        f"Written by nas-search {about.version}; yours to edit.",
    ]
    text = "\n\n".join(paragraphs) + "\n"
    # a name out of somebody's run folder must not end the docstring
    return text.replace("\\", "\\\\").replace('"""', "'''")


def _quoted(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)  # which is how Python writes it, too
    return quoted + ("  # noqa: E501" if len(quoted) > 80 else "")
