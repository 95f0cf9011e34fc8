"""``nas train``: final trainings; ``nas verify``: whether a search's ranking held."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeAlias

import typer

from nas.cli.console import (
    CallbackName,
    ExecutorName,
    JsonTarget,
    Tensorboard,
    callbacks_of,
    check_targets,
    emit_json,
    emit_table,
    guarded,
    note,
)
from nas.cli.progress import Bar
from nas.cli.stopping import ended
from nas.wording import duration
from spaces.errors import NasError

if TYPE_CHECKING:
    from nas.jobs import Told
    from nas.recipe.train import Candidate, TrainRecipe
    from nas.runs.training import TrainingFolder
    from nas.training.world import World

TRAIN_EXAMPLES = """\b
Examples:
  nas train runs/2025-01-31_142500-smoke --recipe train_digits
  nas train runs/2025-01-31_142500-smoke --recipe train_nats_12 data.root=data --top 3
  nas train '|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|' --recipe train_digits seeds=3
  nas train my_training.yaml device=cuda
  nas train --resume runs/2025-01-31_150000-train_nats_12
"""  # noqa: E501
VERIFY_EXAMPLES = """\b
Examples:
  nas verify runs/2025-01-31_142500-cifar10_meco --recipe train_fast data.root=data
  nas verify runs/2025-01-31_142500-smoke --top 5 --recipe train_digits epochs=6
"""

RecipeName: TypeAlias = Annotated[
    str | None,
    typer.Option("--recipe", metavar="RECIPE", help="How to train: a file or a shipped name."),
]
Overrides: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings of the recipe; values are YAML."),
]
Out: TypeAlias = Annotated[
    Path | None, typer.Option(help="The run folder itself, new, empty or of this training.")
]
Fresh: TypeAlias = Annotated[
    bool, typer.Option("--fresh", help="Do not go on with an interrupted training.")
]
Devices: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,NAME", help="One process on each: cuda:0,cuda:1 or cpu,cpu; trains in a row."
    ),
]
Quiet: TypeAlias = Annotated[
    bool, typer.Option("--quiet", "-q", help="Nothing on standard error but errors, warnings.")
]


@guarded
def train(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN|ARCH|RECIPE",
            help="A search's run folder, an official string, or a recipe that lists architectures.",
        ),
    ] = None,
    overrides: Overrides = None,
    recipe: RecipeName = None,
    top: Annotated[int, typer.Option(min=1, help="How many of a run folder's best.")] = 1,
    space: Annotated[str, typer.Option(help="Of an official string.")] = "nats_tss",
    out: Out = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the training in this folder.")
    ] = None,
    fresh: Fresh = False,
    devices: Devices = None,
    executor: ExecutorName = "processes",
    tensorboard: Tensorboard = False,
    callback: CallbackName = None,
    json_: JsonTarget = None,
    quiet: Quiet = False,
) -> None:
    """Train architectures and measure them on test images.

    Interrupted and started again by the same command, it goes on after the last whole epoch, to the
    same numbers. Under torchrun, all processes work on each training together.
    """
    from nas.recipe.train import with_archs

    check_targets(json_)
    wishes = Wishes(
        out, fresh, devices, tensorboard, json_, quiet, callback=callback, executor=executor
    )
    if resume is not None:
        if target is not None or overrides or recipe is not None or out is not None or fresh:
            raise NasError("--resume takes everything from its folder; give nothing else")
        _resumed(resume, wishes)
        return
    if target is None:
        raise NasError("nothing to train: name a run folder, an architecture or a recipe")
    found, where = _found(target, top, space)
    if isinstance(found, Path):
        if recipe is not None:
            raise NasError(f"{target}: is a recipe already; leave out --recipe")
        loaded = _loaded(str(found), overrides)
    else:
        loaded = with_archs(_loaded(recipe, overrides), where, found)
        if Path(target).is_dir():
            wishes = replace(wishes, run=Path(target))
    train_in(loaded, wishes)


@guarded
def verify(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A search's run folder.")],
    overrides: Overrides = None,
    recipe: RecipeName = None,
    top: Annotated[int, typer.Option(min=2, help="How many of the best are trained.")] = 10,
    random: Annotated[
        int | None,
        typer.Option(min=0, help="How many random ones of their size; as many when left out."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the random architectures.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Where it goes; RUN/verification when left out.")
    ] = None,
    devices: Devices = None,
    executor: ExecutorName = "processes",
    tensorboard: Tensorboard = False,
    callback: CallbackName = None,
    json_: JsonTarget = None,
    quiet: Quiet = False,
) -> None:
    """Train the best that a search found, and random architectures of their size.

    Says whether the search's ranking held (Kendall, with its interval), and how much better the
    architectures found are than the random ones. Everything goes into RUN/verification.
    """
    from nas.recipe.train import with_archs
    from nas.runs.read import VERIFICATION
    from nas.verifying import candidates

    check_targets(json_)
    loaded = _loaded(recipe, overrides)
    space, chosen = candidates(run, top, top if random is None else random, seed)
    folder = run / VERIFICATION if out is None else out
    wishes = Wishes(
        folder, False, devices, tensorboard, json_, quiet, run=run, callback=callback,
        executor=executor,
    )  # fmt: skip
    train_in(with_archs(loaded, space, chosen), wishes)


def _loaded(recipe: str | None, overrides: Sequence[str] | None) -> TrainRecipe:
    from nas.recipe import resolve_recipe_path, shipped_recipes
    from nas.recipe.train import load_train_recipe

    if recipe is None:
        raise NasError(
            "--recipe: say how to train, by a file or the name of a shipped recipe: "
            f"{', '.join(shipped_recipes('train'))}"
        )
    return load_train_recipe(resolve_recipe_path(recipe, "train"), overrides or [])


def _found(target: str, top: int, space: str) -> tuple[list[Candidate] | Path, str]:
    """Return the architectures that the command line means and their space, or a recipe's file."""
    from nas.recipe.train import Candidate
    from nas.space_file import find_space
    from nas.verifying import best_of

    path = Path(target)
    try:
        if path.is_dir():
            where, found = best_of(path, top)
            return found, where
        if path.is_file():
            return path, ""
    except OSError:
        pass  # a text that is no path at all
    find_space(space).from_str(target)
    return [Candidate(arch=target)], space


