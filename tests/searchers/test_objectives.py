"""Several objectives: who takes them, who refuses, and what is told."""

import numpy as np
import pytest

from searchers import STRATEGIES, InvalidAnswer, InvalidOption, make_strategy
from searchers.nsga2 import crowding, fronts_of
from spaces import Arch, NasError

from .toy import Toy

BIG = Toy((5,) * 7)
SEVERAL = [name for name, info in STRATEGIES.items() if not info.one_score]


def both(arch: Arch) -> tuple[float, float]:
    """Two wishes that cannot both be had: choices of 0 to 2, by place, and all choices 4."""
    first = sum(value * abs(value - place % 3) for place, value in enumerate(arch))
    return -float(first), -float(sum((4 - value) ** 2 for value in arch))


def found(name: str, seed: int, budget: int = 150) -> list[Arch]:
    strategy = make_strategy(name, BIG, seed)
    strategy.pursue(2)
    archs: list[Arch] = []
    while len(archs) < budget:
        block = strategy.ask(10)
        archs += [candidate.arch for candidate in block]
        strategy.tell([(candidate.id, both(candidate.arch)) for candidate in block])
    return archs


def test_who_takes_several() -> None:
    assert set(SEVERAL) == {"random", "exhaustive", "tpe", "nsga2"}


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - set(SEVERAL)))
def test_the_others_refuse_with_a_reason(name: str) -> None:
    strategy = make_strategy(name, BIG, 0)
    with pytest.raises(InvalidOption, match=r"takes one objective, got 2: .*(tournament|climb)"):
        strategy.pursue(2)
    strategy.pursue(1)
    assert len(strategy.ask(3)) == 3


@pytest.mark.parametrize("name", SEVERAL)
def test_as_many_scores_as_objectives(name: str) -> None:
    strategy = make_strategy(name, BIG, 0)
    strategy.pursue(2)
    strategy.ask(3)
    wrong: list[float | tuple[float, ...]] = [1.0, (1.0,), (1.0, 2.0, 3.0)]
    for scores in wrong:
        with pytest.raises(InvalidAnswer, match=r"candidate 1: expected 2 scores, got \d"):
            strategy.tell([(1, scores)])
    with pytest.raises(InvalidAnswer, match=r"candidate 1 must be a finite number.*got nan"):
        strategy.tell([(1, (1.0, float("nan")))])
    strategy.tell([(0, (1.0, 2.0)), (1, None), (2, (0.0, 0.0))])
    with pytest.raises(NasError, match="before the first candidate"):
        strategy.pursue(2)


@pytest.mark.parametrize("name", SEVERAL)
def test_the_same_seed_asks_the_same(name: str) -> None:
    first = found(name, 3, 60)
    assert first == found(name, 3, 60)
    assert len(set(first)) == 60


@pytest.mark.parametrize("name", ["tpe", "nsga2"])
def test_a_better_front_than_random_in_most_seeds(name: str) -> None:
    def area(archs: list[Arch]) -> float:
        """Area that the points dominate above -80, -120, counted on a grid."""
        first, second = np.arange(-80.0, 1.0)[:, None], np.arange(-120.0, 1.0)[None]
        points = [both(arch) for arch in archs]
        reached = np.logical_or.reduce([(first <= a) & (second <= b) for a, b in points])
        return float(reached.sum())

    pairs = [(area(found(name, seed)), area(found("random", seed))) for seed in range(4)]
    assert all(mine > other for mine, other in pairs)


def test_fronts_and_crowding_by_hand() -> None:
    # b dominates c, both dominate e; a and d are ends of the first front.
    a, b, c, d, e = (0.0, 9.0), (4.0, 5.0), (3.0, 4.0), (10.0, 1.0), (2.0, 4.0)
    assert fronts_of(np.asarray([a, b, c, d, e])).tolist() == [0, 0, 1, 0, 2]
    room = crowding(np.asarray([a, b, (5.0, 2.0), d]))
    # b: (5 - 0) / 10 + (9 - 2) / 8; the third: (10 - 4) / 10 + (5 - 1) / 8.
    assert room.tolist() == [np.inf, 0.5 + 7 / 8, 0.6 + 0.5, np.inf]
    assert crowding(np.asarray([(1.0, 1.0)])).tolist() == [np.inf]
