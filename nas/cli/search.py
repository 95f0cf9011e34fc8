"""``nas search``, which is also ``nas-search``: run a recipe."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.console import (
    CallbackName,
    JsonTarget,
    Tensorboard,
    callbacks_of,
    check_targets,
    emit_json,
    emit_table,
    guarded,
    note,
)
from nas.cli.progress import SearchProgress
from nas.cli.stopping import ended
from nas.wording import duration, number_text
from spaces.errors import NasError

if TYPE_CHECKING:
    from nas.benchmark import Truth
    from nas.callbacks import Callback
    from nas.recipe import Recipe
    from nas.recipe.search import TrainSection
    from nas.result import Trial
    from nas.runs.search import RunFolder

EXAMPLES = """\b
Examples:
  nas-search cifar10_meco                          a recipe that comes with the package
  nas-search recipes/cifar10_meco.yaml             a file
  nas-search smoke budget=100 strategy=random      with other settings
  nas-search smoke strategy.population=20 report.top=3
  nas-search cifar10_meco benchmark=table.csv.gz:c10_test_200
  nas-search smoke --quiet --json - > result.json
  nas-search --resume runs/2025-01-31_142500-smoke budget=2000
"""


@guarded
def search(
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe file, or the name of a shipped recipe.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[dotted.key=value]...",
            help="Settings that replace those of the recipe; values are YAML.",
        ),
    ] = None,
    json_: JsonTarget = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Nothing on standard error but errors, warnings.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="The run folder itself, new or empty, instead of one named by the time."),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Go on with the run in this folder; only budget, benchmark, report, summary, "
            "train, workers and executor may change."
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Do not go on with an interrupted run of this recipe.")
    ] = False,
    tensorboard: Tensorboard = False,
    callback: CallbackName = None,
) -> None:
    """Search as a recipe says, and show the best architectures.

    Everything found goes into a run folder. A search that was interrupted goes on where it was
    when the same command is given again.
    """
    check_targets(json_)
    folder, truth = _prepare(recipe, overrides or [], out, resume, fresh)
    try:
        summary = _run(folder, truth, quiet, callbacks_of(callback, tensorboard, folder.path))
        if json_ is not None:
            emit_json(summary, json_)
        if summary["best"] is None:
            reasons = "; ".join(f"{n} x {why}" for why, n in summary["failures"].items())
            raise NasError(f"nothing found: all {summary['n_trials']} trials failed: {reasons}")
        if json_ != "-":
            _show(summary)
        if folder.recipe.train is not None:
            _train(folder, folder.recipe.train, quiet, shown=json_ != "-")
    finally:
        folder.close()


def _prepare(
    recipe: str | None, overrides: list[str], out: Path | None, resume: Path | None, fresh: bool
) -> tuple[RunFolder, Truth | None]:
    """Return the folder to run in and the truth to report; whatever is wrong is told here."""
    from nas.recipe import load_recipe, resolve_recipe_path, shipped_recipes
    from nas.runs.search import new_folder, resume_folder

    if resume is not None:
        if out is not None or fresh:
            raise NasError("--resume goes on in its own folder; leave out --out and --fresh")
        # There is no recipe to name, so whatever stands in its place is a setting.
        folder = resume_folder(resume, [*([recipe] if recipe else []), *overrides])
        return folder, _check(folder.recipe)
    if recipe is None:
        raise NasError(f"no recipe given. Shipped: {', '.join(shipped_recipes())}")
    loaded = load_recipe(resolve_recipe_path(recipe), overrides)
    truth = _check(loaded)  # before a folder is made
    return new_folder(loaded, out=out, fresh=fresh), truth


def _check(recipe: Recipe) -> Truth | None:
    """Return the truth of a recipe whose search can be made; warn of its direction."""
    from nas.environment import check_device
    from nas.oracle import DirectionWarning

    check_device(recipe.conditions.device)
    with warnings.catch_warnings():
        warnings.simplefilter("always", DirectionWarning)  # whatever Python was started with
        recipe.searcher(cache=None)
    if recipe.train is not None:
        from nas.recipe.train import training_of

        training_of(recipe.train)
    return recipe.truth()


def _run(
    folder: RunFolder, truth: Truth | None, quiet: bool, callbacks: Sequence[Callback]
) -> dict[str, Any]:
    from nas.callbacks import RunInfo, SearchLog
    from nas.cli.report import leave_page
    from nas.runs.read import TRIALS
    from nas.runs.search import TrialWriter, measures_of

    recipe = folder.recipe
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # _check has said it
        searcher = recipe.searcher(cache=folder.cache)
    budget = searcher.settings["budget"]
    if not quiet:
        note(
            f"{recipe.name}: "
            + (
                searcher.replaced
                or f"up to {budget:,} architectures of {recipe.space} by {recipe.proxy}, "
                f"strategy {recipe.strategy.name}, seed {recipe.seed}"
            )
        )
        note(f"{'going on in' if folder.resumed else 'run folder'} {folder.path}")
    folder.begin(device=recipe.conditions.device, seed=recipe.seed)
    progress = SearchProgress(budget, quiet=quiet)
    about = RunInfo("search", recipe.name, recipe.resolved())
    log = SearchLog(callbacks, about, searcher.settings["batch"])
    with TrialWriter(folder.path / TRIALS, measures_of(recipe)) as writer:

        def each(trial: Trial) -> None:
            writer(trial)
            progress(trial)
            log(trial)

        try:
            with progress:
                result = searcher.run(each)
        except KeyboardInterrupt as stopped:
            note(
                f"interrupted after {progress.n_done:,} of {budget:,} architectures; go on "
                f"by the same command, or by: nas-search --resume {shlex.quote(str(folder.path))}"
            )
            raise ended(stopped) from None
    summary = folder.finish(result, truth)
    log.end(summary)
    page = leave_page(folder.path)
    if not quiet:
        note(
            f"{summary['n_trials']:,} architectures in {duration(summary['seconds'])}, "
            f"{summary['n_cached']:,} known before, {summary['n_failed']:,} failed"
        )
        for why, count in summary["failures"].items():
            note(f"  {count:,} failed: {why}")
        if page is not None:
            note(f"page: {page}")
    return summary


def _train(folder: RunFolder, wanted: TrainSection, quiet: bool, *, shown: bool) -> None:
    """Train the best that was found."""
    from nas.cli.train import Wishes, train_in
    from nas.recipe.train import training_of, with_archs
    from nas.runs.read import TRAINING
    from nas.verifying import best_of, candidates

    if wanted.random:
        seed = folder.recipe.seed
        space, chosen = candidates(folder.path, wanted.top, wanted.random, seed)
    else:
        space, chosen = best_of(folder.path, wanted.top)
    if shown:
        typer.echo("")
    wishes = Wishes(out=folder.path / TRAINING, quiet=quiet, shown=shown, run=folder.path)
    train_in(with_archs(training_of(wanted), space, chosen), wishes)


def _show(summary: dict[str, Any]) -> None:
    from nas.objectives import OWN
    from nas.runs.search import verdict_text

    table = summary["benchmark"]
    predicted = "low" in summary["top"][0]
    several = summary["objectives"] is not None
    headers = ["#", *(["predicted", "90 % interval"] if predicted else ["score"])]
    usual = ("arch", "score", "params", "flops", "trial", "truth", "rank", "low", "high")
    named = [name for name in summary["top"][0] if name not in usual and name not in OWN]
    headers += ["params", "MFLOPs", *named]
    if table is not None:
        headers += ["accuracy %" if table["measure"] else table["column"], "rank"]
    rows = []
    for place, found in enumerate(summary["top"], start=1):
        row = [str(place)]
        if predicted:
            row += [f"{found['score']:.2f}", f"{found['low']:.2f} to {found['high']:.2f}"]
        else:
            row.append(number_text(found["score"]))
        row += [f"{found['params']:,}", f"{found['flops'] / 1e6:,.2f}"]
        row += [number_text(found[name]) for name in named]
        if table is not None:
            known = found["truth"] is not None
            row += [f"{found['truth']:.2f}", f"{found['rank']:,}"] if known else ["-", "-"]
        rows.append([*row, found["arch"]])
    emit_table([*headers, "architecture"], rows)
    if several:
        typer.echo(
            f"front of {' and '.join(summary['objectives'])}: {len(summary['front'])} architectures"
            f", the first {len(rows)} shown; all in result.json and front.png"
        )
    elif table is not None:
        typer.echo(verdict_text(summary))
    if summary["explanation"] is not None:
        _show_explanation(summary["explanation"])


def _show_explanation(values: dict[str, Any]) -> None:
    from nas.explanation import Explanation

    explanation = Explanation.from_json(values)
    typer.echo(
        f"\nwhy: the place of each by each member, 1 being above all of {explanation.reference} "
        "sampled architectures"
    )
    emit_table(*explanation.table())
    typer.echo(
        f"what would change the first place (among the best {explanation.rivals + 1}), "
        "by the weight of one member:"
    )
    for sentence in explanation.sentences():
        typer.echo(f"  {sentence}")
