"""The examples on published ATLAS likelihoods give the numbers they quote."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.paper
sbottom = pytest.mark.parametrize("example", ["atlas_sbottom"], indirect=True)
one_lepton = pytest.mark.parametrize("example", ["atlas_1lbb"], indirect=True)


@sbottom
def test_quoted_numbers_of_sbottom_agree_with_pyhf(example):
    assert all(point["largest_difference"] < 5e-5 for point in example.expected.values())


@one_lepton
def test_quoted_numbers_of_one_lepton_agree_with_pyhf(example):
    found = example.expected
    assert found["points"] == 125
    assert set(found["pyhf"]) == {"700_400", "750_100", "300_150"}
    assert all(point["largest_difference"] < 1e-5 for point in found["pyhf"].values())


@pytest.mark.slow
@sbottom
def test_sbottom(example, run, data_dir):
    folder = data_dir / "likelihoods" / "sbottom-RegionA"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    expected = example.expected
    found = run.run(folder, ["1300_205_60"])
    for point, numbers in found.items():
        np.testing.assert_allclose(numbers["cls"], expected[point]["cls"], rtol=1e-6)
        np.testing.assert_allclose(numbers["limit"], expected[point]["limit"], rtol=1e-6)


@pytest.mark.slow
@one_lepton
def test_one_lepton_two_b_jets(example, run, data_dir, tmp_path):
    folder = data_dir / "likelihoods" / "1Lbb"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    expected = example.expected
    found = run.scan(folder, tmp_path)
    assert (tmp_path / "exclusion.png").stat().st_size > 10_000
    assert found["excluded"] == expected["excluded"]
    assert found["points"] == expected["points"] == 125
    for point, numbers in expected["pyhf"].items():
        own = found["table"][f"C1N2_Wh_hbb_{point}"]["observed"]
        assert own == pytest.approx(numbers["pyhf"], rel=1e-5)
