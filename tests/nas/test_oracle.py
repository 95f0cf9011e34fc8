"""The oracle: no score twice, no number for a failure, ties by a rule, keys that forget nothing."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.chunks import OwnProxy
from nas.oracle import Failure, MemoryCache, Oracle, Score
from nas.proxies.base import Conditions, ProxyError, ProxySpec
from nas.store import Store
from spaces import SPACES
from spaces.base import Arch, Space
from spaces.errors import InvalidArch, NasError, UnknownName
from tests.nas.toys import SOME, TOY, Toy, ToySpace, refuse, truth

TSS = SPACES["nats_tss"]


def values(oracle: Oracle, archs: Sequence[Arch]) -> list[float]:
    verdicts = oracle.score(archs)
    assert all(isinstance(verdict, Score) for verdict in verdicts)
    return [verdict.value for verdict in verdicts if isinstance(verdict, Score)]


# Scoring and caching


def test_scores_come_in_the_order_of_asking() -> None:
    oracle = Oracle(TOY, Toy())
    assert oracle.score(SOME) == [Score(truth(arch), cached=False) for arch in SOME]
    assert oracle.score([]) == []


def test_what_is_known_is_not_scored_again() -> None:
    proxy = Toy()
    oracle = Oracle(TOY, proxy)
    oracle.score(SOME[:10])
    verdicts = oracle.score(SOME[5:15])
    assert [verdict.cached for verdict in verdicts] == [True] * 5 + [False] * 5
    assert proxy.scored == SOME[:15]
    assert (oracle.n_evaluations, oracle.n_cached, oracle.n_failures) == (15, 5, 0)


def test_repeats_in_a_batch_are_scored_once() -> None:
    proxy = Toy()
    oracle = Oracle(TOY, proxy)
    verdicts = oracle.score([SOME[0], SOME[1], SOME[0]])
    assert verdicts[0] == replace(verdicts[2], cached=False)
    assert [verdict.cached for verdict in verdicts] == [False, False, True]
    assert proxy.scored == SOME[:2]


@pytest.mark.parametrize("of_function", [True, False])
def test_the_canonical_form_is_scored_only_where_it_may(of_function: bool) -> None:
    twins = [(0, 0, 1, 1, 1, 1), (0, 2, 1, 1, 1, 1), (1, 2, 1, 1, 1, 1)]
    proxy = Toy(of_function=of_function)
    got = values(Oracle(TOY, proxy), twins)
    if of_function:
        assert proxy.scored == [twins[0], twins[2]]
        assert got == [truth(twins[0]), truth(twins[0]), truth(twins[2])]
    else:
        assert proxy.scored == twins
        assert got == [truth(arch) for arch in twins]


@settings(max_examples=40)
@given(
    places=st.lists(st.integers(0, len(TOY) - 1), max_size=60),
    batch_size=st.integers(1, 70),
    cuts=st.lists(st.integers(0, 60), max_size=4),
)
def test_batches_never_change_a_verdict(
    places: list[int], batch_size: int, cuts: list[int]
) -> None:
    def answer(arch: Arch) -> object:
        if sum(arch) % 5 == 0:
            return ProxyError(f"five divides {sum(arch)}")
        return math.nan if sum(arch) % 7 == 0 else truth(arch)

    archs = [TOY.at(place) for place in places]
    whole = Oracle(TOY, Toy(answer)).score(archs)
    oracle = Oracle(TOY, Toy(answer), batch_size=batch_size)
    edges = [0, *sorted(cuts), len(archs)]
    parts = [oracle.score(archs[a:b]) for a, b in pairwise(edges)]
    assert [replace(verdict, cached=False) for part in parts for verdict in part] == [
        replace(verdict, cached=False) for verdict in whole
    ]


def test_a_batch_is_no_larger_than_asked_and_is_one_transaction() -> None:
    proxy = Toy()

    class Counting(MemoryCache):
        puts: list[int] = []  # noqa: RUF012

        def put_many(self, verdicts: object) -> dict[str, float | str]:
            self.puts.append(len(verdicts))  # type: ignore[arg-type]
            return super().put_many(verdicts)  # type: ignore[arg-type]

    cache = Counting()
    Oracle(TOY, proxy, cache=cache, batch_size=10).score(SOME)
    assert [len(call) for call in proxy.calls] == [10, 10, 4] == cache.puts


def test_what_was_scored_before_a_crash_is_kept() -> None:
    def answer(arch: Arch) -> object:
        if arch == SOME[12]:
            raise TypeError("a mistake")
        return truth(arch)

    cache = MemoryCache()
    with pytest.raises(TypeError, match="a mistake"):
        Oracle(TOY, Toy(answer), cache=cache, batch_size=5).score(SOME)
    assert len(cache) == 10
    assert Oracle(TOY, Toy(), cache=cache).score(SOME[:10])[9].cached


def test_the_value_in_the_cache_is_the_one_that_counts(tmp_path: Path) -> None:
    """Another process may have scored the same architecture in the meantime, to the last bit."""
    with Store(tmp_path / "s.sqlite") as store:
        other = Oracle(TOY, Toy(lambda arch: truth(arch) + 1e-9), cache=store)

        def answer(arch: Arch) -> object:
            other.score([arch])
            return truth(arch)

        assert values(Oracle(TOY, Toy(answer), cache=store), SOME[:2]) == [
            truth(arch) + 1e-9 for arch in SOME[:2]
        ]


# Failures


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_what_is_not_finite_is_a_failure(value: float, tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        for cached in (False, True):
            oracle = Oracle(TOY, Toy(lambda _: value), cache=store)
            assert oracle.score(SOME[:1]) == [
                Failure(f"the score is not finite: {float(value)}", cached)
            ]
            assert oracle.n_failures == 1


def test_an_announced_failure_has_its_reason_and_is_remembered() -> None:
    proxy = Toy(lambda arch: ProxyError("no gradient\nlong story") if arch[0] == 0 else truth(arch))
    oracle = Oracle(TOY, proxy)
    first, again = oracle.score(SOME), oracle.score(SOME)
    for arch, one, two in zip(SOME, first, again, strict=True):
        assert two == replace(one, cached=True)
        assert one == (Failure("no gradient", False) if arch[0] == 0 else Score(truth(arch), False))
    assert len(proxy.scored) == len(SOME)


def raising(kind: Callable[[str], BaseException], when: Callable[[Arch], bool]) -> Toy:
    def answer(arch: Arch) -> object:
        if when(arch):
            raise kind("it broke")
        return truth(arch)

    return Toy(answer)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (ProxyError, "it broke"),
        (InvalidArch, "it broke"),
        (ZeroDivisionError, "ZeroDivisionError: it broke"),
        (np.linalg.LinAlgError, "LinAlgError: it broke"),
        # torch's stubs do not know the name
        (torch.linalg.LinAlgError, "_LinAlgError: it broke"),  # type: ignore[attr-defined]
        (RuntimeError, "RuntimeError: it broke"),
        (MemoryError, "MemoryError: it broke"),
        (torch.OutOfMemoryError, "OutOfMemoryError: it broke"),
    ],
)
def test_a_broken_architecture_ends_nothing_and_harms_no_neighbour(
    kind: Callable[[str], BaseException], reason: str
) -> None:
    oracle = Oracle(TOY, raising(kind, lambda arch: arch == SOME[3]))
    expected: list[Score | Failure] = [Score(truth(arch), False) for arch in SOME]
    expected[3] = Failure(reason, False)
    assert oracle.score(SOME) == expected


@pytest.mark.parametrize(
    ("kind", "lasting"), [(ProxyError, True), (ArithmeticError, True), (MemoryError, False)]
)
def test_only_failures_that_would_come_again_are_remembered(
    kind: Callable[[str], BaseException], lasting: bool
) -> None:
    cache = MemoryCache()
    broken = Oracle(TOY, raising(kind, lambda arch: arch == SOME[0]), cache=cache)
    assert isinstance(broken.score(SOME[:2])[0], Failure)
    mended = Oracle(TOY, Toy(), cache=cache).score(SOME[:2])
    assert isinstance(mended[0], Failure if lasting else Score)
    assert mended[1].cached


@pytest.mark.parametrize(
    "kind", [TypeError, ValueError, KeyError, NasError, NotImplementedError, RecursionError]
)
def test_a_mistake_in_the_program_stops_it(kind: type[Exception]) -> None:
    with pytest.raises(kind):
        Oracle(TOY, raising(kind, lambda arch: arch == SOME[3])).score(SOME)


def test_a_broken_machine_stops_it() -> None:
    """When all fail and none announced it, it is not the architectures' fault."""
    with pytest.raises(RuntimeError, match="it broke") as caught:
        Oracle(TOY, raising(RuntimeError, lambda _: True), batch_size=10).score(SOME)
    assert any("all 10 architectures" in note for note in caught.value.__notes__)
    # announced failures may hit all of them
    verdicts = Oracle(TOY, raising(ProxyError, lambda _: True)).score(SOME)
    assert verdicts == [Failure("it broke", False)] * len(SOME)


