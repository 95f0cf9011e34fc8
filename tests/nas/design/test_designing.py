"""From a recipe to a formula: found, judged on what it has not seen, kept, killed, searched by."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import nas
from nas.cli import app, search_app
from nas.design.formula import Formula, parse_formula, read_formula, shipped_formulas
from nas.designing import State, by_band, design, read_tables, split_rows
from nas.proxies.base import Conditions
from nas.recipe import RecipeError, load_recipe, shipped_recipes
from nas.recipe.design import DesignRecipe, load_design_recipe
from nas.seeds import generator
from nas.workers import make_workers
from spaces import SPACES, Arch, Space
from spaces.errors import NasError
from spaces.nats_tss import NATS_TSS
from tests.nas.design.toys import DEAD, SMALL, recipe_file, toy_measure

CHECKOUT = Path(__file__).resolve().parents[3]
RUNNER = CliRunner()


def run(folder: Path, *overrides: str, workers: int = 0) -> Formula:
    recipe = load_design_recipe(folder / "small.yaml", [*SMALL, *overrides])
    with make_workers(workers) as hands:
        return design(
            recipe, folder / "statistics", folder / "state.json", measure=toy_measure, workers=hands
        )


def told(formula: Formula) -> dict[str, Any]:
    """All that does not depend on the clock."""
    values = formula.model_dump(mode="json")
    for key in ("started", "statistics_seconds", "evolution_seconds", "energy"):
        del values["provenance"][key]
    return values


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("design")
    recipe_file(made)
    return made


@pytest.fixture(scope="module")
def found(folder: Path) -> Formula:
    return run(folder)


def test_it_finds_what_is_there(found: Formula) -> None:
    about = found.provenance
    assert about is not None
    assert "rms[relu]" in found.formula
    assert {(x.task, x.cells) for x in about.held_out} == {
        (f"nats_tss {column}", kind)
        for column in ("c10_test_200", "c100_test_200")
        for kind in ("random", "stratified")
    }
    for figure in about.held_out:
        assert figure.kendall > 0.85
    assert about.proposed > 500
    assert about.generations == 18


def test_it_says_how_it_was_found(found: Formula) -> None:
    about = found.provenance
    assert about is not None
    (table,) = about.tables
    assert table.columns == ["c10_test_200", "c100_test_200"]
    assert table.train > 150
    assert table.report > 400
    sizes = [candidate.size for candidate in about.front]
    train = [candidate.train for candidate in about.front]
    assert sizes == sorted(set(sizes))
    assert train == sorted(train)
    assert found.formula in [candidate.formula for candidate in about.front]
    assert [step.train for step in about.best_over_time] == sorted(
        step.train for step in about.best_over_time
    )
    assert about.best_over_time[-1].epoch == 6
    assert about.versions["numpy"] == np.__version__
    assert about.recipe["tables"] == {"nats_tss": "truth.csv:c10_test_200,c100_test_200"}
    energy = about.energy
    assert energy == "unknown" or re.fullmatch(r"\d+ J \(RAPL, evolution\)", energy)


def test_the_file_comes_back_as_it_went(found: Formula, tmp_path: Path) -> None:
    path = tmp_path / "formula.yaml"
    path.write_text(found.to_yaml())
    assert read_formula(path) == found
    assert str(Path.home()) not in path.read_text()


def test_the_same_again_and_another_seed_another_design(found: Formula, folder: Path) -> None:
    (folder / "state.json").unlink()
    assert told(run(folder)) == told(found)
    assert (
        told(run(folder, "seed=1"))["provenance"]["tables"] != told(found)["provenance"]["tables"]
    )


def test_the_number_of_workers_changes_nothing(found: Formula, folder: Path) -> None:
    (folder / "state.json").unlink()
    assert told(run(folder, workers=2)) == told(found)


def test_it_goes_on_from_where_it_was(found: Formula, folder: Path) -> None:
    # A state of three epochs of six, and the result of an uninterrupted run.
    (folder / "state.json").unlink()
    epochs: list[int] = []

    class Enough(Exception):
        pass

    def stop(progress: Any) -> None:
        if progress.stage == "evolution":
            epochs.append(progress.done)
            if progress.done == 3:
                raise Enough

    recipe = load_design_recipe(folder / "small.yaml", SMALL)
    paths = folder / "statistics", folder / "state.json"
    with pytest.raises(Enough):
        design(recipe, *paths, measure=toy_measure, tell=stop)
    assert json.loads(paths[1].read_text())["epoch"] == 3
    again = design(
        recipe, *paths, measure=toy_measure, tell=lambda progress: epochs.append(progress.done)
    )
    assert told(again) == told(found)
    assert epochs == [1, 2, 3, 4, 5, 6], "nothing was evolved or measured twice"


def test_the_state_of_another_design_is_not_gone_on_from(folder: Path) -> None:
    first = run(folder, "evolution.epochs=2")
    state = json.loads((folder / "state.json").read_text())
    other = run(folder, "evolution.epochs=2", "evolution.parsimony=0.01")
    assert state["identity"] != json.loads((folder / "state.json").read_text())["identity"]
    assert told(first)["provenance"]["front"] != told(other)["provenance"]["front"]
    (folder / "state.json").write_text("{")
    with pytest.raises(NasError, match="not a design's state"):
        run(folder)
    (folder / "state.json").unlink()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_killed_at_any_moment_it_ends_with_the_same_formula(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    recipe_file(whole)
    began = time.perf_counter()
    expected = told(killed_after(whole, None))
    seconds = time.perf_counter() - began

    moments = generator(0, "kill", "design")
    cut = tmp_path / "cut"
    cut.mkdir()
    recipe_file(cut)
    kills = 0
    while kills < 4 and not (cut / "out.yaml").exists():
        kills += 1
        killed_after(cut, moments.uniform(0.2, 0.7) * seconds / 2)
    assert kills >= 2
    assert told(killed_after(cut, None)) == expected


def killed_after(folder: Path, seconds: float | None) -> Any:
    """Run the design in a process of its own; kill it after some seconds, or let it end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.nas.design.toys", str(folder)],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        try:
            process.wait(timeout=60 if seconds is None else seconds)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
    if seconds is None:
        assert process.returncode == 0
        return read_formula(folder / "out.yaml")
    return None


