"""Doubles for the tests of designs: statistics that cost nothing, and accuracies that follow them.

Run as a script it is the process that the resume test kills: see :func:`main`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nas.design.layers import Layers, Sample
from nas.designing import design
from nas.proxies.base import Conditions
from nas.recipe.design import load_design_recipe
from nas.seeds import generator
from spaces import Arch, Space
from spaces.nats_tss import NATS_TSS

DEAD: Arch = (0,) * 6


def worth_of(arch: Arch) -> float:
    """Return what the toy statistics carry: how much the operations of a cell are worth."""
    return float(sum((0.0, 0.6, 1.5, 3.0, 0.2)[op] for op in arch))


def toy_measure(
    space: Space, archs: Sequence[Arch], conditions: Conditions, wanted: Mapping[str, Sequence[str]]
) -> Sample:
    """Return noise by place, but ``rms[relu]``, whose sum is near what the cell is worth."""
    found = {}
    for role, atoms in wanted.items():
        lengths = [1 + sum(op > 1 for op in arch) for arch in archs]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        values = np.empty((len(atoms), int(offsets[-1])))
        for number, arch in enumerate(archs):
            here = slice(int(offsets[number]), int(offsets[number + 1]))
            rng = generator(conditions.seed, "toy", role, *arch)
            values[:, here] = rng.normal(size=(len(atoms), lengths[number]))
            if role == "relu":
                noise = 0.3 * rng.normal()
                values[list(atoms).index("rms"), here] = (worth_of(arch) + noise) / lengths[number]
        dead = np.asarray([arch == DEAD for arch in archs])
        found[role] = Layers(tuple(atoms), values, np.ones(values.shape[1]), offsets, dead)
    return found


def write_table(path: Path, count: int = 1200) -> None:
    """Write accuracies of some cells in two columns."""
    rng = np.random.default_rng(0)
    members = NATS_TSS.all()
    rows = np.sort(rng.choice(len(members), count, replace=False))
    lines = ["arch,c10_test_200,c100_test_200"]
    for row in rows.tolist():
        arch = tuple(members[row].tolist())
        value = 60 + 30 * np.tanh(worth_of(NATS_TSS.canonical(arch)) / 8)
        ten, hundred = value + 0.3 * rng.normal(size=2)
        lines.append(f"{NATS_TSS.to_str(arch)},{ten:.4f},{hundred - 20:.4f}")
    path.write_text("\n".join(lines) + "\n")


#: Small, so that a whole design takes a second.
SMALL = (
    "train=150",
    "validation=100",
    "per_band=10",
    "evolution.population=30",
    "evolution.islands=2",
    "evolution.epochs=6",
    "evolution.generations=3",
    "evolution.max_size=15",
)


def recipe_file(folder: Path, *lines: str) -> Path:
    """Write a table and a recipe that names it."""
    write_table(folder / "truth.csv")
    path = folder / "small.yaml"
    tables = "tables: {nats_tss: 'truth.csv:c10_test_200,c100_test_200'}"
    path.write_text("\n".join([tables, "roles: [relu, block, weight]", *lines]) + "\n")
    return path


def main() -> None:
    """Design in the folder that is named, slowly; say when it begins."""
    folder = Path(sys.argv[1])

    def slow(
        space: Space,
        archs: Sequence[Arch],
        conditions: Conditions,
        wanted: Mapping[str, Sequence[str]],
    ) -> Sample:
        time.sleep(0.02)
        return toy_measure(space, archs, conditions, wanted)

    recipe = load_design_recipe(folder / "small.yaml", SMALL)
    sys.stdout.write("started\n")
    sys.stdout.flush()
    formula = design(recipe, folder / "statistics", folder / "state.json", measure=slow)
    part = folder / "part"
    part.write_text(formula.to_yaml())
    part.replace(folder / "out.yaml")


if __name__ == "__main__":
    main()
