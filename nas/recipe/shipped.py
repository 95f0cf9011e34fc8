"""The recipes that come with the package."""

from __future__ import annotations

from pathlib import Path

from nas.reading import expanded, is_file
from spaces.errors import NasError, did_you_mean


def shipped_folder() -> Path:
    """Return where the recipes that come with the package lie.

    In a wheel they are data of the package, ``nas/recipes/``; in a checkout they stand beside it.
    """
    package = Path(__file__).resolve().parent.parent
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def shipped_recipes(command: str = "") -> dict[str, Path]:
    """Return the recipes that come with the package, by name.

    Args:
        command: Of ``nas``, whose recipes have a folder of their own: ``fit``, ``design``,
            ``train``. Empty: recipes of searches.
    """
    return {path.stem: path for path in sorted((shipped_folder() / command).glob("*.yaml"))}


def resolve_recipe_path(text: str, command: str = "") -> Path:
    """Return the file that ``text`` means: a path, or the name of a shipped recipe.

    Args:
        text: What the user wrote.
        command: As for :func:`shipped_recipes`.

    Raises:
        NasError: There is no such file and no such recipe.
    """
    path = expanded(text)
    if is_file(path):
        return path
    shipped = shipped_recipes(command)
    if text in shipped:
        return shipped[text]
    hint = did_you_mean(path.stem, shipped).replace(" Did you mean", " Did you mean the recipe")
    which = f"no recipe for nas {command}" if command else "no recipe"
    raise NasError(
        f"{text}: no such file, and {which} of this name comes with the package."
        f"{hint} Known: {', '.join(shipped)}"
    )
