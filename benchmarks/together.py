"""What proxies cost against one training step: ``python benchmarks/together.py``.

The unit is one plain forward and backward pass of a minibatch of the same size through the same
networks of ``nats_tss``, with one torch thread or with all, whichever is faster. Every proxy is
timed alone, the thirteen of NAS-Bench-Suite-Zero also together. All is timed in one run: rounds
over all of it alternate, and a ratio is that of one round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from nas.environment import environment
from nas.proxies import PROXIES, Conditions, ProxySpec, score_batch
from spaces import SPACES, Arch

THIRTEEN = (
    *("epe_nas", "fisher", "flops", "grad_norm", "grasp", "jacov", "l2_norm"),
    *("nwot", "params", "plain", "snip", "synflow", "zen"),
)
SPACE = SPACES["nats_tss"]


def training_step_seconds(archs: list[Arch], conditions: Conditions) -> float:
    """Return the seconds of one forward and backward pass per network."""
    rng = torch.Generator().manual_seed(0)
    images = torch.randn(conditions.minibatch, 3, 32, 32, generator=rng)
    labels = torch.randint(10, (conditions.minibatch,), generator=rng)
    nets = [SPACE.build(arch) for arch in archs]
    default = torch.get_num_threads()
    means = []
    try:
        for threads in sorted({1, default}):
            torch.set_num_threads(threads)
            began = time.perf_counter()
            for net in nets:
                F.cross_entropy(net(images), labels).backward()
            means.append((time.perf_counter() - began) / len(nets))
    finally:
        torch.set_num_threads(default)
    return min(means)


def seconds(names: tuple[str, ...], archs: list[Arch], conditions: Conditions) -> float:
    """Return the seconds per network of some proxies that are asked together."""
    specs = [ProxySpec.parse(name) for name in names]
    began = time.perf_counter()
    score_batch(SPACE, specs, archs, conditions)
    return (time.perf_counter() - began) / len(archs)


def main() -> None:
    """Measure, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sample", type=int, default=8, help="networks")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    archs = [SPACE.canonical(SPACE.sample(rng)) for _ in range(options.sample)]
    conditions = Conditions()
    asked = {name: (name,) for name in PROXIES} | {"the thirteen together": THIRTEEN}
    ratios: dict[str, list[float]] = {name: [] for name in asked}
    units = []
    training_step_seconds(archs[:1], conditions)  # warm-up
    for names in asked.values():
        seconds(names, archs[:1], conditions)
    for _ in range(options.rounds):
        units.append(training_step_seconds(archs, conditions))
        for name, names in asked.items():
            ratios[name].append(seconds(names, archs, conditions) / units[-1])
    rows = []
    for name, names in asked.items():
        route = "mixed" if len(names) > 1 else ProxySpec.parse(name).route(SPACE)
        median = statistics.median(ratios[name])
        rows.append({"what": name, "route": route, "ratios": ratios[name], "median": median})
        spread = f"{min(ratios[name]):.3f} to {max(ratios[name]):.3f}"
        sys.stdout.write(f"{name}: {median:.3f} ({spread}), {route}\n")
    apart = sum(statistics.median(ratios[name]) for name in THIRTEEN)
    sys.stdout.write(f"the thirteen one after the other: {apart:.2f}\n")
    if options.json is not None:
        result = {
            "rows": rows,
            "apart": apart,
            "step_seconds": units,
            "sample": options.sample,
            "rounds": options.rounds,
            "minibatch": conditions.minibatch,
            "environment": environment(seed=0),
        }
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
