"""What an architecture is: search spaces, without data, benchmarks or (on import) torch."""

from spaces.base import Arch, Costs, Population, Space
from spaces.cell import CellSpace, Edge, Operation, complete_edges
from spaces.chain import ChainSpace, Stage
from spaces.darts import DARTS
from spaces.errors import InvalidArch, NasError, UnknownName, look_up
from spaces.nasbench101 import NASBENCH101
from spaces.nats_sss import NATS_SSS
from spaces.nats_tss import NATS_TSS
from spaces.own_cell import CellStage, cell_space
from spaces.transnas_macro import TRANSNAS_MACRO
from spaces.transnas_micro import TRANSNAS_MICRO

SPACES: dict[str, Space] = {
    space.name: space
    for space in (NATS_TSS, NATS_SSS, TRANSNAS_MICRO, TRANSNAS_MACRO, NASBENCH101, DARTS)
}

__all__ = [
    "DARTS",
    "NASBENCH101",
    "NATS_SSS",
    "NATS_TSS",
    "SPACES",
    "TRANSNAS_MACRO",
    "TRANSNAS_MICRO",
    "Arch",
    "CellSpace",
    "CellStage",
    "ChainSpace",
    "Costs",
    "Edge",
    "InvalidArch",
    "NasError",
    "Operation",
    "Population",
    "Space",
    "Stage",
    "UnknownName",
    "cell_space",
    "complete_edges",
    "look_up",
]
