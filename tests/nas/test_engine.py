"""The engine: one loop, told higher-is-better, one result twice; errors before any work."""

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nas
from nas.engine import Searcher, search
from nas.oracle import DirectionWarning, Oracle, Score
from nas.proxies.base import Conditions, Proxy, ProxyError
from nas.result import Result, Trial
from nas.seeds import child_seed
from nas.store import Store
from searchers import STRATEGIES
from searchers.evolution import Evolution
from searchers.random_search import RandomSearch
from spaces import SPACES
from spaces.base import Arch, Space
from spaces.errors import NasError, UnknownName
from tests.nas.toys import SOME, TOY, InOrder, Toy, trial_records, truth

CHECKOUT = Path(__file__).resolve().parents[2]


def toy_search(**changes: Any) -> Searcher:
    """Return a search of the toy space; only what a test is about is said by it."""
    usual: dict[str, Any] = {"space": TOY, "proxy": Toy(), "budget": 40, "batch": 7}
    return Searcher(**(usual | changes))


# The loop


@pytest.mark.parametrize("direction", ["maximise", "minimise"])
def test_strategies_hear_higher_is_better_and_trials_carry_the_value(direction: str) -> None:
    strategy = InOrder(TOY)
    oracle = Oracle(TOY, Toy(), direction=direction)  # type: ignore[arg-type]
    trials = list(search(strategy, oracle, budget=100, batch=5))
    sign = 1 if direction == "maximise" else -1
    assert strategy.heard == [(arch, sign * truth(arch)) for arch in SOME]
    assert [trial.score for trial in trials] == [truth(arch) for arch in SOME]
    better = max if direction == "maximise" else min
    assert [trial.best for trial in trials] == list(accumulate(map(truth, SOME), better))


def test_a_trial_says_everything() -> None:
    proxy = Toy(lambda arch: ProxyError("too flat") if arch == SOME[0] else truth(arch))
    first, second = search(InOrder(TOY), Oracle(TOY, proxy), budget=2)
    costs = TOY.costs(np.array(SOME[:2]))
    for number, trial in enumerate((first, second)):
        assert (trial.number, trial.arch, trial.text) == (
            number,
            SOME[number],
            TOY.to_str(SOME[number]),
        )
        assert (trial.params, trial.flops) == (costs.params[number], costs.flops[number])
        assert not trial.cached
        assert trial.seconds > 0
    assert (first.score, first.error, first.best) == (None, "too flat", None)
    expected = truth(SOME[1])
    assert (second.score, second.error, second.best) == (expected, None, expected)


@pytest.mark.parametrize(
    ("budget", "batch", "calls"), [(20, 8, [8, 8, 4]), (5, 8, [5]), (1, 1, [1])]
)
def test_the_budget_is_met_exactly(budget: int, batch: int, calls: list[int]) -> None:
    proxy = Toy()
    trials = list(search(InOrder(TOY), Oracle(TOY, proxy), budget=budget, batch=batch))
    assert len(trials) == budget
    assert [len(call) for call in proxy.calls] == calls


def test_a_search_ends_when_nothing_new_is_left() -> None:
    result = toy_search(strategy="exhaustive", budget=10_000, batch=64).run()
    assert len(result.trials) == 567
    every = {tuple(row) for row in TOY.canonicalise(TOY.all()).tolist()}
    assert {trial.arch for trial in result.trials} == every
    assert result.best.arch == (2, 2, 2, 2, 2, 2)


def test_failures_are_told_as_such_and_end_nothing() -> None:
    proxy = Toy(lambda arch: float("nan") if arch[0] == 1 else truth(arch))
    strategy = InOrder(TOY)
    trials = list(search(strategy, Oracle(TOY, proxy), budget=24, batch=5))
    assert len(trials) == 24
    for (arch, heard), trial in zip(strategy.heard, trials, strict=True):
        assert (heard is None) == (trial.score is None) == (arch[0] == 1)


def test_trials_are_yielded_after_their_batch_was_told() -> None:
    strategy = InOrder(TOY)
    stream = search(strategy, Oracle(TOY, Toy()), budget=24, batch=6)
    next(stream)
    assert len(strategy.heard) == 6


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_every_strategy_runs_and_runs_the_same_twice(name: str) -> None:
    searcher = toy_search(strategy=name, seed=1)
    first, second = searcher.run(), searcher.run()
    assert len(first.trials) == 40
    assert len({trial.arch for trial in first.trials}) == 40
    assert first == second
    assert trial_records(first) == trial_records(second)
    if name != "exhaustive":
        assert toy_search(strategy=name, seed=2).run().trials != first.trials


# The result


