"""Runs side by side: what differs in its seed only is one group, with a mean and an interval.

Scores compare only where the same proxy scored the same space under the same conditions. An
interval of a mean is Student's, of a difference Welch's: seeds are few, and nothing else is random.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas import plain_yaml
from nas.builder import SPACE
from nas.drawing.plots import Band, draw_bands
from nas.pages.base import Picture, Table, render, shown
from nas.pages.search import PAGE
from nas.runs.read import Run, read_run
from nas.statistics import Estimate, mean_estimate, welch_difference
from nas.wording import duration, number_text
from spaces.errors import NasError

#: What has to be the same, or scores are of different things.
SAME = ("space", "proxy", "direction", "objectives", "conditions")
#: What may differ within a group.
FREE = ("seed", "name", "summary", "report", "cache", "benchmark", "train")


@dataclass(frozen=True)
class Outcome:
    """What one run came to.

    Attributes:
        folder: Of the run.
        seed: Of its recipe.
        arch: Its best architecture; None where all failed.
        best: Its score.
        params: Of it.
        flops: Of it.
        truth: What the benchmark says of it.
        n_trials: Architectures asked about.
        n_failed: Of them.
        seconds: Wall time.
    """

    folder: str
    seed: int
    arch: str | None
    best: float | None
    params: int | None
    flops: int | None
    truth: float | None
    n_trials: int
    n_failed: int
    seconds: float


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed only.

    Attributes:
        label: What sets it apart.
        runs: One or more.
    """

    label: str
    runs: Sequence[Run]

    @cached_property
    def outcomes(self) -> list[Outcome]:
        """What each of them came to."""
        return [_outcome(run) for run in self.runs]

    def values(self, name: str) -> list[float]:
        """Return a number of every run that has it."""
        found = [getattr(each, name) for each in self.outcomes]
        return [float(value) for value in found if value is not None]


def _outcome(run: Run) -> Outcome:
    best = run.result["best"] or {}
    return Outcome(
        folder=str(run.path),
        seed=run.recipe["seed"],
        arch=best.get("arch"),
        best=best.get("score"),
        params=best.get("params"),
        flops=best.get("flops"),
        truth=best.get("truth"),
        n_trials=len(run.trials),
        n_failed=run.result["n_failed"],
        seconds=run.result["seconds"],
    )


@dataclass(frozen=True)
class Comparison:
    """Groups of runs on one space by one score.

    Attributes:
        groups: In the order in which the runs were given.
    """

    groups: Sequence[Group]

    @property
    def first(self) -> Run:
        """One of the runs, for what all of them share."""
        return self.groups[0].runs[0]

    @property
    def has_truth(self) -> bool:
        """Whether one column of a benchmark stands beside every run."""
        columns = {
            json.dumps([table["column"], table["sha256"]] if table else None)
            for group in self.groups
            for table in (run.result["benchmark"] for run in group.runs)
        }
        return len(columns) == 1 and self.first.result["benchmark"] is not None


def compare(paths: Sequence[Path]) -> Comparison:
    """Read runs and group them.

    Args:
        paths: Two or more run folders.

    Raises:
        NasError: Fewer, one that is no finished search, scores of different things, or one seed
            twice in a group.
    """
    if len(paths) < 2:
        raise NasError(f"compare: expected at least two runs, got {len(paths)}")
    runs = [read_run(path) for path in paths]
    for run in runs[1:]:
        _check_same(runs[0], run)
    grouped: dict[str, list[Run]] = {}
    for run in runs:
        settings = json.dumps(_settings(run), sort_keys=True)
        grouped.setdefault(settings, []).append(run)
    for members in grouped.values():
        _check_seeds(members)
    labels = _labels(list(grouped.values()))
    return Comparison([Group(x, y) for x, y in zip(labels, grouped.values(), strict=True)])


def _check_same(first: Run, other: Run) -> None:
    for key in SAME:
        values = [_told(run, key) for run in (first, other)]
        if values[0] != values[1]:
            here, there = (json.dumps(value) for value in values)
            raise NasError(
                f"compare: {key} differs: {first.path} has {here}, {other.path} has {there}; "
                f"scores compare only where {', '.join(SAME)} are the same"
            )


