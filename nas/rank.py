"""How well proxies rank architectures whose accuracy is known: the work behind ``nas rank``.

Every proxy sees the same rows, and ``params`` and ``flops`` always stand beside: a proxy that does
not beat a count of parameters has found nothing. A score that fails stays in, ranked last and
counted. Seconds per architecture are wall-clock, measured for each proxy in calls of its own after
a few unmeasured architectures (first use of a kernel or a generator is no property of the proxy).
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nas.benchmark.table import Truth
from nas.environment import environment
from nas.seeds import generator
from nas.statistics import STATISTICS, TOP, Estimate, evaluate, paired_difference
from spaces.errors import NasError

if TYPE_CHECKING:
    from nas.proxies.base import Conditions, ProxySpec
    from spaces.base import Arch, Space

Half: TypeAlias = Literal["even", "odd"]
#: ``score(specs, archs)`` returns one list per spec: a number, or the error, per architecture.
ScoreFunction: TypeAlias = Callable[
    [Sequence[Any], Sequence["Arch"]], Sequence[Sequence[float | Exception]]
]
#: ``progress(proxy, done, total)``, in architectures of that proxy.
Progress: TypeAlias = Callable[[str, int, int], None]

ALWAYS = ("params", "flops")
_WARM_UP = 4  # architectures scored before the clock starts
_LABELS = {
    "spearman": "Spearman correlation",
    "kendall": "Kendall tau-b",
    "ndcg": f"nDCG@{TOP}",
    "regret_1": "Regret of the first pick (points)",
    "regret_10": "Regret of the best of ten (points)",
}


@dataclass(frozen=True)
class RankRow:
    """One proxy.

    Attributes:
        proxy: The proxy with its options, as it was asked for.
        n: Rows ranked, failures included.
        failures: Rows without a score; they rank last, tied.
        estimates: By name of the statistic; see :data:`nas.statistics.STATISTICS`.
        seconds_per_arch: Wall-clock.
        reasons: How often each failure occurred.
        scores: One per row in the order of :attr:`RankReport.archs`, ``(n,)``; NaN where it failed.
    """

    proxy: str
    n: int
    failures: int
    estimates: Mapping[str, Estimate]
    seconds_per_arch: float
    reasons: Mapping[str, int]
    scores: NDArray[np.float64] = field(repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the row for JSON: numbers that are not defined are None."""
        row: dict[str, Any] = {"proxy": self.proxy, "n": self.n, "failures": self.failures}
        for name, estimate in self.estimates.items():
            row[name] = _number(estimate.value)
            row[f"{name}_interval"] = [_number(estimate.low), _number(estimate.high)]
        row["seconds_per_arch"] = self.seconds_per_arch
        row["failure_reasons"] = dict(self.reasons)
        return row


@dataclass(frozen=True)
class RankReport:
    """What :func:`rank_proxies` found.

    Attributes:
        rows: One per proxy: those asked for, then ``params`` and ``flops``.
        environment: Everything needed to judge or repeat the figures, JSON values only.
        archs: The rows that were ranked.
        values: Their true values, ``(n,)``.
    """

    rows: tuple[RankRow, ...]
    environment: Mapping[str, Any]
    archs: tuple[Arch, ...] = field(repr=False)
    values: NDArray[np.float64] = field(repr=False, compare=False)

    def row(self, proxy: str) -> RankRow:
        """Return the row of a proxy.

        Raises:
            NasError: It was not ranked.
        """
        for row in self.rows:
            if row.proxy == proxy:
                return row
        raise NasError(
            f"no proxy {proxy!r} was ranked; ranked: {', '.join(row.proxy for row in self.rows)}"
        )

    def difference(
        self, proxy: str, other: str, *, statistic: str = "spearman", n_boot: int = 1000
    ) -> Estimate:
        """Return a statistic of one proxy minus that of another, with a paired interval."""
        return paired_difference(
            self.row(proxy).scores,
            self.row(other).scores,
            self.values,
            statistic=statistic,
            n_boot=n_boot,
            level=self.environment["level"],
            seed=self.environment["seed"],
        )

    def as_dict(self) -> dict[str, Any]:
        """Return ``{"rows": [...], "environment": {...}}``."""
        return {
            "rows": [row.as_dict() for row in self.rows],
            "environment": dict(self.environment),
        }

    def to_json(self) -> str:
        """Return :meth:`as_dict` as JSON text that any reader takes (no NaN)."""
        return json.dumps(self.as_dict(), indent=2, allow_nan=False) + "\n"

    def to_csv(self) -> str:
        """Return one line per proxy; an interval is two columns, ``_low`` and ``_high``."""
        stream = io.StringIO()
        names = [f"{name}{end}" for name in STATISTICS for end in ("", "_low", "_high")]
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["proxy", "n", "failures", *names, "seconds_per_arch"])
        for row in self.rows:
            numbers = [
                "" if math.isnan(number) else repr(number)
                for name in STATISTICS
                for number in _three(row.estimates[name])
            ]
            writer.writerow([row.proxy, row.n, row.failures, *numbers, repr(row.seconds_per_arch)])
        return stream.getvalue()


