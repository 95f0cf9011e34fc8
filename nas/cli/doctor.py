"""``nas doctor``: what works here, what does not, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.console import JsonTarget, check_targets, emit_json, guarded

EXAMPLES = """\b
Examples:
  nas doctor
  nas doctor runs/2025-01-31_142500-smoke shared.sqlite --json -
"""


@guarded
def doctor(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Run folders or score caches to look at, beside those of --runs."),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where run folders lie.")] = Path("runs"),
    root: Annotated[str, typer.Option(help="Where images lie.")] = "data",
    json_: JsonTarget = None,
) -> None:
    """Look at versions, devices, disk, score caches, data, plugins and engines.

    Ends with 0 where nothing is broken, with 1 where something is; each fault says what to do.
    """
    from nas.doctor import Where, examine

    check_targets(json_)
    found = []
    for finding in examine(Where(runs, root, tuple(paths or ()))):
        found.append(finding)
        if json_ != "-":
            typer.echo(f"{finding.status:>6}  {finding.check:<8}  {finding.text}")
            if finding.advice:
                typer.echo(f"{'':18}-> {finding.advice}")
    broken = sum(finding.status == "broken" for finding in found)
    if json_ is not None:
        emit_json({"broken": broken, "findings": [asdict(one) for one in found]}, json_)
    if json_ != "-":
        typer.echo(f"{broken} broken" if broken else "nothing is broken")
    if broken:
        raise typer.Exit(1)
