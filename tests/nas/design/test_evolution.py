"""Evolution: what it draws from, that it finds what is there, and that nothing is judged twice."""

import random
from collections.abc import Sequence

import numpy as np
import pytest

from nas.design.atoms import ROLES
from nas.design.evolution import (
    Breeder,
    Individual,
    Island,
    Settings,
    epoch_of,
    oriented,
    replaced,
    rounded,
)
from nas.design.expression import Node, constant, evaluate, parse, simplified
from nas.design.judging import FAILED, Judge, Panel, Values, Verdict
from nas.design.layers import Layers
from nas.statistics import kendall
from spaces.errors import NasError

N = 60
ROLES_READ = ("relu", "flow")
ATOMS = {role: ROLES[role].names for role in ROLES_READ}


def sample(seed: int = 0) -> dict[str, Layers]:
    """Noise by place; the sum of ``rms[relu]`` is the network's number, and then some."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 6, size=N)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    places = int(offsets[-1])
    relu = rng.normal(size=(2, places))
    relu[0] = np.repeat(np.arange(N) / lengths, lengths) + 0.01 * rng.normal(size=places)
    return {
        "relu": Layers(("rms", "mean"), relu, np.ones(places), offsets),
        "flow": Layers(("gain",), rng.normal(size=(1, places)), np.ones(places), offsets),
    }


SAMPLE = sample()
EVERY = np.arange(N)
EVEN = np.arange(0, N, 2)


def panels() -> list[Panel]:
    truth = np.arange(N, dtype=np.float64)
    return [
        Panel("first", "random", "s", EVERY, truth),
        Panel("first", "stratified", "s", EVEN, truth[EVEN]),
        Panel("second", "random", "s", EVERY, truth[::-1].copy()),
    ]


def test_a_verdict_by_hand() -> None:
    judge = Judge({"s": SAMPLE}, panels())
    good, constant_, both = judge.judge(
        [parse("sum(rms[relu])"), parse("min(rms[relu]) * 0"), parse("mean(mean[relu])")]
    )
    scores = evaluate(parse("sum(rms[relu])"), SAMPLE)
    tau = kendall(scores, np.arange(N))
    assert tau > 0.95
    assert good.taus == pytest.approx((tau, kendall(scores[EVEN], EVEN), -tau))
    assert good.worth == pytest.approx(-tau), "the second task is the worst, though it is one panel"
    assert constant_.worth == 0
    scores = evaluate(parse("mean(mean[relu])"), SAMPLE)
    assert both.taus[0] == pytest.approx(kendall(scores, np.arange(N)))


def test_what_fails_on_an_architecture_is_worth_nothing() -> None:
    nowhere = Layers(("rms",), np.ones((1, N - 1)), np.ones(N - 1), np.r_[0, 0:N].astype(np.int64))
    judge = Judge({"s": {"relu": nowhere}}, panels()[:1])
    assert judge.judge([parse("sum(rms[relu])")]) == [FAILED]
    with pytest.raises(NasError, match="one panel at least"):
        Judge({"s": SAMPLE}, [])


def test_formulas_that_order_the_sample_alike_are_judged_once() -> None:
    judge = Judge({"s": SAMPLE}, panels())
    same = ["sum(rms[relu])", "3 * sum(rms[relu]) - 2", "sum(rms[relu])"]
    verdicts = judge.judge([parse(text) for text in [*same, "-sum(rms[relu])"]])
    assert len({verdict.key for verdict in verdicts[:3]}) == 1
    assert verdicts[3].key != verdicts[0].key
    assert judge.judged == 2
    judge.judge([parse("sum(rms[relu]) / 7")])
    assert judge.judged == 2


def test_values_are_those_of_the_formula_to_the_bit_however_little_is_kept() -> None:
    breeder = Breeder(Settings(atoms=ATOMS), np.random.default_rng(0), lambda node: 1.0)
    nodes = [node for node in (breeder.fresh() for _ in range(300)) if reads(node)]
    assert len(nodes) > 20
    for kept in (0, 1_000, 10**8):
        values = Values(SAMPLE, kept)
        for node in nodes:
            np.testing.assert_array_equal(values.of(node), evaluate(node, SAMPLE))


def reads(node: Node) -> bool:
    """Tell whether it reads what the sample has, and anything at all."""
    wanted = node.wanted
    return bool(wanted) and all(
        set(names) <= set(SAMPLE[role].atoms) for role, names in wanted.items()
    )


class Listening:
    """A judge of which formulas were asked."""

    def __init__(self, judge: Judge) -> None:
        self.judge_ = judge
        self.asked: list[Node] = []

    def judge(self, nodes: Sequence[Node]) -> list[Verdict]:
        self.asked += nodes
        return self.judge_.judge(nodes)

    def spread(self, node: Node) -> float:
        return self.judge_.spread(node)


def full_sample() -> dict[str, Layers]:
    """As :func:`sample`, with every atom that evolution may read."""
    rng = np.random.default_rng(1)
    short = sample()
    found = {}
    for role in ROLES_READ:
        names = ROLES[role].names
        values = rng.normal(size=(len(names), len(short[role].counts)))
        if role == "relu":
            values[names.index("rms")] = short[role].atom("rms")
        found[role] = Layers(names, values, short[role].counts, short[role].offsets)
    return found


FULL = full_sample()
SMALL = Settings(population=40, islands=1, generations=8, max_size=12, atoms=ATOMS)


def evolved(seed: int = 0, settings: Settings = SMALL) -> list[Individual]:
    judge = Judge({"s": FULL}, panels()[:2])
    return epoch_of(settings, judge, seed, 0, 0, [], stale=False)


def test_it_finds_what_is_there() -> None:
    best = evolved()[0]
    assert best.verdict.worth > 0.95
    assert "rms[relu]" in str(best.node)
    assert best.score == pytest.approx(best.verdict.worth - SMALL.parsimony * best.node.size)


def test_it_depends_on_the_seed_and_on_nothing_global() -> None:
    before = random.getstate(), str(np.random.get_state())  # noqa: NPY002
    first = [str(one.node) for one in evolved()]
    random.random()
    assert [str(one.node) for one in evolved()] == first
    assert str(np.random.get_state()) == before[1]  # noqa: NPY002
    assert [str(one.node) for one in evolved(1)] != first


def test_an_island_holds_no_two_that_order_alike_and_few_of_one_shape() -> None:
    population = evolved()
    assert len(population) <= SMALL.population
    keys = [one.verdict.key for one in population]
    assert len(set(keys)) == len(keys)
    shapes = [one.node.shape for one in population]
    assert max(map(shapes.count, shapes)) <= 3
    scores = [one.score for one in population]
    assert scores == sorted(scores, reverse=True)
    for one in population:
        assert one.node.size <= SMALL.max_size
        assert simplified(one.node) == one.node
        assert sum(one.verdict.taus) >= 0, "the right way round"


def test_a_stale_island_starts_anew() -> None:
    judge = Judge({"s": FULL}, panels()[:2])
    settings = Settings(population=20, generations=0, atoms=ATOMS)
    first = epoch_of(settings, judge, 0, 0, 0, [], stale=False)
    kept = epoch_of(settings, judge, 0, 1, 0, first, stale=False)
    anew = epoch_of(settings, judge, 0, 1, 0, first, stale=True)
    assert kept[0].node == first[0].node
    assert {str(one.node) for one in anew} != {str(one.node) for one in first}


def test_what_is_known_of_a_population_is_not_asked_again() -> None:
    listening = Listening(Judge({"s": FULL}, panels()[:2]))
    island = Island(SMALL, listening)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    island.found(rng)
    for _ in range(3):
        before = {one.node for one in island.population}
        listening.asked.clear()
        island.evolve(rng, 1)
        assert not before & set(listening.asked)


def test_orientation() -> None:
    falls = Verdict(-0.5, (-0.6, -0.4), "k")
    assert str(oriented(parse("mean(rms[relu])"), falls)) == "-mean(rms[relu])"
    assert str(oriented(parse("-mean(rms[relu])"), falls)) == "mean(rms[relu])"
    rises = Verdict(0.4, (0.6, 0.4), "k")
    assert oriented(parse("mean(rms[relu])"), rises) == parse("mean(rms[relu])")


def test_replacing_a_part() -> None:
    node = parse("mean(log(rms[relu])) + 0.5 * sum(gain[flow])")
    texts = [str(part) for part in node.walk()]
    assert texts[3] == "rms[relu]"
    other = parse("sum(mean[relu])").parts[0]
    assert str(replaced(node, 3, other)) == "mean(log(mean[relu])) + 0.5 * sum(gain[flow])"
    assert str(replaced(node, 5, constant(2))) == "mean(log(rms[relu])) + 2 * sum(gain[flow])"
    assert replaced(node, 0, other) is other
    assert str(node) == "mean(log(rms[relu])) + 0.5 * sum(gain[flow])", "it is not changed"


def test_constants_are_short() -> None:
    assert [rounded(x) for x in (1.234, 0.0456789, 12345.0, 0.0)] == [1.2, 0.046, 12000.0, 1e-9]