def rank_proxies(
    space: Space,
    specs: Sequence[ProxySpec | str],
    truth: Truth,
    *,
    sample: int | None = None,
    half: Half | None = None,
    seed: int = 0,
    conditions: Conditions | None = None,
    always: Sequence[ProxySpec | str] = ALWAYS,
    n_boot: int = 1000,
    level: float = 0.95,
    score: ScoreFunction | None = None,
    batch_size: int = 2048,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> RankReport:
    """Score the rows of a truth with each proxy and compare the orders.

    Args:
        space: Whose members the rows are.
        specs: Proxies, such as ``"meco"`` or ``"meco:hooks=reference"``; repeats are ranked once.
        truth: One column of a table.
        sample: How many rows to draw, without replacement, the same for every proxy; None is all.
        half: Keep only rows with an even or odd official index (a row's number in the truth, where
            the benchmark has no order), before the draw: choose on one half, report on the other.
        seed: Of the draw and of the intervals. Weights and images have theirs in ``conditions``.
        conditions: What else a score depends on; None is the default of the proxies.
        always: Proxies that stand beside in any case.
        n_boot: Resamples per interval.
        level: Share of the resamples inside an interval.
        score: Scores a batch; None is :func:`nas.proxies.base.score_batch` under ``conditions``.
        batch_size: Architectures per call, for the sake of ``progress`` and of memory.
        progress: Called after each batch with (proxy, done, total).
        clock: Seconds, rising.

    Raises:
        NasError: The truth is of another space, or has too few rows for what was asked.
    """
    rows = _side_by_side(space, truth, _choose(space, truth, sample, half, seed))
    archs = tuple(truth.archs[row] for row in rows)
    values = truth.values[rows]
    if score is None:
        wanted, score, conditions = _default_score(space, specs, always, conditions)
    else:
        wanted = _distinct([*specs, *always])
    if batch_size < 1:
        raise NasError(f"batch_size must be at least 1, got {batch_size}")

    ranked = []
    for name, spec in wanted.items():
        scored, seconds = _measure(name, spec, archs, score, batch_size, progress, clock)
        scores = np.asarray([_finite(result) for result in scored])
        ranked.append(
            RankRow(
                proxy=name,
                n=len(archs),
                failures=int(np.isnan(scores).sum()),
                estimates=evaluate(scores, values, n_boot=n_boot, level=level, seed=seed),
                seconds_per_arch=seconds / len(archs),
                reasons=_reasons(scored),
                scores=scores,
            )
        )
    described = {
        **environment(device="cpu" if conditions is None else conditions.device, seed=seed),
        "conditions": None if conditions is None else asdict(conditions),
        "space": space.name,
        "truth": truth.source,
        "truth_column": truth.column,
        "truth_measure": None if truth.measure is None else str(truth.measure),
        "truth_sha256": truth.sha256,
        "truth_rows": len(truth),
        "truth_unknown": truth.n_unknown,
        "best_value": float(values.max()),
        "sample": sample,
        "half": half,
        "n_boot": n_boot,
        "level": level,
        "ndcg_k": TOP,
    }
    return RankReport(tuple(ranked), described, archs, values)


def plot(report: RankReport, path: str | Path, *, statistic: str = "spearman") -> None:
    """Draw a statistic of every proxy with its interval as a PNG; params and flops are lines.

    Raises:
        NasError: No such statistic, or the file cannot be written.
    """
    # late, and without pyplot: no window, no state shared with the caller's figures
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if statistic not in STATISTICS:
        raise NasError(f"no statistic named {statistic!r}. Known: {', '.join(STATISTICS)}")
    bars = [row for row in report.rows if row.proxy not in ALWAYS] or list(report.rows)
    # the best on top; a proxy whose statistic is not defined stands at the bottom, without a bar
    falling = statistic.startswith("regret")
    bars = sorted(bars, key=lambda row: _height(row, statistic, falling), reverse=True)
    figure = Figure(figsize=(7.2, 1.7 + 0.42 * len(bars)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for place, row in enumerate(bars):
        estimate = row.estimates[statistic]
        if math.isnan(estimate.value):
            continue
        axes.barh(place, estimate.value, height=0.62, color="#4c78a8", zorder=2)
        axes.plot([estimate.low, estimate.high], [place, place], color="#222222", lw=1.5, zorder=3)
    axes.set_yticks(range(len(bars)), [_bar_label(row, statistic) for row in bars])
    axes.set_ylim(len(bars) - 0.4, -0.6)
    styles = {"params": ("#e45756", "--"), "flops": ("#f58518", ":")}
    for row in report.rows:
        value = row.estimates[statistic].value
        if row.proxy in styles and row not in bars and not math.isnan(value):
            colour, dashes = styles[row.proxy]
            label = f"{row.proxy} {value:.3f}"
            axes.axvline(value, color=colour, ls=dashes, lw=1.6, zorder=4, label=label)
    axes.axvline(0, color="#222222", lw=0.8, zorder=3)
    axes.set_xlabel(_LABELS[statistic])
    env = report.environment
    what = f"{env['space']}, {env['truth_column']}, n = {report.rows[0].n}"
    axes.set_title(f"{what}, {env['level']:.0%} interval", loc="left", fontsize=10)
    axes.grid(axis="x", color="#dddddd", lw=0.6, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower right", ncols=2, frameon=False, fontsize=9)
    target = Path(path)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        figure.savefig(part, format="png")
        part.replace(target)
    except OSError as error:
        raise NasError(f"{target}: cannot be written: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)


def _choose(
    space: Space, truth: Truth, sample: int | None, half: Half | None, seed: int
) -> NDArray[np.int64]:
    """Return the rows of the truth to rank, ascending."""
    if truth.space != space.name:
        raise NasError(f"{truth.source} was read for the space {truth.space}, not {space.name}")
    rows = np.arange(len(truth))
    kept = f"{truth.source}: column {truth.column!r} has {len(truth)} known rows"
    if half is not None:
        if half not in ("even", "odd"):
            raise NasError(f"half must be 'even' or 'odd', got {half!r}")
        rows = rows[_numbers(space, truth) % 2 == (half == "odd")]
        kept += f", {len(rows)} of {half} index"
    if sample is not None:
        if not 2 <= sample <= len(rows):
            raise NasError(f"sample must be from 2 to the rows there are, got {sample}; {kept}")
        rng = generator(seed, "rank", "sample")
        rows = np.sort(rng.choice(rows, size=sample, replace=False))
    if len(rows) < 2:
        raise NasError(f"a ranking needs at least two rows; {kept}")
    return rows


def _numbers(space: Space, truth: Truth) -> NDArray[np.int64]:
    """Return the official index of every row; the row's own number where there is no such order."""
    try:
        return np.asarray([space.index(arch) for arch in truth.archs])
    except NasError:  # NAS-Bench-101 numbers its cells in no official order
        return np.arange(len(truth))


def _default_score(
    space: Space,
    specs: Sequence[ProxySpec | str],
    always: Sequence[ProxySpec | str],
    conditions: Conditions | None,
) -> tuple[dict[str, Any], ScoreFunction, Conditions]:
    """Return the parsed specs, the engine's own way to score, and what it scores under."""
    # late: it imports torch, which the statistics of an injected score do not need
    from nas.proxies.base import Conditions, ProxySpec, score_batch

    asked = [ProxySpec.parse(spec) if isinstance(spec, str) else spec for spec in (*specs, *always)]
    under = Conditions() if conditions is None else conditions
    return _distinct(asked), lambda some, archs: score_batch(space, some, archs, under), under


def _side_by_side(space: Space, truth: Truth, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows ordered by canonical form, so that a batch scores equal functions once."""
    forms = space.canonicalise(np.asarray([truth.archs[row] for row in rows], dtype=np.int64))
    return rows[np.lexsort(forms.T[::-1])]


def _distinct(specs: Sequence[Any]) -> dict[str, Any]:
    """Return the specs by their text, each once, in order."""
    named: dict[str, Any] = {}
    for spec in specs:
        named.setdefault(str(spec), spec)
    return named


def _measure(
    name: str,
    spec: object,
    archs: Sequence[Arch],
    score: ScoreFunction,
    batch_size: int,
    progress: Progress | None,
    clock: Callable[[], float],
) -> tuple[list[float | Exception], float]:
    """Return the scores of one proxy and the seconds they took."""
    score([spec], archs[:_WARM_UP])
    scored: list[float | Exception] = []
    seconds = 0.0
    for start in range(0, len(archs), batch_size):
        batch = archs[start : start + batch_size]
        began = clock()
        (results,) = score([spec], batch)
        seconds += clock() - began
        if len(results) != len(batch):
            raise TypeError(f"{name}: {len(results)} scores for {len(batch)} architectures")
        scored.extend(results)
        if progress is not None:
            progress(name, len(scored), len(archs))
    return scored, seconds


def _finite(result: float | Exception) -> float:
    return (
        float(result) if not isinstance(result, Exception) and math.isfinite(result) else math.nan
    )


def _reasons(scored: Sequence[float | Exception]) -> dict[str, int]:
    """Count the failures by reason, the most frequent first."""
    counted: Counter[str] = Counter()
    for result in scored:
        if isinstance(result, Exception):
            counted[str(result) or type(result).__name__] += 1
        elif not math.isfinite(result):
            counted["not a finite number"] += 1
    return dict(counted.most_common())


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _three(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high


def _height(row: RankRow, statistic: str, falling: bool) -> float:
    value = row.estimates[statistic].value
    if math.isnan(value):
        return -math.inf
    return -value if falling else value


def _bar_label(row: RankRow, statistic: str) -> str:
    value = row.estimates[statistic].value
    name = row.proxy.replace(":", ":\n", 1)  # long options go below the name
    return f"{name}  {'undefined' if math.isnan(value) else f'{value:.3f}'}"
