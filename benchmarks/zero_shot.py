"""How good the label-free ensemble is: ``python benchmarks/zero_shot.py DATA``.

For every seed (of weights, image and reference sample) all of a table's architectures are scored
once by the members; every row of the result is made from those scores. The first pick is what a
search that ranks the whole table returns: ties go to fewer parameters, then to the text. Kendall's
tau is over all rows of the table, isomorphic ones included.

The kinds of members, the weight of norm growth, and how places are read off a sample were chosen on
seeds 1000 to 1011, on ``c100_test_200`` and ``class_object`` (``--choose`` prints what was looked
at); the other columns and seeds 10 to 19 are for the report. Seeds 0 to 9 were spent on a version
with ``sed`` in the place of ``entropy_flow``.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.benchmark import read_table
from nas.environment import environment
from nas.oracle import Oracle
from nas.proxies import Conditions, ProxyError, ProxySpec, score_batch
from nas.statistics import kendall
from spaces import SPACES

TABLES = {
    "nats_tss": ("nats_tss.csv.gz", ("c10_test_200", "c100_test_200", "in16_test_200")),
    "transnas_micro": ("transnas_micro.csv.gz", ("class_object", "class_scene")),
    "nasbench101": ("nasbench101_500.csv.gz", ("acc",)),
}
CHOSEN_ON = {"nats_tss": "c100_test_200", "transnas_micro": "class_object"}
BANDS = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98, 1.0)
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 1.0)
Floats = NDArray[np.float64]


class Table:
    """A table's rows by function, and how to judge scores of the functions."""

    def __init__(self, data: Path, name: str) -> None:
        """Read it."""
        file, self.columns = TABLES[name]
        self.space = SPACES[name]
        table = read_table(data / file, self.space)
        forms = self.space.canonicalise(np.asarray(table.archs))
        distinct, place = np.unique(forms, axis=0, return_inverse=True)
        self.place = place.reshape(-1)
        self.forms = [tuple(row) for row in distinct.tolist()]
        self.values = np.stack([table.truth(column).values for column in self.columns])
        rows = {arch: row for row, arch in enumerate(table.archs)}
        first = dict(reversed(list(zip(self.place.tolist(), range(len(forms)), strict=True))))
        self.rows = np.asarray([rows.get(form, first[i]) for i, form in enumerate(self.forms)])
        params = self.space.costs(distinct).params
        texts = np.asarray([self.space.to_str(form) for form in self.forms])
        self._ties = (np.unique(texts, return_inverse=True)[1], params)

    def judge(self, scores: Floats) -> dict[str, list[float]]:
        """Return tau, first pick and best of the first ten, by column."""
        order = np.lexsort((*self._ties, -np.where(np.isfinite(scores), scores, -np.inf)))
        best = self.values[:, self.rows[order[:10]]]
        return {
            "kendall": [kendall(scores[self.place], values) for values in self.values],
            "first": best[:, 0].tolist(),
            "first_ten": best.max(axis=1).tolist(),
        }


def scores_of(table: Table, seed: int) -> tuple[dict[str, Floats], Floats, Floats]:
    """Return the scores of every rule, ln q of every member, and q."""
    oracle = Oracle(table.space, "zero_shot", conditions=Conditions(seed=seed))
    assert oracle.spec is not None
    joined = oracle.join_members(table.forms)
    logs = np.log(joined.places)
    weights = np.asarray([weight for _, weight in oracle.spec.members])
    rules = {
        "zero_shot": weights @ logs,
        "without norm growth": weights[:-1] @ logs[:-1],
        "mean_rank": weights @ joined.places / weights.sum(),
    }
    for (member, _), row in zip(oracle.spec.members, joined.scores, strict=True):
        sign = member.proxy.direction(table.space)
        rules[str(member)] = np.asarray(
            [np.nan if isinstance(x, ProxyError) else sign * x for x in row]
        )
    counts = [ProxySpec.parse(name) for name in ("params", "flops")]
    counted = score_batch(table.space, counts, table.forms, Conditions())
    for spec, row in zip(counts, counted, strict=True):
        rules[spec.name] = np.asarray(row, dtype=np.float64)
    return rules, logs, joined.places


