"""How well proxies rank architectures whose accuracy is known: the work behind ``nas rank``.

Every proxy sees the same rows, and ``params`` and ``flops`` always stand beside: a proxy that does
not beat a count of parameters has found nothing. A score that fails stays in, ranked last and
counted. Rows are scored once, however many columns of accuracies the scores are compared with; each
column gets a report of its own. Seconds per architecture are wall-clock, measured for each proxy in
calls of its own after a few unmeasured architectures (first use of a kernel or a generator is no
property of the proxy).
"""

from __future__ import annotations

import csv
import io
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.benchmark.table import Truth
from nas.environment import environment
from nas.seeds import generator
from nas.statistics import JOINS, STATISTICS, TOP, Estimate, evaluate, paired_difference
from nas.writing import partial_of
from spaces.errors import NasError, look_up

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nas.proxies.base import Conditions, ProxySpec
    from nas.workers import Workers
    from spaces.base import Arch, Space

Half: TypeAlias = Literal["even", "odd"]
#: ``score(specs, archs)`` returns one list per spec: a number, or the error, per architecture.
ScoreFunction: TypeAlias = Callable[
    [Sequence[Any], Sequence["Arch"]], Sequence[Sequence[float | Exception]]
]
#: ``progress(proxies, done, total)``: how many are asked, and rows.
Progress: TypeAlias = Callable[[int, int, int], None]

ALWAYS = ("params", "flops")
_WARM_UP = 2  # architectures scored before the clock starts
_TIMED = (8, 128, 2048)  # rows that are timed, the next more if the last were over too soon
_LONG_ENOUGH = 0.5  # seconds
_BATCHES = (2048, 512, 128, 32)  # rows per call of all proxies
_PATIENCE = 30.0  # seconds between two reports of progress
_LABELS = {
    "spearman": "Spearman correlation",
    "kendall": "Kendall tau-b",
    "ndcg": f"nDCG@{TOP}",
    "regret_1": "Regret of the first pick (points)",
    "regret_10": "Regret of the best of ten (points)",
}
_LINES = {"params": ("#e45756", "--"), "flops": ("#f58518", ":")}  # how a figure draws ALWAYS


@dataclass(frozen=True)
class Scored:
    """What one proxy said of the rows, whatever it is compared with.

    Attributes:
        proxy: The proxy with its options, as it was asked for.
        route: How it ran: ``batched``, ``one by one`` or ``data-free``; empty where the spec does
            not say.
        scores: One per row in the order of :attr:`RankReport.archs`, ``(n,)``; NaN where it failed.
        reasons: How often each failure occurred.
        seconds_per_arch: Wall-clock, when it is asked alone.
    """

    proxy: str
    route: str
    scores: NDArray[np.float64] = field(repr=False, compare=False)
    reasons: Mapping[str, int]
    seconds_per_arch: float

    @property
    def n(self) -> int:
        """Rows ranked, failures included."""
        return len(self.scores)

    @property
    def failures(self) -> int:
        """Rows without a score; they rank last, tied."""
        return int(np.isnan(self.scores).sum())


@dataclass(frozen=True)
class RankRow(Scored):
    """One proxy, compared with one column.

    Attributes:
        estimates: By name of the statistic; see :data:`nas.statistics.STATISTICS`.
    """

    estimates: Mapping[str, Estimate]

    def as_dict(self) -> dict[str, Any]:
        """Return the row for JSON: numbers that are not defined are None."""
        row: dict[str, Any] = {"proxy": self.proxy, "n": self.n, "failures": self.failures}
        for name, estimate in self.estimates.items():
            row[name] = _number(estimate.value)
            row[f"{name}_interval"] = [_number(estimate.low), _number(estimate.high)]
        row["seconds_per_arch"] = self.seconds_per_arch
        row["route"] = self.route
        row["failure_reasons"] = dict(self.reasons)
        return row


