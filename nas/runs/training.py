"""The run folder of a final training, its jobs, and what is said of them when all are over."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.recipe.train import TrainRecipe
from nas.runs.folder import Folder
from nas.space_file import find_space
from nas.training.data import load_data
from nas.training.images import ImageData, Parts
from nas.training.splits import split

if TYPE_CHECKING:
    from nas.benchmark.table import Truth

WEIGHTS, BEST = "weights.safetensors", "best.safetensors"


class TrainingFolder(Folder[TrainRecipe]):
    """The folder of one training."""

    what = "training"
    header = "# Every setting of the training in this folder. Run it again: nas train recipe.yaml\n"
    repeatable = True

    def jobs(self) -> list[Job]:
        """Return what there is to do, architecture by architecture."""
        width = len(str(max(1, len(self.recipe.archs) - 1)))
        return [
            Job(i, seed, self.path / "jobs" / f"{i:0{width}d}-seed{seed}")
            for i in range(max(1, len(self.recipe.archs)))  # none: one network of the user's own
            for seed in range(self.recipe.seed, self.recipe.seed + self.recipe.seeds)
        ]


@dataclass(frozen=True)
class Job:
    """One architecture under one seed.

    Attributes:
        number: Of the architecture in the recipe.
        seed: Of weights, order, augmentation and dropout.
        folder: Of its own.
    """

    number: int
    seed: int
    folder: Path


def summarise_training(
    recipe: TrainRecipe, jobs: Sequence[Job], results: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Return what came of a training, ready for JSON.

    Args:
        recipe: Of the training.
        jobs: All of them.
        results: Theirs, as :func:`run_jobs` returned them.
    """
    data, parts = read_images(recipe)
    truth = recipe.truth()
    rows = []
    for number in range(max(1, len(recipe.archs))):
        mine = [r for job, r in zip(jobs, results, strict=True) if job.number == number]
        rows.append(_row(recipe, number, mine, truth, data))
    best = _chosen(rows, "validation")
    return {
        "name": recipe.name,
        "data": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "classes": list(data.classes),
            "shape": list(parts.train.images.shape[1:]),
            "train": len(parts.train.labels),
            "validation": 0 if parts.validation is None else len(parts.validation.labels),
            "test": len(parts.test.labels),
        },
        "archs": rows,
        "best": best,
        "chosen_by": "order" if parts.validation is None else "validation accuracy",
        "agreement": _agreements(rows),
        "gain": _gain(rows),
        "benchmark": None
        if truth is None
        else {
            "column": truth.column,
            "source": truth.source,
            "sha256": truth.sha256,
            "n": len(truth),
        },
        "seconds": math.fsum(r["seconds"] for r in results if "error" not in r),
        "recipe": recipe.resolved(),
    }


def _row(
    recipe: TrainRecipe,
    number: int,
    results: Sequence[dict[str, Any]],
    truth: Truth | None,
    data: ImageData,
) -> dict[str, Any]:
    done = [r for r in results if "error" not in r]
    tests = [r["test"]["accuracy"] for r in done]
    looks = [r["validation"]["accuracy"] for r in done if r["validation"] is not None]
    runs = [
        {
            "seed": r["seed"],
            "accuracy": r["test"]["accuracy"] if "error" not in r else None,
            "validation": None
            if "error" in r or r["validation"] is None
            else r["validation"]["accuracy"],
            "seconds": r.get("seconds"),
            "error": r.get("error"),
        }
        for r in results
    ]
    row: dict[str, Any] = {
        "number": number,
        "runs": runs,
        "accuracy": _mean(tests),
        "std": float(np.std(tests, ddof=1)) if len(tests) > 1 else None,
        "validation": _mean(looks),
        "best_run": _chosen(runs, "validation"),
    }
    if recipe.archs:
        candidate = recipe.archs[number]
        space = find_space(recipe.space)
        arch = space.from_str(candidate.arch)
        side = int(data.train.images.shape[-1])
        costs = space.costs(np.asarray([arch]), num_classes=len(data.classes), resolution=side)
        row |= candidate.model_dump()
        row |= {"params": int(costs.params[0]), "flops": int(costs.flops[0])}
        if truth is not None:
            value = truth.value(arch)
            better = None if value is None else int(np.count_nonzero(truth.values > value))
            row |= {"truth": value, "rank": None if better is None else 1 + better}
    return row


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _chosen(rows: Sequence[dict[str, Any]], by: str) -> int | None:
    """Return the place of the row of the highest value, or of the first that has an accuracy."""
    known = [i for i, row in enumerate(rows) if row["accuracy"] is not None]
    if not known:
        return None
    if all(rows[i][by] is None for i in known):
        return known[0]
    return max(known, key=lambda i: -math.inf if rows[i][by] is None else rows[i][by])


def _agreements(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return how well scores and tabulated accuracies order the architectures as training does."""
    from nas.statistics import evaluate

    found = {}
    for key in ("score", "truth"):
        both = [row for row in rows if row.get(key) is not None and row["accuracy"] is not None]
        if len(both) < 3:
            continue
        told = evaluate([row[key] for row in both], [row["accuracy"] for row in both])["kendall"]
        if math.isfinite(told.value):
            found[key] = {"kendall": told.value, "low": told.low, "high": told.high, "n": len(both)}
    return found


def _gain(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return how much better the group 'top' is than the group 'random', in points."""
    from nas.statistics import mean_difference

    groups = {
        name: [r["accuracy"] for r in rows if r.get("group") == name and r["accuracy"] is not None]
        for name in ("top", "random")
    }
    if any(len(values) < 2 for values in groups.values()):
        return None
    told = mean_difference(groups["top"], groups["random"])
    return {
        "points": told.value,
        "low": told.low,
        "high": told.high,
        "best_top": max(groups["top"]),
        "best_random": max(groups["random"]),
        "n": [len(groups["top"]), len(groups["random"])],
    }


@functools.lru_cache(maxsize=2)
def _read(name: str, options: str, how: str) -> tuple[ImageData, Parts]:
    data = load_data(name, json.loads(options))
    return data, split(data, json.loads(how))


def read_images(recipe: TrainRecipe) -> tuple[ImageData, Parts]:
    """Read the images of a recipe, once in a process.

    Raises:
        NasError: They are not there, or are not what they should be.
    """
    options = json.dumps(recipe.data.options, sort_keys=True)
    return _read(recipe.data.name, options, json.dumps(recipe.split))
