"""A finished search, read back from its run folder: what its page, comparisons and exports need.

Nothing but the folder is read: not the benchmark's table, not the score cache. What a search knows
and its ``result.json`` would be too small for stands in tables beside it:

=============== ================================================================================
``trials.csv``  One row per architecture that was asked.
``members.csv`` Of a search by an ensemble: what each member says of each architecture.
``truth.csv``   With a benchmark: the tabulated value of each architecture that it knows.
=============== ================================================================================
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nas.builder import SPACE, is_file
from nas.objectives import parse_objective
from nas.reading import read_json
from nas.runs.folder import RECIPE, RESULT
from nas.space_file import find_space
from spaces.base import Space
from spaces.errors import NasError

TRIALS, MEMBERS, TRUTH = "trials.csv", "members.csv", "truth.csv"
TRAINING, VERIFICATION = "training", "verification"

#: Columns of ``trials.csv`` before those of measured costs and objectives.
COLUMNS = (
    "number", "arch", "score", "best", "params", "flops", "seconds", "cached", "error",
)  # fmt: skip


@dataclass(frozen=True)
class TrialRow:
    """One architecture that a search has asked about; see :class:`nas.result.Trial`.

    Attributes:
        number: From 0, in the order of asking.
        arch: Its official string.
        score: None for a failure.
        error: Why there is none.
        params: Trainable weights.
        flops: Multiply-accumulates for one image.
        seconds: Its share of the wall time of its batch.
        cached: The verdict was known and not computed.
        measures: Costs and objectives by name.
    """

    number: int
    arch: str
    score: float | None
    error: str | None
    params: int
    flops: int
    seconds: float
    cached: bool
    measures: Mapping[str, float]

    def quantity(self, name: str) -> float | None:
        """Return a cost, an objective or the score by name, None where it is not known."""
        own: dict[str, float | None] = {
            "params": self.params,
            "flops": self.flops,
            "score": self.score,
        }
        return own[name] if name in own else self.measures.get(name)


@dataclass(frozen=True)
class Run:
    """A search that is over.

    Attributes:
        path: Its folder.
        result: What ``result.json`` holds.
        environment: What ``environment.json`` holds.
        trials: In the order of asking.
        truth: Tabulated values by official string; empty without a benchmark.
        members: Of an ensemble, by member, its values by official string.
    """

    path: Path
    result: Mapping[str, Any]
    environment: Mapping[str, Any]
    trials: Sequence[TrialRow]
    truth: Mapping[str, float]
    members: Mapping[str, Mapping[str, float]]

    @property
    def recipe(self) -> Mapping[str, Any]:
        """The resolved recipe, as plain values."""
        values: Mapping[str, Any] = self.result["recipe"]
        return values

    @property
    def name(self) -> str:
        """Of the recipe."""
        return str(self.result["name"])

    @property
    def proxy(self) -> str:
        """What judged, with the options that its recipe states."""
        settings = self.result.get("settings")
        return str(settings["proxy"] if settings else self.recipe["proxy"]["name"])

    @property
    def strategy(self) -> str:
        """What proposed: another than the recipe's, where the whole space was ranked instead."""
        settings = self.result.get("settings") or {}
        return str(settings.get("strategy", self.recipe["strategy"]["name"]))

    @cached_property
    def space(self) -> Space:
        """Where it happened; of a space in a file, as it was then.

        Raises:
            NasError: It is not there any more.
        """
        return find_space(space_of(self.path, self.recipe["space"]))

    @property
    def objectives(self) -> list[str] | None:
        """What was searched for, where that was more than the score."""
        names: list[str] | None = self.result["objectives"]
        return names

    @property
    def rises(self) -> bool:
        """Whether more of what the trials call their score is better."""
        if self.objectives:
            return not self.objectives[0].startswith("-")
        return bool(self.recipe["direction"] == "maximise")

    @property
    def sign(self) -> int:
        """What makes a higher score better by a product: 1 or -1."""
        return 1 if self.rises else -1

    @property
    def score_name(self) -> str:
        """What the trials call their score, in a word."""
        name = str(self.recipe["proxy"]["name"])
        if self.objectives:
            name = parse_objective(self.objectives[0]).name
        return "predicted accuracy" if name in ("predicted", "predicted_accuracy") else name

    @property
    def truth_name(self) -> str:
        """What the benchmark's column measures."""
        table = self.result["benchmark"] or {}
        return str(table.get("measure") or table.get("column") or "truth")

    @property
    def scored(self) -> list[TrialRow]:
        """The trials that have a score."""
        return [trial for trial in self.trials if trial.score is not None]

    @property
    def best_so_far(self) -> NDArray[np.float64]:
        """The best score up to each trial, NaN before the first."""
        scores = [np.nan if trial.score is None else trial.score for trial in self.trials]
        return (np.fmax if self.rises else np.fmin).accumulate(np.asarray(scores, dtype=float))

    @property
    def truth_so_far(self) -> list[float | None]:
        """What the benchmark says of the best so far, None where it says nothing.

        Of several with the same score, the first.
        """
        sign = self.sign
        values: list[float | None] = []
        best: float | None = None
        value: float | None = None
        for trial in self.trials:
            if trial.score is not None and (best is None or sign * trial.score > sign * best):
                best, value = trial.score, self.truth.get(trial.arch)
            values.append(value)
        return values

    def training(self, name: str) -> Mapping[str, Any] | None:
        """Return the result of a training in a folder of the run, None where there is none."""
        try:
            return checked_result(self.path / name, TrainingResult)
        except (OSError, ValueError):
            return None


