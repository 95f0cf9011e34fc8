"""What a search has found: its trials, the best of them, the front of trade-offs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nas.objectives import Objectives
from nas.oracle import Oracle
from nas.pareto import front_of
from spaces.base import Arch, Space
from spaces.errors import NasError

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from nas.explanation import Explanation

#: Trials that a result keeps for certain, the best ones.
KEPT = 2**17


@dataclass(frozen=True, slots=True)
class Trial:
    """One architecture that a search has asked about.

    Two trials are equal when they say the same; how long it took and whether the score was known
    are left out of the comparison, so that a resumed search equals an uninterrupted one.

    Attributes:
        number: From 0, in the order of asking.
        arch: The architecture.
        text: Its official string.
        score: The proxy's own value, whatever the direction; None for a failure.
        error: Why there is no score; None for a success.
        seconds: Its share of the wall time of its batch: ask, score and tell.
        cached: The verdict was known and not computed.
        params: Trainable weights.
        flops: Multiply-accumulates for one image.
        best: The best score so far, this trial included; None while all have failed. Of several
            objectives, that of the first.
        measures: What else is known by name: costs that are limited, and every objective, in the
            objectives' own units. Empty for a failure.
    """

    number: int
    arch: Arch
    text: str
    score: float | None
    error: str | None
    seconds: float = field(compare=False)
    cached: bool = field(compare=False)
    params: int
    flops: int
    best: float | None
    measures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ResultArch:
    """An architecture that a search has found.

    Attributes:
        arch: The architecture.
        text: Its official string.
        score: The proxy's own value.
        params: Trainable weights.
        flops: Multiply-accumulates for one image.
        number: Of its trial.
        measures: What else is known of it, see :class:`Trial`.
        space: Where it lives.
        num_classes: Of the search, for which ``params`` and ``flops`` hold.
    """

    arch: Arch
    text: str
    score: float
    params: int
    flops: int
    number: int
    measures: Mapping[str, float]
    space: Space = field(repr=False)
    num_classes: int = field(repr=False)

    def build(self, *, num_classes: int | None = None, in_chans: int = 3) -> nn.Module:
        """Return the full-size network, freshly initialised, in train mode.

        Args:
            num_classes: Width of the classifier, 0 for none; by default that of the search.
            in_chans: Channels of the images.
        """
        classes = self.num_classes if num_classes is None else num_classes
        return self.space.build(self.arch, num_classes=classes, in_chans=in_chans)


@dataclass(frozen=True)
class Result:
    """What a search has found.

    Attributes:
        trials: In the order of asking: every one, or of more than twice :data:`KEPT` the best.
        n_trials: How many there were.
        n_cached: Of how many the verdict was known.
        failures: How many failed, by reason, the commonest first.
        oracle: What judged them; it breaks ties.
        seconds: Wall time of the run.
        settings: All that the search was asked for, ready for JSON.
        objectives: What was searched for, where that was more than one thing.
    """

    trials: list[Trial]
    n_trials: int
    n_cached: int = field(compare=False)
    failures: dict[str, int]
    oracle: Oracle = field(repr=False, compare=False)
    seconds: float = field(compare=False)
    settings: dict[str, Any]
    objectives: Objectives | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        failed = sum(self.failures.values())
        some = f", {failed} failed" if failed else ""
        return f"<result: {self.n_trials} trials on {self.space.name}{some}>"

    @property
    def space(self) -> Space:
        """Where the architectures live."""
        return self.oracle.space

    @property
    def best(self) -> ResultArch:
        """The best architecture.

        Raises:
            NasError: Every trial failed; the message says why.
        """
        best = self.top(1)
        if best:
            return best[0]
        if not self.n_trials:
            raise NasError("no best architecture: the search made no trial")
        reason, count = next(iter(self.failures.items()))
        raise NasError(
            f"no best architecture: all {self.n_trials} trials failed; "
            f"the commonest reason ({count} of them): {reason}"
        )

    @cached_property
    def front(self) -> list[ResultArch]:
        """The architectures that no other one beats in every objective, by the first of them.

        Of several with the same values, the first that was asked. With a single objective, the
        best one only.
        """
        if self.objectives is None:
            return self.top(1)
        scored = [(trial, trial.score) for trial in self.trials if trial.score is not None]
        names = self.objectives.names
        points = [
            self.objectives.signed([trial.measures[name] for name in names]) for trial, _ in scored
        ]
        return [self._found(*scored[place]) for place in front_of(points).tolist()]

    def top(self, k: int) -> list[ResultArch]:
        """Return the best ``k``, best first, ties broken as :meth:`nas.oracle.Oracle.rank` does.

        Fewer come when fewer trials succeeded. With several objectives: the first ``k`` of
        :attr:`front`.
        """
        if k < 1:
            raise NasError(f"top: expected at least 1, got {k}")
        if self.objectives is not None:
            return self.front[:k]
        scored = [(trial, trial.score) for trial in self.trials if trial.score is not None]
        order = self.oracle.rank([(trial.arch, score) for trial, score in scored], k)
        return [self._found(*scored[i]) for i in order]

    def explain(self, k: int = 10) -> Explanation:
        """Return why an ensemble put these first, and what would change the first place.

        Raises:
            NasError: The search was by a single proxy, or found nothing.
        """
        from nas.explanation import RIVALS, explain  # late: few searches are by an ensemble

        return explain(self.oracle, [found.arch for found in self.top(max(k, RIVALS))], k)

    def to_summary(self) -> dict[str, Any]:
        """Return the best and the counts as plain values, for :meth:`nas.Callback.end`."""
        best = next(iter(self.top(1)), None)
        return {
            "best": None if best is None else {"arch": best.text, "score": best.score},
            "n_trials": self.n_trials,
            "n_failed": sum(self.failures.values()),
            "seconds": self.seconds,
        }

    def to_pandas(self) -> pd.DataFrame:
        """Return the trials as a data frame, one row each, the columns being fields of `Trial`.

        Raises:
            NasError: pandas is not installed.
        """
        try:
            import pandas as pd  # late and optional
        except ImportError as error:
            raise NasError("to_pandas needs pandas: pip install pandas") from error
        names = [each.name for each in fields(Trial)]
        return pd.DataFrame(
            {name: [getattr(trial, name) for trial in self.trials] for name in names}
        )

    def _found(self, trial: Trial, score: float) -> ResultArch:
        return ResultArch(
            arch=trial.arch,
            text=trial.text,
            score=score,
            params=trial.params,
            flops=trial.flops,
            number=trial.number,
            measures=trial.measures,
            space=self.space,
            num_classes=self.oracle.conditions.num_classes,
        )


class Kept:
    """The trials that a result keeps; memory is bounded, however many there are."""

    def __init__(self, sign: int, objectives: Objectives | None) -> None:
        self.trials: list[Trial] = []
        self.count = self.cached = 0
        self.failures: Counter[str] = Counter()
        self._objectives = objectives
        self._sign = sign if objectives is None else objectives.each[0].sign

    def add(self, trial: Trial) -> None:
        self.count += 1
        self.cached += trial.cached
        if trial.error is not None:
            self.failures[trial.error] += 1
        self.trials.append(trial)
        if len(self.trials) > 2 * KEPT:
            self.trials = self._best()

    def _best(self) -> list[Trial]:
        """Return the best half in the order of asking, and what no other beats in every way."""
        scored = [trial for trial in self.trials if trial.score is not None]
        chosen = {trial.number for trial in sorted(scored, key=self._worth)[-KEPT:]}
        if self._objectives is not None:
            names = self._objectives.names
            points = [
                self._objectives.signed([trial.measures[name] for name in names])
                for trial in scored
            ]
            chosen |= {scored[place].number for place in front_of(points).tolist()}
        return [trial for trial in scored if trial.number in chosen]

    def _worth(self, trial: Trial) -> float:
        assert trial.score is not None
        return self._sign * trial.score
