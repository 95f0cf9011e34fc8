"""``nas design``: a proxy that evolution writes, as a formula in a file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.console import JsonTarget, check_targets, emit_json, emit_table, guarded, write_file
from nas.cli.progress import Bar
from nas.wording import duration
from spaces.errors import NasError

if TYPE_CHECKING:
    from nas.design.formula import Formula
    from nas.designing import Progress

EXAMPLES = """\b
Examples:
  nas design tss_formula "tables.nats_tss=nats_tss.csv.gz:c10_test_200,c100_test_200"
  nas design my_design.yaml seed=1 evolution.epochs=5 --out mine.yaml
  nas rank --truth nats_tss.csv.gz:c10_test_200 --proxy formula:mine.yaml,meco
"""


@guarded
def design(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A recipe of a design, or a shipped one's name.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings of the recipe.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where the formula goes; NAME.yaml when left out."),
    ] = None,
    statistics: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where statistics of layers are kept, for other designs too; "
            "design_statistics beside the formula when left out.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Processes that measure statistics and evolve islands, 0 is this one; one per "
            "processor if left out.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    json_: JsonTarget = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing while it runs.")] = False,
) -> None:
    """Evolve a proxy: a formula over statistics of layers that ranks known architectures well.

    Interrupted and started again it goes on where it was: statistics are kept as they are measured,
    the evolution in FILE.state.json after every epoch.
    """
    from nas.designing import default_workers
    from nas.designing import design as design_formula
    from nas.recipe import resolve_recipe_path
    from nas.recipe.design import load_design_recipe
    from nas.workers import make_workers

    check_targets(json_)
    loaded = load_design_recipe(resolve_recipe_path(recipe, "design"), overrides or [])
    path = Path(f"{loaded.name}.yaml") if out is None else out
    if path.exists() and not force:
        raise NasError(f"{path}: is there already; name another file by --out, or give --force")
    if not path.absolute().parent.is_dir():
        raise NasError(f"{path}: there is no folder {path.parent}")
    folder = path.with_name("design_statistics") if statistics is None else statistics
    state = path.with_name(path.name + ".state.json")
    count = default_workers() if workers is None else workers
    device = loaded.conditions.device
    with _Progress(quiet=quiet) as progress, make_workers(count, device=device) as hands:
        found = design_formula(loaded, folder, state, workers=hands, tell=progress)
    write_file(found.to_yaml(), str(path))
    state.unlink(missing_ok=True)
    if json_ is not None:
        emit_json(found.model_dump(mode="json"), json_)
    if json_ != "-":
        _show(found, path)


def _show(found: Formula, path: Path) -> None:
    told = found.provenance
    assert told is not None
    typer.echo(f"{path}: {found.formula}")
    typer.echo(
        f"{told.proposed:,} formulas in {duration(told.evolution_seconds)}, statistics in "
        f"{duration(told.statistics_seconds)}; energy {told.energy}"
    )
    typer.echo("Cells that the design has not seen:")
    emit_table(
        ["cells", "n", "Kendall", "truth"],
        [[x.cells, f"{x.n:,}", f"{x.kendall:.3f}", x.task] for x in told.held_out],
    )


class _Progress(Bar):
    """Says how far a design is."""

    def __init__(self, *, quiet: bool) -> None:
        super().__init__(quiet=quiet)
        self._stage, self._began, self._first = "", time.monotonic(), 0

    def __call__(self, told: Progress) -> None:
        """Show one more step."""
        if told.stage != self._stage:
            self._stage, self._began, self._first = told.stage, time.monotonic(), told.done - 1
            self.stage(told.total, told.stage)
        took = time.monotonic() - self._began
        left = took / max(1, told.done - self._first) * (told.total - told.done)
        best = "" if told.best is None else f"best Kendall {told.best:.3f}, "
        self.show(told.done, f"{best}{duration(left)} left")
