"""Pictures of a run: scores in the order they came, trade-offs, agreement, curves of trainings.

Each function returns a matplotlib ``Figure`` made without pyplot, so nothing global is touched
and no window can open; ``figure.savefig(path)`` writes it, :func:`as_svg` puts it into a page.
Architectures are drawn by :mod:`nas.drawing.sketches`.
"""

from __future__ import annotations

import html
import io
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spaces.errors import NasError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Ink(NamedTuple):
    """One colour in both modes; pictures are drawn in the light one.

    Attributes:
        light: On :data:`INKS` ``["paper"]`` in light mode.
        dark: In dark mode.
    """

    light: str
    dark: str


#: By the name of its CSS variable. The numbered ones are hues of Okabe & Ito, which the
#: colour-blind tell apart, dark or light enough for text (4.5 : 1) in either mode.
INKS = {
    "ink": Ink("#000000", "#e6edf3"),
    "paper": Ink("#ffffff", "#0d1117"),
    "faint": Ink("#57606a", "#9ba4ae"),
    "line": Ink("#d0d7de", "#30363d"),
    "point": Ink("#6b90b0", "#6286a8"),
    "blue": Ink("#0069a8", "#58b4f0"),
    "orange": Ink("#b34a00", "#f4975e"),
    "green": Ink("#00755a", "#45c49b"),
    "pink": Ink("#a8417b", "#e79bc6"),
    "violet": Ink("#6450b5", "#b3a4f0"),
    "ochre": Ink("#806300", "#d9b84a"),
}
SERIES = tuple(INKS[name].light for name in ("blue", "orange", "green", "pink", "violet", "ochre"))
FORMATS = ("svg", "png")

_INK, _PAPER, _FAINT = (INKS[name].light for name in ("ink", "paper", "faint"))
_LINE, _POINT = (INKS[name].light for name in ("line", "point"))
_BEST, _FAILED = SERIES[:2]
_NAMED = 12  # curves that a legend names
_NAMED_CLASSES = 20  # of which a picture can show the names
_WORTH_A_NUMBER = 0.02  # share of a class
_DPI = 150
_GRID = (900, 500)  # places of a picture on which points of one place are one
_COLUMNS = 3  # of a legend
_WIDTH, _HEIGHT = 5.2, 3.5  # inches, for a column of a page and for a phone


def figure_of(width: float = _WIDTH, height: float = _HEIGHT, **settings: Any) -> Figure:  # noqa: ANN401 - matplotlib's
    """Return an empty figure, in inches."""
    from matplotlib.figure import Figure  # late: a program that draws nothing should not load it

    return Figure(figsize=(width, height), dpi=_DPI, facecolor=_PAPER, **settings)


def _axes(title: str = "", *, height: float = _HEIGHT) -> Axes:
    """Return axes with room for two lines beside them and a title above, if there is one."""
    axes = figure_of(_WIDTH, height).add_axes((0.16, 0.2, 0.81, 0.77))
    axes.set_facecolor("none")
    if title:
        axes.set_title(textwrap.shorten(title, 64), fontsize=10.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=_LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9)
    return axes


