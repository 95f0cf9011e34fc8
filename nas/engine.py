"""The engine: the one loop of a search, and the object that a user makes to run it.

``strategy.ask -> oracle.score -> strategy.tell -> Trial``, until the budget is spent. This is the
one place of a search with a clock and with files (the score cache); measured latencies have a clock
of their own. There is no checkpoint: a strategy is
deterministic given its seed and the scores it is told, and scores are in the cache, so running the
same search again replays it and goes on where it was killed.
"""

from __future__ import annotations

import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from nas.callbacks import Callback, RunInfo, SearchLog
from nas.hardware import Latency, MeasuredLatency
from nas.hardware.source import latency_source
from nas.limits import CostLimits
from nas.objectives import Objectives
from nas.oracle import AnyProxy, Direction, DirectionWarning, Oracle, Score, Verdict, as_spec
from nas.plugins import look_up_or_load
from nas.proxies.base import Conditions
from nas.quantities import COUNTED, Quantities
from nas.result import Kept, Result, Trial
from nas.seeds import child_seed
from nas.space_file import find_space
from nas.store import Store
from nas.workers import DEFAULT_EXECUTOR, Workers, make_workers
from searchers import STRATEGIES
from searchers.base import Candidate, Strategy, StrategyInfo
from spaces.base import Arch, Population, Space
from spaces.errors import NasError

if TYPE_CHECKING:
    pass

#: Candidates asked at once, unless the user says otherwise.
BATCH = 32

#: Of a space that is ranked as a whole: nothing is learned between batches, so they may be larger.
EXHAUSTIVE_BATCH = 512

#: A limit with no more effort than this takes networks to be run.
SLOW_EFFORT = 256

StrategyFactory: TypeAlias = Callable[..., Strategy]


def search(
    strategy: Strategy,
    oracle: Oracle,
    *,
    budget: int,
    batch: int = BATCH,
    objectives: Objectives | None = None,
    limits: CostLimits | None = None,
    quantities: Quantities | None = None,
    ahead: int = 0,
) -> Iterator[Trial]:
    """Ask, score, tell, and yield a trial per architecture; a batch yields several at once.

    The strategy is told a batch before its trials are yielded, and always higher-is-better
    values. Batches are told in the order in which they were asked, whichever is scored first. The
    search ends early when the strategy has nothing new to ask.

    Args:
        strategy: A fresh one.
        oracle: What judges.
        budget: Number of trials; failures and cached scores count, or a replay would differ.
        batch: Candidates asked at once. It is part of the search: a strategy proposes the whole
            batch before it learns any of its scores.
        objectives: What is told in the place of the score, one number for each.
        limits: What the strategy was restricted to; their costs are reported.
        quantities: Where those costs come from.
        ahead: Batches asked before the first of them is told. It is part of the search, too, unless
            the strategy learns nothing.
    """
    sign = oracle.sign if objectives is None else objectives.each[0].sign
    number = asked_for = 0
    best: float | None = None
    open_: deque[tuple[list[Candidate], list[Arch], Population, Callable[[], list[Verdict]]]]
    open_ = deque()
    while True:
        began = time.perf_counter()
        while asked_for < budget and len(open_) <= ahead:
            asked = strategy.ask(min(batch, budget - asked_for))
            if not asked:
                budget = asked_for
                break
            asked_for += len(asked)
            archs = [candidate.arch for candidate in asked]
            population = oracle.population(archs)
            open_.append((asked, archs, population, oracle.begin(archs, population)))
        if not open_:
            return
        asked, archs, population, finish = open_.popleft()
        verdicts = finish()
        found = _findings(archs, verdicts, objectives)
        costs = oracle.costs(population)
        params, flops = costs.params.tolist(), costs.flops.tolist()
        measured = _measured(population, limits, quantities)
        strategy.tell(
            [
                (candidate.id, _told(each, sign, objectives))
                for candidate, each in zip(asked, found, strict=True)
            ]
        )
        seconds = (time.perf_counter() - began) / len(asked)
        for place, arch in enumerate(archs):
            each = found[place]
            score = each[0] if isinstance(each, tuple) else None
            if score is not None and (best is None or sign * score > sign * best):
                best = score
            measures = {name: values[place] for name, values in measured.items()}
            if objectives is not None and isinstance(each, tuple):
                measures |= dict(zip(objectives.names, each, strict=True))
            yield Trial(
                number=number,
                arch=arch,
                text=oracle.text(arch),
                score=score,
                error=each if isinstance(each, str) else None,
                seconds=seconds,
                cached=verdicts[place].cached,
                params=params[place],
                flops=flops[place],
                best=best,
                measures=measures,
            )
            number += 1


