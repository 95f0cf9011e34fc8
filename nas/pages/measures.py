"""What orders the architectures of a search, and whether it agrees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.objectives import OWN
from nas.runs.read import Run
from nas.statistics import spearman_estimate

#: Costs by name, for a person.
COSTS = {
    "params": "parameters",
    "flops": "FLOPs",
    "latency_ms": "latency, ms",
    "memory_mb": "peak memory, MB",
}


@dataclass(frozen=True)
class Column:
    """A quantity of every scored architecture, more being better or larger.

    Attributes:
        name: For a person.
        values: ``(N,)``, NaN where it is not known.
    """

    name: str
    values: NDArray[np.float64]


def columns(run: Run) -> list[Column]:
    """Return what orders the architectures: score, members, costs, tabulated truth."""
    rows = run.scored
    found = [Column(run.score_name, run.sign * _array([row.score for row in rows]))]
    found += [
        Column(member, _array([values.get(row.arch) for row in rows]))
        for member, values in run.members.items()
    ]
    names = ["params", "flops", *dict.fromkeys(name for row in rows for name in row.measures)]
    names = [name for name in names if name not in (*OWN, run.score_name)]
    found += [Column(name, _array([row.quantity(name) for row in rows])) for name in names]
    if run.truth:
        found.append(Column("truth", _array([run.truth.get(row.arch) for row in rows])))
    return found


def _array(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.asarray([math.nan if value is None else value for value in values], dtype=float)


def spearman_of(one: Column, other: Column) -> str:
    """Return Spearman's correlation of what both know, as a text; a dash where there is none."""
    known = ~(np.isnan(one.values) | np.isnan(other.values))
    if known.sum() < 4:
        return "-"
    value = spearman_estimate(one.values[known], other.values[known]).value
    return "-" if math.isnan(value) else f"{value:.2f}"


def truth_text(run: Run) -> str:
    """Say how well the score orders what the benchmark knows."""
    score, *_, truth = columns(run)
    known = ~np.isnan(truth.values)
    n = int(known.sum())
    if n < 4:
        return f"The benchmark knows {n} of them, too few for a correlation."
    told = spearman_estimate(score.values[known], truth.values[known])
    if math.isnan(told.value):
        return "Score or truth is the same for all of them, so there is no correlation."
    return (
        f"Score against the benchmark: {told.value:.2f} [{told.low:.2f}, {told.high:.2f}] (95 % "
        f"interval, n = {n:,})."
    )
