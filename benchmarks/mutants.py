"""Change one thing of the package at a time, and see whether a test notices.

    python benchmarks/mutants.py [--only TEXT] [--again] [--limit N] [--no-baseline] [--write]

Each mutant of ``mutants.toml`` is put into a copy of the tree, where the tests that belong to it
run with the default markers. It is noticed if one fails (or hangs), unseen if all pass. The same
tests run once without a change, or a failure would say nothing. ``--write`` keeps the verdicts in
the table; those of other mutants stay.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
import tomllib
import traceback
import warnings
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
LIST = Path(__file__).with_suffix(".toml")
RESULTS = ROOT / "benchmarks" / "results" / "mutants.md"
PARTS = ("difana", "tests", "paper_examples", "docs", "conftest.py", "pyproject.toml")
PARTS += ("README.md", "CHANGELOG.md")
# Imported once, before the tests are forked off: half of the time of a small test.
SHARED = ("jax", "equinox", "optax", "flax.nnx", "scipy.stats", "scipy.optimize", "pyhf")
OPTIONS = ("-x", "-q", "--no-header", "-p", "no:cacheprovider")
OPTIONS += ("-W", "ignore::pytest.PytestAssertRewriteWarning")  # of plugins imported before
PATIENCE = 600  # seconds: a mutant that hangs counts as noticed


class Mutant(NamedTuple):
    """One change of one file, and the arguments of pytest that should notice it."""

    file: str
    what: str
    old: str
    new: str
    tests: tuple[str, ...]


def read_list() -> list[Mutant]:
    """Return all mutants."""
    content = tomllib.loads(LIST.read_text(encoding="utf-8"))
    return [
        Mutant(file, what, old, new, tuple(own or entry["tests"]))
        for file, entry in content.items()
        for what, old, new, *own in entry["mutants"]
    ]


def copy_of_tree(folder: Path) -> Path:
    """Copy what the tests need."""
    tree = folder / "tree"
    tree.mkdir()
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, tree / part)
    if (shared := ROOT.parent / "shared").exists():
        (folder / "shared").symlink_to(shared)
    return tree


def run_tests(tree: Path, tests: tuple[str, ...]) -> tuple[int, str]:
    """Return the exit code of pytest, and the first failing test."""
    said = tree.parent / "said"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX has threads, but none of them works yet
        child = os.fork()
    if child == 0:
        signal.alarm(PATIENCE)
        with said.open("w", encoding="utf-8") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.chdir(tree)
        # no byte code: two changes within a second, of the same length, would look alike
        os.environ |= {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
        sys.dont_write_bytecode = True
        sys.path.insert(0, str(tree))
        code = 70  # an error of this script
        try:
            code = int(pytest.main([*OPTIONS, *tests]))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)  # nothing of the parent's is to be cleared away
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return 1, "(hangs)" if os.WTERMSIG(status) == signal.SIGALRM else "(crashes)"
    lines = said.read_text(encoding="utf-8", errors="replace").splitlines()
    failed = [line.split()[1] for line in lines if line.startswith(("FAILED ", "ERROR "))]
    return os.WEXITSTATUS(status), failed[0] if failed else lines[-1]


def judge(tree: Path, mutant: Mutant) -> tuple[str, str]:
    """Return ``noticed``, ``unseen`` or ``broken``, and what says so."""
    file = tree / mutant.file
    text = file.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        return "broken", f"the text occurs {text.count(mutant.old)} times: {mutant.old!r}"
    file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        code, said = run_tests(tree, mutant.tests)
    finally:
        file.write_text(text, encoding="utf-8")
    if code == 0:
        return "unseen", ""
    return ("noticed" if code == 1 else "broken"), said  # others: no test ran


def known() -> dict[tuple[str, str], tuple[str, str]]:
    """Return verdicts of earlier runs by file and change, from the table."""
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.exists() else []
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {(row[0], row[1]): (row[2], row[3].strip("`")) for row in rows if len(row) == 4}


def table(mutants: list[Mutant], found: dict[tuple[str, str], tuple[str, str]]) -> str:
    """Return the report, in the order of the list."""
    rows = [(m, *found[m.file, m.what]) for m in mutants if (m.file, m.what) in found]
    count = {verdict: sum(v == verdict for _, v, _ in rows) for verdict in ("noticed", "unseen")}
    summary = f"{len(rows)} of {len(mutants)} mutants: {count['noticed']} noticed, "
    summary += f"{count['unseen']} unseen. Default markers, without doctests."
    lines = [
        "# Single mutations, each against the tests that belong to it",
        "",
        "    python benchmarks/mutants.py --write    # or: make mutants",
        "",
        summary,
        "",
        "| place | mutation | verdict | first test that fails |",
        "|---|---|---|---|",
    ]
    for mutant, verdict, said in rows:
        test = f"`{said}`" if said else ""
        lines.append(f"| {mutant.file} | {mutant.what} | {verdict} | {test} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the mutants and print what stays unseen."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="mutants whose file or description holds this")
    parser.add_argument("--again", action="store_true", help="only what the table has not noticed")
    parser.add_argument("--limit", type=int, default=None, help="at most so many mutants")
    parser.add_argument("--no-baseline", action="store_true", help="trust that the tests pass")
    parser.add_argument("--write", action="store_true", help=f"into {RESULTS.relative_to(ROOT)}")
    options = parser.parse_args()
    os.environ.setdefault("DIFANA_TEST_CACHE", str(ROOT / ".cache" / "jax"))  # not of the copy
    for name in SHARED:
        importlib.import_module(name)
    mutants = read_list()
    chosen = [m for m in mutants if options.only in f"{m.file} {m.what}"]
    if options.again:
        before = known()
        chosen = [m for m in chosen if before.get((m.file, m.what), ("",))[0] != "noticed"]
    chosen = chosen[: options.limit]
    rows: list[tuple[Mutant, str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        tree = copy_of_tree(Path(folder))
        passing: dict[tuple[str, ...], bool] = {}
        for mutant in chosen:
            begin = time.perf_counter()
            if not options.no_baseline and mutant.tests not in passing:
                passing[mutant.tests] = run_tests(tree, mutant.tests)[0] == 0
            verdict, said = "broken", "the tests fail without a change"
            if passing.get(mutant.tests, True):
                verdict, said = judge(tree, mutant)
            rows.append((mutant, verdict, said))
            seconds = time.perf_counter() - begin
            print(f"{verdict:8} {seconds:5.0f} s  {mutant.file}: {mutant.what}  {said}", flush=True)
            if options.write:
                found = known() | {(mutant.file, mutant.what): (verdict, said)}
                RESULTS.write_text(table(mutants, found), encoding="utf-8")
    unseen = [m for m, verdict, _ in rows if verdict == "unseen"]
    broken = [m for m, verdict, _ in rows if verdict == "broken"]
    print(f"\n{len(rows)} mutants, {len(unseen)} unseen, {len(broken)} broken")
    for mutant in unseen:
        print(f"unseen: {mutant.file}: {mutant.what}")
    sys.exit(bool(unseen or broken))


if __name__ == "__main__":
    main()
