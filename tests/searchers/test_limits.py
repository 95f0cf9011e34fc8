"""Limits: nothing outside is asked, what is rare is found, what cannot be is said at once."""

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from searchers import STRATEGIES, Strategy, Unsatisfiable, make_strategy
from spaces import SPACES, Arch, NasError, Population, Space

from .toy import Fenced, Toy, Unordered, hill


class DigitSum:
    """Only architectures whose choices add up to a number from ``low`` to ``high``."""

    effort = 4096

    def __init__(self, low: int = 0, high: int = 10**6) -> None:
        self.low, self.high = low, high
        self.looks = 0

    def excess(self, population: Population) -> NDArray[np.float64]:
        self.looks += len(population)
        total = population.sum(axis=1).astype(np.float64)
        beyond: NDArray[np.float64] = np.maximum(self.low - total, total - self.high)
        return beyond.clip(min=0.0)

    def guess(self, population: Population) -> NDArray[np.float64]:
        guessed: NDArray[np.float64] = np.abs(population.sum(axis=1) - float(self.low))
        return guessed

    def describe(self, arch: Arch) -> str:
        return f"digits add up to {sum(arch)}"


class Params:
    """At most, or at least, so many parameters."""

    effort = 4096

    def __init__(self, space: Space, bound: float, sign: int) -> None:
        self.space, self.bound, self.sign = space, bound, sign

    def excess(self, population: Population) -> NDArray[np.float64]:
        over = (self.space.costs(population).params - self.bound) / self.bound
        return np.asarray(np.maximum(self.sign * over, 0.0), dtype=np.float64)

    def guess(self, population: Population) -> NDArray[np.float64]:
        return self.excess(population)

    def describe(self, arch: Arch) -> str:
        return "params"


