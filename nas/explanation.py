"""Why an ensemble put an architecture first, and what would have put another there.

A joined score is linear in the weights: S(a) = sum over members of w_m t_m(a), where t is ln q or q
(:mod:`nas.proxies.ensemble`). With the others as they are, the first stays first as long as

    S(first) - S(b) + (w - w_m) (t_m(first) - t_m(b)) >= 0     for every other candidate b,

which is an interval of w around w_m. Its ends say which member the pick hangs on, and who is next.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.oracle import Oracle
from nas.proxies.ensemble import Joined
from spaces import Arch
from spaces.errors import NasError

#: Candidates that are compared with the first.
RIVALS = 100


@dataclass(frozen=True)
class Standing:
    """What the members of an ensemble say of one architecture.

    Attributes:
        arch: Its official string.
        score: The joined score.
        places: Its place by each member, between 0 and 1, higher is better.
        values: The member's own values.
    """

    arch: str
    score: float
    places: dict[str, float]
    values: dict[str, float]


@dataclass(frozen=True)
class Hold:
    """For which weights of one member the first architecture stays first.

    Attributes:
        member: The proxy.
        weight: What it has.
        low: The smallest weight that keeps the first one; 0 if it is not needed at all.
        high: The largest; None if there is none.
        below: Which architecture is first below ``low``; None if none is.
        above: Which is first above ``high``; None if none is.
    """

    member: str
    weight: float
    low: float
    high: float | None
    below: str | None
    above: str | None


@dataclass(frozen=True)
class Explanation:
    """Why an ensemble ranks as it does.

    Attributes:
        reference: Architectures in the reference sample.
        standings: The best ones, best first.
        holds: One per member.
        rivals: How many candidates the first was compared with.
    """

    reference: int
    standings: list[Standing]
    holds: list[Hold]
    rivals: int

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return headers and rows: the places of the best, by member."""
        members = [hold.member for hold in self.holds]
        rows = [["weight", *(f"{hold.weight:g}" for hold in self.holds), ""]]
        for number, row in enumerate(self.standings, start=1):
            places = [f"{row.places[member]:.3f}" for member in members]
            rows.append([str(number), *places, row.arch])
        return ["#", *members, "architecture"], rows

    def sentences(self) -> list[str]:
        """Say for each member what would change the first place."""
        return [_sentence(hold) for hold in self.holds]

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values, for :meth:`from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Explanation:
        """Return what :meth:`to_json` was called on."""
        return cls(
            values["reference"],
            [Standing(**row) for row in values["standings"]],
            [Hold(**row) for row in values["holds"]],
            values["rivals"],
        )


def _sentence(hold: Hold) -> str:
    parts = []
    if hold.below is not None:
        parts.append(f"below {hold.low:.3g} first is {hold.below}")
    if hold.above is not None:
        parts.append(f"above {hold.high:.3g} first is {hold.above}")
    found = "; ".join(parts) or "no weight changes the first place"
    return f"{hold.member} ({hold.weight:g}): {found}"


def explain(oracle: Oracle, best: Sequence[Arch], k: int = 10) -> Explanation:
    """Explain a ranking by an ensemble.

    Args:
        oracle: What judged.
        best: The best architectures, best first; those beyond :data:`RIVALS` are not
            looked at.
        k: How many to describe.

    Raises:
        NasError: The proxy is no ensemble, or there is nothing to explain.
    """
    if not best:
        raise NasError("explain: expected one architecture at least, got none")
    best = best[: max(k, RIVALS)]
    joined = oracle.join_members(best)
    spec = oracle.spec
    assert spec is not None  # or there would be no members
    names = [str(member) for member, _ in spec.members]
    weights = np.asarray([weight for _, weight in spec.members])
    texts = [oracle.text(arch) for arch in best]
    return Explanation(
        reference=spec.options.reference,
        standings=[_standing(joined, names, texts, i) for i in range(min(k, len(best)))],
        holds=[
            _hold(name, m, oracle.sign * joined.terms, weights, texts)
            for m, name in enumerate(names)
        ],
        rivals=len(best) - 1,
    )


def _standing(joined: Joined, names: Sequence[str], texts: Sequence[str], i: int) -> Standing:
    total = joined.totals[i]
    if not isinstance(total, float):
        raise NasError(f"explain: {texts[i]} has no score: {total}")
    values = [row[i] for row in joined.scores]
    return Standing(
        arch=texts[i],
        score=total,
        places=dict(zip(names, joined.places[:, i].tolist(), strict=True)),
        values={
            name: value
            for name, value in zip(names, values, strict=True)
            if isinstance(value, float)
        },
    )


def _hold(
    name: str,
    m: int,
    terms: NDArray[np.float64],
    weights: NDArray[np.float64],
    texts: Sequence[str],
) -> Hold:
    """Return the weights of member m for which the first candidate stays first."""
    weight = float(weights[m])
    lead = weights @ (terms[:, :1] - terms[:, 1:])  # (rivals,), at least 0
    ahead = terms[m, 0] - terms[m, 1:]  # by how much the first is ahead in this member alone
    with np.errstate(divide="ignore", invalid="ignore"):
        change = -lead / ahead
    low, below = _nearest(np.where(ahead > 0, change, -np.inf), texts, -1)
    high, above = _nearest(np.where(ahead < 0, change, np.inf), texts, 1)
    if weight + low <= 0:  # first even without this member
        low, below = -weight, None
    most = None if above is None else weight + high
    return Hold(name, weight, weight + low, most, below, above)


def _nearest(
    changes: NDArray[np.float64], texts: Sequence[str], side: int
) -> tuple[float, str | None]:
    """Return the change of weight at which the first rival takes over, and which that is."""
    if not len(changes):
        return side * math.inf, None
    at = int(np.argmin(side * changes))
    found = float(changes[at])
    return found, texts[at + 1] if math.isfinite(found) else None
