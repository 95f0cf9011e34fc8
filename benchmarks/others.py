"""Other people's code and ours in one run: ``python -m benchmarks.others DATA --naslib CHECKOUT``.

DATA holds nats_tss.csv.gz and cifar10_lossless_subset.npz. What is compared with has to be there
already; none of it is part of this project, and none is changed:

``--naslib``  A checkout of https://github.com/automl/NASLib, of which naslib/predictors/pruners is
    imported and nothing else: the measures of NAS-Bench-Suite-Zero, after zero-cost-nas. They judge
    our networks, with the weights and the minibatch that ours get, one network at a time. Only
    ``zen`` draws weights and noise of its own. Building a network counts in our times, not in
    theirs.
``--archai``  Archai (https://github.com/microsoft/archai) in this environment: what its regularised
    evolution costs per candidate when the objective costs nothing, against ours with the same
    population and tournament. Its own space of these cells needs the benchmark's files, so that it
    is given one of tuples.

Cells are functionally different ones, drawn by the seed and dealt to rounds. A round gives its
cells to every measure in turn: theirs, ours one network at a time, ours as ``nas`` runs it. A ratio
is that of one round; only ours asked for all at once is timed in rounds of its own, afterwards. One
thread, for parallel work is no matter of this comparison.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import math
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn

from benchmarks.overhead import run_engine, spread
from nas.benchmark import read_table
from nas.environment import environment, version
from nas.networks.weights import seed_weights
from nas.proxies import Conditions, ProxySpec, score_batch
from nas.proxies.base import Outcome
from nas.proxies.routes import judge_one_by_one, one_repeat, seeded
from nas.seeds import generator, seeded_torch
from nas.statistics import evaluate
from nas.store import Store
from searchers.evolution import Evolution
from spaces import SPACES, Arch

SPACE = SPACES["nats_tss"]

#: What both call by the same name, and what only we have.
MEASURES = (
    *("epe_nas", "fisher", "grad_norm", "grasp", "jacov", "l2_norm", "nwot", "plain", "snip"),
    *("synflow", "zen"),
)
OURS_ONLY = ("meco", "sed", "params")

#: Scores of some cells by one measure, and the seconds that they took.
Way = Callable[[str, Sequence[Arch]], tuple[list[float], float]]


def load_naslib(checkout: Path) -> types.ModuleType:
    """Import the measures of a checkout of NASLib; return its module ``predictive``.

    Its packages above them import much else, so bare ones stand in their place.
    """
    for name in ("naslib", "naslib.predictors"):
        package = types.ModuleType(name)
        package.__path__ = [str(checkout.joinpath(*name.split(".")))]
        sys.modules[name] = package
    pruners = "naslib.predictors.pruners"
    for file in sorted((checkout / "naslib/predictors/pruners/measures").glob("[!_]*.py")):
        importlib.import_module(f"{pruners}.measures.{file.stem}")
    return importlib.import_module(f"{pruners}.predictive")


def known_to(predictive: types.ModuleType) -> list[str]:
    """Return the measures that NASLib has, too."""
    return [name for name in MEASURES if name in predictive.measures.available_measures]


def network(arch: Arch, conditions: Conditions) -> nn.Module:
    """Return the network of a cell with the weights that ours are scored with."""
    net: Any = SPACE.build(arch, num_classes=conditions.num_classes)
    seed_weights(net, one_repeat(conditions, 0).seed)
    net.forward_before_global_avg_pool = types.MethodType(_last_maps, net)  # asked for by zen
    return cast(nn.Module, net)


def _last_maps(net: Any, images: Tensor) -> Tensor:  # noqa: ANN401 - a network of cells
    maps: Tensor = net.last(net.body(net.stem(images)))
    return maps


def naslib_way(predictive: types.ModuleType, conditions: Conditions) -> Way:
    """Return NASLib's way to judge cells; where a measure gives no number, NaN."""
    images, labels = seeded(conditions, 0).minibatch(0)
    device = torch.device("cpu")

    def judge(name: str, archs: Sequence[Arch]) -> tuple[list[float], float]:
        scores, seconds = [], 0.0
        for arch in archs:
            net = network(arch, conditions)
            with seeded_torch(conditions.seed, "others"):  # zen draws
                began = time.perf_counter()
                found = predictive.find_measures_arrays(
                    net, [(images, labels)], ("random", 1, 10), device, [name], F.cross_entropy
                )[name]
                # as its find_measures adds them up
                score = (
                    sum(float(x.detach().sum()) for x in found)
                    if isinstance(found, list)
                    else found
                )
                seconds += time.perf_counter() - began
            scores.append(float(np.real(score)))
        return scores, seconds

    return judge


