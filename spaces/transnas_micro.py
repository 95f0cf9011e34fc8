"""TransNAS-Bench-101 cell-level space: four operations on the six edges of a 4-node cell.

Duan et al. 2021, https://arxiv.org/abs/2105.11871. 4,096 cells, written ``64-41414-a_bc_def``: the
macro skeleton, then the operations that enter nodes 1, 2 and 3.

The networks built here put the cell into the NAS-Bench-201 skeleton. The benchmark trains it in
larger ones (256 x 256 images, a decoder per task), which are not reproduced; proxies rank cells.
"""

import re

from spaces.base import Arch
from spaces.cell import CellSpace, Operation, complete_edges
from spaces.errors import InvalidArch

OPERATIONS = (
    Operation("none", "none"),
    Operation("skip_connect", "skip"),
    Operation("nor_conv_1x1", "conv", 1),
    Operation("nor_conv_3x3", "conv", 3),
)
PREFIX = "64-41414-"


class TransnasMicro(CellSpace):
    """An architecture is the operation on each of the edges 0-1, 0-2, 1-2, 0-3, 1-3, 2-3."""

    name = "transnas_micro"
    summary = "TransNAS-Bench-101 micro: 4 operations on 6 edges, 4,096 cells"
    edges = complete_edges(4, OPERATIONS)

    def to_str(self, arch: Arch) -> str:
        a, b, c, d, e, f = self.validate(arch)
        return f"{PREFIX}{a}_{b}{c}_{d}{e}{f}"

    def from_str(self, text: str) -> Arch:
        match = re.fullmatch(re.escape(PREFIX) + r"([0-3])_([0-3]{2})_([0-3]{3})", text)
        if match is None:
            raise InvalidArch(
                f"{self.name}: cannot read {text!r}; expected the form '{PREFIX}3_33_333', "
                "digits 0 none, 1 skip, 2 conv 1x1, 3 conv 3x3"
            )
        return tuple(int(digit) for digit in "".join(match.groups()))


TRANSNAS_MICRO = TransnasMicro()