@dataclass(frozen=True)
class Wishes:
    """What both commands may be told besides what to train.

    Attributes:
        out: The folder itself.
        fresh: Whether not to go on with an interrupted training.
        devices: Names, separated by commas.
        tensorboard: Whether scalars are written.
        callback: A callback of the user's own, ``package.module:callable``.
        json_: Where JSON goes.
        quiet: Whether nothing is said.
        shown: Whether the result is shown.
        run: Folder of the search that found the architectures.
        executor: Who the processes of several devices are.
    """

    out: Path | None = None
    fresh: bool = False
    devices: str | None = None
    tensorboard: bool = False
    json_: str | None = None
    quiet: bool = False
    shown: bool = True
    run: Path | None = None
    executor: str = "processes"
    callback: str | None = None


def _resumed(path: Path, wishes: Wishes) -> None:
    from nas.recipe.train import load_train_recipe
    from nas.runs.folder import RECIPE
    from nas.runs.training import TrainingFolder

    if not (path / RECIPE).is_file():
        raise NasError(f"{path}: no training to resume, for there is no {RECIPE} in it")
    recipe = load_train_recipe(path / RECIPE)
    _together(recipe, lambda held: TrainingFolder(path, recipe, resumed=True, held=held), wishes)


def train_in(recipe: TrainRecipe, wishes: Wishes) -> None:
    """Train what a recipe lists, and show what came of it."""
    from nas.runs.training import TrainingFolder

    def opened(held: bool) -> TrainingFolder:
        if wishes.out is None:
            parent = Path(recipe.folder).expanduser()
            return TrainingFolder.open_new(recipe, parent, fresh=wishes.fresh)
        if not held:
            return TrainingFolder(wishes.out, recipe, resumed=True, held=False)
        return TrainingFolder.open_named(recipe, wishes.out)

    _together(recipe, opened, wishes)


