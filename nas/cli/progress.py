"""How far a search is: a bar on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from nas.cli.console import note
from nas.wording import duration, number_text

if TYPE_CHECKING:
    from rich.progress import Progress

    from nas.engine import Trial

SECONDS_BETWEEN_LINES = 10.0


class SearchProgress:
    """Shows rate, best score so far and time left while trials come in."""

    def __init__(self, budget: int, *, quiet: bool) -> None:
        self.budget = budget
        self.n_done = 0
        self.best: float | None = None
        self._n_new = 0
        self._seconds = 0.0
        self._quiet = quiet
        self._bar: Progress | None = None
        self._shown = time.monotonic()

    def __enter__(self) -> Self:
        self._shown = time.monotonic()
        if sys.stderr.isatty() and not self._quiet:
            self._bar = _bar()
            self._bar.add_task("", total=self.budget, state="starting")
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

    def __call__(self, trial: Trial) -> None:
        """Take one more trial into account."""
        self.n_done += 1
        if not trial.cached:  # what the cache knew took no time, and says nothing of what is left
            self._n_new += 1
            self._seconds += trial.seconds
        self.best = trial.best
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self.n_done, state=self.state())
        elif time.monotonic() - self._shown >= SECONDS_BETWEEN_LINES:
            self._shown = time.monotonic()
            note(f"  {self.n_done:,} of {self.budget:,}, {self.state()}")

    def state(self) -> str:
        """Return best so far, rate and time left, for a person."""
        best = f"best {number_text(self.best)}"
        if not self._n_new:
            return best
        # Not by the clock: the trials of a batch come all at once, after all the time they took.
        rate = self._n_new / max(self._seconds, 1e-9)
        left = (self.budget - self.n_done) / rate
        return f"{best}, {rate:.1f}/s, {duration(left)} left"


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    return Progress(
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}", markup=False),
        console=Console(stderr=True),
        transient=True,
    )
