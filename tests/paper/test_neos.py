"""A small run of the NEOS example: training on the CLs must pay, in hard bins on test events."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "paper_examples" / "neos"

pytestmark = [
    pytest.mark.paper,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="paper_examples/neos is not in this checkout"),
]


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("neos_run", FOLDER / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_training_on_cls_beats_cross_entropy(example):
    found = example.run(**example.REDUCED)
    cls, bce = found["CLs"], found["BCE"]
    assert cls["CLs"][0] < 0.5 * bce["CLs"][0]
    assert cls["sigma_mu"][0] < 0.8 * bce["sigma_mu"][0]
    # 20 signal events: nothing can be below 1 / sqrt(20)
    assert cls["sigma_mu"][0] > 20**-0.5


def test_expected_values_are_consistent(example):
    expected = json.loads((FOLDER / "expected.json").read_text())
    assert len(expected["options"]["seeds"]) >= 3
    for loss in example.LOSSES:
        for name in example.METRICS:
            entry = expected["means"][loss][name]
            values = expected["values"][loss][name]
            assert entry["value"] == pytest.approx(sum(values) / len(values), rel=1e-3)
    assert expected["means"]["CLs"]["CLs"]["value"] < expected["means"]["BCE"]["CLs"]["value"]
