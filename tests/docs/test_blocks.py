"""Every code block of README and documentation does what it says, or says why it is not run."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from nas.recipe import load_recipe
from nas.recipe.fit import load_fit_recipe
from nas.recipe.train import load_train_recipe
from nas.space_file import find_space
from tests.docs.blocks import (
    CHECKOUT,
    RUNS,
    SHOWS,
    Block,
    blocks_of,
    pages,
    run,
    stories,
    write_files,
)

#: Stories of about a second; all others are slow.
FAST: set[str] = {"docs/pages/add/strategy.md#"}

STORIES = stories()
ALL = [block for page in pages() for block in blocks_of(page)]

#: What reads a file of YAML, by a key that no kind before it has.
KINDS: tuple[tuple[str, Callable[[Path], object]], ...] = (
    ("stages", lambda file: find_space(str(file))),
    ("archs", load_train_recipe),
    ("data", load_train_recipe),
    ("inputs", load_fit_recipe),
    ("space", load_recipe),
)


def has_files(story: list[Block]) -> bool:
    """Tell whether there is YAML to read that names no plugin of the story's own."""
    languages = {block.language for block in story}
    return "yaml" in languages and "toml" not in languages


def test_every_block_has_a_language_that_is_run_or_shown() -> None:
    unknown = [block.where for block in ALL if block.language not in RUNS | SHOWS]
    assert not unknown, f"say what it is: {sorted(RUNS)} are run, {sorted(SHOWS)} are output"


def test_only_our_own_commands_are_run() -> None:
    ours = re.compile(r"(nas|nas-search) |(nas|nas-search)$|#")
    for story in STORIES.values():
        for block in story:
            if block.language == "sh":
                for line in block.text.replace("\\\n", " ").splitlines():
                    assert ours.match(line), f"{block.where}: {line}"


@pytest.mark.parametrize("key", [key for key, story in STORIES.items() if has_files(story)])
def test_files_of_yaml_are_read_as_what_they_are(key: str, tmp_path: Path) -> None:
    files = [block for block in STORIES[key] if block.language == "yaml"]
    write_files(files, tmp_path)
    for number, block in enumerate(files):
        file = tmp_path / (block.name or f"{number}.yaml")
        file.write_text(block.text)
        keys = yaml.safe_load(block.text)
        kind = [read for word, read in KINDS if word in keys]
        assert kind, f"{block.where}: neither a space nor a recipe"
        kind[0](file)


def test_links_of_the_readme_lead_to_files() -> None:
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)", text)
    assert len(links) > 10
    assert not [link for link in links if ":" not in link and not (CHECKOUT / link).is_file()]


@pytest.mark.parametrize("block", [b for b in ALL if b.language == "python"], ids=lambda b: b.where)
def test_python_is_python(block: Block) -> None:
    compile(block.text, block.where, "exec")


@pytest.mark.parametrize("page", sorted((CHECKOUT / "docs/pages/add").glob("*.md")))
def test_a_worked_example_is_short(page: Path) -> None:
    lines = [line for block in blocks_of(page) for line in block.text.splitlines() if line.strip()]
    assert 0 < len(lines) < 40


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(key, marks=() if key in FAST else pytest.mark.slow)
        for key, story in STORIES.items()
        if any(block.language in ("python", "sh") and not block.name for block in story)
    ],
)
def test_a_story_runs_as_printed(key: str, tmp_path: Path) -> None:
    run(STORIES[key], tmp_path)
