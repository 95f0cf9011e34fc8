"""Every shipped recipe loads, says what it is, and names only what exists."""

import json
import re
from pathlib import Path

import pytest

from nas.recipe import SCHEMA_NAME, load_recipe, recipe_schema, shipped_folder, shipped_recipes

SHIPPED = shipped_recipes()


def test_the_promised_recipes_are_there() -> None:
    assert set(SHIPPED) >= {
        "cifar10_meco",
        "cifar10_meco_opt",
        "cifar100_sed",
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
    assert lines[0].startswith("# "), "what it is"
    assert re.match(r"# [\d,]+ .*(second|minute)", lines[1]), "what it costs"


def test_the_schema_is_current() -> None:
    committed = json.loads((shipped_folder() / SCHEMA_NAME).read_text(encoding="utf-8"))
    assert committed == recipe_schema(), "run: nas schema > recipes/recipe.schema.json"
