"""A designed proxy: whatever a formula says of the statistics of layers.

    score = the formula's value, higher is better

See :mod:`nas.design.expression` for what a formula may say and :mod:`nas.design.atoms` for what it
may read. ``file`` is a file that ``nas design`` or a person wrote, or the name of a formula that
comes with the package. Only the passes that the formula names atoms of are run; one that names none
of gradients runs forwards only, many networks at a time.

The idea, to let evolution write the proxy, is that of GreenMachine: Cortês, Lourenço, Machado,
"GreenMachine: Automatic Design of Zero-Cost Proxies for Energy-Efficient NAS", 2024,
https://arxiv.org/abs/2411.15290; a well documented relative is EZNAS (Akhauri et al. 2022,
https://arxiv.org/abs/2209.07413). The grammar and what was found by it are ours. Reads one image;
nothing at all where the formula looks at weights or at the pass of ones only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.proxies.base import Proxy

if TYPE_CHECKING:
    from torch import Tensor

    from nas.design.formula import Formula
    from nas.proxies.routes import Subject


@dataclass(frozen=True)
class FormulaOptions:
    """Settings of a designed proxy.

    Attributes:
        file: A file, or the name of a formula that comes with the package.
    """

    file: str = "tss_4"


def _read(options: FormulaOptions) -> Formula:
    from nas.design.formula import remembered  # late: it imports this package

    return remembered(options.file)


def _reads(options: FormulaOptions) -> frozenset[str]:
    passes = _read(options).passes
    seen = {"images"} if passes & {"image", "backward"} else set()
    return frozenset(seen | ({"gradients"} if "backward" in passes else set()))


def _formula(subject: Subject, options: FormulaOptions) -> Tensor:
    import torch

    from nas.design.expression import evaluate  # late, as above
    from nas.design.measure import measure
    from nas.proxies.routes import place

    node = _read(options).node
    image = place(subject.images.first(), subject.conditions)
    return torch.from_numpy(evaluate(node, measure(subject.networks, image, node.wanted)))


FORMULA = Proxy(
    name="formula",
    summary="A formula over statistics of layers that evolution found; `nas design` makes one",
    paper="https://arxiv.org/abs/2411.15290",
    reads_by=_reads,
    options=FormulaOptions,
    gauge=_formula,
    images_read=1,
    forwards=lambda options: "backward" not in _read(options).passes,
    undefined="nothing of the image reaches the logits, or the formula reads places that the "
    "network does not have, or overflows",
    content=lambda options: _read(options).checksum,
    shorthand="file",
)
