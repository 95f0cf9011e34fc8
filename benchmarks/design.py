"""Designed proxies against the others: ``python benchmarks/design.py DATA FORMULA...``.

DATA holds nats_tss.csv.gz, nats_tss_zc.csv.gz (published proxy values), transnas_micro.csv.gz and
nasbench101_500.csv.gz; each FORMULA is a file that ``nas design tss_formula`` wrote, one per seed:

    for seed in 0 1 2 3 4; do
        nas design tss_formula "tables.nats_tss=DATA/nats_tss.csv.gz:c10_test_200,c100_test_200,\
in16_test_200" name=tss_$seed seed=$seed --out tss_$seed.yaml --statistics statistics
    done

What is compared, and on which cells:

``held_out``
    The report's rows of each seed, which its design has not seen, under a draw of weights and image
    that it has not seen: the formula, and on the same rows under the same draw the proxies that
    take milliseconds. Stratified rows are those of nas/predictor/protocol.py.
``published``
    The same rows as far as NAS-Bench-Suite-Zero published values for them: its thirteen proxies.
``transfer``
    Cells of two other spaces, of which no design saw anything: the formulas, and the proxies named.
    ``--beside FILE...`` reads scores of slow proxies from ``nas rank --json`` of the same tables.
``first``
    The cell of the whole topology space that each formula puts first.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.benchmark import read_table
from nas.benchmark.table import parse_truths
from nas.design.formula import read_formula
from nas.designing import read_tables
from nas.environment import environment
from nas.oracle import score_together
from nas.predictor.protocol import stratified
from nas.proxies import Conditions, ProxySpec
from nas.recipe import resolve_recipe_path
from nas.recipe.design import load_design_recipe
from nas.statistics import kendall
from nas.store import Store
from spaces import SPACES, Arch, Space

HERE = Path(__file__).resolve().parent
COLUMNS = ("c10_test_200", "c100_test_200", "in16_test_200")
TSS = f"nats_tss.csv.gz:{','.join(COLUMNS)}"
BESIDE: tuple[str, ...] = (
    *("zero_shot", "meco", "meco_opt", "sed", "entropy_flow", "decorrelation", "norm_growth"),
    *("params", "flops"),
)
PUBLISHED: tuple[str, ...] = (
    *("epe_nas", "fisher", "flops", "grad_norm", "grasp", "jacov", "l2_norm", "nwot"),
    *("params", "plain", "snip", "synflow", "zen"),
)
TRANSFER = (
    ("transnas_micro", "transnas_micro.csv.gz:class_object,class_scene"),
    ("nasbench101", "nasbench101_500.csv.gz:acc"),
)
TRANSFERRED = ("zero_shot", "meco", "meco_opt", "synflow", "nwot", "params", "flops")

Floats = NDArray[np.float64]


def scores_of(
    space: Space, names: Sequence[str], archs: Sequence[Arch], conditions: Conditions, cache: Store
) -> dict[str, Floats]:
    """Return scores of canonical forms by proxy; NaN where it fails."""
    forms = [tuple(row) for row in space.canonicalise(np.asarray(archs)).tolist()]
    found = {}
    for name in names:
        distinct = list(dict.fromkeys(forms))
        (row,) = score_together(space, [ProxySpec.parse(name)], distinct, conditions, cache)
        known = {
            form: score if isinstance(score, float) else np.nan
            for form, score in zip(distinct, row, strict=True)
        }
        found[name] = np.asarray([known[form] for form in forms])
        tell(f"{space.name}: {name}")
    return found


def tell(text: str) -> None:
    """Say how far it is."""
    sys.stderr.write(f"{text}\n")


def held_out(
    data: Path, files: Sequence[Path], cache: Store
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Compare on the rows of each design's report."""
    space = SPACES["nats_tss"]
    table = read_table(data / "nats_tss_zc.csv.gz", space)
    rows, published = [], []
    for file in files:
        about = read_formula(file).provenance
        assert about is not None
        overrides = [f"tables.nats_tss={data / TSS}", f"seed={about.seed}"]
        recipe = load_design_recipe(resolve_recipe_path("tss_formula", "design"), overrides)
        (found,) = read_tables(recipe)
        report = found.split.report
        archs = [found.archs[row] for row in report]
        names = [f"formula:{file}", *BESIDE]
        conditions = Conditions(seed=recipe.draws)
        scores = scores_of(space, names, archs, conditions, cache)
        for truth in found.truths:
            values = found.values(truth)
            chosen = np.searchsorted(report, stratified(report, values, recipe.seed))
            for name, score in scores.items():
                rows.append(
                    {
                        "proxy": "formula" if name.startswith("formula") else name,
                        "seed": about.seed,
                        "column": truth.column,
                        "n": len(report),
                        "random": kendall(score, values[report]),
                        "n_stratified": len(chosen),
                        "stratified": kendall(score[chosen], values[report][chosen]),
                    }
                )
            mine = next(iter(scores.values()))
            published += _published(table, archs, mine, values[report], about.seed, truth.column)
    return rows, published


