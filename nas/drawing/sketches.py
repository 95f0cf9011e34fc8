"""Architectures drawn: the cells that were chosen, and the whole network around them.

Cells stand upright, their input on top, so that they fit a phone; an operation is named where it
sits: on an edge, or in a node (NAS-Bench-101).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.drawing.outline import Part, outline
from nas.drawing.plots import INKS, figure_of
from spaces.base import Arch, Space
from spaces.cell import CellSpace, Kind
from spaces.darts import CELLS, OPERATIONS, Darts
from spaces.nasbench101 import NasBench101
from spaces.own_cell import SizedCellSpace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _PAPER, _FAINT = (INKS[name].light for name in ("ink", "paper", "faint"))
_BLUE, _ORANGE, _GREEN, _PINK = (INKS[n].light for n in ("blue", "orange", "green", "pink"))

# kind of operation: colour, line style, line width
_LINES: dict[str, tuple[str, Any, float]] = {
    "none": (_FAINT, (0, (1, 2.5)), 0.9),
    "skip": (_INK, (0, (5, 2)), 1.4),
    "conv": (_BLUE, "solid", 2.2),
    "own": (_PINK, "solid", 2.2),
    "avg_pool": (_ORANGE, "solid", 1.7),
    "max_pool": (_GREEN, "solid", 1.7),
}
_DARTS_KINDS: dict[str, Kind] = {"sep_conv": "conv", "dil_conv": "own"}
# inches: between nodes, from the line to the first arc, from arc to arc, for the heading
_DROP, _FIRST, _STEP, _TITLE = 0.92, 0.98, 0.95, 0.75
_CLEAR, _THIN = 0.85, 0.35  # the same two where nodes are boxes and arcs have no names
_HEAD = 0.12  # inches: of an arrow
_ROW, _BOX = 0.44, 2.35  # inches: a row of a network, and the width of what stands in it
_TIMES = "\N{MULTIPLICATION SIGN}"
_NAME = 16  # characters of an operation


@dataclass(frozen=True)
class Link:
    """An arrow between two nodes, drawn in the way of its kind."""

    source: int
    target: int
    kind: Kind
    name: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell as it is drawn.

    Attributes:
        title: Which of an architecture's cells; empty where it has one only.
        nodes: Their names, from the input on.
        links: What leads from one to another.
        note: What the arrows do not say.
    """

    title: str
    nodes: list[str]
    links: list[Link]
    note: str = ""

    def words(self) -> str:
        """Return the cell in words, for who cannot see it."""
        ends = [
            f"{self.nodes[link.source]} to {self.nodes[link.target]}"
            + (f": {link.name}" if link.name else "")
            for link in self.links
        ]
        return f"{self.title or 'cell'}: {'; '.join(ends)}"


@singledispatch
def cells_of(space: Space, arch: Arch) -> list[Cell]:
    """Return the cells that an architecture chooses; none of a space of other choices."""
    return []


@cells_of.register
def _(space: CellSpace, arch: Arch) -> list[Cell]:
    nodes = ["in", *map(str, range(1, space.n_nodes - 1)), "out"]
    links = [
        Link(edge.source, edge.target, operation.kind, operation.name)
        for edge, operation in zip(space.edges, space.operations(arch), strict=True)
    ]
    return [Cell("", nodes, links)]


@cells_of.register
def _(space: SizedCellSpace, arch: Arch) -> list[Cell]:
    return cells_of(space.cell, arch[: len(space.cell.edges)])


@cells_of.register
def _(space: NasBench101, arch: Arch) -> list[Cell]:
    """The operations are the nodes, and the edges only copy."""
    groups = [group.split("~") for group in space.to_str(space.canonical(arch)).split("+")]
    wires = [(int(i), target) for target, (_, sources) in enumerate(groups, 1) for i in sources]
    used = sorted({0, len(groups), *(node for wire in wires for node in wire)})
    names = ["in", *(name for name, _ in groups[:-1]), "out"]
    links = [Link(used.index(i), used.index(j), "skip") for i, j in wires]
    return [Cell("", [names[node] for node in used], links)]


