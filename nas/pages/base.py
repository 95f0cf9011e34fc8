"""HTML pages that need nothing beside themselves: one look for searches, trainings, comparisons.

In ``templates``, ``base.html`` is the frame and the style, ``parts.html`` the tables, figures and
facts. Everything is escaped but SVG that :func:`nas.drawing.plots.as_svg` made.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.drawing.plots import INKS, as_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A figure of a page.

    Attributes:
        title: Above it.
        figure: What is drawn.
        alt: What it shows, for who cannot see it.
        note: Below it: what has to be known to read it.
        section: Where it belongs.
        wide: Whether it takes the whole width.
    """

    title: str
    figure: Figure
    alt: str
    note: str = ""
    section: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Table:
    """A table of a page.

    Attributes:
        caption: What it lists.
        headers: One per column.
        rows: Texts.
        texts: Columns that hold texts and stand to the left; the rest are numbers.
        codes: Columns that hold official strings.
        marked: Rows that stand out.
        link: File with all rows, where these are some of them.
        note: Below it.
    """

    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: Iterable[int] = ()
    codes: Iterable[int] = ()
    marked: Iterable[int] = ()
    link: str = ""
    note: str = field(default="")


def last_is_code(caption: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table whose last column holds official strings."""
    return Table(caption, headers, rows, codes=(len(headers) - 1,))


def shown(pictures: Mapping[str, Picture]) -> list[dict[str, Any]]:
    """Return pictures as a template takes them."""
    return [
        {
            "name": name,
            "section": each.section,
            "title": each.title,
            "note": each.note,
            "wide": each.wide,
            "svg": as_svg(each.figure, each.alt, key=name),
        }
        for name, each in pictures.items()
    ]


def render(template: str, **values: object) -> str:
    """Return a page.

    Args:
        template: Of the folder ``templates``.
        values: What it names.
    """
    import jinja2  # late: only who writes a page needs it

    folder = Path(__file__).resolve().parent / "templates"
    jinja = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters["breaks"] = _breaks
    return jinja.get_template(template).render(inks=INKS, **values)


def _breaks(text: str) -> object:
    """Return an official string that may be folded between its parts, and copies as it is."""
    from markupsafe import Markup, escape

    parts = re.split(r"(?<=[|+,:])", text)
    return Markup("<wbr>").join(escape(part) for part in parts)
