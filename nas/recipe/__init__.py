"""Recipes: YAML files that say what to do, read into frozen, strictly checked values.

Every fault of a file is found at once, the names of spaces, proxies, strategies and of their
options included, and each is told with where it is, what came and what is allowed::

    recipes/x.yaml:7: budgte: unknown key; did you mean 'budget'?

There are four kinds: of searches (:mod:`nas.recipe.search`), final trainings
(:mod:`nas.recipe.train`), predictors (:mod:`nas.recipe.fit`) and designed proxies
(:mod:`nas.recipe.design`). A path inside a recipe (``benchmark``, ``conditions.images``) is looked
up from the current folder first and then from the folder of the recipe; what is written (``cache``,
``report.folder``) is always relative to the current folder. A resolved recipe
(``Recipe.to_yaml``) holds absolute paths and every default, so it means the same from anywhere.
"""

from nas.recipe.kinds import RecipeError
from nas.recipe.search import Recipe, load_recipe, parse_recipe
from nas.recipe.shipped import resolve_recipe_path, shipped_folder, shipped_recipes

__all__ = [
    "Recipe",
    "RecipeError",
    "load_recipe",
    "parse_recipe",
    "resolve_recipe_path",
    "shipped_folder",
    "shipped_recipes",
]
