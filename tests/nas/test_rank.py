"""``rank_proxies``: one scoring for all columns, failures counted, honest times, strict JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.stats import rankdata

from nas.benchmark.table import Truth, parse_truth
from nas.proxies.base import Conditions, ProxyError
from nas.rank import ALWAYS, RankReport, for_json, plot, rank_proxies, to_csv
from nas.statistics import STATISTICS, evaluate, log_rank
from spaces import SPACES, Arch, NasError, Space

SSS = SPACES["nats_sss"]
N = 300


@pytest.fixture(scope="module")
def truth() -> Truth:
    """An invented accuracy of every 101st network: it grows with the widths, unevenly."""
    archs = tuple(SSS.at(index) for index in range(0, 101 * N, 101))
    values = np.asarray([50 + sum(arch) + math.sin(7 * i) for i, arch in enumerate(archs)])
    return Truth("nats_sss", archs, values, "c10_test_90", "invented.csv", "0" * 64)


def other_column(truth: Truth, unknown: int = 0) -> Truth:
    """The same networks but the first few, with accuracies that turn round halfway."""
    values = np.abs(truth.values - np.median(truth.values))[unknown:]
    return Truth(
        "nats_sss", truth.archs[unknown:], values, "c100_test_90", "invented.csv", "0" * 64
    )


class FakeScore:
    """Scores by invented proxies, and writes down what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[Arch, ...]]] = []
        self.now = 0.0

    def __call__(
        self, specs: Sequence[str], archs: Sequence[Arch]
    ) -> list[list[float | Exception]]:
        for spec in specs:
            self.asked.append((spec, tuple(archs)))
            self.now += {"slow": 3.0, "first": 1000.0}.get(spec, 0.5) * len(archs)
            if spec == "first" and len(self.asked) > 1:  # slow in its first call only
                self.now -= 999.0 * len(archs)
        return [[self.one(spec, arch) for arch in archs] for spec in specs]

    def clock(self) -> float:
        return self.now

    @staticmethod
    def one(spec: str, arch: Arch) -> float | Exception:
        if spec == "fragile" and arch[0] == 0:
            return ProxyError("smallest eigenvalue is 0")
        if spec == "fragile" and arch[0] == 1:
            return math.nan
        if spec == "flat":
            return 1.0
        return float(-sum(arch) if spec == "backwards" else sum(arch) + 10 * arch[4])


def rank_all(
    truths: Sequence[Truth], *specs: Any, **options: Any
) -> tuple[tuple[RankReport, ...], FakeScore]:
    score = FakeScore()
    options = {"n_boot": 20, **options}
    return rank_proxies(SSS, specs, truths, score=score, clock=score.clock, **options), score


def rank(truth: Truth, *specs: Any, **options: Any) -> tuple[RankReport, FakeScore]:
    (report,), score = rank_all([truth], *specs, **options)
    return report, score


def test_params_and_flops_stand_beside_and_repeats_do_not(truth: Truth) -> None:
    report, _ = rank(truth, "slow", "flops", "slow")
    assert [row.proxy for row in report.rows] == ["slow", "flops", "params"]


def test_the_statistics_are_those_of_the_statistics_module(truth: Truth) -> None:
    report, score = rank(truth, "slow", seed=5, n_boot=30)
    scores = [float(score.one("slow", arch)) for arch in truth.archs]  # type: ignore[arg-type]
    assert report.row("slow").estimates == evaluate(scores, truth.values, n_boot=30, seed=5)
    assert report.row("slow").n == N


def test_every_proxy_sees_the_same_drawn_rows(truth: Truth) -> None:
    report, score = rank(truth, "slow", "backwards", sample=50, batch_size=20)
    seen: dict[str, list[Arch]] = {}
    for spec, archs in score.asked:
        seen.setdefault(spec, []).extend(archs)
    rows = {spec: tuple(archs[-50:]) for spec, archs in seen.items()}  # after those for the clock
    assert set(rows) == {"slow", "backwards", *ALWAYS}
    assert set(rows.values()) == {report.archs}
    assert len(set(report.archs)) == 50
    assert set(report.archs) < set(truth.archs)
    np.testing.assert_array_equal(report.values, [truth.value(arch) for arch in report.archs])
    again, _ = rank(truth, sample=50)
    other, _ = rank(truth, sample=50, seed=1)
    assert again.archs == report.archs != other.archs


