"""From a recipe to a predictor: fitted, saved, read, searched by; and what is refused."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from nas import Predictor, Searcher
from nas.cli import app, search_app
from nas.fitting import fit, read_data, suggest
from nas.oracle import Oracle
from nas.predictor.container import BadPredictor
from nas.predictor.inputs import Inputs
from nas.proxies import PROXIES, ProxySpec
from nas.recipe import RecipeError, load_recipe
from nas.recipe.fit import FitRecipe, load_fit_recipe
from nas.store import Store
from spaces import SPACES
from spaces.errors import InvalidArch, NasError
from spaces.nats_tss import NATS_TSS

ALL = NATS_TSS.all()
RUNNER = CliRunner()


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A truth that follows from the cell: what its convolutions do, and noise."""
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice(len(ALL), 1500, replace=False))
    forms = NATS_TSS.canonicalise(ALL[rows])
    worth = np.asarray([0, 0.5, 1.5, 3, 0.2])[forms].sum(axis=1)
    values = 60 + 30 * np.tanh(worth / 8) + 0.3 * rng.normal(size=len(rows))
    path = tmp_path_factory.mktemp("table") / "truth.csv"
    lines = [
        f"{NATS_TSS.to_str(tuple(arch))},{value:.4f}"
        for arch, value in zip(ALL[rows].tolist(), values, strict=True)
    ]
    path.write_text("\n".join(["arch,c10_test_200", *lines]) + "\n")
    return path


def recipe_file(folder: Path, table: Path, *lines: str) -> Path:
    path = folder / "small.yaml"
    settings = {
        "space": "nats_tss",
        "truth": f"{table}:c10_test_200",
        "inputs": "[graph, params, sed]",
        "regressor": "{name: extra_trees, trees: 20}",
        "train": "200",
    }
    settings |= dict(line.split(": ", 1) for line in lines)
    path.write_text("".join(f"{key}: {value}\n" for key, value in settings.items()))
    return path


@pytest.fixture(scope="module")
def fitted(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    folder = tmp_path_factory.mktemp("fitted")
    recipe = load_fit_recipe(recipe_file(folder, table))
    predictor, _ = fit(recipe, read_data(recipe))
    return predictor.save(folder / "small.npz")


def path_of(fitted: Predictor, folder: Path) -> Path:
    fitted.save(folder / "small.npz")
    return folder / "small.npz"


def test_it_learns_and_says_how_good_it_is(fitted: Predictor) -> None:
    found = fitted.about["held_out"]
    assert found["random"]["kendall"] > 0.85
    assert found["random"]["mae"] < 2
    assert 0.8 <= found["random"]["coverage"]["overall"] <= 1
    assert found["stratified"]["n"] < found["random"]["n"]
    assert fitted.about["regressor"] == {"name": "extra_trees", "trees": 20, "max_features": 1.0}
    assert len(fitted.about["train_rows"]) == 200
    assert fitted.about["versions"]["numpy"] == np.__version__


def test_a_saved_predictor_predicts_the_same(fitted: Predictor, tmp_path: Path) -> None:
    again = Predictor.load(path_of(fitted, tmp_path))
    archs = [tuple(row) for row in ALL[::97].tolist()]
    assert again.predict(archs) == fitted.predict(archs)
    assert again.about == fitted.about
    assert again.checksum == fitted.checksum
    one = fitted.predict([NATS_TSS.to_str(archs[3])])[0]
    assert one == fitted.predict(archs)[3]
    assert one.low <= one.value <= one.high
    assert str(one) == f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]"
    assert fitted.predict([]) == []


def test_equal_functions_are_predicted_alike(fitted: Predictor) -> None:
    arch = NATS_TSS.from_str(
        "|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|none~0|skip_connect~1|none~2|"
    )
    assert fitted.predict([arch]) == fitted.predict([NATS_TSS.canonical(arch)])


