"""``nas compare``: searches side by side, over their seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.console import (
    JsonTarget,
    check_targets,
    emit_json,
    emit_table,
    guarded,
    note,
    write_file,
)

EXAMPLES = """\b
Examples:
  nas compare runs/*-evolution runs/*-random
  nas compare runs/a-seed0 runs/a-seed1 runs/b-seed0 runs/b-seed1 --html compare.html
"""


@guarded
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Run folders.")],
    html: Annotated[
        Path | None, typer.Option("--html", metavar="PATH", help="Write a page with curves.")
    ] = None,
    csv: Annotated[
        str | None, typer.Option("--csv", metavar="PATH|-", help="Write one row per run.")
    ] = None,
    json_: JsonTarget = None,
) -> None:
    """Compare finished searches of one space by one score.

    Runs that differ in their seed only are one group, shown by its mean, its spread and a 95 %
    interval; the difference from the first group comes with an interval of its own.
    """
    from nas.pages.compare import compare as compare_runs
    from nas.pages.compare import for_json, page, table, to_csv

    check_targets(html, csv, json_)
    found = compare_runs(runs)
    if html is not None:
        write_file(page(found, html.absolute()), str(html))
        note(f"page: {html}")
    if csv is not None:
        write_file(to_csv(found), csv)
    if json_ is not None:
        emit_json(for_json(found), json_)
    if "-" not in (csv, json_):
        emit_table(*table(found))
