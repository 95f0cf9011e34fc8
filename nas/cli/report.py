"""``nas report``: the page of a search, and its pictures as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.console import guarded, note
from spaces.errors import NasError

EXAMPLES = """\b
Examples:
  nas report runs/2025-01-31_142500-smoke
  nas report runs/2025-01-31_142500-smoke --plots pictures --format png
"""


@guarded
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A search's run folder.")],
    plots: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write each picture as a file into this folder, too."),
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", metavar="svg|png", help="Of those files.")
    ] = "svg",
) -> None:
    """Write the page of a finished search, report.html, from its run folder alone.

    Every search does so at its end; again it is needed after a training by hand, or of a folder
    that an older version has left.
    """
    from nas.drawing.plots import FORMATS, save_figures
    from nas.pages.search import write_page
    from nas.pages.search_pictures import pictures
    from nas.runs.read import read_run

    if format_ not in FORMATS:
        raise NasError(f"--format: expected {' or '.join(FORMATS)}, got {format_!r}")
    typer.echo(write_page(run))
    if plots is not None:
        drawn = {name: each.figure for name, each in pictures(read_run(run)).items()}
        written = save_figures(drawn, plots, format_)
        note(f"{len(written)} pictures in {plots}")


def leave_page(path: Path) -> Path | None:
    """Write the page of a search that is over; a page that cannot be made is told, no more."""
    from nas.pages.search import write_page

    try:
        return write_page(path)
    except Exception as error:  # noqa: BLE001 - the search is over and kept, whatever its page lacks
        what = " ".join(f"{type(error).__name__}: {error}".split())
        note(f"warning: no page was written: {what}; try again by: nas report {path}")
        return None
