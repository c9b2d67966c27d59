from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from difana._errors import InputError
from difana.plot import Picture, Section, report
from tests.browser import check_page

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
    assert page.tags.count("p") == 3  # two of the text, one below the figures
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


def full_page(path, *, long="x" * 300):
    """Write a report with all that a section can hold, long words among it."""
    part = Section(f"part {long}", long, ("a", long), [[1, long], ["0.12 ± 0.03", "-"]])
    wide = Section("wide", "", [f"column {i}" for i in range(30)], [["1.234 ± 0.567"] * 30])
    pictures = [Figure(), Picture(Figure(figsize=(14, 2)), long, wide=True)]
    first = Section("first", "text", figures=pictures, parts=[part, wide],
                    cards=[("limit", "mu < 0.912", "68 % band"), (long, "1", long)])  # fmt: skip
    return report(path, title=f"title {long}", subtitle=long, sections=[first, Section(long)])


def test_report_has_cards_parts_and_captions(tmp_path):
    page = Page(full_page(tmp_path / "r.html", long="long").read_text())
    assert page.tags.count("h1") == 1
    assert page.tags.count("h2") == 2
    assert page.tags.count("h3") == 2
    assert page.tags.count("figcaption") == 1
    classes = [value for name, value in page.attributes if name == "class"]
    assert classes.count("card") == 2
    assert classes.count("wide") == 1
    # columns of numbers stand at the right, with their heading
    assert classes.count("number") == 2 + 1 + 30 + 30
    ids = [value for name, value in page.attributes if name == "id"]
    assert ids == ["section-1", "section-1-1", "section-1-2", "section-2"]
    links = [value for name, value in page.attributes if name == "href"]
    assert links == ["#section-1", "#section-2"]


@pytest.mark.parametrize("text", ["0.72 ± 0.03", "1.07 +0.47 -0.32", "+98.1 %", "0.5 to 1.2",
                                  "-0.2", "3.2e-09 ± 4e-10", "12300"])  # fmt: skip
def test_numbers_are_known_as_such(tmp_path, text):
    path = report(tmp_path / "r.html", title="", sections=[Section("", "", ("a",), [[text]])])
    assert f'<td class="number">{text}</td>' in path.read_text()


def test_a_page_in_a_browser(tmp_path):
    check_page(full_page(tmp_path / "r.html"), tmp_path, images=2)


def test_the_check_in_the_browser_notices(tmp_path):
    text = full_page(tmp_path / "r.html").read_text()
    bad = tmp_path / "bad.html"
    for change in (
        ("overflow-wrap: anywhere", ""),
        ("max-width: 100%; height: auto", ""),
        ("#section-2", "#section-3"),
        ("data:image/png;base64,i", "data:image/png;base64,x"),
        ("<nav>", "<script>nonsense()</script><nav>"),
    ):
        assert change[0] in text
        bad.write_text(text.replace(*change))
        with pytest.raises(AssertionError):
            check_page(bad, tmp_path, images=2)
