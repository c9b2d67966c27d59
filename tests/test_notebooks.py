"""Every notebook runs (``make notebooks``) and is committed with legible pictures."""

from __future__ import annotations

import ast
import asyncio
import base64
import importlib
import os
import struct
import warnings
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
WRITE = "DIFANA_WRITE_NOTEBOOKS"  # keep what they show now
WIDTH = 900  # pixels
ALL = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def widths(notebook: Any) -> list[int]:
    """Return the widths of the pictures, in pixels."""
    pictures = [output["data"].get("image/png") for output in outputs(notebook) if "data" in output]
    decoded = [base64.b64decode(picture) for picture in pictures if picture]
    return [struct.unpack(">I", png[16:20])[0] for png in decoded]


def read(path: Path) -> Any:
    with warnings.catch_warnings():  # of the Jupyter machinery
        warnings.simplefilter("ignore")
        import nbformat

        return nbformat.read(path, as_version=4)


@ALL
def test_the_committed_notebook_shows_its_result(path: Path) -> None:
    notebook = read(path)
    assert widths(notebook), "no picture"
    assert min(widths(notebook)) >= WIDTH
    assert any(output["output_type"] == "stream" for output in outputs(notebook))
    assert not any(output["output_type"] == "error" for output in outputs(notebook))


@pytest.mark.slow
@pytest.mark.notebook
@ALL
def test_the_notebook_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # one device, as a reader has: eight simulated ones on few cores may wait for each other
    flags = os.environ.get("XLA_FLAGS", "").split()
    kept = [flag for flag in flags if "host_platform_device_count" not in flag]
    monkeypatch.setenv("XLA_FLAGS", " ".join(kept))
    notebook = read(path)
    with warnings.catch_warnings():  # of the Jupyter machinery, not of the notebook
        warnings.simplefilter("ignore")
        import nbclient
        import nbformat

        client = nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3")
        asyncio.run(client.async_execute())
        if os.environ.get(WRITE):
            for cell in notebook.cells:
                cell.metadata.pop("execution", None)  # times of day
            nbformat.write(notebook, path)
    assert min(widths(notebook)) >= WIDTH
    assert any(output["output_type"] == "stream" for output in outputs(notebook))


@ALL
def test_what_the_notebook_imports_is_there(path: Path) -> None:
    cells = [cell.source for cell in read(path).cells if cell.cell_type == "code"]
    code = "\n".join(line for cell in cells for line in cell.splitlines() if line[:1] != "%")
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("difana"):
            module = importlib.import_module(str(node.module))
            assert [one.name for one in node.names if not hasattr(module, one.name)] == []