@dataclass(frozen=True)
class RankReport:
    """What :func:`rank_proxies` found for one column.

    Attributes:
        rows: One per proxy: those asked for, then ``params`` and ``flops``.
        environment: Everything needed to judge or repeat the figures, JSON values only.
        archs: The rows that were ranked, the same for every column.
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

    def best_first(self, statistic: str) -> tuple[RankRow, ...]:
        """Return the rows by a statistic; those for which it is not defined come last.

        Raises:
            UnknownName: No such statistic.
        """
        look_up(STATISTICS, statistic, kind="statistic")
        sign = 1 if statistic.startswith("regret") else -1  # of a regret, little is best

        def place(row: RankRow) -> float:
            value = row.estimates[statistic].value
            return math.inf if math.isnan(value) else sign * value

        return tuple(sorted(self.rows, key=place))

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


def for_json(reports: Sequence[RankReport]) -> dict[str, Any] | list[dict[str, Any]]:
    """Return one report as a mapping, several as a list of them."""
    values = [report.as_dict() for report in reports]
    return values[0] if len(values) == 1 else values


def to_csv(reports: Sequence[RankReport]) -> str:
    """Return one line per proxy; an interval is two columns, ``_low`` and ``_high``.

    Several reports follow each other, told apart by a first column ``truth_column``.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    several = len(reports) > 1
    names = [f"{name}{end}" for name in STATISTICS for end in ("", "_low", "_high")]
    header = ["proxy", "n", "failures", *names, "seconds_per_arch", "route"]
    writer.writerow(["truth_column", *header] if several else header)
    for report in reports:
        told = [report.environment["truth_column"]] if several else []
        for row in report.rows:
            numbers = [
                "" if math.isnan(number) else repr(number)
                for name in STATISTICS
                for number in _three(row.estimates[name])
            ]
            seconds = repr(row.seconds_per_arch)
            writer.writerow([*told, row.proxy, row.n, row.failures, *numbers, seconds, row.route])
    return stream.getvalue()


def rank_proxies(
    space: Space,
    specs: Sequence[ProxySpec | str],
    truths: Sequence[Truth],
    *,
    sample: int | None = None,
    half: Half | None = None,
    seed: int = 0,
    conditions: Conditions | None = None,
    always: Sequence[ProxySpec | str] = ALWAYS,
    joins: Mapping[str, Sequence[str]] | None = None,
    join_by: str = "log_rank",
    n_boot: int = 1000,
    level: float = 0.95,
    score: ScoreFunction | None = None,
    batch_size: int | None = None,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.perf_counter,
    workers: Workers | None = None,
) -> tuple[RankReport, ...]:
    """Score rows with each proxy, once, and compare the order with that of every truth.

    Args:
        space: Whose members the rows are.
        specs: Proxies, such as ``"meco"`` or ``"meco:hooks=reference"``; repeats are ranked once.
        truths: Columns of a table; the rows that every one of them knows are ranked.
        sample: How many rows to draw, without replacement, the same for every proxy; None is all.
        half: Keep only rows with an even or odd official index (a row's number among those known,
            where the benchmark has no order), before the draw: choose on one half, report on the
            other.
        seed: Of the draw and of the intervals. Weights and images have theirs in ``conditions``.
        conditions: What else a score depends on; None is the default of the proxies.
        always: Proxies that stand beside in any case.
        joins: Names of further rows, each joined from proxies over the ranked rows; proxies that
            were not asked for are scored, too.
        join_by: How, one of :data:`nas.statistics.JOINS`.
        n_boot: Resamples per interval.
        level: Share of the resamples inside an interval.
        score: Scores a batch; None is :func:`nas.proxies.base.score_batch` under ``conditions``.
        batch_size: Architectures per call, for the sake of ``progress`` and of memory; None takes
            fewer the longer they take.
        progress: Called after each batch with (number of proxies, rows done, rows in all).
        clock: Seconds, rising.
        workers: Who scores, unless ``score`` does; by default this process. ``seconds_per_arch`` is
            the wall-clock of all together.

    Returns:
        One report per truth.

    Raises:
        NasError: A truth is of another space, or they know too few rows for what was asked.
    """
    rule = look_up(JOINS, join_by, kind="way to join")
    known = _known(space, truths)
    archs = _side_by_side(space, _choose(space, truths, known, sample, half, seed))
    joins = {name: _texts(members) for name, members in (joins or {}).items()}
    specs = [*specs, *chain.from_iterable(joins.values())]
    values = [np.asarray([truth.value(arch) for arch in archs], np.float64) for truth in truths]
    if score is None:
        wanted, score, conditions = _default_score(space, specs, always, conditions, workers)
    else:
        wanted = _distinct([*specs, *always])
    if batch_size is not None and batch_size < 1:
        raise NasError(f"batch_size must be at least 1, got {batch_size}")

    rows: list[list[RankRow]] = [[] for _ in truths]
    alone = _score(space, wanted, archs, score, batch_size, progress, clock)
    for scored in [*alone, *_join(alone, joins, rule)]:
        for ranked, true in zip(rows, values, strict=True):
            estimates = evaluate(scored.scores, true, n_boot=n_boot, level=level, seed=seed)
            ranked.append(RankRow(**vars(scored), estimates=estimates))

    shared = {
        **environment(device="cpu" if conditions is None else conditions.device, seed=seed),
        "conditions": None if conditions is None else asdict(conditions),
        "space": space.name,
    }
    asked = {"sample": sample, "half": half, "n_boot": n_boot, "level": level, "ndcg_k": TOP}
    return tuple(
        RankReport(tuple(ranked), {**shared, **_told(truth, true, known), **asked}, archs, true)
        for truth, ranked, true in zip(truths, rows, values, strict=True)
    )


