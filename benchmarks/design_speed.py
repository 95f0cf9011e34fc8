"""Formulas per second: ``python benchmarks/design_speed.py STATISTICS DATA``.

DATA holds nats_tss.csv.gz; STATISTICS is a folder in which ``nas design`` keeps what it measured
(what is missing is measured first, and not timed). 500 architectures, every role, the truth of one
and of three data sets; islands of 300 in as many processes as asked for. Timed are whole
generations after the first epoch: breeding, evaluation, Kendall's tau and survival.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from nas.benchmark.table import parse_truths
from nas.design.archive import Archive
from nas.design.atoms import ROLES
from nas.design.evolution import Individual, Settings, epoch_of
from nas.design.judging import Judge, Panel
from nas.design.layers import Layers
from nas.design.measure import measure_population
from nas.environment import environment
from nas.proxies import Conditions
from nas.seeds import generator
from spaces import SPACES

HERE = Path(__file__).resolve().parent
COLUMNS = ("c10_test_200", "c100_test_200", "in16_test_200")
ARCHITECTURES = 500


def rate(
    sample: dict[str, Layers], truths: np.ndarray, seed: int, epochs: int
) -> tuple[int, float]:
    """Return formulas judged and seconds of some epochs of one island, the first left out."""
    panels = [
        Panel(str(k), "random", "tss", np.arange(len(truth)), truth)
        for k, truth in enumerate(truths)
    ]
    judge = Judge({"tss": sample}, panels)
    settings = Settings(population=300, generations=20, islands=1)
    population: list[Individual] = []
    began, before = 0.0, 0
    for epoch in range(1 + epochs):
        if epoch == 1:
            began, before = time.perf_counter(), judge.asked
        population = epoch_of(settings, judge, seed, epoch, 0, population, stale=False)
    return judge.asked - before, time.perf_counter() - began


def main() -> None:
    """Measure, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("statistics", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "design_speed.json")
    args = parser.parse_args()
    space = SPACES["nats_tss"]
    truths = parse_truths(f"{args.data / 'nats_tss.csv.gz'}:{','.join(COLUMNS)}", space)
    forms = np.unique(space.canonicalise(np.asarray(truths[0].archs)), axis=0)
    drawn = generator(0, "speed").permutation(len(forms))[: ARCHITECTURES + 1]
    archs = [tuple(row) for row in forms[drawn].tolist() if any(row)][:ARCHITECTURES]
    with Archive(args.statistics, space, Conditions(), list(ROLES)) as archive:
        archive.add(archs, measure_population)
        sample = archive.sample(archs)
    values = np.asarray([[truth.value(arch) for arch in archs] for truth in truths])
    rows: list[dict[str, Any]] = []
    pool = ProcessPoolExecutor(args.workers, mp_context=multiprocessing.get_context("spawn"))
    with pool:
        list(pool.map(abs, range(args.workers)))  # processes start before the clock does
        for columns in (1, 3):
            rates = []
            for repeat in range(args.repeats):
                seeds = range(repeat * args.workers, (repeat + 1) * args.workers)
                some = [
                    pool.submit(rate, sample, values[:columns], seed, args.epochs) for seed in seeds
                ]
                found = [one.result() for one in some]
                rates.append(sum(count / seconds for count, seconds in found))
            rows.append({"columns": columns, "per_second": rates})
            sys.stdout.write(f"{columns} columns: {np.round(rates)} formulas per second\n")
    told = environment(device="cpu", seed=0)
    told["command"] = ["design_speed.py", "STATISTICS", "DATA"]
    result = {"architectures": ARCHITECTURES, "workers": args.workers, "rows": rows}
    result["places"] = {role: len(layers.counts) for role, layers in sample.items()}
    args.out.write_text(json.dumps({**result, "environment": told}, indent=1) + "\n")


if __name__ == "__main__":
    main()
