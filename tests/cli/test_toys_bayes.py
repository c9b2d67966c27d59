"""Commands toys and bayes: what they print, and that toys continue."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from difana.cli import main


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFANA_CACHE", "off")
    background = {"name": "background", "data": [3.0], "modifiers": []}
    mu = {"name": "mu", "type": "normfactor", "data": None}
    signal = {"name": "signal", "data": [4.0], "modifiers": [mu]}
    workspace = {
        "channels": [{"name": "SR", "samples": [signal, background]}],
        "observations": [{"name": "SR", "data": [2.0]}],
        "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": []}}],
        "version": "1.0.0",
    }
    path = tmp_path / "workspace.json"
    path.write_text(json.dumps(workspace))
    return lambda name, *args: CliRunner().invoke(main, [name, str(path), *map(str, args)])


def test_toys(invoke, tmp_path):
    file = tmp_path / "toys.npz"
    options = ("--mu", 1.0, "--number", 600, "--seed", 3, "--resume", file)
    result = invoke("toys", *options, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert found["status"] == "ok"
    assert found["failed"] == [0, 0]
    exact = stats.poisson.cdf(2, 7) / stats.poisson.cdf(2, 3)
    assert abs(found["observed"] - exact) < 4 * found["observed_error"]
    assert len(found["expected"]) == len(found["expected_error"]) == 5
    again = invoke("toys", *options)
    assert again.exit_code == 0, again.output
    assert f"{found['observed']:.5g}" in again.output
    other = invoke("toys", "--seed", 4, "--number", 600, "--resume", file)
    assert other.exit_code == 2
    assert "give another file" in other.output


@pytest.mark.slow
def test_bayes(invoke):
    result = invoke("bayes", "--draws", 300, "--warmup", 200, "--chains", 2, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert found["status"] == "ok"
    # flat in mu >= 0: a Gamma(3) in the rate, cut below the background
    gamma = stats.gamma(3)
    exact = (gamma.isf(0.05 * gamma.sf(3.0)) - 3.0) / 4.0
    assert found["upper_limit"] == pytest.approx(exact, rel=0.15)
    low, high = found["interval_hpd"]
    assert 0 <= low < 0.1 < high < exact
    assert np.isfinite(found["parameters"]["mu"]["r_hat"])


@pytest.mark.slow
def test_bayes_prints_a_table(invoke):
    result = invoke("bayes", "--draws", 300, "--warmup", 200, "--chains", 2)
    assert result.exit_code == 0, result.output
    assert "95 % credibility" in result.output
