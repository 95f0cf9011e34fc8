"""Exhaustive search: every distinct function of the space once, in the official index order."""

from collections.abc import Sequence

from searchers.base import NoOptions, Strategy, StrategyInfo
from spaces import Arch, Population, Space


class Exhaustive(Strategy):
    """Asks the canonical forms in the order in which the official enumeration first meets them.

    It proposes nothing of its own: the walk of the base class, which visits every member once,
    starts at index 0 and takes steps of one. A space without an official order is refused.
    """

    one_score = ""
    learns = False
    _gives_up = False  # it says of itself that it asks for all there is

    def __init__(self, space: Space, *, seed: int) -> None:
        super().__init__(space, seed=seed)
        space.all()  # raises what the space has to say where there is no such order

    def _propose(self, n: int) -> Sequence[Arch] | Population:
        return ()

    def _course(self) -> tuple[int, int]:
        return 0, 1


EXHAUSTIVE = StrategyInfo(
    name="exhaustive",
    summary="every distinct architecture once, in the official order",
    paper="",
    strategy=Exhaustive,
    options=NoOptions,
    uses_seed=False,
)
