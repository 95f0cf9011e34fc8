"""Designing a proxy: from a recipe and tables of accuracies to a formula with its figures.

1. Rows are dealt out by function, so that isomorphic cells stay together: three eighths of the
   functions of every table may train, one eighth validates, and half are for the report, which
   nothing is chosen by. Cells in which nothing reaches the output have no score; they are no part
   of training and validation, and rank last in the report, tied.
2. Statistics of layers are measured once per function and draw, and kept
   (:mod:`nas.design.archive`). A draw is a seed of weights and image: weights are shared by all
   architectures, so that a formula could fit what one draw of them happens to favour.
3. Islands evolve formulas on the training rows: random ones, and at most so many rows from
   each of ten equally wide bands of accuracy, which are shared out over the draws. A column is
   worth the mean over these panels; what counts is the worst column. The truth is the mean over
   isomorphic cells, for they share one score, and there is nothing to order among them.
4. Of the front of size against worth, the formula that does best on the validation rows is taken.
5. It is held against the rows of the report, under a draw of its own.

Killed and started again it goes on: statistics are kept as they come, the islands after each epoch,
and an epoch depends on nothing but the islands before it and the seed.

Letters: N rows of a table.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nas.benchmark.table import Truth, parse_truths
from nas.design.archive import Archive, Measure
from nas.design.atoms import REVISION, ROLES
from nas.design.evolution import Individual, Island, Settings, epoch_of
from nas.design.expression import Node, evaluate, parse
from nas.design.formula import Candidate, Figure, Formula, Provenance, Step, Table
from nas.design.judging import Judge, Panel
from nas.design.layers import Sample
from nas.environment import cpu_name, version
from nas.predictor.protocol import BANDS, stratified
from nas.proxies.base import Conditions
from nas.reading import read_json
from nas.recipe.design import DesignRecipe
from nas.seeds import generator
from nas.space_file import find_space
from nas.statistics import kendall
from nas.workers import Here, WorkerLost, Workers
from nas.writing import write_whole
from spaces import Arch, Space
from spaces.errors import NasError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MAX_TASKS = 12
_KINDS: tuple[Literal["random", "stratified"], ...] = ("random", "stratified")


@dataclass(frozen=True, eq=False)
class Split:
    """Rows of one table, dealt out by function.

    Attributes:
        train: In the order in which they are taken, ``(n,)``.
        validation: Likewise.
        report: All rows of the functions that are left.
    """

    train: Ints
    validation: Ints
    report: Ints


def split_rows(functions: Ints, seed: int, space: str) -> Split:
    """Deal out the rows of a table.

    Args:
        functions: For each row the number of the function that it computes, ``(N,)``.
        seed: Of the draw.
        space: Name, so that each has a draw of its own.
    """
    rng = generator(seed, "design", "split", space)
    distinct, function = np.unique(functions, return_inverse=True)
    part = rng.permutation(len(distinct)) % 8  # 3/8, 1/8, half
    of_row = part[function]
    order = rng.permutation(len(functions))
    train, validation = order[of_row[order] < 3], order[of_row[order] == 3]
    return Split(train, validation, np.flatnonzero(of_row >= 4))


def by_band(rows: Ints, truth: Floats, per_band: int) -> Ints:
    """Return the first rows of each of ten equally wide bands of accuracy.

    In the order in which rows are taken anyway, so that columns share most of them.

    Args:
        rows: In that order.
        truth: Of all rows, ``(N,)``.
        per_band: How many at most.
    """
    values = truth[rows]
    edges = np.linspace(values.min(), values.max(), BANDS + 1)[1:-1]
    band = np.digitize(values, edges)
    return np.concatenate([rows[band == number][:per_band] for number in range(BANDS)])


@dataclass(frozen=True, eq=False)
class Data:
    """One table of a design.

    Attributes:
        space: Of its cells.
        truths: Its columns, on the same rows.
        archs: Of the rows.
        forms: Canonical ones, of the rows.
        functions: For each row the number of the function that it computes, ``(N,)``.
        split: Of the rows.
    """

    space: Space
    truths: tuple[Truth, ...]
    archs: tuple[Arch, ...]
    forms: tuple[Arch, ...]
    functions: Ints
    split: Split

    def values(self, truth: Truth) -> Floats:
        """Return a column, by row."""
        return np.asarray([truth.value(arch) for arch in self.archs], dtype=np.float64)

    def panels(self, rows: Ints, count: int, per_band: int) -> list[tuple[str, str, Ints, Floats]]:
        """Return (task, kind, rows, truth of all rows) for some of the rows.

        The truth of a row is the mean over all rows of its function, so that twins, which share one
        score, are tied in the truth too, and what training was lucky with does not count.
        """
        found = []
        for truth in self.truths:
            sums = np.bincount(self.functions, weights=self.values(truth))
            means = (sums / np.bincount(self.functions))[self.functions]
            task = f"{self.space.name} {truth.column}"
            found.append((task, "random", rows[:count], means))
            found.append((task, "stratified", by_band(rows, means, per_band), means))
        return found


def read_tables(recipe: DesignRecipe) -> list[Data]:
    """Read the tables of a recipe and deal out their rows."""
    found = []
    for name, text in recipe.tables.items():
        space = find_space(name)
        truths = parse_truths(text, space)
        first, *others = truths
        archs = tuple(a for a in first.archs if all(o.value(a) is not None for o in others))
        if len(archs) < 80:
            raise NasError(
                f"tables.{name}: {len(archs)} rows are known, a design takes 80 at least"
            )
        forms = space.canonicalise(np.asarray(archs, dtype=np.int64))
        functions = np.unique(forms, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
        split = split_rows(functions, recipe.seed, name)
        as_tuples = tuple(tuple(row) for row in forms.tolist())
        found.append(Data(space, tuple(truths), archs, as_tuples, functions, split))
    if sum(len(data.truths) for data in found) > MAX_TASKS:
        raise NasError(f"tables: at most {MAX_TASKS} columns altogether")
    return found


def conditions_of(recipe: DesignRecipe, draw: int) -> Conditions:
    """Return the conditions of the statistics under one draw of weights and image."""
    return Conditions(seed=draw, **recipe.conditions.model_dump())


@dataclass
class Progress:
    """What is told while a design goes on.

    Attributes:
        stage: ``statistics`` or ``evolution``.
        done: Of them.
        total: Of them.
        best: Worth of the best formula so far.
        text: The best formula so far.
    """

    stage: str
    done: int
    total: int
    best: float | None = None
    text: str = ""


Tell = Callable[[Progress], None]


def _quiet(progress: Progress) -> None:
    """Tell nobody."""


def settings_of(recipe: DesignRecipe) -> Settings:
    """Return how formulas are evolved."""
    atoms = {
        role: tuple(name for name in ROLES[role].names if name not in recipe.leave_out)
        for role in recipe.roles
    }
    if not all(atoms.values()):
        raise NasError("leave_out: every role has to keep an atom")
    return Settings(**recipe.evolution.model_dump(), atoms=atoms)


@dataclass(frozen=True)
class Bench:
    """Where statistics come from.

    Attributes:
        recipe: Of the design.
        folder: Where they are kept.
        measure: How they are measured.
        tell: Hears how far it is.
        workers: Who measures.
    """

    recipe: DesignRecipe
    folder: Path
    measure: Measure
    tell: Tell
    workers: Workers

    @contextmanager
    def archive(self, space: Space, draw: int) -> Iterator[Archive]:
        """Open the statistics of one space under one draw."""
        conditions = conditions_of(self.recipe, draw)
        with Archive(self.folder, space, conditions, self.recipe.roles) as archive:
            yield archive

    def filled(self, archive: Archive, forms: Sequence[Arch]) -> Archive:
        """Measure what is missing of some canonical architectures."""
        archive.add(
            sorted(set(forms)),
            self.measure,
            lambda done, total: self.tell(Progress("statistics", done, total)),
            workers=self.workers,
        )
        return archive


@dataclass(frozen=True, eq=False)
class _Chosen:
    """Panels of some rows, with the statistics that they are judged by."""

    samples: dict[str, Sample]
    panels: list[Panel]
    rows: dict[str, Ints]  # of the table, by space

    def judge(self) -> Judge:
        return Judge(self.samples, self.panels)


def _chosen(bench: Bench, tables: Sequence[Data], part: str) -> _Chosen:
    """Measure and gather the statistics of the rows that train, or validate."""
    recipe = bench.recipe
    count = {"train": recipe.train, "validation": recipe.validation}[part]
    samples: dict[str, Sample] = {}
    made: list[Panel] = []
    rows_of: dict[str, Ints] = {}
    for data in tables:
        panels = data.panels(getattr(data.split, part), count, recipe.per_band)
        used = []
        for draw in range(recipe.draws):
            name = f"{data.space.name} {draw}"
            mine = [drawn[draw :: recipe.draws] for _, _, drawn, _ in panels]
            rows = np.unique(np.concatenate(mine))
            with bench.archive(data.space, draw) as archive:
                bench.filled(archive, [data.forms[row] for row in rows])
                rows = rows[~archive.dead([data.forms[row] for row in rows])]
                samples[name] = archive.sample([data.forms[row] for row in rows])
            used.append(rows)
            for (task, kind, _, values), drawn in zip(panels, mine, strict=True):
                some = drawn[np.isin(drawn, rows)]
                places = np.searchsorted(rows, some).astype(np.int64)
                made.append(Panel(task, kind, name, places, values[some]))
        rows_of[data.space.name] = np.unique(np.concatenate(used))
    return _Chosen(samples, made, rows_of)


@dataclass
class State:
    """An evolution after some epochs; as JSON it is what a killed run goes on from.

    Attributes:
        epoch: How many are done.
        islands: Formulas of each island, the best first.
        bests: The best score of each island.
        stale: Epochs for which it has not risen.
        front: By size, worth and text of the best formula of at most that size.
        steps: The best formula after each epoch.
        proposed: Formulas judged.
        seconds: Of the evolution.
        joules: Of the processor, None where it cannot tell.
    """

    epoch: int = 0
    islands: list[list[str]] = field(default_factory=list)
    bests: list[float] = field(default_factory=list)
    stale: list[int] = field(default_factory=list)
    front: dict[int, tuple[float, str]] = field(default_factory=dict)
    steps: list[tuple[int, float, str]] = field(default_factory=list)
    proposed: int = 0
    seconds: float = 0.0
    joules: float | None = 0.0

    def save(self, path: Path, identity: str) -> None:
        """Write atomically."""
        values = {**vars(self), "identity": identity}
        write_whole(path, json.dumps(values), "the last epoch's is still there")

    @classmethod
    def load(cls, path: Path, identity: str) -> State | None:
        """Return what a run of the same identity left, None if there is nothing of it."""
        try:
            values = read_json(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise NasError(f"{path}: not a design's state: {error}; remove it") from None
        if not isinstance(values, dict) or values.pop("identity", None) != identity:
            return None
        try:
            values["front"] = {int(k): (v[0], v[1]) for k, v in values["front"].items()}
            values["steps"] = [(e, w, t) for e, w, t in values["steps"]]
            return cls(**values)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise NasError(f"{path}: not a design's state: {error}; remove it") from None

    def note(self, some: Sequence[Individual]) -> None:
        """Let formulas onto the front."""
        for one in some:
            size, worth = one.node.size, one.verdict.worth
            if size not in self.front or worth > self.front[size][0]:
                self.front[size] = (worth, str(one.node))
        best = -1.0
        for size in sorted(self.front):  # larger formulas have to be better
            if self.front[size][0] <= best:
                del self.front[size]
            else:
                best = self.front[size][0]


def _joules() -> float | None:
    """Return the processor's energy counter (RAPL), None where it may not be read."""
    total, some = 0.0, False
    for zone in sorted(Path("/sys/class/powercap").glob("intel-rapl:?")):
        try:
            total += int((zone / "energy_uj").read_text()) / 1e6
            some = True
        except (OSError, ValueError):
            return None
    return total if some else None


