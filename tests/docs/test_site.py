"""The site is built without a warning, needs no network, and every link in it leads somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.docs.blocks import CHECKOUT

_LINK = re.compile(r'\b(?:href|src)="([^"]+)"')
_FETCHED = re.compile(r'<(?:script|img|link)\b[^>]*\b(?:href|src)="(https?:)?//[^"]*"')


def broken(page: Path) -> list[str]:
    """Return the links of a page that lead to no file, or to no place in one."""
    found = []
    for link in _LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:|//", link):
            continue
        name, _, place = unquote(link).partition("#")
        file = page.parent / name if name else page
        inside = file.suffix == ".html" and bool(place)
        if not file.is_file() or (inside and f'id="{place}"' not in file.read_text("utf-8")):
            found.append(link)
    return found


@pytest.mark.slow
def test_the_site_stands_by_itself(tmp_path: Path) -> None:
    pytest.importorskip("mkdocstrings")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(
        [*words, "-f", str(CHECKOUT / "docs" / "mkdocs.yml")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    pages = sorted(set(tmp_path.rglob("*.html")) - {tmp_path / "404.html"})  # a server's own
    assert {"index.html", "results.html", "tour.html", "faq.html"} <= {page.name for page in pages}
    assert "Kendall" in (tmp_path / "results.html").read_text(encoding="utf-8")
    for page in pages:
        assert not _FETCHED.search(page.read_text(encoding="utf-8")), page
        assert not broken(page), page
        assert not re.search(r":(meth|class|func|mod):<code>", page.read_text("utf-8")), page
