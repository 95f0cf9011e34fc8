"""Why an ensemble put an architecture first: the weights at which another takes over."""

import json
import math

import numpy as np
import pytest

from nas import Searcher
from nas.explanation import Explanation, explain
from nas.oracle import Oracle
from nas.proxies import Conditions
from spaces.errors import NasError
from spaces.nats_tss import NATS_TSS

#: Data-free members, so that no network is run.
ENSEMBLE = 'ensemble:members={"params": 1, "sed": 0.5},reference=64'


def oracle(text: str = ENSEMBLE) -> Oracle:
    return Oracle(NATS_TSS, text, conditions=Conditions(seed=3))


def ranked(judge: Oracle, count: int = 60) -> list[tuple[int, ...]]:
    rng = np.random.default_rng(1)
    drawn = {NATS_TSS.canonical(NATS_TSS.sample(rng)): None for _ in range(count)}
    archs = list(drawn)
    scored = [
        (arch, verdict.value)
        for arch, verdict in zip(archs, judge.score(archs), strict=True)
        if hasattr(verdict, "value")
    ]
    return [scored[i][0] for i in judge.rank(scored)]


def first_at(weights: dict[str, float], archs: list[tuple[int, ...]]) -> str:
    """Return who is first under other weights, asked anew."""
    members = json.dumps({name: weight for name, weight in weights.items() if weight > 0})
    judge = oracle(f"ensemble:members={members},reference=64")
    totals = np.asarray(judge.join_members(archs).totals, dtype=np.float64)
    return NATS_TSS.to_str(archs[int(np.argmax(totals))])


def test_another_is_first_beyond_the_ends_of_the_interval_and_not_before() -> None:
    judge = oracle()
    best = ranked(judge)
    explained = explain(judge, best)
    assert explained.rivals == len(best) - 1
    first = NATS_TSS.to_str(best[0])
    weights = {"params": 1.0, "sed": 0.5}
    ends = 0
    for hold in explained.holds:
        assert hold.low <= weights[hold.member] <= (hold.high or math.inf)
        for end, other in ((hold.low, hold.below), (hold.high, hold.above)):
            if other is None or end is None:
                continue
            ends += 1
            outwards = 1 if end == hold.high else -1
            inside = {**weights, hold.member: end - 1e-6 * outwards}
            outside = {**weights, hold.member: end + 1e-6 * outwards}
            assert first_at(inside, best) == first
            assert first_at(outside, best) == other != first
    assert ends >= 2, "or nothing was tried"


def test_a_member_that_is_not_needed_has_no_lower_end() -> None:
    judge = oracle('ensemble:members={"params": 1, "flops": 1},reference=64')
    holds = explain(judge, ranked(judge)).holds
    assert [(hold.low, hold.below) for hold in holds] == [(0, None), (0, None)]


def test_it_shows_places_and_values_of_the_best() -> None:
    judge = oracle()
    best = ranked(judge)
    explained = explain(judge, best, k=3)
    assert [row.arch for row in explained.standings] == [NATS_TSS.to_str(a) for a in best[:3]]
    params = judge.costs(best[:3]).params.tolist()
    assert [row.values["params"] for row in explained.standings] == params
    for row in explained.standings:
        joined = math.log(row.places["params"]) + 0.5 * math.log(row.places["sed"])
        assert row.score == pytest.approx(joined, rel=1e-9)
    headers, rows = explained.table()
    assert headers == ["#", "params", "sed", "architecture"]
    assert rows[0] == ["weight", "1", "0.5", ""]
    assert len(rows) == 4
    assert Explanation.from_json(json.loads(json.dumps(explained.to_json()))) == explained


def test_one_architecture_has_no_rivals() -> None:
    judge = oracle()
    explained = explain(judge, ranked(judge)[:1])
    assert explained.rivals == 0
    assert explained.sentences()[0] == "params (1): no weight changes the first place"


def test_what_cannot_be_explained() -> None:
    with pytest.raises(NasError, match="one architecture at least"):
        explain(oracle(), [])
    result = Searcher(proxy="params", strategy="random", budget=5).run()
    with pytest.raises(NasError, match="params is no ensemble"):
        result.explain()


def test_a_search_explains_itself() -> None:
    result = Searcher(proxy=ENSEMBLE, strategy="random", budget=200).run()
    explained = result.explain(4)
    assert [row.arch for row in explained.standings] == [found.text for found in result.top(4)]
    assert explained.standings[0].score == result.best.score
