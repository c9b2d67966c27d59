"""Required packages are those that difana imports, and the other way round."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from difana.config import versions

ROOT = Path(__file__).parents[1]
INSTALLED = {"jax": "jax", "jaxlib": "jax"}  # jaxlib comes with jax


def imported(folder: Path) -> set[str]:
    """Return the top-level names of all imports, those inside functions included."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"difana"}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w.-]", text, maxsplit=1)[0].lower() for text in requirements}


def test_required_packages_are_the_imported_ones() -> None:
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("no pyproject.toml: not a checkout")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    required = names(project["dependencies"])
    optional = names(
        [
            text
            for name in ("plot", "io", "fit", "export", "dist", "pythia", "trees")
            for text in extras[name]
        ]
    )
    owners = packages_distributions()
    used = {
        INSTALLED.get(module, owners.get(module, [module])[0]).lower().replace("_", "-")
        for module in imported(ROOT / "difana")
    }
    assert used - required - optional == set(), "imported, and in no list"
    assert required - used == set(), "required, and never imported"
    # jax.export writes its files with flatbuffers; one of two packages has the module xgboost
    trees = {"xgboost", "xgboost-cpu"}
    assert used & trees
    assert optional - used - trees == {"flatbuffers"}, (
        "in an extra of the package, and never imported"
    )


def test_recorded_versions_are_those_of_required_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(versions()) - {"difana", "python", "jaxlib"} <= names(project["dependencies"])
