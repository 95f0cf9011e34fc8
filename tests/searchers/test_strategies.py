"""What is particular to each strategy, worked out by hand or by a slower form of the algorithm."""

import math
import warnings
from collections import Counter

import optuna
import pytest

from searchers import (
    Evolution,
    LocalSearch,
    Strategy,
    Tpe,
    make_strategy,
)
from spaces import SPACES, Arch, Space

from .toy import Toy, hill

BIG = Toy((5, 5, 5, 5, 5))


def step(strategy: Strategy, score: float | None) -> Arch:
    """Ask for one candidate, give it the score, return its architecture."""
    (candidate,) = strategy.ask(1)
    strategy.tell([(candidate.id, score)])
    return candidate.arch


def around(space: Space, arch: Arch) -> set[Arch]:
    return {space.canonical(other) for other in space.neighbours(arch)} - {arch}


# random


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_random_does_not_depend_on_the_batch(batch: int) -> None:
    at_once = make_strategy("random", BIG, 4).ask(300)
    strategy = make_strategy("random", BIG, 4)
    pieces = [candidate for _ in range(0, 300, batch) for candidate in strategy.ask(batch)]
    assert pieces[:300] == at_once


def test_random_draws_members_uniformly() -> None:
    space = Toy((2, 2, 2))  # 8 members: (0, x, 0) stands for two, (1, x, y) for itself
    counts = Counter(make_strategy("random", space, seed).ask(1)[0].arch for seed in range(4000))
    expected = {space.canonical(space.at(i)): 0 for i in range(8)}
    for i in range(8):
        expected[space.canonical(space.at(i))] += 500
    chi_square = sum((counts[arch] - n) ** 2 / n for arch, n in expected.items())
    assert chi_square < 20.5  # 0.1 % of a chi-square with 5 degrees of freedom


# exhaustive


def test_exhaustive_follows_the_official_order() -> None:
    space = Toy()
    asked = [candidate.arch for candidate in make_strategy("exhaustive", space, 0).ask(1000)]
    assert asked == list(dict.fromkeys(space.canonical(space.at(i)) for i in range(len(space))))


def test_exhaustive_asks_each_function_of_the_real_space_once() -> None:
    space = SPACES["nats_tss"]
    asked = [candidate.arch for candidate in make_strategy("exhaustive", space, 0).ask(len(space))]
    forms = map(tuple, space.canonicalise(space.all()).tolist())
    assert asked == list(dict.fromkeys(forms))


# evolution


def test_evolution_mutates_the_best_of_a_large_tournament() -> None:
    strategy = Evolution(BIG, seed=0, population=5, tournament=200)
    archs = [step(strategy, float(i == 2)) for i in range(5)]
    assert step(strategy, 0.0) in around(BIG, archs[2])
    assert step(strategy, 0.0) in around(BIG, archs[2])


def test_evolution_lets_the_oldest_die_even_if_it_is_the_best() -> None:
    strategy = Evolution(BIG, seed=0, population=5, tournament=200)
    archs = [step(strategy, 9.0 - i) for i in range(5)]
    for dead in range(5):  # each child is the worst, so the oldest stays the best until it dies
        child = step(strategy, -1.0 - dead)
        assert child in around(BIG, archs[dead])


def test_evolution_prefers_the_younger_among_equals() -> None:
    strategy = Evolution(BIG, seed=0, population=5, tournament=200)
    archs = [step(strategy, 1.0) for _ in range(5)]
    assert step(strategy, 1.0) in around(BIG, archs[4]) - around(BIG, archs[3])


def test_in_evolution_a_failure_never_enters_the_population() -> None:
    strategy = Evolution(BIG, seed=1, population=3, tournament=200)
    archs = [step(strategy, None if i % 2 else float(-i)) for i in range(5)]
    for _ in range(20):  # failures do not age the population either
        assert step(strategy, None) in around(BIG, archs[0])


def test_a_tournament_of_one_draws_any_parent() -> None:
    strategy = Evolution(BIG, seed=0, population=10, tournament=1)
    archs = [step(strategy, float(i)) for i in range(10)]
    children = [candidate.arch for candidate in strategy.ask(60)]
    mothers = [arch for arch in archs if any(child in around(BIG, arch) for child in children)]
    assert len(mothers) >= 8


def test_the_population_of_a_small_space_is_small() -> None:
    strategy = Evolution(Toy((2, 3, 4)), seed=0, tournament=200)
    archs = [step(strategy, float(-i)) for i in range(6)]  # a quarter of 24
    near = around(strategy.space, archs[0])
    assert step(strategy, -9.0) in near or near <= set(archs)


# local search


def rugged(arch: Arch) -> float:
    """A score without ties and with several summits."""
    return hill(arch) + math.sin(3.0 * BIG.index(arch))


