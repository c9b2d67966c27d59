"""The spline against that of distrax, an independent one, and on a circle."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np

from difana._numerics import third_party_promotion
from difana.flows._spline import spline_forward, spline_inverse, spline_size

BINS, BOUND = 5, 3.0


def parameters(circular: bool):  # noqa: FBT001
    size = spline_size(BINS, "circular" if circular else "one")
    return jax.random.normal(jax.random.key(0), (200, 2, size), jnp.float64)


def values(width: float = 8.0):
    return width * (jax.random.uniform(jax.random.key(1), (200, 2), jnp.float64) - 0.5)


def test_it_is_the_spline_of_distrax():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import distrax
    params, x = parameters(circular=False), values()
    y, log_slope = spline_forward(params, x, bins=BINS, bound=BOUND)
    ends = jnp.zeros((200, 2, 1))  # not looked at: the slopes there are one
    theirs = jnp.concatenate([params[..., : 2 * BINS], ends, params[..., 2 * BINS :], ends], -1)
    with third_party_promotion():
        spline = distrax.RationalQuadraticSpline(
            theirs, -BOUND, BOUND, boundary_slopes="identity", min_bin_size=2e-3 * BOUND,
            min_knot_slope=1e-3,
        )  # fmt: skip
        expected = spline.forward_and_log_det(x)
    np.testing.assert_allclose(y, expected[0], atol=1e-9)
    np.testing.assert_allclose(log_slope, expected[1], atol=1e-9)
    outside = np.abs(np.asarray(x)) > BOUND
    assert outside.any()
    np.testing.assert_array_equal(np.asarray(y)[outside], np.asarray(x)[outside])


def test_there_and_back():
    params, x = parameters(circular=False), values()
    y, there = spline_forward(params, x, bins=BINS, bound=BOUND)
    back, again = spline_inverse(params, y, bins=BINS, bound=BOUND)
    np.testing.assert_allclose(back, x, atol=1e-9)
    np.testing.assert_allclose(there, again, atol=1e-7)


def test_a_circle_has_no_ends():
    params, x = parameters(circular=True), values(2 * BOUND)
    ring = jnp.array([True, False])
    options = {"bins": BINS, "bound": BOUND, "periodic": ring}
    y, there = spline_forward(params, x, **options)
    back, again = spline_inverse(params, y, **options)
    np.testing.assert_allclose(back, x, atol=1e-9)
    np.testing.assert_allclose(there, again, atol=1e-7)
    low, high = jnp.full((200, 2), -BOUND), jnp.full((200, 2), BOUND - 1e-12)
    ends = [spline_forward(params, end, **options) for end in (low, high)]
    turns = np.mod(np.asarray(ends[0][0] - ends[1][0])[:, 0] + BOUND, 2 * BOUND) - BOUND
    np.testing.assert_allclose(turns, 0, atol=1e-8)
    np.testing.assert_allclose(ends[0][1][:, 0], ends[1][1][:, 0], atol=1e-7)
    assert np.abs(np.asarray(ends[0][1][:, 0])).max() > 0.1  # slopes there are free
    np.testing.assert_allclose(ends[0][1][:, 1], 0, atol=1e-9)