def bands(table: Table, logs: Floats) -> Iterator[dict[str, object]]:
    """Rank correlations with the truth among cells that the other three members place alike."""
    others = logs[:-1].sum(axis=0)[table.place]
    growth = logs[-1][table.place]
    known = np.flatnonzero(np.isfinite(others))
    place = np.empty(len(others))
    place[known] = (np.argsort(np.argsort(others[known], kind="stable")) + 0.5) / len(known)
    for low, high in itertools.pairwise(BANDS):
        here = known[(place[known] > low) & (place[known] <= high)]
        yield {
            "band": [low, high],
            "n": len(here),
            "norm growth": [kendall(growth[here], v[here]) for v in table.values],
            "the others": [kendall(others[here], v[here]) for v in table.values],
        }


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="Folder of the tables.")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=10)
    parser.add_argument(
        "--tables", nargs="+", default=["nats_tss", "transnas_micro", "nasbench101"]
    )
    parser.add_argument("--choose", action="store_true", help="What the choice was made on.")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "zero_shot.json"
    )
    args = parser.parse_args()
    if args.choose:
        choose(args.data)
        return
    result = json.loads(args.out.read_text()) if args.out.exists() else {}
    for name in args.tables:
        table = Table(args.data, name)
        found: dict[str, list[dict[str, list[float]]]] = {}
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            rules, logs, _ = scores_of(table, seed)
            for rule, scores in rules.items():
                found.setdefault(rule, []).append(table.judge(scores))
            if seed == args.first_seed:
                in_bands = list(bands(table, logs))
        summary = {rule: summarised(seeds) for rule, seeds in found.items()}
        result[name] = {
            "columns": table.columns,
            "rows": len(table.place),
            "functions": len(table.forms),
            "seeds": [args.first_seed, args.first_seed + args.seeds - 1],
            "best": table.values.max(axis=1).tolist(),
            "rules": summary,
            "bands_first_seed": in_bands,
        }
        show(name, table.columns, summary)
    result["environment"] = environment(device="cpu", seed=args.first_seed)
    text = json.dumps(result, indent=1).replace(str(args.data), "DATA")  # no path of this machine
    args.out.write_text(text + "\n")


def summarised(seeds: Sequence[dict[str, list[float]]]) -> dict[str, dict[str, list[float]]]:
    """Return mean, worst and standard deviation over seeds, by column."""
    summary = {}
    for key in seeds[0]:
        table = np.asarray([seed[key] for seed in seeds])
        summary[key] = {
            "mean": table.mean(axis=0).tolist(),
            "worst": table.min(axis=0).tolist(),
            "std": table.std(axis=0, ddof=min(1, len(table) - 1)).tolist(),
        }
    return summary


def show(
    name: str, columns: Sequence[str], summary: dict[str, dict[str, dict[str, list[float]]]]
) -> None:
    """Print one line per rule."""
    print(name, ", ".join(columns))  # noqa: T201
    for rule, keys in summary.items():
        parts = [
            f"{key} {' / '.join(f'{x:.3f}' for x in keys[key]['mean'])} "
            f"(worst {' / '.join(f'{x:.2f}' for x in keys[key]['worst'])})"
            for key in ("first", "first_ten", "kendall")
        ]
        print(f"  {rule:20s} {'  '.join(parts)}", flush=True)  # noqa: T201


def choose(data: Path) -> None:
    """Print what the weight of norm growth was chosen on."""
    for name, column in CHOSEN_ON.items():
        table = Table(data, name)
        at = table.columns.index(column)
        found: dict[float, list[list[float]]] = {}
        for seed in range(1000, 1012):
            _, logs, _ = scores_of(table, seed)
            for weight in WEIGHTS:
                judged = table.judge(logs[:-1].sum(axis=0) + weight * logs[-1])
                found.setdefault(weight, []).append([rows[at] for rows in judged.values()])
        for weight, rows in found.items():
            tau, first, ten = np.asarray(rows).mean(axis=0)
            print(f"{column} {weight:.1f}: tau {tau:.3f} first {first:.2f} ten {ten:.2f}")  # noqa: T201


if __name__ == "__main__":
    main()