def test_best_and_top() -> None:
    result = toy_search().run()
    scores = sorted((trial.score or 0.0 for trial in result.trials), reverse=True)
    assert [found.score for found in result.top(5)] == scores[:5]
    assert result.best == result.top(1)[0]
    best = result.best
    trial = result.trials[best.number]
    assert (best.arch, best.text, best.score) == (trial.arch, trial.text, trial.score)
    assert (best.params, best.flops) == (trial.params, trial.flops)
    assert len(result.top(1000)) == 40
    with pytest.raises(NasError, match="top: expected at least 1"):
        result.top(0)


def test_the_best_builds_a_network_for_the_classes_of_the_search() -> None:
    best = toy_search(num_classes=7).run().best
    assert [p.shape[0] for p in best.build().parameters()] == [7, 7]
    assert [p.shape[0] for p in best.build(num_classes=3).parameters()] == [3, 3]


def test_ties_are_broken_after_the_run_with_the_cache_file(tmp_path: Path) -> None:
    class Flat(Toy):
        name = "flat"

    result = toy_search(
        proxy=Flat(lambda _: 1.0), tie_break=Toy(), cache=tmp_path / "s.sqlite"
    ).run()
    assert result.best.arch == max((trial.arch for trial in result.trials), key=truth)


def test_failures_are_counted_by_reason() -> None:
    def answer(arch: Arch) -> object:
        reasons = {0: ProxyError("flat"), 1: ProxyError("steep")}
        return reasons[arch[5]] if arch[5] in reasons else truth(arch)

    result = toy_search(proxy=Toy(answer), budget=100).run()
    counts = {
        reason: sum(trial.error == reason for trial in result.trials)
        for reason in ("flat", "steep")
    }
    assert result.failures == counts
    assert list(result.failures.values()) == sorted(counts.values(), reverse=True)
    assert result.best.arch[5] == 2
    assert f"{sum(counts.values())} failed" in repr(result)


def test_when_all_fail_the_best_says_why() -> None:
    proxy = Toy(lambda arch: ProxyError("common" if sum(arch) else "rare"))
    result = toy_search(proxy=proxy, strategy="exhaustive", budget=50).run()
    with pytest.raises(NasError, match=r"all 50 trials failed; .* \(49 of them\): common"):
        _ = result.best
    assert result.top(3) == []


def test_no_trials_no_best() -> None:
    result = toy_search(strategy=InOrder(TOY, archs=[])).run()
    with pytest.raises(NasError, match="made no trial"):
        _ = result.best


def test_to_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    result = toy_search().run()
    frame = result.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame["text"]) == [trial.text for trial in result.trials]
    assert list(frame["score"]) == [trial.score for trial in result.trials]


def test_to_pandas_without_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(NasError, match="pip install pandas"):
        toy_search(budget=1).run().to_pandas()


def test_settings_are_json_and_complete() -> None:
    made = toy_search(strategy="evolution", strategy_options={"population": 9}, tie_break="params")
    told = json.loads(json.dumps(made.run().settings))
    assert told == made.settings
    assert told["strategy_options"] == {"population": 9}
    assert (told["space"], told["proxy"], told["tie_break"]) == ("toy", "toy", "params")
    assert told["conditions"]["num_classes"] == 10
    assert "40 trials of evolution" in repr(made)


# The searcher


def test_the_stream_reaches_the_caller_trial_by_trial() -> None:
    seen: list[Trial] = []
    result = toy_search().run(seen.append)
    assert seen == result.trials
    assert result.seconds >= sum(trial.seconds for trial in seen) * 0.5


def test_strategies_may_be_classes_entries_and_objects() -> None:
    by_name = toy_search(strategy="random").run()
    assert toy_search(strategy=RandomSearch).run().trials == by_name.trials
    assert toy_search(strategy=STRATEGIES["random"]).run().trials == by_name.trials
    fresh = RandomSearch(TOY, seed=child_seed(0, "search"))
    searcher = toy_search(strategy=fresh)
    assert searcher.settings["strategy"] == "RandomSearch"
    assert searcher.run().trials == by_name.trials
    with pytest.raises(NasError, match="an object serves one run"):
        searcher.run()


