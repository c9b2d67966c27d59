"""The table of delta-NLL adds up to the difference of two fits."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm, poisson

from difana._errors import ModelError
from difana.infer import delta_nll, fit, q0
from difana.infer.parallel._many import best_fit
from difana.likelihood import Channel, Correlation, NormFactor, NormSys, Template, build_model


@pytest.fixture(scope="module")
def fits(rich):
    data = rich.model.data(rich.excess)
    null = eqx.filter_jit(lambda m, d: fit(m, d, fixed={"mu": 0.0}))(rich.model, data)
    return data, null, best_fit(rich.model, data)


def test_the_terms_add_up_to_the_statistic(rich, fits):
    data, null, best = fits
    found = delta_nll(rich.model, data, null, best, labels=("b", "s+b"))
    terms = np.concatenate([found.bins, found.constraints])
    assert float(found.total) == pytest.approx(terms.sum(), rel=1e-13)
    assert float(found.total) == pytest.approx(float(null.nll - best.nll), abs=1e-11)
    statistic = eqx.filter_jit(q0)(rich.model, data).value
    assert 2 * float(found.total) == pytest.approx(float(statistic), abs=1e-10)
    # each term by itself, from scipy
    n = np.asarray(rich.excess)
    expected = [
        -poisson.logpmf(n, np.asarray(rich.model.expected_main(f.params))) for f in (null, best)
    ]
    np.testing.assert_allclose(found.bins, expected[0] - expected[1], atol=1e-12)
    at = found.constraint_names.index("norm")
    expected = [-norm.logpdf(0.0, float(f["norm"])) for f in (null, best)]
    assert float(found.constraints[at]) == pytest.approx(expected[0] - expected[1], abs=1e-12)
    assert found.bin_names[3] == f"{rich.model.structure.channels[1].name}[0]"


def test_tables_show_the_largest_first(rich, fits):
    data, null, best = fits
    found = delta_nll(rich.model, data, null, best)
    sizes = [abs(value) for _, value in found.rows()]
    assert sizes == sorted(sizes, reverse=True)
    assert len(sizes) == 6 + len(found.constraint_names)
    text = found.as_text(most=2).splitlines()
    assert [line.split()[0] for line in text] == [
        "nll(A)",
        *(name.split()[0] for name, _ in found.rows()[:2]),
        str(len(sizes) - 2),
        "total",
    ]
    assert "others" not in found.as_text(most=None)
    table = found.as_dict()
    total = sum(table["bins"].values()) + sum(table["constraints"].values())
    assert table["total"] == pytest.approx(total)


def test_correlated_constraints_are_shared_out():
    bkg = Template([50.0], (NormSys(1.1, 0.9, "a"), NormSys(1.2, 0.8, "b")), name="bkg")
    matrix = np.array([[1.0, 0.6], [0.6, 1.0]])
    model = build_model(
        [Channel((bkg, Template([5.0], (NormFactor("mu"),), name="s")), name="SR")],
        correlations=[Correlation(("a", "b"), matrix)],
    )
    data = model.data([60.0])
    a, b = jnp.array([0.5, -0.3, 1.0]), jnp.array([-0.2, 0.4, 0.7])
    found = delta_nll(model, data, a, b)
    expected = [p[:2] @ np.linalg.inv(matrix) @ p[:2] / 2 for p in (np.array(a), np.array(b))]
    assert float(found.constraints.sum()) == pytest.approx(expected[0] - expected[1], rel=1e-12)
    assert float(found.total) == pytest.approx(float(model.nll(a, data) - model.nll(b, data)))
    jitted = eqx.filter_jit(delta_nll)(model, data, a, b)
    np.testing.assert_allclose(jitted.bins, found.bins, rtol=1e-12)


def test_fits_of_another_model_are_refused(rich, fits, two_bins):
    data, null, _ = fits
    other = two_bins([12.0, 11.0], [50.0, 52.0], [3.0, 7.0])
    with pytest.raises(ModelError, match="must be fits of this model"):
        delta_nll(rich.model, data, null, other.init)
    with pytest.raises(ModelError, match="data have shape"):
        delta_nll(rich.model, data[:-1], null, null)
