"""``nas rank``: how well proxies order architectures whose accuracy is known."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from nas.cli.console import (
    Device,
    Dtype,
    Images,
    JsonTarget,
    NumClasses,
    ProxyNames,
    Repeats,
    Resolution,
    SpaceName,
    check_targets,
    conditions_from,
    emit_json,
    emit_table,
    guarded,
    note,
    split_proxies,
    write_file,
)
from nas.cli.progress import SECONDS_BETWEEN_LINES

if TYPE_CHECKING:
    from nas.rank import Half, RankReport
    from nas.statistics import Estimate

EXAMPLES = """\b
Examples:
  nas rank --truth nats_tss.csv.gz:c10_test_200 --proxy meco,meco_opt,sed --sample 1000
  nas rank --space nats_sss --truth nats_sss.csv.gz:c100_test_90 --proxy sed --half odd --json -
"""


@guarded
def rank(
    truth: Annotated[
        str,
        typer.Option(
            metavar="FILE:COLUMN", help="A table with an 'arch' column, and what to compare with."
        ),
    ],
    proxy: ProxyNames,
    space: SpaceName = "nats_tss",
    sample: Annotated[
        int | None, typer.Option(help="Rows to draw, the same for every proxy; all when left out.")
    ] = None,
    half: Annotated[
        str | None,
        typer.Option(
            metavar="even|odd",
            help="Only rows of even or odd index: choose on one half, report the other.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the sample, the intervals, weights and images.")
    ] = 0,
    json_: JsonTarget = None,
    csv: Annotated[str | None, typer.Option(metavar="PATH|-", help="Write CSV.")] = None,
    figure: Annotated[Path | None, typer.Option(help="Draw the correlations as PNG.")] = None,
    num_classes: NumClasses = 10,
    resolution: Resolution = 32,
    repeats: Repeats = 1,
    images: Images = None,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Correlate proxies with the true accuracies of a table.

    Shows Spearman's and Kendall's correlation, nDCG, and how much accuracy the best one and the
    best of the ten highest-scored lose against the best of the rows, each with a bootstrap
    interval; the counts of parameters and FLOPs always stand beside.
    """
    from nas.benchmark.table import parse_truth
    from nas.rank import plot, rank_proxies
    from spaces import SPACES, look_up

    check_targets(json_, csv, figure)
    where = look_up(SPACES, space, kind="space")
    conditions = conditions_from(
        num_classes=num_classes, resolution=resolution, repeats=repeats, images=images,
        seed=seed, dtype=dtype, device=device,
    )  # fmt: skip
    report = rank_proxies(
        where,
        split_proxies(proxy),
        parse_truth(truth, where),
        sample=sample,
        half=cast("Half | None", half),  # the engine refuses anything else
        seed=seed,
        conditions=conditions,
        progress=None if quiet else _Progress(),
    )
    if figure is not None:
        plot(report, figure)
    if csv is not None:
        write_file(report.to_csv(), csv)
    if json_ is not None:
        emit_json(report.as_dict(), json_)
    if "-" not in (json_, csv):
        _show(report)
    for row in report.rows:
        for reason, count in row.reasons.items():
            note(f"{row.proxy}: {count} failed: {reason}")


def _show(report: RankReport) -> None:
    rows = [
        [
            str(row.n),
            _interval(row.estimates["spearman"]),
            *(f"{row.estimates[name].value:.3f}" for name in ("kendall", "ndcg")),
            *(f"{row.estimates[name].value:.2f}" for name in ("regret_1", "regret_10")),
            f"{1000 * row.seconds_per_arch:.3g}",
            row.proxy,
        ]
        for row in report.rows
    ]
    level = f"{report.environment['level']:.0%}"
    headers = ["n", f"Spearman [{level}]", "Kendall", "nDCG", "regret 1", "regret 10", "ms/arch"]
    emit_table([*headers, "proxy"], rows)


def _interval(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


class _Progress:
    """Says how far each proxy is, on one line of a terminal, or now and then on a new one."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._shown = time.monotonic()

    def __call__(self, proxy: str, done: int, total: int) -> None:
        text = f"{proxy}: {done:,} of {total:,}"
        if self._terminal:
            typer.echo(f"\r\033[K{text}" + ("\n" if done == total else ""), err=True, nl=False)
        elif done == total or time.monotonic() - self._shown >= SECONDS_BETWEEN_LINES:
            self._shown = time.monotonic()
            note(text)