@pytest.mark.parametrize("answer", [None, "0.5", 1j, [0.5]])
def test_what_is_no_number_is_a_mistake_of_the_proxy(answer: object) -> None:
    with pytest.raises(TypeError, match="expected a number or a ProxyError"):
        Oracle(TOY, Toy(lambda _: answer)).score(SOME)


def test_a_missing_answer_is_a_mistake_of_the_proxy() -> None:
    def short(space: Space, archs: Sequence[Arch], conditions: Conditions) -> list[float]:
        return [0.0] * (len(archs) - 1)

    with pytest.raises(TypeError, match="returned 23 answers for 24 architectures"):
        Oracle(TOY, short, batch_size=100).score(SOME)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, torch.tensor, int, float])
def test_numbers_of_other_libraries_are_numbers(kind: Callable[[float], object]) -> None:
    got = values(Oracle(TOY, Toy(lambda arch: kind(arch[0]))), SOME)
    assert got == [float(arch[0]) for arch in SOME]
    assert {type(value) for value in got} == {float}


def test_minus_zero_is_zero() -> None:
    assert math.copysign(1.0, values(Oracle(TOY, Toy(lambda _: -0.0)), SOME[:1])[0]) == 1.0


@pytest.mark.parametrize("arch", [(0,) * 5, (0, 0, 0, 0, 0, 3), (0, 0, 0, 0, 0, -1), ("a",) * 6])
def test_a_stranger_to_the_space_is_refused(arch: Arch) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # InvalidArch, or int()'s own
        Oracle(TOY, Toy()).score([SOME[0], arch])


