"""Ensembles: places among a sample, how they are joined, and what they refuse."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.oracle import Oracle, Score
from nas.proxies import Conditions, ProxyError, ProxySpec, score_batch
from nas.proxies.base import Outcome, split_outside
from nas.proxies.ensemble import Scale, sample_of
from nas.store import Store
from nas.wording import number_text
from spaces import SPACES, Arch
from spaces.errors import NasError
from spaces.nats_tss import NATS_TSS

SMALL = Conditions(num_classes=4, resolution=8)
COUNTS = 'ensemble:members={"params": 2, "flops": 1},reference=32'


def archs(count: int, seed: int = 0) -> list[Arch]:
    rng = np.random.default_rng(seed)
    return [NATS_TSS.sample(rng) for _ in range(count)]


def ask(text: str, some: list[Arch], conditions: Conditions = SMALL) -> list[Outcome]:
    return score_batch(NATS_TSS, [ProxySpec.parse(text)], some, conditions)[0]


def places(sample: list[float], scores: list[float]) -> list[float]:
    found: list[float] = (1 - Scale.of(sample).share_above(np.asarray(scores))).tolist()
    return found


def test_places_are_mid_ranks_and_lines_between_them() -> None:
    # 1, 2, 2, 4, 8: mid-ranks .1, .4, .4, .7, .9. The threshold is the quantile .8: 4 + .2 * 4.
    sample = [8.0, 2.0, 1.0, 4.0, 2.0]
    assert places(sample, [1, 2, 4]) == pytest.approx([0.1, 0.4, 0.7])
    assert places(sample, [1.5, 3]) == pytest.approx([0.25, 0.55])
    at_threshold = 0.7 + 0.2 * 0.2
    assert places(sample, [4.8]) == pytest.approx([at_threshold])
    # Above it one number, 8, whose excess is 3.2.
    above = [1 - (1 - at_threshold) * math.exp(-(x - 4.8) / 3.2) for x in (8, 100)]
    assert places(sample, [8, 100]) == pytest.approx(above)
    # Below the sample, in units of 2 - 1.
    assert places(sample, [0, -9]) == pytest.approx([0.1 / 2, 0.1 / 11])


def test_failures_are_below_all_scores() -> None:
    assert places([math.nan, math.nan, 3.0, 5.0], [3]) == pytest.approx([2.5 / 4])
    with pytest.raises(ProxyError, match="every architecture of the reference"):
        Scale.of([math.nan, math.inf])


#: Of a thousandth: no two differ by so little that a slope between them overflows.
numbers = st.integers(-(10**9), 10**9).map(lambda thousandths: thousandths / 1000)


@settings(max_examples=300)
@given(st.lists(st.one_of(numbers, st.just(math.nan)), min_size=1), st.lists(numbers, min_size=2))
def test_places_never_fall_as_scores_rise(sample: list[float], scores: list[float]) -> None:
    if not np.isfinite(sample).any():
        return
    scale = Scale.of(sample)
    share = scale.share_above(np.sort(np.asarray(scores)))
    assert ((share >= 0) & (share < 1)).all()
    assert (np.diff(share) <= 1e-12).all()


def test_the_best_are_never_tied() -> None:
    scale = Scale.of(np.random.default_rng(0).normal(size=64).tolist())
    share = scale.share_above(np.linspace(2, 40, 100))
    assert (np.diff(np.log1p(-share)) > 0).all(), "though 1 - q is below the resolution of q"


@pytest.mark.parametrize("value", [3.0, 2.0, 4.0])
def test_a_sample_of_one_number_still_orders(value: float) -> None:
    (place,) = places([3.0] * 8, [value])
    assert place == pytest.approx({3.0: 0.5, 2.0: 0.25, 4.0: 1 - 0.5 * math.exp(-1)}[value])


def test_joined_as_the_formula_says() -> None:
    spec = ProxySpec.parse(COUNTS)
    some = [NATS_TSS.canonical(arch) for arch in archs(5, seed=3)]
    sample = sample_of(NATS_TSS, spec, SMALL)
    assert len(sample) == 32
    assert all(arch == NATS_TSS.canonical(arch) for arch in sample)

    def costs(which: list[Arch], name: str) -> list[float]:
        found = NATS_TSS.costs(np.asarray(which), num_classes=4, resolution=8)
        return [float(x) for x in getattr(found, name)]

    params = np.asarray(places(costs(sample, "params"), costs(some, "params")))
    flops = np.asarray(places(costs(sample, "flops"), costs(some, "flops")))
    assert ask(COUNTS, some) == pytest.approx((2 * np.log(params) + np.log(flops)).tolist())
    mean = ask(f"{COUNTS},join=mean_rank", some)
    assert mean == pytest.approx(((2 * params + flops) / 3).tolist())


def test_a_score_depends_on_nothing_but_architecture_and_conditions() -> None:
    some = archs(6)
    together = ask(COUNTS, some)
    assert [ask(COUNTS, [arch])[0] for arch in some] == together
    assert ask(COUNTS, some[::-1]) == together[::-1]
    assert ask(COUNTS, some, dataclasses.replace(SMALL, seed=1)) != together, "another sample"


def test_it_fails_where_a_member_fails_and_says_which() -> None:
    dead = NATS_TSS.from_str("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")
    (failure,) = ask('ensemble:members={"params": 1, "sed": 1},reference=32', [dead])
    assert isinstance(failure, ProxyError)
    assert str(failure) == "sed: no path from input to output (the score would be -inf)"


def test_a_member_that_is_known_to_fall_with_accuracy_is_turned_round() -> None:
    space = SPACES["nats_sss"]
    widths = [(0, 0, 0, 0, 0), (3, 3, 3, 3, 3), (7, 7, 7, 7, 7)]
    specs = [ProxySpec.parse(x) for x in ("meco", 'ensemble:members={"meco": 1},reference=8')]
    meco, joined = score_batch(space, specs, widths, Conditions())
    assert np.argsort(np.asarray(meco, float)).tolist() == [2, 1, 0]
    assert np.argsort(np.asarray(joined, float)).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"members": {}}, "members must be one proxy at least"),
        ({"members": {"params": -1}}, "the weight of params must be above 0, got -1"),
        ({"members": {"params": 0}}, "the weight of params must be above 0, got 0"),
        ({"members": {"zero_shot": 1}}, "zero_shot is an ensemble itself"),
        ({"members": {"parms": 1}}, "no proxy named 'parms'"),
        ({"members": {"meco:hook=relu": 1}}, "has no option 'hook'"),
        ({"members": ["meco"]}, "ensemble.members: .* got \\['meco'\\]"),
        ({"reference": 7}, "reference must be at least 8, got 7"),
        ({"join": "product"}, "'log_rank' or 'mean_rank'"),
    ],
)
def test_what_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(NasError, match=message):
        ProxySpec.make("ensemble", options)


def test_the_text_of_an_ensemble_reads_back() -> None:
    text = 'ensemble:members={"meco_opt:hooks=relu,channels=4": 0.5, "sed": 1.0},join=mean_rank'
    spec = ProxySpec.parse(text)
    assert str(spec) == text
    assert [(str(member), weight) for member, weight in spec.members] == [
        ("meco_opt:hooks=relu,channels=4", 0.5),
        ("sed", 1.0),
    ]
    assert ProxySpec.parse("ensemble:members={meco: 1, sed: 1}") == ProxySpec.parse("ensemble")
    assert str(ProxySpec.parse("zero_shot")) == "zero_shot"


@given(st.lists(st.text("ab{}[],\"='", max_size=8)))
def test_splitting_loses_nothing(parts: list[str]) -> None:
    text = ",".join(parts)
    assert ",".join(split_outside(text)) == text


def test_it_runs_as_its_slowest_member() -> None:
    def of(members: str) -> tuple[str, int]:
        spec = ProxySpec.parse(f"ensemble:members={{{members}}}")
        return spec.route(NATS_TSS), spec.gain(NATS_TSS)

    assert of("params: 1, sed: 1") == ("data-free", 10_000)
    assert of("sed: 1, meco: 1")[0] == "batched"
    assert of("snip: 1, meco: 1") == ("one by one", 1)


def test_the_oracle_gives_the_same_and_keeps_what_members_say(tmp_path: object) -> None:
    some = [NATS_TSS.canonical(arch) for arch in archs(4)]
    text = 'ensemble:members={"decorrelation": 1, "params": 1},reference=8'
    with Store(f"{tmp_path}/scores.sqlite") as store:
        oracle = Oracle(NATS_TSS, text, conditions=SMALL, cache=store)
        found = oracle.score(some)
        assert [x.value for x in found if isinstance(x, Score)] == pytest.approx(ask(text, some))
        alone = Oracle(NATS_TSS, "decorrelation", conditions=SMALL, cache=store)
        known = alone.score(some)
        assert all(verdict.cached for verdict in known), "as if it had been asked alone"
        before = len(store)
        again = Oracle(NATS_TSS, text, conditions=SMALL, cache=store)
        assert again.score(some) == [dataclasses.replace(x, cached=True) for x in found]
        again.join_members(some)
        assert len(store) == before, "the reference sample was not scored again"


def test_members_of_what_is_no_ensemble() -> None:
    with pytest.raises(NasError, match="proxy params is no ensemble"):
        Oracle(NATS_TSS, "params").join_members(archs(1))


def test_the_shipped_ensemble() -> None:
    spec = ProxySpec.parse("zero_shot")
    weights = {str(member): weight for member, weight in spec.members}
    assert weights == {
        "meco": 1.0,
        "entropy_flow": 1.0,
        "decorrelation": 1.0,
        "norm_growth": 0.3,
    }
    carries = (
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|{}~0|nor_conv_3x3~1|nor_conv_3x3~2|"
    )
    first, second = ask(
        "zero_shot:reference=64",
        [NATS_TSS.from_str(carries.format(op)) for op in ("skip_connect", "nor_conv_3x3")],
        Conditions(),
    )
    assert isinstance(first, float)
    assert isinstance(second, float)
    assert first > second, f"{number_text(first)}: the one that trains to 94.36 %, not to 93.76 %"
