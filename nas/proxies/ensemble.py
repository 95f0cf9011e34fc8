r"""Ensembles: several proxies joined into one score, by where each places an architecture.

    q_m(a)    = place of a's score by member m among those of a reference sample, 0 < q < 1
    log_rank  = sum over members of w_m ln q_m(a)               (the default)
    mean_rank = sum over members of w_m q_m(a) / sum of w_m

Log-rank is AZ-NAS' idea (Lee & Ham, CVPR 2024, https://arxiv.org/abs/2403.19232, eq. 12): ranks
free the members of their units, and the logarithm makes the sum an AND, for a last place in one
member cannot be made good by a first in another. There the ranks are among the candidates seen so
far, so that every new one changes the scores of the old. Here they are quantiles against a sample
of ``reference`` architectures, drawn from the space by the seed and scored once under the same
conditions: a score, once told, never changes, whatever strategy asked.

Between two scores of the sample q is interpolated; equal ones share their mid-rank, and failures
are below all scores. Of the best fifth of a sample only the mean excess e over its lower end u is
used,

    q(x) = 1 - (1 - q(u)) exp(-(x - u) / e)     for x > u   (peaks over a threshold, shape 0),

so that the best are never tied and the order among them does not hang on the few extremes of the
sample: with 512 architectures the first pick is steadier than with ranks among all of the space
(benchmarks/README.md). Below the sample q goes on as q_low / (1 + (x_low - x) / (median - x_low)).
A member that is known to fall with accuracy on a space counts with its sign turned. Canonical forms
are scored; where one member fails there is no score.

``zero_shot`` is the ensemble to use without labels: MeCo, entropy flow (of SED-R), decorrelation,
and norm growth with weight 0.3. The first three ask what a network can express: at its
non-linearities, by its topology, and behind whole cells. Norm growth asks whether it can be
trained. Growth says little over a whole space because it is bought with expressivity: a skip in the
place of a convolution raises one and lowers the other. Among cells that the other three place alike
it goes up with accuracy wherever there is enough expressivity to be trained: not in the poorer
half, and the more the better they are, while the other three say less and less. And the logarithm
gives it its say just there: d ln q / dq = 1 / q, so among bad cells the three differ by whole units
and decide, while among the best all three are near ln 1 = 0, differ by hundredths, and growth
decides. That is what a cut ("re-rank the best 300 by growth") imitates; nothing is cut here. The
weight was chosen on CIFAR-100 and TransNAS object classification; .2 to .5 are alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nas.proxies.base import Conditions, Outcome, Proxy, ProxyError, ProxySpec, score_batch
from nas.seeds import generator
from spaces import Arch, Space

Join = Literal["log_rank", "mean_rank"]

#: The part of a sample below its best fifth.
BEST = 0.8

#: Scores architectures by several proxies, as :func:`nas.proxies.base.score_batch` does.
Scorer = Callable[[Sequence[ProxySpec], Sequence[Arch]], Sequence[Sequence[Outcome]]]


@dataclass(frozen=True)
class EnsembleOptions:
    """Settings of an ensemble.

    Attributes:
        members: Proxies, as a person writes them, and how much each counts.
        join: How their places are joined; see the module.
        reference: Architectures in the reference sample.
    """

    members: dict[str, float] = field(default_factory=lambda: {"meco": 1.0, "sed": 1.0})
    join: Join = "log_rank"
    reference: int = 512

    def __post_init__(self) -> None:
        if not self.members:
            raise ValueError("members must be one proxy at least, got none")
        for text, weight in self.members.items():
            if not 0 < weight < float("inf"):
                raise ValueError(f"members: the weight of {text} must be above 0, got {weight}")
            if ProxySpec.parse(text).members:
                raise ValueError(f"members: {text} is an ensemble itself; name its members")
        if self.reference < 8:
            raise ValueError(f"reference must be at least 8, got {self.reference}")


@dataclass(frozen=True)
class ZeroShotOptions(EnsembleOptions):
    """Settings of the label-free ensemble; those of any ensemble, with other members."""

    members: dict[str, float] = field(
        default_factory=lambda: {
            "meco": 1.0,
            "entropy_flow": 1.0,
            "decorrelation": 1.0,
            "norm_growth": 0.3,
        }
    )


@dataclass(frozen=True)
class Scale:
    """Where a score stands among those of a reference sample.

    Attributes:
        values: The different scores of the sample, ascending, ``(k,)``.
        places: Their mid-rank quantiles, ``(k,)``, between 0 and 1.
        below: Unit of length below the sample: from its lowest score to its median.
        threshold: Where its best fifth begins, u.
        excess: Unit of length above the threshold: the mean excess, e.
    """

    values: NDArray[np.float64]
    places: NDArray[np.float64]
    below: float
    threshold: float
    excess: float

    @classmethod
    def of(cls, scores: Sequence[float]) -> Scale:
        """Make the scale of a sample, in which failures are not finite.

        Raises:
            ProxyError: All of it failed.
        """
        given = np.asarray(scores, dtype=np.float64)
        known = given[np.isfinite(given)]
        if not len(known):
            raise ProxyError("fails on every architecture of the reference sample")
        values, counts = np.unique(known, return_counts=True)
        n_failed = len(given) - len(known)
        places = (n_failed + np.cumsum(counts) - counts / 2) / len(given)
        median, threshold = np.quantile(known, (0.5, BEST))
        best = known[known > threshold]
        # The best may all be equal, as may all be.
        excess = float((best - threshold).mean()) if len(best) else float(threshold - median)
        return cls(
            values, places, float(median - values[0]) or 1.0, float(threshold), excess or 1.0
        )

    def share_above(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return 1 - q of finite scores, ``(n,)``: exact where q rounds to 1, and below 1."""
        inside = np.interp(np.minimum(scores, self.threshold), self.values, self.places)
        with np.errstate(over="ignore"):  # so far away that it is infinitely far
            below = np.maximum(self.values[0] - scores, 0.0) / self.below
            over = np.maximum(scores - self.threshold, 0.0) / self.excess
        share = (1 - inside / (1 + below)) * np.exp(-over)
        most: NDArray[np.float64] = np.minimum(share, np.nextafter(1.0, 0.0))  # q has a logarithm
        return most


