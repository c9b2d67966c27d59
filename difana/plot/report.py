"""The self-contained report: one HTML file that needs no network."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from difana._errors import InputError
from difana._files import write_whole
from difana.plot._page_style import PAGE_STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LONG = 40  # characters of a cell that may be broken into lines
_MIME = {".png": "image/png", ".svg": "image/svg+xml"}

_NUMBER = re.compile(r"[-+]?[\d.]+(e[-+]\d+)?( (±|to|%|[-+]?[\d.]+(e[-+]\d+)?))*")


@dataclass(frozen=True)
class Picture:
    """A figure and what it shows.

    Attributes:
        figure: A Matplotlib figure, or the path of a PNG or SVG file.
        caption: Line below it.
        wide: Whether it takes the whole width of the page.
    """

    figure: Figure | str | Path
    caption: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """One section of a report.

    Attributes:
        heading: Its heading.
        text: Plain text; an empty line begins a paragraph. Markup is shown, not obeyed.
        columns: Names of the columns of the table.
        rows: Rows of the table, each as long as ``columns``.
        figures: Pictures, or Matplotlib figures, or paths of PNG or SVG files.
        caption: Line below the figures.
        cards: What is to be seen first: name, value and remark of each.
        parts: Sections inside this one, at the end of it.
    """

    heading: str
    text: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[object]] = ()
    figures: Sequence[Picture | Figure | str | Path] = ()
    caption: str = ""
    cards: Sequence[tuple[str, str, str]] = ()
    parts: Sequence[Section] = ()


def report(
    path: str | Path, *, title: str, sections: Sequence[Section], subtitle: str = ""
) -> Path:
    """Write a self-contained HTML report: style and figures inline, no script, no request.

    Every string is escaped, so that names from files or configurations cannot become markup.
    It can be read on a telephone, and printed.

    Args:
        path: File to write; an existing one is replaced.
        title: Title of the report.
        sections: What stands in it, in order.
        subtitle: Line below the title.

    Returns:
        The path.

    Raises:
        InputError: If the folder is missing, a row is not as long as the columns, or a figure is
            neither a figure nor a readable PNG or SVG file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = report(folder + "/report.html", title="demo", sections=[Section("Limits")])
        ...     '<h2 id="section-1">Limits</h2>' in path.read_text()
        True
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: the folder {path.parent} does not exist")
    links = "".join(
        f'<a href="#section-{i}">{html.escape(section.heading)}</a> '
        for i, section in enumerate(sections, 1)
    )
    body = "".join(_section(section, f"{i}") for i, section in enumerate(sections, 1))
    below = f"<p>{html.escape(subtitle)}</p>\n" if subtitle else ""
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{PAGE_STYLE}</style>\n</head>\n<body>\n"
        f"<header>\n<h1>{html.escape(title)}</h1>\n{below}</header>\n"
        f"<nav>{links}</nav>\n{body}</body>\n</html>\n"
    )
    write_whole(path, [page.encode()])
    return path


def _section(section: Section, number: str) -> str:
    level = min(2 + number.count("-"), 6)
    heading = html.escape(section.heading)
    parts = [f'<section>\n<h{level} id="section-{number}">{heading}</h{level}>\n']
    if section.cards:
        parts.append(f'<div class="cards">\n{"".join(map(_card, section.cards))}</div>\n')
    parts += [f"<p>{html.escape(p.strip())}</p>\n" for p in section.text.split("\n\n") if p.strip()]
    if section.rows or section.columns:
        parts.append(_table(section))
    if section.figures:
        pictures = [x if isinstance(x, Picture) else Picture(x) for x in section.figures]
        shown = "".join(_picture(x, section, i) for i, x in enumerate(pictures, 1))
        parts.append(f'<div class="figures">\n{shown}</div>\n')
    if section.caption:
        parts.append(f'<p class="caption">{html.escape(section.caption)}</p>\n')
    parts += [_section(part, f"{number}-{i}") for i, part in enumerate(section.parts, 1)]
    return "".join([*parts, "</section>\n"])


def _card(card: tuple[str, str, str]) -> str:
    lines = zip(("name", "value", "said"), card, strict=True)
    inside = "".join(f'<div class="{kind}">{html.escape(text)}</div>' for kind, text in lines)
    return f'<div class="card">{inside}</div>\n'


def _picture(picture: Picture, section: Section, number: int) -> str:
    said = picture.caption or section.caption or f"{section.heading}, figure {number}"
    caption = f"<figcaption>{html.escape(picture.caption)}</figcaption>" if picture.caption else ""
    kind = ' class="wide"' if picture.wide else ""
    return (
        f"<figure{kind}>"
        f'<img alt="{html.escape(said, quote=True)}" src="{_data_uri(picture.figure)}">'
        f"{caption}</figure>\n"
    )


def _table(section: Section) -> str:
    lines, numeric = [], [False] * len(section.columns)
    for i, row in enumerate(section.rows):
        if section.columns and len(row) != len(section.columns):
            raise InputError(
                f"section '{section.heading}': row {i} has {len(row)} cells, "
                f"the table {len(section.columns)} columns"
            )
        cells = [_cell(value) for value in row]
        if section.columns:
            numeric = [a or "number" in b for a, b in zip(numeric, cells, strict=True)]
        lines.append("<tr>" + "".join(cells) + "</tr>\n")
    kinds = [' class="number"' if right else "" for right in numeric]
    head = "".join(
        f"<th{kind}>{html.escape(str(name))}</th>"
        for name, kind in zip(section.columns, kinds, strict=True)
    )
    top = f"<thead><tr>{head}</tr></thead>\n" if section.columns else ""
    body = f"<tbody>\n{''.join(lines)}</tbody>"
    # reachable by keys, so that a wide one can be scrolled
    return f'<div class="table" tabindex="0"><table>\n{top}{body}</table></div>\n'


def _cell(value: object) -> str:
    """Return a cell; real numbers, also scalar arrays, with five digits; texts as they are."""
    if getattr(value, "ndim", None) == 0:
        value = np.asarray(value).item()
    if isinstance(value, Real) and not isinstance(value, bool):
        text = str(value) if isinstance(value, Integral) else f"{float(value):.5g}"
        return f'<td class="number">{html.escape(text)}</td>'
    text = "-" if value is None else str(value)
    kind = ' class="number"' if _NUMBER.fullmatch(text) else ""
    if len(text) > _LONG:
        kind = ' class="long"'
    return f"<td{kind}>{html.escape(text)}</td>"


def _data_uri(figure: Figure | str | Path) -> str:
    if isinstance(figure, str | Path):
        file = Path(figure)
        if file.suffix.lower() not in _MIME or not file.is_file():
            raise InputError(f"figure {file} must be an existing PNG or SVG file")
        mime, content = _MIME[file.suffix.lower()], file.read_bytes()
    elif hasattr(figure, "savefig"):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=140)
        mime, content = "image/png", buffer.getvalue()
    else:
        raise InputError(f"a figure must be a matplotlib figure or a path, got {type(figure)}")
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"
