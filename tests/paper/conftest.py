"""The modules of a paper example, as its own ``run.py`` sees them."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from difana._numerics import third_party_promotion

EXAMPLES = Path(__file__).parents[2] / "paper_examples"

collect_ignore_glob = [] if EXAMPLES.is_dir() else ["test_*.py"]  # not in every checkout


@pytest.fixture(autouse=True)
def _as_users_write() -> Iterator[None]:
    """Examples are read by users, for whom ranks and types are promoted as in NumPy."""
    with third_party_promotion():
        yield


class Example:
    """A folder of ``paper_examples``; its modules are attributes, imported when asked for."""

    def __init__(self, folder: Path) -> None:
        """Remember the folder."""
        self.folder = folder

    @property
    def expected(self) -> Any:
        """What was measured and written down."""
        return json.loads((self.folder / "expected.json").read_text(encoding="utf-8"))

    def __getattr__(self, name: str) -> ModuleType:
        """Import a module of the folder."""
        return importlib.import_module(name)


@contextmanager
def opened(name: str) -> Iterator[Example]:
    """Make the modules of an example importable, and forget them afterwards."""
    folder = EXAMPLES / name
    sys.path.insert(0, str(folder))
    try:
        yield Example(folder)
    finally:
        sys.path.remove(str(folder))
        for path in folder.glob("*.py"):  # other examples have a module of that name, too
            sys.modules.pop(path.stem, None)


@pytest.fixture(scope="module")
def example(request: pytest.FixtureRequest) -> Iterator[Example]:
    """The example of the test (an indirect parameter), or of its module (``EXAMPLE``)."""
    with opened(getattr(request, "param", None) or request.module.EXAMPLE) as found:
        yield found


@pytest.fixture(scope="module")
def run(example: Example) -> ModuleType:
    """The ``run.py`` of the example."""
    return example.run
