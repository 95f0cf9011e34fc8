"""NATS-Bench topology space (NAS-Bench-201): five operations on the six edges of a 4-node cell.

Dong & Yang 2020, https://arxiv.org/abs/2001.00326; Dong et al. 2021, https://arxiv.org/abs/2009.00437.
15,625 cells; the network is stem 16, five cells per stage at 16, 32 and 64 channels, residual
reductions, BN-ReLU, global average pooling and a linear head.
"""

import random
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from spaces.base import Arch
from spaces.cell import CellSpace, Edge, Operation, complete_edges
from spaces.errors import InvalidArch, did_you_mean

OPERATIONS = (
    Operation("none", "none"),
    Operation("skip_connect", "skip"),
    Operation("nor_conv_1x1", "conv", 1),
    Operation("nor_conv_3x3", "conv", 3),
    Operation("avg_pool_3x3", "avg_pool", 3),
)


_EDGES = complete_edges(4, OPERATIONS)


def _part(edge: Edge, operation: Operation) -> str:
    """Print one edge; the first that enters a node opens the node's group."""
    opens = "" if edge.source else "|" if edge.target == 1 else "+|"
    return f"{opens}{operation.name}~{edge.source}|"


_PARTS = tuple(tuple(_part(edge, op) for op in edge.operations) for edge in _EDGES)


class NatsTss(CellSpace):
    """An architecture is the operation on each of the edges 0-1, 0-2, 1-2, 0-3, 1-3, 2-3."""

    name = "nats_tss"
    summary = "NATS-Bench topology (NAS-Bench-201): 5 operations on 6 edges, 15,625 cells"
    edges = _EDGES

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        # The benchmark's authors shuffled the enumeration with Python's generator and this seed;
        # repeating it gives the official index without a table (a test compares all 15,625).
        places = list(range(len(self)))
        random.Random(88).shuffle(places)
        return np.asarray(places)

    def to_str(self, arch: Arch) -> str:
        valid = self.validate(arch)
        return "".join([parts[i] for parts, i in zip(_PARTS, valid, strict=True)])

    def from_str(self, text: str) -> Arch:
        names = [part.split("~")[0] for part in text.replace("+", "").split("|") if part]
        known = [op.name for op in OPERATIONS]
        for name in names:
            if name not in known:
                raise InvalidArch(
                    f"{self.name}: no operation named {name!r} in {text!r}."
                    f"{did_you_mean(name, known)} Known: {', '.join(known)}"
                )
        arch = tuple(known.index(name) for name in names)
        # Printing what was parsed and comparing catches every malformed text at once.
        if len(arch) != len(self.edges) or self.to_str(arch) != text:
            example = self.to_str((3,) * len(self.edges))
            raise InvalidArch(f"{self.name}: cannot read {text!r}; expected the form {example!r}")
        return arch


NATS_TSS = NatsTss()
