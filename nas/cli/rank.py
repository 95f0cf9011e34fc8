"""``nas rank``: how well proxies order architectures whose accuracy is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from nas.cli.console import (
    Device,
    Dtype,
    ExecutorName,
    Images,
    JsonTarget,
    Minibatch,
    NumClasses,
    ProxyNames,
    Repeats,
    Resolution,
    SpaceName,
    WorkerCount,
    check_targets,
    conditions_from,
    emit_json,
    emit_table,
    guarded,
    note,
    split_proxies,
    write_file,
)
from nas.cli.progress import CountProgress
from spaces.errors import NasError

if TYPE_CHECKING:
    from nas.rank import Half, RankReport
    from nas.statistics import Estimate

EXAMPLES = """\b
Examples:
  nas rank --truth nats_tss.csv.gz:c10_test_200 --proxy meco,meco_opt,sed --sample 1000
  nas rank --truth nats_tss.csv.gz:c10_test_200,c100_test_200,in16_test_200 --proxy meco,sed
  nas rank --space nats_sss --truth nats_sss.csv.gz:c100_test_90 --proxy sed --half odd --json -
"""


@guarded
def rank(
    truth: Annotated[
        str,
        typer.Option(
            metavar="FILE:COLUMN,...",
            help="A table with an 'arch' column, and what to compare with. Several columns share "
            "the rows that all of them know, and one scoring.",
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
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="STATISTIC",
            help="Show the best first by spearman, kendall, ndcg, regret_1 or regret_10; "
            "as asked when left out.",
        ),
    ] = None,
    join: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=PROXY+PROXY...",
            help="One more row: the sum of the proxies' logarithmic ranks (that of AZ-NAS is "
            "az_nas=az_expressivity+az_progressivity+az_trainability+flops).",
        ),
    ] = [],  # noqa: B006 - typer copies it
    join_by: Annotated[
        str, typer.Option(metavar="RULE", help="How --join joins: log_rank or mean_rank.")
    ] = "log_rank",
    num_classes: NumClasses = 10,
    resolution: Resolution = 32,
    repeats: Repeats = 1,
    images: Images = None,
    minibatch: Minibatch = 64,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    workers: WorkerCount = 0,
    executor: ExecutorName = "processes",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Correlate proxies with the true accuracies of a table.

    Shows Spearman's and Kendall's correlation, nDCG, and how much accuracy the best one and the
    best of the ten highest-scored lose against the best of the rows, each with a bootstrap
    interval; the counts of parameters and FLOPs always stand beside.
    """
    from nas.benchmark.table import parse_truths
    from nas.rank import for_json, plot, rank_proxies, to_csv
    from nas.space_file import find_space
    from nas.statistics import STATISTICS
    from nas.workers import make_workers
    from spaces import look_up

    check_targets(json_, csv, figure)
    if sort is not None:
        look_up(STATISTICS, sort, kind="statistic")
    where = find_space(space)
    conditions = conditions_from(
        num_classes=num_classes, resolution=resolution, repeats=repeats, images=images,
        minibatch=minibatch, seed=seed, dtype=dtype, device=device,
    )  # fmt: skip
    with (
        make_workers(workers, executor, device=device) as hands,
        CountProgress("architectures", quiet=quiet) as bar,
    ):
        reports = rank_proxies(
            where,
            split_proxies(proxy),
            parse_truths(truth, where),
            sample=sample,
            half=cast("Half | None", half),  # the engine refuses anything else
            seed=seed,
            conditions=conditions,
            joins=dict(_join(text) for text in join),
            join_by=join_by,
            progress=lambda count, done, total: bar(done, total, f"{count} proxies"),
            workers=hands,
        )
    if figure is not None:
        plot(reports, figure)
    if csv is not None:
        write_file(to_csv(reports), csv)
    if json_ is not None:
        emit_json(for_json(reports), json_)
    if "-" not in (json_, csv):
        _show(reports, sort)
    _explain(reports)


def _join(text: str) -> tuple[str, list[str]]:
    """Read ``name=proxy+proxy``."""
    name, equals, members = text.partition("=")
    proxies = [member.strip() for member in members.split("+")]
    if not equals or not name.strip() or not all(proxies):
        raise NasError(f"--join: expected NAME=PROXY+PROXY..., got {text!r}")
    return name.strip(), proxies


def _show(reports: Sequence[RankReport], sort: str | None) -> None:
    """Print a table per column, the next below the last."""
    for place, report in enumerate(reports):
        if len(reports) > 1:
            typer.echo(("\n" if place else "") + report.environment["truth_column"])
        rows = [
            [
                str(row.n),
                _interval(row.estimates["spearman"]),
                *(f"{row.estimates[name].value:.3f}" for name in ("kendall", "ndcg")),
                *(f"{row.estimates[name].value:.2f}" for name in ("regret_1", "regret_10")),
                f"{1000 * row.seconds_per_arch:.3g}",
                row.route,
                row.proxy,
            ]
            for row in (report.rows if sort is None else report.best_first(sort))
        ]
        level = f"{report.environment['level']:.0%}"
        headers = ["n", f"Spearman [{level}]", "Kendall", "nDCG", "regret 1", "regret 10"]
        emit_table([*headers, "ms/arch", "route", "proxy"], rows)


def _explain(reports: Sequence[RankReport]) -> None:
    """Say which rows were left out, and why scores failed."""
    for told in (report.environment for report in reports):
        if told["truth_dropped"]:
            note(
                f"{told['truth_column']}: left out {told['truth_dropped']:,} of "
                f"{told['truth_rows']:,} known rows, which another column does not know"
            )
    for row in reports[0].rows:  # the scores of all columns are the same
        for reason, count in row.reasons.items():
            note(f"{row.proxy}: {count} failed: {reason}")


def _interval(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