def test_halves_go_by_the_official_index(truth: Truth) -> None:
    even, _ = rank(truth, half="even")
    odd, _ = rank(truth, half="odd")
    assert {SSS.index(arch) % 2 for arch in even.archs} == {0}
    assert {SSS.index(arch) % 2 for arch in odd.archs} == {1}
    assert set(even.archs) | set(odd.archs) == set(truth.archs)
    drawn, _ = rank(truth, half="odd", sample=40)
    assert set(drawn.archs) < set(odd.archs)
    assert len(drawn.archs) == 40


def test_halves_go_by_row_where_there_is_no_official_order() -> None:
    space = SPACES["nasbench101"]
    rng = np.random.default_rng(0)
    archs = tuple(space.sample(rng) for _ in range(9))
    truth = Truth("nasbench101", archs, np.arange(9.0), "acc", "invented.csv", "0" * 64)
    (report,) = rank_proxies(space, [], [truth], half="odd", score=FakeScore(), n_boot=0)
    assert sorted(report.archs) == sorted(archs[1::2])


def test_several_columns_are_compared_with_one_scoring(truth: Truth) -> None:
    columns = [truth, other_column(truth)]
    reports, score = rank_all(columns, "slow", "fragile", sample=50, batch_size=20)
    specs = ["slow", "fragile", *ALWAYS]
    # Each is timed alone after a warm-up, then all are asked together: 20 + 20 + 10 rows.
    timed = [spec for spec in specs for _ in range(2)]
    assert [spec for spec, _ in score.asked] == [*timed, *specs, *specs, *specs]
    assert [report.environment["truth_column"] for report in reports] == [
        "c10_test_90", "c100_test_90",
    ]  # fmt: skip
    for column, report in zip(columns, reports, strict=True):
        alone, _ = rank(column, "slow", "fragile", sample=50, batch_size=20)
        assert report.archs == alone.archs
        np.testing.assert_array_equal(report.values, alone.values)
        assert report.rows == alone.rows
        assert report.environment["best_value"] == report.values.max()
    first, second = (report.row("slow").estimates["spearman"].value for report in reports)
    assert first > second


def test_rows_are_those_that_every_column_knows(truth: Truth) -> None:
    reports, _ = rank_all([truth, other_column(truth, unknown=12)], "slow")
    assert set(reports[0].archs) == set(truth.archs[12:])
    assert reports[0].archs == reports[1].archs
    assert [report.environment["truth_dropped"] for report in reports] == [12, 0]
    assert [report.environment["truth_rows"] for report in reports] == [N, N - 12]
    turned, _ = rank_all([other_column(truth, unknown=12), truth], sample=40)
    ahead, _ = rank_all([truth, other_column(truth, unknown=12)], sample=40)
    assert turned[0].archs == ahead[0].archs, "the draw does not depend on the order of columns"
    with pytest.raises(NasError, match=r"columns 'c10_test_90', 'c100_test_90' share 1 known rows"):
        rank_all([truth, other_column(truth, unknown=N - 1)])
    with pytest.raises(NasError, match="at least one column"):
        rank_all([])


class RoutedSpec:
    """A spec that knows how it would run in a space."""

    def __str__(self) -> str:
        return "slow"

    def route(self, space: Space) -> str:
        return "batched" if space is SSS else "one by one"


def test_a_row_says_how_its_proxy_ran(truth: Truth) -> None:
    def score(specs: Sequence[object], archs: Sequence[Arch]) -> list[list[float]]:
        return [[float(sum(arch)) for arch in archs] for _ in specs]

    (report,) = rank_proxies(SSS, [RoutedSpec()], [truth], score=score, n_boot=0)  # type: ignore[list-item]
    assert [row.route for row in report.rows] == ["batched", "", ""]
    assert report.rows[0].as_dict()["route"] == "batched"
    assert to_csv([report]).splitlines()[1].endswith(",batched")


