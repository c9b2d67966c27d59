"""The examples on published ATLAS likelihoods give the numbers they quote."""

from __future__ import annotations

import equinox as eqx
import numpy as np
import pytest

from difana.infer import hypotest
from difana.likelihood import from_workspace, read_patchset, read_workspace

pytestmark = pytest.mark.paper
sbottom = pytest.mark.parametrize("example", ["atlas_sbottom"], indirect=True)
one_lepton = pytest.mark.parametrize("example", ["atlas_1lbb"], indirect=True)


@sbottom
def test_quoted_numbers_of_sbottom_agree_with_pyhf(example, run):
    """The values that pyhf's own tests assert; CLs and limits tell the same exclusion."""
    found = example.expected
    assert set(found) == set(run.PUBLISHED)
    for point, published in run.PUBLISHED.items():
        cls, limits = found[point]["cls"], [found[point]["limit"], *found[point]["expected_limits"]]
        np.testing.assert_allclose(cls, published, rtol=5e-5)
        largest = np.max(np.abs(np.array(cls) / published - 1))
        assert found[point]["largest_difference"] == pytest.approx(largest, rel=1e-9)
        assert [x < 0.05 for x in cls] == [x < 1 for x in limits]


@one_lepton
def test_quoted_numbers_of_one_lepton_agree_with_pyhf(example):
    found = example.expected
    assert found["points"] == 125
    assert set(found["pyhf"]) == {"700_400", "750_100", "300_150"}
    for point in found["pyhf"].values():
        assert abs(point["difana"] / point["pyhf"] - 1) <= point["largest_difference"] < 1e-7


@one_lepton
def test_a_quoted_point_is_what_difana_finds(example, data_dir):
    """One of the 125 points, against the number of pyhf in the record."""
    folder = data_dir / "likelihoods" / "1Lbb"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    patches = read_patchset(folder / "patchsets_v1.json.gz")
    workspace = patches.apply(
        read_workspace(folder / "workspace_v1.json.gz"), "C1N2_Wh_hbb_300_150"
    )
    found = eqx.filter_jit(hypotest)(*from_workspace(workspace))
    quoted = example.expected["pyhf"]["300_150"]["pyhf"]
    assert float(found.observed) == pytest.approx(quoted, rel=1e-7)


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
    assert (tmp_path / "exclusion.png").exists()
    assert found["excluded"] == expected["excluded"]
    assert found["points"] == expected["points"] == 125
    for point, numbers in expected["pyhf"].items():
        own = found["table"][f"C1N2_Wh_hbb_{point}"]["observed"]
        assert own == pytest.approx(numbers["pyhf"], rel=1e-5)
