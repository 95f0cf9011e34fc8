"""The fenced code blocks of README and documentation, and how a reader would run them.

A *story* is what stands under one heading of the second level. Its blocks are run in their order,
in a folder of their own. A block whose first line is ``# NAME.yaml`` (or ``.py``, ``.toml``) is
that file; a ``toml`` block with entry points makes an installed package of the story's modules, so
that they are found as plugins. Other ``python`` blocks are programs, ``sh`` blocks are lines of a
shell in which ``RUN`` is the newest run folder. ``console`` and ``text`` blocks show output.

``<!-- not run: REASON -->`` before a block says why it cannot run here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
RUNS = frozenset({"python", "sh", "yaml", "toml"})
SHOWS = frozenset({"console", "text"})

_MARK = re.compile(r"<!-- not run: (.+?) -->")
_FENCE = re.compile(r"```(\S*)")
_NAME = re.compile(r"# ([\w/-]+\.(?:yaml|py|toml))")
_SHELL = """set -euo pipefail
nas() { "$PYTHON" -c 'from nas.cli import main; main()' "$@"; }
nas-search() { "$PYTHON" -c 'from nas.cli import main_search; main_search()' "$@"; }
newest() { ls -td runs/*/ | head -n 1; }
"""


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: File, relative to the checkout.
        line: Of the opening fence, from 1.
        section: Heading of the second level above it; empty at the top of a page.
        language: What stands behind the fence.
        text: What stands inside.
        not_run: Why it cannot run here; empty where it can.
    """

    page: str
    line: int
    section: str
    language: str
    text: str
    not_run: str

    @property
    def name(self) -> str:
        """The file that the block is, by its first line; empty where it is none."""
        found = _NAME.fullmatch(self.text.partition("\n")[0])
        return found[1] if found else ""

    @property
    def where(self) -> str:
        """Return ``FILE:LINE``."""
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Return the files whose blocks are run."""
    return [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs" / "pages").rglob("*.md"))]


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page, in order."""
    found = []
    section, mark, start, opened = "", "", 0, ""
    inside: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        fence = _FENCE.fullmatch(line)
        if start:
            if fence is None:
                inside.append(line)
                continue
            text = "\n".join([*inside, ""])
            where = page.relative_to(CHECKOUT).as_posix()
            found.append(Block(where, start, section, opened, text, mark))
            start, mark, inside = 0, "", []
        elif fence is not None:
            start, opened = number, fence[1]
        elif line.startswith("## "):
            section = line[3:].replace("`", "")
        elif line.strip():
            told = _MARK.fullmatch(line.strip())
            mark = told[1] if told else ""
    return found


def stories() -> dict[str, list[Block]]:
    """Return what can be run, by ``PAGE#SECTION``."""
    found: dict[str, list[Block]] = {}
    for page in pages():
        for block in blocks_of(page):
            if block.language in RUNS and not block.not_run:
                found.setdefault(f"{block.page}#{block.section}", []).append(block)
    return found


def write_files(story: list[Block], folder: Path) -> None:
    """Write the named blocks of a story, and what an installer would beside a package."""
    for block in story:
        if block.name:
            place = folder / block.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(block.text, encoding="utf-8")
        if block.language == "toml":
            _install(tomllib.loads(block.text), folder)


def _install(project: dict[str, dict[str, dict[str, dict[str, str]]]], folder: Path) -> None:
    """Write the entry points of a ``pyproject.toml`` as pip does."""
    about = folder / "example-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: example\nVersion: 1.0\n")
    lines: list[str] = []
    for group, entries in project["project"]["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (about / "entry_points.txt").write_text("\n".join(lines))


def run(story: list[Block], folder: Path) -> str:
    """Run a story in an empty folder and return what its programs printed.

    Modules lie in ``site``, which Python finds as it finds installed packages; commands run in
    ``here``. So nothing is found because it happens to lie in the current folder.
    """
    site, here = folder / "site", folder / "here"
    site.mkdir()
    here.mkdir()
    write_files([block for block in story if block.language in ("python", "toml")], site)
    write_files([block for block in story if block.language == "yaml"], here)
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHON": sys.executable}
    told = []
    for block in story:
        if block.language not in ("python", "sh") or block.name:
            continue
        words = [sys.executable, "-c", block.text]
        if block.language == "sh":
            words = ["bash", "-c", _SHELL + re.sub(r"\bRUN\b", "$(newest)", block.text)]
        done = subprocess.run(
            words, cwd=here, env=environment, capture_output=True, text=True, check=False
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, f"{block.where}\n{block.text}\n{output}"
        told.append(output)
    return "".join(told)
