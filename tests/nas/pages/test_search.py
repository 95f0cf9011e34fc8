"""The page of a search: what it says, that it says so safely, and from its folder alone."""

import csv
import html
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nas.cli import app
from nas.drawing.plots import worth_showing
from nas.pages.measures import columns, truth_text
from nas.pages.search import how, page_of, write_page
from nas.pages.search_pictures import pictures
from nas.runs.read import read_run
from spaces.errors import NasError
from tests.nas.finished import TEXT, fail_when, finished

VOID = {"meta", "link", "br", "wbr", "img", "input", "hr"}


class Page(HTMLParser):
    """Collects links, anchors, text and headings, and checks that what is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = dict(attrs)
        self.links += [value for key in ("href", "src") if (value := found.get(key))]
        self.ids += [value for key, value in attrs if key == "id" and value]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value for key, value in attrs if key == "id" and value]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def with_truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search whose truth is known of ten architectures: the accuracy falls with the size."""
    parent = tmp_path_factory.mktemp("truth")
    rows = read_run(finished(parent, name="before")).trials
    lines = [f"{row.arch},{100 - row.params / 1e4:.3f}" for row in rows[:10]]
    (parent / "table.csv").write_text("\n".join(["arch,accuracy", *lines]) + "\n")
    return finished(parent, [f"benchmark={parent / 'table.csv'}:accuracy"])


def test_the_page_says_what_was_found_and_how(plain: Path) -> None:
    run = read_run(plain)
    page = Page(write_page(plain).read_text(encoding="utf-8"))
    best = max(run.trials, key=lambda row: row.params)
    assert f"params {best.params:,}; {best.params:,} parameters" in page.text
    assert "of 32,768 in the space" in page.text
    assert "Proposed by random, 4 at a time, up to 12 architectures." in page.text
    assert "Judged by params, higher is better" in page.text
    assert "nas-search recipe.yaml" in page.text
    assert run.environment["python"] in page.text
    assert page.tags.count("svg") == len(pictures(run)) == 3  # network, scores, FLOPs


def test_nothing_of_a_recipe_is_taken_for_html(plain: Path) -> None:
    text = write_page(plain).read_text(encoding="utf-8")
    assert "<script" not in text
    assert html.escape("<script>alert('summary')</script>", quote=False)[:12] in text
    assert "default-src 'none'" in text


def test_links_lead_somewhere_and_names_are_unique(with_truth: Path) -> None:
    page = Page(write_page(with_truth).read_text(encoding="utf-8"))
    assert len(page.ids) == len(set(page.ids))
    local = [link for link in page.links if not link.startswith("data:")]
    assert {"trials.csv", "truth.csv", "recipe.yaml"} <= set(local)
    for link in local:
        if link.startswith("#"):
            assert link[1:] in page.ids
        else:
            assert (with_truth / link).is_file(), link


def test_every_reference_inside_of_a_picture_is_to_itself(with_truth: Path) -> None:
    text = write_page(with_truth).read_text(encoding="utf-8")
    for picture in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ids = set(re.findall(r' id="([^"]+)"', picture))
        asked = re.findall(r'href="#([^"]+)"', picture) + re.findall(r"url\(#([^)]+)\)", picture)
        assert set(asked) <= ids