def _published(
    table: Any,  # noqa: ANN401 - a table of published values
    archs: Sequence[Arch],
    mine: Floats,
    values: Floats,
    seed: int,
    column: str,
) -> list[dict[str, Any]]:
    known = {name: table.truth(f"nbsz_c10_{name}") for name in PUBLISHED}
    common = np.asarray([all(t.value(a) is not None for t in known.values()) for a in archs])
    some: list[int] = np.flatnonzero(common).tolist()
    rows = [{"proxy": "formula", "tau": kendall(mine[some], values[some])}]
    for name, truth in known.items():
        theirs = np.asarray([truth.value(archs[i]) for i in some], dtype=np.float64)
        rows.append({"proxy": name, "tau": kendall(theirs, values[some])})
    return [{**row, "seed": seed, "column": column, "n": len(some)} for row in rows]


def transfer(
    data: Path, files: Sequence[Path], cache: Store, beside: Sequence[Path]
) -> list[dict[str, Any]]:
    """Compare on the cells of other spaces."""
    known = _ranked(beside)
    rows: list[dict[str, Any]] = []
    for name, text in TRANSFER:
        space = SPACES[name]
        truths = parse_truths(str(data / text), space)
        archs = [a for a in truths[0].archs if all(t.value(a) is not None for t in truths)]
        told = {proxy for truth in truths for proxy in known.get(truth.column, {})}
        names = [*(f"formula:{file}" for file in files), *(x for x in TRANSFERRED if x not in told)]
        scores = scores_of(space, names, archs, Conditions(), cache)
        for truth in truths:
            values = np.asarray([truth.value(arch) for arch in archs], dtype=np.float64)
            best = float(values.max())
            for proxy, score in scores.items():
                rows.append(
                    {
                        "space": name,
                        "column": truth.column,
                        "n": len(values),
                        "proxy": proxy,
                        "kendall": kendall(score, values),
                        "first": float(values[score == np.nanmax(score)].mean()),
                        "best": best,
                    }
                )
                if proxy.startswith("formula"):
                    rows[-1]["proxy"] = f"formula:{Path(proxy.removeprefix('formula:')).stem}"
            for proxy, tau in known.get(truth.column, {}).items():
                row = {"space": name, "column": truth.column, "n": len(values), "proxy": proxy}
                rows.append({**row, "kendall": tau, "best": best})
    return rows


def _ranked(files: Sequence[Path]) -> dict[str, dict[str, float]]:
    """Return Kendall by column and proxy, of what ``nas rank --json`` wrote."""
    found: dict[str, dict[str, float]] = {}
    for file in files:
        content = json.loads(file.read_text())
        for report in content if isinstance(content, list) else [content]:
            column = found.setdefault(report["environment"]["truth_column"], {})
            column |= {row["proxy"]: row["kendall"] for row in report["rows"]}
    return found


def first(data: Path, files: Sequence[Path], cache: Store) -> list[dict[str, Any]]:
    """Return how good the cell is that each formula puts first, of all functions."""
    space = SPACES["nats_tss"]
    truths = parse_truths(str(data / TSS), space)
    archs = truths[0].archs
    rows = []
    for file in files:
        (score,) = scores_of(space, [f"formula:{file}"], archs, Conditions(), cache).values()
        order = np.argsort(np.where(np.isfinite(score), -score, np.inf), kind="stable")[:10]
        top = np.flatnonzero(score == np.nanmax(score))
        accuracy = [[truth.value(archs[i]) for i in order] for truth in truths]
        rows.append(
            {
                "proxy": f"formula:{file.stem}",
                "first": [float(np.mean([truth.value(archs[i]) for i in top])) for truth in truths],
                "best_of_ten": [max(x for x in row if x is not None) for row in accuracy],
                "cell": space.to_str(archs[top[0]]),
            }
        )
    return rows


def main() -> None:
    """Compare, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("formulas", type=Path, nargs="+")
    parser.add_argument("--cache", type=Path, default=Path("design_scores.sqlite"))
    parser.add_argument("--beside", type=Path, nargs="*", default=[])
    parser.add_argument("--only", default="held_out,transfer,first")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "design.json")
    args = parser.parse_args()
    parts = args.only.split(",")
    result = json.loads(args.out.read_text()) if args.out.exists() else {}
    with Store(args.cache) as cache:
        if "held_out" in parts:
            result["held_out"], result["published"] = held_out(args.data, args.formulas, cache)
        if "transfer" in parts:
            result["transfer"] = transfer(args.data, args.formulas, cache, args.beside)
        if "first" in parts:
            result["first"] = first(args.data, args.formulas, cache)
    result["designs"] = [_design(file) for file in args.formulas]
    told = environment(device="cpu", seed=0)
    told["command"] = ["design.py", "DATA", *(file.name for file in args.formulas)]
    result["environment"] = told
    args.out.write_text(json.dumps(result, indent=1) + "\n")


def _design(file: Path) -> dict[str, Any]:
    formula = read_formula(file)
    about = formula.provenance
    assert about is not None
    return {
        "name": formula.name,
        "formula": formula.formula,
        "seed": about.seed,
        "proposed": about.proposed,
        "evolution_seconds": about.evolution_seconds,
        "statistics_seconds": about.statistics_seconds,
        "train": max(candidate.train for candidate in about.front),
        "validation": about.validation,
        "energy": about.energy,
    }


if __name__ == "__main__":
    main()