def _done(axes: Axes) -> Figure:
    """Return the figure, with a legend below it where there is something to name."""
    from matplotlib.figure import Figure

    figure = axes.figure
    assert isinstance(figure, Figure)
    named = len(axes.get_legend_handles_labels()[1])
    rows = -(-named // _COLUMNS)
    if named:
        figure.legend(loc="lower center", ncols=_COLUMNS, frameon=False, fontsize=9)
    # By hand, for matplotlib's own layout takes as long as all the rest.
    height = float(figure.get_size_inches()[1])
    bottom, top = 0.5 + 0.22 * rows, 0.12 + 0.25 * bool(axes.get_title())
    left, width = axes.get_position().x0, axes.get_position().width
    axes.set_position((left, bottom / height, width, 1 - (bottom + top) / height))
    return figure


def _short(text: str) -> str:
    """Return a label of at most two lines."""
    return "\n".join(textwrap.wrap(text, 40, max_lines=2, placeholder=" ..."))


def _count(axes: Axes, values: NDArray[np.float64]) -> None:
    """Write large numbers of the horizontal axis as 200k and 1.2M."""
    from matplotlib.ticker import EngFormatter

    if len(values) and np.abs(values).max() >= 10_000:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def draw_scores(
    scores: Sequence[float | None],
    *,
    title: str = "",
    proxy: str,
    maximise: bool = True,
    least: float | None = None,
    places: Sequence[int] | None = None,
) -> Figure:
    """Draw every score in the order it came, and the best so far.

    Args:
        scores: One per trial, ``None`` where the architecture could not be scored.
        title: The heading.
        proxy: What the scores are, for the axis.
        maximise: Whether a high score is good.
        least: Where the vertical axis begins; by itself when left out.
        places: The numbers of the trials, from 0, where these are not all of them.
    """
    from matplotlib.ticker import MaxNLocator

    values = np.asarray([np.nan if score is None else score for score in scores], dtype=float)
    numbers = 1 + (np.arange(len(values)) if places is None else np.asarray(places, dtype=int))
    last = int(numbers[-1]) if len(numbers) else 1
    failed = np.isnan(values)
    axes = _axes(title)
    axes.set_xlim(0.5 - 0.02 * last, 0.5 + 1.02 * last)
    _points(axes, numbers[~failed], values[~failed], "one architecture")
    if not failed.all():
        best = so_far(values, maximise=maximise)
        axes.step(numbers, best, where="post", color=_BEST, linewidth=1.8, label="best so far")
    if failed.any():
        _points(
            axes, numbers[failed], np.zeros(failed.sum()), f"failed ({failed.sum():,})", low=True
        )
    axes.set_ylim(bottom=least)
    axes.set_xlabel("architectures scored")
    axes.set_ylabel(_short(proxy))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    return _done(axes)


def draw_steps(values: Sequence[float | None], *, up: str) -> Figure:
    """Draw a value that stands until the next one, over the architectures scored.

    Args:
        values: One per trial, ``None`` where it is not known.
        up: What they are, for the axis.
    """
    from matplotlib.ticker import MaxNLocator

    axes = _axes()
    known = np.asarray([np.nan if value is None else value for value in values], dtype=float)
    axes.step(np.arange(1, len(known) + 1), known, where="post", color=_BEST, linewidth=1.8)
    axes.set_xlabel("architectures scored")
    axes.set_ylabel(_short(up))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    return _done(axes)


def so_far(values: NDArray[np.float64], *, maximise: bool) -> NDArray[np.float64]:
    """Return the best of the values up to each, ``(N,)``; NaN before the first that is one."""
    best: NDArray[np.float64] = (np.fmax if maximise else np.fmin).accumulate(values)
    return best


def _points(
    axes: Axes,
    x: NDArray[Any],
    y: NDArray[Any],
    label: str,
    *,
    colour: str = _POINT,
    size: float | None = None,
    low: bool = False,
) -> None:
    """Draw points, as one path: thousands of them take little room in a page.

    What lies on one place of a fine grid is drawn once.

    Args:
        axes: Where.
        x: ``(N,)``.
        y: ``(N,)``.
        label: For the legend.
        colour: Of all of them.
        size: Diameter in points.
        low: They stand on the horizontal axis, whatever its value.
    """
    if not len(x):
        return
    size = size or (4.2 if len(x) <= 300 else 3.0 if len(x) <= 1500 else 2.0)
    style: dict[str, Any] = {"linewidth": size, "solid_capstyle": "round", "color": colour}
    if low:
        style |= {"transform": axes.get_xaxis_transform(), "color": _FAILED, "clip_on": False}
    places = np.unique(
        np.stack([_grid(x, _GRID[0]), _grid(y, _GRID[1])]), axis=1, return_index=True
    )
    kept = np.sort(places[1])
    # Each point is a line of hardly any length with round ends; NaN lifts the pen.
    tiny = 1e-4 * (float(np.ptp(x)) or 1.0)
    dots = np.stack([x[kept], x[kept] + tiny, np.full(len(kept), np.nan)], axis=1).reshape(-1)
    heights = np.repeat(y[kept].astype(float), 3)
    (line,) = axes.plot(dots, heights, label=f"_{label}", snap=False, **style)
    line.get_path().should_simplify = False  # or lines of hardly any length are left out of a PNG
    if label:
        axes.plot([], [], "o", markersize=4, color=style["color"], label=label)


def _grid(values: NDArray[Any], places: int) -> NDArray[np.int64]:
    spread = float(np.ptp(values)) or 1.0
    numbers: NDArray[np.int64] = np.round((values - values.min()) / spread * places).astype(
        np.int64
    )
    return numbers


def worth_showing(values: Sequence[float]) -> float:
    """Return the least value that a picture can show without squeezing the others.

    A few networks that learned nothing lie far below all others; where the lowest tenth takes more
    than three quarters of the range, a picture begins one range of the others below these.
    """
    tenth, high, low = (float(x) for x in np.quantile(values, (0.1, 1.0, 0.0)))
    return low if tenth - low <= 3 * (high - tenth) else tenth - (high - tenth)


def draw_trade_off(
    across: Sequence[float],
    up: Sequence[float],
    front: Sequence[int],
    *,
    names: tuple[str, str],
    title: str = "",
    marked: Sequence[int] = (),
    least: float | None = None,
    more_is_better: bool = False,
    of: int = 2,
) -> Figure:
    """Draw what was scored by two quantities, and the front of trade-offs.

    The front of two is a staircase: between two architectures nothing better is known. That of more
    is no line in this plane, so its members are marked only.

    Args:
        across: One per architecture, in its own unit.
        up: The same.
        front: Which of them no other one beats in all.
        names: Of the two quantities, for the axes.
        title: The heading.
        marked: Those that the search puts first.
        least: Where the vertical axis begins; by itself when left out.
        more_is_better: Of the horizontal quantity.
        of: How many quantities the front is one of.
    """
    x, y = np.asarray(across, dtype=float), np.asarray(up, dtype=float)
    axes = _axes(title)
    _points(axes, x, y, "one architecture")
    order = sorted(front, key=lambda place: (x[place], y[place]))
    if order:
        style: dict[str, Any] = {"marker": "o", "markersize": 4, "linewidth": 1.3, "color": _BEST}
        if of > 2:
            style |= {"linestyle": "none", "label": f"front of all {of} objectives"}
        else:
            steps = "steps-pre" if more_is_better else "steps-post"
            style |= {"drawstyle": steps, "label": "front"}
        axes.plot(x[order], y[order], **style)
    if len(marked):
        axes.plot(
            x[list(marked)], y[list(marked)], "D", markersize=7, color=_FAILED, fillstyle="none",
            markeredgewidth=1.6, label="put first by the search",
        )  # fmt: skip
    hidden = 0 if least is None else int((y < least).sum())
    if hidden:
        axes.set_ylim(bottom=least)
        axes.annotate(
            f"{hidden:,} below", (1, 0), xycoords="axes fraction", xytext=(-4, 4),
            textcoords="offset points", ha="right", fontsize=8, color=_FAILED,
        )  # fmt: skip
    _count(axes, x)
    axes.set_xlabel(_short(names[0]))
    axes.set_ylabel(_short(names[1]))
    return _done(axes)


def draw_curves(curves: Mapping[str, Sequence[tuple[float, float | None]]]) -> Figure:
    """Draw accuracy over the epochs of some trainings.

    Args:
        curves: By label, for each epoch the accuracy (per cent) on training images, and on
            validation images where there was a look.
    """
    from matplotlib.ticker import MaxNLocator

    axes = _axes()
    for number, (label, epochs) in enumerate(curves.items()):
        colour = SERIES[number % len(SERIES)]
        at = np.arange(1, len(epochs) + 1)
        axes.plot(at, [x for x, _ in epochs], color=colour, linestyle=(0, (2, 2)), linewidth=1.1)
        looked = [(i, y) for i, (_, y) in zip(at, epochs, strict=True) if y is not None]
        shown = label if number < _NAMED else "_"
        if looked:
            axes.plot(*zip(*looked, strict=True), color=colour, marker=".", label=shown)
        else:
            axes.plot([], [], color=colour, label=shown)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.set_xlabel("epoch")
    axes.set_ylabel("accuracy, % (dotted: training images)")
    return _done(axes)


def draw_confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> Figure:
    """Draw what images of each class (rows) are taken for (columns), as shares of the class."""
    counts = np.asarray(matrix, dtype=float)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    few = len(classes) <= _NAMED_CLASSES
    figure = figure_of(_WIDTH, 4.6, layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=False)
    axes.set_xlim(-0.5, len(classes) - 0.5)
    axes.set_ylim(len(classes) - 0.5, -0.5)
    axes.set_aspect("equal")
    for i, j in np.argwhere(shares > 0).tolist():
        _cell(axes, i, j, float(shares[i, j]), named=few)
    axes.set_xlabel("taken for")
    axes.set_ylabel("is")
    if few:
        places = range(len(classes))
        axes.set_xticks(places, classes, rotation=60, ha="right", fontsize=8)
        axes.set_yticks(places, classes, fontsize=8)
    return figure


def _cell(axes: Axes, i: int, j: int, share: float, *, named: bool) -> None:
    """Fill one place of a matrix; the more, the stronger, with its percentage."""
    from matplotlib.patches import Rectangle

    place = (j - 0.5, i - 0.5)
    axes.add_artist(Rectangle(place, 1, 1, facecolor=_BEST, alpha=0.08 + 0.92 * share, linewidth=0))
    if named and share >= _WORTH_A_NUMBER:
        colour = _PAPER if share > 0.55 else _INK
        text = f"{100 * share:.0f}"
        axes.text(j, i, text, ha="center", va="center", fontsize=7.5, color=colour)


def draw_agreement(
    points: Mapping[str, Sequence[tuple[float, float]]], across: str, up: str
) -> Figure:
    """Draw one number of architectures against another, groups in colours of their own."""
    axes = _axes()
    for number, (label, pairs) in enumerate(points.items()):
        x, y = (np.asarray(values, dtype=float) for values in zip(*pairs, strict=True))
        size = 6.0 if len(x) <= 60 else None
        _points(axes, x, y, label, colour=SERIES[number % len(SERIES)], size=size)
    axes.set_xlabel(_short(across))
    axes.set_ylabel(_short(up))
    return _done(axes)


class Band(NamedTuple):
    """The best so far of runs that differ in their seed only.

    Attributes:
        middle: Mean over the seeds, ``(N,)``.
        low: The lowest of them.
        high: The highest.
    """

    middle: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def draw_bands(bands: Mapping[str, Band], *, up: str) -> Figure:
    """Draw what several groups of runs reach as they go on.

    Args:
        bands: By label.
        up: What it is, for the axis.
    """
    axes = _axes()
    for number, (label, band) in enumerate(bands.items()):
        colour = SERIES[number % len(SERIES)]
        at = np.arange(1, len(band.middle) + 1)
        axes.fill_between(at, band.low, band.high, step="post", color=colour, alpha=0.18, lw=0)
        shown = label if number < _NAMED else "_"
        axes.step(at, band.middle, where="post", color=colour, linewidth=1.8, label=shown)
    axes.set_xlabel("architectures scored")
    axes.set_ylabel(_short(up))
    return _done(axes)


def as_svg(figure: Figure, alt: str = "", *, key: str = "nas") -> str:
    """Return a picture as the text of an SVG element, to stand inside of a page.

    Its colours are the page's own (CSS variables by the names of :data:`INKS`), so that it follows
    light and dark mode.

    Args:
        figure: The picture.
        alt: What it shows, for who cannot see it.
        key: Of the picture, so that no two in a page share the names of their parts.
    """
    text = _svg(figure, key)
    text = text[text.index("<svg") :]
    width = float(figure.get_size_inches()[0])
    opening = f'<svg role="img" aria-label="{html.escape(alt)}" style="max-width:{width:.3g}in"'
    text = re.sub(r'<svg (?:width|height)="[^"]*" |<svg ', f"{opening} ", text, count=1)
    for _ in ("width", "height"):
        text = re.sub(r'(<svg [^>]*?) (?:width|height)="[\d.]+pt"', r"\1", text, count=1)
    used = {*re.findall(r'href="#([^"]+)"', text), *re.findall(r"url\(#([^)]+)\)", text)}
    text = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", text)
    text = re.sub(r'(?<= id=")(?=[^"]+")|(?<=href="#)|(?<=url\(#)', f"{key}-", text)
    text = re.sub(r"(\d\.\d\d)\d+", r"\1", text)
    text = re.sub(r"font: ([\d.]+px) (?:'[^']*'(?:, )?|[\w-]+(?:, )?)+", _font, text)
    for name, ink in INKS.items():
        text = text.replace(ink.light, f"var(--{name})")
    return text


def _font(match: re.Match[str]) -> str:
    family = "mono" if "onospace" in match[0] or "Mono" in match[0] else "sans"
    return f"font: {match[1]} var(--{family})"


def _svg(figure: Figure, key: str) -> str:
    import matplotlib as mpl  # late, as above

    buffer = io.StringIO()
    # Nothing about its making, and the names of its parts from its content: the same picture is the
    # same text.
    with mpl.rc_context({"svg.hashsalt": key, "svg.fonttype": "none"}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    return buffer.getvalue()


def save_figures(figures: Mapping[str, Figure], folder: Path, kind: str) -> list[Path]:
    """Write pictures as files.

    Args:
        figures: By name.
        folder: Where; made if need be.
        kind: One of :data:`FORMATS`.

    Raises:
        NasError: Another format, or they cannot be written.
    """
    if kind not in FORMATS:
        raise NasError(f"--format: expected {' or '.join(FORMATS)}, got {kind!r}")
    paths = [folder / f"{name}.{kind}" for name in figures]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, (name, figure) in zip(paths, figures.items(), strict=True):
            if kind == "png":
                figure.savefig(path)
            else:
                path.write_text(_svg(figure, name), encoding="utf-8")
    except OSError as error:
        raise NasError(f"{folder}: cannot write pictures: {error.strerror}") from None
    return paths
