"""Which architecture is exported, with which weights: of a run folder, or an official string."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.export.models import BEST
from nas.reading import read_json
from nas.recipe.train import load_train_recipe
from nas.runs.folder import RECIPE, RESULT
from nas.runs.read import (
    TRAINING,
    VERIFICATION,
    SearchResult,
    TrainingResult,
    checked_result,
    space_of,
)
from nas.runs.training import WEIGHTS, TrainingFolder
from nas.space_file import find_space
from nas.wording import number_text
from spaces.errors import NasError


@dataclass(frozen=True)
class Chosen:
    """One architecture to export.

    Attributes:
        place: Its space: a name, or the path of a YAML file.
        arch: Official string.
        num_classes: Of the run; None where it says nothing.
        resolution: Height and width of its images; None where it says nothing.
        weights: Of its training, if there was one.
        origin: Where it comes from, a sentence for a person.
        trained: What its training reached, a sentence or nothing.
    """

    place: str
    arch: str
    num_classes: int | None
    resolution: int | None
    weights: Path | None
    origin: str
    trained: str = ""


def choose(target: str, *, space: str | None, rank: int) -> Chosen:
    """Return what a command line means.

    Args:
        target: A run folder of a search or of a training, or an official string.
        space: Of an official string.
        rank: Which place of a run's result, from 1.

    Raises:
        NasError: No such thing, or its result has no such place.
    """
    path = Path(target)
    if not _is_folder(path):
        if space is None:
            raise NasError(
                f"{target!r} is no folder; of an architecture, say where it lives by --space"
            )
        if rank != 1:
            raise NasError("--rank is for a run folder, but an architecture is given")
        find_space(space).from_str(target)
        return Chosen(
            space, target, None, None, None, "An architecture given by its official string."
        )
    if space is not None:
        raise NasError(f"--space is for an architecture; that of {target} is known")
    result = _read(path)
    return (_of_search if "top" in result else _of_training)(path, result, rank)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a text that is too long to be a path
        return False


def _read(run: Path) -> dict[str, Any]:
    try:
        found = read_json(run / RESULT)
        searched = isinstance(found, dict) and "top" in found
        result = checked_result(run, SearchResult if searched else TrainingResult)
    except FileNotFoundError:
        there = (run / RECIPE).is_file()
        what = "its run is not finished" if there else "no run folder of a search or a training"
        raise NasError(f"{run}: {what}, for there is no {RESULT} in it") from None
    except (OSError, ValueError) as error:
        raise NasError(
            f"{run / RESULT}: not the result of a search or a training: {error}"
        ) from None
    return result


def _row(run: Path, rows: list[dict[str, Any]], rank: int, hint: str) -> dict[str, Any]:
    if not rows:
        raise NasError(f"{run}: it found nothing to export")
    if rank > len(rows):
        raise NasError(f"{run}: --rank {rank}, but its result lists {len(rows)}{hint}")
    return rows[rank - 1]


def _of_search(run: Path, result: dict[str, Any], rank: int) -> Chosen:
    recipe = result["recipe"]
    hint = f"; for more: nas-search --resume {run} report.top={rank}"
    row = _row(run, result["top"], rank, hint)
    classes, size = (recipe["conditions"][key] for key in ("num_classes", "resolution"))
    proxy = recipe["proxy"]["name"]
    origin = (
        f"Place {rank} of the search {result['name']!r}, seed {recipe['seed']}: {proxy} "
        f"{number_text(row['score'])}, of {result['n_trials']:,} architectures."
    )
    place = space_of(run, recipe["space"])
    for name in (TRAINING, VERIFICATION):
        if not (run / name / RESULT).is_file():
            continue
        trained = _read(run / name)
        for other in trained["archs"]:
            if other["arch"] == row["arch"] and other["accuracy"] is not None:
                return _trained(run / name, trained, other, place, origin)
    best = run / BEST
    if rank == 1 and best.is_file():
        return Chosen(place, row["arch"], classes, size, best, origin, "Trained.")
    return Chosen(place, row["arch"], classes, size, None, origin)


def _of_training(run: Path, result: dict[str, Any], rank: int) -> Chosen:
    if not result["recipe"]["archs"]:
        raise NasError(
            f"{run}: a training of a network of your own; nas exports architectures of spaces, "
            "and yours is yours to export, by torch.export"
        )
    rows = [row for row in result["archs"] if row["accuracy"] is not None]
    best = result["best"]
    rows.sort(key=lambda row: (row["number"] != best, -(row["validation"] or 0.0), row["number"]))
    row = _row(run, rows, rank, "")
    origin = f"Place {rank} of the training {result['name']!r}."
    return _trained(run, result, row, space_of(run, result["recipe"]["space"]), origin)


def _trained(
    run: Path, result: dict[str, Any], row: dict[str, Any], place: str, origin: str
) -> Chosen:
    """Return one architecture of a training, with the weights of its best seed."""
    folder = TrainingFolder(run, load_train_recipe(run / RECIPE), resumed=True, held=False)
    jobs = [job for job in folder.jobs() if job.number == row["number"]]
    job, data = jobs[row["best_run"]], result["data"]
    accuracy = row["runs"][row["best_run"]]["accuracy"]
    weights = job.folder / WEIGHTS
    if not weights.is_file() and row["number"] == result["best"]:
        weights = run / BEST
    return Chosen(
        place=place,
        arch=row["arch"],
        num_classes=len(data["classes"]),
        resolution=data["shape"][-1],
        weights=weights,
        origin=origin,
        trained=f"Trained to {accuracy:.2f} % on {data['test']:,} test images of {data['name']}.",
    )
