"""How far a command is: a live view on a terminal, now and then a plain line elsewhere.

In continuous integration, where ``CI`` is set, nobody watches: neither is shown there.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from nas.cli.console import note
from nas.wording import duration, number_text

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from rich.progress import Progress

    from nas.result import Trial

SECONDS_BETWEEN_LINES = 10.0
_REFRESHES = 5  # of a live view, in a second


def in_ci() -> bool:
    """Tell whether this is a run of continuous integration, as all of its services say."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


class Bar:
    """A bar for each stage of a command, or plain lines where nobody could see one move."""

    def __init__(self, *, quiet: bool) -> None:
        """Show nothing yet.

        Args:
            quiet: Whether nothing is said at all; nothing is in continuous integration either.
        """
        self.quiet = quiet or in_ci()
        self._bar: Progress | None = None
        self._live: Live | None = None
        self._total, self._shown = 0.0, time.monotonic()
        self._name, self._unit, self._percent = "", "", False

    def __enter__(self) -> Self:
        self._shown = time.monotonic()
        if sys.stderr.isatty() and not self.quiet:
            from rich.console import Console, Group
            from rich.live import Live
            from rich.progress import BarColumn, Progress, TextColumn

            bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=30),
                TextColumn("{task.fields[state]}", markup=False),
                auto_refresh=False,
            )
            self._bar = bar
            self._live = Live(
                console=Console(stderr=True),
                get_renderable=lambda: Group(bar, *self.details()),
                refresh_per_second=_REFRESHES,
                transient=True,
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def details(self) -> Iterable[RenderableType]:
        """Return what a live view shows below the bar."""
        return ()

    def stage(self, total: float, name: str = "", *, unit: str = "", percent: bool = False) -> None:
        """Begin a stage.

        Args:
            total: What :meth:`show` counts up to.
            name: Of the stage.
            unit: What is counted.
            percent: Whether to say a share rather than a count.
        """
        self._total, self._name, self._percent = total, name, percent
        self._unit = f" {unit}" if unit else ""
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
            text = f"{100 * done / self._total:.0f} %"
        else:
            text = f"{done:,} of {self._total:,}{self._unit}"
        text += f", {state}" if state else ""
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[-1], completed=done, state=text)
        elif now - self._shown >= SECONDS_BETWEEN_LINES or (at_the_end and done >= self._total):
            self._shown = now
            note(f"  {self._name + ': ' if self._name else ''}{text}")


class CountProgress(Bar):
    """Shows how many architectures are done, and the time left."""

    def __init__(self, unit: str, *, quiet: bool) -> None:
        """Show nothing yet.

        Args:
            unit: What is counted, as ``architectures scored``.
            quiet: As for :class:`Bar`.
        """
        super().__init__(quiet=quiet)
        self._counted = unit
        self._stage: tuple[int, str] | None = None
        self._began = 0.0

    def __call__(self, done: int, total: int, name: str = "") -> None:
        """Take some more into account; another total or name begins another stage."""
        if self._stage != (total, name):
            self._stage, self._began = (total, name), time.monotonic()
            self.stage(total, name, unit=self._counted)
            self._before = done
            self.show(done, "", at_the_end=True)
            return
        new = done - self._before
        left = (time.monotonic() - self._began) / new * (total - done) if new > 0 else 0.0
        self.show(done, f"{duration(left)} left" if done < total else "")


class SearchProgress(Bar):
    """Shows rate, best so far, failures and time left while trials come in."""

    def __init__(self, budget: int, *, quiet: bool) -> None:
        """Show nothing yet.

        Args:
            budget: Trials that there will be at most.
            quiet: As for :class:`Bar`.
        """
        super().__init__(quiet=quiet)
        self.budget = budget
        self.n_done = 0
        self.best: float | None = None
        self._best_text = ""
        self._failures: Counter[str] = Counter()
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
        if trial.best != self.best:
            self.best, self._best_text = trial.best, trial.text
        if trial.error is not None:
            self._failures[trial.error] += 1
        self.show(self.n_done, self.state(), at_the_end=False)

    def state(self) -> str:
        """Return best so far, failures, rate and time left, for a person."""
        told = [f"best {number_text(self.best)}"]
        failed = self._failures.total()
        told += [f"{failed:,} failed"] if failed else []
        if self._n_new:
            # Not by the clock: the trials of a batch come all at once, after the time they took.
            rate = self._n_new / max(self._seconds, 1e-9)
            left = (self.budget - self.n_done) / rate
            told += [f"{rate:.1f}/s", f"{duration(left)} left"]
        return ", ".join(told)

    def details(self) -> Iterable[RenderableType]:
        """Return the best architecture, and why most failures failed."""
        from rich.text import Text

        if self._best_text:
            yield Text.assemble(("best    ", "dim"), self._best_text)
        if self._failures:
            (reason, count), *_ = self._failures.most_common(1)
            yield Text.assemble(
                ("failed  ", "dim"), f"{count:,}: {reason}", no_wrap=True, overflow="ellipsis"
            )
