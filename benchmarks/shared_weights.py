"""What sharing weights costs in quality: ``python benchmarks/shared_weights.py DATA``.

MeCo ranks the same cells twice: in batches that share one seeded set of weights and one image, as
the engine does it, and one network at a time, each with weights and an image of its own. The
difference of Spearman's correlations with the test accuracy has a paired bootstrap interval.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from nas.benchmark import read_table
from nas.environment import environment
from nas.proxies import Conditions, ProxySpec, score_batch
from nas.proxies.routes import judge_one_by_one
from nas.statistics import paired_difference, spearman
from spaces import SPACES

COLUMNS = ("c10_test_200", "c100_test_200", "in16_test_200")


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="Folder with nats_tss.csv.gz.")
    parser.add_argument("--sample", type=int, default=1000, help="Cells.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "shared_weights.json"
    )
    args = parser.parse_args()
    space, spec = SPACES["nats_tss"], ProxySpec.parse("meco")
    table = read_table(args.data / "nats_tss.csv.gz", space)
    rng = np.random.default_rng(args.seed)
    rows = np.sort(rng.choice(len(table.archs), args.sample, replace=False))
    archs = [table.archs[row] for row in rows]
    together = np.asarray(score_batch(space, [spec], archs, Conditions(seed=args.seed))[0], float)
    forms = space.canonicalise(np.asarray(archs))
    alone = np.asarray(
        [
            judge_one_by_one(space, [spec], forms[[i]], Conditions(seed=args.seed + 1 + i))[0][0]
            for i in range(len(archs))
        ],
        float,
    )
    found = []
    for column in COLUMNS:
        values = table.truth(column).values[rows]
        difference = paired_difference(together, alone, values, seed=args.seed)
        found.append(
            {
                "truth": column,
                "n": len(rows),
                "shared": spearman(together, values),
                "independent": spearman(alone, values),
                "difference": [difference.value, difference.low, difference.high],
            }
        )
    result = {"rows": found, "environment": environment(device="cpu", seed=args.seed)}
    text = json.dumps(result, indent=2).replace(str(args.data), "DATA")  # no path of this machine
    args.out.write_text(text + "\n")
    for row in found:
        print(row)  # noqa: T201


if __name__ == "__main__":
    main()
