"""What a perfect predictor would score: ``python benchmarks/ceiling.py DATA``.

Labels are means over one to three trainings, so even the true expectation of every cell would not
rank them as the table does. Two estimates, on the test cells of the random split with n training
cells:

* *twins*: the spread of cells that compute the same function, by band of accuracy, is taken for
  the noise, added to the table, and the table ranked against itself. Too high: the table is spread
  wider than the truth, and twins share their seeds, so part of their noise is the same.
* *second training*: what a predictor of 4,000 cells leaves over is held against what another leaves
  of a second column. What both leave is of the cell, the rest is noise. CIFAR-10 has a second
  training (validation, half of the data); the others only have each other, so what is peculiar to
  a data set counts as noise and the estimate is low.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from nas.environment import environment
from nas.fitting import Data, fit, read_data
from nas.predictor.protocol import split_by_function
from nas.recipe.fit import load_fit_recipe
from nas.statistics import kendall
from nas.store import Store

HERE = Path(__file__).resolve().parent
SECOND = {
    "c10_test_200": "c10_val_200",
    "c100_test_200": "in16_test_200",
    "in16_test_200": "c100_test_200",
}
BANDS = 12


def by_twins(data: Data, n: int, rng: np.random.Generator) -> float:
    """Return the estimate from cells of one function."""
    truth = np.asarray(data.truth.values)
    functions = data.functions
    count = np.bincount(functions)[functions]
    mean = (np.bincount(functions, truth) / np.bincount(functions))[functions]
    edges = np.quantile(truth, np.linspace(0, 1, BANDS + 1))[1:-1]
    band, of_mean = np.digitize(truth, edges), np.digitize(mean, edges)
    several = (count > 1) & (count < 20)  # the many twins are cells that do nothing
    error = (truth - mean) * np.sqrt(count / np.maximum(count - 1, 1))
    noise = np.asarray([error[several & (of_mean == number)].std() for number in range(BANDS)])
    test = split_by_function(functions, n, 0).test
    drawn = truth + noise[band] * rng.normal(size=len(truth))
    return kendall(truth[test], drawn[test])


def left_over(data: Data) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return test rows, predictions and what they leave, of a predictor of 4,000 cells."""
    recipe = load_fit_recipe(
        HERE.parent / "recipes" / "fit" / "tss_quick.yaml", [f"train={4000}", "seed=0"]
    )
    predictor, split = fit(recipe, data)
    filled = np.where(np.isfinite(data.inputs), data.inputs, predictor.fill)
    predicted = predictor.of_inputs(filled)[0]
    return split.test, predicted, np.asarray(data.truth.values) - predicted


def by_second(first: Data, second: Data, rng: np.random.Generator) -> tuple[float, float]:
    """Return the estimate from a second column, and the Kendall that the predictor reaches."""
    test, predicted, left = left_over(first)
    _, _, other = left_over(second)
    found = []
    for _ in range(5):
        expected, drawn = predicted[test].copy(), np.empty(len(test))
        for rows in np.array_split(np.argsort(expected, kind="stable"), BANDS):
            a, b = left[test[rows]], other[test[rows]]
            # share of the cell: its part is alike in both, so cov(a, b) is its variance
            share = float(np.clip(np.cov(a, b)[0, 1] / a.var(), 0, 0.95))
            if "val" not in second.truth.column:  # another scale: correlation instead
                share = float(np.clip(np.corrcoef(a, b)[0, 1], 0, 0.95))
            draw = rng.normal(size=(2, len(rows))) * a.std()
            expected[rows] += np.sqrt(share) * draw[0]
            drawn[rows] = expected[rows] + np.sqrt(1 - share) * draw[1]
        found.append(kendall(expected, drawn))
    return float(np.mean(found)), kendall(predicted[test], np.asarray(first.truth.values)[test])


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="Folder with nats_tss.csv.gz.")
    parser.add_argument("--cache", type=Path, default=Path("predictor_scores.sqlite"))
    parser.add_argument("--out", type=Path, default=HERE / "results" / "ceiling.json")
    args = parser.parse_args()
    rng = np.random.default_rng(0)

    def read(column: str) -> Data:
        truth = f"truth={args.data / 'nats_tss.csv.gz'}:{column}"
        path = HERE.parent / "recipes" / "fit" / "tss_quick.yaml"
        with Store(args.cache) as store:
            return read_data(load_fit_recipe(path, [truth]), store)

    rows = []
    for column, second in SECOND.items():
        data = read(column)
        twins = {str(n): by_twins(data, n, rng) for n in (64, 256, 1024, 4000)}
        ceiling, reached = by_second(data, read(second), rng)
        rows.append(
            {"column": column, "twins": twins, "second": ceiling, "by": second, "reached": reached}
        )
        print(rows[-1], flush=True)  # noqa: T201
    result = {"rows": rows, "environment": environment(device="cpu", seed=0)}
    text = json.dumps(result, indent=1).replace(str(args.data), "DATA")
    args.out.write_text(text.replace(str(args.cache), args.cache.name) + "\n")


if __name__ == "__main__":
    main()
