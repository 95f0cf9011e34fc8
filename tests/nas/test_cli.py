"""The commands: what they print where, how they fail, and that they start at once."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nas.cli import app
from nas.cli.console import split_proxies
from nas.cli.progress import CountProgress, SearchProgress
from nas.proxies.base import ProxyError
from nas.result import Trial
from nas.wording import duration, number_text
from spaces import Arch, Space
from spaces.errors import NasError

CHECKOUT = Path(__file__).resolve().parents[2]
NAS = (sys.executable, "-W", "error", "-m", "nas.cli")
CONV = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"  # noqa: E501
QUICK = ("search", "smoke", "proxy=params")


def environment() -> dict[str, str]:
    hidden = ("CI", "COLUMNS", "FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS")
    kept = {key: value for key, value in os.environ.items() if key not in hidden}
    return {**kept, "PYTHONPATH": str(CHECKOUT)}


@pytest.fixture
def nas(tmp_path: Path) -> Any:
    def run(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*NAS, *words], cwd=tmp_path, env=environment(), input=stdin, capture_output=True,
            text=True, timeout=120, check=False,
        )  # fmt: skip

    return run


def only_folder(tmp_path: Path) -> Path:
    (folder,) = (tmp_path / "runs").iterdir()
    return folder


def test_smoke_end_to_end(nas: Any, tmp_path: Path) -> None:
    done = nas("search", "smoke", "budget=4", "batch=4", "strategy.population=2")
    assert done.returncode == 0, done.stderr
    header, *rows = done.stdout.splitlines()
    assert header.split() == ["#", "score", "params", "MFLOPs", "architecture"]
    assert len(rows) == 3
    assert rows[0].split()[-1].startswith("|")
    folder = only_folder(tmp_path)
    first, second, *_, last, page = done.stderr.splitlines()  # more lines on a slow machine
    assert first == "smoke: up to 4 architectures of nats_tss by meco, strategy evolution, seed 0"
    assert second == f"run folder runs/{folder.name}"
    assert re.fullmatch(r"4 architectures in .+, 0 known before, 0 failed", last)
    assert page == f"page: runs/{folder.name}/report.html"
    assert "\x1b" not in done.stdout + done.stderr
    assert json.loads((folder / "result.json").read_text())["best"]["arch"] == rows[0].split()[-1]


def test_json_on_standard_output_is_nothing_but_json(nas: Any, tmp_path: Path) -> None:
    done = nas(*QUICK, "--json", "-")
    assert json.loads(done.stdout) == json.loads(
        (only_folder(tmp_path) / "result.json").read_text()
    )
    assert done.stderr
    quiet = nas(*QUICK, "--json", "-", "--quiet")
    assert json.loads(quiet.stdout)["n_trials"] == 16
    assert not quiet.stderr
    to_file = nas(*QUICK, "--json", "out.json", "-q", "--out", "run")
    assert json.loads((tmp_path / "out.json").read_text())["name"] == "smoke"
    assert to_file.stdout.startswith("#"), "a table too, for the JSON went elsewhere"
    assert (tmp_path / "run" / "result.json").is_file()


def test_an_accuracy_is_told_beside_the_best_possible(nas: Any, shared_data: Path) -> None:
    table = shared_data / "nats_tss.csv.gz"
    done = nas(*QUICK, "-q", f"benchmark={table}:c10_test_200")
    assert done.returncode == 0, done.stderr
    header, *_, verdict = done.stdout.splitlines()
    assert "accuracy %   rank  architecture" in header
    assert verdict.startswith("cifar10 test accuracy, 200 epochs, mean over seeds: ")
    assert verdict.endswith(" of 15,625; best possible 94.37 %")
    wrong = nas(*QUICK, f"benchmark={table}:c10_test_20")
    assert wrong.returncode == 2
    assert "Did you mean 'c10_test_200'?" in wrong.stderr


MISTAKES = {
    "search smok": "smok: no such file, and no recipe of this name comes with the package. Did you",
    "search bad.yaml": "bad.yaml:1: spcae: unknown key; did you mean 'space'? Known: ",
    "search smoke budget=many": "<command line>: budget: expected int, got 'many'\n",
    "search --resume nowhere": "nowhere: no run to resume, for there is no recipe.yaml in it\n",
    "search smoke --resume x --out y": "--resume goes on in its own folder; leave out --out and",
    "search smoke conditions.device=gpu": "<command line>: conditions.device: expected 'cpu', ",
    "search smoke --json no/where": "no/where: cannot write: no such folder\n",
    "rank --proxy params --truth no.csv:x --csv .": ".: cannot write: it is a folder\n",
    f"score --space nats {CONV}": "no space named 'nats'. Did you mean 'nats_",
    f"score --proxy parms {CONV}": "no proxy named 'parms'. Did you mean 'params'?",
    "score --proxy params conv": "nats_tss: no operation named 'conv' in 'conv'.",
    f"score --proxy , {CONV}": "--proxy: expected names such as meco,sed or ",
    "rank --proxy params --truth no.csv:x": "no.csv: no such file",
    "rank --proxy params --truth no.csv:x,y --sort rho": "no statistic named 'rho'. Known: kendall",
    f"score --proxy params --device gpu {CONV}": "device: 'gpu' is not available here; available",
    "search smoke conditions.device=cuda:99": "device: 'cuda:99' is not available here; available",
    "bench import nowhere t.csv": "nowhere: no such file",
}


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_one_message_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text("spcae: nats_tss\nspace: nats_tss\nproxy: params\n")
    done = CliRunner().invoke(app, command.split(" "))
    assert done.stderr.startswith(MISTAKES[command])
    assert done.exit_code == 2
    assert not done.stdout
    assert not (tmp_path / "runs").exists(), "a mistake leaves no folder behind"


def test_a_mistake_in_a_process_of_its_own(nas: Any) -> None:
    done = nas("search", "smoke", "budget=many")
    assert done.stderr == "<command line>: budget: expected int, got 'many'\n"
    assert (done.returncode, done.stdout) == (2, "")


def test_a_search_in_which_everything_fails_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(space: Space, specs: list[object], archs: list[Arch], _: object) -> list[list[Any]]:
        return [[ProxyError("too tired")] * len(archs) for _ in specs]

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nas.chunks.score_batch", fail)
    done = CliRunner().invoke(app, [*QUICK, "budget=2", "--json", "-"])
    assert done.exit_code == 2
    assert "nothing found: all 2 trials failed: 2 x " in done.stderr
    assert "too tired" in done.stderr
    summary = json.loads(done.stdout)
    assert summary["best"] is None
    assert sum(summary["failures"].values()) == 2
    assert (only_folder(tmp_path) / "scores.png").is_file()


def test_a_misleading_direction_is_warned_of_in_one_line(nas: Any) -> None:
    done = nas("search", "sss_meco_opt", "proxy=meco", "budget=1", "conditions.resolution=16")
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert "meco_opt" in warnings[0]


def wait_for_trials(folder: Path) -> None:
    for _ in range(600):
        tables = list(folder.glob("*/trials.csv"))
        if tables and len(tables[0].read_text().splitlines()) > 8:
            return
        time.sleep(0.1)
    raise AssertionError("no trial within a minute")


def test_an_interrupted_search_says_how_to_go_on_and_does(nas: Any, tmp_path: Path) -> None:
    running = subprocess.Popen(
        [*NAS, "search", "smoke", "budget=5000"], cwd=tmp_path, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # Whoever runs the tests in the background of a shell has Ctrl-C ignored, and so would we.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    wait_for_trials(tmp_path / "runs")
    busy = nas("search", "--resume", str(only_folder(tmp_path)))
    assert busy.stderr.endswith("another process is running this search\n")
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=60)
    assert running.returncode == 130, told
    folder = only_folder(tmp_path)
    assert told.splitlines()[-1].endswith(f"or by: nas-search --resume runs/{folder.name}")
    done = nas("search", "--resume", f"runs/{folder.name}", "budget=8", "--json", "-")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["n_trials"] == summary["n_cached"] == 8
    assert f"going on in runs/{folder.name}" in done.stderr


def test_list_names_everything(nas: Any) -> None:
    plain = nas("list").stdout
    for text in ("spaces:", "  nats_tss ", "proxies:", "  meco ", "  evolution ", "  smoke "):
        assert text in plain
    for words in (("--json",), ("--json", "-")):
        table = json.loads(nas("list", *words).stdout)
        kinds = ["spaces", "proxies", "predictors", "formulas", "strategies", "data sets"]
        kinds += ["recipes", *(f"recipes for nas {x}" for x in ("fit", "design", "train"))]
        assert list(table) == kinds
        assert all(entry["summary"] for kind in table.values() for entry in kind)


def test_score_takes_several_of_both(nas: Any) -> None:
    words = ("score", "--proxy", "params,flops", "--num-classes", "10")
    plain = nas(*words, CONV, "-", stdin=f"{CONV}\n\n")
    assert plain.stdout.splitlines() == [
        "   params        flops  architecture",
        f"1,531,546  220,119,690  {CONV}",
        f"1,531,546  220,119,690  {CONV}",
    ]
    table = json.loads(nas(*words, CONV, "--json", "-").stdout)
    assert table["rows"] == [
        {"arch": CONV, "proxy": "params", "score": 1531546.0, "error": None},
        {"arch": CONV, "proxy": "flops", "score": 220119690.0, "error": None},
    ]


def test_rank_reports_in_every_form(nas: Any, shared_data: Path, tmp_path: Path) -> None:
    done = nas(
        "rank", "--truth", f"{shared_data / 'nats_tss.csv.gz'}:c10_test_200", "--proxy", "flops",
        "--sample", "200", "--half", "odd", "--json", "-", "--csv", "r.csv", "--figure", "r.png",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [row["proxy"] for row in rows] == ["flops", "params"]
    low, high = rows[0]["spearman_interval"]
    assert 0.5 < low < rows[0]["spearman"] < high < 1
    assert rows[0]["n"] == 200
    assert (tmp_path / "r.csv").read_text().startswith("proxy,n,")
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")


def test_rank_compares_one_scoring_with_several_columns(
    nas: Any, shared_data: Path, tmp_path: Path
) -> None:
    table = shared_data / "nats_tss.csv.gz"
    words = ("rank", "--proxy", "flops", "--sample", "100", "--half", "odd")
    both = nas(
        *words, "--truth", f"{table}:c10_test_200,in16_test_200", "--json", "r.json",
        "--csv", "r.csv", "--figure", "r.png", "--sort", "kendall",
    )  # fmt: skip
    assert both.returncode == 0, both.stderr
    assert both.stderr.splitlines() == ["  2 proxies: 100 of 100 architectures"]
    first, second = both.stdout.split("\n\n")
    assert first.startswith("c10_test_200\n")
    assert second.startswith("in16_test_200\n")
    header = second.splitlines()[1].split()
    assert header[-3:] == ["ms/arch", "route", "proxy"]
    reports = json.loads((tmp_path / "r.json").read_text())
    for column, report in zip(("c10_test_200", "in16_test_200"), reports, strict=True):
        alone = json.loads(nas(*words, "-q", "--truth", f"{table}:{column}", "--json", "-").stdout)
        assert report["environment"]["truth_column"] == column
        for row, single in zip(report["rows"], alone["rows"], strict=True):
            del row["seconds_per_arch"], single["seconds_per_arch"]
            assert row == single
    assert (tmp_path / "r.csv").read_text().startswith("truth_column,proxy,n,")
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def rank_words(tmp_path: Path) -> tuple[str, ...]:
    """``nas rank`` on four networks whose accuracy follows the FLOPs; one is unknown in ``b``."""
    lines = ["arch,a,b", "8:8:8:8:8,1,1", "8:8:8:64:64,2,2", "64:8:8:8:8,3,3", "64:64:64:64:64,4,"]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    return ("rank", "--space", "nats_sss", "--proxy", "params,flops", "--quiet")


def test_rank_says_which_rows_it_leaves_out(nas: Any, rank_words: tuple[str, ...]) -> None:
    done = nas(*rank_words, "--truth", "t.csv:a,b", "--csv", "-")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "a: left out 1 of 4 known rows, which another column does not know\n"
    assert [line.split(",")[:3] for line in done.stdout.splitlines()[1:]] == [
        [column, proxy, "3"] for column in "ab" for proxy in ("params", "flops")
    ]


def test_rank_sorts_what_it_shows_and_nothing_else(
    nas: Any, rank_words: tuple[str, ...], tmp_path: Path
) -> None:
    def shown(*words: str) -> list[str]:
        lines = nas(*rank_words, "--truth", "t.csv:b", *words).stdout.splitlines()
        return [line.split()[-1] for line in lines]

    assert shown() == ["proxy", "params", "flops"]
    assert shown("--sort", "spearman", "--csv", "r.csv") == ["proxy", "flops", "params"]
    lines = (tmp_path / "r.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["proxy", "params", "flops"]


def test_a_real_archive_is_imported(nas: Any, shared_data: Path, tmp_path: Path) -> None:
    archive = next((shared_data / "nats_bench").glob("NATS-tss-*"))
    done = nas("bench", "import", str(archive), "t.csv")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "t.csv").read_text().startswith("index,arch,")
    assert "3 architectures of nats_tss" in done.stderr


def test_what_needs_no_network_loads_no_torch(tmp_path: Path) -> None:
    code = """
