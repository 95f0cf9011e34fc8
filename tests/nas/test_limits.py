"""Limits: how they are read, what they say, and that nothing outside is ever scored."""

import re
from collections.abc import Sequence

import numpy as np
import pytest

from nas import Conditions, NasError, Searcher
from nas.limits import CostLimits, parse_bounds
from nas.quantities import Quantities
from searchers import STRATEGIES, Unsatisfiable
from spaces import NATS_TSS, Arch, Population, Space

ALL_3X3 = (3, 3, 3, 3, 3, 3)
NONE = (0, 0, 0, 0, 0, 0)


class Milliseconds:
    """Ten per 3x3 convolution; unknown where the first edge pools."""

    name = "by hand"
    effort = 4096

    def __call__(
        self, space: Space, population: Population, conditions: Conditions
    ) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        counted = 10.0 * (population == 3).sum(axis=1)
        return np.where(population[:, 0] == 4, np.nan, counted)


class Watched:
    """A proxy that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Arch] = []

    def __call__(self, space: Space, archs: Sequence[Arch], conditions: Conditions) -> list[float]:
        self.asked += archs
        return [float(sum(arch)) for arch in archs]


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("<= 1.0e6", "params <= 1e+06"),
        (" <=1500000 ", "params <= 1.5e+06"),
        (">= .5", "params >= 0.5"),
        (250, "params <= 250"),
        ([">= 100", "<= 2e2"], "params >= 100, params <= 200"),
    ],
)
def test_bounds_are_read(given: object, read: str) -> None:
    assert ", ".join(map(str, parse_bounds("params", given))) == read


@pytest.mark.parametrize(
    ("quantity", "given", "message"),
    [
        ("params", "< 5", "params: expected '<= NUMBER', '>= NUMBER' or a list of them, got '< 5'"),
        ("params", True, "params: expected '<= NUMBER'"),
        ("params", "<= 1 000", "params: expected '<= NUMBER'"),
        ("params", None, "params: expected '<= NUMBER'"),
        ("params", 0, "params: a limit must be positive and finite, got 0"),
        ("parms", 5, "no limit named 'parms'. Did you mean 'params'?"),
        ("latency", 5, "no limit named 'latency'. Did you mean 'latency_ms'?"),
    ],
)
def test_what_is_no_bound_is_refused(quantity: str, given: object, message: str) -> None:
    with pytest.raises(NasError, match=re.escape(message)):
        parse_bounds(quantity, given)


def test_excess_by_hand() -> None:
    quantities = Quantities(NATS_TSS, Conditions(), Milliseconds())
    limits = CostLimits({"latency_ms": [">= 20", "<= 40"]}, quantities)
    members = np.asarray([ALL_3X3, NONE, (3, 3, 3, 0, 0, 0), (4, 3, 3, 3, 0, 0)])
    assert limits.excess(members).tolist() == [0.5, 1.0, 0.0, np.inf]
    assert limits.excess(members[:0]).shape == (0,)
    assert limits.describe(ALL_3X3) == ("latency_ms 60 (limit >= 20), latency_ms 60 (limit <= 40)")
    assert limits.describe((4, 0, 0, 0, 0, 0)).startswith("latency_ms unknown")


def test_memory_is_asked_only_of_what_is_small_enough() -> None:
    quantities = Quantities(NATS_TSS, Conditions(resolution=8), None)
    limits = CostLimits({"memory_mb": "<= 0.9", "params": 400_000}, quantities)
    members = np.asarray([ALL_3X3, NONE, (3, 0, 0, 2, 0, 0)])
    excess = limits.excess(members)
    assert list(quantities._memory) == [NONE, (3, 0, 0, 2, 0, 0)]
    assert excess[0] > 1 > excess[2] > 0 == excess[1]  # 73,306 and 326,746 floats at the least
    assert limits.effort < 4096


def test_a_latency_needs_a_source() -> None:
    with pytest.raises(NasError, match=r"latency_ms: the search has no source of latencies; give"):
        Searcher(constraints={"latency_ms": 5})
    with pytest.raises(NasError, match=r"latency: expected 'measure', a table's .*got 'fast'"):
        Searcher(latency="fast")


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_nothing_outside_is_scored(strategy: str) -> None:
    watched = Watched()
    result = Searcher(
        proxy=watched,
        strategy=strategy,
        budget=80,
        constraints={"params": "<= 200000", "latency_ms": "<= 10"},
        latency=Milliseconds(),
    ).run()
    assert len(result.trials) == 80
    assert len(watched.asked) == 80
    for trial, arch in zip(result.trials, watched.asked, strict=True):
        assert trial.params <= 200_000
        assert trial.measures == {"latency_ms": 10.0 * sum(op == 3 for op in arch)}
        assert trial.measures["latency_ms"] <= 10
    assert result.settings["constraints"] == ["params <= 200,000", "latency_ms <= 10"]
    assert result.settings["latency"] == "by hand"


def test_what_nothing_satisfies_is_told_before_the_search() -> None:
    with pytest.raises(Unsatisfiable, match=r"of all 15,625 architectures; nearest is .*params"):
        Searcher(constraints={"params": "<= 10"})


def test_guesses_go_by_what_can_be_counted() -> None:
    quantities = Quantities(NATS_TSS, Conditions(), Milliseconds())
    members = np.asarray([ALL_3X3, NONE, (3, 3, 3, 0, 0, 0), (2, 0, 0, 0, 0, 0)])
    for given, order in (
        ({"latency_ms": "<= 1"}, [1, 3, 2, 0]),
        ({"memory_mb": ">= 1"}, [0, 2, 3, 1]),
        ({"memory_mb": "<= 1", "params": ">= 100000"}, [3, 2, 0, 1]),
    ):
        guessed = CostLimits(given, quantities).guess(members)
        assert np.argsort(guessed, kind="stable").tolist() == order
    assert quantities._memory == {}


@pytest.mark.parametrize("space", ["nats_tss", "darts"])
def test_an_impossible_memory_is_refused_after_few_runs(space: str) -> None:
    with pytest.raises(Unsatisfiable, match=r"among the \d{2,3} architectures .*memory_mb \d"):
        Searcher(space=space, proxy="sed", constraints={"memory_mb": "<= 0.001"}).run()


def test_ranking_all_means_all_within_the_limits() -> None:
    searcher = Searcher(
        proxy="sed", budget=100, exhaustive="when_cheaper", constraints={"params": "<= 200000"}
    )
    assert searcher.replaced is not None
    result = searcher.run()
    assert len(result.trials) == searcher.settings["budget"] > 100
    assert f"all {len(result.trials):,} distinct" in searcher.replaced
    assert max(trial.params for trial in result.trials) <= 200_000
    forms = np.unique(NATS_TSS.canonicalise(NATS_TSS.all()), axis=0)
    assert len(result.trials) == int((NATS_TSS.costs(forms).params <= 200_000).sum())