@pytest.fixture(params=list(STRATEGIES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def asked_of(strategy: Strategy, budget: int, batch: int = 7) -> list[Arch]:
    archs: list[Arch] = []
    while len(archs) < budget:
        block = strategy.ask(min(batch, budget - len(archs)))
        if not block:
            break
        archs += [candidate.arch for candidate in block]
        strategy.tell([(candidate.id, hill(candidate.arch)) for candidate in block])
    return archs


@pytest.mark.parametrize("space", [Toy(), Fenced(), Unordered()], ids=lambda space: space.name)
def test_all_that_is_inside_is_asked_and_nothing_else(name: str, space: Toy) -> None:
    if name == "exhaustive" and isinstance(space, Unordered):
        pytest.skip("there is no order to go by")
    limits = DigitSum(3, 4)
    members = Toy(space.dimensions).all() if isinstance(space, Unordered) else space.all()
    forms = {tuple(row) for row in space.canonicalise(members).tolist()}
    inside = {arch for arch in forms if 3 <= sum(arch) <= 4}
    assert 5 < len(inside) < len(forms)
    strategy = make_strategy(name, space, 0)
    strategy.restrict(limits)
    archs = asked_of(strategy, 1000)
    assert set(archs) == inside
    assert len(archs) == len(inside)
    assert strategy.ask(1) == []


def test_the_same_seed_asks_the_same_within_limits(name: str) -> None:
    def run() -> list[Arch]:
        strategy = make_strategy(name, Toy((5, 5, 5, 5, 5)), 3)
        strategy.restrict(DigitSum(0, 5))
        return asked_of(strategy, 60)

    first = run()
    assert first == run()
    assert len(first) == 60
    assert all(sum(arch) <= 5 for arch in first)


def test_random_draws_are_uniform_within_limits() -> None:
    counts: dict[Arch, int] = {}
    for seed in range(300):
        strategy = make_strategy("random", Toy((3, 3, 3)), seed)
        strategy.restrict(DigitSum(2, 3))
        for arch in asked_of(strategy, 2):
            counts[arch] = counts.get(arch, 0) + 1
    inside = [arch for arch in counts if arch[0]]  # of the others, two compute one function
    assert len(inside) == 8
    expected = sum(counts[arch] for arch in inside) / len(inside)
    assert all(abs(counts[arch] - expected) < 5 * expected**0.5 for arch in inside)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("space", ["nats_sss", "nasbench101", "darts"])
def test_one_in_a_thousand_is_found_within_a_thousand_looks(space: str, sign: int) -> None:
    where = SPACES[space]
    drawn = where.canonicalise(where.sample_many(4000, np.random.default_rng(0)))
    bound = float(np.quantile(sign * where.costs(drawn).params, 0.001)) * sign
    limits = Params(where, bound, sign)
    assert float((limits.excess(drawn) == 0).mean()) < 0.003
    for seed in range(3):
        strategy = make_strategy("evolution", where, seed)
        strategy.restrict(limits)
        (candidate,) = strategy.ask(1)
        assert limits.excess(np.asarray([candidate.arch]))[0] == 0
        assert strategy.n_looked_at <= 1000


@pytest.mark.parametrize("space", list(SPACES.values()), ids=lambda space: space.name)
def test_what_cannot_be_is_said_at_once(space: Space) -> None:
    strategy = make_strategy("evolution", space, 0)
    began = time.perf_counter()
    with pytest.raises(Unsatisfiable, match=rf"nothing within the limits .*{space.name}.*: params"):
        strategy.restrict(Params(space, 10, 1))
    assert time.perf_counter() - began < 10


class Slow(Params):
    """A limit that takes long to look at, and a guess that is right only roughly."""

    effort = 64

    def guess(self, population: Population) -> NDArray[np.float64]:
        costs = self.space.costs(population)
        grows: NDArray[np.float64] = np.log(costs.params) + 0.02 * np.log(costs.flops)
        return self.sign * grows


@pytest.mark.parametrize("space", list(SPACES.values()), ids=lambda space: space.name)
@pytest.mark.parametrize("sign", [1, -1])
def test_where_looks_are_dear_few_are_enough(space: Space, sign: int) -> None:
    drawn = space.canonicalise(space.sample_many(4000, np.random.default_rng(0)))
    bound = float(np.quantile(sign * space.costs(drawn).params, 0.001)) * sign
    limits = Slow(space, bound, sign)
    strategy = make_strategy("evolution", space, 0)
    strategy.restrict(limits)
    (candidate,) = strategy.ask(1)
    assert limits.excess(np.asarray([candidate.arch]))[0] == 0
    assert strategy.n_looked_at <= 64
    refused = make_strategy("evolution", space, 0)
    with pytest.raises(Unsatisfiable, match=rf"among the \d+ architectures of {space.name} looked"):
        refused.restrict(Slow(space, bound * 10.0 ** (-6 * sign), sign))
    assert refused.n_looked_at <= 64  # though there are thousands in the list


def test_a_walk_of_dear_looks_ends_but_not_that_of_exhaustive() -> None:
    space = Toy((6,) * 4)
    found = {}
    for name in ("random", "exhaustive"):
        limits = DigitSum(19, 20)
        limits.effort = 16
        strategy = make_strategy(name, space, 0)
        strategy.restrict(limits)
        found[name] = asked_of(strategy, 10), limits.looks
    inside = {tuple(row) for row in space.canonicalise(space.all()).tolist() if sum(row) >= 19}
    assert set(found["exhaustive"][0]) == inside
    assert set(found["random"][0]) <= inside
    assert found["random"][1] < found["exhaustive"][1]


def test_of_a_space_that_can_be_listed_it_is_certain() -> None:
    strategy = make_strategy("random", Toy(), 0)
    with pytest.raises(
        Unsatisfiable,
        match="in toy, of all 72 architectures; nearest is 2-3-2-1: digits add up to 8",
    ):
        strategy.restrict(DigitSum(9))
    # A needle that no repair leads to is found by looking through the list.
    needle = make_strategy("evolution", Toy(), 0)
    needle.restrict(Needle())
    assert [candidate.arch for candidate in needle.ask(5)] == [(1, 3, 0, 1)]


class Needle(DigitSum):
    """One architecture only, and nothing says in which direction it lies."""

    def excess(self, population: Population) -> NDArray[np.float64]:
        return np.asarray((population != [1, 3, 0, 1]).any(axis=1), dtype=np.float64)


def test_dear_looks_are_few() -> None:
    limits = DigitSum(17, 20)
    limits.effort = 64
    strategy = make_strategy("evolution", Toy((5, 5, 5, 5, 5)), 0)
    strategy.restrict(limits)
    assert len(strategy.ask(1)) == 1
    assert limits.looks == strategy.n_looked_at <= 200


def test_limits_come_before_the_first_candidate(name: str) -> None:
    strategy = make_strategy(name, Toy(), 0)
    strategy.ask(1)
    with pytest.raises(NasError, match="before the first candidate"):
        strategy.restrict(DigitSum())