@dataclass(frozen=True)
class Joined:
    """What the members of an ensemble say of some architectures.

    Attributes:
        scores: By member and architecture: the member's own value, or why there is none.
        terms: What a unit of weight adds to the joined score, ``(members, n)``: ln q or q; NaN
            where any member failed.
        places: q, ``(members, n)``, likewise.
        totals: The joined scores.
    """

    scores: Sequence[Sequence[Outcome]]
    terms: NDArray[np.float64]
    places: NDArray[np.float64]
    totals: list[Outcome]


@dataclass(frozen=True)
class Reference:
    """The scales of all members of one ensemble.

    Attributes:
        spec: The ensemble.
        scales: One per member.
        signs: +1 where a higher score of the member is better on the space, else -1.
    """

    spec: ProxySpec
    scales: tuple[Scale, ...]
    signs: tuple[int, ...]

    def join(self, scores: Sequence[Sequence[Outcome]]) -> Joined:
        """Join the scores of the members, one row each."""
        count = len(scores[0])
        above = np.full((len(scores), count), np.nan)
        failed = [
            next((row[i] for row in scores if isinstance(row[i], ProxyError)), None)
            for i in range(count)
        ]
        whole = [i for i, failure in enumerate(failed) if failure is None]
        for row, scale, sign, share in zip(scores, self.scales, self.signs, above, strict=True):
            values = np.asarray([row[i] for i in whole], dtype=np.float64)
            share[whole] = scale.share_above(sign * values)
        weights = np.asarray([weight for _, weight in self.spec.members])
        mean = self.spec.options.join == "mean_rank"
        terms = 1 - above if mean else np.log1p(-above)
        sums = weights @ terms / (weights.sum() if mean else 1.0)
        totals = [
            float(total) if failure is None else failure
            for total, failure in zip(sums, failed, strict=True)
        ]
        return Joined(scores, terms, 1 - above, totals)


def sample_of(space: Space, spec: ProxySpec, conditions: Conditions) -> list[Arch]:
    """Return the architectures of the reference sample of an ensemble, canonical."""
    rng = generator(conditions.seed, "ensemble", "reference")
    drawn = [space.sample(rng) for _ in range(spec.options.reference)]
    forms = space.canonicalise(np.asarray(drawn, dtype=np.int64))
    return [tuple(row) for row in forms.tolist()]


def make_reference(
    space: Space, spec: ProxySpec, conditions: Conditions, score: Scorer
) -> Reference:
    """Score the reference sample of an ensemble.

    Raises:
        ProxyError: A member fails on all of it.
    """
    members = spec.parts
    signs = tuple(member.proxy.direction(space) for member in members)
    scales = []
    table = score(members, sample_of(space, spec, conditions))
    for member, sign, row in zip(members, signs, table, strict=True):
        numbers = [sign * x if isinstance(x, float) else np.nan for x in row]
        try:
            scales.append(Scale.of(numbers))
        except ProxyError as error:
            reason = next(str(x) for x in row if isinstance(x, ProxyError))
            raise ProxyError(f"{spec.name}: {member} {error}: {reason}") from None
    return Reference(spec, tuple(scales), signs)


@lru_cache(maxsize=16)
def _remembered(space: Space, text: str, conditions: Conditions) -> Reference:
    return make_reference(
        space,
        ProxySpec.parse(text),
        conditions,
        lambda specs, archs: score_batch(space, specs, archs, conditions),
    )


def reference_of(space: Space, spec: ProxySpec, conditions: Conditions) -> Reference:
    """Return the reference of an ensemble, scored once in a process."""
    return _remembered(space, str(spec), conditions)


def _members(options: EnsembleOptions) -> Mapping[str, float]:
    return options.members


ENSEMBLE = Proxy(
    name="ensemble",
    summary="Proxies of your choice, joined by the logarithms of their ranks",
    paper="https://arxiv.org/abs/2403.19232",
    options=EnsembleOptions,
    members=_members,
)
ZERO_SHOT = Proxy(
    name="zero_shot",
    summary="The label-free ensemble: MeCo, entropy flow, decorrelation, norm growth; made for the "
    "first pick",
    paper="none; found for this project. See nas/proxies/ensemble.py",
    options=ZeroShotOptions,
    members=_members,
)
