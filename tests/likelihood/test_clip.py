"""Yields that systematic shifts would make negative."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from difana.infer import fit, hypotest, upper_limit
from difana.likelihood import (
    Channel,
    HistoSys,
    NormFactor,
    NormSys,
    StatError,
    Template,
    build_model,
    model_with,
)
from difana.likelihood.engine._layout import layout_of
from difana.likelihood.engine.curvature import constants_of, evaluate, hessian


def steep(*extra, layout=1):
    """Return a model whose shift makes the first bin negative below -0.43 sigma."""
    signal = Template([2.0, 8.0], (NormFactor("mu"),), name="sig")
    shift = HistoSys([6.0, 44.0], [-4.0, 36.0], "j")
    background = Template([3.0, 40.0], (shift, *extra), name="bkg")
    return build_model([Channel((signal, background), name="A")])


def test_clipped_yields():
    model = model_with(steep(), clip=True)
    alphas = np.linspace(-4, 3, 57)
    for alpha in alphas:
        params = jnp.array([1.0, alpha])
        plain, found = steep().rows(params), model.rows(params)
        assert (np.asarray(found) > 0).all()
        above = np.asarray(plain) > 1e-2
        np.testing.assert_array_equal(np.asarray(found)[above], np.asarray(plain)[above])
        np.testing.assert_allclose(np.asarray(found)[np.asarray(plain) < -1e-2], 1e-5)
    empty = build_model([Channel((Template([0.0, -1.0], (NormFactor("mu"),), name="s"),
                                  Template([5.0, 5.0], name="b")), name="A")])  # fmt: skip
    rows = model_with(empty, clip=True).rows(empty.init)
    assert rows.tolist() == [0.0, 1e-5, 5.0, 5.0]


def test_a_fit_ends_in_the_corner():
    """The example that gave a deviance of -32; the minimum lies where the first bin vanishes."""
    model = steep()
    data = model.data(jnp.array([0.0, 38.0]))
    assert not fit(model, data).ok
    clip = model_with(model, clip=True)
    best = fit(clip, data)
    assert best.ok
    assert float(best.half_deviance) > 0

    def sharp(theta):  # with a corner, in plain NumPy
        mu, alpha = theta
        rows = np.asarray(model.rows(jnp.array(theta)))
        first, second = 2 * mu + max(rows[2], 1e-5), 8 * mu + rows[3]
        return first + second - 38 - 38 * np.log(second / 38) + 0.5 * alpha**2

    found = min(
        (minimize(sharp, start, method="Nelder-Mead", bounds=[(0, 10), (-5, 5)],
                  options={"xatol": 1e-9, "fatol": 1e-12}) for start in ([0.1, -0.3], [0.0, -1.0])),
        key=lambda result: result.fun,
    )  # fmt: skip
    np.testing.assert_allclose(float(best.half_deviance), found.fun, atol=1e-4)
    tested = hypotest(clip, data, mu=1.0)
    assert int(tested.status) & ~8 == 0
    assert 0 < float(tested.observed) < 1
    limits = upper_limit(clip, data)
    assert limits.ok
    at_limit = hypotest(clip, data, mu=limits.observed)
    np.testing.assert_allclose(float(at_limit.observed), 0.05, rtol=1e-6)


def test_nothing_changes_without_need():
    spread = HistoSys([6.0, 44.0], [2.0, 36.0], "j")
    background = Template([3.0, 40.0], (spread, NormSys(1.1, 0.9, "n")), name="bkg")
    signal = Template([2.0, 8.0], (NormFactor("mu"),), name="sig")
    model = build_model([Channel((signal, background), name="A")])
    data = model.data(jnp.array([5.0, 47.0]))
    plain, clip = fit(model, data), fit(model_with(model, clip=True), data)
    np.testing.assert_allclose(clip.params, plain.params, rtol=1e-12)
    np.testing.assert_allclose(clip.covariance, plain.covariance, rtol=1e-12)


@pytest.mark.parametrize("alpha", [-0.4287, -0.6, 0.5])
def test_written_out_derivatives(alpha):
    model = model_with(steep(NormSys(1.2, 0.8, "n"), StatError([0.5, 2.0], "st")), clip=True)
    params = jnp.array([0.3, alpha, 0.4, 1.1, 0.9])
    data = model.data(jnp.array([1.0, 38.0]))
    by_hand = hessian(model, params, data)
    traced = jax.hessian(lambda theta: model.half_deviance(theta, data))(params)
    np.testing.assert_allclose(by_hand, traced, rtol=1e-9, atol=1e-9 * float(jnp.max(abs(traced))))
    layout = layout_of(model.structure, eliminate=False)
    found = evaluate(
        model, constants_of(model, layout), layout, params, data, jnp.zeros(5, bool),
        near=jnp.zeros((), bool),
    )  # fmt: skip
    gradient = jax.grad(model.half_deviance)(params, data)
    np.testing.assert_allclose(found.gradient, gradient[layout.shared], rtol=1e-9)
    assert np.linalg.eigvalsh(found.curvature)[0] > 0