def _told(run: Run, key: str) -> Any:  # noqa: ANN401 - a value of a recipe
    """Return a setting; of a space in a file, what the file said."""
    copy = run.path / SPACE
    if key == "space" and copy.is_file():
        return plain_yaml.read(copy)
    value = run.recipe[key]
    if key == "conditions":  # where torch computes is no part of a score's meaning
        return {name: each for name, each in value.items() if name != "device"}
    return value


def _check_seeds(runs: Sequence[Run]) -> None:
    seen: dict[int, Run] = {}
    for run in runs:
        seed = run.recipe["seed"]
        if seed in seen:
            raise NasError(
                f"compare: {seen[seed].path} and {run.path} are the same search with the same seed "
                f"{seed}; leave one of them out"
            )
        seen[seed] = run


def _settings(run: Run) -> dict[str, Any]:
    """Return what makes a group, by dotted key."""
    found: dict[str, Any] = {}

    def walk(prefix: str, value: object) -> None:
        if isinstance(value, Mapping):
            for key, each in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), each)
        else:
            found[prefix] = value

    walk("", {key: value for key, value in run.recipe.items() if key not in FREE})
    found["space"] = _told(run, "space")
    return found


def _labels(groups: Sequence[Sequence[Run]]) -> list[str]:
    """Return a name for each group: that of its recipe, and what sets it apart from its like."""
    settings = [_settings(runs[0]) for runs in groups]
    keys = sorted({key for each in settings for key in each})
    apart = [key for key in keys if len({json.dumps(x.get(key)) for x in settings}) > 1]
    names = [runs[0].name for runs in groups]
    if len(set(names)) == len(names):
        return names
    return [
        f"{name} ({', '.join(f'{key}={each[key]}' for key in apart if key in each)})"
        for name, each in zip(names, settings, strict=True)
    ]