def _findings(
    archs: list[Arch], verdicts: list[Verdict], objectives: Objectives | None
) -> list[tuple[float, ...] | str]:
    """Return, for each architecture, its score or the value of each objective, or why not."""
    if objectives is not None:
        return objectives.values(archs, verdicts)
    return [(each.value,) if isinstance(each, Score) else each.reason for each in verdicts]


def _told(
    found: tuple[float, ...] | str, sign: int, objectives: Objectives | None
) -> float | tuple[float, ...] | None:
    """Return what a strategy is told: more is better, None is a failure."""
    if isinstance(found, str):
        return None
    return sign * found[0] if objectives is None else objectives.signed(found)


def _measured(
    population: Population, limits: CostLimits | None, quantities: Quantities | None
) -> dict[str, list[float]]:
    """Return the limited costs that a trial does not hold anyway, by name."""
    if limits is None or quantities is None:
        return {}
    names = [name for name in limits.names if name not in COUNTED]
    return {name: quantities.of(name, population).tolist() for name in names}


class Searcher:
    """A search: what to search, how to judge, how to propose, how long.

    ``Searcher(space="nats_tss", proxy="meco", strategy="evolution", budget=500).run()``

    Running it twice gives the same result twice. With a cache file, running it again after it was
    killed gives the result of an uninterrupted run, and scores at most one batch again.

    Attributes:
        space: Where the search happens.
        replaced: What is done in place of what was asked, for a person; None is what was asked.
        conditions: All that a score depends on beside the architecture and the proxy.
        settings: All that the search was asked for, ready for JSON.
    """

    def __init__(
        self,
        *,
        space: str | Space = "nats_tss",
        proxy: AnyProxy | None = None,
        oracle: AnyProxy | None = None,
        strategy: str | StrategyInfo | StrategyFactory | Strategy = "evolution",
        strategy_options: Mapping[str, Any] | None = None,
        budget: int = 500,
        seed: int = 0,
        batch: int = BATCH,
        cache: str | os.PathLike[str] | None = None,
        num_classes: int = 10,
        resolution: int = 32,
        repeats: int = 1,
        images: str | None = None,
        minibatch: int = 64,
        device: str = "cpu",
        dtype: Literal["float32", "float64"] = "float32",
        tie_break: AnyProxy | None = None,
        direction: Direction = "maximise",
        exhaustive: Literal["never", "when_cheaper"] = "never",
        constraints: Mapping[str, object] | None = None,
        objectives: Sequence[str] | None = None,
        latency: str | Latency | None = None,
        ahead: int = 0,
        workers: int = 0,
        executor: str = DEFAULT_EXECUTOR,
        executor_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Check everything; nothing is scored and no file is made yet.

        Args:
            space: A name of ``nas.SPACES`` or of a plugin, the ``"FILE.yaml"`` of a space of your
                own, ``"package.module:SPACE"``, or a space.
            proxy: A name, options behind a colon (``"meco:hooks=reference"``), or a callable of
                your own (:class:`nas.chunks.OwnProxy`).
            oracle: The same, for what is no proxy in the narrow sense: a fitted
                :class:`nas.predictor.Predictor`. One of the two; by default ``proxy="meco"``.
            strategy: A name of ``nas.STRATEGIES``, or an entry of it; a class or function called
                as ``strategy(space, seed=..., **strategy_options)``; or a fresh strategy object,
                which serves one run.
            strategy_options: Settings of the strategy; what is left out keeps its default.
            budget: Number of architectures to ask about.
            seed: Of the whole search; every consumer has a child of its own (``nas.seeds``).
            batch: Candidates asked at once; part of the search, see :func:`search`.
            cache: File of the score cache; by default scores live in memory only.
            num_classes: Width of the classifier.
            resolution: Height and width of the input in pixels.
            repeats: Seeds of weights and input to average a score over.
            images: Images to score on; by default random ones.
            minibatch: Images at a time, for proxies that read more than one.
            device: Where torch computes, ``"cpu"`` or ``"cuda"``.
            dtype: In which torch computes.
            tie_break: A second proxy for equal scores, see :meth:`nas.oracle.Oracle.rank`.
            direction: ``"maximise"`` or ``"minimise"`` the proxy's value.
            exhaustive: ``"when_cheaper"``: rank the whole space instead, where that takes less time
                than the budget would take with networks run one by one
                (:meth:`nas.proxies.base.ProxySpec.gain`). Budget and strategy are then replaced.
            constraints: Limits that nothing outside of is scored: ``{"params": "<= 1.0e6"}``
                (:mod:`nas.limits`).
            objectives: Several things to search for, ``["score", "-latency_ms"]``; the result is
                then a front of trade-offs (:mod:`nas.objectives`).
            latency: Where latencies come from: ``"measure"``, a table's ``"FILE.csv:COLUMN"``, the
                ``"FILE.yaml"`` of a look-up table, or an object of :class:`nas.hardware.Latency`.
            ahead: Batches asked before the first of them is told, so that workers need not wait for
                each other; part of the search, as ``batch`` is.
            workers: How many processes score; 0 is this one. The result does not depend on it.
            executor: Who they are: a name of :data:`nas.workers.EXECUTORS`, or ``ray://HOST:PORT``.
            executor_options: Settings of the executor, such as ``{"chunk_seconds": 60}``.

        Raises:
            NasError: A setting that cannot be.
            Unsatisfiable: Nothing within the limits was found.

        Warns:
            DirectionWarning: The proxy is known to be the other way round on this space.
        """
        settings: dict[str, int] = {"budget": budget, "batch": batch, "repeats": repeats}
        settings |= {"num_classes": num_classes, "resolution": resolution}
        for name, value in settings.items():
            _check_integer(name, value, at_least=1)
        _check_integer("minibatch", minibatch, at_least=2)
        _check_integer("seed", seed, at_least=0)
        _check_integer("ahead", ahead, at_least=0)
        self._ahead = ahead
        self._workers = partial(make_workers, workers, executor, executor_options, device=device)
        self._workers()  # what cannot be is told now
        self.space = find_space(space) if isinstance(space, str) else space
        self.conditions = Conditions(
            num_classes=num_classes,
            resolution=resolution,
            seed=seed,
            repeats=repeats,
            images=images,
            minibatch=minibatch,
            dtype=dtype,
            device=device,
        )
        if proxy is not None and oracle is not None:
            raise NasError("proxy and oracle: expected one of them, got both")
        proxy = next((x for x in (proxy, oracle) if x is not None), "meco")
        self._quantities = Quantities(
            self.space, self.conditions, latency_source(latency, self.space)
        )
        self._limits = CostLimits(constraints, self._quantities) if constraints else None
        self._objectives = objectives
        self._check_objectives(direction)
        self._proxy, self._tie_break, self._direction = proxy, tie_break, direction
        if exhaustive not in ("never", "when_cheaper"):
            raise NasError(f"exhaustive: expected 'never' or 'when_cheaper', got {exhaustive!r}")
        judge = self._make_oracle(None, None)
        self.replaced: str | None = None
        if exhaustive == "when_cheaper":
            whole = _whole_if_cheaper(self.space, proxy, budget, self._limits)
            if whole is not None:
                self.replaced = (
                    f"ranking all {whole:,} distinct architectures of {self.space.name}"
                    f"{' within the limits' if self._limits else ''} by "
                    f"{judge.proxy} instead of {budget:,} by {_strategy_name(strategy)}: run "
                    "together they take less time than those would one by one"
                )
                strategy, strategy_options, budget = "exhaustive", None, whole
                batch = max(batch, EXHAUSTIVE_BATCH)
        self._strategy = strategy
        self._strategy_options = dict(strategy_options or {})
        self._strategy_used = False
        self._budget, self._batch, self._seed = budget, batch, seed
        self._cache = cache
        if isinstance(strategy, Strategy):
            self._check_strategy_object(strategy)
        else:
            self._make_strategy()  # a wrong option is told now, not at run
        self._make_objectives(judge)
        if cache is not None:
            judge.check_lasting()
        self.settings: dict[str, Any] = {
            "space": self.space.name,
            "proxy": judge.proxy,
            "direction": direction,
            "tie_break": judge.tie_break,
            "strategy": _strategy_name(strategy),
            "strategy_options": self._strategy_options,
            "budget": budget,
            "batch": batch,
            "ahead": ahead,
            "seed": seed,
            "conditions": asdict(self.conditions),
            "constraints": None if self._limits is None else list(map(str, self._limits.bounds)),
            "objectives": None if self._objectives is None else list(self._objectives),
            "latency": None if self._quantities.latency is None else self._quantities.latency.name,
        }
        advice = judge.warning()
        if advice is not None:
            warnings.warn(advice, DirectionWarning, stacklevel=2)

    def __repr__(self) -> str:
        what = self.settings
        return (
            f"<searcher: {what['budget']} trials of {what['strategy']} by {what['proxy']} "
            f"on {what['space']}>"
        )

    def run(
        self,
        on_trial: Callable[[Trial], object] | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> Result:
        """Search, and return what was found.

        Interrupting it (Ctrl-C) loses nothing that is in the cache file.

        Args:
            on_trial: Called with every trial as it comes; a finished batch brings several.
            callbacks: Hear of the search batch by batch (:mod:`nas.callbacks`).
        """
        what = f"{self.settings['proxy']} on {self.space.name}"
        log = SearchLog(callbacks, RunInfo("search", what, self.settings), self._batch)
        began = time.perf_counter()
        store = None if self._cache is None else Store(self._cache)
        latency = self._quantities.latency
        if isinstance(latency, MeasuredLatency):
            latency.cache = store
        strategy = self._make_strategy(searches=True)
        workers = self._workers()
        oracle = self._make_oracle(store, workers)
        objectives = self._make_objectives(oracle)
        kept = Kept(oracle.sign, objectives)
        try:
            for trial in search(
                strategy,
                oracle,
                budget=self._budget,
                batch=self._batch,
                objectives=objectives,
                limits=self._limits,
                quantities=self._quantities,
                ahead=self._batches_ahead(strategy, oracle),
            ):
                kept.add(trial)
                log(trial)
                if on_trial is not None:
                    on_trial(trial)
        finally:
            workers.close()
            if store is not None:
                store.close()  # a tie-break that is asked later opens it again
        result = Result(
            kept.trials,
            kept.count,
            kept.cached,
            dict(kept.failures.most_common()),
            oracle,
            time.perf_counter() - began,
            self.settings,
            objectives,
        )
        if callbacks:
            log.end(result.to_summary())
        return result

    def _check_objectives(self, direction: Direction) -> None:
        if isinstance(self._objectives, str):
            raise NasError(f"objectives: expected a list of names, got {self._objectives!r}")
        if self._objectives is not None and direction != "maximise":
            raise NasError(
                "direction: with objectives, a minus before a name is what makes less better; "
                f"got direction={direction!r}"
            )

    def _make_objectives(self, oracle: Oracle) -> Objectives | None:
        if self._objectives is None:
            return None
        by_predictor = oracle.predictor is not None
        return Objectives(self._objectives, oracle, self._quantities, by_predictor)

    def _batches_ahead(self, strategy: Strategy, oracle: Oracle) -> int:
        """Return how many batches are asked before the first is told.

        Where a strategy learns nothing, as many as keep the workers busy: it changes nothing.
        """
        if strategy.learns or not oracle.workers.count:
            return self._ahead
        wanted = 2 * oracle.workers.count * oracle.chunk_size(self._batch)
        return max(self._ahead, -(-wanted // self._batch))

    def _make_oracle(self, store: Store | None, workers: Workers | None) -> Oracle:
        return Oracle(
            self.space,
            self._proxy,
            conditions=self.conditions,
            tie_break=self._tie_break,
            direction=self._direction,
            cache=store,
            workers=workers,
        )

    def _make_strategy(self, *, searches: bool = False) -> Strategy:
        """Return a fresh strategy, within the limits and for the objectives of the search.

        Args:
            searches: It will search. Else it is made to be checked, and limits that take networks
                to be run are left to the search.
        """
        strategy = self._fresh_strategy()
        if self._objectives is not None:
            strategy.pursue(len(self._objectives))
        if self._limits is not None and (searches or self._limits.effort > SLOW_EFFORT):
            strategy.restrict(self._limits)
        return strategy

    def _fresh_strategy(self) -> Strategy:
        strategy = self._strategy
        seed = child_seed(self._seed, "search")
        if isinstance(strategy, str):
            strategy = look_up_or_load(STRATEGIES, strategy, kind="strategy", expected=StrategyInfo)
        if isinstance(strategy, StrategyInfo):
            return strategy.make(self.space, seed=seed, **self._strategy_options)
        if isinstance(strategy, Strategy):
            if self._strategy_used:
                raise NasError(
                    "strategy: an object serves one run; give its name or its class instead"
                )
            self._strategy_used = True
            return strategy
        return strategy(self.space, seed=seed, **self._strategy_options)

    def _check_strategy_object(self, strategy: Strategy) -> None:
        if strategy.space is not self.space:
            raise NasError(
                f"strategy: it searches {strategy.space.name}, the search is on {self.space.name}"
            )
        if self._strategy_options:
            raise NasError("strategy_options: a strategy object has its options already")


def _whole_if_cheaper(
    space: Space, proxy: AnyProxy, budget: int, limits: CostLimits | None
) -> int | None:
    """Return the number of distinct architectures if ranking all is cheaper than the budget."""
    gain = getattr(as_spec(proxy), "gain", None)
    if gain is None:  # what an own proxy costs is not known
        return None
    most = budget * gain(space)
    if len(space) > 10 * most:  # so many cannot be equal in function
        return None
    try:
        members = space.all()
    except NasError:  # it has no official order to walk along
        return None
    forms = np.unique(space.canonicalise(members), axis=0)
    if limits is not None:
        if limits.effort <= SLOW_EFFORT:  # to look at all of them would take longer than to search
            return None
        forms = forms[limits.excess(forms) == 0]
    distinct = len(forms)
    return distinct if budget < distinct <= most else None


def _check_integer(name: str, value: object, *, at_least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise NasError(f"{name}: expected int, got {value!r}")
    if value < at_least:
        raise NasError(f"{name}: expected at least {at_least}, got {value}")


def _strategy_name(strategy: str | StrategyInfo | StrategyFactory | Strategy) -> str:
    if isinstance(strategy, str):
        return strategy
    if isinstance(strategy, StrategyInfo):
        return strategy.name
    return str(getattr(strategy, "__qualname__", type(strategy).__qualname__))
