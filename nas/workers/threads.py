"""Chunks on the threads of this process, each on one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

import torch

C = TypeVar("C")
R = TypeVar("R")


def side_by_side(
    function: Callable[[C], R], chunks: Iterable[C], threads: int
) -> Iterator[tuple[int, R]]:
    """Yield numbers of chunks and their results, as they come, of as many at a time as threads.

    Each keeps to one thread of torch. Splitting every operation over the threads instead makes
    them wait for each other hundreds of times per chunk, which costs a factor of ten as soon as
    anything else runs on the machine. The results do not depend on the number of threads.
    """
    before = torch.get_num_threads()
    rest = iter(enumerate(chunks))
    running: dict[Future[R], int] = {}
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        free = threads
        while True:
            for number, chunk in islice(rest, free):
                running[pool.submit(function, chunk)] = number
            if not running:
                return
            done = wait(running, return_when=FIRST_COMPLETED).done
            free = len(done)
            for future in done:
                yield running.pop(future), future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # part of the setting is the process's, not the thread's
