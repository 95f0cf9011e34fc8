"""Run the notebook ``tour.ipynb`` and store what it shows: ``python docs/execute_tour.py``."""

from __future__ import annotations

import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

TOUR = Path(__file__).resolve().with_name("tour.ipynb")


def executed(folder: Path) -> nbformat.NotebookNode:
    """Return the notebook with fresh outputs.

    Args:
        folder: Where its files go.

    Raises:
        CellExecutionError: A cell failed.
    """
    tour: nbformat.NotebookNode = nbformat.read(TOUR, as_version=4)
    NotebookClient(
        tour, timeout=600, resources={"metadata": {"path": str(folder)}}, coalesce_streams=True
    ).execute()
    for cell in tour.cells:
        cell.metadata.pop("execution", None)  # when each cell ran is nobody's business
    return tour


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        nbformat.write(executed(Path(scratch)), TOUR)
