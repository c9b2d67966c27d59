from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from difana._errors import InputError
from difana.metrics import asimov_significance, relative_bias, separation


def textbook(s, b, sigma=None):
    s, b = np.longdouble(s), np.longdouble(b)  # the formula as printed cancels badly
    if sigma is None:
        return np.sqrt(2 * ((s + b) * np.log(1 + s / b) - s))
    v = sigma**2
    first = (s + b) * np.log((s + b) * (b + v) / (b**2 + (s + b) * v))
    return np.sqrt(2 * (first - b**2 / v * np.log(1 + v * s / (b * (b + v)))))


def test_significance_is_the_textbook_formula():
    s, b, sigma = (g.ravel() for g in np.meshgrid([0.5, 3.0, 40], [1.0, 30, 500], [0.1, 2.0, 60]))
    np.testing.assert_allclose(asimov_significance(s, b), textbook(s, b), rtol=1e-9)
    np.testing.assert_allclose(asimov_significance(s, b, sigma), textbook(s, b, sigma), rtol=1e-7)


def test_significance_is_the_profiled_likelihood_ratio():
    s, b, sigma = 12.0, 20.0, 5.0
    tau = b / sigma**2

    def twice_nll(background):
        n, m = s + b, tau * b
        return 2 * (background - n * np.log(background) + tau * background - m * np.log(background))

    profiled = minimize_scalar(twice_nll, bounds=(5, 80), method="bounded", options={"xatol": 1e-9})
    free = -2 * ((s + b) * np.log(s + b) - (s + b) + tau * b * np.log(b) - tau * b)
    np.testing.assert_allclose(
        asimov_significance(s, b, sigma) ** 2, profiled.fun - free, rtol=1e-8
    )


@pytest.mark.parametrize("sigma", [0.0, 3.0])
def test_small_signal(sigma):
    s, b = 1e-9, 50.0
    slope = 1 / np.sqrt(b + sigma**2)
    np.testing.assert_allclose(asimov_significance(s, b, sigma), s * slope, rtol=1e-8)
    gradient = jax.grad(asimov_significance)
    np.testing.assert_allclose(gradient(0.0, b, sigma), slope, rtol=1e-12)
    border = 0.1 * b
    left, right = (asimov_significance(border + d, b, sigma) for d in (-1e-9, 1e-9))
    np.testing.assert_allclose(left, right, rtol=1e-9)


def test_gradients_are_finite_differences(finite_difference):
    x = jnp.array([8.0, 40.0, 4.0])
    gradient = jax.jit(jax.grad(lambda x: asimov_significance(*x)))(x)
    wanted = finite_difference(lambda x: asimov_significance(*x), x)
    np.testing.assert_allclose(gradient, wanted, rtol=1e-6)


def test_empty_background():
    with pytest.raises(InputError, match="background must be positive"):
        asimov_significance(1.0, 0.0)
    with pytest.raises(InputError, match="negative"):
        asimov_significance(-1.0, 1.0)
    value, gradient = jax.jit(jax.value_and_grad(asimov_significance, argnums=1))(1.0, 0.0)
    assert value == 0
    assert jnp.isfinite(gradient)


def test_relative_bias():
    soft, hard = jnp.array([[12.0, 5.0, 3.0]]), jnp.array([[10.0, 10.0, 0.0]])
    np.testing.assert_allclose(relative_bias(soft, hard), [[0.2, -0.5, 0.0]])
    assert jnp.isfinite(jax.grad(lambda h: relative_bias(soft, h).sum())(hard)).all()
    with pytest.raises(InputError, match="differ in shape"):
        relative_bias(soft, hard[0])


def test_separation(finite_difference):
    s, b = np.array([1.0, 4.0, 5.0]), np.array([60.0, 30.0, 10.0])
    p, q = s / s.sum(), b / b.sum()
    np.testing.assert_allclose(separation(s, b), 0.5 * ((p - q) ** 2 / (p + q)).sum(), rtol=1e-12)
    np.testing.assert_allclose(separation(7 * s, b), separation(b, 0.1 * s), rtol=1e-12)
    assert separation([1.0, 0.0, 0.0], [0.0, 2.0, 0.0]) == 1  # an empty bin harms nobody
    gradient = jax.jit(jax.grad(separation))(jnp.asarray(s), jnp.asarray(b))
    wanted = finite_difference(lambda s: separation(s, b), jnp.asarray(s))
    np.testing.assert_allclose(gradient, wanted, rtol=1e-6, atol=1e-9)
    for bad in ([0.0, 0.0, 0.0], [1.0, np.nan, 1.0], [-1.0, 0.5, 0.0]):
        with pytest.raises(InputError, match="signal yields must be finite"):
            separation(bad, b)
    with pytest.raises(InputError, match="same bins"):
        separation(s, b[1:])


def test_separation_of_shifted_gaussians():
    # <S^2> of unit Gaussians at 0 and 1, by quadrature
    x = np.linspace(-8, 9, 20001)
    s, b = (np.exp(-((x - m) ** 2) / 2) for m in (1.0, 0.0))
    edges = np.linspace(-8, 9, 171)
    events = np.random.default_rng(1).normal(0, 1, (2, 400_000)) + np.array([[1.0], [0.0]])
    found = separation(*(np.histogram(own, edges)[0].astype(float) for own in events))
    np.testing.assert_allclose(found, separation(s, b), atol=2e-3)
