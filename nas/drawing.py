"""Pictures of a run: architectures, scores in the order they came, curves of trainings.

Each function returns a matplotlib ``Figure`` made without pyplot, so nothing global is touched
and no window can open; ``figure.savefig(path)`` writes it.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spaces.base import Arch, Space
from spaces.cell import CellSpace, Kind
from spaces.chain import ChainSpace
from spaces.darts import CELLS, GRAPH_OPERATIONS, NODES, Darts
from spaces.nasbench101 import NasBench101
from spaces.nats_sss import NatsSss
from spaces.own_cell import SizedCellSpace
from spaces.transnas_macro import TransnasMacro

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

# kind of operation: colour (Okabe & Ito, told apart by the colour-blind), line style, line width
_LINES = {
    "none": ("#8a8a8a", (0, (1, 2)), 1.0),
    "skip": ("#555555", (0, (5, 2)), 1.6),
    "conv": ("#0072b2", "solid", 2.4),
    "own": ("#cc79a7", "solid", 2.4),
    "avg_pool": ("#d55e00", "solid", 1.8),
    "max_pool": ("#009e73", "solid", 1.8),
}
_POINT, _BEST, _FAILED = "#9fb8cc", "#0072b2", "#d55e00"
_CURVES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#555555")
_NAMED = 12  # curves that a legend names
_NAMED_CLASSES = 20  # of which a picture can show the names
_WORTH_A_NUMBER = 0.02  # share of a class
_DPI = 150
_SPAN, _RISE, _TITLE = 2.3, 0.95, 0.75  # inches between nodes, between arcs, and for the heading


def draw_arch(space: Space, arch: Arch, caption: str = "") -> Figure:
    """Draw one architecture.

    Cells are drawn as nodes and edges, with the name of each operation where it sits; layers or
    blocks in a row as a bar for the channels of each; anything else as a bar for each choice.

    Args:
        space: Where the architecture lives.
        arch: What to draw.
        caption: A line below the official string, such as score and size.
    """
    text = space.to_str(arch)
    if isinstance(space, SizedCellSpace):
        return _draw_cell(space.cell, arch[: len(space.cell.edges)], text, caption)
    if isinstance(space, CellSpace):
        return _draw_cell(space, arch, text, caption)
    if isinstance(space, NasBench101):
        return _draw_101(text, caption)
    if isinstance(space, Darts):
        return _draw_darts(space, arch, text, caption)
    channels = _channels(space, arch)
    if channels:
        return _draw_bars(channels, text, caption, "channels")
    return _draw_bars(list(arch), text, caption, "choice")


def _draw_darts(space: Darts, arch: Arch, text: str, caption: str) -> Figure:
    """Draw the normal cell and, below it, the reduction; the output joins all nodes but inputs."""
    cells = []
    for number, cell in enumerate(CELLS):
        links = [
            _Link(source, target, GRAPH_OPERATIONS[op].kind, GRAPH_OPERATIONS[op].name)
            for source, target, op in space.edges(arch, number)
        ]
        cells.append(([f"{cell} -2", f"{cell} -1", *map(str, NODES)], links))
    return _draw_graphs(cells, text, caption)


def _draw_cell(space: CellSpace, arch: Arch, text: str, caption: str) -> Figure:
    names = ["in", *map(str, range(1, space.n_nodes - 1)), "out"]
    links = [
        _Link(edge.source, edge.target, operation.kind, operation.name)
        for edge, operation in zip(space.edges, space.operations(arch), strict=True)
    ]
    return _draw_graph(names, links, text, caption)


def _draw_101(text: str, caption: str) -> Figure:
    """Draw a cell of NAS-Bench-101, whose operations are the nodes and whose edges only copy."""
    groups = [group.split("~") for group in text.split("+")]
    wires = [(int(i), target) for target, (_, sources) in enumerate(groups, 1) for i in sources]
    used = sorted({0, len(groups), *(node for wire in wires for node in wire)})
    names = ["in", *(name for name, _ in groups[:-1]), "out"]
    links = [_Link(used.index(i), used.index(j), "skip") for i, j in wires]
    return _draw_graph([names[node] for node in used], links, text, caption)


@dataclass(frozen=True)
class _Link:
    """An arrow between two nodes, drawn in the way of its kind."""

    source: int
    target: int
    kind: Kind
    name: str = ""


def _draw_graph(names: list[str], links: list[_Link], text: str, caption: str) -> Figure:
    return _draw_graphs([(names, links)], text, caption)


def _draw_graphs(graphs: list[tuple[list[str], list[_Link]]], text: str, caption: str) -> Figure:
    """Draw graphs below each other: nodes in a row and what leads from one to another."""
    found = [arc_levels((link.source, link.target) for link in links) for _, links in graphs]
    heights = []
    for levels in found:
        above, below = max(0, *levels.values()), max(0, *(-level for level in levels.values()))
        heights.append((_RISE * above + 0.5, _RISE * below + 0.5))
    length = max(_SPAN * (len(names) - 1) for names, _ in graphs)
    width = max(length + 1.2, 7.5)
    total = sum(map(sum, heights)) + _TITLE
    figure = _figure(width, total)
    top = total - _TITLE
    for (names, links), levels, (up, down) in zip(graphs, found, heights, strict=True):
        top -= up + down
        axes = figure.add_axes((0, top / total, 1, (up + down) / total))  # one unit is one inch
        axes.set_xlim((length - width) / 2, (length + width) / 2)
        axes.set_ylim(-down, up)
        axes.set_axis_off()
        nodes = [_draw_node(axes, _SPAN * place, name) for place, name in enumerate(names)]
        for link in links:
            _draw_link(axes, link, nodes, _RISE * levels[link.source, link.target])
    _title(figure, text, caption)
    return figure


def _draw_node(axes: Axes, x: float, name: str) -> Patch:
    from matplotlib.patches import Circle, FancyBboxPatch

    style: dict[str, Any] = {"facecolor": "white", "edgecolor": "black", "zorder": 4}
    box = "round,pad=0,rounding_size=0.2"
    node: Patch = (
        Circle((x, 0), 0.24, **style)
        if len(name) <= 3
        else FancyBboxPatch((x - 0.5, -0.22), 1.0, 0.44, boxstyle=box, **style)
    )
    axes.add_patch(node)
    axes.text(x, 0, name, ha="center", va="center", fontsize=10.5, zorder=5)
    return node


def arc_levels(edges: Iterable[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """Return how high each edge arches over the line of nodes: 0 straight, positive above.

    Edges between neighbours are straight. The others, short ones first, take the lowest free
    level on the emptier side, so that no two arcs whose spans overlap share a level.
    """
    levels: dict[tuple[int, int], int] = {}
    for source, target in sorted(edges, key=lambda ends: (ends[1] - ends[0], ends)):
        if target - source == 1:
            levels[source, target] = 0
            continue
        level = 1
        while True:
            taken = {
                found
                for (a, b), found in levels.items()
                if abs(found) == level and a < target and source < b
            }
            free = [side for side in (level, -level) if side not in taken]
            if free:
                levels[source, target] = free[0]
                break
            level += 1
    return levels


def _draw_link(axes: Axes, link: _Link, nodes: list[Patch], rise: float) -> None:
    from matplotlib.patches import FancyArrowPatch

    colour, style, width = _LINES[link.kind]
    start, end = _SPAN * link.source, _SPAN * link.target
    # "arc3" puts the one control point at rad times the distance, twice as far as the curve gets
    bend = -2 * rise / (end - start)
    axes.add_patch(
        FancyArrowPatch(
            (start, 0), (end, 0), connectionstyle=f"arc3,rad={bend}", patchA=nodes[link.source],
            patchB=nodes[link.target], shrinkA=0, shrinkB=1, arrowstyle="-|>", mutation_scale=14,
            color=colour, linestyle=style, linewidth=width, zorder=2,
        )
    )  # fmt: skip
    if link.name:
        axes.text(
            (start + end) / 2, rise, link.name, ha="center", va="center", fontsize=9.5, zorder=3,
            color=colour,
            bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none"},
        )  # fmt: skip


def _channels(space: Space, arch: Arch) -> list[int]:
    """Return the channels of every layer, block or module; none where a space does not say."""
    if isinstance(space, ChainSpace):
        return [block.c_out for block in space.blocks(arch)]
    if isinstance(space, NatsSss | TransnasMacro):
        widths = space.channels(np.asarray([arch], dtype=np.int64))[0].tolist()
        return [width for width in widths if width]
    return []


def _draw_bars(heights: list[int], text: str, caption: str, what: str) -> Figure:
    figure = _figure(7.0, 3.6)
    axes = figure.add_axes((0.09, 0.15, 0.88, 0.6))
    bars = axes.bar(range(1, len(heights) + 1), heights, color=_BEST, width=0.6)
    axes.bar_label(bars, padding=2)
    axes.set_xticks(range(1, len(heights) + 1))
    axes.set_xlabel("layer" if what == "channels" else "place")
    axes.set_ylabel(what)
    axes.set_ylim(0, max([*heights, 1]) * 1.15)
    axes.spines[["top", "right"]].set_visible(False)
    _title(figure, text, caption)
    return figure


def draw_scores(
    scores: Sequence[float | None], *, title: str, proxy: str, maximise: bool = True
) -> Figure:
    """Draw every score in the order it came, and the best so far.

    Args:
        scores: One per trial, ``None`` where the architecture could not be scored.
        title: The heading.
        proxy: What the scores are, for the axis.
        maximise: Whether a high score is good.
    """
    from matplotlib.ticker import MaxNLocator

    values = np.asarray([np.nan if score is None else score for score in scores], dtype=float)
    numbers = np.arange(1, len(values) + 1)
    failed = np.isnan(values)
    figure = _figure(7.0, 4.0, layout="constrained")
    axes = figure.add_subplot()
    axes.scatter(
        numbers[~failed],
        values[~failed],
        s=12 if len(values) <= 1000 else 4,
        color=_POINT,
        linewidths=0,
        label="architecture",
    )
    if not failed.all():
        best = np.fmax.accumulate(values) if maximise else np.fmin.accumulate(values)
        axes.step(numbers, best, where="post", color=_BEST, linewidth=1.8, label="best so far")
    if failed.any():
        axes.plot(
            numbers[failed], np.zeros(failed.sum()), "x", color=_FAILED, markersize=6,
            clip_on=False, transform=axes.get_xaxis_transform(), label=f"failed ({failed.sum()})",
        )  # fmt: skip
    axes.set_xlim(0.5 - 0.02 * len(values), 0.5 + 1.02 * max(len(values), 1))
    axes.set_xlabel("architectures scored")
    axes.set_ylabel(proxy if len(proxy) <= 40 else proxy[:37] + "...")
    axes.set_title(textwrap.shorten(title, 80), fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(values):
        figure.legend(loc="outside lower right", ncols=3, frameon=False, fontsize=9)
    return figure


def draw_curves(curves: Mapping[str, Sequence[tuple[float, float | None]]]) -> Figure:
    """Draw accuracy over the epochs of some trainings.

    Args:
        curves: By label, for each epoch the accuracy (per cent) on training images, and on
            validation images where there was a look.
    """
    figure = _figure(7.0, 4.0, layout="constrained")
    axes = figure.add_subplot()
    for number, (label, epochs) in enumerate(curves.items()):
        colour = _CURVES[number % len(_CURVES)]
        at = np.arange(1, len(epochs) + 1)
        axes.plot(at, [x for x, _ in epochs], color=colour, alpha=0.45, linewidth=1.2)
        looked = [(i, y) for i, (_, y) in zip(at, epochs, strict=True) if y is not None]
        shown = label if number < _NAMED else "_"
        if looked:
            axes.plot(*zip(*looked, strict=True), color=colour, marker=".", label=shown)
        else:
            axes.plot([], [], color=colour, label=shown)
    axes.set_xlabel("epoch")
    axes.set_ylabel("accuracy, % (faint: training images)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    if curves:
        figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure


def draw_confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> Figure:
    """Draw what images of each class (rows) are taken for (columns), as shares of the class."""
    counts = np.asarray(matrix, dtype=float)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    few = len(classes) <= _NAMED_CLASSES
    figure = _figure(5.6, 5.0, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("taken for")
    axes.set_ylabel("is")
    if few:
        places = range(len(classes))
        axes.set_xticks(places, classes, rotation=60, ha="right", fontsize=8)
        axes.set_yticks(places, classes, fontsize=8)
        for i, row in enumerate(shares):
            for j, share in enumerate(row):
                if share >= _WORTH_A_NUMBER:
                    colour = "white" if share > 0.5 else "black"
                    text = f"{100 * share:.0f}"
                    axes.text(j, i, text, ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the class")
    return figure


def draw_agreement(
    points: Mapping[str, Sequence[tuple[float, float]]], across: str, up: str
) -> Figure:
    """Draw one number of architectures against another, groups in colours of their own."""
    figure = _figure(5.6, 4.2, layout="constrained")
    axes = figure.add_subplot()
    for number, (label, pairs) in enumerate(points.items()):
        x, y = zip(*pairs, strict=True)
        axes.scatter(x, y, s=26, color=_CURVES[number % len(_CURVES)], label=label or None)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    if any(points):
        axes.legend(frameon=False, fontsize=8)
    return figure


def as_svg(figure: Figure) -> str:
    """Return a picture as the text of an SVG element, to stand inside of a page."""
    import matplotlib as mpl  # late, as below

    buffer = io.StringIO()
    # Nothing about its making, and the names of its parts from its content: the same picture is the
    # same text.
    with mpl.rc_context({"svg.hashsalt": "nas", "svg.fonttype": "none"}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def draw_front(
    points: Sequence[Sequence[float]], front: Sequence[int], *, title: str, names: Sequence[str]
) -> Figure:
    """Draw what was scored by its first two objectives, and the front of trade-offs.

    Of two objectives the front is a staircase: between two architectures there is none better. Of
    more it is no line in this plane, so its members are marked only. Where a tenth of the scored
    would take most of the height, such as networks that nothing reaches, they are left out, and
    counted.

    Args:
        points: One row per architecture that was scored, in the objectives' own units.
        front: Which of them are on the front, in the order of the first objective.
        title: The heading.
        names: The objectives, for the axes; the first goes upwards.
    """
    from matplotlib.ticker import EngFormatter

    values = np.asarray([list(point[:2]) for point in points], dtype=float).reshape(-1, 2)
    figure = _figure(7.0, 4.5, layout="constrained")
    axes = figure.add_subplot()
    axes.scatter(
        values[:, 1], values[:, 0], s=12 if len(values) <= 1000 else 4, color=_POINT,
        linewidths=0, label="architecture",
    )  # fmt: skip
    best = values[list(front)]
    several = len(names) > 2
    label = f"front of all {len(names)} objectives" if several else "front"
    steps: dict[str, Any] = {"linestyle": "none"} if several else {"drawstyle": "steps-pre"}
    axes.plot(
        best[:, 1], best[:, 0], color=_BEST, marker="o", markersize=4, linewidth=1.2, label=label,
        **steps,
    )  # fmt: skip
    low, high, left_out = _height(values[:, 0])
    if left_out:
        axes.set_ylim(low, high)
        axes.annotate(
            f"{left_out} outside of this height", (1, 0), xycoords="axes fraction",
            xytext=(-4, 4), textcoords="offset points", ha="right", fontsize=8, color=_FAILED,
        )  # fmt: skip
    for axis, column in ((axes.xaxis, 1), (axes.yaxis, 0)):
        if len(values) and np.abs(values[:, column]).max() >= 1e5:
            axis.set_major_formatter(EngFormatter(sep="\N{THIN SPACE}"))
    axes.set_xlabel(names[1])
    axes.set_ylabel(names[0])
    axes.set_title(textwrap.shorten(title, 80), fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower right", ncols=2, frameon=False, fontsize=9)
    return figure


def _height(values: NDArray[np.float64]) -> tuple[float, float, int]:
    """Return the ends of an axis, and how many values it leaves out.

    It leaves out the tenth farthest from the others where that makes the axis a third as long.
    """
    if len(values) < 10:
        return 0.0, 0.0, 0
    low, high = np.quantile(values, [0.05, 0.95])
    reach = 0.25 * (high - low)
    bottom, top = max(values.min(), low - 2 * reach), min(values.max(), high + 2 * reach)
    if reach == 0 or top - bottom > (values.max() - values.min()) / 3:
        return 0.0, 0.0, 0
    margin = 0.05 * (top - bottom)
    left_out = int(((values < bottom) | (values > top)).sum())
    return float(bottom - margin), float(top + margin), left_out


def _figure(width: float, height: float, **settings: Any) -> Figure:  # noqa: ANN401 - matplotlib's
    from matplotlib.figure import Figure  # late: a program that draws nothing should not load it

    return Figure(figsize=(width, height), dpi=_DPI, facecolor="white", **settings)


def _title(figure: Figure, text: str, caption: str) -> None:
    """Write the official string, at most two lines of it, and the caption into the top margin."""
    width, height = figure.get_size_inches()
    lines = _wrapped(text, int(width * 11))
    top = 1 - 0.16 / height
    figure.text(0.5, top, "\n".join(lines), ha="center", va="top", fontsize=8.5, family="monospace")
    below = 1 - (0.16 + 0.17 * len(lines) + 0.08) / height
    figure.text(0.5, below, caption, ha="center", va="top", fontsize=10)


def _wrapped(text: str, width: int) -> list[str]:
    """Break a long official string before its ``+`` signs, where NATS-Bench has them."""
    lines = [""]
    for part in text.replace("+", " +").split(" "):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return lines
