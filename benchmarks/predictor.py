"""How good predictors are: ``python benchmarks/predictor.py DATA``.

For every case, column of ``nats_tss``, number of training cells and seed: fit as ``nas fit`` does,
test on all cells of functions that were not trained on (random), and on at most 100 of them from
each of ten bands of accuracy (stratified). Beside them: *twins*, all cells but the training cells
themselves, as papers have it; and, where training cells are chosen, *common*, the cells that are
tested both then and after the random draw of the same seed. The found cell is the one of the
highest prediction among all functions of the space, trained ones included; its accuracy is held
against the best.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from nas.environment import environment
from nas.fitting import Data, fit, read_data
from nas.predictor.protocol import split_by_function
from nas.recipe.fit import FitRecipe, load_fit_recipe
from nas.statistics import kendall
from nas.store import Store

HERE = Path(__file__).resolve().parent
CASES = {
    "tss_accuracy": ("tss_accuracy", []),
    "active": ("tss_accuracy", ["choose={name: active, best: 0.25}"]),
    "spread": ("tss_accuracy", ["choose={name: active, best: 0}"]),
    "green_factory": ("green_factory", []),
}
COLUMNS = ("c10_test_200", "c100_test_200", "in16_test_200")
SIZES = (64, 128, 256, 1024, 4000)


def below_best(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Return how far the cell of the highest prediction is below the best one."""
    best = np.flatnonzero(predicted == predicted.max())
    return float(truth.max() - truth[best].mean())


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="Folder with nats_tss.csv.gz.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--cases", nargs="+", default=list(CASES))
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path("predictor_scores.sqlite"))
    parser.add_argument("--out", type=Path, default=HERE / "results" / "predictor.json")
    args = parser.parse_args()
    rows = json.loads(args.out.read_text())["rows"] if args.out.exists() else []
    for name in args.cases:
        recipe_name, settings = CASES[name]
        path = HERE.parent / "recipes" / "fit" / f"{recipe_name}.yaml"
        rows = [row for row in rows if row["recipe"] != name or row["n"] not in args.sizes]
        for column in COLUMNS:
            truth = f"truth={args.data / 'nats_tss.csv.gz'}:{column}"
            with Store(args.cache) as store:
                data = read_data(load_fit_recipe(path, [truth]), store)
            for n in args.sizes:
                rows.append({"recipe": name, "column": column, "n": n, "seeds": []})
                for seed in range(args.first_seed, args.first_seed + args.seeds):
                    own = [truth, f"train={n}", f"seed={seed}", *settings]
                    rows[-1]["seeds"].append(measured(load_fit_recipe(path, own), data))
                print(line(rows[-1]), flush=True)  # noqa: T201
                result = {"rows": rows, "environment": environment(device="cpu", seed=0)}
                text = json.dumps(result, indent=1).replace(str(args.data), "DATA")
                text = text.replace(str(args.cache), args.cache.name)  # no path of this machine
                args.out.write_text(text + "\n")


def measured(recipe: FitRecipe, data: Data) -> dict[str, Any]:
    """Fit once; return the held-out figures and what else is asked here."""
    began = time.perf_counter()
    predictor, split = fit(recipe, data)
    seconds = time.perf_counter() - began
    filled = np.where(np.isfinite(data.inputs), data.inputs, predictor.fill)
    predicted = predictor.of_inputs(filled)[0]
    truth = np.asarray(data.truth.values)
    found: dict[str, Any] = dict(predictor.about["held_out"])
    found["found"] = below_best(truth, predicted)
    found["seconds"] = seconds
    others = np.setdiff1d(np.arange(len(truth)), split.train)
    found["twins"] = {"kendall": kendall(predicted[others], truth[others])}
    if recipe.choose.name != "random":
        assert isinstance(recipe.train, int)
        drawn = split_by_function(data.functions, recipe.train, recipe.seed)
        both = np.intersect1d(split.test, drawn.test)
        found["common"] = {"kendall": kendall(predicted[both], truth[both]), "n": len(both)}
    return found


def line(row: dict[str, object]) -> str:
    """Return one row for a person."""
    seeds = row["seeds"]
    assert isinstance(seeds, list)

    def mean(kind: str, key: str) -> float:
        return float(np.mean([seed[kind][key] for seed in seeds]))

    inside = np.mean([seed["random"]["coverage"]["overall"] for seed in seeds])
    common = mean("common", "kendall") if "common" in seeds[0] else np.nan
    return (
        f"{row['recipe']} {row['column']} n={row['n']}: tau {mean('random', 'kendall'):.3f} "
        f"mae {mean('random', 'mae'):.3f} top {mean('random', 'kendall_best_tenth'):.3f} "
        f"stratified {mean('stratified', 'kendall'):.3f} twins {mean('twins', 'kendall'):.3f} "
        f"common {common:.3f} inside {inside:.3f} "
        f"found {np.round([seed['found'] for seed in seeds], 2).tolist()}"
    )


if __name__ == "__main__":
    main()
