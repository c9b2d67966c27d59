from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from difana._errors import InputError
from difana.plot import Section, report

EVIL = "<script>alert('x')</script>\"&"


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_report_escapes_everything_and_asks_nobody(tmp_path):
    section = Section(EVIL, EVIL, (EVIL, "b"), [[EVIL, 1]], [Figure()], EVIL)
    text = report(tmp_path / "report.html", title=EVIL, sections=[section]).read_text()
    page = Page(text)
    assert "script" not in page.tags
    assert sum(EVIL in part for part in page.text) == 8
    assert not re.search(r"https?:|@import|url\(", text)
    sources = [value for name, value in page.attributes if name in ("src", "href")]
    assert all(value.startswith(("data:image/", "#")) for value in sources)
    assert dict(page.attributes)["alt"] == EVIL


def test_report_holds_figures_and_tables(tmp_path):
    svg = tmp_path / "plot.svg"
    svg.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    rows = [
        ["difana", jnp.asarray(0.3123456), None, True],
        ["CE", np.float32(0.5), 3, float("nan")],
    ]
    sections = [
        Section("Limits", "One.\n\nTwo.", ("method", "limit", "n", "ok"), rows),
        Section("Plots", figures=[Figure(), svg], caption="Both."),
    ]
    page = Page(report(tmp_path / "r.html", title="demo", sections=sections).read_text())
    assert page.tags.count("p") == 2
    assert page.tags.count("td") == 8
    for cell in ("0.31235", "0.5", "3", "nan", "True", "-"):
        assert cell in page.text
    images = [value for name, value in page.attributes if name == "src"]
    png, vector = (base64.b64decode(image.split(",")[1]) for image in images)
    assert png.startswith(b"\x89PNG")
    assert vector == svg.read_bytes()


def test_report_refuses_what_it_cannot_show(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        report(tmp_path / "none" / "r.html", title="", sections=[])
    with pytest.raises(InputError, match="section 'Limits': row 0 has 1 cells"):
        report(tmp_path / "r.html", title="", sections=[Section("Limits", "", ("a", "b"), [[1]])])
    for figure in (tmp_path / "none.png", tmp_path / "r.html", 3):
        with pytest.raises(InputError, match="figure"):
            report(tmp_path / "r.html", title="", sections=[Section("", figures=[figure])])