import contextlib, io, sys
from nas.cli import main
for command in "--help", "list", "search --help", "schema", "data", "search smoke budget=0":
    sys.argv = ["nas", *command.split()]
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        main()
print({"torch", "matplotlib", "optuna", "sklearn", "pandas", "rich"} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == "set()\n", done.stderr


def test_list_answers_at_once(nas: Any) -> None:
    def seconds() -> float:
        began = time.perf_counter()
        nas("list")
        return time.perf_counter() - began

    assert min(seconds() for _ in range(2)) < 2  # half a second where nothing else is running


def test_help_shows_examples(nas: Any) -> None:
    code = "from nas.cli import main_search; main_search()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"], env=environment(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.stdout.startswith("Usage: nas-search [OPTIONS]")
    assert "  nas-search smoke budget=100 strategy=random " in done.stdout
    assert nas("--version").stdout.startswith("nas ")


def read_all(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux says so when the other end is closed
            return
        if not piece:
            return
        yield piece


def test_a_terminal_gets_a_bar(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*NAS, *QUICK, "budget=2000", "batch=500"], cwd=tmp_path, stderr=theirs,
        env={**environment(), "TERM": "xterm", "COLUMNS": "120"}, stdout=subprocess.PIPE,
    )  # fmt: skip
    os.close(theirs)
    shown = b"".join(read_all(ours)).decode()
    os.close(ours)
    table, _ = process.communicate(timeout=60)
    assert process.returncode == 0, shown
    assert "2,000 of 2,000" in shown
    assert "best " in shown
    assert "/s, " in shown
    assert b"\x1b" not in table
    # The best architecture so far stands below the bar; at the end the whole view is taken away.
    assert re.search(r"best +\x1b\[0m\|", shown)
    assert shown.rindex("2,000 architectures in") > shown.rindex("\x1b[2K")


@pytest.mark.parametrize(("ci", "lines"), [("", True), ("0", True), ("true", False), ("1", False)])
def test_plain_lines_in_a_pipe_and_none_in_ci(
    ci: str, lines: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr("nas.cli.progress.SECONDS_BETWEEN_LINES", 0)
    with SearchProgress(4, quiet=False) as progress:
        for trial in (trial_of(None, "no"), trial_of(3.0), trial_of(3.0), trial_of(5.0)):
            progress(trial)
    told = capsys.readouterr().err.splitlines()
    assert (
        told
        == [
            "  1 of 4, best -, 1 failed, 2.0/s, 2 s left",
            "  2 of 4, best 3, 1 failed, 2.0/s, 1 s left",
            "  3 of 4, best 3, 1 failed, 2.0/s, 0 s left",
            "  4 of 4, best 5, 1 failed, 2.0/s, 0 s left",
        ]
        * lines
    )


def trial_of(best: float | None, error: str | None = None) -> Trial:
    """Return a trial that took half a second."""
    return Trial(0, (0,), "x", best, error, 0.5, False, 1, 1, best)


def test_a_live_view_shows_the_best_and_the_commonest_failure() -> None:
    progress = SearchProgress(9, quiet=False)
    for trial in (trial_of(1.0), trial_of(1.0, "rare"), *[trial_of(1.0, "often")] * 2):
        progress(trial)
    assert [str(line) for line in progress.details()] == ["best    x", "failed  2: often"]


def test_a_count_says_how_long_it_will_take(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("nas.cli.progress.SECONDS_BETWEEN_LINES", 0)
    clock = iter([0.0, 0.0, 10.0, 10.0, 20.0, 20.0, 30.0, 30.0])
    monkeypatch.setattr("nas.cli.progress.time.monotonic", lambda: next(clock))
    with CountProgress("things", quiet=False) as progress:  # 0 s twice
        progress(2, 10)  # 10 s twice: what was done before says nothing
        progress(6, 10)  # 20 s: four took ten seconds
        progress(10, 10)
    assert capsys.readouterr().err.splitlines() == [
        "  2 of 10 things",
        "  6 of 10 things, 10 s left",
        "  10 of 10 things",
    ]


@pytest.mark.parametrize(
    ("texts", "proxies"),
    [
        (["meco,meco_opt,sed"], ["meco", "meco_opt", "sed"]),
        (["meco:hooks=reference,channels=8,sed"], ["meco:hooks=reference,channels=8", "sed"]),
        (["meco:hooks=conv,meco_opt:channels=4"], ["meco:hooks=conv", "meco_opt:channels=4"]),
        (["meco", "sed, params"], ["meco", "sed", "params"]),
        (["meco,channels=8"], ["meco:channels=8"]),
    ],
)  # fmt: skip
def test_proxies_are_split_by_rule(texts: list[str], proxies: list[str]) -> None:
    assert split_proxies(texts) == proxies


@pytest.mark.parametrize("text", ["", "meco,,sed", "channels=8", "meco,"])
def test_proxies_that_cannot_be_split_are_refused(text: str) -> None:
    with pytest.raises(NasError, match="--proxy: expected names"):
        split_proxies(["params", text])


def test_numbers_are_written_for_people() -> None:
    assert [number_text(n) for n in (None, 1531546.0, 0.1234567, -2.0)] == [
        "-", "1,531,546", "0.123457", "-2",
    ]  # fmt: skip
    assert [duration(s) for s in (0.2, 59.4, 61, 7380)] == ["0 s", "59 s", "1:01 min", "2:03 h"]


def test_data_lists_where_images_come_from(nas: Any, tmp_path: Path) -> None:
    done = nas("data")
    assert done.returncode == 0, done.stderr
    header, *rows = done.stdout.splitlines()
    assert header.split() == ["name", "found", "summary"]
    assert any(row.split()[:3] == ["cifar10", "not", "found"] for row in rows)
    assert any(row.startswith("cifar10 was looked for in data, data/cifar-10-b") for row in rows)
    (tmp_path / "here").mkdir()
    (tmp_path / "here/cifar-100-python.tar.gz").write_bytes(b"")
    table = json.loads(nas("data", "--root", "here", "--json", "-").stdout)
    found = {entry["name"]: entry.get("found") for entry in table}
    assert found["cifar100"] == "here/cifar-100-python.tar.gz"
    assert found["cifar10"] is None
    assert next(iter(found)) == "digits"


def test_data_fetches_nothing_that_has_no_archive(nas: Any) -> None:
    done = nas("data", "digits")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("digits: there is nothing to fetch (1,797 digits of 8x8")
    assert "this can be fetched: cifar10, cifar100, imagenet16_120" in done.stderr
    unknown = nas("data", "cifar11")
    assert unknown.returncode == 2
    assert "no data set named 'cifar11'. Did you mean 'cifar1" in unknown.stderr


def test_data_says_what_to_do_without_a_connection(nas: Any, tmp_path: Path) -> None:
    done = nas("data", "cifar10", "--root", "here", "--url", "http://127.0.0.1:9/sets")
    assert done.returncode == 2
    assert "cifar-10-python.tar.gz: could not be fetched:" in done.stderr
    assert "put cifar-10-python.tar.gz (md5 c58f30108f718f92721af3b95e74349a) into" in done.stderr
    assert "Traceback" not in done.stderr
