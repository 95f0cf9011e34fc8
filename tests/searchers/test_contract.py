"""What every strategy must do; a new entry of the table is tested by being there."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from searchers import STRATEGIES, Candidate, InvalidAnswer, InvalidOption, Strategy, make_strategy
from spaces import SPACES, Arch, NasError, Space

from .toy import Fenced, Toy, Unordered, hill

Score = Callable[[Arch], float | None]
CHECKOUT = Path(__file__).resolve().parents[2]
BIG = Toy((5, 5, 5, 5, 5))  # 2,625 functions: no strategy of these tests comes to the end of it


@pytest.fixture(params=list(STRATEGIES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def run(
    strategy: Strategy, score: Score, *, budget: int = 60, batch: int = 7, backwards: bool = False
) -> list[Candidate]:
    """Ask and tell until the budget is used up or nothing is left; return what was asked."""
    asked: list[Candidate] = []
    while len(asked) < budget:
        block = strategy.ask(min(batch, budget - len(asked)))
        if not block:
            break
        asked += block
        answers = [(candidate.id, score(candidate.arch)) for candidate in block]
        strategy.tell(reversed(answers) if backwards else answers)
    return asked


def tie(arch: Arch) -> float:
    return 1.0


def some_fail(arch: Arch) -> float | None:
    return None if sum(arch) % 3 == 0 else hill(arch)


def all_fail(arch: Arch) -> None:
    return None


@pytest.mark.parametrize("score", [hill, tie, some_fail, all_fail])
@pytest.mark.parametrize("batch", [1, 7, 60])
def test_the_same_seed_asks_the_same(name: str, score: Score, batch: int) -> None:
    first, second = (run(make_strategy(name, BIG, 3), score, batch=batch) for _ in range(2))
    assert first == second
    assert len(first) == 60


def test_another_seed_asks_something_else(name: str) -> None:
    first, second = (run(make_strategy(name, BIG, seed), hill) for seed in (0, 1))
    assert (first != second) == STRATEGIES[name].uses_seed


@pytest.mark.parametrize("score", [hill, tie, some_fail])
def test_the_order_of_the_answers_changes_nothing(name: str, score: Score) -> None:
    forwards = run(make_strategy(name, BIG, 3), score)
    assert run(make_strategy(name, BIG, 3), score, backwards=True) == forwards


def test_a_replay_is_a_resume(name: str) -> None:
    whole = run(make_strategy(name, BIG, 3), hill, budget=63)
    assert run(make_strategy(name, BIG, 3), hill, budget=35) == whole[:35]


@pytest.mark.parametrize("score", [hill, tie, some_fail, all_fail])
def test_asked_are_canonical_and_distinct_and_numbered(name: str, score: Score) -> None:
    asked = run(make_strategy(name, BIG, 0), score, budget=150, batch=20)
    archs = [candidate.arch for candidate in asked]
    assert len(set(archs)) == len(archs) == 150
    assert all(BIG.canonical(arch) == arch for arch in archs)
    assert all(type(value) is int for arch in archs for value in arch)
    assert [candidate.id for candidate in asked] == list(range(150))


@pytest.mark.parametrize("score", [hill, tie, some_fail, all_fail])
@pytest.mark.parametrize("batch", [1, 5, 200])
def test_a_small_space_is_asked_to_the_end(name: str, score: Score, batch: int) -> None:
    space = Toy()
    strategy = make_strategy(name, space, 0)
    archs = [c.arch for c in run(strategy, score, budget=1000, batch=batch)]
    assert len(archs) == space.n_functions == 60
    assert set(archs) == {space.canonical(space.at(i)) for i in range(len(space))}
    assert strategy.ask(4) == []
    assert strategy.ask(1) == []


def test_forbidden_combinations_are_never_asked(name: str) -> None:
    space = Fenced()
    archs = [c.arch for c in run(make_strategy(name, space, 0), hill, budget=1000, batch=6)]
    assert set(archs) == {space.canonical(space.at(i)) for i in range(len(space))}
    assert all(space.validate(arch) == arch for arch in archs)


def test_a_space_without_an_official_order(name: str) -> None:
    space = Unordered()
    if name == "exhaustive":
        with pytest.raises(NasError, match="no official order"):
            make_strategy(name, space, 0)
        return
    first, second = (run(make_strategy(name, space, 0), hill, budget=1000) for _ in range(2))
    assert first == second
    assert len({candidate.arch for candidate in first}) == space.n_functions


def test_a_space_with_one_member(name: str) -> None:
    space = Toy((1, 1))
    assert [c.arch for c in run(make_strategy(name, space, 0), hill)] == [(0, 0)]


def test_many_asks_may_be_open(name: str) -> None:
    strategy = make_strategy(name, BIG, 0)
    blocks = [strategy.ask(9) for _ in range(8)]
    candidates = [candidate for block in blocks for candidate in block]
    assert len({candidate.arch for candidate in candidates}) == 72
    for block in reversed(blocks):
        strategy.tell((candidate.id, hill(candidate.arch)) for candidate in block[::2])
    strategy.ask(9)
    for block in blocks:
        strategy.tell((candidate.id, None) for candidate in block[1::2])
    assert len(strategy.ask(9)) == 9


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -float("inf"), np.float64("nan")])
def test_what_is_no_score_is_refused(name: str, score: float) -> None:
    strategy = make_strategy(name, BIG, 0)
    strategy.ask(2)
    with pytest.raises(InvalidAnswer, match=f"candidate 1 must be a finite number.*got {score}"):
        strategy.tell([(0, 1.0), (1, score)])
    strategy.tell([(0, 1.0), (1, 2.0)])  # nothing of the refused answers was taken


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([(1, 1.0), (7, 1.0)], r"candidate 7 is not open, it was never asked; open: \[1, 2, 3\]"),
        ([(1, 1.0), (0, 1.0)], r"candidate 0 is not open, it was told before; open: \[1, 2, 3\]"),
        ([(1, 1.0), (2, None), (1, 1.0)], "candidate 1 is answered twice"),
        ([(-1, 1.0)], "candidate -1 is not open, it was never asked"),
    ],
)
def test_strangers_and_repeats_are_refused(
    name: str, answers: list[tuple[int, float | None]], message: str
) -> None:
    strategy, twin = (make_strategy(name, BIG, 0) for _ in range(2))
    for each in (strategy, twin):
        each.ask(4)
        each.tell([(0, 0.5)])
    with pytest.raises(InvalidAnswer, match=message):
        strategy.tell(answers)
    for each in (strategy, twin):
        each.tell([(1, 1.0), (2, None), (3, 0.0)])
    assert strategy.ask(5) == twin.ask(5)


def test_a_long_list_of_open_candidates_is_cut(name: str) -> None:
    strategy = make_strategy(name, BIG, 0)
    strategy.ask(25)
    with pytest.raises(InvalidAnswer, match=r"open: \[0, .*, 9\] and 15 more"):
        strategy.tell([(99, 1.0)])


@pytest.mark.parametrize("n", [0, -3])
def test_asking_for_nothing_is_refused(name: str, n: int) -> None:
    with pytest.raises(InvalidOption, match=f"n must be at least 1, got {n}"):
        make_strategy(name, BIG, 0).ask(n)


def test_what_the_caller_holds_is_left_alone(name: str) -> None:
    strategy = make_strategy(name, BIG, 0)
    for _ in range(6):
        asked = strategy.ask(10)
        answers = [(c.id, some_fail(c.arch)) for c in reversed(asked)]
        kept_asked, kept_answers = list(asked), list(answers)
        strategy.tell(answers)
        strategy.ask(1)
        assert (asked, answers) == (kept_asked, kept_answers)


def test_numpy_scores_and_whole_numbers_are_scores(name: str) -> None:
    def asked_with(kind: Callable[[int], float]) -> list[Candidate]:
        return run(make_strategy(name, BIG, 0), lambda arch: kind(sum(arch)))

    kinds: list[Any] = [np.float32, np.float64, np.int64, int]
    assert all(asked_with(kind) == asked_with(float) for kind in kinds)


def test_the_global_generators_are_left_alone(name: str) -> None:
    before = np.random.get_state()  # noqa: NPY002
    run(make_strategy(name, BIG, 0), hill)
    after = np.random.get_state()  # noqa: NPY002
    assert str(before) == str(after)


@pytest.mark.parametrize("name", ["evolution", "local_search", "tpe"])
def test_better_than_random_in_most_seeds(name: str) -> None:
    def best(strategy: str, seed: int) -> float:
        asked = run(make_strategy(strategy, BIG, seed), hill, budget=70, batch=10)
        return max(hill(candidate.arch) for candidate in asked)

    pairs = [(best(name, seed), best("random", seed)) for seed in range(20)]
    won = sum(mine > other for mine, other in pairs)
    lost = sum(mine < other for mine, other in pairs)
    assert won > lost + 5


FRESH = """
import json
from searchers import STRATEGIES, make_strategy
from spaces import SPACES