def test_no_function_is_on_two_sides(folder: Path) -> None:
    (data,) = read_tables(load_design_recipe(folder / "small.yaml", SMALL))
    split = data.split
    sides = [
        {data.forms[row] for row in rows} for rows in (split.train, split.validation, split.report)
    ]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]
    assert sum(map(len, (split.train, split.validation, split.report))) == len(data.archs)
    share = [len(side) / len(set(data.forms)) for side in sides]
    assert share == pytest.approx([3 / 8, 1 / 8, 1 / 2], abs=0.01)


def test_selection_never_sees_the_report(folder: Path) -> None:
    # Other accuracies in the rows of the report, the same design but for its figures.
    recipe = load_design_recipe(folder / "small.yaml", [*SMALL, "evolution.epochs=2"])
    (data,) = read_tables(recipe)
    lines = (folder / "truth.csv").read_text().splitlines()
    report = {data.space.to_str(data.archs[row]) for row in data.split.report}
    changed = [
        line.split(",")[0] + ",50,30" if line.split(",")[0] in report and number % 2 else line
        for number, line in enumerate(lines)
    ]
    other = folder / "other"
    other.mkdir()
    (other / "truth.csv").write_text("\n".join(changed) + "\n")
    first = told(design(recipe, folder / "statistics", folder / "a.json", measure=toy_measure))
    values = recipe.model_copy(update={"tables": _moved(recipe, other)})
    second = told(design(values, folder / "statistics", folder / "b.json", measure=toy_measure))
    for part in ("front", "best_over_time", "validation", "proposed"):
        assert first["provenance"][part] == second["provenance"][part]
    assert first["formula"] == second["formula"]
    assert first["provenance"]["held_out"] != second["provenance"]["held_out"]


def _moved(recipe: DesignRecipe, folder: Path) -> dict[str, str]:
    return {space: str(folder / Path(text).name) for space, text in recipe.tables.items()}


def test_dead_cells_are_reported_last_and_train_nothing(folder: Path) -> None:
    (data,) = read_tables(load_design_recipe(folder / "small.yaml", SMALL))
    assert DEAD in data.forms
    asked: list[Arch] = []

    def listening(space: Space, archs: Sequence[Arch], conditions: Conditions, wanted: Any) -> Any:
        asked.extend(archs)
        return toy_measure(space, archs, conditions, wanted)

    found = design(
        load_design_recipe(folder / "small.yaml", [*SMALL, "evolution.epochs=1", "seed=3"]),
        folder / "heard",
        folder / "heard.json",
        measure=listening,
    )
    assert found.provenance is not None
    assert DEAD in asked
    assert all(np.isfinite(figure.kendall) for figure in found.provenance.held_out)


