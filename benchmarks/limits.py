"""How soon a tight limit is met, and an impossible one refused: ``python benchmarks/limits.py``.

For every space, limits that 0.1 % of 20,000 random draws satisfy: few parameters, many parameters,
few FLOPs. *Looks* are architectures whose cost the strategy compared with the limit until it had
its first candidate, those of the check that the limit can be met at all included. A limit that
nothing satisfies is one of ten parameters, and one of ten bytes of memory, for which every look
takes a run of a network on shapes.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from nas import Conditions
from nas.environment import environment
from nas.limits import CostLimits
from nas.quantities import Quantities
from searchers import Unsatisfiable, make_strategy
from spaces import SPACES, Space

SHARE = 0.001


def looks(space: Space, constraints: dict[str, str], seeds: int) -> dict[str, Any]:
    """Return how many architectures evolution looked at before its first candidate."""
    limits = CostLimits(constraints, Quantities(space, Conditions(), None))
    found, seconds = [], []
    for seed in range(seeds):
        began = time.perf_counter()
        strategy = make_strategy("evolution", space, seed)
        strategy.restrict(limits)
        (candidate,) = strategy.ask(1)
        seconds.append(time.perf_counter() - began)
        assert limits.excess(np.asarray([candidate.arch]))[0] == 0
        found.append(strategy.n_looked_at)
    return {"limit": str(limits), "looks": found, "seconds": seconds}


def refusal(space: Space, quantity: str, bound: float) -> dict[str, Any]:
    """Return seconds and looks until a limit that nothing satisfies is refused."""
    limits = CostLimits({quantity: bound}, Quantities(space, Conditions(), None))
    strategy = make_strategy("evolution", space, 0)
    began = time.perf_counter()
    try:
        strategy.restrict(limits)
    except Unsatisfiable:
        return {"seconds": time.perf_counter() - began, "looks": strategy.n_looked_at}
    raise AssertionError(f"{limits} is enough for nothing")


def measure(space: Space, seeds: int) -> dict[str, Any]:
    """Measure one space."""
    drawn = space.canonicalise(space.sample_many(20_000, np.random.default_rng(0)))
    costs = space.costs(drawn)
    tight = [
        {"params": f"<= {np.quantile(costs.params, SHARE):.0f}"},
        {"params": f">= {np.quantile(costs.params, 1 - SHARE):.0f}"},
        {"flops": f"<= {np.quantile(costs.flops, SHARE):.0f}"},
    ]
    rows = []
    for constraints in tight:
        limits = CostLimits(constraints, Quantities(space, Conditions(), None))
        share = float((limits.excess(drawn) == 0).mean())
        rows.append({"share": share, **looks(space, constraints, seeds)})
    return {
        "space": space.name,
        "rows": rows,
        "refused": refusal(space, "params", 10),
        "refused_memory": refusal(space, "memory_mb", 1e-5),
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="+", default=list(SPACES), help="just these spaces")
    args = parser.parse_args()
    found = [measure(SPACES[name], args.seeds) for name in args.only]
    text = json.dumps({"spaces": found, "environment": environment(seed=0)}, indent=1)
    if args.json is None:
        parser.exit(0, text + "\n")
    args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
