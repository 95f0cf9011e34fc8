"""How far a command is: a bar on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from nas.cli.console import note
from nas.wording import duration, number_text

if TYPE_CHECKING:
    import rich.progress

    from nas.engine import Trial

SECONDS_BETWEEN_LINES = 10.0


class Bar:
    """A bar for each stage of a command, or plain lines where nobody could see one move."""

    def __init__(self, *, quiet: bool) -> None:
        """Show nothing yet.

        Args:
            quiet: Whether nothing is said at all.
        """
        self.quiet = quiet
        self._bar: rich.progress.Progress | None = None
        self._total, self._shown = 0.0, time.monotonic()
        self._name, self._percent = "", False

    def __enter__(self) -> Self:
        self._shown = time.monotonic()
        if sys.stderr.isatty() and not self.quiet:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=30),
                TextColumn("{task.fields[state]}", markup=False),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def stage(self, total: float, name: str = "", *, percent: bool = False) -> None:
        """Begin a stage.

        Args:
            total: What :meth:`show` counts up to.
            name: Of the stage.
            percent: Whether to say a share rather than a count.
        """
        self._total, self._name, self._percent = total, name, percent
        if self._bar is not None:
            self._bar.add_task(name, total=total, state="starting")

    def show(self, done: float, state: str, *, at_the_end: bool = True) -> None:
        """Say how far the stage is.

        Args:
            done: Of its total.
            state: What else there is to say.
            at_the_end: Whether a plain line has to say that all is done.
        """
        if self.quiet:
            return
        if self._percent:
            text = f"{100 * done / self._total:.0f} %, {state}"
        else:
            text = f"{done:,} of {self._total:,}, {state}"
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[-1], completed=done, state=text)
        elif now - self._shown >= SECONDS_BETWEEN_LINES or (at_the_end and done >= self._total):
            self._shown = now
            note(f"  {self._name + ': ' if self._name else ''}{text}")


class SearchProgress(Bar):
    """Shows rate, best score so far and time left while trials come in."""

    def __init__(self, budget: int, *, quiet: bool) -> None:
        super().__init__(quiet=quiet)
        self.budget = budget
        self.n_done = 0
        self.best: float | None = None
        self._n_new = 0
        self._seconds = 0.0

    def __enter__(self) -> Self:
        super().__enter__()
        self.stage(self.budget)
        return self

    def __call__(self, trial: Trial) -> None:
        """Take one more trial into account."""
        self.n_done += 1
        if not trial.cached:  # what the cache knew took no time, and says nothing of what is left
            self._n_new += 1
            self._seconds += trial.seconds
        self.best = trial.best
        self.show(self.n_done, self.state(), at_the_end=False)

    def state(self) -> str:
        """Return best so far, rate and time left, for a person."""
        best = f"best {number_text(self.best)}"
        if not self._n_new:
            return best
        # Not by the clock: the trials of a batch come all at once, after all the time they took.
        rate = self._n_new / max(self._seconds, 1e-9)
        left = (self.budget - self.n_done) / rate
        return f"{best}, {rate:.1f}/s, {duration(left)} left"