def alone(conditions: Conditions) -> Way:
    """Return our way to judge cells one network at a time."""

    def judge(name: str, archs: Sequence[Arch]) -> tuple[list[float], float]:
        spec, population = ProxySpec.parse(name), np.asarray(archs)
        began = time.perf_counter()
        if spec.route(SPACE) == "data-free":
            (row,) = score_batch(SPACE, [spec], archs, conditions)
        else:
            (row,) = judge_one_by_one(SPACE, [spec], population, conditions)
        return numbers(row), time.perf_counter() - began

    return judge


def as_shipped(conditions: Conditions) -> Way:
    """Return our way to judge cells by default; several names, with ``+`` between, together."""

    def judge(name: str, archs: Sequence[Arch]) -> tuple[list[float], float]:
        specs = [ProxySpec.parse(one) for one in name.split("+")]
        began = time.perf_counter()
        rows = score_batch(SPACE, specs, list(archs), conditions)
        return numbers(rows[0]), time.perf_counter() - began

    return judge


def numbers(row: Sequence[Outcome]) -> list[float]:
    """Return scores, NaN for a failure."""
    return [math.nan if isinstance(value, Exception) else float(value) for value in row]


def run_rounds(
    ways: Mapping[str, Way], names: Sequence[str], archs: Sequence[Arch], rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Judge all cells in every way; return scores by cell and seconds by round of ``way name``.

    Args:
        ways: By name.
        names: Of measures.
        archs: The cells.
        rounds: How many parts they are dealt to.
    """
    scores: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    for name in names:  # warm-up
        for way in ways.values():
            way(name, archs[:1])
    for number, part in enumerate(np.array_split(np.arange(len(archs)), rounds)):
        for name in names:
            for label, way in ways.items():
                found, took = way(name, [archs[i] for i in part])
                scores.setdefault(f"{label} {name}", []).extend(found)
                seconds.setdefault(f"{label} {name}", []).append(took)
        sys.stderr.write(f"round {number + 1} of {rounds}\n")
    return scores, seconds


def ratios(dividend: Sequence[float], divisor: Sequence[float]) -> dict[str, float]:
    """Return how many times as long the first took, by round: median, smallest, largest."""
    return spread([a / b for a, b in zip(dividend, divisor, strict=True)])


def correlations(scores: ArrayLike, values: ArrayLike) -> dict[str, Any]:
    """Return Spearman's with its interval, and Kendall's correlation."""
    found = evaluate(scores, values)
    spearman = found["spearman"]
    return {
        "spearman": spearman.value,
        "spearman_interval": [spearman.low, spearman.high],
        "kendall": found["kendall"].value,
        "failed": int((~np.isfinite(np.asarray(scores))).sum()),
    }


def agreement(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Return the rank correlation of two scores, and the share of cells where both are alike."""
    both = np.isfinite(ours) & np.isfinite(theirs)
    a, b = np.asarray(ours)[both], np.asarray(theirs)[both]
    found = evaluate(a, b, n_boot=0)["spearman"].value
    return {"spearman": found, "same_to_a_thousandth": float(np.isclose(a, b, rtol=1e-3).mean())}


def draw(cells: int, seed: int) -> list[Arch]:
    """Return distinct functions of the space, in the order in which they were drawn."""
    functions = np.unique(SPACE.canonicalise(SPACE.all()), axis=0)
    chosen = generator(seed, "others").choice(len(functions), size=cells, replace=False)
    return [tuple(int(op) for op in functions[i]) for i in chosen]


def compare_naslib(args: argparse.Namespace) -> dict[str, Any]:
    """Return what both make of the same cells, and how long it took."""
    conditions = Conditions(
        seed=args.seed,
        minibatch=args.minibatch,
        images=str(args.data / "cifar10_lossless_subset.npz"),
    )
    predictive = load_naslib(args.naslib)
    names = known_to(predictive)
    archs = draw(args.cells, args.seed)
    truth = read_table(args.data / "nats_tss.csv.gz", SPACE).truth(args.truth)
    accuracies = np.asarray([truth.value(arch) for arch in archs], dtype=np.float64)
    ways = {"alone": alone(conditions), "shipped": as_shipped(conditions)}
    theirs = {"naslib": naslib_way(predictive, conditions)} | ways
    scores, seconds = run_rounds(theirs, names, archs, args.rounds)
    own_scores, own_seconds = run_rounds(ways, OURS_ONLY, archs, args.rounds)
    together = "+".join(names)
    _, all_seconds = run_rounds({"shipped": ways["shipped"]}, [together], archs, args.rounds)
    rows = []
    for name in names:
        took = {way: seconds[f"{way} {name}"] for way in theirs}
        rows.append(
            {
                "measure": name,
                "naslib_ms": 1000 * sum(took["naslib"]) / len(archs),
                "alone": ratios(took["naslib"], took["alone"]),
                "shipped": ratios(took["naslib"], took["shipped"]),
                "ours": correlations(scores[f"shipped {name}"], accuracies),
                "theirs": correlations(scores[f"naslib {name}"], accuracies),
                "both": agreement(scores[f"alone {name}"], scores[f"naslib {name}"]),
            }
        )
    every = np.sum([seconds[f"naslib {name}"] for name in names], axis=0).tolist()
    return {
        "rows": rows,
        "together": ratios(every, all_seconds[f"shipped {together}"]),
        "ours_only": [
            {
                "measure": name,
                "ms": 1000 * sum(own_seconds[f"shipped {name}"]) / len(archs),
                "ours": correlations(own_scores[f"shipped {name}"], accuracies),
            }
            for name in OURS_ONLY
        ],
        "cells": len(archs),
        "rounds": args.rounds,
        "minibatch": args.minibatch,
        "truth": args.truth,
    }


def run_ours(budget: int, seed: int, batch: int) -> float:
    """Return the seconds of one search by us, with the cache in a file."""
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "s.sqlite") as store:
        return run_engine(Evolution(SPACE, seed=seed), budget, batch, store)