def test_the_split_depends_on_seed_and_space() -> None:
    functions = np.arange(100) // 2
    first, again = split_rows(functions, 0, "a"), split_rows(functions, 0, "a")
    assert first.train.tolist() == again.train.tolist()
    assert first.train.tolist() != split_rows(functions, 1, "a").train.tolist()
    assert first.train.tolist() != split_rows(functions, 0, "b").train.tolist()


def test_bands_by_hand() -> None:
    truth = np.asarray([0.0, 1, 1.5, 9.5, 10, 9.9, 5])
    # bands of 1: [0, 1), [1, 2), ..., [9, 10]
    rows = np.asarray([6, 5, 4, 3, 2, 1, 0])
    assert by_band(rows, truth, 2).tolist() == [0, 2, 1, 6, 5, 4]
    assert by_band(rows, truth, 1).tolist() == [0, 2, 6, 5]


def test_two_spaces_at_once_and_the_worst_counts(folder: Path, tmp_path: Path) -> None:
    space = SPACES["transnas_micro"]
    rng = np.random.default_rng(0)
    rows = space.sample_many(300, rng)
    rows = np.unique(rows, axis=0)
    lines = ["arch,accuracy"]
    for arch in map(tuple, rows.tolist()):
        worth = sum((0.0, 0.6, 1.5, 3.0)[op] for op in space.canonical(arch))
        lines.append(f"{space.to_str(arch)},{worth + 0.2 * rng.normal():.4f}")
    (tmp_path / "other.csv").write_text("\n".join(lines) + "\n")
    other = f"tables.transnas_micro={tmp_path / 'other.csv'}:accuracy"
    formula = run(folder, other, "draws=1")
    assert formula.provenance is not None
    assert [table.space for table in formula.provenance.tables] == ["nats_tss", "transnas_micro"]
    assert len(formula.provenance.held_out) == 6
    assert min(figure.kendall for figure in formula.provenance.held_out) > 0.7


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("tables={}", "tables: "),
        ("tables.nats_ts=truth.csv:c10_test_200", "no space named 'nats_ts'"),
        ("tables.nats_tss=absent.csv:a", "no such file: 'absent.csv'"),
        ("tables.nats_tss=truth.csv", "expected FILE:COLUMN"),
        ("roles=[relo]", "no role named 'relo'. Did you mean 'relu'?"),
        ("leave_out=[chanels]", "no atom named 'chanels'. Did you mean 'channels'?"),
        ("roles=[]", "roles: must have at least 1"),
        ("evolution.populaton=5", "evolution.populaton: unknown key; did you mean 'population'?"),
        ("evolution.population=5", "evolution.population: must be at least 10, got 5"),
        ("trian=5", "trian: unknown key; did you mean 'train'?"),
        ("seed=-1", "seed: must be at least 0, got -1"),
    ],
)
def test_mistakes_in_a_recipe_are_explained(folder: Path, line: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_design_recipe(folder / "small.yaml", [line])
    assert message in str(caught.value)


def test_a_mistake_names_its_line(tmp_path: Path) -> None:
    path = recipe_file(tmp_path, "sede: 3")
    with pytest.raises(RecipeError) as caught:
        load_design_recipe(path)
    assert str(caught.value).startswith(f"{path}:3: sede: unknown key; did you mean 'seed'?")


def test_too_small_a_table_is_refused(tmp_path: Path) -> None:
    path = recipe_file(tmp_path)
    lines = (tmp_path / "truth.csv").read_text().splitlines()
    (tmp_path / "truth.csv").write_text("\n".join(lines[:50]) + "\n")
    with pytest.raises(NasError, match="49 rows are known, a design takes 80 at least"):
        read_tables(load_design_recipe(path))


def test_a_damaged_state_is_told(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("[1")
    with pytest.raises(NasError, match="not a design's state"):
        State.load(tmp_path / "state.json", "")
    assert State.load(tmp_path / "absent.json", "") is None


# From here on with real networks, small ones.

TINY = (
    *("train=24", "validation=20", "per_band=2", "draws=1", "evolution.population=10"),
    *("evolution.islands=1", "evolution.epochs=2", "evolution.generations=2"),
    *("evolution.max_size=12", "conditions.resolution=8"),
)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a formula was designed by the command."""
    made = tmp_path_factory.mktemp("real")
    recipe_file(made)
    lines = (made / "truth.csv").read_text().splitlines()
    (made / "truth.csv").write_text("\n".join(lines[:121]) + "\n")
    words = ["design", str(made / "small.yaml"), *TINY, "roles=[relu, flow, slope, weight]"]
    done = RUNNER.invoke(app, [*words, "--out", str(made / "mine.yaml"), "--workers", "1"])
    assert done.exit_code == 0, done.output
    assert "evolution: 2 of 2, best Kendall" in done.output
    assert "Cells that the design has not seen:" in done.output
    return made


def test_the_command_leaves_a_formula_and_statistics(real: Path) -> None:
    formula = read_formula(real / "mine.yaml")
    assert formula.name == "small"
    assert not (real / "mine.yaml.state.json").exists()
    assert len(list((real / "design_statistics").iterdir())) == 2  # one to design by, one to report
    again = RUNNER.invoke(
        app, ["design", str(real / "small.yaml"), *TINY, "--out", str(real / "mine.yaml")]
    )
    assert again.exit_code == 2
    assert "mine.yaml: is there already" in again.output


def test_a_search_goes_by_it(real: Path) -> None:
    recipe = real / "search.yaml"
    recipe.write_text(
        "space: nats_tss\nproxy: {formula: mine.yaml}\nbudget: 12\n"
        "strategy: random\nconditions: {resolution: 8}\n"
    )
    loaded = load_recipe(recipe)
    assert loaded.proxy == f"formula:file={real / 'mine.yaml'}"
    assert loaded.resolved()["proxy"] == {"name": "formula", "file": str(real / "mine.yaml")}
    done = RUNNER.invoke(search_app, [str(recipe), "--out", str(real / "run"), "--json", "-"])
    assert done.exit_code == 0, done.output
    best = json.loads(done.stdout)["best"]
    expected = nas.score(
        NATS_TSS.build(NATS_TSS.from_str(best["arch"])), (3, 8, 8), f"formula:{real / 'mine.yaml'}"
    )
    assert all(isinstance(score, float) for score in expected.values())


def test_rank_takes_a_file(real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(real)
    words = ["rank", "--truth", "truth.csv:c10_test_200", "--sample", "30", "--resolution", "8"]
    done = RUNNER.invoke(app, [*words, "--proxy", "formula:mine.yaml,sed", "--json", "-", "-q"])
    assert done.exit_code == 0, done.output
    assert "formula:file=mine.yaml" in done.stdout
    done = RUNNER.invoke(app, [*words, "--proxy", "formula:absent.yaml"])
    assert done.exit_code == 2
    assert "absent.yaml: no such file, and no formula of this name" in done.output


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("proxy: {formula: absent.yaml}", "no such file: 'absent.yaml'"),
        ("proxy: {formula: 3}", "proxy.formula: expected a file, got 3"),
        ("proxy: {formula: bad.yaml}", "bad.yaml:2: formula: no function named 'men'"),
        ("proxy: {formula: mine.yaml, fiel: x}", "unknown key; did you mean 'file'?"),
    ],
)
def test_recipes_that_name_no_formula(real: Path, line: str, message: str) -> None:
    (real / "bad.yaml").write_text("name: bad\nformula: men(rms[relu])\n")
    recipe = real / "wrong.yaml"
    recipe.write_text(f"space: nats_tss\n{line}\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe)
    assert message in str(caught.value)


def test_the_size_space_can_be_designed_for(tmp_path: Path) -> None:
    # The path only: accuracies are known of seven architectures, which say nothing of a formula.
    space = SPACES["nats_sss"]
    rng = np.random.default_rng(0)
    archs = np.unique(space.sample_many(90, rng), axis=0)[:82]
    lines = ["arch,accuracy"]
    for arch in map(tuple, archs.tolist()):
        lines.append(f"{space.to_str(arch)},{80 + sum(arch) / 3 + rng.normal() / 10:.3f}")
    (tmp_path / "sizes.csv").write_text("\n".join(lines) + "\n")
    recipe = tmp_path / "sizes.yaml"
    recipe.write_text("tables: {nats_sss: 'sizes.csv:accuracy'}\nroles: [weight, relu]\n")
    loaded = load_design_recipe(recipe, TINY)
    formula = design(loaded, tmp_path / "statistics", tmp_path / "state.json")
    assert formula.provenance is not None
    assert formula.provenance.held_out[0].n > 30
    assert shipped_recipes("design")
    assert shipped_formulas()


def test_a_formula_written_by_hand_is_a_whole_file() -> None:
    formula = parse_formula("formula: mean(rms[relu])\n", "x.yaml", name="x")
    assert formula == Formula(name="x", formula="mean(rms[relu])")
