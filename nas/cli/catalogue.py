"""``nas list``: what there is to choose from; ``nas schema``: the same for an editor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.console import emit_json, guarded


@guarded
def catalogue(
    json_: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
    target: Annotated[str, typer.Argument(hidden=True)] = "-",  # so that "--json -" works here too
) -> None:
    """List the spaces, proxies, strategies and recipes, one line each."""
    from nas.proxies import PROXIES
    from nas.recipe import shipped_recipes
    from searchers import STRATEGIES
    from spaces import SPACES

    tables: Mapping[str, Mapping[str, str]] = {
        "spaces": {name: space.summary for name, space in SPACES.items()},
        "proxies": {name: proxy.summary for name, proxy in PROXIES.items()},
        "strategies": {name: info.summary for name, info in STRATEGIES.items()},
        "recipes": {name: _summary(path) for name, path in shipped_recipes().items()},
    }
    if json_:
        kinds = {
            kind: [{"name": name, "summary": summary} for name, summary in table.items()]
            for kind, table in tables.items()
        }
        emit_json(kinds, target)
        return
    width = max(len(name) for table in tables.values() for name in table)
    for kind, table in tables.items():
        typer.echo(f"{kind}:")
        for name, summary in table.items():
            typer.echo(f"  {name.ljust(width)}  {summary}".rstrip())


@guarded
def schema() -> None:
    """Print the JSON schema of recipes, for an editor to complete and check them with."""
    from nas.recipe import recipe_schema

    emit_json(recipe_schema(), "-")


def _summary(path: Path) -> str:
    """Return a recipe's summary, read without checking the rest of it."""
    from nas import plain_yaml

    values = plain_yaml.parse(path.read_text(encoding="utf-8"), str(path)).value
    return str(values.get("summary", ""))
