"""Tree-structured Parzen estimator: Optuna's TPESampler, in memory, one categorical per choice.

Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization"; Watanabe 2023,
https://arxiv.org/abs/2304.11127, describes what Optuna computes; of several objectives, the good
ones are those of the first fronts (Ozaki et al. 2022, https://doi.org/10.1613/jair.1.13188).
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from searchers.base import Candidate, Strategy, StrategyInfo, check_integer
from spaces import Arch, InvalidArch, Population, Space

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class TpeOptions:
    """Settings of :class:`Tpe`.

    Attributes:
        startup: Scored candidates before the model is used; until then draws are random.
        draws: Samples of the model of good architectures, of which the most promising is proposed
            (``n_ei_candidates`` of Optuna).
    """

    startup: int = 20
    draws: int = 24

    def __post_init__(self) -> None:
        check_integer("startup", self.startup, at_least=1)
        check_integer("draws", self.draws, at_least=1)


class Tpe(Strategy):
    """Proposes what is likely under a model of the good and unlikely under one of the others.

    Until ``startup`` candidates have a score, draws are random. A failed candidate is a failed
    trial, which Optuna's model leaves out.

    Several open candidates: Optuna counts an open trial as a bad one ("constant liar"), which
    keeps the candidates of a batch apart.

    Duplicates: the model may propose a function that was asked before. It is never asked again: a
    known score is told to the proposing trial at once, and the trial of a failed or still open one
    is closed as failed. After :attr:`_patience` such proposals in a row, a new architecture is
    looked for around the last one; if that fails too, the walk of the base class goes on.

    Limits: the trial of a proposal outside is closed as failed, and what is asked is the repaired
    proposal, whose score Optuna learns.

    Several objectives cost Optuna time that grows with the number of trials: at 1,000, a tenth of a
    second and more per candidate.
    """

    _recalls = True
    one_score = ""

    _patience: ClassVar[int] = 4  # small: every proposal costs milliseconds and one more trial
    _STEPS: ClassVar[int] = 8  # changes to a known proposal before the walk takes over

    def __init__(
        self,
        space: Space,
        *,
        seed: int,
        startup: int = TpeOptions.startup,
        draws: int = TpeOptions.draws,
    ) -> None:
        super().__init__(space, seed=seed)
        options = TpeOptions(startup, draws)
        import optuna  # late: half a second that only this strategy needs

        self._failed = optuna.trial.TrialState.FAIL
        self._create_trial = optuna.trial.create_trial
        self._distributions: dict[str, optuna.distributions.BaseDistribution] = {
            str(position): optuna.distributions.CategoricalDistribution(range(size))
            for position, size in enumerate(space.dimensions)
        }
        self._options = options
        self._sampler_seed = int(self._rng.integers(2**32))
        self._study = _quiet_study(options, seed=self._sampler_seed)
        self._trials: dict[Arch, optuna.Trial] = {}  # of the open candidates that Optuna proposed

    def pursue(self, n_objectives: int) -> None:
        super().pursue(n_objectives)
        self._study = _quiet_study(self._options, self._sampler_seed, n_objectives)

    def _propose(self, n: int) -> Sequence[Arch] | Population:
        return [arch for arch in (self._propose_one() for _ in range(n)) if arch is not None]

    def _propose_one(self) -> Arch | None:
        """Return one canonical architecture that is new, or None where none was found."""
        known: Arch | None = None
        for _ in range(self._patience):
            trial = self._study.ask(self._distributions)
            try:
                proposal = self.space.validate([trial.params[name] for name in self._distributions])
            except InvalidArch:  # a space may forbid combinations of choices
                self._study.tell(trial, state=self._failed)
                continue
            arch = self.space.canonical(proposal)
            if not self._only_inside([arch]):
                self._close(trial, None)
                repaired = self._repair(arch)
                if repaired is not None and self._is_new(repaired):
                    return repaired
            elif self._is_new(arch):
                self._trials[arch] = trial
                return arch
            else:
                self._close(trial, self._known_scores(arch))
                known = arch
        return self._stray(self._canonical(self._sample(1))[0] if known is None else known)

    def _known_scores(self, arch: Arch) -> tuple[float, ...] | None:
        """Return what was told of an architecture, None where nothing was or it failed."""
        if self._n_objectives > 1:
            return self._told_several.get(arch)
        score = self._told.get(arch)
        return None if score is None else (score,)

    def _is_new(self, arch: Arch) -> bool:
        return arch not in self._asked and arch not in self._trials

    def _stray(self, arch: Arch) -> Arch | None:
        """Return a new architecture near a known one, at most ``_STEPS`` changes away."""
        for _ in range(self._STEPS):
            neighbours = self.space.near(arch)
            near = self._only_inside(self._canonical(neighbours)) if neighbours else []
            if not near:
                return None
            choice = [other for other in near if self._is_new(other)] or near
            arch = choice[int(self._rng.integers(len(choice)))]
            if self._is_new(arch):
                return arch
        return None

    def _close(self, trial: "optuna.Trial", scores: tuple[float, ...] | None) -> None:
        """Finish a trial with its scores, or as failed where there are none."""
        if scores is None:
            self._study.tell(trial, state=self._failed)
        else:
            self._study.tell(trial, scores)

    def _observe(self, candidate: Candidate, score: float | None) -> None:
        self._observe_several(candidate, None if score is None else (score,))

    def _observe_several(self, candidate: Candidate, scores: tuple[float, ...] | None) -> None:
        trial = self._trials.pop(candidate.arch, None)
        if trial is not None:
            self._close(trial, scores)
        elif scores is not None:  # Optuna did not propose it, but may learn from it
            params = dict(zip(self._distributions, candidate.arch, strict=True))
            self._study.add_trial(
                self._create_trial(
                    params=params, distributions=self._distributions, values=list(scores)
                )
            )


def _quiet_study(options: TpeOptions, seed: int, n_objectives: int = 1) -> "optuna.Study":
    """Create a study without Optuna's log line and experimental warnings, then restore both."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                seed=seed,
                n_startup_trials=options.startup,
                n_ei_candidates=options.draws,
                multivariate=True,  # the choices of one architecture interact
                constant_liar=True,
            )
        maximise = optuna.study.StudyDirection.MAXIMIZE
        return optuna.create_study(directions=[maximise] * n_objectives, sampler=sampler)
    finally:
        optuna.logging.set_verbosity(verbosity)


TPE = StrategyInfo(
    name="tpe",
    summary="Optuna's tree-structured Parzen estimator, in memory",
    paper="https://arxiv.org/abs/2304.11127",
    strategy=Tpe,
    options=TpeOptions,
)