def test_failures_are_counted_ranked_last_and_explained(truth: Truth) -> None:
    report, _ = rank(truth, "fragile")
    row = report.row("fragile")
    first = sum(arch[0] == 0 for arch in truth.archs)
    second = sum(arch[0] == 1 for arch in truth.archs)
    assert row.n == N
    assert row.failures == first + second > 0
    assert row.reasons == {"smallest eigenvalue is 0": first, "not a finite number": second}
    lowest = [-1.0 if arch[0] < 2 else float(sum(arch) + 10 * arch[4]) for arch in truth.archs]
    assert row.estimates == evaluate(lowest, truth.values, n_boot=20)


def test_seconds_are_per_proxy_and_without_the_warm_up(truth: Truth) -> None:
    report, _ = rank(truth, "first", "slow", batch_size=64)
    assert report.row("first").seconds_per_arch == pytest.approx(1.0)
    assert report.row("slow").seconds_per_arch == pytest.approx(3.0)
    assert report.row("params").seconds_per_arch == pytest.approx(0.5)


def test_progress_is_reported(truth: Truth) -> None:
    seen: list[tuple[int, int, int]] = []
    rank(truth, sample=50, batch_size=30, progress=lambda *now: seen.append(now))
    assert seen == [(2, 30, 50), (2, 50, 50)]


def test_proxies_are_joined_by_their_logarithmic_ranks(truth: Truth) -> None:
    joins = {"both": ["meco_opt:channels=8", "params"]}
    (report,) = rank_proxies(
        SSS,
        ["meco_opt"],
        [truth],
        sample=5,
        joins=joins,
        n_boot=0,
        conditions=Conditions(resolution=8),
    )
    assert [row.proxy for row in report.rows] == ["meco_opt", "params", "flops", "both"]
    parts = [report.row(name).scores for name in ("meco_opt", "params")]
    expected = sum(np.log(rankdata(part) / 5) for part in parts)
    np.testing.assert_allclose(report.row("both").scores, expected)
    assert report.row("both").route == "joined"
    (by_mean,) = rank_proxies(
        SSS,
        ["params"],
        [truth],
        sample=5,
        joins={"both": ["params", "flops"]},
        join_by="mean_rank",
        n_boot=0,
    )
    counted = [by_mean.row(name).scores for name in ("params", "flops")]
    mean = sum(rankdata(part) / 5 for part in counted) / 2
    np.testing.assert_allclose(by_mean.row("both").scores, mean)
    with pytest.raises(NasError, match=r"no way to join named 'mean'. Did you mean 'mean_rank'"):
        rank_proxies(SSS, ["params"], [truth], sample=5, join_by="mean")
    with pytest.raises(NasError, match="'params' is the name of a proxy"):
        rank_proxies(SSS, [], [truth], sample=5, joins={"params": ["flops"]}, n_boot=0)


def test_a_logarithmic_rank_by_hand() -> None:
    # Of four rows: 30 is the best (rank 4), the two 10s share 2.5, the failure is the lowest (1).
    joined = log_rank(np.asarray([[10, 30, 10, math.nan], [1, 2, 3, 4]]))
    ranks = [(2.5, 1), (4, 2), (2.5, 3), (1, 4)]
    assert joined.tolist() == pytest.approx([math.log(a / 4) + math.log(b / 4) for a, b in ranks])


def no_constant(name: str) -> float:
    raise AssertionError(f"{name} is no JSON")


def test_json_has_the_prescribed_form(truth: Truth) -> None:
    report, _ = rank(truth, "slow", "flat", sample=100, seed=3)
    loaded = json.loads(json.dumps(for_json([report])), parse_constant=no_constant)
    assert set(loaded) == {"rows", "environment"}
    for row in loaded["rows"]:
        assert {"proxy", "n", "failures", "seconds_per_arch"} < set(row)
        for name in ("spearman", "kendall", "ndcg", "regret_1", "regret_10"):
            low, high = row[f"{name}_interval"]
            assert row[name] is None or low <= high
    slow, flat = loaded["rows"][:2]
    assert slow["spearman_interval"][0] < slow["spearman"] < slow["spearman_interval"][1]
    assert (flat["kendall"], flat["kendall_interval"]) == (None, [None, None])
    told = loaded["environment"]
    assert (told["seed"], told["sample"], told["half"], told["n_boot"]) == (3, 100, None, 20)
    assert (told["space"], told["truth"], told["truth_column"]) == (
        "nats_sss", "invented.csv", "c10_test_90"
    )  # fmt: skip
    assert told["truth_sha256"] == "0" * 64
    for name in ("python", "torch", "numpy", "device", "cpu", "cpus", "command", "nas-search"):
        assert name in told


