from __future__ import annotations

import asyncio
import warnings
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
SLOW = {"05_systematics"}  # compiles the gradient of a Fisher information
CASES = [
    pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if path.stem in SLOW else [])
    for path in NOTEBOOKS
]


@pytest.mark.notebook
@pytest.mark.parametrize("path", CASES)
def test_the_notebook_runs(path):
    with warnings.catch_warnings():  # of the Jupyter machinery, not of the notebook
        warnings.simplefilter("ignore")
        import nbclient
        import nbformat

        notebook = nbformat.read(path, as_version=4)
        client = nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3")
        asyncio.run(client.async_execute())
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any(output["output_type"] == "stream" for output in outputs)