def test_what_is_not_in_its_space_is_refused(fitted: Predictor) -> None:
    with pytest.raises(InvalidArch):
        fitted.predict(["|nor_conv_7x7~0|+|none~0|none~1|+|none~0|none~1|none~2|"])
    with pytest.raises(InvalidArch):
        fitted.predict([(0, 1, 2)])
    with pytest.raises(NasError, match="was fitted on nats_tss, it cannot judge transnas_micro"):
        Searcher(space="transnas_micro", oracle=fitted, strategy="random", budget=3).run()


def test_a_search_maximises_what_it_predicts(fitted: Predictor, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"space": "nats_tss", "strategy": "random", "budget": 60}
    result = Searcher(**asked, oracle=fitted, cache=tmp_path / "scores.sqlite").run()
    scores = [trial.score for trial in result.trials]
    assert scores == [p.value for p in fitted.predict([trial.arch for trial in result.trials])]
    assert result.best.score == max(score for score in scores if score is not None)
    by_file = Searcher(**asked, proxy=f"predicted:file={path_of(fitted, tmp_path)}").run()
    assert [trial.score for trial in by_file.trials] == scores
    with pytest.raises(NasError, match="expected one of them, got both"):
        Searcher(proxy="meco", oracle=fitted)


def test_another_predictor_is_not_taken_for_it(
    fitted: Predictor, table: Path, tmp_path: Path
) -> None:
    # One file name, two contents: scores in a lasting cache are those of the content.
    from nas.predictor.predictor import remembered

    path = path_of(fitted, tmp_path)
    spec = f"predicted:file={path}"
    arch = tuple(ALL[1234].tolist())
    with Store(tmp_path / "scores.sqlite") as store:
        remembered.cache_clear()
        first = Oracle(NATS_TSS, spec, cache=store).score([arch])
        other = load_fit_recipe(recipe_file(tmp_path, table), ["seed=1"])
        fit(other, read_data(other))[0].save(path)
        remembered.cache_clear()
        second = Oracle(NATS_TSS, spec, cache=store).score([arch])
    assert not second[0].cached
    assert first != second


def test_recipes_name_a_predictor(fitted: Predictor, tmp_path: Path) -> None:
    path = path_of(fitted, tmp_path)
    recipe = tmp_path / "search.yaml"
    recipe.write_text("space: nats_tss\noracle: {predictor: small.npz}\nbudget: 40\n")
    loaded = load_recipe(recipe)
    assert loaded.proxy == f"predicted:file={path}"
    assert loaded.resolved()["proxy"] == {"name": "predicted", "file": str(path)}
    assert "oracle" not in loaded.resolved()
    told = RUNNER.invoke(search_app, [str(recipe), "--out", str(tmp_path / "run"), "--json", "-"])
    assert told.exit_code == 0, told.output
    best = json.loads(told.stdout)["best"]
    assert (best["score"], best["low"], best["high"]) == fitted.predict([best["arch"]])[0]
    told = RUNNER.invoke(search_app, [str(recipe), "--out", str(tmp_path / "again")])
    assert "90 % interval" in told.output
    assert f"{best['low']:.2f} to {best['high']:.2f}" in told.output


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("oracle: {predictor: absent.npz}", "no such file: 'absent.npz'"),
        ("oracle: {predicter: small.npz}", "oracle.predicter: unknown key; did you mean"),
        ("oracle: meco", "oracle: expected a mapping of keys to values, got 'meco'"),
        ("oracle: {predictor: small.npz}\nproxy: meco", "expected a proxy or an oracle, got both"),
    ],
)
def test_recipes_that_name_none(fitted: Predictor, tmp_path: Path, line: str, message: str) -> None:
    path_of(fitted, tmp_path)
    recipe = tmp_path / "search.yaml"
    recipe.write_text(f"space: nats_tss\n{line}\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("inputs: []", "inputs: must have at least 1"),
        ("inputs: [graf]", "inputs: no proxy named 'graf'"),
        ("regressor: forrest", "regressor: no regressor named 'forrest'. Did you mean 'forest'"),
        ("regressor: {name: forest, tree: 3}", "regressor.tree: unknown key; did you mean 'trees'"),
        ("regressor: {name: forest, trees: 0}", "trees must be at least 1, got 0"),
        ("train: 2", "train: must be at least 8, at most 10,000,000, got 2"),
        ("train: some", "train: expected a number of cells, or 'all', got 'some'"),
        ("choose: actively", "choose: no choice named 'actively'. Did you mean 'active'"),
        ("choose: {name: active, best: 1}", "best must be at least 0 and below 1, got 1"),
        ("trian: 64", "trian: unknown key; did you mean 'train'"),
        ("truth: absent.csv:c10_test_200", "truth: no such file"),
    ],
)
def test_mistakes_in_a_recipe_are_explained(
    table: Path, tmp_path: Path, line: str, message: str
) -> None:
    path = recipe_file(tmp_path, table, line)
    with pytest.raises(RecipeError) as caught:
        load_fit_recipe(path)
    assert message in str(caught.value)
    assert f"{path}:" in str(caught.value)