def read_result(path: Path) -> dict[str, Any]:
    """Return the ``result.json`` of a finished search.

    Raises:
        NasError: There is none.
    """
    try:
        return checked_result(path, SearchResult)
    except FileNotFoundError:
        there = (path / RECIPE).is_file()
        what = "its search is not finished" if there else "no run folder of a search"
        raise NasError(f"{path}: {what}, for there is no {RESULT} in it") from None
    except (OSError, ValueError) as error:
        raise NasError(f"{path / RESULT}: not the result of a search: {error}") from None


def read_run(path: Path) -> Run:
    """Read the folder of a finished search.

    Raises:
        NasError: There is none, or a file of it is not what it should be.
    """
    result = read_result(path)
    try:
        environment = result.get("environment") or {}
        trials = [_trial(row) for row in _rows(path / TRIALS)]
        truth = {row["arch"]: float(row["value"]) for row in _rows(path / TRUTH, missing=True)}
        members = _members(_rows(path / MEMBERS, missing=True))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NasError(f"{path}: a table of this run cannot be read: {error!r}") from None
    return Run(path, result, environment, trials, truth, members)


class _Part(BaseModel):
    """What is relied upon of a file that may come from anybody; the rest is passed on."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Found(_Part):
    arch: str
    score: float
    params: int
    flops: int


class _Conditions(_Part):
    num_classes: int
    resolution: int


class _Named(_Part):
    name: str


class _Searched(_Part):
    space: str
    seed: int
    direction: str
    conditions: _Conditions
    proxy: _Named


class SearchResult(_Part):
    """Of a search's ``result.json``."""

    name: str
    top: list[_Found]
    n_trials: int
    objectives: list[str] | None
    recipe: _Searched
    settings: dict[str, Any] | None = None
    environment: dict[str, Any] | None = None


class _Candidate(_Part):
    arch: str


class _Trained(_Part):
    space: str
    archs: list[_Candidate]


class _Data(_Part):
    name: str
    classes: list[str]
    shape: list[int] = Field(min_length=1)
    test: int


class _OneRun(_Part):
    accuracy: float | None


class _TrainedArch(_Part):
    number: int
    arch: str
    accuracy: float | None
    validation: float | None
    best_run: int | None
    runs: list[_OneRun]


class TrainingResult(_Part):
    """Of a training's ``result.json``."""

    name: str
    archs: list[_TrainedArch]
    best: int | None
    data: _Data
    recipe: _Trained


def space_of(folder: Path, space: str) -> str:
    """Return where a run's space is: the copy of the user's file in its folder, if there is one.

    Args:
        folder: Of the run.
        space: What its recipe says.
    """
    copy = folder / SPACE
    return str(copy.absolute()) if is_file(space) and copy.is_file() else space


def checked_result(folder: Path, kind: type[SearchResult | TrainingResult]) -> dict[str, Any]:
    """Return the ``result.json`` of a folder, all of it, if it has what is relied upon.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It lacks something; the text says what.
    """
    value = read_json(folder / RESULT)
    found: dict[str, Any] = value if isinstance(value, dict) else {}
    try:
        kind.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        if first["type"] == "missing":
            raise ValueError(f"there is no {place!r} in it") from None
        raise ValueError(f"{place}: {first['msg']}") from None
    return found


def _rows(path: Path, *, missing: bool = False) -> list[dict[str, str]]:
    if missing and not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _trial(row: Mapping[str, str]) -> TrialRow:
    return TrialRow(
        number=int(row["number"]),
        arch=row["arch"],
        score=_number(row["score"]),
        error=row["error"] or None,
        params=int(row["params"]),
        flops=int(row["flops"]),
        seconds=float(row["seconds"]),
        cached=row["cached"] == "true",
        measures={
            name: value
            for name, text in row.items()
            if name not in COLUMNS and (value := _number(text)) is not None
        },
    )


def _number(text: str) -> float | None:
    return float(text) if text else None


def _members(rows: Sequence[Mapping[str, str]]) -> dict[str, dict[str, float]]:
    names = [name for name in (rows[0] if rows else {}) if name != "arch"]
    return {name: {row["arch"]: float(row[name]) for row in rows if row[name]} for name in names}
