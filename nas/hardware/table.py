"""Latency from a table that somebody measured, such as HW-NAS-Bench's.

Li et al. 2021, https://arxiv.org/abs/2103.10584: milliseconds of the cells of NAS-Bench-201 on six
devices, by data set. A value that is not positive means "not supported" (-1 there).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas.benchmark.columns import parse_column
from nas.benchmark.table import parse_truth
from nas.proxies.base import Conditions
from spaces import NasError, Population, Space


class TableLatency:
    """One column of a table, in milliseconds; an architecture that it lacks is not known."""

    effort = 4096

    def __init__(self, text: str, space: Space) -> None:
        """Read the column.

        Args:
            text: ``FILE:COLUMN``.
            space: Whose members the rows are.

        Raises:
            NasError: The table or the column cannot be read, or it holds an accuracy, which a
                search must not see.
        """
        column = parse_truth(text, space)
        if parse_column(column.column) is not None:
            raise NasError(f"latency: {text}: the column holds an accuracy, not a latency")
        self.name = f"{column.column} of a table"
        self._space = space.name
        self._known = {
            arch: value
            for arch, value in zip(column.archs, column.values.tolist(), strict=True)
            if value > 0
        }

    def __call__(
        self, space: Space, population: Population, conditions: Conditions
    ) -> NDArray[np.float64]:
        if space.name != self._space:
            raise NasError(f"latency: the table is of {self._space}, the search is on {space.name}")
        rows = map(tuple, population.tolist())
        return np.asarray([self._known.get(row, np.nan) for row in rows], dtype=np.float64)
