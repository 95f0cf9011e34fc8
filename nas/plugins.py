"""What other packages and the user's own modules bring along: by entry point, or by import path.

A package announces a space, a proxy or a strategy in its ``pyproject.toml``::

    [project.entry-points."nas_search.spaces"]
    my_space = "my_package.spaces:MY_SPACE"        # a spaces.Space

    [project.entry-points."nas_search.proxies"]
    my_proxy = "my_package.proxies:MY_PROXY"       # a nas.proxies.base.Proxy

    [project.entry-points."nas_search.strategies"]
    my_strategy = "my_package.search:MY_STRATEGY"  # a searchers.StrategyInfo

The name is then known wherever such names are. Nothing of a plugin is imported before somebody asks
for a name that is not built in; a built-in name cannot be replaced. Code is imported for no other
reason than an installed entry point or an import path that a person wrote.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from spaces.errors import NasError, did_you_mean, look_up

T = TypeVar("T")
GROUPS = {"space": "spaces", "proxy": "proxies", "strategy": "strategies"}


def plugin_values(kind: str) -> dict[str, str]:
    """Return what installed packages announce, import paths by name; nothing is imported.

    Args:
        kind: ``space``, ``proxy`` or ``strategy``.
    """
    return {entry.name: entry.value for entry in _entries(kind)}


def look_up_or_load(table: Mapping[str, T], name: str, *, kind: str, expected: type[Any]) -> T:
    """Return ``table[name]``, or what a plugin announces by this name.

    Args:
        table: What is built in.
        name: What the user wrote.
        kind: ``space``, ``proxy`` or ``strategy``.
        expected: What the plugin's object has to be.

    Raises:
        UnknownName: Neither has it; the message lists what there is.
        NasError: The plugin cannot be imported, or its object is something else.
    """
    if name in table:
        return table[name]
    found = {entry.name: entry for entry in _entries(kind)}
    if name not in found:
        known: dict[str, Any] = {**dict.fromkeys(found), **table}
        look_up(known, name, kind=kind)  # raises, and lists what there is
    entry = found[name]
    try:
        made: Any = entry.load()
    except (ImportError, AttributeError, SyntaxError, ValueError) as error:
        raise NasError(
            f"{kind} {name!r}: cannot load plugin {entry.value!r}: {type(error).__name__}: "
            f"{' '.join(str(error).split())}"
        ) from None
    if not isinstance(made, expected):
        raise NasError(
            f"{kind} {name!r}: plugin {entry.value!r} is no {expected.__name__}, "
            f"but {type(made).__name__}"
        )
    if getattr(made, "name", name) != name:
        raise NasError(f"{kind} {name!r}: plugin {entry.value!r} calls itself {made.name!r}")
    return made  # type: ignore[no-any-return]


def _entries(kind: str) -> importlib.metadata.EntryPoints:
    return importlib.metadata.entry_points(group=f"nas_search.{GROUPS[kind]}")


def import_module(name: str, where: str) -> ModuleType:
    """Import a module, looked up from the current folder first, as ``python -m`` does.

    Args:
        name: Of the module.
        where: In what it is named, for the message.

    Raises:
        NasError: It cannot be imported.
    """
    here = str(Path.cwd())
    if not {"", here} & set(sys.path):
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except (ImportError, SyntaxError, ValueError) as error:
        raise NasError(
            f"{where}: cannot import {name!r} from {here} or from where Python finds packages: "
            f"{type(error).__name__}: {' '.join(str(error).split())}"
        ) from None


def find_attribute(found: Any, names: str, module: str, where: str) -> Any:  # noqa: ANN401 - whatever is there
    """Return what stands in a module under a name, or under names joined by dots.

    Raises:
        NasError: It has no such name.
    """
    for name in names.split("."):
        if not hasattr(found, name):
            hint = did_you_mean(name, [each for each in dir(found) if not each.startswith("_")])
            raise NasError(f"{where}: {module!r} has no {names!r}.{hint}")
        found = getattr(found, name)
    return found


def import_attribute(path: str, where: str) -> Any:  # noqa: ANN401 - whatever is there
    """Return what ``package.module:name`` is; modules are also looked up in the current folder.

    Args:
        path: What the user wrote.
        where: In what, for the message.

    Raises:
        NasError: Not this form, or it cannot be imported.
    """
    module, colon, names = path.partition(":")
    if not module or not colon or not names:
        raise NasError(f"{where}: expected package.module:name, got {path!r}")
    return find_attribute(import_module(module, where), names, module, where)