# Keys


def test_a_key_holds_everything_that_a_score_depends_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    red, blue = tmp_path / "red.npy", tmp_path / "blue.npy"
    red.write_bytes(b"red")
    blue.write_bytes(b"blue")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "red.npy").write_bytes(b"red")
    arch = (1, 1, 1, 1, 1, 1)

    class Revised(ToySpace):
        revision = 2

    class Renamed(ToySpace):
        name = "toy2"

    def proxy(**attributes: object) -> Toy:
        made = Toy()
        for name, value in attributes.items():
            setattr(made, name, value)
        return made

    base = Conditions()
    oracles = [
        Oracle(TOY, Toy()),
        Oracle(Revised(), Toy()),
        Oracle(Renamed(), Toy()),
        Oracle(TOY, proxy(name="other")),
        Oracle(TOY, proxy(revision=2)),
        Oracle(TOY, proxy(name="params")),
        Oracle(TOY, "params"),
        Oracle(TOY, "flops"),
        Oracle(TOY, "meco"),
        Oracle(TOY, "meco:hooks=reference"),
        *(
            Oracle(TOY, Toy(), conditions=replace(base, **change))
            for change in (
                {"num_classes": 100},
                {"resolution": 16},
                {"seed": 1},
                {"repeats": 2},
                {"images": str(red)},
                {"images": str(blue)},
                {"images": str(folder)},
                {"images": "nowhere"},
                {"dtype": "float64"},
                {"device": "cuda"},
            )
        ),
    ]
    monkeypatch.setattr("importlib.metadata.version", lambda _: "0.0")
    oracles.append(Oracle(TOY, Toy()))
    keys = [oracle.key(arch) for oracle in oracles]
    assert len(set(keys)) == len(keys)
    assert all(len(key) == 64 for key in keys)


