"""What hears of a run while it goes on: one protocol for searches and trainings.

A tracker (trackio, wandb, mlflow) hangs on three methods::

    class Tracked(nas.Callback):
        def start(self, run): wandb.init(name=run.name, config=run.settings)
        def log(self, values, step, series=""): wandb.log(values, step=step)
        def end(self, summary): wandb.finish()

    Searcher(...).run(callbacks=[Tracked()])          # nas-search RECIPE --callback mine:Tracked
    nas.train(what, recipe, callbacks=[Tracked()])    # nas train ... --callback mine:Tracked

What a callback raises ends the run; what was scored or trained until then is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from spaces.errors import NasError

if TYPE_CHECKING:
    from nas.training.loop import Epoch


@dataclass(frozen=True)
class RunInfo:
    """What begins.

    Attributes:
        kind: ``search`` or ``training``.
        name: Of the recipe, or what is searched by what.
        settings: All that was asked for, as plain values.
    """

    kind: str
    name: str
    settings: Mapping[str, Any] = field(repr=False)


class Callback:
    """Hears of a run; each method does nothing unless it is replaced."""

    def start(self, run: RunInfo) -> None:
        """Hear that a run begins."""

    def log(self, values: Mapping[str, float], step: int, series: str = "") -> None:
        """Hear numbers.

        Args:
            values: Of a search ``best`` (missing while all have failed), ``failed`` and
                ``per_second``; of a training ``learning_rate``, ``loss/train``,
                ``accuracy/train`` (per cent) and, where there was a look, ``loss/validation`` and
                ``accuracy/validation``.
            step: Architectures asked about, or epochs, so far.
            series: Which of several trainings, as ``03-seed1``; empty for a search.
        """

    def end(self, summary: Mapping[str, Any]) -> None:
        """Hear what came of it, as ``result.json`` has it; of ``Searcher.run``, its best."""


class Tried(Protocol):
    """A trial, as far as a callback is concerned."""

    @property
    def best(self) -> float | None:
        """The best score so far."""

    @property
    def error(self) -> str | None:
        """Why there is no score."""

    @property
    def seconds(self) -> float:
        """Its share of the time of its batch."""

    @property
    def cached(self) -> bool:
        """Whether the score was known."""


class SearchLog:
    """Tells callbacks of a search, once per batch."""

    def __init__(self, callbacks: Iterable[Callback], run: RunInfo, batch: int) -> None:
        """Tell them that it begins.

        Args:
            callbacks: Any number.
            run: The search.
            batch: Trials between two rows of numbers.
        """
        self._callbacks = tuple(callbacks)
        self._batch = batch
        self._done = self._failed = self._fresh = 0
        self._told = 0
        self._seconds = 0.0
        self._best: float | None = None
        for callback in self._callbacks:
            callback.start(run)

    def __call__(self, trial: Tried) -> None:
        """Take one more trial into account."""
        self._done += 1
        self._best = trial.best
        self._failed += trial.error is not None
        if not trial.cached:
            self._fresh += 1
            self._seconds += trial.seconds
        if self._done - self._told >= self._batch:
            self._tell()

    def end(self, summary: Mapping[str, Any]) -> None:
        """Tell what is left, and that it is over."""
        if self._told < self._done:
            self._tell()
        for callback in self._callbacks:
            callback.end(summary)

    def _tell(self) -> None:
        self._told = self._done
        values: dict[str, float] = {"failed": float(self._failed)}
        if self._best is not None:
            values["best"] = float(self._best)
        if self._seconds > 0:
            values["per_second"] = self._fresh / self._seconds
        for callback in self._callbacks:
            callback.log(values, self._done)


def log_epoch(callbacks: Sequence[Callback], series: str, epoch: Epoch | None) -> None:
    """Tell callbacks of a training, once per epoch.

    Args:
        callbacks: Any number.
        series: Which training.
        epoch: The one that is over; None where none is.
    """
    if epoch is None:
        return
    given = {
        "learning_rate": epoch.learning_rate,
        "loss/train": epoch.train_loss,
        "loss/validation": epoch.validation_loss,
        "accuracy/train": epoch.train_accuracy,
        "accuracy/validation": epoch.validation_accuracy,
    }
    values = {name: float(value) for name, value in given.items() if value is not None}
    for callback in callbacks:
        callback.log(values, epoch.number, series)


class TensorBoard(Callback):
    """Writes scalars for TensorBoard, each series into a folder of its own."""

    def __init__(self, folder: Path) -> None:
        """Check that TensorBoard is there.

        Args:
            folder: Where event files go.

        Raises:
            NasError: TensorBoard is not installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter  # late and optional
        except ImportError:
            raise NasError("--tensorboard needs TensorBoard: pip install tensorboard") from None
        self._make: Callable[[str], Any] = SummaryWriter
        self._folder = folder
        self._writers: dict[str, Any] = {}

    def log(self, values: Mapping[str, float], step: int, series: str = "") -> None:
        if series not in self._writers:
            self._writers[series] = self._make(str(self._folder / series))
        writer = self._writers[series]
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        writer.flush()  # a person watches

    def end(self, summary: Mapping[str, Any]) -> None:
        for writer in self._writers.values():
            writer.close()


def check_callback(found: object, what: str) -> Callback:
    """Return an object that has the three methods.

    Raises:
        NasError: It has not.
    """
    missing = [name for name in ("start", "log", "end") if not callable(getattr(found, name, None))]
    if missing:
        raise NasError(
            f"{what}: expected an object with the methods of nas.Callback, got "
            f"{type(found).__name__} without {', '.join(missing)}"
        )
    return found  # type: ignore[return-value]
