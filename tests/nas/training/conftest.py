"""What several tests of the data need."""

from pathlib import Path
from typing import Any

import pytest

from nas.training import archives
from tests.nas.training.official import tiny
from tests.nas.training.sources import SOURCES


@pytest.fixture
def tiny_archives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the official archives have the md5s and sizes of the tiny ones."""
    for name in list(archives.ARCHIVES):
        monkeypatch.setitem(archives.ARCHIVES, name, tiny(name)[0])


@pytest.fixture
def options(request: pytest.FixtureRequest, tmp_path: Path, tiny_archives: None) -> dict[str, Any]:
    """Options of the source that the test is parametrized by as ``name``."""
    return SOURCES[request.getfixturevalue("name")](tmp_path)