def test_a_key_holds_nothing_else(tmp_path: Path) -> None:
    for name in ("one.npy", "two.npy"):
        (tmp_path / name).write_bytes(b"the same images")
    arch = (1, 1, 1, 1, 1, 1)
    here, there = (
        Oracle(
            TOY,
            Toy(),
            conditions=Conditions(images=str(tmp_path / name), device=device),
            direction="maximise" if name == "one.npy" else "minimise",
            tie_break=None if name == "one.npy" else "params",
            batch_size=len(name) + len(device),
        )
        for name, device in (("one.npy", "cuda:0"), ("two.npy", "cuda:1"))
    )
    assert here.key(arch) == there.key(arch)
    assert Oracle(TOY, "meco").key(arch) == Oracle(TOY, ProxySpec.parse("meco")).key(arch)


def test_a_lasting_cache_needs_a_name_and_a_revision(tmp_path: Path) -> None:
    def plain(space: Space, archs: Sequence[Arch], conditions: Conditions) -> list[float]:
        return [0.0] * len(archs)

    assert values(Oracle(TOY, plain), SOME[:2]) == [0.0, 0.0]
    with Store(tmp_path / "s.sqlite") as store:
        for proxy, tie_break in ((plain, None), (Toy(), plain)):
            with pytest.raises(NasError, match="needs the attributes `name` and `revision`"):
                Oracle(TOY, proxy, tie_break=tie_break, cache=store)


# Ranking


def test_the_best_come_first() -> None:
    scored = [(arch, truth(arch)) for arch in SOME]
    ascending = sorted(range(len(SOME)), key=lambda i: truth(SOME[i]))
    assert Oracle(TOY, Toy(), direction="minimise").rank(scored, 5) == ascending[:5]
    assert Oracle(TOY, Toy()).rank(scored, 5) == ascending[::-1][:5]
    assert Oracle(TOY, Toy()).rank(scored) == ascending[::-1]
    assert Oracle(TOY, Toy()).rank([], 5) == []


def test_ties_go_to_fewer_parameters_then_to_the_first_text() -> None:
    archs = [(2, 0, 0, 0, 0, 0), (0, 0, 0, 0, 0, 1), (1, 0, 0, 0, 0, 0), (0, 1, 0, 0, 0, 0)]
    scored = [(arch, 5.0) for arch in archs]
    assert Oracle(TOY, Toy(), direction="maximise").rank(scored) == [1, 3, 2, 0]
    assert Oracle(TOY, Toy(), direction="minimise").rank(scored) == [1, 3, 2, 0]


@pytest.mark.parametrize("direction", [1, -1])
def test_ties_go_to_the_second_proxy_in_its_own_direction(direction: int) -> None:
    second = Toy(directions={"toy": direction})
    order = Oracle(TOY, Toy(), tie_break=second).rank([(arch, 5.0) for arch in SOME], 24)
    assert order == sorted(range(24), key=lambda i: -direction * truth(SOME[i]))


def test_only_ties_that_matter_are_asked_about() -> None:
    groups = [9.0, 8.0, 8.0, 7.0, 6.0, 6.0, 6.0, 5.0, 5.0]
    scored = list(zip(SOME, groups, strict=False))
    second = Toy()
    oracle = Oracle(TOY, Toy(), tie_break=second)
    assert oracle.rank(scored, 1) == [0]
    assert second.scored == []
    oracle.rank(scored, 4)
    assert second.scored == SOME[1:3]
    oracle.rank(scored, 5)  # reaches into the group of three
    assert second.scored == SOME[1:3] + SOME[4:7]
    assert oracle.n_evaluations == 0  # its own proxy was not asked


def test_what_fails_the_second_proxy_goes_last() -> None:
    second = Toy(lambda arch: math.nan if arch == SOME[23] else truth(arch))
    order = Oracle(TOY, Toy(), tie_break=second).rank([(arch, 5.0) for arch in SOME])
    assert order[-1] == 23


