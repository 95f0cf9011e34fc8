"""Every shipped recipe loads, says what it is, and names only what exists."""

import json
import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from nas.fitting import read_data
from nas.predictor.predictor import Predictor
from nas.predictor.shipped import shipped_predictors
from nas.recipe import (
    RecipeError,
    load_recipe,
    resolve_recipe_path,
    shipped_folder,
    shipped_recipes,
)
from nas.recipe.design import load_design_recipe
from nas.recipe.fit import load_fit_recipe
from nas.recipe.schema import SCHEMA_NAME, recipe_schema
from spaces.errors import NasError

SCHEMA = Draft202012Validator(recipe_schema())
SHIPPED, FIT, DESIGN = shipped_recipes(), shipped_recipes("fit"), shipped_recipes("design")


def test_the_promised_recipes_are_there() -> None:
    assert set(SHIPPED) >= {
        "cifar10_meco",
        "cifar10_meco_opt",
        "cifar100_sed",
        "cifar10_zero_shot",
        "green_factory_cifar10",
        "sss_meco_opt",
        "tpe_meco",
        "random_baseline",
        "smoke",
    }


@pytest.mark.parametrize("path", SHIPPED.values(), ids=SHIPPED)
def test_recipe(path: Path) -> None:
    recipe = load_recipe(path)
    recipe.searcher(cache=None)  # a direction that misleads would be a warning, so an error here
    assert recipe.name == path.stem
    assert 20 <= len(recipe.summary) <= 90
    schema_line, *lines = path.read_text(encoding="utf-8").splitlines()
    assert schema_line == f"# yaml-language-server: $schema={SCHEMA_NAME}"
    assert not list(SCHEMA.iter_errors(yaml.safe_load("\n".join(lines))))
    assert lines[0].startswith("# "), "what it is"
    assert re.match(r"# [\d,]+ .*(second|minute)", lines[1]), "what it costs"


def test_the_schema_is_current() -> None:
    committed = json.loads((shipped_folder() / SCHEMA_NAME).read_text(encoding="utf-8"))
    assert committed == recipe_schema(), "run: nas schema > recipes/recipe.schema.json"


@pytest.mark.parametrize("path", FIT.values(), ids=FIT)
def test_recipe_of_a_predictor(path: Path) -> None:
    table = Path(__file__).parent.parent / "data" / "tiny_tss.csv"
    recipe = load_fit_recipe(path, [f"truth={table}:c10_test_200"])
    assert recipe.name == path.stem
    assert 20 <= len(recipe.summary) <= 90
    assert resolve_recipe_path(path.stem, "fit") == path
    with pytest.raises(NasError, match="truth: a table to learn from is needed"):
        read_data(load_fit_recipe(path))


@pytest.mark.parametrize("path", DESIGN.values(), ids=DESIGN)
def test_recipe_of_a_design(path: Path) -> None:
    table = Path(__file__).parent.parent / "data" / "tiny_tss.csv"
    recipe = load_design_recipe(path, [f"tables.nats_tss={table}:c10_test_200"])
    assert recipe.name == path.stem
    assert 20 <= len(recipe.summary) <= 90
    assert resolve_recipe_path(path.stem, "design") == path
    with pytest.raises(RecipeError, match="tables: required, but missing"):
        load_design_recipe(path)
    with pytest.raises(NasError, match="Did you mean the recipe 'tss_formula'"):
        resolve_recipe_path("tss_formla", "design")


def test_a_recipe_of_a_predictor_that_is_not_there() -> None:
    with pytest.raises(NasError, match="Did you mean the recipe 'tss_accuracy'"):
        resolve_recipe_path("tss_acuracy", "fit")


@pytest.mark.parametrize("path", shipped_predictors().values(), ids=shipped_predictors())
def test_predictor(path: Path) -> None:
    predictor = Predictor.load(path.stem)
    about = predictor.about
    assert about["name"] == path.stem
    assert path.stat().st_size < 2 * 2**20
    assert len(set(about["train_rows"])) == len(about["train_rows"]) == 4000
    for kind in ("random", "stratified"):
        assert about["held_out"][kind]["kendall"] > 0.85
        assert 0.85 <= about["held_out"][kind]["coverage"]["overall"] <= 0.95
    carries = (
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|{}~0|nor_conv_3x3~1|nor_conv_3x3~2|"
    )
    good, usual, dead = predictor.predict(
        [
            carries.format("skip_connect"),
            carries.format("nor_conv_3x3"),
            "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
        ]
    )
    assert good.value > usual.value > dead.value
    assert dead.value < 15
    assert good.high - good.low < 5


def test_predictors_for_three_data_sets_are_there() -> None:
    assert set(shipped_predictors()) == {"tss_cifar10", "tss_cifar100", "tss_imagenet16"}
