"""The run folder: everything that a search leaves behind, and what going on with it needs.

``runs/2025-01-31_142500-cifar10_meco/`` holds

=================== ===============================================================================
``recipe.yaml``     The resolved recipe: every setting, so running it makes the result again.
``environment.json``  Versions, machine, device, seed, commit and command line.
``scores.sqlite``   The score cache (unless the recipe names another).
``trials.csv``      One row per architecture, written as they come.
``result.json``     The best architectures and how they were found; there when the run is complete.
``best_cell.png``   The best architecture, drawn.
``scores.png``      Every score in the order it came, and the best so far.
``front.png``       With several objectives: all that was scored, and the front of trade-offs.
``space.yaml``      The space, where it is a file of the user's own.
``best.py``         Rebuilds the best network, and loads ``best.safetensors`` once it is trained.
=================== ===============================================================================

A folder is never overwritten by another search. A search that was interrupted goes on in its
folder: by the same recipe, which finds the unfinished folder, or by ``--resume FOLDER``. It
replays what it asked before, finds those scores in the cache, and ends with the result of an
uninterrupted search. ``--resume`` may raise the budget, or report on a finished search anew.
"""

from __future__ import annotations

import csv
import datetime
import json
import string
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

import filelock
import numpy as np

from nas.benchmark import Truth
from nas.drawing import draw_arch, draw_front, draw_scores
from nas.engine import Result, ResultArch, Trial
from nas.environment import environment
from nas.objectives import parse_objective
from nas.quantities import COUNTED
from nas.recipe import Recipe, load_recipe
from nas.wording import costs_text, number_text
from spaces.errors import NasError, did_you_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECIPE, ENVIRONMENT, CACHE, TRIALS, RESULT = (
    "recipe.yaml",
    "environment.json",
    "scores.sqlite",
    "trials.csv",
    "result.json",
)
SPACE = "space.yaml"
MAY_CHANGE = ("budget", "benchmark", "report", "summary")
"""Keys that a resumed run may set anew: the scores found so far hold for any value of them."""

_COLUMNS = (
    "number", "arch", "score", "best", "params", "flops", "seconds", "cached", "error",
)  # fmt: skip


class RunFolder:
    """The folder of one search, held by one process at a time.

    Attributes:
        path: The folder.
        recipe: The resolved recipe.
        resumed: Whether the folder was there before.
        environment: What this process runs on, from :meth:`begin` on.
    """

    def __init__(self, path: Path, recipe: Recipe, *, resumed: bool) -> None:
        self.path = path
        self.recipe = recipe
        self.resumed = resumed
        self.environment: dict[str, Any] = {}
        self._lock = filelock.FileLock(path / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise NasError(f"{path}: another process is running this search") from None

    @property
    def cache(self) -> Path:
        """Where the scores are kept, unless the recipe says otherwise."""
        return self.path / CACHE

    def close(self) -> None:
        """Let another process have the folder."""
        self._lock.release()

    def write(self, name: str, text: str) -> None:
        """Write a file whole or not at all."""
        partial = self.path / f".{name}.partial"
        partial.write_text(text, encoding="utf-8")
        partial.replace(self.path / name)

    def begin(self) -> None:
        """Write what is known before the search."""
        (self.path / RESULT).unlink(missing_ok=True)  # complete again when the search is
        self.write(RECIPE, _RECIPE_HEADER + self.recipe.to_yaml())
        self.environment = environment(device=self.recipe.conditions.device, seed=self.recipe.seed)
        self.write(ENVIRONMENT, as_json(self.environment))

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
        ).savefig(self.path / "scores.png")
        if summary["best"] is not None:
            if result.objectives is not None:
                _front_figure(self.recipe, result).savefig(self.path / "front.png")
            best = result.best
            costs = costs_text(best.params, best.flops)
            caption = f"{self.recipe.proxy} {number_text(best.score)} · {costs}"
            draw_arch(result.space, best.arch, caption).savefig(self.path / "best_cell.png")
            self.write("best.py", _builder(self.recipe, best))
            if _is_file(self.recipe.space):  # a copy, so that best.py rebuilds what was searched
                self.write(SPACE, Path(self.recipe.space).read_text(encoding="utf-8"))
        self.write(RESULT, as_json(summary))  # last: it says that the rest is there
        return summary


def _rises(result: Result, recipe: Recipe) -> bool:
    """Tell whether more of what the trials call their score is better."""
    if result.objectives is not None:
        return result.objectives.each[0].sign > 0
    return recipe.direction == "maximise"


