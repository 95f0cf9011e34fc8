"""How a command ends when somebody wants it to: SIGINT (Ctrl-C) and SIGTERM.

The first signal is an exception where the command is, so that whatever holds files and processes
lets them go. The second one ends everything at once.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import typer

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """Somebody wants the command to end.

    Attributes:
        signal: Which way, SIGINT or SIGTERM.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = signal.Signals(number)


def ended(error: KeyboardInterrupt) -> typer.Exit:
    """Return the end of the process that a shell expects: 130 by Ctrl-C, 143 by SIGTERM."""
    number = error.signal if isinstance(error, Stopped) else signal.SIGINT
    return typer.Exit(128 + number)


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise :class:`Stopped` at the first signal; at the second, end at once, workers and all."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals go to the main thread, where somebody else takes care of them
        return
    heard = False

    def hear(number: int, frame: FrameType | None) -> None:
        nonlocal heard
        if heard:
            for worker in multiprocessing.active_children():
                worker.kill()
            os._exit(128 + number)
        heard = True
        raise Stopped(number)

    before: dict[signal.Signals, Any] = {}
    try:
        for each in SIGNALS:
            if signal.getsignal(each) != signal.SIG_IGN:  # as nohup wants it
                before[each] = signal.signal(each, hear)
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
