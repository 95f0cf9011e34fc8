"""Spaces of one's own that the contract runs on beside those that come with the package."""

from nas.space_file import parse_space
from spaces import CellStage, ChainSpace, Space, Stage, cell_space, complete_edges
from spaces.cell import Edge, Operation
from spaces.own_cell import OPERATIONS
from tests.docs.blocks import CHECKOUT, blocks_of

SPACES_PAGE = CHECKOUT / "docs" / "pages" / "guide" / "spaces.md"

CHAIN = ChainSpace(
    "own_chain",
    stem=(8, 2),
    stages=[
        Stage(width=(8, 12), depth=(1, 2), kernel=(3, 5), expansion=(1, 3)),
        Stage(width=(16, 24), depth=(1, 2, 3), stride=2, kernel=(3, 5, 7), expansion=(2, 4)),
    ],
    head=32,
)
_SOME = tuple(OPERATIONS[name] for name in ("none", "skip", "conv_1x1", "conv_3x3", "max_pool_3x3"))
FIXED_CELLS = cell_space(
    "own_cells", complete_edges(4, _SOME), [CellStage((8,), (2,)), CellStage((12,), (2,))]
)
SIZED_CELLS = cell_space(
    "own_sized_cells",
    [Edge(0, 1, _SOME), Edge(1, 2, _SOME[1:]), Edge(1, 3, _SOME), Edge(2, 3, _SOME[2:])],
    [CellStage((8, 12), (1, 2)), CellStage((16,), (1, 2, 3))],
)
LARGE_CELLS = cell_space(
    "own_large_cells", complete_edges(5, tuple(OPERATIONS.values())), [CellStage((8,), (1,))]
)
_MINE = Operation("mine", "own", 1, "spaces.cell_net:ConvBn")  # an import path, as a user gives one
OWN_MODULES = cell_space(
    "own_modules",
    complete_edges(3, (*_SOME, _MINE)),
    [CellStage((8,), (1,)), CellStage((12,), (1,))],
)


def _of_the_docs() -> Space:
    """The worked example: inverted residuals of chosen width, depth, kernel and expansion."""
    (printed,) = (block for block in blocks_of(SPACES_PAGE) if block.name == "edge.yaml")
    return parse_space(printed.text, printed.where)


OWN: dict[str, Space] = {
    space.name: space
    for space in (CHAIN, FIXED_CELLS, SIZED_CELLS, LARGE_CELLS, OWN_MODULES, _of_the_docs())
}
