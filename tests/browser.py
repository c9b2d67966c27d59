"""A page in a real browser, as wide as a telephone: what overflows, what is missing."""

from __future__ import annotations

import dataclasses
import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

# The page is in a frame of the wanted width, so that its own policy (no script) stays in force.
FRAME = """<!doctype html><title>t</title><body style="margin:0">
<iframe id="frame" style="border:0;width:{width}px;height:900px" srcdoc="{page}"></iframe>
<pre id="found"></pre><script>
window.onload = () => {{
  const page = document.getElementById("frame").contentDocument, root = page.documentElement;
  const inTable = (e) => e.parentElement && e.parentElement.closest(".table");
  const all = [...page.body.querySelectorAll("*")];
  const wide = all.filter((e) => !inTable(e) && e.getBoundingClientRect().right > {width} + 1);
  const text = all.filter((e) => !inTable(e) && e.scrollWidth > e.clientWidth + 1 &&
    e.clientWidth > 0 && !e.classList.contains("table"));
  const found = {{
    width: root.clientWidth, scroll: root.scrollWidth, scripts: page.scripts.length,
    outside: [...wide, ...text].map((e) => e.outerHTML.slice(0, 80)),
    images: page.images.length,
    missing: [...page.images].filter((i) => !(i.complete && i.naturalWidth)).map((i) => i.alt),
    nowhere: [...page.querySelectorAll("a")].map((a) => a.getAttribute("href"))
      .filter((h) => !page.getElementById(h.slice(1))),
  }};
  document.getElementById("found").textContent = JSON.stringify(found);
}};
</script></body>"""


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a browser saw of a page.

    Attributes:
        width: Width of the window.
        scroll: Width of the page: larger if it overflows.
        scripts: Number of scripts.
        outside: What reaches beyond the window, or beyond its box; parts of tables, which scroll,
            do not count.
        images: Number of images.
        missing: Images that could not be shown.
        nowhere: Links to places that do not exist.
        console: What the browser complained about.
    """

    width: int
    scroll: int
    scripts: int
    outside: list[str]
    images: int
    missing: list[str]
    nowhere: list[str]
    console: list[str]


def see(path: Path, folder: Path, *, width: int = 400) -> Seen:
    """Open a page in headless Chromium; skips the test where there is none."""
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    if browser is None:
        pytest.skip(f"no Chromium on this machine (looked for {', '.join(NAMES)})")
    frame = folder / "frame.html"
    frame.write_text(FRAME.format(width=width, page=html.escape(path.read_text(), quote=True)))
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        f"--user-data-dir={folder / 'profile'}",
        "--enable-logging=stderr",
        "--virtual-time-budget=10000",
        "--hide-scrollbars",
        "--window-size=1000,1000",
    ]
    done = subprocess.run(
        [browser, *options, "--dump-dom", frame.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    found = re.search(r'<pre id="found">(.+?)</pre>', done.stdout, re.DOTALL)
    if found is None:
        pytest.skip(f"{browser} does not run here: {done.stderr[-300:]}")
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Seen(**json.loads(html.unescape(found[1])), console=console)


def check_page(path: Path, folder: Path, *, images: int) -> None:
    """Check that a page can be read on a telephone and on a desk: nothing overflows or lacks."""
    for width in (400, 1200):
        seen = see(path, folder, width=width)
        good = Seen(width, width, 0, [], images, [], [], [])
        assert seen == good, seen
