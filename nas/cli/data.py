"""``nas data``: where images to train on are looked for, and how to fetch them."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from nas.cli.console import JsonTarget, check_targets, emit_json, emit_table, guarded, note

EXAMPLES = """\b
Examples:
  nas data                               what there is, and where it is looked for
  nas data cifar10                       fetch it into ./data; goes on where it broke off
  nas data cifar10 --url https://mirror.example/datasets
"""


@guarded
def data(
    name: Annotated[
        str | None, typer.Argument(help="What to fetch; lists the sources when left out.")
    ] = None,
    root: Annotated[str, typer.Option(help="Where it lies, or goes.")] = "data",
    url: Annotated[
        str | None,
        typer.Option(
            help="Address of the file, or of a folder that holds it; else $NAS_DATA_URL, else "
            "the places known."
        ),
    ] = None,
    json_: JsonTarget = None,
) -> None:
    """List where images to train on come from, or fetch the official archives of some.

    Nothing is ever fetched but by this command. What is fetched has to have the published md5.
    """
    check_targets(json_)
    if name is None:
        _list(root, json_)
        return
    from nas.training.archives import ARCHIVES
    from nas.training.data import DATA
    from nas.training.fetch import fetch
    from spaces.errors import NasError, look_up

    source = look_up(DATA, name, kind="data set")
    if name not in ARCHIVES:
        raise NasError(
            f"{name}: there is nothing to fetch ({source.summary}); this can be fetched: "
            f"{', '.join(ARCHIVES)}"
        )
    files = fetch(ARCHIVES[name], root, url=url, progress=_Shown())
    for file in files:
        note(f"{file}: there, with the published md5")
    if json_ is not None:
        emit_json({"name": name, "files": [str(file) for file in files]}, json_)


def _list(root: str, json_: str | None) -> None:
    from nas.training.archives import ARCHIVES, find, places
    from nas.training.data import DATA

    found: list[dict[str, Any]] = []
    for source in DATA.values():
        entry: dict[str, Any] = {"name": source.name, "summary": source.summary}
        archive = ARCHIVES.get(source.name)
        if archive is not None:
            place = find(archive, root)
            entry["found"] = None if place is None else str(place)
            entry["looked_in"] = [str(path) for path in places(archive, root)]
        found.append(entry)
    if json_ is not None:
        emit_json(found, json_)
        return
    rows = []
    for entry in found:
        there = (entry["found"] or "not found") if "found" in entry else "-"
        rows.append((entry["name"], there, entry["summary"]))
    emit_table(("name", "found", "summary"), rows)
    for entry in found:
        if "found" in entry and entry["found"] is None:
            typer.echo(f"{entry['name']} was looked for in {', '.join(entry['looked_in'])}")


class _Shown:
    """Shows how far a file is: in place on a terminal, in tenths elsewhere."""

    def __init__(self) -> None:
        self._tenth = -1

    def __call__(self, name: str, done: int, total: int | None) -> None:
        whole = "" if total is None else f" of {total / 1e6:,.1f}"
        text = f"{name}: {done / 1e6:,.1f}{whole} MB"
        if sys.stderr.isatty():
            typer.echo(f"\r{text}", err=True, nl=done == total)
            return
        tenth = -1 if total is None else 10 * done // max(total, 1)
        if tenth != self._tenth:
            self._tenth = tenth
            note(text)