def _together(
    recipe: TrainRecipe, opened: Callable[[bool], TrainingFolder], wishes: Wishes
) -> None:
    """Train in a folder, with the other processes of torchrun if there are any."""
    from nas.environment import check_device
    from nas.training.world import joined

    names = [name.strip() for name in wishes.devices.split(",")] if wishes.devices else []
    for name in names or [recipe.device]:
        check_device(name)
    with joined(recipe.device) as world:
        if world.size > 1 and (names or wishes.out is None):
            raise NasError(
                "torchrun has started the processes: name their folder by --out, and leave out "
                "--devices"
            )
        folder = opened(world.leads)
        try:
            summary = _run(folder, names, world, wishes)
        finally:
            folder.close()
    if not world.leads:
        return
    if wishes.run is not None:
        from nas.cli.report import leave_page
        from nas.verifying import hand_over

        if hand_over(wishes.run, folder.path) and not wishes.quiet:
            note(f"weights for {wishes.run / 'best.py'} are there")
        leave_page(wishes.run)  # what was trained stands in the search's page, too
    if wishes.json_ is not None:
        emit_json(summary, wishes.json_)
    if wishes.json_ != "-" and wishes.shown:
        _show(summary, folder)


def _run(
    folder: TrainingFolder, devices: Sequence[str], world: World, wishes: Wishes
) -> dict[str, Any]:
    from nas.jobs import run_training

    recipe = folder.recipe
    quiet = wishes.quiet or not world.leads
    progress = TrainingProgress(folder, quiet=quiet)
    hearing = callbacks_of(wishes.callback, wishes.tensorboard, folder.path) if world.leads else []
    if not quiet:
        note(
            f"{recipe.name}: {len(recipe.archs)} architectures x {recipe.seeds} seeds x "
            f"{recipe.epochs} epochs on {recipe.data.name}, {', '.join(devices) or recipe.device}"
        )
        note(f"{'going on in' if folder.resumed else 'run folder'} {folder.path}")

    try:
        with progress:
            return run_training(
                folder, devices=devices, executor=wishes.executor, world=world, tell=progress,
                callbacks=hearing,
            )  # fmt: skip
    except KeyboardInterrupt as stopped:
        place = shlex.quote(str(folder.path))
        note(
            "interrupted; whole epochs are kept, go on by the same command, or by: "
            f"nas train --resume {place}"
        )
        raise ended(stopped) from None


def _show(summary: dict[str, Any], folder: TrainingFolder) -> None:
    from nas.pages.training import failures, table, verdict

    emit_table(*table(summary))
    for sentence in verdict(summary):
        typer.echo(sentence)
    for failure in failures(summary):
        note(f"failed: {failure}")
    note(f"page: {folder.path / 'report.html'}")


class TrainingProgress(Bar):
    """Says how far a training is."""

    def __init__(self, folder: TrainingFolder, *, quiet: bool) -> None:
        """Take what there is to do.

        Args:
            folder: Of the training.
            quiet: Whether nothing is said.
        """
        super().__init__(quiet=quiet)
        self._jobs = folder.jobs()
        self._epochs = len(self._jobs) * folder.recipe.epochs
        self._done: dict[Any, float] = {}
        self._first: tuple[float, float] | None = None  # when, and how far that was

    def __enter__(self) -> Self:
        super().__enter__()
        self.stage(self._epochs, percent=True)
        return self

    def __call__(self, told: Told) -> None:
        """Show one more step."""
        step, now = told.step, time.monotonic()
        # Of a job that was not heard of before, the epochs before its first step were done before.
        self._done[told.job] = step.epoch - 1 + step.step / step.steps
        done = math.fsum(self._done.values())
        if self._first is None:
            self._first = now, done
        began, before = self._first
        number = self._jobs.index(told.job) + 1
        text = f"job {number} of {len(self._jobs)}, epoch {step.epoch} of {step.epochs}"
        text += f", loss {step.loss:.3f}"
        if step.done is not None and step.done.validation_accuracy is not None:
            text += f", validation {step.done.validation_accuracy:.2f} %"
        if done > before:
            text += f", {duration((now - began) / (done - before) * (self._epochs - done))} left"
        self.show(done, text)
