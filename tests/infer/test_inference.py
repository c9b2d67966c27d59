"""Limits, CLs and significance from one compiled fit, against pyhf and closed forms."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pyhf
import pytest

from difana._errors import ModelError
from difana.infer import Inference
from difana.likelihood import (
    Channel,
    HistoSys,
    NormFactor,
    NormSys,
    StatError,
    Template,
    build_model,
    to_workspace,
)

OBSERVED = [58.0, 49.0, 33.0]


@pytest.fixture(scope="module")
def model():
    signal = Template([8.0, 7.0, 5.0], (NormFactor("mu"), NormSys(1.1, 0.95, "lumi")), name="s")
    background = Template(
        [50.0, 42.0, 21.0],
        (
            NormSys(1.1, 0.95, "lumi"),
            HistoSys(np.array([52.0, 42.0, 19.0]), np.array([47.0, 43.0, 24.0]), "shape"),
            StatError(np.array([3.0, 2.0, 2.0]), "staterror_SR"),
        ),
        name="b",
    )
    return build_model([Channel((signal, background), name="SR")])


@pytest.fixture(scope="module")
def reference(model):
    workspace = pyhf.Workspace(to_workspace(model, model.data(OBSERVED)))
    pdf = workspace.model()
    return pdf, workspace.data(pdf)


@pytest.fixture
def tight():
    pyhf.set_backend("numpy", pyhf.optimize.scipy_optimizer(tolerance=1e-14))
    yield
    pyhf.set_backend("numpy")


@pytest.mark.parametrize("mu", [0.3, 1.0, 2.5])
def test_cls_of_pyhf(model, reference, tight, mu: float) -> None:
    found = Inference(model, model.data(OBSERVED)).cls(mu)
    pdf, data = reference
    observed, expected = pyhf.infer.hypotest(mu, data, pdf, return_expected_set=True)
    assert found.observed == pytest.approx(float(observed), rel=1e-5)
    np.testing.assert_allclose(found.expected, np.ravel(expected), rtol=1e-5)
    assert found.message == "ok"


def test_limits_have_cls_of_five_percent(model, reference, tight) -> None:
    found = Inference(model, model.data(OBSERVED)).limits()
    pdf, data = reference
    observed = pyhf.infer.hypotest(found.observed, data, pdf)
    assert float(observed) == pytest.approx(0.05, rel=1e-4)
    for i, limit in enumerate(found.expected):
        _, expected = pyhf.infer.hypotest(limit, data, pdf, return_expected_set=True)
        assert float(expected[i]) == pytest.approx(0.05, rel=1e-4)
    assert list(found.expected) == sorted(found.expected)


def test_significance_of_pyhf(model, reference, tight) -> None:
    found = Inference(model, model.data(OBSERVED)).significance()
    pdf, data = reference
    p, expected = pyhf.infer.hypotest(0.0, data, pdf, test_stat="q0", return_expected=True)
    from scipy.stats import norm

    assert found.observed == pytest.approx(norm.isf(float(p)), rel=1e-5)
    assert found.expected == pytest.approx(norm.isf(float(expected)), rel=1e-4)


def test_without_data_nuisances_stand_where_they_start(model) -> None:
    blind = Inference(model)
    asimov = Inference(model, model.expected(model.init.at[model.poi_index].set(0.0)))
    assert blind.limits().observed is None
    np.testing.assert_allclose(blind.limits().expected, asimov.limits().expected, rtol=1e-6)
    with pytest.raises(ModelError, match="needs data"):
        _ = blind.best


def test_counting_experiment() -> None:
    signal = Template([10.0], (NormFactor("mu"),), name="s")
    model = build_model([Channel((signal, Template([50.0], name="b")), name="SR")])
    inference = Inference(model, model.data(jnp.array([60.0])))
    z = np.sqrt(2 * (60 * np.log(1.2) - 10))
    assert inference.significance().observed == pytest.approx(z, rel=1e-8)
    assert inference.significance().expected == pytest.approx(z, rel=1e-8)
    assert inference.best["mu"] == pytest.approx(1.0, rel=1e-6)
    deficit = Inference(model, model.data(jnp.array([40.0])))
    assert deficit.significance().observed == 0.0
    assert deficit.cls(0.0).observed == pytest.approx(1.0)


def test_signal_without_influence_is_reported() -> None:
    signal = Template([0.0], (NormFactor("mu"),), name="s")
    model = build_model([Channel((signal, Template([50.0], name="b")), name="SR")])
    limits = Inference(model).limits()
    assert np.isnan(limits.expected[2])
    assert "no limit was found" in limits.message


def test_level_out_of_range(model) -> None:
    with pytest.raises(ModelError, match="between 0 and 1"):
        Inference(model).limits(level=1.0)
