"""The snippets of the documentation for pyhf users run."""

from __future__ import annotations

import re
from pathlib import Path


def test_snippets_run() -> None:
    text = (Path(__file__).parents[2] / "docs" / "for_pyhf_users.md").read_text(encoding="utf-8")
    space: dict = {}
    for snippet in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(snippet, "for_pyhf_users.md", "exec"), space)
    assert {"points", "best"} <= space.keys()