_Job = tuple[int, int, list[str], bool]
_Evolved = tuple[list[Any], int]


@dataclass(frozen=True, eq=False)
class _Evolving:
    """What the islands of a design have in common."""

    settings: Settings
    samples: dict[str, Sample]
    panels: list[Panel]
    seed: int

    @cached_property
    def judge(self) -> Judge:
        """Made once in every process."""
        return Judge(self.samples, self.panels)

    def __call__(self, job: _Job) -> _Evolved:
        """Evolve one island for an epoch; return texts with scores, and how many were judged."""
        epoch, island, texts, stale = job
        population = Island(self.settings, self.judge).judged([parse(text) for text in texts])
        before = self.judge.asked
        after = epoch_of(self.settings, self.judge, self.seed, epoch, island, population, stale)
        return [(str(one.node), one.score) for one in after], self.judge.asked - before


def evolve(
    settings: Settings,
    chosen: _Chosen,
    seed: int,
    state: State,
    *,
    workers: Workers | None = None,
    after: Callable[[State], None] = lambda state: None,
) -> State:
    """Evolve the islands to the last epoch.

    Args:
        settings: How.
        chosen: The training sample.
        seed: Of the run.
        state: Where to go on from; changed.
        workers: Who evolves; the result does not depend on it.
        after: Called after each epoch.

    Raises:
        NasError: A worker ended.
    """
    evolving = _Evolving(settings, chosen.samples, chosen.panels, seed)
    hands = workers or Here()

    def run(jobs: list[_Job]) -> list[_Evolved]:
        found: dict[int, _Evolved] = {}
        for island, evolved in hands.start(evolving, jobs):
            if isinstance(evolved, WorkerLost):
                raise NasError(f"island {island}: {evolved}")
            found[island] = evolved
        return [found[island] for island in range(len(jobs))]

    return _epochs(settings, chosen.judge(), state, run, after)


