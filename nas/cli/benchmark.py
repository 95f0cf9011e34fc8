"""``nas bench``: from official archives to plain tables."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.console import check_targets, guarded, note

bench = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Official archives of benchmarks."
)


@bench.callback()
def _bench() -> None:
    """Official archives of benchmarks."""


@bench.command("import", no_args_is_help=True)
@guarded
def import_(
    archive: Annotated[
        Path, typer.Argument(help="A NATS-Bench .pickle.pbz2 file or fast-mode folder.")
    ],
    table: Annotated[Path, typer.Argument(help="Where to write: table.csv.gz or table.csv.")],
    seed: Annotated[
        int | None, typer.Option(help="Import one training seed; the mean when left out.")
    ] = None,
) -> None:
    """Read an official archive once and write its accuracies as a plain table."""
    from nas.benchmark import import_archive

    check_targets(table)
    progress = _progress if sys.stderr.isatty() else None
    written = import_archive(archive, table, seed=seed, progress=progress)
    note(
        f"wrote {written.path}: {written.n_archs:,} architectures of {written.space}, "
        f"{len(written.columns)} columns, {written.n_empty:,} empty cells"
    )


def _progress(done: int, total: int) -> None:
    if done % 100 == 0 or done == total:
        end = "\n" if done == total else ""
        typer.echo(f"\r{done:,} of {total:,}{end}", err=True, nl=False)
