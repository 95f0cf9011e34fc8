"""Several objectives of one search: ``[predicted_accuracy, -latency_ms]``.

An objective is a name, with a minus before it where less is better:

    score               what the search's own proxy or oracle says
    predicted_accuracy  the same, where that is a fitted predictor
    params, flops, memory_mb, latency_ms    costs (nas.quantities)
    any proxy           as ``meco`` or ``meco:hooks=reference``, under the search's conditions
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas.oracle import Failure, Oracle, Score, Verdict
from nas.quantities import QUANTITIES, Quantities
from spaces import Arch, NasError
from spaces.errors import UnknownName

OWN = ("score", "predicted_accuracy")


@dataclass(frozen=True)
class Objective:
    """One of them.

    Attributes:
        name: Without its sign.
        sign: +1 where more is better, -1 where less is.
    """

    name: str
    sign: int

    def __str__(self) -> str:
        return self.name if self.sign > 0 else f"-{self.name}"


def parse_objective(text: object) -> Objective:
    """Read a name with a minus before it, or none.

    Raises:
        NasError: Not a text, or nothing that could be a name.
    """
    name = text.strip() if isinstance(text, str) else ""
    sign = -1 if name.startswith("-") else 1
    name = name.removeprefix("-").strip()
    if not name:
        raise NasError(
            f"objectives: expected a name such as 'score' or '-latency_ms', got {text!r}"
        )
    return Objective(name, sign)


class Objectives:
    """The objectives of one search.

    Attributes:
        each: In the order in which they were given.
    """

    def __init__(
        self, given: Sequence[str], oracle: Oracle, quantities: Quantities, is_predictor: bool
    ) -> None:
        """Find what judges each of them.

        Args:
            given: Two or more, as :func:`parse_objective` reads them.
            oracle: The search's own.
            quantities: What architectures cost.
            is_predictor: The search is by a fitted predictor.

        Raises:
            NasError: Fewer than two, one of them twice, or an unknown name.
        """
        self.each = tuple(map(parse_objective, given))
        names = [each.name for each in self.each]
        if len(names) < 2:
            raise NasError(f"objectives: expected at least two, got {list(given)!r}")
        twice = [name for place, name in enumerate(names) if name in names[:place]]
        if twice:
            raise NasError(f"objectives: {twice[0]!r} stands there twice")
        self._oracle = oracle
        self._quantities = quantities
        self._others: dict[str, Oracle] = {}
        quantities.check(names)
        for name in names:
            if name == "predicted_accuracy" and not is_predictor:
                raise NasError(
                    "objectives: predicted_accuracy needs a fitted predictor: "
                    "oracle: {predictor: FILE}; 'score' is what any proxy says"
                )
            if name not in OWN and name not in QUANTITIES:
                self._others[name] = self._other(name)

    def _other(self, name: str) -> Oracle:
        try:
            return Oracle(
                self._oracle.space,
                name,
                conditions=self._oracle.conditions,
                cache=self._oracle.cache,
                workers=self._oracle.workers,
            )
        except UnknownName as error:
            known = ", ".join((*OWN, *QUANTITIES))
            raise NasError(f"objectives: {error}; beside proxies: {known}") from None

    @property
    def names(self) -> tuple[str, ...]:
        """The objectives without their signs."""
        return tuple(each.name for each in self.each)

    def values(
        self, archs: Sequence[Arch], verdicts: Sequence[Verdict]
    ) -> list[tuple[float, ...] | str]:
        """Return what each architecture reaches, in the objectives' own units, or why not.

        Args:
            archs: Architectures.
            verdicts: What the search's own oracle says of them.
        """
        columns = [self._column(each.name, archs, verdicts) for each in self.each]
        rows: list[tuple[float, ...] | str] = []
        for row in zip(*columns, strict=True):
            reasons = [value for value in row if isinstance(value, str)]
            numbers = tuple(value for value in row if not isinstance(value, str))
            rows.append(reasons[0] if reasons else numbers)
        return rows

    def signed(self, values: Sequence[float]) -> tuple[float, ...]:
        """Return values of which more is better in each."""
        return tuple(each.sign * value + 0.0 for each, value in zip(self.each, values, strict=True))

    def _column(
        self, name: str, archs: Sequence[Arch], verdicts: Sequence[Verdict]
    ) -> list[float | str]:
        if name in QUANTITIES:
            found = self._quantities.of(name, np.asarray(archs, dtype=np.int64)).tolist()
            return [f"{name} is not known" if np.isnan(x) else float(x) for x in found]
        judged = verdicts if name in OWN else self._others[name].score(archs)
        return [_value(verdict) for verdict in judged]


def _value(verdict: Verdict) -> float | str:
    if isinstance(verdict, Score):
        return verdict.value
    assert isinstance(verdict, Failure)
    return verdict.reason
