"""Kill commands at random moments and see that they end as if nothing had been.

::

    python -m tests.nas.kills [--kills 100] [--scene NAME]... [--seed 0]

Every scene is a command, run as a real process: a search (by one process, and by two workers), a
fit, a design, a training, an import. It is run once undisturbed. Then it is started, killed with
SIGKILL at a moment drawn over the time that the whole takes, and started again by the same command
until it ends; what it leaves has to be what the undisturbed one left. The kills are dealt to the
scenes in turn. The last line says how many kills hit and how many commands had to end again.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.seeds import generator
from spaces.nats_tss import NATS_TSS
from tests.nas.benchmark import test_nats as official
from tests.nas.design.toys import recipe_file, write_table

NAS = (sys.executable, "-c", "from nas.cli import main; main()")
CHECKOUT = Path(__file__).resolve().parents[2]
CELL = "|nor_conv_1x1~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"
FIT = """\
name: small
space: nats_tss
truth: truth.csv:c10_test_200
inputs: [orbits, meco, synflow]
conditions: {resolution: 16}
regressor: gaussian_process
train: 80
"""
DESIGN = (
    *("train=40", "validation=20", "per_band=2", "draws=1", "evolution.population=20"),
    *("evolution.islands=2", "evolution.epochs=8", "evolution.generations=6"),
    *("evolution.max_size=12", "conditions.resolution=8", "roles=[relu, flow, slope, weight]"),
)


@dataclass(frozen=True)
class Scene:
    """A command that may be killed.

    Attributes:
        words: What is run in a folder.
        prepare: Puts into the folder what the command needs.
        outcome: What it left there, without what depends on the clock.
    """

    words: tuple[str, ...]
    prepare: Callable[[Path], object]
    outcome: Callable[[Path], Any]


def _nothing(folder: Path) -> None:
    """Prepare nothing."""


def _search(folder: Path) -> Any:
    with (folder / "run" / "trials.csv").open(encoding="utf-8") as file:
        rows = [
            {k: v for k, v in row.items() if k not in ("seconds", "cached")}
            for row in csv.DictReader(file)
        ]
    result = json.loads((folder / "run" / "result.json").read_text(encoding="utf-8"))
    return rows, result["top"], result["failures"]


def _fit_inputs(folder: Path) -> None:
    write_table(folder / "truth.csv", 160)
    (folder / "small.yaml").write_text(FIT, encoding="utf-8")


def _fit(folder: Path) -> Any:
    from nas.predictor.predictor import Predictor

    fitted = Predictor.load(str(folder / "small.npz"))
    texts = [NATS_TSS.to_str(tuple(row)) for row in NATS_TSS.all()[::1000].tolist()]
    return [tuple(each) for each in fitted.predict(texts)]


def _design_inputs(folder: Path) -> None:
    recipe_file(folder)
    lines = (folder / "truth.csv").read_text(encoding="utf-8").splitlines()
    (folder / "truth.csv").write_text("\n".join(lines[:201]) + "\n", encoding="utf-8")


def _design(folder: Path) -> Any:
    from nas.design.formula import read_formula

    made = read_formula(folder / "mine.yaml")
    assert made.provenance is not None
    return made.formula, [vars(x) for x in made.provenance.held_out], made.provenance.proposed


def _train(folder: Path) -> Any:
    result = json.loads((folder / "run" / "result.json").read_text(encoding="utf-8"))
    jobs = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((folder / "run" / "jobs").rglob("result.json"))
    ]
    weights = [path.read_bytes() for path in sorted((folder / "run").rglob("*.safetensors"))]
    losses = [[epoch["train_loss"] for epoch in job["epochs"]] for job in jobs]
    return result["archs"][0]["accuracy"], [job["test"] for job in jobs], losses, weights


def _archive(folder: Path) -> None:
    texts = official.names("sss")
    records = {
        i: {"12": official.training(i, texts[i], 12, 70.0 + i % 7, [777])}
        for i in range(0, len(texts), 16)
    }
    official.save(
        folder / "archive.pickle.pbz2",
        {"meta_archs": texts, "total_archs": len(texts), "arch2infos": records,
         "evaluated_indexes": set(records)},
    )  # fmt: skip


def _import(folder: Path) -> Any:
    left = sorted(path.name for path in folder.iterdir())
    assert left == ["archive.pickle.pbz2", "table.csv"], left
    return (folder / "table.csv").read_bytes()


_SEARCH = ("search", "smoke", "--out", "run", "budget=240", "proxy=synflow", "seed=5")
SCENES = {
    "search": Scene(_SEARCH, _nothing, _search),
    "workers": Scene((*_SEARCH, "workers=2"), _nothing, _search),
    "fit": Scene(("fit", "small.yaml"), _fit_inputs, _fit),
    "design": Scene(
        ("design", "small.yaml", *DESIGN, "--out", "mine.yaml", "--workers", "2"),
        _design_inputs,
        _design,
    ),
    "train": Scene(
        ("train", CELL, "--recipe", "train_digits", "--out", "run", "epochs=6", "split=20",
         "data.limit=60"),
        _nothing,
        _train,
    ),
    "import": Scene(("bench", "import", "archive.pickle.pbz2", "table.csv"), _archive, _import),
}  # fmt: skip


def start(scene: Scene, folder: Path) -> subprocess.Popen[str]:
    """Start a command in a folder."""
    return subprocess.Popen(
        [*NAS, *scene.words], cwd=folder, text=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)},
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> None:
    """Wait for a command that has to end well."""
    _, told = process.communicate()
    if process.returncode:
        raise AssertionError(f"{process.args!r}: exit code {process.returncode}: {told}")


def undisturbed(scene: Scene, folder: Path) -> tuple[Any, float]:
    """Return what a scene leaves, and how many seconds it takes."""
    folder.mkdir()
    scene.prepare(folder)
    began = time.monotonic()
    finish(start(scene, folder))
    return scene.outcome(folder), time.monotonic() - began


def killed(scene: Scene, folder: Path, moments: list[float]) -> tuple[Any, int]:
    """Return what a scene leaves that is killed at these moments, and how many of them hit it."""
    folder.mkdir()
    scene.prepare(folder)
    hits = 0
    for moment in moments:
        process = start(scene, folder)
        told = ""
        try:
            _, told = process.communicate(timeout=moment)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        if process.returncode == 0 or _is_whole(process, told):
            return scene.outcome(folder), hits
        assert process.returncode == -signal.SIGKILL, (process.returncode, told)
        hits += 1
    process = start(scene, folder)
    _, told = process.communicate()
    assert process.returncode == 0 or _is_whole(process, told), (process.returncode, told)
    return scene.outcome(folder), hits


def _is_whole(process: subprocess.Popen[str], told: str) -> bool:
    """Tell whether a command refuses to do again what it had done when it was killed."""
    return process.returncode == 2 and "is there already" in told


def check(name: str, folder: Path, kills: int, seed: int, in_a_row: int = 5) -> dict[str, int]:
    """Kill one scene so often, some times in a row before it may end.

    Raises:
        AssertionError: It left something else than the undisturbed one.
    """
    scene = SCENES[name]
    expected, seconds = undisturbed(scene, folder / "undisturbed")
    rng = generator(seed, "kills", name)
    hits = runs = 0
    while hits < kills:
        runs += 1
        moments = rng.uniform(0, seconds, size=min(in_a_row, kills - hits)).tolist()
        found, some = killed(scene, folder / f"killed-{runs}", moments)
        assert found == expected, (name, runs)
        hits += some
    return {"kills": hits, "commands": runs}


def main() -> None:
    """Kill, and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--scene", choices=SCENES, action="append")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    names = args.scene or list(SCENES)
    total: dict[str, dict[str, int]] = {}
    for place, name in enumerate(names):
        share = args.kills // len(names) + (place < args.kills % len(names))
        with tempfile.TemporaryDirectory() as folder:
            total[name] = check(name, Path(folder), share, args.seed)
        sys.stdout.write(f"{name}: {json.dumps(total[name])}\n")
        sys.stdout.flush()
    kills = sum(each["kills"] for each in total.values())
    commands = sum(each["commands"] for each in total.values())
    sys.stdout.write(f"{kills} kills, {commands} commands ended as undisturbed ones\n")


if __name__ == "__main__":
    main()
