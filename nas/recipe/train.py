"""Recipes of final trainings: what ``nas train`` reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from nas import plain_yaml
from nas.recipe.fields import (
    Choice,
    Section,
    benchmark_column,
    check_device_name,
    choice_of,
    located,
    refuse,
    run_name,
    shown,
    space_name,
)
from nas.recipe.kinds import Kind, load_kind
from nas.recipe.search import TrainSection
from nas.recipe.shipped import resolve_recipe_path
from nas.space_file import find_space
from nas.training.data import DATA
from nas.training.plan import OPTIMISERS, SCHEDULES, Plan, Precision
from spaces.errors import NasError

if TYPE_CHECKING:
    from nas.benchmark.table import Truth


class Candidate(Section):
    """One architecture to train."""

    arch: str = Field(description="Official string.")
    score: float | None = Field(default=None, description="What a search made of it.")
    group: str = Field(default="", description="What it is compared as, such as 'top'.")


class AugmentSection(Section):
    """What is done to training images."""

    crop: int = Field(
        default=0, ge=0, le=64, description="Zero pixels around an image before a random crop."
    )
    flip: bool = Field(default=False, description="Whether half of the images are mirrored.")
    cutout: int = Field(
        default=0, ge=0, le=256, description="Side of a square that is blanked, pixels."
    )


_PATHS = ("root", "file")  # options of data sets that are looked up in folders


def _data(value: object, info: ValidationInfo) -> Choice:
    chosen = choice_of(DATA, "data set", value)
    found = {key: located(chosen.options[key], info) for key in _PATHS if key in chosen.options}
    return Choice(name=chosen.name, options=chosen.options | found)


def _optimiser(value: object) -> Choice:
    return choice_of(OPTIMISERS, "optimiser", value)


def _schedule(value: object) -> Choice:
    return choice_of(SCHEDULES, "schedule", value)


def _candidates(value: object) -> object:
    if not isinstance(value, list):
        raise refuse(f"expected a list of architectures, got {shown(value)}")
    return [{"arch": each} if isinstance(each, str) else each for each in value]


def _split(value: object, info: ValidationInfo) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int | float | dict):
        raise refuse(
            "expected 'official', 'nats_test', 'nats_valid', a mapping with the key 'file', or how "
            f"many training images (a number or a share of them) validate, got {shown(value)}"
        )
    if isinstance(value, dict) and isinstance(value.get("file"), str):
        return {**value, "file": located(value["file"], info)}
    return value


class TrainRecipe(Section):
    """One training, completely described."""

    name: Annotated[str, AfterValidator(run_name)] = Field(
        default="train", description="Part of the run folder's name; the file's name when left out."
    )
    summary: str = Field(default="", description="One line for a person.")
    space: Annotated[str, AfterValidator(space_name)] = Field(
        default="nats_tss", description="Where the architectures live."
    )
    archs: Annotated[list[Candidate], BeforeValidator(_candidates)] = Field(
        default=[], description="What to train; official strings, or mappings with one."
    )
    data: Annotated[Choice, BeforeValidator(_data)] = Field(
        default_factory=lambda: choice_of(DATA, "data set", "digits"),
        description="Images: a name, or a mapping with a name and options.",
    )
    split: Annotated[str | int | float | dict[str, str], BeforeValidator(_split)] = Field(
        default="official",
        description="Which images train, validate and test: official, nats_test, nats_valid, "
        "{file: PATH} of a split file, or how many training images validate.",
    )
    epochs: int = Field(default=12, ge=1, le=100_000, description="Passes over training images.")
    batch: int = Field(default=256, ge=1, le=65_536, description="Images of one step.")
    optimiser: Annotated[Choice, BeforeValidator(_optimiser)] = Field(
        default_factory=lambda: _optimiser("sgd"), description="A name, or a mapping with one."
    )
    schedule: Annotated[Choice, BeforeValidator(_schedule)] = Field(
        default_factory=lambda: _schedule("cosine"),
        description="Of the learning rate; a name, or a mapping with one.",
    )
    augment: AugmentSection = Field(
        default=AugmentSection(), description="What is done to training images."
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Share of a target that goes to all classes alike."
    )
    average: float = Field(
        default=0.0, ge=0, lt=1, description="Decay per step of averaged weights; 0 averages none."
    )
    clip: float | None = Field(default=None, gt=0, description="Largest norm of a gradient.")
    precision: Precision = Field(default="float32", description="In which layers compute.")
    channels_last: bool = Field(default=False, description="Memory order of images.")
    compile: bool = Field(default=False, description="Whether torch.compile makes the kernels.")
    evaluate_every: int = Field(
        default=1, ge=1, le=100_000, description="Epochs between looks at validation images."
    )
    seed: int = Field(default=0, ge=0, lt=2**62, description="The first seed.")
    seeds: int = Field(default=1, ge=1, le=1000, description="How many trainings of each.")
    benchmark: Annotated[str, AfterValidator(benchmark_column)] | None = Field(
        default=None, description="FILE:COLUMN of tabulated accuracies, shown beside."
    )
    device: Annotated[str, AfterValidator(check_device_name)] = Field(
        default="cpu", description="cpu, cuda, cuda:N or mps."
    )
    folder: str = Field(default="runs", min_length=1, description="Where run folders are made.")

    def resolved(self) -> dict[str, Any]:
        """Return every setting as plain values; reading them back gives an equal recipe."""
        values = self.model_dump(mode="json")
        for key in ("data", "optimiser", "schedule"):
            values[key] = {"name": values[key]["name"], **values[key]["options"]}
        return values

    def to_yaml(self) -> str:
        """Return the resolved recipe as a file that can be run again."""
        return plain_yaml.dump(self.resolved())

    def plan(self, device: str | None = None) -> Plan:
        """Return how a network is trained.

        Args:
            device: In the place of the recipe's own.
        """
        return Plan(
            epochs=self.epochs,
            batch=self.batch,
            optimiser=self.optimiser.name,
            optimiser_options=self.optimiser.options,
            schedule=self.schedule.name,
            schedule_options=self.schedule.options,
            label_smoothing=self.label_smoothing,
            average=self.average,
            clip=self.clip,
            precision=self.precision,
            channels_last=self.channels_last,
            compile=self.compile,
            evaluate_every=self.evaluate_every,
            device=device or self.device,
        )

    def truth(self) -> Truth | None:
        """Return the column of tabulated accuracies, if any is named."""
        if self.benchmark is None:
            return None
        from nas.benchmark.table import parse_truth  # late: few recipes name a table

        return parse_truth(self.benchmark, find_space(self.space))


TRAIN = Kind(
    TrainRecipe,
    sections={"augment": AugmentSection},
    selectors={"data": DATA, "optimiser": OPTIMISERS, "schedule": SCHEDULES},
)


def load_train_recipe(path: Path, overrides: Sequence[str] = ()) -> TrainRecipe:
    """Read a recipe of a training; as :func:`nas.recipe.load_recipe`."""
    recipe = load_kind(TRAIN, path, overrides)
    assert isinstance(recipe, TrainRecipe)
    return recipe


def training_of(section: TrainSection) -> TrainRecipe:
    """Return the recipe that the ``train`` section of a search asks for, without architectures.

    Raises:
        NasError: A setting that cannot be.
    """
    path = resolve_recipe_path(section.recipe, "train")
    return load_train_recipe(path, overrides_of(section.set))


def with_archs(recipe: TrainRecipe, space: str, archs: Iterable[Candidate]) -> TrainRecipe:
    """Return a recipe that trains these architectures.

    Raises:
        NasError: None, or one that is not of the space.
    """
    chosen = list(archs)
    if not chosen:
        raise NasError("no architecture to train")
    for each in chosen:
        find_space(space).from_str(each.arch)
    return recipe.model_copy(update={"space": space, "archs": chosen})


def overrides_of(settings: Mapping[str, Any]) -> list[str]:
    """Return settings by dotted key as a command line would have them."""
    return [f"{key}={json.dumps(value)}" for key, value in settings.items()]
