"""What the engine and the strategies cost per architecture when scoring is free.

Two bars: under 50 microseconds for random search and evolution; for TPE, that of Optuna's own
in-memory ask and tell plus 10 %. Prints one JSON record::

    python benchmarks/overhead.py [--runs 7] [--budget 2000] [--tpe-budget 300]

Every figure is the median over runs of microseconds per architecture, with the smallest and the
largest. ``engine`` runs search, oracle, strategy and an in-memory cache; ``engine_file`` has the
cache in a file. TPE and bare Optuna alternate in one process and are compared per Optuna trial,
because our TPE asks Optuna again when it proposes what is known; ``per_arch`` is beside it.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna

from nas.engine import BATCH, search
from nas.oracle import Cache, Oracle
from nas.proxies.base import Conditions
from nas.store import Store
from searchers import STRATEGIES
from searchers.base import Strategy
from searchers.tpe import TpeOptions
from spaces import SPACES
from spaces.base import Arch, Space

BAR_MICROSECONDS = 50.0
BAR_RATIO = 1.10


class Free:
    """A proxy that costs next to nothing: how often the fourth operation is chosen."""

    name = "free"
    revision = 1

    def __call__(self, space: Space, archs: Sequence[Arch], conditions: Conditions) -> list[float]:
        return [float(arch.count(3)) for arch in archs]


def run_engine(strategy: Strategy, budget: int, batch: int, cache: Cache | None = None) -> float:
    """Return the seconds of one search."""
    oracle = Oracle(strategy.space, Free(), cache=cache)
    began = time.perf_counter()
    done = sum(1 for _ in search(strategy, oracle, budget=budget, batch=batch))
    seconds = time.perf_counter() - began
    assert done == budget, (done, budget)
    return seconds


def run_optuna(space: Space, budget: int, batch: int, seed: int) -> float:
    """Return the seconds of Optuna's own ask and tell with the settings of our TPE."""
    options = TpeOptions()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=options.startup,
            n_ei_candidates=options.draws,
            multivariate=True,
            constant_liar=True,
        )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    distributions: dict[str, optuna.distributions.BaseDistribution] = {
        str(i): optuna.distributions.CategoricalDistribution(range(size))
        for i, size in enumerate(space.dimensions)
    }
    free, conditions = Free(), Conditions()
    began = time.perf_counter()
    left = budget
    while left:
        trials = [study.ask(distributions) for _ in range(min(batch, left))]
        left -= len(trials)
        archs = [tuple(trial.params.values()) for trial in trials]
        for trial, score in zip(trials, free(space, archs, conditions), strict=True):
            study.tell(trial, score)
    return time.perf_counter() - began


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, smallest and largest."""
    return {
        "median": round(statistics.median(values), 2),
        "min": round(min(values), 2),
        "max": round(max(values), 2),
    }


def measure(run: Callable[[int], float], runs: int, budget: int) -> dict[str, float]:
    """Return microseconds per architecture over ``runs`` runs, one more before them to warm up."""
    run(-1)
    return spread([run(number) / budget * 1e6 for number in range(runs)])


def measure_strategy(space: Space, name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return the cost of a strategy and the engine around it."""

    def make(number: int) -> Strategy:
        return STRATEGIES[name].make(space, seed=number + 1)

    def in_file(number: int) -> float:
        with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "s.sqlite") as store:
            return run_engine(make(number), args.budget, args.batch, store)

    engine = measure(
        lambda number: run_engine(make(number), args.budget, args.batch), args.runs, args.budget
    )
    return {
        "engine": engine,
        "engine_file": measure(in_file, args.runs, args.budget),
        "met": engine["median"] < BAR_MICROSECONDS,
    }


def measure_tpe(space: Space, args: argparse.Namespace) -> dict[str, Any]:
    """Return the cost of our TPE beside that of bare Optuna, run in turns."""
    per_arch: list[float] = []
    per_trial: list[float] = []
    bare: list[float] = []
    trials: list[int] = []
    budget = args.tpe_budget
    for number in range(-1, args.runs):
        strategy = STRATEGIES["tpe"].make(space, seed=number + 1)
        ours = run_engine(strategy, budget, args.batch)
        n_trials = len(strategy._study.trials)  # type: ignore[attr-defined]
        # as many trials, for a trial costs more the more there are
        theirs = run_optuna(space, n_trials, args.batch, number + 1)
        if number >= 0:  # the first pair warms up
            per_arch.append(ours / budget * 1e6)
            per_trial.append(ours / n_trials * 1e6)
            bare.append(theirs / n_trials * 1e6)
            trials.append(n_trials)
    ratio = spread([a / b for a, b in zip(per_trial, bare, strict=True)])
    return {
        "per_arch": spread(per_arch),
        "per_optuna_trial": spread(per_trial),
        "bare_optuna": spread(bare),
        "optuna_trials": spread([float(n) for n in trials]),
        "ratio": ratio,
        "met": ratio["median"] <= BAR_RATIO,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--space", default="nats_tss", choices=sorted(SPACES))
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--budget", type=int, default=2000)
    parser.add_argument("--tpe-budget", type=int, default=300)
    parser.add_argument("--batch", type=int, default=BATCH)
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = SPACES[args.space]
    space.canonical(space.at(0))  # builds the tables of the space, once per process
    record = {
        "what": "microseconds per architecture with a free oracle",
        "settings": vars(args),
        "bars": {"microseconds": BAR_MICROSECONDS, "tpe_ratio": BAR_RATIO},
        "strategies": {
            name: measure_strategy(space, name, args)
            for name in ("random", "evolution", "local_search", "exhaustive")
        },
        "tpe": measure_tpe(space, args),
        "environment": {
            "device": "cpu",
            "machine": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "numpy": importlib.metadata.version("numpy"),
            "optuna": importlib.metadata.version("optuna"),
            "system": platform.system(),
        },
    }
    json.dump(record, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