def climb(start: Arch) -> set[Arch]:
    """Climb as White et al. write it; return everything that was scored on the way."""
    seen = {start}
    while True:
        near = around(BIG, start)
        seen |= near
        best = max(near, key=rugged)
        if rugged(best) < rugged(start):
            return seen
        start = best


@pytest.mark.parametrize("seed", range(5))
def test_local_search_climbs_as_the_paper_does(seed: int) -> None:
    strategy = LocalSearch(BIG, seed=seed, starts=1)
    asked: list[Arch] = []
    while not asked or len(asked) < len(climb(asked[0])):
        (candidate,) = strategy.ask(1)
        strategy.tell([(candidate.id, rugged(candidate.arch))])
        asked.append(candidate.arch)
    assert set(asked) == climb(asked[0])


def test_local_search_begins_at_the_best_of_the_starts() -> None:
    strategy = LocalSearch(BIG, seed=0, starts=6)
    archs = [step(strategy, float(i == 3)) for i in range(6)]
    assert step(strategy, 0.0) in around(BIG, archs[3])


def test_local_search_starts_again_at_a_summit() -> None:
    strategy = LocalSearch(BIG, seed=0, starts=2)
    best, second = step(strategy, 5.0), step(strategy, 4.0)
    near = around(BIG, best) - {second}
    assert {step(strategy, 0.0) for _ in near} == near  # every neighbour once, none is better
    fresh = step(strategy, 3.0)  # one start is left, two are needed
    assert fresh not in near
    assert step(strategy, 0.0) in around(BIG, second)


def test_first_improvement_moves_at_once() -> None:
    strategy = LocalSearch(BIG, seed=0, starts=1, first_improvement=True)
    step(strategy, 0.0)
    better = step(strategy, 1.0)
    assert step(strategy, 0.0) in around(BIG, better)


def test_local_search_fills_a_batch_with_draws_and_waits_for_all_neighbours() -> None:
    strategy = LocalSearch(BIG, seed=0, starts=1)
    start = step(strategy, 0.0)
    near = around(BIG, start)
    block = strategy.ask(len(near) + 5)
    assert {candidate.arch for candidate in block[: len(near)]} == near
    assert not near & {candidate.arch for candidate in block[len(near) :]}
    *early, late = block[: len(near)]
    strategy.tell([(candidate.id, 1.0) for candidate in early])
    assert strategy.ask(1)[0].arch not in near  # one neighbour is open: no move yet
    strategy.tell([(late.id, 7.0)])
    assert strategy.ask(1)[0].arch in around(BIG, late.arch)


# tpe


def test_tpe_tells_a_duplicate_the_known_score() -> None:
    space = Toy((3, 3, 3))
    strategy = Tpe(space, seed=0, startup=5)
    for _ in range(18):
        (candidate,) = strategy.ask(1)
        strategy.tell([(candidate.id, hill(candidate.arch))])
    by_function: dict[Arch, list[float]] = {}
    for trial in strategy._study.trials:
        if trial.state == optuna.trial.TrialState.COMPLETE:
            assert trial.value is not None
            arch = space.canonical(tuple(trial.params[str(i)] for i in range(3)))
            by_function.setdefault(arch, []).append(trial.value)
    assert all(set(scores) == {hill(arch)} for arch, scores in by_function.items())
    assert max(map(len, by_function.values())) > 1  # there were duplicates
    assert len(by_function) == 18


def test_tpe_leaves_no_trial_running_but_the_open_ones() -> None:
    strategy = Tpe(Toy((3, 3, 3)), seed=0)
    asked = strategy.ask(12)  # of 21 functions, so some proposals meet open candidates
    running = [t for t in strategy._study.trials if t.state == optuna.trial.TrialState.RUNNING]
    assert len(running) <= 12
    strategy.tell([(candidate.id, None) for candidate in asked])
    states = Counter(trial.state for trial in strategy._study.trials)
    assert set(states) == {optuna.trial.TrialState.FAIL}


@pytest.mark.parametrize("verbosity", [optuna.logging.INFO, optuna.logging.ERROR])
def test_tpe_changes_no_global_setting_and_says_nothing(
    verbosity: int, capfd: pytest.CaptureFixture[str]
) -> None:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(verbosity)
    filters = list(warnings.filters)
    try:
        step(Tpe(BIG, seed=0), 1.0)
        assert optuna.logging.get_verbosity() == verbosity
        assert list(warnings.filters) == filters
    finally:
        optuna.logging.set_verbosity(before)
    assert capfd.readouterr() == ("", "")


def test_tpe_learns_which_choice_matters() -> None:
    strategy = Tpe(BIG, seed=0)
    for _ in range(60):
        (candidate,) = strategy.ask(1)
        strategy.tell([(candidate.id, float(candidate.arch[1] == 3))])
    threes = [candidate.arch[1] == 3 for candidate in strategy.ask(20)]
    assert sum(threes) > 8  # 4 by chance
