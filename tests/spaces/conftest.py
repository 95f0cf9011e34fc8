"""Fixtures of the tests of spaces: the rows of the real tables, and one thread for torch."""

import csv
import gzip
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

Rows = list[dict[str, str]]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Run small networks on one thread: where cores are shared, two wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def read_rows(shared_data: Path) -> Callable[[str], Rows]:
    """A function that reads a table of the real data by its name."""

    def read(name: str) -> Rows:
        with gzip.open(shared_data / f"{name}.csv.gz", "rt", encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    return read
