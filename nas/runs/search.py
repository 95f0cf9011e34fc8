"""The run folder: everything that a search leaves behind, and what going on with it needs.

``runs/2025-01-31_142500-cifar10_meco/`` holds

=================== ===============================================================================
``recipe.yaml``     The resolved recipe: every setting, so running it makes the result again.
``environment.json``  Versions, machine, device, seed, commit and command line.
``scores.sqlite``   The score cache (unless the recipe names another).
``trials.csv``      One row per architecture, written as they come.
``members.csv``     Of a search by an ensemble: what each member adds to each score.
``truth.csv``       With a benchmark: what it says of each architecture.
``report.html``     Everything for a person, in one file (:mod:`nas.pages.search`).
``result.json``     The best architectures and how they were found; there when the run is complete.
``best_cell.png``   The best architecture, drawn.
``scores.png``      Every score in the order it came, and the best so far.
``front.png``       With several objectives: all that was scored, and the front of trade-offs.
``space.yaml``      The space, where it is a file of the user's own.
``best.py``         Rebuilds the best network, and loads ``best.safetensors`` once it is trained.
``training/``       The final trainings that the recipe asks for; see :mod:`nas.jobs`.
=================== ===============================================================================

A folder is never overwritten by another search. A search that was interrupted goes on in its
folder: by the same recipe, which finds the unfinished folder, or by ``--resume FOLDER``. It
replays what it asked before, finds those scores in the cache, and ends with the result of an
uninterrupted search. ``--resume`` may raise the budget, or report on a finished search anew.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np

from nas.benchmark import Truth
from nas.builder import SPACE, builder, is_file
from nas.drawing.plots import draw_scores, draw_trade_off, worth_showing
from nas.drawing.sketches import draw_arch
from nas.objectives import parse_objective
from nas.quantities import COUNTED
from nas.recipe import Recipe, load_recipe
from nas.result import Result, ResultArch, Trial
from nas.runs.folder import RECIPE, RESULT, Folder, as_json
from nas.runs.read import COLUMNS, MEMBERS, TRAINING, TRUTH
from nas.wording import costs_text, number_text
from spaces.errors import NasError, did_you_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CACHE = "scores.sqlite"
FREE = ("workers", "executor")
"""Keys that say who works, and change nothing of what comes out."""

MAY_CHANGE = ("budget", "benchmark", "report", "summary", "train", *FREE)
"""Keys that a resumed run may set anew: the scores found so far hold for any value of them."""


class RunFolder(Folder[Recipe]):
    """The folder of one search."""

    what = "search"
    header = "# Every setting of the search in this folder. Run it again: nas-search recipe.yaml\n"
    free = FREE

    @classmethod
    def is_unfinished(cls, path: Path, recipe: Recipe) -> bool:
        if super().is_unfinished(path, recipe):
            return True
        untrained = recipe.train is not None and not (path / TRAINING / RESULT).exists()
        return untrained and cls.is_of(path, recipe)

    @property
    def cache(self) -> Path:
        """Where the scores are kept, unless the recipe says otherwise."""
        return self.path / CACHE

    def finish(self, result: Result, truth: Truth | None = None) -> dict[str, Any]:
        """Write what the search has found.

        Returns:
            What ``result.json`` holds.
        """
        summary = summarise(self.recipe, result, truth) | {"environment": self.environment}
        draw_scores(
            [trial.score for trial in result.trials],
            title=f"{self.recipe.name}: {result.settings['strategy']} on {self.recipe.space}",
            proxy=self.recipe.proxy if result.objectives is None else result.objectives.names[0],
            maximise=_rises(result, self.recipe),
            places=[trial.number for trial in result.trials],
        ).savefig(self.path / "scores.png")
        if summary["best"] is not None:
            if result.objectives is not None:
                _front_figure(self.recipe, result).savefig(self.path / "front.png")
            best = result.best
            costs = costs_text(best.params, best.flops)
            caption = f"{self.recipe.proxy} {number_text(best.score)} · {costs}"
            side = self.recipe.conditions.resolution
            drawn = draw_arch(result.space, best.arch, caption, resolution=side)
            drawn.savefig(self.path / "best_cell.png")
            what = f"{self.recipe.proxy} {number_text(best.score)}"
            classes = self.recipe.conditions.num_classes
            row = summary["best"]
            self.write("best.py", builder(self.recipe.name, what, self.recipe.space, row, classes))
            if is_file(self.recipe.space):  # a copy, so that best.py rebuilds what was searched
                self.write(SPACE, Path(self.recipe.space).read_text(encoding="utf-8"))
            self._write_tables(result, truth)
        self.write(RESULT, as_json(summary))  # last: it says that the rest is there
        return summary

    def _write_tables(self, result: Result, truth: Truth | None) -> None:
        """Write what a page needs of every architecture and neither trials nor result hold."""
        scored = [trial for trial in result.trials if trial.score is not None]
        spec = result.oracle.spec
        if spec is not None and spec.members:
            names = [str(member) for member, _ in spec.members]
            terms = result.oracle.join_members([trial.arch for trial in scored]).terms.T.tolist()
            rows = [[trial.text, *row] for trial, row in zip(scored, terms, strict=True)]
            self.write(MEMBERS, _as_csv(["arch", *names], rows))
        if truth is not None:
            known = [(trial.text, truth.value(trial.arch)) for trial in scored]
            rows = [[text, value] for text, value in known if value is not None]
            self.write(TRUTH, _as_csv(["arch", "value"], rows))


def _as_csv(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([headers, *rows])
    return text.getvalue()


def _rises(result: Result, recipe: Recipe) -> bool:
    """Tell whether more of what the trials call their score is better."""
    if result.objectives is not None:
        return result.objectives.each[0].sign > 0
    return recipe.direction == "maximise"


def _front_figure(recipe: Recipe, result: Result) -> Figure:
    assert result.objectives is not None
    scored = [trial for trial in result.trials if trial.score is not None]
    place = {trial.number: i for i, trial in enumerate(scored)}
    up, across = result.objectives.each[:2]
    heights = [trial.measures[up.name] for trial in scored]
    return draw_trade_off(
        [trial.measures[across.name] for trial in scored],
        heights,
        [place[found.number] for found in result.front],
        title=f"{recipe.name}: {result.settings['strategy']} on {recipe.space}",
        names=(across.name, up.name),
        least=worth_showing(heights) if up.sign > 0 else None,
        more_is_better=across.sign > 0,
        of=len(result.objectives.each),
    )


def new_folder(recipe: Recipe, *, out: Path | None = None, fresh: bool = False) -> RunFolder:
    """Return the folder for a search: that of an interrupted run of the same recipe, or a new one.

    Args:
        recipe: What will be run.
        out: The folder itself, instead of one in ``report.folder`` that is named by the time.
        fresh: Do not go on with an interrupted run.

    Raises:
        NasError: ``out`` holds something else, or cannot be made.
    """
    if out is not None:
        return RunFolder.open_named(recipe, out)
    return RunFolder.open_new(recipe, Path(recipe.report.folder).expanduser(), fresh=fresh)


def resume_folder(path: Path, overrides: Sequence[str] = ()) -> RunFolder:
    """Return the folder of an earlier run, to go on with it.

    Args:
        path: The folder.
        overrides: ``dotted.key=value`` texts; only keys of :data:`MAY_CHANGE`.

    Raises:
        NasError: There is no run, or an override would change the search.
    """
    if not (path / RECIPE).is_file():
        raise NasError(f"{path}: no run to resume, for there is no {RECIPE} in it")
    for override in overrides:
        key = override.partition("=")[0].split(".")[0].strip()
        if key not in MAY_CHANGE:
            raise NasError(
                f"<command line>: {key}: cannot change in a resumed run, its scores would no "
                f"longer hold.{did_you_mean(key, list(MAY_CHANGE))} "
                f"Can change: {', '.join(MAY_CHANGE)}"
            )
    return RunFolder(path, load_recipe(path / RECIPE, overrides), resumed=True)


_FLUSH_SECONDS = 0.1


def _cell(value: object) -> str:
    """Return a value as :class:`csv.writer` has it, in a third of its time."""
    if value is None:
        return ""
    text = str(value)
    if "," in text or '"' in text or "\n" in text or "\r" in text:
        text = text.replace('"', '""')
        return f'"{text}"'
    return text


#: How a column of ``trials.csv`` is written.
_WRITERS: dict[str, Callable[[Trial], str]] = {
    "number": lambda trial: str(trial.number),
    "arch": lambda trial: _cell(trial.text),
    "score": lambda trial: "" if trial.score is None else repr(trial.score),
    "best": lambda trial: "" if trial.best is None else repr(trial.best),
    "params": lambda trial: str(trial.params),
    "flops": lambda trial: str(trial.flops),
    "seconds": lambda trial: f"{trial.seconds:.6f}",
    "cached": lambda trial: "true" if trial.cached else "false",
    "error": lambda trial: _cell(trial.error),
}
_EACH = tuple(_WRITERS[name] for name in COLUMNS)


class TrialWriter:
    """Writes ``trials.csv``; a row is on its way to the disk a tenth of a second later.

    A search that is killed before writes it again, when it goes on.
    """

    def __init__(self, path: Path, measures: Sequence[str] = ()) -> None:
        """Open the file.

        Args:
            path: Where.
            measures: Further columns: costs and objectives that trials hold by name.
        """
        self._path = path
        with self._errors():
            self._file: IO[str] = path.open("w", newline="", encoding="utf-8")
        self._flushed = time.monotonic()
        self._measures = tuple(measures)
        self._lines = [",".join(map(_cell, [*COLUMNS, *self._measures]))]
        with self._errors():
            self._write()

    def __call__(self, trial: Trial) -> None:
        row = [write(trial) for write in _EACH]
        if self._measures:
            row += [_cell(trial.measures.get(name)) for name in self._measures]
        self._lines.append(",".join(row))
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            with self._errors():
                self._write()

    def _write(self) -> None:
        self._file.writelines(f"{line}\r\n" for line in self._lines)
        self._lines.clear()
        self._file.flush()
        self._flushed = time.monotonic()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise NasError(
                f"{self._path}: cannot write: {error.strerror}; the scores so far are kept in the "
                "score cache, and the same command goes on from them"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError) if error is not None else self._errors():
            try:
                self._write()
            finally:
                self._file.close()  # on a full disk it tries to write once more


def measures_of(recipe: Recipe) -> list[str]:
    """Return what trials of a recipe hold by name beside their score, parameters and FLOPs."""
    limited = recipe.constraints.model_dump(exclude_none=True)
    objectives = [parse_objective(text).name for text in recipe.objectives or ()]
    named = dict.fromkeys([*objectives, *limited])
    return [name for name in named if name not in (*COUNTED, "score")]


def summarise(recipe: Recipe, result: Result, truth: Truth | None) -> dict[str, Any]:
    """Return what a search has found, ready for JSON."""
    found = [
        _found(arch, truth) for arch in (result.top(recipe.report.top) if result.n_trials else [])
    ]
    predictor = result.oracle.predictor
    if predictor is not None:
        for row, predicted in zip(
            found, predictor.predict([row["arch"] for row in found]), strict=True
        ):
            row["low"], row["high"] = predicted.low, predicted.high
    summary: dict[str, Any] = {
        "name": recipe.name,
        "best": found[0] if found else None,
        "top": found,
        "n_trials": result.n_trials,
        "n_failed": sum(result.failures.values()),
        "n_cached": result.n_cached,
        "failures": result.failures,
        "objectives": recipe.objectives,
        "front": [_found(arch, truth) for arch in result.front] if recipe.objectives else None,
        "latency": result.settings["latency"],
        "explanation": _explanation(result) if found else None,
        "seconds": round(result.seconds, 3),
        "benchmark": None,
        "settings": result.settings,
        "recipe": recipe.resolved(),
    }
    if truth is not None:
        summary["benchmark"] = {
            "column": truth.column,
            "measure": None if truth.measure is None else str(truth.measure),
            "source": truth.source,
            "sha256": truth.sha256,
            "n": len(truth),
            "best_possible": truth.best()[1],
            "best_possible_arch": result.space.to_str(truth.best()[0]),
        }
    return summary


def _explanation(result: Result) -> dict[str, Any] | None:
    """Return why an ensemble put the best first; None for any other proxy."""
    spec = result.oracle.spec
    if result.objectives is not None:
        return None
    return result.explain().to_json() if spec is not None and spec.members else None


def _found(arch: ResultArch, truth: Truth | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "arch": arch.text,
        "score": arch.score,
        "params": arch.params,
        "flops": arch.flops,
        "trial": arch.number,
        **{name: value for name, value in arch.measures.items() if name not in COUNTED},
    }
    if truth is not None:
        value = truth.value(arch.arch)
        row["truth"] = value
        row["rank"] = None if value is None else 1 + int(np.count_nonzero(truth.values > value))
    return row


def verdict_text(summary: dict[str, Any]) -> str:
    """Return what the benchmark says of the best architecture, beside the best possible.

    Args:
        summary: What :func:`summarise` returned for a search that found something.
    """
    best, table = summary["best"], summary["benchmark"]
    what = table["measure"] or table["column"]
    unit = " %" if table["measure"] else ""
    if best["truth"] is None:
        return f"{what}: not known of the best architecture"
    return (
        f"{what}: {best['truth']:.2f}{unit}, rank {best['rank']:,} of {table['n']:,}; "
        f"best possible {table['best_possible']:.2f}{unit}"
    )
