"""Statistics of the layers of N architectures, ragged, as flat arrays; and how they are reduced.

Letters: N architectures, L layers of them all, S atoms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.floating]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Layers:
    """What is known of the places of one role in N networks, one network after the other.

    Attributes:
        atoms: Names, S of them.
        values: ``(S, L)``; of one format, in which reductions are computed.
        counts: How often each place counts, ``(L,)``: maps that several layers read come once.
        offsets: Where each network begins, ``(N + 1,)``.
        dead: Networks in which nothing that was given arrives, ``(N,)``; None if that is none.
    """

    atoms: tuple[str, ...]
    values: Numbers
    counts: Numbers
    offsets: Ints
    dead: Flags | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def atom(self, name: str) -> Numbers:
        """Return one statistic of all places, ``(L,)``."""
        found: Numbers = self.values[self.atoms.index(name)]
        return found

    def of(self, networks: Ints) -> Layers:
        """Return the layers of some of the networks, ``(n,)``, in that order."""
        starts, lengths = self.offsets[networks], np.diff(self.offsets)[networks]
        ends = np.cumsum(lengths)
        rows = np.arange(ends[-1] if len(ends) else 0) + np.repeat(
            starts - (ends - lengths), lengths
        )
        return Layers(
            self.atoms,
            np.ascontiguousarray(self.values[:, rows]),
            self.counts[rows],
            np.concatenate([[0], ends]).astype(np.int64),
            None if self.dead is None else self.dead[networks],
        )

    @cached_property
    def _filled(self) -> NDArray[np.bool_]:
        return np.diff(self.offsets) > 0

    @cached_property
    def _starts(self) -> Ints:
        starts: Ints = self.offsets[:-1][self._filled]
        return starts

    @cached_property
    def _all_filled(self) -> bool:
        return bool(self._filled.all())

    @cached_property
    def _totals(self) -> Numbers:
        return self._reduced(np.add, self.counts)

    def _reduced(self, by: np.ufunc, values: Numbers) -> Numbers:
        """Reduce the places of every network, ``(L,)`` to ``(N,)``; NaN where there is none."""
        if self._all_filled:
            whole: Numbers = by.reduceat(values, self._starts) if len(self) else values[:0]
            return whole
        found = np.full(len(self), np.nan, dtype=values.dtype)
        if len(self._starts):
            found[self._filled] = by.reduceat(values, self._starts)
        return found

    def sum(self, values: Numbers) -> Numbers:
        """Return sums over the places of every network, ``(N,)``; NaN where there is none."""
        return self._reduced(np.add, values * self.counts)

    def mean(self, values: Numbers) -> Numbers:
        """Return means, ``(N,)``; as :meth:`sum`."""
        mean: Numbers = self.sum(values) / self._totals
        return mean

    def std(self, values: Numbers) -> Numbers:
        """Return standard deviations (of the places, not of a sample from them), ``(N,)``."""
        apart = values - np.repeat(self.mean(values), np.diff(self.offsets))
        spread: Numbers = np.sqrt(self.mean(apart * apart))
        return spread

    def min(self, values: Numbers) -> Numbers:
        """Return smallest values, ``(N,)``."""
        return self._reduced(np.minimum, values)

    def max(self, values: Numbers) -> Numbers:
        """Return largest values, ``(N,)``."""
        return self._reduced(np.maximum, values)


REDUCTIONS: Mapping[str, Callable[[Layers, Numbers], Numbers]] = {
    "mean": Layers.mean,
    "sum": Layers.sum,
    "min": Layers.min,
    "max": Layers.max,
    "std": Layers.std,
}

#: By role.
Sample = Mapping[str, Layers]


def join(parts: Sequence[Layers]) -> Layers:
    """Return the layers of several batches of networks as those of one."""
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    dead = [part.dead for part in parts]
    return Layers(
        parts[0].atoms,
        np.concatenate([part.values for part in parts], axis=1),
        np.concatenate([part.counts for part in parts]),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        None if dead[0] is None else np.concatenate(dead),  # type: ignore[arg-type]
    )
