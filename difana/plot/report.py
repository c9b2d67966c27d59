"""The self-contained report: one HTML file that needs no network."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from difana._errors import InputError
from difana._files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MIME = {".png": "image/png", ".svg": "image/svg+xml"}

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 60rem; margin: 0 auto; padding: 1.5rem; }
h1 { border-bottom: 3px solid #0072B2; padding-bottom: .3rem; }
h2 { margin-top: 2.2rem; color: #0072B2; }
nav a { margin-right: 1rem; white-space: nowrap; }
.table { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .3rem .8rem; text-align: left; border-bottom: 1px solid #ddd; }
th { border-bottom: 2px solid #555; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 1rem 0; }
img { max-width: 100%; height: auto; }
figcaption { color: #555; font-size: .9rem; }
pre { white-space: pre-wrap; }
"""


@dataclass(frozen=True)
class Section:
    """One section of a report.

    Attributes:
        heading: Its heading.
        text: Plain text; an empty line begins a paragraph. Markup is shown, not obeyed.
        columns: Names of the columns of the table.
        rows: Rows of the table, each as long as ``columns``.
        figures: Matplotlib figures, or paths of PNG or SVG files.
        caption: Line below the figures.
    """

    heading: str
    text: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[object]] = ()
    figures: Sequence[Figure | str | Path] = ()
    caption: str = ""


def report(path: str | Path, *, title: str, sections: Sequence[Section]) -> Path:
    """Write a self-contained HTML report: style and figures inline, no script, no request.

    Every string is escaped, so that names from files or configurations cannot become markup.

    Args:
        path: File to write; an existing one is replaced.
        title: Title of the report.
        sections: What stands in it, in order.

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
    body = "".join(_section(section, i) for i, section in enumerate(sections, 1))
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{html.escape(title)}</h1>\n<nav>{links}</nav>\n{body}</body>\n</html>\n"
    )
    write_whole(path, [page.encode()])
    return path


def _section(section: Section, number: int) -> str:
    parts = [f'<section>\n<h2 id="section-{number}">{html.escape(section.heading)}</h2>\n']
    parts += [f"<p>{html.escape(p.strip())}</p>\n" for p in section.text.split("\n\n") if p.strip()]
    if section.rows or section.columns:
        parts.append(_table(section))
    for i, figure in enumerate(section.figures, 1):
        alt = html.escape(section.caption or f"{section.heading}, figure {i}", quote=True)
        parts.append(f'<figure><img alt="{alt}" src="{_data_uri(figure)}"></figure>\n')
    if section.caption:
        parts.append(f"<figcaption>{html.escape(section.caption)}</figcaption>\n")
    return "".join([*parts, "</section>\n"])


def _table(section: Section) -> str:
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in section.columns)
    lines = []
    for i, row in enumerate(section.rows):
        if section.columns and len(row) != len(section.columns):
            raise InputError(
                f"section '{section.heading}': row {i} has {len(row)} cells, "
                f"the table {len(section.columns)} columns"
            )
        lines.append("<tr>" + "".join(map(_cell, row)) + "</tr>\n")
    top = f"<thead><tr>{head}</tr></thead>\n" if section.columns else ""
    body = f"<tbody>\n{''.join(lines)}</tbody>"
    return f'<div class="table"><table>\n{top}{body}</table></div>\n'


def _cell(value: object) -> str:
    """Return a cell; real numbers, also scalar arrays, with five digits."""
    if getattr(value, "ndim", None) == 0:
        value = np.asarray(value).item()
    if isinstance(value, Real) and not isinstance(value, bool):
        text = str(value) if isinstance(value, Integral) else f"{float(value):.5g}"
        return f'<td class="number">{html.escape(text)}</td>'
    return f"<td>{html.escape('-' if value is None else str(value))}</td>"


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
