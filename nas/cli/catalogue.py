"""``nas list``: what there is to choose from; ``nas schema``: the same for an editor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.console import emit_json, guarded

if TYPE_CHECKING:
    from nas.proxies import Proxy


@guarded
def catalogue(
    json_: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
    target: Annotated[str, typer.Argument(hidden=True)] = "-",  # so that "--json -" works here too
) -> None:
    """List spaces, proxies, predictors, formulas, strategies, data sets and recipes, by line.

    Between name and summary of a proxy stands how it runs on cells: from the architecture alone,
    on many networks at a time, or one by one.
    """
    from nas.design.formula import shipped_formulas
    from nas.plugins import GROUPS, plugin_values
    from nas.predictor.shipped import describe, shipped_predictors
    from nas.proxies import PROXIES
    from nas.recipe import shipped_recipes
    from nas.training.data import DATA
    from searchers import STRATEGIES
    from spaces import SPACES

    tables: dict[str, Mapping[str, str]] = {
        "spaces": {name: space.summary for name, space in SPACES.items()},
        "proxies": {name: proxy.summary for name, proxy in PROXIES.items()},
        "predictors": {name: describe(path) for name, path in shipped_predictors().items()},
        "formulas": {name: _summary(path) for name, path in shipped_formulas().items()},
        "strategies": {name: info.summary for name, info in STRATEGIES.items()},
        "data sets": {name: source.summary for name, source in DATA.items()},
        "recipes": {name: _summary(path) for name, path in shipped_recipes().items()},
    }
    for kind, group in GROUPS.items():
        plugins = plugin_values(kind)
        if plugins:
            tables[f"{group} of plugins"] = plugins
    for command in ("fit", "design", "train"):
        recipes = shipped_recipes(command)
        tables[f"recipes for nas {command}"] = {x: _summary(path) for x, path in recipes.items()}
    if json_:
        kinds = {
            kind: [{"name": name, "summary": summary} for name, summary in table.items()]
            for kind, table in tables.items()
        }
        for entry in kinds["proxies"]:
            entry["route"] = _route(PROXIES[entry["name"]])
        emit_json(kinds, target)
        return
    width = max(len(name) for table in tables.values() for name in table)
    for kind, table in tables.items():
        typer.echo(f"{kind}:")
        for name, summary in table.items():
            route = f"{_route(PROXIES[name]).ljust(10)}  " if kind == "proxies" else ""
            typer.echo(f"  {name.ljust(width)}  {route}{summary}".rstrip())


@guarded
def schema() -> None:
    """Print the JSON schema of recipes, for an editor to complete and check them with."""
    from nas.recipe.schema import recipe_schema

    emit_json(recipe_schema(), "-")


def _route(proxy: Proxy) -> str:
    """Return how a proxy runs in a space of cells, without loading torch for it."""
    from nas.proxies.base import ROUTES, ProxySpec

    parts = ProxySpec.make(proxy.name).parts
    if parts:
        return max((_route(part.proxy) for part in parts), key=[*map(str, ROUTES)].index)
    if proxy.population is not None:
        return "data-free"
    return "batched" if proxy.batched(proxy.options()) else "one by one"


def _summary(path: Path) -> str:
    """Return a recipe's summary, read without checking the rest of it."""
    from nas import plain_yaml

    values = plain_yaml.parse(plain_yaml.read(path), str(path)).value
    return str(values.get("summary", ""))
