"""The examples on published ATLAS likelihoods give the numbers they quote."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "paper_examples"

pytestmark = [
    pytest.mark.paper,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="paper_examples is not in this checkout"),
]


def example(name):
    spec = importlib.util.spec_from_file_location(f"{name}_run", FOLDER / name / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    expected = json.loads((FOLDER / name / "expected.json").read_text(encoding="utf-8"))
    return module, expected


def test_quoted_numbers_agree_with_pyhf():
    _, sbottom = example("atlas_sbottom")
    assert all(point["largest_difference"] < 5e-5 for point in sbottom.values())
    _, one_lepton = example("atlas_1lbb")
    assert one_lepton["points"] == 125
    assert set(one_lepton["pyhf"]) == {"700_400", "750_100", "300_150"}
    assert all(point["largest_difference"] < 1e-5 for point in one_lepton["pyhf"].values())


@pytest.mark.slow
def test_sbottom(data_dir):
    folder = data_dir / "likelihoods" / "sbottom-RegionA"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    module, expected = example("atlas_sbottom")
    found = module.run(folder, ["1300_205_60"])
    for point, numbers in found.items():
        np.testing.assert_allclose(numbers["cls"], expected[point]["cls"], rtol=1e-6)
        np.testing.assert_allclose(numbers["limit"], expected[point]["limit"], rtol=1e-6)


@pytest.mark.slow
def test_one_lepton_two_b_jets(data_dir, tmp_path):
    folder = data_dir / "likelihoods" / "1Lbb"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    module, expected = example("atlas_1lbb")
    found = module.scan(folder, tmp_path)
    assert (tmp_path / "exclusion.png").stat().st_size > 10_000
    assert found["excluded"] == expected["excluded"]
    assert found["points"] == expected["points"] == 125
    for point, numbers in expected["pyhf"].items():
        own = found["table"][f"C1N2_Wh_hbb_{point}"]["observed"]
        assert own == pytest.approx(numbers["pyhf"], rel=1e-5)