def _join(
    alone: Sequence[Scored],
    joins: Mapping[str, Sequence[str]],
    rule: Callable[[ArrayLike], NDArray[np.float64]],
) -> Iterator[Scored]:
    """Join scores into further rows."""
    named = {scored.proxy: scored for scored in alone}
    for name, members in joins.items():
        if name in named:
            raise NasError(f"{name!r} is the name of a proxy; call the joined row something else")
        parts = [named[member] for member in members]
        yield Scored(
            proxy=name,
            route="joined",
            scores=rule([part.scores for part in parts]),
            reasons={},
            seconds_per_arch=sum(part.seconds_per_arch for part in parts),
        )


def plot(reports: Sequence[RankReport], path: str | Path, *, statistic: str = "spearman") -> None:
    """Draw a statistic of every proxy with its interval as a PNG, one panel per report.

    A proxy stands on the same line in every panel, the best of the first one on top; params and
    flops are vertical lines.

    Raises:
        NasError: No such statistic, or the file cannot be written.
    """
    # late, and without pyplot: no window, no state shared with the caller's figures
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ordered = [row.proxy for row in reports[0].best_first(statistic)]
    names = [name for name in ordered if name not in ALWAYS] or ordered
    size = 2.2 + 4.4 * len(reports), 1.7 + 0.36 * len(names)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(reports), sharex=True, sharey=True, squeeze=False)[0]
    for report, axes in zip(reports, panels, strict=True):
        _draw_panel(axes, report, names, statistic)
    panels[0].set_yticks(range(len(names)), [_bar_label(name) for name in names])
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    figure.supxlabel(_LABELS[statistic], fontsize=10)
    env = reports[0].environment
    what = f"{env['space']}, n = {reports[0].rows[0].n:,}, {env['level']:.0%} interval"
    figure.suptitle(what, x=0.01, ha="left", fontsize=10)
    target = Path(path)
    part = partial_of(target)
    try:
        figure.savefig(part, format="png")
        part.replace(target)
    except OSError as error:
        raise NasError(f"{target}: cannot be written: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)


def _draw_panel(axes: Axes, report: RankReport, names: Sequence[str], statistic: str) -> None:
    """Draw one column: a bar per proxy, its value to the right, params and flops as lines."""
    found = [report.row(name).estimates[statistic] for name in names]
    for place, estimate in enumerate(found):
        if math.isnan(estimate.value):
            continue
        axes.barh(place, estimate.value, height=0.62, color="#4c78a8", zorder=2)
        axes.plot([estimate.low, estimate.high], [place, place], color="#222222", lw=1.5, zorder=3)
    beside = axes.secondary_yaxis("right")
    beside.set_yticks(range(len(names)), [_value_label(estimate.value) for estimate in found])
    beside.tick_params(length=0)
    for row in report.rows:
        value = row.estimates[statistic].value
        if row.proxy in _LINES and row.proxy not in names and not math.isnan(value):
            colour, dashes = _LINES[row.proxy]
            label = f"{row.proxy} {_value_label(value)}"
            axes.axvline(value, color=colour, ls=dashes, lw=1.6, zorder=4, label=label)
    axes.axvline(0, color="#222222", lw=0.8, zorder=3)
    axes.grid(axis="x", color="#dddddd", lw=0.6, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    beside.spines["right"].set_visible(False)
    has_lines = bool(axes.get_legend_handles_labels()[0])
    if has_lines:  # between the title and the bars, so that it covers none
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0, ncols=2, frameon=False,
            fontsize=9,
        )  # fmt: skip
    column = report.environment["truth_column"]
    axes.set_title(column, loc="left", fontsize=10, pad=22 if has_lines else 6)


def _known(space: Space, truths: Sequence[Truth]) -> tuple[Arch, ...]:
    """Return the architectures that every truth knows, in the order of the first."""
    for truth in truths:
        if truth.space != space.name:
            raise NasError(f"{truth.source} was read for the space {truth.space}, not {space.name}")
    if not truths:
        raise NasError("a ranking needs at least one column of true values")
    first, *others = truths
    return tuple(
        arch for arch in first.archs if all(other.value(arch) is not None for other in others)
    )


def _choose(
    space: Space,
    truths: Sequence[Truth],
    known: Sequence[Arch],
    sample: int | None,
    half: Half | None,
    seed: int,
) -> list[Arch]:
    """Return the architectures to rank, in the order of the table."""
    rows = np.arange(len(known))
    columns = ", ".join(repr(truth.column) for truth in truths)
    has = f"column {columns} has" if len(truths) == 1 else f"columns {columns} share"
    kept = f"{truths[0].source}: {has} {len(known)} known rows"
    if half is not None:
        if half not in ("even", "odd"):
            raise NasError(f"half must be 'even' or 'odd', got {half!r}")
        rows = rows[_numbers(space, known) % 2 == (half == "odd")]
        kept += f", {len(rows)} of {half} index"
    if sample is not None:
        if not 2 <= sample <= len(rows):
            raise NasError(f"sample must be from 2 to the rows there are, got {sample}; {kept}")
        rng = generator(seed, "rank", "sample")
        rows = np.sort(rng.choice(rows, size=sample, replace=False))
    if len(rows) < 2:
        raise NasError(f"a ranking needs at least two rows; {kept}")
    return [known[row] for row in rows.tolist()]


def _numbers(space: Space, archs: Sequence[Arch]) -> NDArray[np.int64]:
    """Return the official index of each; its number among them where there is no such order."""
    try:
        return np.asarray([space.index(arch) for arch in archs], dtype=np.int64)
    except NasError:  # NAS-Bench-101 numbers its cells in no official order
        return np.arange(len(archs))


def _told(truth: Truth, values: NDArray[np.float64], known: Sequence[Arch]) -> dict[str, Any]:
    """Return what a report says of its column."""
    return {
        "truth": truth.source,
        "truth_column": truth.column,
        "truth_measure": None if truth.measure is None else str(truth.measure),
        "truth_sha256": truth.sha256,
        "truth_rows": len(truth),
        "truth_unknown": truth.n_unknown,
        "truth_dropped": len(truth) - len(known),  # known here, but not in every column
        "best_value": float(values.max()),
    }


def _default_score(
    space: Space,
    specs: Sequence[ProxySpec | str],
    always: Sequence[ProxySpec | str],
    conditions: Conditions | None,
    workers: Workers | None,
) -> tuple[list[Any], ScoreFunction, Conditions]:
    """Return the parsed specs, the engine's own way to score, and what it scores under."""
    # late: it imports torch, which the statistics of an injected score do not need
    from nas.proxies.base import Conditions, ProxySpec, score_batch

    asked = [ProxySpec.parse(spec) if isinstance(spec, str) else spec for spec in (*specs, *always)]
    under = Conditions() if conditions is None else conditions

    def score(some: Sequence[Any], archs: Sequence[Arch]) -> Any:  # noqa: ANN401 - of a batch
        if workers is None or not workers.count:
            return score_batch(space, some, archs, under)
        from nas.oracle import MemoryCache, score_together

        return score_together(space, some, archs, under, MemoryCache(), workers=workers)

    return _distinct(asked), score, under


def _side_by_side(space: Space, archs: Sequence[Arch]) -> tuple[Arch, ...]:
    """Return them ordered by canonical form, so that a batch scores equal functions once."""
    forms = space.canonicalise(np.asarray(archs, dtype=np.int64))
    return tuple(archs[row] for row in np.lexsort(forms.T[::-1]).tolist())


def _texts(members: Sequence[str]) -> list[str]:
    """Return the names of proxies as a row has them: options in one order, defaults left out."""
    from nas.proxies.base import ProxySpec  # late, as above

    return [str(ProxySpec.parse(member)) for member in members]


def _distinct(specs: Sequence[Any]) -> list[Any]:
    """Return the specs, each once by its text, in order."""
    named: dict[str, Any] = {}
    for spec in specs:
        named.setdefault(str(spec), spec)
    return list(named.values())


def _score(
    space: Space,
    wanted: Sequence[Any],
    archs: Sequence[Arch],
    score: ScoreFunction,
    batch_size: int | None,
    progress: Progress | None,
    clock: Callable[[], float],
) -> list[Scored]:
    """Return what each proxy says of the rows; asked together, they share passes."""
    seconds = [_seconds(spec, archs, score, clock) for spec in wanted]
    if batch_size is None:  # so that progress is said every few seconds
        batch_size = next(n for n in _BATCHES if n * sum(seconds) < _PATIENCE or n == _BATCHES[-1])
    results: list[list[float | Exception]] = [[] for _ in wanted]
    for start in range(0, len(archs), batch_size):
        batch = archs[start : start + batch_size]
        for spec, known, found in zip(wanted, results, score(wanted, batch), strict=True):
            if len(found) != len(batch):
                raise TypeError(f"{spec}: {len(found)} scores for {len(batch)} architectures")
            known.extend(found)
        if progress is not None:
            progress(len(wanted), start + len(batch), len(archs))
    routes = [getattr(spec, "route", None) for spec in wanted]
    return [
        Scored(
            proxy=str(spec),
            route="" if route is None else str(route(space)),
            scores=np.asarray([_finite(result) for result in known]),
            reasons=_reasons(known),
            seconds_per_arch=took,
        )
        for spec, route, known, took in zip(wanted, routes, results, seconds, strict=True)
    ]


def _seconds(
    spec: object, archs: Sequence[Arch], score: ScoreFunction, clock: Callable[[], float]
) -> float:
    """Return the seconds per architecture of a proxy that is asked alone.

    The rows at the start are timed, more and more of them until it takes long enough to be read off
    a clock; equal functions stand side by side there, so rows are taken from all over.
    """
    score([spec], archs[:_WARM_UP])
    seconds = 0.0
    for count in _TIMED:
        some = archs[:: max(1, len(archs) // count)][:count]
        began = clock()
        score([spec], some)
        seconds = (clock() - began) / len(some)
        if seconds * len(some) >= _LONG_ENOUGH or len(some) == len(archs):
            break
    return seconds


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


def _bar_label(name: str) -> str:
    return name.replace(":", ":\n", 1)  # long options go below the name


def _value_label(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.3f}"
