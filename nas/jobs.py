"""Final trainings: from a recipe and some architectures to accuracies, with all that they rest on.

A *training* is one recipe over a list of architectures. A *job* is one of them under one seed:
``jobs/03-seed1`` of the training's folder, which holds its checkpoint while it runs and
``result.json`` and ``weights.safetensors`` when it is over. Jobs depend on nothing but the recipe,
so they may run one after another, side by side on several devices, and in any order, and a training
that was killed does only what is missing.

Validation images choose (the best seed, the best architecture); without any, the first architecture
and the first seed stand for the rest. Test images are looked at once, when a job is over.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.builder import SPACE, builder, is_file
from nas.callbacks import Callback, RunInfo, log_epoch
from nas.reading import read_json
from nas.recipe import resolve_recipe_path
from nas.recipe.train import Candidate, TrainRecipe, load_train_recipe, overrides_of, with_archs
from nas.runs.folder import RESULT, as_json
from nas.runs.training import (
    BEST,
    WEIGHTS,
    Job,
    TrainingFolder,
    read_images,
    summarise_training,
)
from nas.space_file import find_space
from nas.training.images import ImageData
from nas.workers import DEFAULT_EXECUTOR, WorkerLost, inside, make_workers
from nas.writing import write_whole
from spaces.errors import NasError

if TYPE_CHECKING:
    from torch import nn

    from nas.result import ResultArch
    from nas.training.loop import Step
    from nas.training.world import World


@dataclass(frozen=True)
class OwnNetwork:
    """A network of the user's own.

    Attributes:
        make: From the number of classes to the network.
        name: What it is; two of one name are taken for the same.
    """

    make: Callable[[int], nn.Module]
    name: str


@dataclass(frozen=True)
class Told:
    """How far one job is.

    Attributes:
        job: Which.
        step: Where it is.
    """

    job: Job
    step: Step


Tell = Callable[[Told], None]


def key_of(recipe: TrainRecipe, job: Job, data: ImageData, own: str = "") -> str:
    """Return what a job's numbers depend on, as one text: they are the same where it is the same.

    Args:
        recipe: Of the training.
        job: Which.
        data: Its images.
        own: What a network of the user's own is.
    """
    told = recipe.resolved()
    for other in ("name", "summary", "archs", "benchmark", "folder", "seeds", "seed", "data"):
        told.pop(other)
    what = recipe.archs[job.number].arch if recipe.archs else own
    text = json.dumps([told, what, job.seed, data.name, data.fingerprint], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def run_job(
    recipe: TrainRecipe,
    job: Job,
    *,
    device: str | None = None,
    network: OwnNetwork | None = None,
    world: World | None = None,
    tell: Tell | None = None,
) -> dict[str, Any]:
    """Do one job, or what is missing of it, and return its result.

    Args:
        recipe: Of the training.
        job: Which.
        device: In the place of the recipe's own.
        network: One of the user's own; by default that of the space.
        world: The processes that take part.
        tell: Hears how far it is.

    Raises:
        NasError: The training failed; its last checkpoint is kept.
    """
    from nas.seeds import seeded_torch
    from nas.training import checkpoint
    from nas.training.augment import Augment
    from nas.training.loop import train_network
    from nas.training.world import World

    world = world or World()
    data, parts = read_images(recipe)
    key = key_of(recipe, job, data, "" if network is None else network.name)
    known = _known(job, key)
    if known is not None:
        return known
    if world.leads:
        job.folder.mkdir(parents=True, exist_ok=True)
    world.wait()
    with seeded_torch(job.seed, "training", "weights"):
        if network is not None:
            made = network.make(len(data.classes))
        else:
            space = find_space(recipe.space)
            arch = space.from_str(recipe.archs[job.number].arch)
            made = space.build(arch, num_classes=len(data.classes))
    trained = train_network(
        made,
        data,
        parts,
        recipe.plan(device),
        Augment(
            data.mean,
            data.std,
            channels_last=recipe.channels_last,
            **recipe.augment.model_dump(),
        ),
        seed=job.seed,
        key=key,
        folder=job.folder,
        world=world,
        tell=None if tell is None else lambda step: tell(Told(job, step)),
    )
    result = {
        "key": key,
        "seed": job.seed,
        "test": asdict(trained.test),
        "validation": None if trained.validation is None else asdict(trained.validation),
        "seconds": trained.seconds,
        "epochs": [asdict(epoch) for epoch in trained.epochs],
    }
    if world.leads:
        _write_weights(job.folder / WEIGHTS, trained.weights)
        text = as_json(result)
        write_whole(job.folder / RESULT, text, "the checkpoint is still there")
        (job.folder / checkpoint.NAME).unlink(missing_ok=True)  # the weights say the same
    world.wait()
    return result


def _known(job: Job, key: str) -> dict[str, Any] | None:
    """Return the result of a job that was done before."""
    try:
        result: dict[str, Any] = read_json(job.folder / RESULT)
    except (OSError, ValueError):  # none yet, or not one of ours
        return None
    same = (
        isinstance(result, dict) and result.get("key") == key and (job.folder / WEIGHTS).is_file()
    )
    return result if same else None


def _write_weights(path: Path, weights: Mapping[str, Any]) -> None:
    from safetensors.torch import save

    dense = {name: tensor.contiguous() for name, tensor in weights.items()}
    write_whole(path, save(dense), "the checkpoint is still there")


def run_jobs(
    recipe: TrainRecipe,
    jobs: Sequence[Job],
    *,
    devices: Sequence[str] = (),
    executor: str = DEFAULT_EXECUTOR,
    network: OwnNetwork | None = None,
    world: World | None = None,
    tell: Tell | None = None,
) -> list[dict[str, Any]]:
    """Do jobs, one at a time on each device, and return their results in the order of the jobs.

    Args:
        recipe: Of the training.
        jobs: What to do.
        devices: One process for each, which may name the same device; none or one does all in this
            process.
        executor: Who these processes are, a name of :data:`nas.workers.EXECUTORS` or an address.
        network: As for :func:`run_job`; in this process only.
        world: As for :func:`run_job`; in this process only.
        tell: Hears how far jobs are.

    Returns:
        What :func:`run_job` returned; of one that failed its seed and ``error``, a text.

    Raises:
        NasError: All of them failed.
    """
    if len(devices) > 1 and network is None:
        results = _side_by_side(recipe, jobs, devices, executor, tell)
    else:
        device = devices[0] if devices else None
        results = [
            _settled(
                job,
                functools.partial(
                    run_job, recipe, job, device=device, network=network, world=world, tell=tell
                ),
            )
            for job in jobs
        ]
    if all("error" in result for result in results):
        raise NasError(results[0]["error"])
    return results


def _settled(job: Job, do: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return do()
    except NasError as error:
        return {"seed": job.seed, "error": str(error)}


@dataclass(frozen=True)
class _Doing:
    """What the jobs of a training have in common."""

    recipe: TrainRecipe
    devices: tuple[str, ...]

    def __call__(self, job: Job) -> dict[str, Any]:
        place = inside.place()
        # A cluster has no places here: it shows each worker a device of its own as the first.
        device = self.devices[0].partition(":")[0] if place is None else self.devices[place]
        return _settled(
            job, functools.partial(run_job, self.recipe, job, device=device, tell=inside.tell)
        )


def _side_by_side(
    recipe: TrainRecipe,
    jobs: Sequence[Job],
    devices: Sequence[str],
    executor: str,
    tell: Tell | None,
) -> list[dict[str, Any]]:
    threads = max(1, (os.cpu_count() or 1) // len(devices))
    found: dict[int, dict[str, Any]] = {}
    with make_workers(len(devices), executor, threads=threads, device=devices[0]) as workers:
        for number, result in workers.start(_Doing(recipe, tuple(devices)), jobs, tell=tell):
            if isinstance(result, WorkerLost):
                result = {"seed": jobs[number].seed, "error": str(result)}
            found[number] = result
    return [found[number] for number in range(len(jobs))]


def run_training(
    folder: TrainingFolder,
    *,
    devices: Sequence[str] = (),
    executor: str = DEFAULT_EXECUTOR,
    network: OwnNetwork | None = None,
    world: World | None = None,
    tell: Tell | None = None,
    callbacks: Sequence[Callback] = (),
) -> dict[str, Any]:
    """Train what the recipe of a folder says, or what is missing of it, and leave all that it gave.

    Args:
        folder: Where everything goes.
        devices: As for :func:`run_jobs`.
        executor: As for :func:`run_jobs`.
        network: A network of the user's own, in the place of the recipe's architectures.
        world: The processes that take part.
        tell: Hears how far it is.
        callbacks: Hear of it epoch by epoch, in the process that leads.

    Returns:
        What ``result.json`` holds.

    Raises:
        NasError: No data, or every job failed.
    """
    recipe = folder.recipe
    if not recipe.archs and network is None:
        raise NasError("archs: no architecture to train")
    read_images(recipe)  # what is wrong with them is told before anything is written
    if world is None or world.leads:
        folder.begin(device=devices[0] if devices else recipe.device, seed=recipe.seed)
    jobs = folder.jobs()
    if world is not None and not world.leads:
        callbacks = ()
    for callback in callbacks:
        callback.start(RunInfo("training", recipe.name, recipe.resolved()))

    def hear(told: Told) -> None:
        log_epoch(callbacks, told.job.folder.name, told.step.done)
        if tell is not None:
            tell(told)

    results = run_jobs(
        recipe, jobs, devices=devices, executor=executor, network=network, world=world, tell=hear
    )
    summary = summarise_training(recipe, jobs, results)
    summary["environment"] = folder.environment
    if world is None or world.leads:
        _leave(folder, summary, jobs, results)
    for callback in callbacks:
        callback.end(summary)
    return summary


def _leave(
    folder: TrainingFolder,
    summary: dict[str, Any],
    jobs: Sequence[Job],
    results: Sequence[dict[str, Any]],
) -> None:
    """Write what a person and a program take away."""
    from nas.pages.training import best_result, page, pictures
    from nas.training import checkpoint

    recipe, numbers = folder.recipe, [job.number for job in jobs]
    drawn = pictures(summary, results, numbers)
    for name, (_, figure) in drawn.items():
        figure.savefig(folder.path / f"{name}.png")
    folder.write("report.html", page(summary, drawn))
    best = best_result(summary, results, numbers)
    place = next(job.folder for job, result in zip(jobs, results, strict=True) if result is best)
    checkpoint.copy(place / WEIGHTS, folder.path / BEST)
    if recipe.archs:
        row = summary["archs"][summary["best"]]
        what = f"trained to {row['accuracy']:.2f} % on {summary['data']['name']}"
        text = builder(recipe.name, what, recipe.space, row, len(summary["data"]["classes"]))
        folder.write("best.py", text)
        if is_file(recipe.space):  # a copy, so that best.py rebuilds what was trained
            folder.write(SPACE, Path(recipe.space).read_text(encoding="utf-8"))
    folder.write(RESULT, as_json(summary))  # last: it says that the rest is there


@dataclass(frozen=True)
class Training:
    """A training that is over.

    Attributes:
        folder: Where everything lies; ``report.html`` is for a person.
        summary: What ``result.json`` holds.
    """

    folder: Path
    summary: dict[str, Any] = field(repr=False)

    @property
    def accuracy(self) -> float:
        """Test accuracy of the best architecture, per cent, mean over its seeds."""
        return float(self.summary["archs"][self.summary["best"]]["accuracy"])

    def load(self) -> nn.Module:
        """Return the best network with its trained weights, in evaluation mode.

        Raises:
            NasError: It was a network of the user's own, which only the user can make again.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        recipe = self.summary["recipe"]
        if not recipe["archs"]:
            raise NasError(f"make the network, and load {self.folder / BEST} into it")
        space = find_space(recipe["space"])
        arch = space.from_str(self.summary["archs"][self.summary["best"]]["arch"])
        network = space.build(arch, num_classes=len(self.summary["data"]["classes"]))
        try:
            network.load_state_dict(load_file(self.folder / BEST))
        except (OSError, RuntimeError, SafetensorError) as error:
            what = " ".join(str(error).split())
            raise NasError(
                f"{self.folder / BEST}: not the weights of this network: {what}"
            ) from None
        return network.eval()


