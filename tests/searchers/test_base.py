"""The protocol that the base class owns, whatever a strategy proposes."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searchers import STRATEGIES, Candidate, InvalidOption, RandomSearch, Strategy, make_strategy
from spaces import Arch, Population, Space

from .toy import Toy, hill


class Scripted(Strategy):
    """Proposes what a function of n returns, and writes down what it is asked and told."""

    def __init__(self, space: Space, script: Callable[[int], Sequence[Arch] | Population]) -> None:
        super().__init__(space, seed=0)
        self.script = script
        self.calls: list[int] = []
        self.observed: list[tuple[int, float | None]] = []

    def _propose(self, n: int) -> Sequence[Arch] | Population:
        self.calls.append(n)
        return self.script(n)

    def _observe(self, candidate: Candidate, score: float | None) -> None:
        self.observed.append((candidate.id, score))


def test_a_strategy_that_repeats_itself_still_ends() -> None:
    space = Toy()
    strategy = Scripted(space, lambda n: [(1, 1, 1, 1)] * n)
    first = strategy.ask(1)
    assert first[0].arch == (1, 1, 1, 1)
    rest = strategy.ask(1000)
    assert len(rest) == space.n_functions - 1
    n_calls = len(strategy.calls)
    assert n_calls <= 3
    assert strategy.ask(1) == []
    assert len(strategy.calls) == n_calls  # at the end of the space nobody is asked any more


def test_a_strategy_with_nothing_to_say_walks_the_space() -> None:
    strategy = Scripted(Toy(), lambda n: [])
    assert len(strategy.ask(50)) == 50
    assert len(strategy.ask(50)) == 10
    assert strategy.ask(50) == []


def test_known_proposals_are_asked_for_again_and_only_the_missing_ones() -> None:
    queue: list[Arch] = [
        (1, 0, 0, 0),
        (1, 0, 0, 0),
        (0, 1, 0, 0),
        (0, 1, 0, 1),
        (2, 0, 0, 0),
        (2, 1, 0, 0),
    ]

    def script(n: int) -> list[Arch]:
        taken, queue[:n] = queue[:n], []
        return taken

    strategy = Scripted(Toy(), script)
    # The last choice has no effect where the first is 0, so (0, 1, 0, 1) is known as well.
    assert [c.arch for c in strategy.ask(4)] == [
        (1, 0, 0, 0),
        (0, 1, 0, 0),
        (2, 0, 0, 0),
        (2, 1, 0, 0),
    ]
    assert strategy.calls == [4, 2]


def test_more_proposals_than_asked_for_are_cut() -> None:
    space = Toy()
    strategy = Scripted(space, lambda n: space.all()[:20])
    assert len(strategy.ask(3)) == 3


def test_a_tell_is_observed_in_the_order_of_ids() -> None:
    strategy = Scripted(Toy(), lambda n: [])
    strategy.ask(4)
    strategy.tell([(3, 3.0), (0, None), (2, 2)])
    strategy.tell([(1, 1.0)])
    assert strategy.observed == [(0, None), (2, 2.0), (3, 3.0), (1, 1.0)]
    assert all(type(score) is float for _, score in strategy.observed if score is not None)


def test_the_walk_differs_between_seeds() -> None:
    class Idle(Strategy):
        def _propose(self, n: int) -> Sequence[Arch]:
            return ()

    walks = [[c.arch for c in Idle(Toy(), seed=seed).ask(60)] for seed in range(4)]
    assert len({tuple(walk) for walk in walks}) == 4
    assert len({frozenset(walk) for walk in walks}) == 1


@pytest.mark.parametrize(
    ("seed", "message"),
    [(-1, "seed must be at least 0, got -1"), ("x", "seed: expected int, got 'x'"), (1.0, "got 1")],
)
def test_seeds_that_are_none(seed: object, message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        RandomSearch(Toy(), seed=seed)  # type: ignore[arg-type]


Script = list[tuple[int, list[int], int]]  # per round: asks, places of answers, failures every k-th

SCRIPTS = st.lists(
    st.tuples(st.integers(1, 40), st.lists(st.integers(0, 10**6), max_size=30), st.integers(1, 4)),
    max_size=8,
)


def play(strategy: Strategy, script: Script) -> list[Candidate]:
    """Ask and tell as the script says, some candidates late, some never, in any order."""
    asked: list[Candidate] = []
    open_: list[Candidate] = []
    for n, places, every in script:
        block = strategy.ask(n)
        asked += block
        open_ += block
        answers: list[tuple[int, float | None]] = []
        for place in places[: len(open_)]:
            candidate = open_.pop(place % len(open_))
            failed = candidate.id % every == 1
            answers.append((candidate.id, None if failed else hill(candidate.arch)))
        strategy.tell(answers)
    return asked


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "tpe"])
@settings(max_examples=40)
@given(script=SCRIPTS, seed=st.integers(0, 2**64), first=st.integers(1, 4), last=st.integers(1, 4))
def test_any_order_of_asks_and_tells(
    name: str, script: Script, seed: int, first: int, last: int
) -> None:
    space = Toy((first, 3, 4, last))
    if min(space.dimensions) == 1 and name == "evolution":
        space = Toy((2, 3, 4, 2))  # Space.mutate needs something to change at every position
    asked = play(make_strategy(name, space, seed), script)
    archs = [candidate.arch for candidate in asked]
    wanted = sum(n for n, _, _ in script)
    assert len(asked) == min(wanted, space.n_functions)
    assert len(set(archs)) == len(archs)
    assert all(space.canonical(arch) == arch for arch in archs)
    assert [candidate.id for candidate in asked] == list(range(len(asked)))
    assert play(make_strategy(name, space, seed), script) == asked


@pytest.mark.slow
@settings(max_examples=25)
@given(script=SCRIPTS, seed=st.integers(0, 2**64))
def test_any_order_of_asks_and_tells_with_tpe(script: Script, seed: int) -> None:
    asked = play(make_strategy("tpe", Toy(), seed), script)
    assert len({candidate.arch for candidate in asked}) == len(asked)
    assert len(asked) == min(sum(n for n, _, _ in script), Toy().n_functions)
    assert play(make_strategy("tpe", Toy(), seed), script) == asked


@given(st.integers(0, 1000), st.integers(2, 60), st.integers(1, 30))
def test_the_walk_visits_every_member_once(seed: int, size: int, more: int) -> None:
    class Line(Toy):
        def canonicalise(self, population: Population) -> Population:
            return population.copy()

    strategy = RandomSearch(Line((size, more)), seed=seed)
    visited = list(strategy._visit())
    assert len(visited) == size * more
    assert len(set(visited)) == size * more


def test_blocks_are_canonicalised_at_once() -> None:
    class Counting(Toy):
        calls = 0

        def canonicalise(self, population: Population) -> Population:
            Counting.calls += 1
            return super().canonicalise(np.asarray(population))

    RandomSearch(Counting((5, 5, 5, 5, 5)), seed=0).ask(200)
    assert Counting.calls <= 6
