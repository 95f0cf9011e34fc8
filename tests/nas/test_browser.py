"""Pages in a real browser: no error, nothing wider than a phone, every link leads somewhere."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nas.cli.report import leave_page
from nas.pages.compare import compare, page
from tests.nas.finished import fail_when, finished

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--allow-file-access-from-files", "--enable-logging=stderr", "--v=0",
)  # fmt: skip
PHONE = 390

# Shows a page as wide as a phone, for a window of a browser cannot be that narrow, and writes down
# what a person would be annoyed by.
_PROBE = """<!doctype html><iframe id="page" src="@URL@"
style="border:0;width:@WIDTH@px;height:4000px"></iframe><pre id="told"></pre><script>
addEventListener("load", () => {
  const inside = document.getElementById("page").contentDocument;
  const links = [...inside.querySelectorAll("a[href]")].map(a => a.getAttribute("href"));
  const clipped = [...inside.querySelectorAll("svg")].filter(s => !s.getBoundingClientRect().width);
  document.getElementById("told").textContent = JSON.stringify({
    width: inside.documentElement.scrollWidth, links: links, clipped: clipped.length,
    unnamed: inside.querySelectorAll("svg:not([aria-label]), svg[aria-label='']").length,
    font: parseFloat(getComputedStyle(inside.body).fontSize),
    broken: links.filter(l => l.startsWith("#") && !inside.getElementById(l.slice(1))),
    ink: getComputedStyle(inside.body).color, svgs: inside.querySelectorAll("svg").length});
});
</script>"""


@pytest.fixture(scope="module")
def browser() -> str:
    for name in NAMES:
        found = shutil.which(name)
        if found is not None:
            return found
    pytest.skip(f"no browser: looked for {', '.join(NAMES)}")


def probe(browser: str, file: Path, tmp_path: Path, *, width: int, dark: bool) -> dict[str, object]:
    """Open a page in a frame of a width and return what it is like there."""
    frame = tmp_path / "frame.html"
    text = _PROBE.replace("@URL@", file.resolve().as_uri()).replace("@WIDTH@", str(width))
    frame.write_text(text)
    words = [
        browser, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        "--virtual-time-budget=5000", "--dump-dom", frame.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr, done.stderr
    (told,) = re.findall(r'<pre id="told">(.+?)</pre>', done.stdout, re.DOTALL)
    found: dict[str, object] = json.loads(told.replace("&amp;", "&").replace("&gt;", ">"))
    return found


def check(browser: str, file: Path, tmp_path: Path) -> None:
    inks = set()
    for width, dark in ((PHONE, False), (PHONE, True), (1200, False)):
        found = probe(browser, file, tmp_path, width=width, dark=dark)
        assert found["width"] <= width, found  # type: ignore[operator]
        assert found["clipped"] == found["unnamed"] == 0
        assert found["font"] == 16
        assert found["broken"] == []
        inks.add(found["ink"])
        for link in found["links"]:  # type: ignore[attr-defined]
            assert link.startswith("#") or (file.parent / link).exists(), link
    assert len(inks) == 2  # light and dark
    assert file.stat().st_size < 3 * 2**20


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        ["space=nats_tss", "proxy=sed"],
        ["space=nats_tss", "proxy={name: ensemble, members: {sed: 1, params: 1}, reference: 32}"],
        ["space=nats_tss", "strategy=nsga2", "objectives=[score, -flops]"],
        ["space=nasbench101"],
        ["space=darts"],
        ["space=transnas_macro"],
    ],
    ids=["cells", "ensemble", "objectives", "nasbench101", "darts", "macro"],
)
def test_the_page_of_a_search(browser: str, settings: list[str], tmp_path: Path) -> None:
    file = leave_page(finished(tmp_path, settings))
    assert file is not None
    check(browser, file, tmp_path)


@pytest.mark.slow
def test_the_page_of_a_search_that_mostly_failed(
    browser: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_when(monkeypatch, "a reason without any space: " + "x" * 400, every=2)
    file = leave_page(finished(tmp_path, ["proxy=meco_opt"]))
    assert file is not None
    check(browser, file, tmp_path)


@pytest.mark.slow
def test_the_page_of_a_comparison(browser: str, tmp_path: Path) -> None:
    runs = [finished(tmp_path, [f"seed={seed}"], name=f"run{seed}") for seed in range(2)]
    for run in runs:
        leave_page(run)
    file = tmp_path / "compare.html"
    file.write_text(page(compare(runs), file), encoding="utf-8")
    check(browser, file, tmp_path)


@pytest.mark.slow
def test_the_probe_can_fail(browser: str, tmp_path: Path) -> None:
    file = tmp_path / "wide.html"
    file.write_text('<!doctype html><p style="width:700px">wide</p><script>oops()</script>')
    with pytest.raises(AssertionError, match="oops is not defined"):
        probe(browser, file, tmp_path, width=PHONE, dark=False)
    file.write_text('<!doctype html><p style="width:700px">wide</p>')
    assert probe(browser, file, tmp_path, width=PHONE, dark=False)["width"] > PHONE  # type: ignore[operator]