def test_the_folder_alone_is_enough(with_truth: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(with_truth, moved)
    (moved / "scores.sqlite").unlink()
    (moved / "report.html").unlink(missing_ok=True)
    table = Path(read_run(moved).recipe["benchmark"].rpartition(":")[0])
    hidden = table.rename(table.with_suffix(".hidden"))
    try:
        text = write_page(moved).read_text(encoding="utf-8")
    finally:
        hidden.rename(table)
    assert "Score against the benchmark" in text


def test_truth_stands_beside_with_its_interval(with_truth: Path) -> None:
    run = read_run(with_truth)
    assert len(run.truth) == 10
    # A larger network is worse here, and the proxy likes them large: -1, and an interval of that.
    assert (
        truth_text(run)
        == "Score against the benchmark: -1.00 [-1.00, -1.00] (95 % interval, n = 10)."
    )
    assert [column.name for column in columns(run)] == ["params", "flops", "truth"]
    known = [value for value in run.truth_so_far if value is not None]
    assert known == sorted(known, reverse=True)  # each better score was a worse pick


def test_of_two_measures_the_first_better_one_wins_until_a_better_comes(with_truth: Path) -> None:
    run = read_run(with_truth)
    best, expected = None, []
    for row in run.trials:
        if best is None or row.params > best.params:
            best = row
        expected.append(run.truth.get(best.arch))
    assert run.truth_so_far == expected


def test_failures_are_counted_by_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_when(monkeypatch, "no <b>way</b>", every=2)
    path = finished(tmp_path, ["proxy=meco_opt"])
    page = Page(write_page(path).read_text(encoding="utf-8"))
    assert "6 of 12 architectures have no score." in page.text
    assert re.search(r"6 50\.0 % no <b>way</b> ", page.text)


def test_a_search_in_which_everything_failed_has_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_when(monkeypatch, "never", every=1)
    page = Page(write_page(finished(tmp_path, ["proxy=meco_opt"])).read_text(encoding="utf-8"))
    assert "Nothing was found: all 12 architectures failed." in page.text


def test_limits_and_objectives_are_told_and_drawn(tmp_path: Path) -> None:
    path = finished(
        tmp_path,
        ["strategy=nsga2", "objectives=[score, -flops]", "constraints.params=<= 200000"],
    )
    run = read_run(path)
    text = " ".join(how(run))
    assert "Nothing outside these limits was scored: params <= 200,000" in text
    assert "Objectives: score, -flops" in text
    page = Page(write_page(path).read_text(encoding="utf-8"))
    assert "scored architectures of nats_sss are a trade-off of score and -flops" in page.text
    # more parameters and fewer FLOPs: counted again, by hand
    rows = run.scored
    front = [
        row
        for row in rows
        if not any(
            (other.params, -other.flops) != (row.params, -row.flops)
            and other.params >= row.params
            and other.flops <= row.flops
            for other in rows
        )
    ]
    assert len(run.result["front"]) == len({(row.params, row.flops) for row in front})
    assert pictures(run)["against_flops"].note.startswith(f"{len(run.result['front'])} of 12 ")


def test_members_of_an_ensemble_stand_beside_its_score(tmp_path: Path) -> None:
    text = TEXT.replace(
        "proxy: params",
        "proxy: {name: ensemble, members: {params: 1, flops: 0.5}, reference: 32}",
    )
    path = finished(tmp_path, text=text)
    run = read_run(path)
    assert set(run.members) == {"params", "flops"}
    for row in run.scored:  # the score is what its members add to it
        total = run.members["params"][row.arch] + 0.5 * run.members["flops"][row.arch]
        assert row.score == pytest.approx(total)
    page = Page(write_page(path).read_text(encoding="utf-8"))
    assert "What would change the first place" in page.text


@pytest.mark.slow
def test_a_whole_space_fits_into_three_megabytes(plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "large"
    shutil.copytree(plain, path)
    with (path / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (path / "trials.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        for number in range(15_625):
            row = rows[number % len(rows)]
            flops, params = 7919 * number % 15_625, 6101 * number % 15_625
            writer.writerow(
                {**row, "number": number, "score": flops, "flops": flops, "params": params}
            )
    page = write_page(path)
    assert page.stat().st_size < 3 * 2**20
    text = page.read_text(encoding="utf-8")
    assert "15,625 architectures were asked about. All of them:" in text
    assert text.count("<tr") < 100


def test_a_picture_is_not_squeezed_by_what_learned_nothing() -> None:
    values = [90.0, 91.0, 92.0, 93.0, 94.0] * 4
    assert worth_showing(values) == 90.0
    assert worth_showing([10.0, *values]) == pytest.approx(86.0)  # 90 - (94 - 90)


def test_no_run_no_page(tmp_path: Path, plain: Path) -> None:
    with pytest.raises(NasError, match="no run folder of a search"):
        write_page(tmp_path)
    broken = tmp_path / "broken"
    shutil.copytree(plain, broken)
    (broken / "trials.csv").write_text("number,arch\n0,x\n")
    with pytest.raises(NasError, match="a table of this run cannot be read: KeyError"):
        write_page(broken)
    (broken / "result.json").write_text("[]")
    with pytest.raises(NasError, match="not the result of a search: there is no 'name' in it"):
        write_page(broken)


def test_the_command_writes_the_page_and_its_pictures(plain: Path, tmp_path: Path) -> None:
    for kind, start in (("png", b"\x89PNG"), ("svg", b"<?xml")):
        folder = tmp_path / kind
        done = CliRunner().invoke(
            app, ["report", str(plain), "--plots", str(folder), "--format", kind]
        )
        assert done.exit_code == 0, done.output
        assert done.stdout == f"{plain / 'report.html'}\n"
        names = {path.name for path in folder.iterdir()}
        assert names == {f"{name}.{kind}" for name in ("network", "scores", "against_flops")}
        assert all(path.read_bytes().startswith(start) for path in folder.iterdir())
    done = CliRunner().invoke(app, ["report", str(plain), "--format", "jpg"])
    assert done.exit_code == 2
    assert done.stderr == "--format: expected svg or png, got 'jpg'\n"


def test_a_page_that_fails_leaves_the_search_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> Path:
        raise ZeroDivisionError("of the page")

    monkeypatch.setattr("nas.pages.search.write_page", fail)
    monkeypatch.chdir(tmp_path)
    words = ["search", "smoke", "proxy=params", "budget=4", "--out", "run"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert (
        "warning: no page was written: ZeroDivisionError: of the page; try again by: nas "
        in done.stderr
    )
    assert json.loads((tmp_path / "run" / "result.json").read_text())["best"]


def test_every_search_leaves_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["search", "smoke", "proxy=params", "budget=4", "--out", "run"]
    done = CliRunner().invoke(app, words)
    assert done.stderr.splitlines()[-1] == "page: run/report.html"
    assert (tmp_path / "run" / "report.html").is_file()


def test_the_page_is_the_same_when_it_is_made_again(plain: Path) -> None:
    run = read_run(plain)
    assert page_of(run, pictures(run)) == page_of(run, pictures(run))
