"""Finished searches for the tests of what is made of them: pages, comparisons, studies."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path

import pytest

from nas.proxies.base import ProxyError, ProxySpec
from nas.recipe import parse_recipe
from nas.runs.search import RunFolder, TrialWriter, measures_of, new_folder
from spaces import Arch, Space

TEXT = """\
name: tiny
summary: "a <script>alert('summary')</script> of a search"
space: nats_sss
proxy: params
strategy: random
budget: 12
batch: 4
report: {top: 3}
"""


def finished(
    parent: Path, overrides: Sequence[str] = (), *, text: str = TEXT, name: str = "run"
) -> Path:
    """Search, and return the run folder."""
    recipe = parse_recipe(text, "r.yaml", [f"report.folder={parent}", *overrides])
    folder: RunFolder = new_folder(recipe, out=parent / name)
    folder.begin(device="cpu", seed=recipe.seed)
    with TrialWriter(folder.path / "trials.csv", measures_of(recipe)) as writer:
        result = recipe.searcher(cache=folder.cache).run(writer)
    folder.finish(result, recipe.truth())
    folder.close()
    return folder.path


def fail_when(monkeypatch: pytest.MonkeyPatch, reason: str, every: int) -> None:
    """Let every so manieth architecture have no score."""
    asked = count()

    def score(
        space: Space, specs: Sequence[ProxySpec], archs: Sequence[Arch], _: object
    ) -> list[list[float | ProxyError]]:
        return [
            [ProxyError(reason) if next(asked) % every == 0 else float(sum(arch)) for arch in archs]
            for _ in specs
        ]

    monkeypatch.setattr("nas.chunks.score_batch", score)
