"""Recipes of designed proxies: what ``nas design`` reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo

from nas.design.atoms import ROLES
from nas.recipe.fields import (
    ConditionsSection,
    Section,
    benchmark_column,
    refuse,
    run_name,
    space_name,
)
from nas.recipe.kinds import Kind, load_kind
from spaces.errors import did_you_mean


def _tables(tables: dict[str, str], info: ValidationInfo) -> dict[str, str]:
    return {space_name(space, info): benchmark_column(text, info) for space, text in tables.items()}


def _roles(roles: list[str]) -> list[str]:
    for role in roles:
        if role not in ROLES:
            hint = did_you_mean(role, list(ROLES))
            raise refuse(f"no role named {role!r}.{hint} Known: {', '.join(ROLES)}")
    return sorted(set(roles), key=list(ROLES).index)


def _atoms(atoms: list[str]) -> list[str]:
    known = sorted({name for role in ROLES.values() for name in role.names})
    for atom in atoms:
        if atom not in known:
            hint = did_you_mean(atom, known)
            raise refuse(f"no atom named {atom!r}.{hint} Known: {', '.join(known)}")
    return sorted(set(atoms))


class EvolutionSection(Section):
    """How formulas are evolved."""

    population: int = Field(default=300, ge=10, le=100_000, description="Formulas on an island.")
    islands: int = Field(default=4, ge=1, le=64, description="Populations that trade their best.")
    epochs: int = Field(
        default=12, ge=1, le=100_000, description="Stretches after which a run can go on."
    )
    generations: int = Field(default=20, ge=1, le=10_000, description="In an epoch.")
    tournament: int = Field(default=4, ge=1, le=1000, description="Drawn for one parent.")
    max_size: int = Field(
        default=30, ge=2, le=150, description="Operations, atoms and constants of a formula."
    )
    parsimony: float = Field(
        default=0.0005, ge=0, le=1, description="Kendall that one of these has to be worth."
    )


class DesignRecipe(Section):
    """One design, completely described."""

    name: Annotated[str, AfterValidator(run_name)] = Field(
        default="formula", description="Of the formula; the file's name when left out."
    )
    summary: str = Field(default="", description="One line for a person.")
    tables: Annotated[dict[str, str], AfterValidator(_tables)] = Field(
        min_length=1, description="By space: FILE:COLUMN,COLUMN of accuracies; the worst counts."
    )
    roles: Annotated[list[str], AfterValidator(_roles)] = Field(
        default=list(ROLES), min_length=1, description="Kinds of places that may be read."
    )
    leave_out: Annotated[list[str], AfterValidator(_atoms)] = Field(
        default=[], description="Atoms that may not be read, in any role."
    )
    draws: int = Field(
        default=2, ge=1, le=16, description="Seeds of weights and image, the same for all cells."
    )
    train: int = Field(default=1200, ge=20, le=20_000, description="Random rows to train on.")
    validation: int = Field(default=1200, ge=20, le=20_000, description="Random rows to choose by.")
    per_band: int = Field(
        default=100,
        ge=1,
        le=2000,
        description="Rows from each of ten bands of accuracy, besides.",
    )
    evolution: EvolutionSection = Field(
        default=EvolutionSection(), description="How formulas are evolved."
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="Of the split and of the evolution.")
    conditions: ConditionsSection = Field(
        default=ConditionsSection(), description="What statistics depend on."
    )


DESIGN = Kind(
    DesignRecipe,
    sections={"conditions": ConditionsSection, "evolution": EvolutionSection},
    selectors={},
)


def load_design_recipe(path: Path, overrides: Sequence[str] = ()) -> DesignRecipe:
    """Read a recipe of a design; as :func:`nas.recipe.load_recipe`."""
    recipe = load_kind(DESIGN, path, overrides)
    assert isinstance(recipe, DesignRecipe)
    return recipe