def compare_archai(args: argparse.Namespace) -> dict[str, Any]:
    """Return the cost per candidate of both, for searches of several lengths."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # it leaves a log there
        from benchmarks import archai_search  # late: Archai is not ours to install

    SPACE.canonical(SPACE.at(0))  # builds the tables of the space, once per process
    rows = []
    for budget in args.budgets:
        archai_search.run(50, 0), run_ours(50, 0, 1)  # warm-up
        theirs, one, many, counts = [], [], [], []
        for number in range(1, args.runs + 1):
            seconds, count = archai_search.run(budget, number)
            counts.append(count)
            theirs.append(1e6 * seconds / count)
            one.append(1e6 * run_ours(count, number, 1) / count)
            many.append(1e6 * run_ours(count, number, 32) / count)
        rows.append(
            {
                "budget": budget,
                "evaluated": statistics.median(counts),
                "archai_us": spread(theirs),
                "ours_us": spread(one),
                "ours_batched_us": spread(many),
                "ratio": ratios(theirs, one),
                "ratio_batched": ratios(theirs, many),
            }
        )
    return {"rows": rows, "runs": args.runs, "archai": version("archai")}


def main() -> None:
    """Measure what was asked for, and write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--naslib", type=Path, help="a checkout of NASLib; needs DATA, too")
    parser.add_argument("--archai", action="store_true", help="compare with Archai's evolution")
    parser.add_argument("--cells", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minibatch", type=int, default=32)
    parser.add_argument("--truth", default="c10_test_200", help="column of nats_tss.csv.gz")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=int, default=5, help="searches of each length")
    parser.add_argument("--budgets", type=int, nargs="+", default=[100, 300])
    parser.add_argument("--json", type=Path, help="where to; what it holds of the other part stays")
    args = parser.parse_args()
    if args.naslib and not args.data:
        parser.error("--naslib: DATA is missing, the folder with the tables")
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    if args.json is not None and args.json.is_file():
        found = json.loads(args.json.read_text())
    about = environment(seed=args.seed)
    del about["command"]  # it names folders of this machine
    if args.naslib:
        found["naslib"] = compare_naslib(args) | {"environment": about}
    if args.archai:
        found["archai"] = compare_archai(args) | {"environment": about}
    text = json.dumps(found, indent=1) + "\n"
    sys.stdout.write(text) if args.json is None else args.json.write_text(text)


if __name__ == "__main__":
    main()
