"""How well a latency look-up table does on a whole space: ``python benchmarks/lookup.py DATA``.

Latencies that HW-NAS-Bench measured of the topology space stand in for a device: a table is fitted
to a sample of distinct functions, as ``nas latency --fit`` does, and compared with all the others.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from nas import Conditions
from nas.environment import environment
from nas.hardware import TableLatency
from nas.hardware.latency import MeasureOptions
from nas.hardware.lookup import fit_to
from nas.seeds import generator
from spaces import NATS_TSS

COLUMNS = ("edgegpu", "raspi4", "pixel3", "eyeriss", "fpga")


def measure(data: Path, device: str, sample: int, seeds: int) -> dict[str, Any]:
    """Fit to ``sample`` functions and compare with all others, for every seed."""
    source = TableLatency(f"{data / 'nats_tss_hw.csv.gz'}:c10_{device}_latency", NATS_TSS)
    forms = np.unique(NATS_TSS.canonicalise(NATS_TSS.all()), axis=0)
    times = source(NATS_TSS, forms, Conditions())
    forms, times = forms[~np.isnan(times)], times[~np.isnan(times)]
    errors = []
    for seed in range(seeds):
        order = generator(seed, "lookup").permutation(len(forms))
        fitted = fit_to(
            NATS_TSS,
            forms[order],
            times[order],
            Conditions(),
            MeasureOptions(),
            check_on=len(forms) - sample,
        )
        errors.append(fitted.error)
    return {
        "device": device,
        "sample": sample,
        "checked_on": len(forms) - sample,
        "median_percent": [error.median_percent for error in errors],
        "worst_percent": [error.worst_percent for error in errors],
        "spearman": [error.spearman for error in errors],
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--samples", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = [
        measure(args.data, device, sample, args.seeds)
        for device in COLUMNS
        for sample in args.samples
    ]
    where = environment(seed=0)
    where["command"] = ["DATA" if x == str(args.data) else x for x in where["command"]]
    text = json.dumps({"rows": rows, "environment": where}, indent=1)
    if args.json is None:
        parser.exit(0, text + "\n")
    args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
