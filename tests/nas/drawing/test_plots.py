"""Pictures: readable in both modes, small, and the same in a page as in a file."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import label

from nas.drawing.plots import (
    INKS,
    as_svg,
    draw_agreement,
    draw_scores,
    draw_trade_off,
    save_figures,
)
from nas.drawing.sketches import arc_levels, cells_of, draw_arch, draw_cell
from spaces import DARTS, NASBENCH101, NATS_SSS, NATS_TSS, SPACES
from spaces.errors import NasError


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("name", [name for name in INKS if name not in ("paper", "line")])
def test_inks_have_contrast_in_both_modes(mode: str, name: str) -> None:
    ink, paper = (getattr(INKS[which], mode) for which in (name, "paper"))
    # WCAG AA: 4.5 for text, 3 for a mark that has to be seen
    assert contrast(ink, paper) >= (3.0 if name == "point" else 4.5)


def test_contrast_is_computed_as_the_standard_does() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_no_two_inks_are_the_same_in_a_picture() -> None:
    light = [ink.light for ink in INKS.values()]
    assert len(set(light)) == len(light)


def test_a_picture_in_a_page_follows_its_colours_and_says_what_it_shows() -> None:
    figure = draw_scores([1.0, None, 3.0], proxy="a < b")
    text = as_svg(figure, 'three "scores"', key="one")
    assert 'role="img" aria-label="three &quot;scores&quot;"' in text
    assert re.findall(r"#[0-9a-f]{6}", text) == []
    assert "var(--blue)" in text
    assert "var(--orange)" in text  # the failure
    assert "a &lt; b" in text
    assert "<metadata" not in text
    assert not re.search(r'<svg [^>]* width="', text)


def test_every_point_is_seen_in_a_file() -> None:
    figure = draw_scores([float(x * 7 % 30) for x in range(30)], proxy="x")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    pixels = np.asarray(Image.open(buffer).convert("RGB"), dtype=np.int64)
    ink = np.asarray([int(INKS["point"].light[i : i + 2], 16) for i in (1, 3, 5)])
    _, dots = label(np.abs(pixels - ink).sum(axis=2) < 30)
    assert dots > 25  # and one in the legend; some lie under the line of the best


def test_a_front_of_two_is_a_staircase_and_one_of_more_is_no_line() -> None:
    def front(**settings: Any) -> Any:
        (axes,) = draw_trade_off([1, 2, 3], [5, 1, 9], [0, 2], names=("x", "y"), **settings).axes
        (line,) = (x for x in axes.lines if str(x.get_label()).startswith("front"))
        return line

    assert front().get_drawstyle() == "steps-post"  # less of x is better: 5 until x is 3
    assert front(more_is_better=True).get_drawstyle() == "steps-pre"
    assert front(of=3).get_linestyle() == "None"
    (axes,) = draw_trade_off([1, 2, 3], [5, 1, 9], [0], names=("x", "y"), least=4.0).axes
    assert axes.get_ylim()[0] == 4.0
    assert [text.get_text() for text in axes.texts] == ["1 below"]


def test_points_of_one_place_are_drawn_once_and_many_take_little_room() -> None:
    rng = np.random.default_rng(0)
    few = as_svg(draw_agreement({"": [(1.0, 2.0)] * 5000 + [(2.0, 3.0)]}, "x", "y"))
    many = as_svg(draw_agreement({"": list(zip(*rng.random((2, 15_625)), strict=True))}, "x", "y"))
    assert len(few) < 20_000
    assert 100_000 < len(many) < 700_000


def test_pictures_become_files_or_say_why_not(tmp_path: Path) -> None:
    figures = {"a": draw_trade_off([1, 2], [1, 2], [0], names=("x", "y"), marked=[1])}
    (path,) = save_figures(figures, tmp_path / "new", "svg")
    assert "#0069a8" in path.read_text()  # a file has colours of its own
    with pytest.raises(NasError, match="expected svg or png, got 'pdf'"):
        save_figures(figures, tmp_path, "pdf")
    (tmp_path / "file").write_text("")
    with pytest.raises(NasError, match="cannot write pictures"):
        save_figures(figures, tmp_path / "file" / "x", "png")


def test_a_cell_of_edges_is_read_from_the_architecture() -> None:
    text = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|"
    (cell,) = cells_of(NATS_TSS, NATS_TSS.from_str(text))
    assert cell.nodes == ["in", "1", "2", "out"]
    assert [(x.source, x.target, x.kind, x.name) for x in cell.links[:3]] == [
        (0, 1, "conv", "nor_conv_3x3"),
        (0, 2, "none", "none"),
        (1, 2, "skip", "skip_connect"),
    ]
    assert cell.words().startswith("cell: in to 1: nor_conv_3x3; in to 2: none; 1 to 2: skip_")


def test_a_cell_of_nodes_names_its_operations_and_leaves_out_what_leads_nowhere() -> None:
    text = "conv3x3~0+conv1x1~0+maxpool3x3~12+conv3x3~+conv3x3~+output~3"
    (cell,) = cells_of(NASBENCH101, NASBENCH101.from_str(text))
    assert sorted(cell.nodes) == ["conv1x1", "conv3x3", "in", "maxpool3x3", "out"]
    assert len(cell.links) == 5
    dead = NASBENCH101.from_str("conv3x3~0+conv1x1~1+maxpool3x3~+conv3x3~+conv3x3~+output~1")
    (cell,) = cells_of(NASBENCH101, dead)
    assert cell.nodes == ["in", "conv3x3", "out"]


def test_darts_has_two_cells_of_eight_edges() -> None:
    normal, reduction = cells_of(DARTS, DARTS.sample(np.random.default_rng(0)))
    assert (normal.title, reduction.title) == ("normal cell", "reduction cell")
    assert [len(cell.links) for cell in (normal, reduction)] == [8, 8]
    assert normal.nodes == ["c(k-2)", "c(k-1)", "0", "1", "2", "3"]
    assert {link.target for link in normal.links} == {2, 3, 4, 5}


def test_arcs_on_one_side_and_level_never_overlap() -> None:
    pairs = [(i, j) for j in range(6) for i in range(j)]
    levels = arc_levels(pairs)
    assert all(levels[i, j] == 0 for i, j in pairs if j == i + 1)
    for (a, b), level in levels.items():
        for (c, d), other in levels.items():
            if level == other != 0 and (a, b) != (c, d):
                assert b <= c or d <= a


@pytest.mark.parametrize("name", SPACES)
def test_every_space_is_drawn(name: str, tmp_path: Path) -> None:
    space = SPACES[name]
    arch = space.sample(np.random.default_rng(1))
    draw_arch(space, arch, "caption").savefig(tmp_path / "a.png", dpi=30)
    for cell in cells_of(space, arch):
        text = as_svg(draw_cell(cell), cell.words())
        for link in cell.links:
            assert link.name in text
    assert cells_of(NATS_SSS, (0,) * 5) == []