def test_scores_of_proxies_are_kept_and_the_same_with_a_cache(table: Path, tmp_path: Path) -> None:
    recipe = load_fit_recipe(recipe_file(tmp_path, table, "inputs: [params, sed]"))
    told: list[tuple[int, int]] = []
    with Store(tmp_path / "scores.sqlite") as store:
        first = read_data(recipe, store, lambda *now: told.append(now))
        again = read_data(recipe, store, lambda *now: told.append(now))
        count = len(store)
    functions = len(np.unique(first.functions))
    assert count == 2 * functions
    assert told[-1] == (functions, functions), "the second time there was nothing to do"
    np.testing.assert_array_equal(first.inputs, again.inputs)
    np.testing.assert_array_equal(read_data(recipe).inputs, first.inputs)


def test_training_cells_can_be_chosen(table: Path, tmp_path: Path) -> None:
    path = recipe_file(tmp_path, table, "train: 48", "choose: {name: active, best: 0.25}")
    recipe = load_fit_recipe(path)
    data = read_data(recipe)
    predictor, split = fit(recipe, data)
    assert len(set(data.functions[split.train].tolist())) == 48, "one cell of a function each"
    assert not set(data.functions[split.train].tolist()) & set(data.functions[split.test].tolist())
    values = np.asarray(data.truth.values)
    assert values[split.train[-12:]].min() > np.median(values), "the last are to be the best"
    assert predictor.about["choose"] == {"name": "active", "best": 0.25}
    again, same = fit(recipe, data)
    assert same.train.tolist() == split.train.tolist()
    assert again.about == predictor.about
    _, other = fit(load_fit_recipe(path, ["seed=1"]), data)
    assert other.train.tolist() != split.train.tolist()


def test_what_was_not_chosen_is_never_looked_at(table: Path, tmp_path: Path) -> None:
    # Change every label that was not asked for: the choice and the model stay what they are.
    recipe = load_fit_recipe(recipe_file(tmp_path, table, "train: 40", "choose: active"))
    data = read_data(recipe)
    first, split = fit(recipe, data)
    values = np.asarray(data.truth.values)
    kept = np.isin(np.arange(len(values)), split.train)
    rng = np.random.default_rng(0)
    changed = np.where(kept, values, rng.permutation(values))
    truth = dataclasses.replace(data.truth, values=changed)
    second, same = fit(recipe, dataclasses.replace(data, truth=truth))
    assert same.train.tolist() == split.train.tolist()
    archs = [tuple(row) for row in ALL[::501].tolist()]
    assert first.predict(archs) == second.predict(archs)