@settings(max_examples=50)
@given(levels=st.lists(st.sampled_from([0.0, 1.0, 2.0]), max_size=24), k=st.integers(0, 30))
def test_a_shorter_ranking_is_the_head_of_a_longer_one(levels: list[float], k: int) -> None:
    scored = list(zip(SOME, levels, strict=False))
    oracle = Oracle(TOY, Toy(), tie_break="params")
    assert oracle.rank(scored, k) == oracle.rank(scored)[:k]


def test_a_ranking_has_no_place_for_nan() -> None:
    with pytest.raises(NasError, match="NaN"):
        Oracle(TOY, Toy()).rank([(SOME[0], math.nan)])


# Settings and built-in proxies


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"proxy": "mecoo"}, "Did you mean 'meco'"),
        ({"proxy": 3}, "expected a name such as 'meco'"),
        ({"direction": "maximize"}, "expected 'maximise' or 'minimise', got 'maximize'"),
        ({"batch_size": 0}, "batch_size: expected at least 1"),
    ],
)
def test_a_wrong_setting_is_named(settings_: dict[str, object], message: str) -> None:
    with pytest.raises(NasError, match=message):
        Oracle(TOY, **{"proxy": Toy(), **settings_})  # type: ignore[arg-type]


def test_an_unknown_proxy_is_an_unknown_name() -> None:
    with pytest.raises(UnknownName):
        Oracle(TOY, "synflw")


def test_the_declared_direction_is_compared() -> None:
    advice = {"toy": "Take the better one."}
    up, down = Toy(), Toy(directions={"toy": -1}, advice=advice)
    assert Oracle(TOY, up).warning() is None
    assert Oracle(TOY, down, direction="minimise").warning() is None
    warning = Oracle(TOY, down).warning()
    assert warning is not None
    assert "lower values are the better ones there; use direction='minimise'" in warning
    assert warning.endswith("Take the better one.")
    assert "higher values" in str(Oracle(TOY, up, direction="minimise").warning())


def test_the_raw_proxy_that_misleads_on_sizes_is_named() -> None:
    warning = Oracle(SPACES["nats_sss"], "meco").warning()
    assert warning is not None
    assert "meco_opt" in warning
    assert Oracle(SPACES["nats_sss"], "meco_opt").warning() is None


def test_counts_are_scored_as_written_and_signals_as_a_function() -> None:
    # The edge 0-1 carries a convolution that nothing uses; its parameters count nevertheless.
    idle = TSS.from_str(
        "|nor_conv_3x3~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|",
    )
    bare = TSS.canonical(idle)
    assert bare != idle
    params = values(Oracle(TSS, "params"), [idle, bare])
    assert params == [float(value) for value in TSS.costs(np.array([idle, bare])).params]
    assert params[0] > params[1]
    signal = Oracle(TSS, "meco").score([idle, bare])
    assert signal[1] == replace(signal[0], cached=True)


def test_real_scores_do_not_depend_on_the_batch() -> None:
    rng = np.random.default_rng(0)
    archs = [TSS.sample(rng) for _ in range(3)]
    conditions = Conditions(resolution=8, dtype="float64")
    whole = Oracle(TSS, "meco", conditions=conditions).score(archs)
    singly = Oracle(TSS, "meco", conditions=conditions, batch_size=1).score(archs)
    for one, other in zip(whole, singly, strict=True):
        if isinstance(one, Score):
            assert isinstance(other, Score)
            assert one.value == pytest.approx(other.value, rel=1e-9)
        else:
            assert one == other


def test_an_unreachable_device_stops_the_search_or_fails_with_a_reason() -> None:
    """Never a number: whatever the proxies do about it, no score comes out."""
    if torch.cuda.is_available():
        pytest.skip("there is a device")
    oracle = Oracle(TSS, "meco", conditions=Conditions(device="cuda"))
    try:
        verdicts = oracle.score([TSS.at(0), TSS.at(1)])
    except (NasError, RuntimeError, AssertionError):
        return
    assert all(isinstance(verdict, Failure) for verdict in verdicts)


def test_refuse_is_an_announced_failure() -> None:
    proxy: OwnProxy = Toy(lambda arch: refuse(arch) if arch == SOME[0] else truth(arch))
    verdicts = Oracle(TOY, proxy).score(SOME[:2])
    assert isinstance(verdicts[0], Failure)
    assert isinstance(verdicts[1], Score)
