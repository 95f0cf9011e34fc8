"""A finished search as an Optuna study, for ``optuna-dashboard`` and who else reads studies.

Each architecture is a trial: the choices of the space as categorical parameters, the score (or the
objectives) as values, and what is known besides as user attributes. An architecture that could not
be scored is a trial that failed, with the reason.
"""

from __future__ import annotations

import datetime
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from nas.objectives import OWN, parse_objective
from nas.runs.read import TRAINING, VERIFICATION, Run, TrialRow, read_run
from spaces.errors import NasError

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

Direction: TypeAlias = Literal["maximize", "minimize"]


def to_optuna(
    run_folder: str | os.PathLike[str], url: str, *, name: str | None = None
) -> optuna.Study:
    """Write a search into a storage of Optuna, as one study.

    Args:
        run_folder: Of a finished search.
        url: Of the storage, such as ``sqlite:///x.db``; it is made if need be.
        name: Of the study; that of the run folder when left out.

    Returns:
        The study. Its attributes tell space, proxy, strategy and folder.

    Raises:
        NasError: There is no finished search, a study of this name is in the storage already, or
            the storage cannot be used.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    run = read_run(Path(run_folder))
    title = name or run.path.resolve().name
    trials = _frozen(run)
    try:
        with _quiet():
            storage = optuna.storages.RDBStorage(url)
            _hurry(storage)
            study = optuna.create_study(
                storage=storage, study_name=title, directions=_directions(run)
            )
            study.set_metric_names(_metrics(run))
            for key, value in _about(run).items():
                study.set_user_attr(key, value)
            study.add_trials(trials)
    except optuna.exceptions.DuplicatedStudyError:
        raise NasError(
            f"{url}: a study named {title!r} is there already; give another name or another file"
        ) from None
    except (SQLAlchemyError, ImportError, ValueError) as error:
        told = " ".join(str(error).split())
        raise NasError(f"{url}: no storage of Optuna: {told}") from None
    return study


@contextmanager
def _quiet() -> Iterator[None]:
    """Let Optuna neither log what it makes nor warn that names of metrics are new to it."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _hurry(storage: optuna.storages.RDBStorage) -> None:
    """Let SQLite not wait for the disk after each trial; what is lost is made again in a moment."""
    from sqlalchemy import event

    if storage.engine.dialect.name == "sqlite":
        storage.engine.dispose()  # connections that are open already would go on waiting

        @event.listens_for(storage.engine, "connect")
        def _connected(connection: Any, _: object) -> None:  # noqa: ANN401 - of a database's driver
            connection.execute("PRAGMA synchronous = OFF")


def _directions(run: Run) -> list[Direction]:
    if not run.objectives:
        return ["maximize" if run.rises else "minimize"]
    signs = [parse_objective(text).sign for text in run.objectives]
    return ["maximize" if sign > 0 else "minimize" for sign in signs]


def _metrics(run: Run) -> list[str]:
    if not run.objectives:
        return [str(run.recipe["proxy"]["name"])]
    return [parse_objective(text).name for text in run.objectives]


def _about(run: Run) -> dict[str, Any]:
    return {
        "space": run.space.name,
        "proxy": run.proxy,
        "strategy": run.strategy,
        "seed": run.recipe["seed"],
        "run": str(run.path.resolve()),
    }


def _frozen(run: Run) -> list[FrozenTrial]:
    """Return the trials, with the times at which they were made."""
    import optuna
    from optuna.trial import TrialState

    sizes = run.space.dimensions
    width = len(str(len(sizes) - 1))
    names = [f"choice_{place:0{width}d}" for place in range(len(sizes))]
    kinds = [optuna.distributions.CategoricalDistribution(tuple(range(size))) for size in sizes]
    at, accuracies = _started(run), _accuracies(run)
    found = []
    for row in run.trials:
        values = _values(run, row)
        trial = optuna.trial.create_trial(
            state=TrialState.FAIL if values is None else TrialState.COMPLETE,
            values=values,
            params=dict(zip(names, run.space.from_str(row.arch), strict=True)),
            distributions=dict(zip(names, kinds, strict=True)),
            user_attrs=_attributes(row, accuracies),
        )
        trial.datetime_start, at = at, at + datetime.timedelta(seconds=row.seconds)
        trial.datetime_complete = at
        found.append(trial)
    return found


def _started(run: Run) -> datetime.datetime:
    """Return when the search began, as Optuna has times: local, without a zone."""
    began = datetime.datetime.fromisoformat(run.environment["started"])
    return began.astimezone().replace(tzinfo=None)


def _values(run: Run, row: TrialRow) -> Sequence[float] | None:
    """Return the score or the objectives; None for a failure."""
    if row.score is None:
        return None
    if not run.objectives:
        return [row.score]
    names = [parse_objective(text).name for text in run.objectives]
    found = [row.score if name in OWN else row.quantity(name) for name in names]
    return [value for value in found if value is not None]


def _attributes(row: TrialRow, accuracies: Mapping[str, float]) -> dict[str, Any]:
    """Return what is known of an architecture, by name."""
    known: dict[str, Any] = {
        "architecture": row.arch,
        "score": row.score,
        "params": row.params,
        "flops": row.flops,
        **row.measures,
        "accuracy": accuracies.get(row.arch),
        "failure": row.error,
        "seconds": row.seconds,
        "cached": row.cached,
    }
    return {key: value for key, value in known.items() if value is not None}


def _accuracies(run: Run) -> dict[str, float]:
    """Return accuracies by architecture: trained, else tabulated, else predicted."""
    found: dict[str, float] = {}
    if run.recipe["proxy"]["name"] == "predicted":
        found = {row.arch: row.score for row in run.trials if row.score is not None}
    found |= run.truth
    for folder in (VERIFICATION, TRAINING):
        for row in (run.training(folder) or {"archs": ()})["archs"]:
            if row.get("arch") is not None and row["accuracy"] is not None:
                found[row["arch"]] = float(row["accuracy"])
    return found
