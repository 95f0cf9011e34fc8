"""How much of the true front a search finds: ``python benchmarks/pareto.py DATA``.

The topology space, by the accuracy that the shipped predictor ``tss_cifar10`` expects and by the
latency of HW-NAS-Bench (``nats_tss_hw.csv.gz``), ``Searcher(objectives=[...])`` with 1,000
architectures. A hypervolume is stated as a share of the true one, for two truths:

* ``searched``: predicted accuracy and tabulated latency, of everything that was scored, against all
  15,625 architectures. What the search cannot reach are cells that compute what a cheaper one
  computes: it asks for one architecture of each function, and the table measured each of them.
* ``tabulated``: *true* test accuracy after 200 epochs (mean over seeds) and latency, of the front
  that the search returns, against all 15,625. The predictor's errors are part of it.

Each above two points: the worst accuracy and latency of the whole space, and the stricter worst of
the true front.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas import Conditions, Searcher
from nas.benchmark.table import parse_truth
from nas.environment import environment
from nas.hardware import TableLatency
from nas.pareto import front_of, hypervolume
from spaces import NATS_TSS, Arch

PREDICTOR = "tss_cifar10"
Floats = NDArray[np.float64]


class Truth:
    """A true front, and what share of its hypervolume some points have."""

    def __init__(self, points: Floats) -> None:
        """Find the front of all points, ``(N, 2)``, more being better."""
        self.front = points[front_of(points)]
        self.references = {"space": points.min(axis=0), "front": self.front.min(axis=0)}

    def shares(self, points: Floats) -> dict[str, float]:
        """Return the share of the true hypervolume, above each reference point."""
        return {
            name: hypervolume(points, reference) / hypervolume(self.front, reference)
            for name, reference in self.references.items()
        }


def predictions(cache: Path) -> dict[Arch, float]:
    """Return the predicted accuracy of every function of the space; the cache keeps the scores."""
    ranked = Searcher(
        proxy=f"predicted:file={PREDICTOR}",
        strategy="exhaustive",
        budget=len(NATS_TSS),
        batch=512,
        cache=cache,
    ).run()
    return {trial.arch: trial.score for trial in ranked.trials if trial.score is not None}


def measure(data: Path, column: str, args: argparse.Namespace, cache: Path) -> dict[str, Any]:
    """Search with every strategy and seed; return the shares."""
    latency = f"{data / 'nats_tss_hw.csv.gz'}:{column}"
    members = NATS_TSS.all()
    milliseconds = TableLatency(latency, NATS_TSS)(NATS_TSS, members, Conditions())
    predicted = predictions(cache)
    forms = map(tuple, NATS_TSS.canonicalise(members).tolist())
    expected = np.asarray([predicted[form] for form in forms])
    table = parse_truth(f"{data / 'nats_tss.csv.gz'}:c10_test_200", NATS_TSS)
    accuracy = np.asarray([table.value(tuple(row)) for row in members.tolist()], dtype=np.float64)
    searched = Truth(np.stack([expected, -milliseconds], axis=1))
    tabulated = Truth(np.stack([accuracy, -milliseconds], axis=1))
    rows = []
    for strategy in args.strategies:
        for seed in range(args.seeds):
            began = time.perf_counter()
            result = Searcher(
                proxy=f"predicted:file={PREDICTOR}",
                strategy=strategy,
                budget=args.budget,
                seed=seed,
                cache=cache,
                objectives=["predicted_accuracy", "-latency_ms"],
                latency=latency,
            ).run()
            seconds = time.perf_counter() - began
            scored = [(t.score, -t.measures["latency_ms"]) for t in result.trials if t.score]
            front = [
                (table.value(found.arch), -found.measures["latency_ms"]) for found in result.front
            ]
            rows.append(
                {
                    "strategy": strategy,
                    "seed": seed,
                    "searched": searched.shares(np.asarray(scored)),
                    "tabulated": tabulated.shares(np.asarray(front, dtype=np.float64)),
                    "front": len(front),
                    "seconds": seconds,
                }
            )
    return {
        "column": column,
        "members": len(members),
        "functions": len(predicted),
        "true_front": {"searched": len(searched.front), "tabulated": len(tabulated.front)},
        "rows": rows,
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument(
        "--columns", nargs="+", default=["c10_edgegpu_latency", "c10_raspi4_latency"]
    )
    parser.add_argument("--strategies", nargs="+", default=["nsga2", "random"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budget", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "scores.sqlite"
        found = [measure(args.data, column, args, cache) for column in args.columns]
    where = environment(seed=0)
    where["command"] = ["DATA" if x == str(args.data) else x for x in where["command"]]
    text = json.dumps({"budget": args.budget, "results": found, "environment": where}, indent=1)
    if args.json is None:
        parser.exit(0, text + "\n")
    args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