def _front_figure(recipe: Recipe, result: Result) -> Figure:
    assert result.objectives is not None
    names = result.objectives.names
    scored = [trial for trial in result.trials if trial.score is not None]
    place = {trial.number: i for i, trial in enumerate(scored)}
    return draw_front(
        [[trial.measures[name] for name in names] for trial in scored],
        [place[found.number] for found in result.front],
        title=f"{recipe.name}: {result.settings['strategy']} on {recipe.space}",
        names=names,
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
        return _named_folder(recipe, out)
    parent = Path(recipe.report.folder).expanduser()
    if not fresh:
        for path in sorted(parent.glob(f"*-{recipe.name}*/{RECIPE}"), reverse=True):
            if _is_unfinished(path.parent, recipe):
                try:
                    return RunFolder(path.parent, recipe, resumed=True)
                except NasError:  # another process is at it, so this one starts anew
                    continue
    stamp = datetime.datetime.now().astimezone().strftime("%Y-%m-%d_%H%M%S")
    for attempt in range(1, 1000):
        path = parent / f"{stamp}-{recipe.name}{f'-{attempt}' if attempt > 1 else ''}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise NasError(f"{path}: cannot make the run folder: {error.strerror}") from None
        return RunFolder(path, recipe, resumed=False)
    raise NasError(f"{parent}: cannot find an unused name for the run folder")


def _named_folder(recipe: Recipe, out: Path) -> RunFolder:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NasError(f"{out}: cannot make the run folder: {error.strerror}") from None
    if _is_unfinished(out, recipe):
        return RunFolder(out, recipe, resumed=True)
    if any(out.iterdir()):
        raise NasError(
            f"{out}: holds something else already; name an empty or new folder, "
            f"or go on with a run in it by --resume {out}"
        )
    return RunFolder(out, recipe, resumed=False)


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


def _is_unfinished(path: Path, recipe: Recipe) -> bool:
    """Tell whether a folder holds an interrupted run of exactly this recipe."""
    try:
        text = (path / RECIPE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return not (path / RESULT).exists() and text == _RECIPE_HEADER + recipe.to_yaml()


class TrialWriter:
    """Writes ``trials.csv`` row by row; a row is on its way to the disk when the next one comes."""

    def __init__(self, path: Path, measures: Sequence[str] = ()) -> None:
        """Open the file.

        Args:
            path: Where.
            measures: Further columns: costs and objectives that trials hold by name.
        """
        self._file: IO[str] = path.open("w", newline="", encoding="utf-8")
        self._rows = csv.writer(self._file)
        self._measures = tuple(measures)
        self._rows.writerow([*_COLUMNS, *self._measures])

    def __call__(self, trial: Trial) -> None:
        values: dict[str, object] = {
            "arch": trial.text,
            "seconds": f"{trial.seconds:.6f}",
            "cached": str(trial.cached).lower(),
        }
        row = [values.get(name, getattr(trial, name)) for name in _COLUMNS]
        self._rows.writerow([*row, *(trial.measures.get(name) for name in self._measures)])
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def measures_of(recipe: Recipe) -> list[str]:
    """Return what trials of a recipe hold by name beside their score, parameters and FLOPs."""
    limited = recipe.constraints.model_dump(exclude_none=True)
    objectives = [parse_objective(text).name for text in recipe.objectives or ()]
    return [name for name in dict.fromkeys([*objectives, *limited]) if name not in COUNTED]


def summarise(recipe: Recipe, result: Result, truth: Truth | None) -> dict[str, Any]:
    """Return what a search has found, ready for JSON."""
    found = [
        _found(arch, truth) for arch in (result.top(recipe.report.top) if result.trials else [])
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
        "n_trials": len(result.trials),
        "n_failed": sum(result.failures.values()),
        "n_cached": sum(trial.cached for trial in result.trials),
        "failures": result.failures,
        "objectives": recipe.objectives,
        "front": [_found(arch, truth) for arch in result.front] if recipe.objectives else None,
        "latency": result.settings["latency"],
        "explanation": _explanation(result) if found else None,
        "seconds": round(result.seconds, 3),
        "benchmark": None,
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


def as_json(value: object) -> str:
    """Return readable JSON; NaN and infinity are refused, for they are no JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


_RECIPE_HEADER = """\
# Every setting of the search in this folder. Run it again: nas-search recipe.yaml
"""

_BUILDER = string.Template('''\
"""The best network of the search "$name": $proxy $score, $costs.

    from best import build, load
    network = build()        # freshly initialised
    network = load()         # with the weights in best.safetensors, once it is trained;
                             # safetensors.torch.save_model(network, "best.safetensors") writes it
"""

from pathlib import Path

from torch import nn

from nas.space_file import find_space

SPACE = $space
ARCH = $arch
NUM_CLASSES = $num_classes


def build(num_classes: int = NUM_CLASSES) -> nn.Module:
    """Return the full-size network, freshly initialised."""
    space = find_space($place)
    return space.build(space.from_str(ARCH), num_classes=num_classes)


def load(
    path: Path = Path(__file__).with_name("best.safetensors"), num_classes: int = NUM_CLASSES
) -> nn.Module:
    """Return the network with trained weights, in evaluation mode."""
    from safetensors.torch import load_model

    network = build(num_classes)
    load_model(network, path)
    return network.eval()


if __name__ == "__main__":
    print(build())
''')


def _is_file(space: str) -> bool:
    """Tell whether a recipe's space is a file of the user's own."""
    return space.endswith((".yaml", ".yml"))


def _builder(recipe: Recipe, best: ResultArch) -> str:
    return _BUILDER.substitute(
        name=recipe.name,
        proxy=recipe.proxy,
        score=number_text(best.score),
        costs=costs_text(best.params, best.flops),
        space=repr(SPACE if _is_file(recipe.space) else recipe.space),
        place="str(Path(__file__).with_name(SPACE))" if _is_file(recipe.space) else "SPACE",
        arch=repr(best.text),
        num_classes=recipe.conditions.num_classes,
    )
