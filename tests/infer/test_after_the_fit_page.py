"""The examples of docs/after_the_fit.md run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "after_the_fit.md"
WORDS = ("VR (post-fit)", "transfer", "nll(b) - nll(s+b)", "mc_statistics")


def test_the_examples_run(capsys):
    if not PAGE.is_file():
        pytest.skip(f"no {PAGE}: the documentation is not part of this installation")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    names: dict = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    printed = capsys.readouterr().out
    for words in WORDS:
        assert words in printed