def _epochs(
    settings: Settings,
    judge: Judge,
    state: State,
    run: Callable[[list[_Job]], list[_Evolved]],
    after: Callable[[State], None],
) -> State:
    here = Island(settings, judge)
    if not state.islands:
        state.islands = [[] for _ in range(settings.islands)]
        state.bests = [-2.0] * settings.islands
        state.stale = [0] * settings.islands
    while state.epoch < settings.epochs:
        began, joules = time.monotonic(), _joules()
        jobs: list[_Job] = []
        for island, texts in enumerate(state.islands):
            stale = state.stale[island] >= _STALE
            migrants = state.islands[island - 1][:_MIGRANTS]
            trades = state.epoch % _TRADE == _TRADE - 1
            jobs.append((state.epoch, island, [*texts, *migrants] if trades else texts, stale))
            state.stale[island] = 0 if stale else state.stale[island]
        for island, (found, asked) in enumerate(run(jobs)):
            state.islands[island] = [text for text, _ in found]
            best = found[0][1]
            risen = best > state.bests[island] + 1e-9
            state.stale[island] = 0 if risen else state.stale[island] + 1
            state.bests[island] = max(best, state.bests[island])
            state.proposed += asked
        state.epoch += 1
        leading = [text for texts in state.islands for text in texts[:_FRONT]]
        state.note(here.judged([parse(text) for text in dict.fromkeys(leading)]))
        worth, text = state.front[max(state.front)]
        state.steps.append((state.epoch, worth, text))
        state.seconds += time.monotonic() - began
        spent = _joules()
        known = None not in (joules, spent, state.joules)
        state.joules = state.joules + max(0.0, spent - joules) if known else None  # type: ignore[operator]
        after(state)
    return state


