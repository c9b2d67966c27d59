"""The documentation is true: its code runs, every name, signature and command in it exists."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import shlex
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import difana
from difana.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
if not (ROOT / "docs").is_dir():
    pytest.skip("the documentation is not part of this installation", allow_module_level=True)

# what the code of a page prints, among other things
PRINTS = {
    "README": ["expected limit: mu < "],
    "after_the_fit": ["VR (post-fit)", "transfer", "nll(b) - nll(s+b)", "mc_statistics"],
    "blinding": ["['CR']", "after the fit to CR", "observed ", "nothing was trained"],
    "for_cabinetry_users": ["SR (post-fit)", "unc[1]", "times the luminosity"],
}
# pages that go on where the README ends, with fewer steps
AFTER_README = ("after_training", "how_to_choose_an_objective", "what_can_go_wrong")
FEWER = {
    "events=10_000": "events=2_000",
    "steps=100": "steps=2",
    "batch_size=2000": "batch_size=500",
}


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def execute(page: Path, names: dict[str, Any], *, fewer: bool = False) -> None:
    for block in blocks(page):
        for many, few in FEWER.items() if fewer else ():
            block = block.replace(many, few)
        exec(compile(block, str(page), "exec"), names)


RUN = [
    pytest.param(
        page,
        id=page.stem,  # training on a limit takes its time: with the notebooks
        marks=[pytest.mark.slow, pytest.mark.notebook] if page.stem in AFTER_README else [],
    )
    for page in PAGES
    if blocks(page)
]


@pytest.mark.parametrize("page", RUN)
def test_the_code_of_a_page_runs(
    page: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType(f"page_{page.stem}")  # dataclasses look for theirs
    monkeypatch.setitem(sys.modules, module.__name__, module)
    names = vars(module)
    after = page.stem in AFTER_README
    if after:
        execute(ROOT / "README.md", names, fewer=True)
    execute(page, names, fewer=after)
    printed = capsys.readouterr().out
    for words in PRINTS.get(page.stem, ()):
        assert words in printed


def test_fifteen_lines_are_fifteen_lines() -> None:
    (block,) = blocks(ROOT / "README.md")
    assert len(block.splitlines()) == 15
    assert max(map(len, block.splitlines())) <= 100


def spans(page: Path) -> list[str]:
    """Return what stands in backquotes outside of blocks."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    text = re.sub(r"``.*?``", "", text).replace("\\|", "|")
    return re.findall(r"`([^`\n]+)`", text)


ROOMS = {name: getattr(difana, name) for name in difana._ROOMS}
PUBLIC: dict[str, list[Any]] = {}
for room in ROOMS.values():
    for name in room.__all__:
        PUBLIC.setdefault(name, []).append(getattr(room, name))
CLASSES = [item for items in PUBLIC.values() for item in items if inspect.isclass(item)]
ATTRIBUTES = {name for item in CLASSES for name in dir(item)} | {
    field.name for item in CLASSES if dataclasses.is_dataclass(item)
    for field in dataclasses.fields(item)
}  # fmt: skip


def resolved(dotted: str) -> Any:
    """Return what ``difana.room.name`` or ``room.name`` names; raises AttributeError."""
    item: Any = difana
    for part in dotted.removeprefix("difana.").split("."):
        if inspect.ismodule(item) and not hasattr(item, part):
            __import__(f"{item.__name__}.{part}")
        item = getattr(item, part)
    return item


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_names_of_rooms_exist(page: Path) -> None:
    rooms = "|".join(set(ROOMS) - {"config"})  # which is a usual name of a variable
    pattern = rf"(?<![\w./])(difana\.(?!cli)[a-z_]+(?:\.\w+)*|(?:{rooms})\.[A-Za-z_]\w*)(?![\w/-])"
    wrong = []
    for span in spans(page):
        if span.startswith(("difana ", "python ", "pip ", "make ")):
            continue
        for name in re.findall(pattern, span):
            try:
                resolved(name)
            except (AttributeError, ImportError) as error:
                if not name.endswith((".md", ".py", ".json", ".yaml", ".parquet", ".html")):
                    wrong.append(f"{name}: {error}")
    assert wrong == []


def calls(page: Path) -> Iterator[ast.Call]:
    for span in spans(page):
        try:
            tree = ast.parse(re.sub(r"^\.", "_.", span))
        except SyntaxError:
            continue
        yield from (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def targets(call: ast.Call) -> list[Any]:
    """Return the functions and classes of difana that a call may mean."""
    name = ast.unparse(call.func)
    if isinstance(call.func, ast.Name):
        return PUBLIC.get(name, [])
    if re.fullmatch(r"[\w.]+", name) and name.split(".")[0] in {"difana", *ROOMS}:
        return [resolved(name)]
    return []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_signatures_exist(page: Path) -> None:
    wrong = []
    for call in calls(page):
        stars = any(isinstance(arg, ast.Starred) for arg in call.args)
        args = [] if stars else [arg for arg in call.args if ast.unparse(arg) != "..."]
        keywords = {word.arg: word for word in call.keywords if word.arg is not None}
        errors = []
        for item in targets(call):
            try:
                inspect.signature(item).bind_partial(*args, **keywords)
            except TypeError as error:
                errors.append(f"{ast.unparse(call)}: {error}")
        if errors and len(errors) == len(targets(call)):
            wrong += errors
    assert wrong == []


def difana_cells(page: Path) -> Iterator[str]:
    """Yield the cells under the heading "difana" of the tables."""
    column = None
    for line in page.read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            column = None
            continue
        cells = [cell.strip() for cell in line.replace("\\|", "/").strip("|").split("|")]
        if column is None:
            column = cells.index("difana") if "difana" in cells else len(cells)
        elif column < len(cells):
            yield cells[column]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_column_of_difana_calls_what_exists(page: Path) -> None:
    wrong, known = [], {*ATTRIBUTES, *ROOMS, *PUBLIC, "vmap", "jit", "grad"}
    for cell in difana_cells(page):
        for span in re.findall(r"`([^`]+)`", cell):
            if span.startswith("difana "):
                continue
            try:
                tree = ast.parse(re.sub(r"^\.", "_.", span).replace("{...}", "{}"))
            except SyntaxError:
                continue
            for node in ast.walk(tree):
                called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
                if called and node.func.id not in {*PUBLIC, "print"}:
                    wrong.append(span)
                if isinstance(node, ast.Attribute) and node.attr not in known:
                    wrong.append(f"{span}: {node.attr}")
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_and_their_options_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    lines = re.findall(r"(?:`|^    |^\$ )(difana [a-z][^`\n]*)", text, re.M)
    wrong = []
    for line in lines:
        words = shlex.split(line.replace("\\|", "|").split("#")[0], posix=True)
        command = main.get_command(click.Context(main), words[1])
        if isinstance(command, click.Group) and len(words) > 2:
            command = command.get_command(click.Context(command), words[2])
        if command is None:
            wrong.append(line)
            continue
        known = {opt for p in command.params for opt in (*p.opts, *p.secondary_opts)}
        wrong += [f"{line}: {w}" for w in words[2:] if w.startswith("--") and w not in known]
    assert wrong == []
