"""How far a search scales: workers, a cluster that loses a machine, and the coordinator alone.

::

    python benchmarks/scale.py [--trials 1000000] [--budget 2048] [--out FILE.json]

``local``: a search by MeCo on ``nats_tss`` with 0, 1 and 2 worker processes (ratios in one run).
``cluster``: the same on a Ray cluster of three nodes of one processor each on this machine, once
undisturbed, once with a node killed half way; its trials have to be those of the local search.
``dispatch``: chunks that cost nothing, a second, through one worker.
``coordinator``: a search that costs nothing on DARTS (10^18 architectures), with a score cache in
memory or in a file, and ``trials.csv`` written: what the coordinator manages when workers are
infinitely fast, and its memory after every tenth of the trials.
``simulation``: what follows for up to 10,000 workers. Chunks of 16 candidates, with the seconds
that they took in ``local``, go to workers through a coordinator that spends what was measured on
each candidate and each chunk. Chunk by chunk, until a million are done; 10^9 candidates by the rate
of the last half.
"""

from __future__ import annotations

import argparse
import heapq
import json
import logging
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from nas.engine import Searcher, search
from nas.environment import environment
from nas.oracle import MemoryCache, Oracle
from nas.proxies.base import Conditions
from nas.result import Result, Trial
from nas.runs.search import TrialWriter
from nas.store import Store
from nas.workers import Workers, make_workers
from searchers import STRATEGIES
from spaces import SPACES
from spaces.base import Arch, Space

BAR = 20_000
CHUNK = 16
WORKERS = (1, 10, 100, 1_000, 10_000)
CANDIDATES = 10**9


class Free:
    """A proxy that costs next to nothing."""

    name = "free"
    revision = 1

    def __call__(self, space: Space, archs: Sequence[Arch], conditions: Conditions) -> list[float]:
        return [float(sum(arch)) for arch in archs]


def run_search(budget: int, **settings: Any) -> tuple[Result, float]:  # noqa: ANN401
    """Return a random search by MeCo, and its seconds without the start of workers."""
    first: list[float] = []

    def hear(trial: Trial) -> None:
        if not first:
            first.append(time.perf_counter())

    searcher = Searcher(
        space="nats_tss", proxy="meco", strategy="random", budget=budget, batch=256, **settings
    )
    result = searcher.run(hear)
    return result, time.perf_counter() - first[0]


def local(budget: int) -> list[dict[str, Any]]:
    """Measure worker processes of this machine."""
    rows = []
    expected: list[Trial] | None = None
    for workers in (0, 1, 2):
        result, seconds = run_search(budget, workers=workers)
        expected = expected or result.trials
        rate = (budget - 256) / seconds
        rows.append({"workers": workers, "per_second": rate, "same": result.trials == expected})
    return rows


def cluster(budget: int) -> list[dict[str, Any]]:
    """Measure a Ray cluster of three nodes, and one that loses a node half way."""
    import ray
    from ray.cluster_utils import Cluster

    expected = run_search(budget)[0].trials
    rows = []
    for kill in (False, True):
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        nodes = [made.add_node(num_cpus=1) for _ in range(2)]
        ray.init(address=made.address, log_to_driver=False, logging_level=logging.ERROR)
        killed_at = None
        searcher = Searcher(
            space="nats_tss", proxy="meco", strategy="random", budget=budget, batch=256,
            workers=3, executor="ray",
        )  # fmt: skip
        began = time.perf_counter()

        def hear(trial: Trial) -> None:
            nonlocal killed_at
            if kill and killed_at is None and trial.number >= budget // 2:  # noqa: B023
                killed_at = trial.number
                made.remove_node(nodes[0], allow_graceful=False)  # noqa: B023

        result = searcher.run(hear)
        seconds = time.perf_counter() - began
        same = result.trials == expected
        rows.append(
            {
                "nodes": 3,
                "killed_after": killed_at,
                "per_second": budget / seconds,
                "same": same,
                "failed": sum(result.failures.values()),
            }
        )
        ray.shutdown()
        made.shutdown()  # type: ignore[no-untyped-call]
    return rows


def idle(chunk: list[Arch]) -> list[float]:
    """Return an answer for every architecture, at no cost."""
    return [0.0] * len(chunk)