def table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return the headers and rows of the groups, as texts."""
    headers = ["seeds", "best score", "± seeds", "95 % interval", "minus the first"]
    headers += ["true", "± seeds"] if comparison.has_truth else []
    headers += ["architectures", "failed", "time", "group"]
    base = comparison.groups[0].values("best")
    rows = []
    for place, group in enumerate(comparison.groups):
        best = group.values("best")
        row = [str(len(group.runs)), *_spread_texts(best, number_text)]
        row.append(_interval(mean_estimate(best)) if best else "-")
        row.append(_interval(welch_difference(best, base), signed=True) if place and best else "-")
        if comparison.has_truth:
            row += _spread_texts(group.values("truth"), "{:.2f}".format)
        row += [f"{np.mean(group.values('n_trials')):,.0f}"]
        row += [f"{np.mean(group.values('n_failed')):,.0f}"]
        rows.append([*row, duration(float(np.mean(group.values("seconds")))), group.label])
    return headers, rows


def _spread_texts(values: Sequence[float], text: Callable[[float], str]) -> list[str]:
    if not values:
        return ["-", "-"]
    spread = f"{np.std(values, ddof=1):.3g}" if len(values) > 1 else "-"
    return [text(float(np.mean(values))), spread]


def _interval(told: Estimate, *, signed: bool = False) -> str:
    """Return an interval; signed, the value before it. One run has none."""
    sign = "+" if signed else ""
    value = f"{told.value:{sign}.4g}" if signed else ""
    if math.isnan(told.low):
        return value or "-"
    return f"{value} [{told.low:{sign}.4g}, {told.high:{sign}.4g}]".strip()


def for_json(comparison: Comparison) -> dict[str, Any]:
    """Return everything as plain values."""
    base = comparison.groups[0].values("best")
    groups = []
    for place, group in enumerate(comparison.groups):
        best = group.values("best")
        groups.append(
            {
                "label": group.label,
                "best": _plain(mean_estimate(best)) if best else None,
                "std": float(np.std(best, ddof=1)) if len(best) > 1 else None,
                "minus_first": _plain(welch_difference(best, base)) if place and best else None,
                "runs": [asdict(each) for each in group.outcomes],
            }
        )
    first = comparison.first
    return {"space": first.recipe["space"], "score": first.proxy, "groups": groups}


def _plain(told: Estimate) -> dict[str, float | None]:
    return {key: None if math.isnan(x) else x for key, x in asdict(told).items()}


def to_csv(comparison: Comparison) -> str:
    """Return one row per run."""
    text = io.StringIO()
    names = list(asdict(comparison.groups[0].outcomes[0]))
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["group", *names])
    for group in comparison.groups:
        rows.writerows([group.label, *asdict(each).values()] for each in group.outcomes)
    return text.getvalue()


def bands(
    comparison: Comparison, curve: Callable[[Run], Sequence[float | None] | NDArray[np.float64]]
) -> dict[str, Band]:
    """Return mean, lowest and highest of a curve over the seeds of each group.

    Args:
        comparison: The groups.
        curve: From a run to one value per trial. A run that ended early keeps its last value.
    """
    return {group.label: _band([curve(run) for run in group.runs]) for group in comparison.groups}


def _band(curves: Sequence[Sequence[float | None] | NDArray[np.float64]]) -> Band:
    length = max(map(len, curves))
    rows = np.full((len(curves), length), np.nan)
    for row, curve in zip(rows, curves, strict=True):
        values = np.asarray([np.nan if x is None else x for x in curve], dtype=float)
        row[: len(values)] = values
        row[len(values) :] = values[-1] if len(values) else np.nan
    # NaN where some run knows nothing yet: the mean of the others would be of another group
    return Band(rows.mean(axis=0), rows.min(axis=0), rows.max(axis=0))


def page(comparison: Comparison, at: Path) -> str:
    """Return the HTML page of a comparison.

    Args:
        comparison: The groups.
        at: Where the page goes, for the links to the runs.
    """
    first = comparison.first
    headers, rows = table(comparison)
    order = [len(headers) - 1, *range(len(headers) - 1)]  # the group comes first on a page
    groups = Table(
        "Groups of runs that differ in their seed only",
        [headers[i] for i in order],
        [[row[i] for i in order] for row in rows],
        texts=(0,),
        note="Mean over the seeds with Student's interval; differences with Welch's. With one seed "
        "there is none.",
    )
    note = "Line: mean over the seeds. Band: from the lowest to the highest of them."
    name = first.score_name
    figure = draw_bands(bands(comparison, lambda run: run.best_so_far), up=f"best {name}")
    labels = ", ".join(group.label for group in comparison.groups)
    drawn = {"best": Picture("Best score over time", figure, f"Best {name}: {labels}", note)}
    if comparison.has_truth:
        what = first.truth_name
        figure = draw_bands(bands(comparison, lambda run: run.truth_so_far), up=what)
        title = "What the benchmark says of the best so far"
        drawn["truth"] = Picture(title, figure, f"{what} of the best so far: {labels}", note)
    seeds = sum(len(group.runs) for group in comparison.groups)
    return render(
        "compare.html",
        names=[group.label for group in comparison.groups],
        summary=f"{seeds} searches of {first.space.name} by {first.proxy}",
        table=groups,
        runs=_runs_table(comparison),
        links=_links(comparison, at),
        figures=shown(drawn),
    )


def _runs_table(comparison: Comparison) -> Table:
    rows = [
        [
            group.label,
            str(each.seed),
            number_text(None if each.best is None else float(each.best)),
            "-" if each.truth is None else f"{each.truth:.2f}",
            "-" if each.params is None else f"{each.params:,}",
            f"{each.n_trials:,}",
            f"{each.n_failed:,}",
            each.arch or "-",
        ]
        for group in comparison.groups
        for each in group.outcomes
    ]
    headers = ["group", "seed", "best score", "true", "parameters", "architectures", "failed"]
    last = len(headers)
    return Table("Every run", [*headers, "best"], rows, texts=(0,), codes=(last,))


def _links(comparison: Comparison, at: Path) -> list[tuple[str, str]]:
    """Return the pages of the runs, as seen from the page."""
    return [
        (Path(os.path.relpath(run.path / PAGE, at.parent)).as_posix(), str(run.path))
        for group in comparison.groups
        for run in group.runs
        if (run.path / PAGE).is_file()
    ]