@cells_of.register
def _(space: Darts, arch: Arch) -> list[Cell]:
    nodes = ["c(k-2)", "c(k-1)", *map(str, range(4))]
    found = []
    for number, cell in enumerate(CELLS):
        links = []
        for source, target, place in space.edges(arch, number):
            op = OPERATIONS[place]
            kind = _DARTS_KINDS.get(op.kind, op.kind)
            links.append(Link(source, target, kind, op.name))  # type: ignore[arg-type]
        title = "normal cell" if cell == "normal" else "reduction cell"
        found.append(Cell(title, nodes, links, "output: nodes 0 to 3, concatenated"))
    return found


def draw_arch(space: Space, arch: Arch, caption: str = "", *, resolution: int = 32) -> Figure:
    """Draw one architecture under its official string.

    Its cells; where it chooses none, its whole network; of a space that says nothing about its
    networks, one bar per choice.

    Args:
        space: Where the architecture lives.
        arch: What to draw.
        caption: A line below the official string, such as score and size.
        resolution: Height and width of the image, pixels.
    """
    cells = cells_of(space, arch)
    boxes = [_extent(cell) for cell in cells]
    parts = outline(space, arch, num_classes=10, resolution=resolution)
    if not cells and parts:
        boxes = [_network_extent(parts)]
    if not boxes:
        return _draw_bars(list(arch), space.to_str(arch), caption)
    length, height = sum(box.width for box in boxes), max(box.height for box in boxes)
    width = max(length, 7.5)
    figure = figure_of(width, height + _TITLE)
    left = (width - length) / 2
    for number, box in enumerate(boxes):
        bottom = (height - box.height) / (height + _TITLE)
        place = (left / width, bottom, box.width / width, box.height / (height + _TITLE))
        axes = _plain(figure, place, box)
        if cells:
            _draw_cell(axes, cells[number])
        else:
            _draw_parts(axes, parts)
        left += box.width
    _heading(figure, space.to_str(arch), caption)
    return figure


def draw_cell(cell: Cell) -> Figure:
    """Draw one cell by itself, without its title."""
    cell = replace(cell, title="")
    box = _extent(cell)
    figure = figure_of(box.width, box.height)
    _draw_cell(_plain(figure, (0, 0, 1, 1), box), cell)
    return figure


def draw_network(parts: Sequence[Part]) -> Figure:
    """Draw a whole network, that :func:`~nas.drawing.outline.outline` returns."""
    box = _network_extent(parts)
    figure = figure_of(box.width, box.height)
    _draw_parts(_plain(figure, (0, 0, 1, 1), box), parts)
    return figure


@dataclass(frozen=True)
class _Box:
    """Room in inches, around the place where a drawing begins."""

    left: float
    right: float
    bottom: float
    top: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.top - self.bottom


def _plain(figure: Figure, place: tuple[float, float, float, float], box: _Box) -> Axes:
    """Return axes without axes, of which one unit is one inch."""
    axes = figure.add_axes(place)
    axes.set_xlim(box.left, box.right)
    axes.set_ylim(box.bottom, box.top)
    axes.set_axis_off()
    return axes