def test_seeds_reach_strategy_and_proxy() -> None:
    heard: list[int] = []

    def make(space: Space, *, seed: int) -> Evolution:
        heard.append(seed)
        return Evolution(space, seed=seed)

    def proxy(space: Space, archs: Sequence[Arch], conditions: Conditions) -> list[float]:
        heard.append(conditions.seed)
        return [0.0] * len(archs)

    toy_search(strategy=make, proxy=proxy, seed=11, budget=2).run()
    assert set(heard) == {11, child_seed(11, "search")}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": "nats_ts"}, "no space named 'nats_ts'. Did you mean 'nats_tss'"),
        ({"strategy": "evolutoin"}, "Did you mean 'evolution'"),
        ({"strategy": "random", "strategy_options": {"population": 3}}, "population"),
        ({"strategy": "evolution", "strategy_options": {"populatoin": 3}}, "Did you mean"),
        ({"proxy": "mec"}, "Did you mean 'meco'"),
        ({"tie_break": "parms"}, "Did you mean 'params'"),
        ({"direction": "up"}, "direction: expected 'maximise' or 'minimise'"),
        ({"budget": 0}, "budget: expected at least 1, got 0"),
        ({"budget": "many"}, "budget: expected int, got 'many'"),
        ({"batch": True}, "batch: expected int, got True"),
        ({"seed": -1}, "seed: expected at least 0"),
        ({"repeats": 0}, "repeats: expected at least 1"),
        ({"minibatch": 1}, "minibatch: expected at least 2"),
        ({"dtype": "float8"}, "dtype"),
        ({"strategy": InOrder(SPACES["nats_tss"], archs=[])}, "it searches nats_tss"),
        ({"strategy": InOrder(TOY), "strategy_options": {"a": 1}}, "has its options already"),
        ({"proxy": lambda space, archs, conditions: [], "cache": "x.sqlite"}, "`revision`"),
    ],
)
def test_a_wrong_setting_is_told_before_any_work(
    changes: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NasError, match=message):
        toy_search(**changes)
    assert list(tmp_path.iterdir()) == []


def test_unknown_names_are_key_errors() -> None:
    with pytest.raises(UnknownName):
        Searcher(space="mars")


def test_a_direction_that_misleads_is_warned_of_where_the_user_wrote_it() -> None:
    with pytest.warns(DirectionWarning, match="meco_opt") as caught:
        Searcher(space="nats_sss", proxy="meco")
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Searcher(space="nats_sss", proxy="meco", direction="minimise")
        Searcher(space="nats_tss", proxy="meco")


# The cache


def test_a_second_run_scores_nothing_and_says_the_same(tmp_path: Path) -> None:
    cache = tmp_path / "run" / "scores.sqlite"
    proxy = Toy()
    first = toy_search(proxy=proxy, cache=cache).run()
    n_scored = len(proxy.scored)
    second = toy_search(proxy=proxy, cache=cache).run()
    assert (n_scored, len(proxy.scored)) == (40, 40)
    assert second == first
    assert not any(trial.cached for trial in first.trials)
    assert all(trial.cached for trial in second.trials)


def test_a_larger_budget_goes_on(tmp_path: Path) -> None:
    proxy = Toy()
    toy_search(proxy=proxy, cache=tmp_path / "s.sqlite", budget=21).run()
    longer = toy_search(proxy=proxy, cache=tmp_path / "s.sqlite", budget=42).run()
    assert len(proxy.scored) == 42
    assert longer == toy_search(budget=42).run()


def test_an_interrupt_goes_through_and_loses_nothing(tmp_path: Path) -> None:
    def stop(trial: Trial) -> None:
        if trial.number == 20:
            raise KeyboardInterrupt

    cache = tmp_path / "s.sqlite"
    proxy = Toy()
    with pytest.raises(KeyboardInterrupt):
        toy_search(proxy=proxy, cache=cache).run(stop)
    assert not Path(f"{cache}-wal").exists()  # the file was closed
    with Store(cache) as store:
        assert len(store) == 21
    assert toy_search(proxy=proxy, cache=cache).run() == toy_search().run()
    assert len(proxy.scored) == 40


def test_two_searches_share_a_file(tmp_path: Path) -> None:
    cache = tmp_path / "s.sqlite"
    proxy = Toy()
    toy_search(proxy=proxy, strategy="exhaustive", budget=567, cache=cache).run()
    other = toy_search(proxy=proxy, strategy="evolution", cache=cache).run()
    assert len(proxy.scored) == 567
    assert other == toy_search(strategy="evolution").run()


# The real thing


def test_a_real_search_end_to_end(tmp_path: Path) -> None:
    def run() -> Result:
        return Searcher(
            space="nats_tss",
            proxy="meco",
            strategy="random",
            budget=4,
            batch=2,
            resolution=8,
            tie_break="params",
            cache=tmp_path / "scores.sqlite",
        ).run()

    first, second = run(), run()
    assert first == second
    assert all(trial.cached for trial in second.trials)
    assert SPACES["nats_tss"].from_str(first.best.text) == first.best.arch
    network = first.best.build(num_classes=3)
    assert sum(p.numel() for p in network.parameters()) == first.best.params - 7 * 65


# The package


def run_python(code: str) -> str:
    told = subprocess.run(
        [sys.executable, "-c", code],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        check=True,
    )
    return told.stdout.strip()


