"""Limits of a search: ``params: <= 1.0e6``, checked before anything is scored.

A limit is a quantity (:mod:`nas.quantities`) and a bound: a text ``<= NUMBER`` or ``>= NUMBER``, a
number (at most so much), or a list of those. An architecture whose quantity is not known, such as
one that a table says a device does not support, is outside.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.quantities import COUNTED, QUANTITIES, Quantities
from spaces import Arch, NasError, Population, look_up

_BOUND = re.compile(r"(<=|>=)\s*([0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?)")

_GROWS_WITH = {"memory_mb": "params", "latency_ms": "flops"}


@dataclass(frozen=True)
class Bound:
    """One bound of one quantity.

    Attributes:
        quantity: Its name.
        sign: ``<=`` or ``>=``.
        value: Positive.
    """

    quantity: str
    sign: str
    value: float

    def __str__(self) -> str:
        return f"{self.quantity} {self.sign} {self.value:,.6g}"

    def excess(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how far values are outside, as a share of the bound, ``(N,)``; 0 is inside."""
        over = (values - self.value) / self.value
        over = over if self.sign == "<=" else -over
        return np.where(np.isnan(values), np.inf, np.maximum(over, 0.0))


def parse_bounds(quantity: str, given: object) -> list[Bound]:
    """Read what bounds a quantity.

    Args:
        quantity: One of :data:`nas.quantities.QUANTITIES`.
        given: A text such as ``"<= 1.0e6"``, a number, or a list of those.

    Raises:
        NasError: No such quantity, or not this form.
    """
    look_up(dict.fromkeys(QUANTITIES), quantity, kind="limit")
    if isinstance(given, Sequence) and not isinstance(given, str):
        return [bound for each in given for bound in parse_bounds(quantity, each)]
    if isinstance(given, int | float) and not isinstance(given, bool):
        sign, value = "<=", float(given)
    else:
        match = _BOUND.fullmatch(given.strip()) if isinstance(given, str) else None
        if match is None:
            raise NasError(
                f"{quantity}: expected '<= NUMBER', '>= NUMBER' or a list of them, got {given!r}"
            )
        sign, value = match[1], float(match[2])
    if not 0 < value < float("inf"):
        raise NasError(f"{quantity}: a limit must be positive and finite, got {value:g}")
    return [Bound(quantity, sign, value)]


class CostLimits:
    """The limits of one search, as strategies ask them (:class:`searchers.Limits`).

    Attributes:
        bounds: All of them.
        effort: How many architectures may be looked at for one that is wanted.
    """

    def __init__(self, constraints: Mapping[str, object], quantities: Quantities) -> None:
        """Read the limits.

        Args:
            constraints: Bounds by quantity, as :func:`parse_bounds` reads them.
            quantities: What architectures cost.

        Raises:
            NasError: An unknown quantity, an unreadable bound, or no source of latencies.
        """
        self.bounds = tuple(
            bound for name, given in constraints.items() for bound in parse_bounds(name, given)
        )
        self.names = tuple(dict.fromkeys(bound.quantity for bound in self.bounds))
        self.effort = quantities.effort(self.names)
        self._quantities = quantities

    def __str__(self) -> str:
        return ", ".join(map(str, self.bounds))

    def excess(self, population: Population) -> NDArray[np.float64]:
        """Return how far each architecture is outside, ``(N,)``; 0 is inside.

        Excesses are shares of their bounds, and are added up. Where a quantity takes a run of every
        network, those are asked about it only that keep what can be counted; any other one counts
        as further outside than they all.
        """
        slow = "memory_mb" in self.names or self.effort < 256
        counted = self._sum([n for n in self.names if n in COUNTED or not slow], population)
        rest = [name for name in self.names if name not in COUNTED and slow]
        if not rest:
            return counted
        inside = np.flatnonzero(counted == 0)
        further = self._sum(rest, population[inside])
        total = 1.0 + counted
        total[inside] = further / (1.0 + np.where(np.isinf(further), 1e300, further))
        total[inside[np.isinf(further)]] = 1.0
        return total

    def guess(self, population: Population) -> NDArray[np.float64]:
        """Return how far outside each is likely to be, by counts alone, ``(N,)``: only the order.

        What can be counted comes first; then memory is taken to grow with parameters, and latency
        with FLOPs.
        """
        total = np.zeros(len(population))
        for bound in self.bounds:
            name = _GROWS_WITH.get(bound.quantity, bound.quantity)
            counted = self._quantities.of(name, population)
            if bound.quantity in COUNTED:
                total += 1e3 * bound.excess(counted)
            else:
                total += np.log(counted) if bound.sign == "<=" else -np.log(counted)
        return total

    def _sum(self, names: Sequence[str], population: Population) -> NDArray[np.float64]:
        total = np.zeros(len(population))
        for name in names if len(population) else ():
            values = self._quantities.of(name, population)
            for bound in self.bounds:
                if bound.quantity == name:
                    total += bound.excess(values)
        return total

    def describe(self, arch: Arch) -> str:
        """Return every bound and what an architecture has of it."""
        row = np.asarray([arch], dtype=np.int64)
        parts = []
        for bound in self.bounds:
            value = float(self._quantities.of(bound.quantity, row)[0])
            has = "unknown" if np.isnan(value) else f"{value:,.6g}"
            parts.append(f"{bound.quantity} {has} (limit {bound.sign} {bound.value:,.6g})")
        return ", ".join(parts)
