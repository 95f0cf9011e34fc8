"""How good predictors are: ``python benchmarks/predictor.py DATA``.

For every recipe, column of ``nats_tss``, number of training cells and seed: fit as ``nas fit``
does, test on all cells of functions that were not trained on (random), and on at most 100 of them
from each of ten bands of accuracy (stratified). The found cell is the one of the highest prediction
among all functions of the space, trained ones included; its accuracy is held against the best.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from nas.environment import environment
from nas.fitting import Data, fit, load_fit_recipe, read_data
from nas.store import Store

HERE = Path(__file__).resolve().parent
RECIPES = {"gaussian_process": "tss_accuracy", "green_factory": "green_factory"}
COLUMNS = ("c10_test_200", "c100_test_200", "in16_test_200")
SIZES = (64, 128, 256, 1024, 4000)


def found(data: Data, filled: np.ndarray, predicted: np.ndarray) -> float:
    """Return how far the cell of the highest prediction is below the best one."""
    best = np.flatnonzero(predicted == predicted.max())
    values = np.asarray(data.truth.values)
    return float(values.max() - values[best].mean())


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="Folder with nats_tss.csv.gz.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES))
    parser.add_argument("--cache", type=Path, default=Path("predictor_scores.sqlite"))
    parser.add_argument("--out", type=Path, default=HERE / "results" / "predictor.json")
    args = parser.parse_args()
    rows = json.loads(args.out.read_text())["rows"] if args.out.exists() else []
    for name in args.recipes:
        path = HERE.parent / "recipes" / "fit" / f"{RECIPES[name]}.yaml"
        rows = [row for row in rows if row["recipe"] != name or row["n"] not in args.sizes]
        for column in COLUMNS:
            truth = f"truth={args.data / 'nats_tss.csv.gz'}:{column}"
            with Store(args.cache) as store:
                data = read_data(load_fit_recipe(path, [truth]), store)
            for n in args.sizes:
                rows.append({"recipe": name, "column": column, "n": n, "seeds": []})
                for seed in range(args.seeds):
                    recipe = load_fit_recipe(path, [truth, f"train={n}", f"seed={seed}"])
                    began = time.perf_counter()
                    predictor, _ = fit(recipe, data)
                    seconds = time.perf_counter() - began
                    filled = np.where(np.isfinite(data.inputs), data.inputs, predictor.fill)
                    held_out = predictor.about["held_out"]
                    held_out["found"] = found(data, filled, predictor.of_inputs(filled)[0])
                    held_out["seconds"] = seconds
                    rows[-1]["seeds"].append(held_out)
                print(line(rows[-1]), flush=True)  # noqa: T201
                result = {"rows": rows, "environment": environment(device="cpu", seed=0)}
                text = json.dumps(result, indent=1).replace(str(args.data), "DATA")
                text = text.replace(str(args.cache), args.cache.name)  # no path of this machine
                args.out.write_text(text + "\n")


def line(row: dict[str, object]) -> str:
    """Return one row for a person."""
    seeds = row["seeds"]
    assert isinstance(seeds, list)

    def mean(kind: str, key: str) -> float:
        return float(np.mean([seed[kind][key] for seed in seeds]))

    inside = np.mean([seed["random"]["coverage"]["overall"] for seed in seeds])
    return (
        f"{row['recipe']} {row['column']} n={row['n']}: tau {mean('random', 'kendall'):.3f} "
        f"mae {mean('random', 'mae'):.3f} top {mean('random', 'kendall_best_tenth'):.3f} "
        f"stratified {mean('stratified', 'kendall'):.3f} inside {inside:.3f} "
        f"found {np.round([seed['found'] for seed in seeds], 2).tolist()}"
    )


if __name__ == "__main__":
    main()