def test_json_of_several_columns_is_a_list_of_reports(truth: Truth) -> None:
    reports, _ = rank_all([truth, other_column(truth)], "slow", "flat")
    loaded = json.loads(json.dumps(for_json(reports)), parse_constant=no_constant)
    assert loaded == [for_json([report]) for report in reports]


def test_csv_has_one_line_per_proxy(truth: Truth) -> None:
    report, _ = rank(truth, "slow", "flat")
    rows = list(csv.DictReader(io.StringIO(to_csv([report]))))
    assert list(rows[0])[:3] == ["proxy", "n", "failures"]
    assert [row["proxy"] for row in rows] == ["slow", "flat", "params", "flops"]
    for name in STATISTICS:
        estimate = report.row("slow").estimates[name]
        assert float(rows[0][name]) == estimate.value
        assert float(rows[0][f"{name}_low"]) == estimate.low
    assert rows[1]["spearman"] == rows[1]["spearman_high"] == ""


def test_csv_of_several_columns_names_them(truth: Truth) -> None:
    reports, _ = rank_all([truth, other_column(truth)], "slow", "flat")
    rows = list(csv.DictReader(io.StringIO(to_csv(reports))))
    assert rows == [
        {"truth_column": report.environment["truth_column"], **row}
        for report in reports
        for row in csv.DictReader(io.StringIO(to_csv([report])))
    ]
    assert [row["truth_column"] for row in rows] == ["c10_test_90"] * 4 + ["c100_test_90"] * 4


def test_rows_are_sorted_best_first(truth: Truth) -> None:
    report, _ = rank(truth, "flat", "backwards", "slow")
    for statistic in STATISTICS:
        values = [row.estimates[statistic].value for row in report.best_first(statistic)]
        defined = [value for value in values if not math.isnan(value)]
        assert defined == sorted(defined, reverse=not statistic.startswith("regret"))
        assert all(math.isnan(value) for value in values[len(defined) :])
    assert [row.proxy for row in report.best_first("spearman")] == [
        "slow", "params", "flops", "backwards", "flat",
    ]  # fmt: skip
    assert [row.proxy for row in report.rows] == ["flat", "backwards", "slow", *ALWAYS]
    with pytest.raises(NasError, match=r"no statistic named 'spearmn'. Did you mean 'spearman'"):
        report.best_first("spearmn")


def test_two_proxies_are_compared_on_the_same_resamples(truth: Truth) -> None:
    report, _ = rank(truth, "slow", "backwards")
    found = report.difference("slow", "backwards", n_boot=50)
    slow, backwards = (
        report.row(name).estimates["spearman"].value for name in ("slow", "backwards")
    )
    assert found.value == pytest.approx(slow - backwards)
    assert 0 < found.low < found.value < found.high
    with pytest.raises(NasError, match=r"no proxy 'meco' was ranked; ranked: slow, backwards"):
        report.difference("meco", "slow")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"sample": N + 1},
            r"sample must be from 2 to .* got 301; invented.csv: .* 300 known rows",
        ),
        ({"sample": 1}, r"got 1;"),
        ({"half": "evne"}, r"half must be 'even' or 'odd', got 'evne'"),
        ({"half": "odd", "sample": 200}, r"got 200; .* 150 of odd index"),
        ({"batch_size": 0}, r"batch_size must be at least 1"),
    ],
)
def test_what_cannot_be_done_is_said(truth: Truth, options: dict[str, Any], message: str) -> None:
    with pytest.raises(NasError, match=message):
        rank(truth, **options)


def test_a_truth_of_another_space_is_refused(truth: Truth) -> None:
    with pytest.raises(NasError, match="was read for the space nats_sss, not nats_tss"):
        rank_proxies(SPACES["nats_tss"], [], [truth], score=FakeScore())