asked = {}
for name in STRATEGIES:
    strategy = make_strategy(name, SPACES["nats_tss"], 5)
    asked[name] = []
    for _ in range(6):
        block = strategy.ask(12)
        asked[name] += [candidate.arch for candidate in block]
        # Rounding makes many ties.
        strategy.tell([(c.id, None if c.arch[0] == 4 else sum(c.arch) // 4) for c in block])
print(json.dumps(asked))
"""


def test_fresh_processes_with_other_hash_seeds_ask_the_same() -> None:
    answers = [
        subprocess.run(
            [sys.executable, "-W", "error", "-c", FRESH],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(CHECKOUT)},
            capture_output=True,
            text=True,
            check=True,
        )
        for seed in ("1", "2")
    ]
    first, second = (json.loads(answer.stdout) for answer in answers)
    assert first == second
    assert all(len(asked) == 72 for asked in first.values())
    assert [answer.stderr for answer in answers] == ["", ""]  # no log line, no warning


@pytest.mark.parametrize("space", list(SPACES.values()), ids=lambda space: space.name)
def test_every_real_space_can_be_searched(name: str, space: Space) -> None:
    def score(arch: Arch) -> float:
        return float(sum(arch) % 7)

    if name == "exhaustive" and space.name in ("nasbench101", "darts"):
        pytest.skip("its cells have no official order")
    asked = run(make_strategy(name, space, 0), score, budget=60, batch=20)
    archs = [candidate.arch for candidate in asked]
    assert len(set(archs)) == 60
    assert all(space.canonical(space.validate(arch)) == arch for arch in archs)