@pytest.mark.parametrize("regressor", ["blend", "{name: extra_trees, trees: 10}"])
def test_all_cells_may_be_for_training(table: Path, tmp_path: Path, regressor: str) -> None:
    few = tmp_path / "few.csv"
    few.write_text("\n".join(table.read_text().splitlines()[:81]) + "\n")
    recipe = load_fit_recipe(
        recipe_file(tmp_path, few, "train: all", f"regressor: {regressor}", "inputs: [orbits, sed]")
    )
    predictor, split = fit(recipe, read_data(recipe))
    assert len(split.train) == 80
    assert not len(split.test)
    found = predictor.about["held_out"]
    assert set(found) == {"cross_validation", "level"}
    assert found["cross_validation"]["n"] == 80
    assert 0.5 < found["cross_validation"]["kendall"] < 0.99, "not of cells that it has seen"
    predictor.save(tmp_path / "few.npz")
    told = RUNNER.invoke(app, ["predict", str(tmp_path / "few.npz")])
    assert told.exit_code == 0, told.output
    assert "80 training cells" in told.output
    assert "cross-validation" in told.output


def test_what_to_train_is_suggested(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = recipe_file(tmp_path, table, "inputs: [graph, sed]")
    bare = tmp_path / "bare.yaml"
    lines = path.read_text().splitlines()
    bare.write_text("\n".join(line for line in lines if not line.startswith("truth")))

    def told(*arguments: str) -> list[str]:
        found = RUNNER.invoke(app, ["suggest", *arguments, "--quiet"])
        assert found.exit_code == 0, found.output
        return found.stdout.split()

    first = told(str(bare), "--number", "20")
    assert len({NATS_TSS.canonical(NATS_TSS.from_str(text)) for text in first}) == 20
    assert first == told(str(bare), "--number", "20")
    mine = tmp_path / "mine.csv"
    worth = {text: 60 + 5 * text.count("nor_conv_3x3") for text in first}
    mine.write_text("arch,accuracy\n" + "".join(f"{k},{v}\n" for k, v in worth.items()))
    more = told(str(bare), f"truth={mine}:accuracy", "-n", "10")
    assert not set(more) & set(first)
    best = told(str(bare), f"truth={mine}:accuracy", "-n", "5", "--by", "best")
    assert min(text.count("conv_3x3") for text in best) >= 4
    asked = ["suggest", str(bare), f"truth={mine}:accuracy", "--json", "-"]
    found = RUNNER.invoke(app, asked)
    assert json.loads(found.stdout)["archs"] == told(str(bare), f"truth={mine}:accuracy")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--by", "luck"], "--by: expected spread or best, got 'luck'"),
        (["--by", "best"], "best: expected at least 16 labels to predict from, got 0"),
        (["-n", "99999"], "expected at most 5,044 to suggest, got 99,999"),
    ],
)
def test_suggestions_that_cannot_be(
    table: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    path = tmp_path / "bare.yaml"
    path.write_text("space: nats_tss\ninputs: [graph]\nregressor: blend\n")
    told = RUNNER.invoke(app, ["suggest", str(path), *arguments])
    assert told.exit_code == 2
    assert message in told.output
    told = RUNNER.invoke(app, ["fit", str(path), "--out", str(tmp_path / "x.npz")])
    assert told.exit_code == 2
    assert "truth: a table to learn from is needed" in told.output


def test_suggestions_in_a_space_that_is_too_large_to_list(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_text("space: nasbench101\ninputs: [graph]\nregressor: blend\n")
    found = suggest(load_fit_recipe(path), 3)
    space = SPACES["nasbench101"]
    assert len({space.canonical(arch) for arch in found}) == 3


def test_a_proxy_that_fails_is_an_input_all_the_same(table: Path, tmp_path: Path) -> None:
    recipe = load_fit_recipe(recipe_file(tmp_path, table, "inputs: [sed, params]"))
    data = read_data(recipe)
    assert np.isnan(data.inputs[:, 0]).any(), "cells in which nothing reaches the output"
    predictor, _ = fit(recipe, data)
    dead = NATS_TSS.from_str("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")
    (predicted,) = predictor.predict([dead])
    assert predicted.value < np.median(data.truth.values)


def test_files_of_another_kind(fitted: Predictor, tmp_path: Path) -> None:
    path = path_of(fitted, tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(BadPredictor, match="no predictor file"):
        Predictor.load(path)
    with pytest.raises(BadPredictor, match="no such file, and no predictor of this name"):
        Predictor.load("absent")


def test_the_commands(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe_file(tmp_path, table)

    def run(*words: str) -> tuple[int, str]:
        told = RUNNER.invoke(app, list(words))
        return told.exit_code, told.output

    code, text = run("fit", "small.yaml", "train=100", "--quiet")
    assert code == 0, text
    assert "100 training cells" in text
    assert Path("small.npz").is_file()
    code, text = run("fit", "small.yaml")
    assert code == 2
    assert "small.npz: is there already" in text
    code, text = run("fit", "small.yaml", "--force", "--json", "-", "--quiet")
    assert code == 0, text
    assert len(json.loads(text)["train_rows"]) == 200
    arch = NATS_TSS.to_str(tuple(ALL[5000].tolist()))
    code, text = run("predict", "small.npz", arch, "--json", "-")
    (row,) = json.loads(text)["rows"]
    assert row["arch"] == arch
    assert row["low"] <= row["value"] <= row["high"]
    code, text = run("predict", "small.npz")
    assert "200 training cells" in text
    code, text = run("predict", "absent.npz", arch)
    assert code == 2
    assert "absent.npz: no such file" in text


def test_inputs_are_named_and_checked() -> None:
    archs = [tuple(row) for row in ALL[:5].tolist()]
    names, table = Inputs(("params", "graph")).table(NATS_TSS, archs)
    assert names[0] == "graph:count:skip_connect", "graph features first"
    assert names[-1] == "params"
    assert table.shape == (5, len(names))
    for sources in ((), ("params", "params")):
        with pytest.raises(NasError, match="inputs: "):
            Inputs(sources)
    inputs = Inputs(("graph", "meco:hooks=conv"))
    assert Inputs.from_json(json.loads(json.dumps(inputs.to_json()))) == inputs


def test_sizes_can_be_predicted_too(tmp_path: Path) -> None:
    # A table of the user's own on the size space: the whole path from it to a search.
    space = SPACES["nats_sss"]
    rng = np.random.default_rng(0)
    archs = np.unique(space.sample_many(300, rng), axis=0)
    lines = ["arch,accuracy"]
    widths: Sequence[Sequence[int]] = archs.tolist()
    lines += [f"{space.to_str(tuple(w))},{80 + sum(w) / 3 + rng.normal() / 10}" for w in widths]
    (tmp_path / "own.csv").write_text("\n".join(lines) + "\n")
    recipe = tmp_path / "own.yaml"
    recipe.write_text(
        "space: nats_sss\ntruth: own.csv:accuracy\ninputs: [graph, params]\n"
        "regressor: {name: extra_trees, trees: 30}\ntrain: 150\n"
    )
    loaded = load_fit_recipe(recipe)
    assert isinstance(loaded, FitRecipe)
    predictor, _ = fit(loaded, read_data(loaded))
    assert predictor.about["held_out"]["random"]["kendall"] > 0.7
    result = Searcher(space="nats_sss", oracle=predictor, strategy="random", budget=50).run()
    assert len(result.trials) == 50


def test_the_proxy_of_predictors_is_in_the_table() -> None:
    assert PROXIES["predicted"].population is not None
    assert ProxySpec.parse("predicted").route(NATS_TSS) == "batched"
    assert ProxySpec.parse("predicted").gain(NATS_TSS) == 100