def train(
    what: str | ResultArch | nn.Module | Callable[[int], nn.Module] | Sequence[str | ResultArch],
    recipe: str | os.PathLike[str] | TrainRecipe,
    settings: Mapping[str, Any] | None = None,
    *,
    space: str = "nats_tss",
    folder: str | os.PathLike[str] | None = None,
    devices: Sequence[str] = (),
    tell: Tell | None = None,
    callbacks: Sequence[Callback] = (),
) -> Training:
    """Train architectures, or a network of your own, and measure them.

    ``nas.train(result.best, "train_nats_12", {"data.root": "data"}).accuracy``. Called again after
    it was interrupted, it goes on where it was.

    Args:
        what: An official string or what a search found, or several; a network, which is trained in
            place; or a function from the number of classes to a fresh network.
        recipe: A shipped one's name, a file, or a recipe.
        settings: By dotted key, in the place of the recipe's own.
        space: Of official strings; of what was found in a space of your own, where it is
            described.
        folder: Where everything goes; by default a new folder in ``recipe.folder``.
        devices: One process for each; none trains in this one.
        tell: Hears how far it is.
        callbacks: Hear of it epoch by epoch (:mod:`nas.callbacks`).

    Raises:
        NasError: A setting that cannot be, no data, or a training that failed.
    """
    from nas.result import ResultArch

    if isinstance(recipe, TrainRecipe):
        loaded = recipe
    else:
        path = resolve_recipe_path(os.fspath(recipe), "train")
        loaded = load_train_recipe(path, overrides_of(settings or {}))
    several = [what] if isinstance(what, str | ResultArch) else what
    own: OwnNetwork | None = None
    if isinstance(several, Sequence):
        found = [x for x in several if isinstance(x, ResultArch)]
        chosen = [
            Candidate(arch=x) if isinstance(x, str) else Candidate(arch=x.text, score=x.score)
            for x in several
        ]
        loaded = with_archs(loaded, _space_of(found, space), chosen)
    else:
        own = _own(several, loaded)
        loaded = loaded.model_copy(update={"archs": []})
    if folder is None:
        opened = TrainingFolder.open_new(loaded, Path(loaded.folder).expanduser())
    else:
        opened = TrainingFolder.open_named(loaded, Path(folder))
    try:
        summary = run_training(opened, devices=devices, network=own, tell=tell, callbacks=callbacks)
    finally:
        opened.close()
    return Training(opened.path, summary)


def _space_of(found: Sequence[ResultArch], space: str) -> str:
    """Return the text that names the space of what searches have found; else what is given."""
    names = {each.space.name for each in found}
    if len(names) > 1:
        raise NasError(f"expected architectures of one space, got some of {' and '.join(names)}")
    for name in names:
        try:
            find_space(name)
        except NasError:  # of a file, or of a module: a recipe names where it is described
            if find_space(space).name == name:
                return space
            raise NasError(
                f"{name}: no space has this name; say where it is described, as "
                "space='FILE.yaml' or 'package.module:SPACE'"
            ) from None
        return name
    return space


def _own(what: nn.Module | Callable[[int], nn.Module], recipe: TrainRecipe) -> OwnNetwork:
    from torch import nn

    if isinstance(what, nn.Module):
        if recipe.seeds > 1:
            raise NasError(
                "seeds: a network is trained in place, so once; give a function that makes it"
            )
        return OwnNetwork(lambda num_classes: what, f"{what}")
    name = f"{getattr(what, '__module__', '')}:{getattr(what, '__qualname__', type(what))}"
    return OwnNetwork(what, name)