def dispatch(executor: str, chunks: int) -> dict[str, Any]:
    """Measure what sending a chunk and receiving its answer cost."""
    arch = SPACES["darts"].sample(np.random.default_rng(0))
    work = [[arch] * CHUNK for _ in range(chunks)]
    with make_workers(1, executor) as workers:
        _drain(workers, work[:20])  # the worker has started
        began = time.perf_counter()
        own = time.process_time()
        _drain(workers, work)
        return {
            "executor": executor,
            "chunks_per_second": chunks / (time.perf_counter() - began),
            "coordinator_us_per_chunk": 1e6 * (time.process_time() - own) / chunks,
        }


def _drain(workers: Workers, work: list[list[Arch]]) -> None:
    assert sum(1 for _ in workers.start(idle, work)) == len(work)


def coordinator(
    strategy: str, trials: int, batch: int, folder: Path, in_file: bool
) -> dict[str, Any]:
    """Measure a search whose scores cost nothing, with the score cache in a file or in memory."""
    made = STRATEGIES[strategy].make(SPACES["darts"], seed=0)
    process = psutil.Process()
    marks: list[dict[str, float]] = []
    with (
        Store(folder / f"{strategy}.sqlite") as store,
        TrialWriter(folder / f"{strategy}.csv") as writer,
    ):
        cache = store if in_file else MemoryCache()
        oracle = Oracle(made.space, Free(), cache=cache, batch_size=batch)
        began = time.perf_counter()
        own = time.process_time()
        for trial in search(made, oracle, budget=trials, batch=batch):
            writer(trial)
            if (trial.number + 1) % (trials // 10) == 0:
                marks.append(
                    {
                        "trials": trial.number + 1,
                        "per_second": (trials // 10) / (time.perf_counter() - began),
                        "us_of_processor": 1e6 * (time.process_time() - own) / (trials // 10),
                        "megabytes": process.memory_info().rss / 1e6,
                        "cache_megabytes": (folder / f"{strategy}.sqlite").stat().st_size / 1e6,
                    }
                )
                began, own = time.perf_counter(), time.process_time()
    rates = sorted(mark["per_second"] for mark in marks)
    return {
        "strategy": strategy,
        "cache": "file" if in_file else "memory",
        "trials": trials,
        "batch": batch,
        "per_second": rates[len(rates) // 2],
        "slowest": rates[0],
        "marks": marks,
    }


def simulate(
    workers: int, service: Sequence[float], candidate: float, chunk: float, chunks: int
) -> dict[str, Any]:
    """Simulate chunks that go through one coordinator to many workers, and back.

    Args:
        workers: How many.
        service: Seconds that chunks took a worker; one is drawn for each.
        candidate: Seconds that the coordinator spends on a candidate.
        chunk: Seconds that it spends on a chunk beside.
        chunks: How many are simulated.
    """
    draw = random.Random(workers)
    spent = chunk + CHUNK * candidate
    free = [0.0] * workers  # when each worker is done
    now = busy = half = 0.0
    for number in range(chunks):
        ready = heapq.heappop(free)
        now = max(now, ready) + spent  # told of the last result, and sent the next chunk
        busy += spent
        if number == chunks // 2:
            half = now
        heapq.heappush(free, now + draw.choice(service))
    rate = CHUNK * (chunks - chunks // 2 - 1) / (now - half)
    return {
        "workers": workers,
        "per_second": rate,
        "coordinator_busy": busy / now,
        "hours_for_1e9": CANDIDATES / rate / 3600,
    }


def main() -> None:
    """Measure, and write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--budget", type=int, default=2048)
    parser.add_argument("--chunks", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/scale.json")
    args = parser.parse_args()
    found: dict[str, Any] = {"environment": environment(device="cpu", seed=0), "bar": BAR}
    with tempfile.TemporaryDirectory() as folder:
        found["coordinator"] = [
            coordinator(strategy, args.trials, args.batch, Path(folder), in_file)
            for in_file in (False, True)
            for strategy in ("random", "evolution")
        ]
    found["dispatch"] = [dispatch(executor, 3000) for executor in ("processes", "ray")]
    found["local"] = local(args.budget)
    found["cluster"] = cluster(args.budget)
    alone = next(row for row in found["local"] if row["workers"] == 1)
    service = [CHUNK / alone["per_second"] * share for share in (0.8, 0.9, 1.0, 1.1, 1.2)]
    slowest = min(row["per_second"] for row in found["coordinator"])  # by a file
    each = {row["executor"]: row["coordinator_us_per_chunk"] / 1e6 for row in found["dispatch"]}
    found["simulation"] = [
        {"executor": executor}
        | simulate(workers, service, 1 / slowest, each[executor], args.chunks)
        for executor in each
        for workers in WORKERS
    ]
    args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