def test_importing_nas_is_quick_and_loads_no_torch() -> None:
    heavy = "{'torch', 'numpy', 'optuna', 'pandas'} & set(sys.modules)"
    assert run_python(f"import sys, nas; print({heavy})") == "set()"


def test_making_a_searcher_loads_no_torch() -> None:
    code = "import sys; from nas import Searcher; Searcher(); print('torch' in sys.modules)"
    assert run_python(code) == "False"


def test_every_public_name_is_there() -> None:
    for name in nas.__all__:
        if name != "__version__":  # only an installed package has one
            assert getattr(nas, name) is not None
            assert name in dir(nas)
    with pytest.raises(AttributeError, match="no attribute 'Seracher'"):
        nas.Seracher  # noqa: B018


def test_the_static_and_the_lazy_names_agree() -> None:
    source = (CHECKOUT / "nas" / "__init__.py").read_text(encoding="utf-8")
    for name, home in nas._HOMES.items():
        assert f"from {home} import {name} as {name}\n" in source
    assert source.count(" import ") - source.count("from typing import") - source.count(
        "from importlib.metadata import"
    ) == len(nas._HOMES)


@pytest.mark.parametrize(
    ("space", "proxy", "budget", "whole"),
    [
        ("nats_tss", "meco", 300, 5044),  # 5,044 / 100 is less than 300
        ("nats_tss", "meco", 50, None),  # and more than 50
        ("nats_tss", "meco:hooks=reference", 300, None),  # runs one by one
        ("nats_tss", "nwot", 300, None),  # a minibatch fills the processor by itself
        ("nats_sss", "sed", 4, 32_768),
        ("nats_sss", "sed", 3, None),
        ("nasbench101", "sed", 5000, None),  # no order to walk along
        ("transnas_micro", "sed", 4096, None),  # asked for more than there is
    ],
)
def test_the_whole_space_is_ranked_where_that_is_cheaper(
    space: str, proxy: str, budget: int, whole: int | None
) -> None:
    asked = {"space": space, "proxy": proxy, "budget": budget, "strategy": "random"}
    searcher = Searcher(**asked, exhaustive="when_cheaper")  # type: ignore[arg-type]
    if whole is None:
        assert searcher.replaced is None
        assert searcher.settings["strategy"] == "random"
        assert searcher.settings["budget"] == budget
    else:
        assert searcher.replaced is not None
        assert f"all {whole:,} distinct architectures" in searcher.replaced
        assert searcher.settings["strategy"] == "exhaustive"
        assert searcher.settings["budget"] == whole
    assert Searcher(**asked).replaced is None  # type: ignore[arg-type]


def test_the_whole_space_has_the_best_there_is() -> None:
    searcher = Searcher(space="transnas_micro", proxy="sed", budget=5, exhaustive="when_cheaper")
    result = searcher.run()
    oracle = Oracle(searcher.space, "sed", conditions=searcher.conditions)
    scores = [v.value for v in oracle.score(searcher.space.all().tolist()) if isinstance(v, Score)]
    assert result.best.score == max(scores)


def test_a_proxy_of_your_own_is_never_replaced_and_a_wrong_word_is_refused() -> None:
    def own(space: Space, archs: Sequence[Arch], conditions: Conditions) -> list[float]:
        return [0.0 for _ in archs]

    assert Searcher(proxy=own, budget=5, exhaustive="when_cheaper").replaced is None
    with pytest.raises(NasError, match="expected 'never' or 'when_cheaper', got 'always'"):
        Searcher(exhaustive="always")  # type: ignore[arg-type]


def test_the_record_of_a_proxy_is_a_proxy() -> None:
    widest = Proxy(
        "widest",
        "channels of the last stage",
        "",
        population=lambda space, population, conditions, options: population.max(axis=1) * 1.0,
    )
    result = Searcher(space="nats_sss", proxy=widest, strategy="random", budget=20).run()
    assert result.best.score == 7
    assert result.settings["proxy"] == "widest"
    with pytest.raises(NasError, match="a built-in one is named 'meco'; give yours another name"):
        Searcher(proxy=replace(widest, name="meco"))
    with pytest.raises(NasError, match=r"'widest': expected one of .*, got population and members"):
        replace(widest, members=lambda options: {"meco": 1.0})
    with pytest.raises(NasError, match=r"'widest': expected one of .*, got none"):
        replace(widest, population=None)
    with pytest.raises(NasError, match=r"a ProxySpec or a callable, got int$"):
        Searcher(proxy=3)  # type: ignore[arg-type]


def test_what_replaces_a_search_is_said_in_a_sentence() -> None:
    predictor = nas.Predictor.load("tss_cifar10")
    told = Searcher(oracle=predictor, budget=300, exhaustive="when_cheaper").replaced
    assert told is not None
    assert len(told) < 250
    assert "by predictor tss_cifar10" in told