_STALE = 3  # epochs without a better best, after which an island starts anew
_TRADE = 4  # epochs between two trades: until then islands find ways of their own
_MIGRANTS = 3
_FRONT = 100  # of each island, that may enter the front


def design(
    recipe: DesignRecipe,
    folder: Path,
    state_file: Path,
    *,
    measure: Measure | None = None,
    workers: Workers | None = None,
    tell: Tell = _quiet,
) -> Formula:
    """Design a formula.

    Args:
        recipe: What.
        folder: Where statistics are kept.
        state_file: Where the evolution is kept.
        measure: How statistics are measured; None runs networks.
        workers: Who measures statistics and evolves islands; the result does not depend on it.
        tell: Hears how far it is.
    """
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    tables = read_tables(recipe)
    if measure is None:
        from nas.design.measure import measure_population  # late: it needs torch

        measure = measure_population
    bench = Bench(recipe, folder, measure, tell, workers or Here())
    began = time.monotonic()
    training = _chosen(bench, tables, "train")
    validation = _chosen(bench, tables, "validation")
    statistics_seconds = time.monotonic() - began
    settings = settings_of(recipe)
    identity = _identity(recipe, tables)
    state = State.load(state_file, identity) or State()

    def after(now: State) -> None:
        now.save(state_file, identity)
        _, best, text = now.steps[-1]
        tell(Progress("evolution", now.epoch, settings.epochs, best, text))

    evolve(settings, training, recipe.seed, state, workers=workers, after=after)
    front = _front(state, validation.judge())
    taken = max(front, key=lambda x: (x.validation - settings.parsimony * x.size, -x.size))
    began = time.monotonic()
    figures = held_out(parse(taken.formula), tables, bench)
    statistics_seconds += time.monotonic() - began
    provenance = Provenance(
        seed=recipe.seed,
        generations=settings.epochs * settings.generations,
        proposed=state.proposed,
        statistics_seconds=round(statistics_seconds, 1),
        evolution_seconds=round(state.seconds, 1),
        energy="unknown" if state.joules is None else f"{state.joules:.0f} J (RAPL, evolution)",
        device=f"{cpu_name()}, {recipe.conditions.device}",
        started=started,
        versions=_versions(),
        recipe=_portable(recipe),
        tables=[
            Table(
                space=data.space.name,
                columns=[truth.column for truth in data.truths],
                sha256=data.truths[0].sha256,
                train=len(training.rows[data.space.name]),
                validation=len(validation.rows[data.space.name]),
                report=len(data.split.report),
                design_rows_sha256=_digest(data, training, validation),
            )
            for data in tables
        ],
        validation=taken.validation,
        held_out=figures,
        front=front,
        best_over_time=_thinned(
            [Step(epoch=e, train=round(worth, 5), formula=text) for e, worth, text in state.steps]
        ),
    )
    return Formula(
        name=recipe.name,
        summary=recipe.summary,
        formula=taken.formula,
        provenance=provenance,
    )


