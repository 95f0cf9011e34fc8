"""Chunks on the threads of this process, each on one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

import torch

C = TypeVar("C")
R = TypeVar("R")


def side_by_side(
    function: Callable[[C], R], chunks: Sequence[C], threads: int
) -> Iterator[tuple[int, R]]:
    """Yield numbers of chunks and their results, as they come, of as many at a time as threads.

    Each keeps to one thread of torch. Splitting every operation over the threads instead makes
    them wait for each other hundreds of times per chunk, which costs a factor of ten as soon as
    anything else runs on the machine. The results do not depend on the number of threads.
    """
    before = torch.get_num_threads()
    count = min(threads, len(chunks))
    pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
    try:
        futures = {pool.submit(function, chunk): number for number, chunk in enumerate(chunks)}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # part of the setting is the process's, not the thread's
