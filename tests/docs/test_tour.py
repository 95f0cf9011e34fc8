"""The notebook runs from beginning to end without network, and shows what it says now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.docs.blocks import CHECKOUT

TOUR = CHECKOUT / "docs" / "tour.ipynb"


def outputs(cells: list[dict[str, Any]], word: str) -> str:
    """Return what the one code cell that holds a word printed."""
    (cell,) = (c for c in cells if c["cell_type"] == "code" and word in "".join(c["source"]))
    return "".join("".join(output.get("text", "")) for output in cell["outputs"])


def test_outputs_are_stored_and_name_no_machine() -> None:
    text = TOUR.read_text(encoding="utf-8")
    cells = json.loads(text)["cells"]
    silent = [cell["source"] for cell in cells[3:] if not cell.get("outputs", ["words"])]
    assert not silent
    assert '"output_type": "error"' not in text
    assert "/home/" not in text
    assert "/tmp/" not in text


@pytest.mark.slow
def test_it_runs_and_finds_what_is_stored(tmp_path: Path) -> None:
    pytest.importorskip("nbclient")
    from docs.execute_tour import executed

    fresh = executed(tmp_path).cells
    stored = json.loads(TOUR.read_text(encoding="utf-8"))["cells"]
    assert outputs(fresh, "nas.Searcher(") == outputs(stored, "nas.Searcher(")
    assert "model.safetensors" in outputs(fresh, "nas export")