def _front(state: State, judge: Judge) -> list[Candidate]:
    sizes = sorted(state.front)
    verdicts = judge.judge([parse(state.front[size][1]) for size in sizes])
    return [
        Candidate(
            size=size,
            train=round(state.front[size][0], 5),
            validation=round(verdict.worth, 5),
            formula=state.front[size][1],
        )
        for size, verdict in zip(sizes, verdicts, strict=True)
    ]


def _thinned(steps: list[Step]) -> list[Step]:
    """Return the steps at which the best formula changed, and the last."""
    return [
        step
        for before, step in zip([None, *steps[:-1]], steps, strict=True)
        if before is None or before.formula != step.formula or step is steps[-1]
    ]


def held_out(node: Node, tables: Sequence[Data], bench: Bench) -> list[Figure]:
    """Return how a formula ranks the rows of the report under a draw that it has not seen."""
    found: list[Figure] = []
    for data in tables:
        report = data.split.report
        forms = [data.forms[row] for row in report]
        with bench.archive(data.space, bench.recipe.draws) as archive:
            sample = bench.filled(archive, forms).sample(forms)
        scores = np.full(len(data.archs), np.nan)
        scores[report] = evaluate(node, sample)
        for truth in data.truths:
            task, values = f"{data.space.name} {truth.column}", data.values(truth)
            some = stratified(report, values, bench.recipe.seed)
            for kind, rows in zip(_KINDS, (report, some), strict=True):
                tau = round(kendall(scores[rows], values[rows]), 5)
                found.append(Figure(task=task, cells=kind, kendall=tau, n=len(rows)))
    return found


def _digest(data: Data, *chosen: _Chosen) -> str:
    """Return the sha256 of the official strings of all rows that were chosen by."""
    rows = np.unique(np.concatenate([some.rows[data.space.name] for some in chosen]))
    texts = sorted(data.space.to_str(data.archs[row]) for row in rows)
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _portable(recipe: DesignRecipe) -> dict[str, Any]:
    """Return a recipe without the folders of this machine."""
    values = recipe.model_dump(mode="json")
    values["tables"] = {space: Path(text).name for space, text in recipe.tables.items()}
    if recipe.conditions.images is not None:
        values["conditions"]["images"] = Path(recipe.conditions.images).name
    return values


def _identity(recipe: DesignRecipe, tables: Sequence[Data]) -> str:
    """Return a digest of everything that the evolution depends on."""
    values = _portable(recipe)
    del values["name"], values["summary"]
    values["sha256"] = [data.truths[0].sha256 for data in tables]
    values["revision"] = REVISION
    values["version"] = version("nas-search")
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _versions() -> dict[str, str]:
    found = {name: version(name) for name in ("nas-search", "numpy", "torch")}
    return {name: text for name, text in found.items() if text}


def default_workers() -> int:
    """Return how many processes may evolve islands here."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
