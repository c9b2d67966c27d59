from __future__ import annotations

import asyncio
import os
import warnings
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
SLOW = {
    "02_likelihoods",
    "03_neos",
    "04_inferno",
    "05_systematics",
    "06_unfolding",
}  # a minute or more
CASES = [
    pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if path.stem in SLOW else [])
    for path in NOTEBOOKS
]


@pytest.mark.notebook
@pytest.mark.parametrize("path", CASES)
def test_the_notebook_runs(path, monkeypatch):
    # one device, as a reader has: eight simulated ones on few cores may wait for each other
    flags = os.environ.get("XLA_FLAGS", "").split()
    kept = [flag for flag in flags if "host_platform_device_count" not in flag]
    monkeypatch.setenv("XLA_FLAGS", " ".join(kept))
    with warnings.catch_warnings():  # of the Jupyter machinery, not of the notebook
        warnings.simplefilter("ignore")
        import nbclient
        import nbformat

        notebook = nbformat.read(path, as_version=4)
        client = nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3")
        asyncio.run(client.async_execute())
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any(output["output_type"] == "stream" for output in outputs)