def arc_levels(edges: Iterable[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """Return how far each edge arches from the line of nodes: 0 straight, positive to the right.

    Edges between neighbours are straight. The others, short ones first, take the nearest free
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


def _offset(level: int, *, named: bool) -> float:
    """Return how many inches from the line of nodes an arc of a level gets."""
    if level == 0:
        return 0.0
    first, step = (_FIRST, _STEP) if named else (_CLEAR, _THIN)
    return (1 if level > 0 else -1) * (first + (abs(level) - 1) * step)


def _extent(cell: Cell) -> _Box:
    levels = arc_levels((link.source, link.target) for link in cell.links)
    named = any(link.name for link in cell.links)
    margin = 0.55 if named else 0.15
    offsets = [0.0, *(_offset(level, named=named) for level in levels.values())]
    least = 0.75  # beside the nodes themselves
    bottom = -_DROP * (len(cell.nodes) - 1) - 0.35 - (0.3 if cell.note else 0)
    return _Box(
        left=min(-least, min(offsets) - margin),
        right=max(least, max(offsets) + margin),
        bottom=bottom,
        top=0.35 + (0.3 if cell.title else 0),
    )


def _draw_cell(axes: Axes, cell: Cell) -> None:
    """Draw nodes in a column and what leads from one to another."""
    levels = arc_levels((link.source, link.target) for link in cell.links)
    named = any(link.name for link in cell.links)
    halves = [_draw_node(axes, name, -_DROP * place) for place, name in enumerate(cell.nodes)]
    for link in cell.links:
        _draw_link(axes, link, halves, _offset(levels[link.source, link.target], named=named))
    middle: dict[str, Any] = {"ha": "center", "va": "center"}
    if cell.title:
        axes.text(0, 0.48, cell.title, fontsize=10, weight="bold", **middle)
    if cell.note:
        below = -_DROP * (len(cell.nodes) - 1) - 0.45
        axes.text(0, below, cell.note, fontsize=9, color=_FAINT, **middle)


def _draw_node(axes: Axes, name: str, y: float) -> tuple[float, float]:
    """Draw a node and return half of its width and of its height."""
    from matplotlib.patches import Circle, FancyBboxPatch

    style: dict[str, Any] = {"facecolor": _PAPER, "edgecolor": _INK, "zorder": 4}
    if len(name) <= 3:
        half = (0.21, 0.21)
        axes.add_artist(Circle((0, y), half[0], **style))
    else:
        half = (max(0.3, 0.045 * len(name) + 0.06), 0.17)
        box = "round,pad=0,rounding_size=0.12"
        place = (-half[0], y - half[1])
        axes.add_artist(FancyBboxPatch(place, 2 * half[0], 2 * half[1], boxstyle=box, **style))
    axes.text(0, y, name, ha="center", va="center", fontsize=9.5, zorder=5)
    return half


def _draw_link(
    axes: Axes, link: Link, halves: Sequence[tuple[float, float]], offset: float
) -> None:
    colour, style, width = _LINES[link.kind]
    start, end = -_DROP * link.source, -_DROP * link.target
    _draw_arrow(
        axes, (start, end), offset, halves[link.target], color=colour, linestyle=style, lw=width
    )
    if link.name:
        name = link.name if len(link.name) <= _NAME else f"{link.name[: _NAME - 1]}…"
        axes.text(
            offset, (start + end) / 2, name, ha="center", va="center", fontsize=9, zorder=3,
            color=colour,
            bbox={"boxstyle": "round,pad=0.15", "facecolor": _PAPER, "edgecolor": "none"},
        )  # fmt: skip


def _draw_arrow(
    axes: Axes,
    ends: tuple[float, float],
    offset: float,
    half: tuple[float, float],
    **style: Any,  # noqa: ANN401 - matplotlib's
) -> None:
    """Draw an arrow down the line of nodes, on which it begins behind one and ends before another.

    Args:
        axes: Of which one unit is one inch.
        ends: Heights of the two nodes.
        offset: How far the arc gets from the line.
        half: Half of the width and of the height of the node at its end.
        style: Of the line.
    """
    from matplotlib.patches import PathPatch, Polygon
    from matplotlib.path import Path

    start, end = ends
    control = np.asarray([2 * offset, (start + end) / 2])  # an arc gets half as far as this
    corners = np.asarray([[0.0, start], control, [0.0, end]])
    t = np.linspace(0, 1, 201)[:, None]
    curve = (1 - t) ** 2 * corners[0] + 2 * t * (1 - t) * corners[1] + t**2 * corners[2]
    beyond = (np.abs(curve - corners[2]) / half > 1).any(axis=1)  # outside of the node's box
    if half[0] == half[1]:
        beyond = np.linalg.norm(curve - corners[2], axis=1) > half[0]
    tip = curve[np.flatnonzero(beyond)[-1]]
    far = np.flatnonzero(np.linalg.norm(curve - tip, axis=1) > _HEAD)
    last = far[far < np.flatnonzero(beyond)[-1]][-1]
    base = curve[last]
    across = np.asarray([tip[1] - base[1], base[0] - tip[0]]) * 0.42
    cut = float(t[last, 0])
    bent = corners[0] + cut * (corners[1] - corners[0])  # of the curve up to there
    path = Path(np.asarray([corners[0], bent, base]), [Path.MOVETO, Path.CURVE3, Path.CURVE3])
    axes.add_artist(PathPatch(path, fill=False, zorder=2, **style))
    head = np.asarray([tip, base + across, base - across])
    axes.add_artist(Polygon(head, closed=True, color=style["color"], lw=0, zorder=2))


def _network_extent(parts: Sequence[Part]) -> _Box:
    return _Box(-_BOX / 2 - 0.1, _BOX / 2 + 1.75, -_ROW * len(parts) + 0.12, 0.3)


def _draw_parts(axes: Axes, parts: Sequence[Part]) -> None:
    """Draw a column of boxes, one per row of equal modules, with what leaves each."""
    from matplotlib.patches import FancyBboxPatch

    for place, part in enumerate(parts):
        y = -_ROW * place
        for behind in reversed(range(1 + (part.repeat > 1))):  # a second box: there are several
            shift = 0.045 * behind
            axes.add_artist(
                FancyBboxPatch(
                    (-_BOX / 2 + shift, y - 0.13 - shift), _BOX, 0.26,
                    boxstyle="round,pad=0,rounding_size=0.06", facecolor=_PAPER,
                    edgecolor=_BLUE if part.chosen else _FAINT,
                    linewidth=1.6 if part.chosen else 0.9, zorder=3 - behind,
                )
            )  # fmt: skip
        name = part.label + (f"  {_TIMES}{part.repeat}" if part.repeat > 1 else "")
        axes.text(0, y, name, ha="center", va="center", fontsize=9, zorder=4)
        axes.text(_BOX / 2 + 0.12, y, _shape(part), ha="left", va="center", fontsize=9)
        if place:
            _draw_arrow(axes, (y + _ROW, y), 0.0, (_BOX / 2, 0.13), color=_FAINT, lw=1)


def _shape(part: Part) -> str:
    if part.size == 1:
        return f"{part.channels:,} outputs"
    return f"{part.channels:,} ch, {part.size}{_TIMES}{part.size}"


def network_words(parts: Sequence[Part]) -> str:
    """Return a whole network in words, for who cannot see it."""
    return "; ".join(
        f"{part.repeat} x {part.label}, {_shape(part)}"
        if part.repeat > 1
        else f"{part.label}, {_shape(part)}"
        for part in parts
    )


def _draw_bars(heights: list[int], text: str, caption: str) -> Figure:
    figure = figure_of(7.0, 3.6)
    axes = figure.add_axes((0.09, 0.15, 0.88, 0.6))
    bars = axes.bar(range(1, len(heights) + 1), heights, color=_BLUE, width=0.6)
    axes.bar_label(bars, padding=2)
    axes.set_xlabel("choice")
    axes.set_ylabel("value")
    axes.set_ylim(0, max([*heights, 1]) * 1.15)
    axes.spines[["top", "right"]].set_visible(False)
    _heading(figure, text, caption)
    return figure


def _heading(figure: Figure, text: str, caption: str) -> None:
    """Write the official string, at most three lines of it, and the caption into the top margin."""
    width, height = figure.get_size_inches()
    lines = list(_wrapped(text, int(width * 13)))[:3]
    top = 1 - 0.12 / height
    style: dict[str, Any] = {"ha": "center", "va": "top"}
    figure.text(0.5, top, "\n".join(lines), fontsize=8, family="monospace", **style)
    below = 1 - (0.12 + 0.16 * len(lines) + 0.06) / height
    figure.text(0.5, below, caption, fontsize=10, **style)


def _wrapped(text: str, width: int) -> Iterator[str]:
    """Break a long official string where its parts end."""
    line = ""
    for part in text.replace("+", " +").replace("), (", ") , (").split(" "):
        if line and len(line) + len(part) > width:
            yield line
            line = ""
        line += part
    yield line