def test_a_score_function_of_the_wrong_length_stops_the_run(truth: Truth) -> None:
    with pytest.raises(TypeError, match="params: 1 scores for 300 architectures"):
        rank_proxies(SSS, [], [truth], score=lambda specs, archs: [[1.0]])


@pytest.mark.parametrize("statistic", list(STATISTICS))
def test_a_figure_has_one_panel_per_column(truth: Truth, tmp_path: Path, statistic: str) -> None:
    specs = ("slow", "flat", "backwards:with=long,options=beside")
    reports, _ = rank_all([truth, other_column(truth)], *specs)
    plot(reports[:1], tmp_path / "one.png", statistic=statistic)
    plot(reports, tmp_path / "two.png", statistic=statistic)
    (height, one), (same, two) = (size_of(tmp_path / name) for name in ("one.png", "two.png"))
    assert height == same
    assert two > 1.5 * one
    assert sorted(file.name for file in tmp_path.iterdir()) == ["one.png", "two.png"]


def size_of(png: Path) -> tuple[int, int]:
    content = png.read_bytes()
    assert content.startswith(b"\x89PNG")
    return int.from_bytes(content[20:24]), int.from_bytes(content[16:20])  # height, width


def test_a_figure_shows_intervals_values_and_references(
    truth: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *args: Any, **options: Any) -> None:
        drawn.append(figure)
        save(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    names = [f"proxy_{number}" for number in range(24)]
    reports, _ = rank_all([truth, other_column(truth)], "backwards", *names, n_boot=5)
    plot(reports, tmp_path / "rank.png")
    for axes, report in zip(drawn[0].axes, reports, strict=True):
        value = {row.proxy: f"{row.estimates['spearman'].value:.3f}" for row in report.rows}
        (beside,) = axes.child_axes
        assert [label.get_text() for label in beside.get_yticklabels()] == [
            value[name] for name in (*names, "backwards")  # as in the first panel: the best on top
        ]  # fmt: skip
        legend = axes.get_legend()
        assert legend is not None
        assert [text.get_text() for text in legend.get_texts()] == [
            f"{name} {value[name]}" for name in ALWAYS
        ]
        assert len(axes.patches) == 25
        ends = [np.asarray(line.get_xdata()).tolist() for line in axes.lines]
        for name in (*names, "backwards"):
            estimate = report.row(name).estimates["spearman"]
            assert [estimate.low, estimate.high] in ends


def test_a_figure_needs_a_statistic_and_a_folder(truth: Truth, tmp_path: Path) -> None:
    report, _ = rank(truth)
    plot([report], tmp_path / "only_the_references.png")
    with pytest.raises(NasError, match=r"no statistic named 'r2'.* Known: kendall"):
        plot([report], tmp_path / "rank.png", statistic="r2")
    with pytest.raises(NasError, match="cannot be written"):
        plot([report], tmp_path / "nowhere" / "rank.png")


def test_the_engine_scores_by_default(truth: Truth) -> None:
    (report,) = rank_proxies(SSS, ["params"], [truth], sample=50, n_boot=20)
    costs = SSS.costs(np.asarray(report.archs))
    np.testing.assert_array_equal(report.row("params").scores, costs.params)
    np.testing.assert_array_equal(report.row("flops").scores, costs.flops)
    assert report.environment["conditions"]["resolution"] == 32
    with pytest.raises(NasError, match="no proxy named 'mecko'"):
        rank_proxies(SSS, ["mecko"], [truth])


@pytest.mark.parametrize(
    ("file", "space", "column", "published"),
    [  # Spearman of the parameter count, as reported for the whole space
        ("transnas_micro.csv.gz", "transnas_micro", "class_object", 0.531),
        ("transnas_micro.csv.gz", "transnas_micro", "class_scene", 0.695),
        ("nats_tss.csv.gz", "nats_tss", "c10_test_200", 0.753),
    ],
)
def test_params_on_real_tables(
    shared_data: Path, file: str, space: str, column: str, published: float
) -> None:
    truth = parse_truth(f"{shared_data / file}:{column}", SPACES[space])
    (report,) = rank_proxies(SPACES[space], [], [truth], n_boot=0)
    assert report.row("params").estimates["spearman"].value == pytest.approx(published, abs=0.001)
