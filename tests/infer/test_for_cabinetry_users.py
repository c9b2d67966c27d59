"""The example of docs/for_cabinetry_users.md runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "for_cabinetry_users.md"


def test_the_example_runs(capsys):
    if not PAGE.is_file():
        pytest.skip(f"no {PAGE}: the documentation is not part of this installation")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 1
    exec(compile(blocks[0], str(PAGE), "exec"), {})
    printed = capsys.readouterr().out
    for words in ("SR (post-fit)", "unc[1]", "times the luminosity"):
        assert words in printed
