"""Hard histograms against NumPy and boost-histogram; N-D product kernels; learned bins; cuts."""

from __future__ import annotations

import boost_histogram as bh
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import ndtr

from difana._errors import InputError
from difana.hist import (
    argmax_histogram,
    hard_histogram,
    relaxed_cut,
    soft_cut,
    soft_histogram,
    soft_histogram_nd,
    softmax_histogram,
)

RNG = np.random.default_rng(0)
X = np.concatenate([RNG.normal(0, 1, 500), [-2.0, -0.5, 1.0, 2.0]])
WEIGHTS = RNG.normal(1, 1, len(X))
EDGES = np.array([-2.0, -0.5, 0.1, 1.0, 2.0])


def test_hard_equals_numpy_and_boost_histogram():
    h = jax.jit(lambda *a: hard_histogram(*a, flow="drop"))(X, WEIGHTS, EDGES)
    np.testing.assert_allclose(h.contents, np.histogram(X, EDGES, weights=WEIGHTS)[0], rtol=1e-12)
    np.testing.assert_allclose(h.squares, np.histogram(X, EDGES, weights=WEIGHTS**2)[0], rtol=1e-12)
    full = bh.Histogram(bh.axis.Variable(EDGES), storage=bh.storage.Weight())
    full.fill(X, weight=WEIGHTS)
    view = full.view(flow=True)
    folded = view.value[1:-1].copy()
    folded[0] += view.value[0]
    folded[-1] += view.value[-1]
    np.testing.assert_allclose(hard_histogram(X, WEIGHTS, EDGES).contents, folded, rtol=1e-12)


def test_hard_in_two_dimensions_equals_numpy():
    points = RNG.normal(size=(400, 2))
    weights = RNG.normal(size=400)
    other = np.array([-1.0, 0.3, 0.5, 1.5])
    h = hard_histogram(points, weights, [EDGES, other], flow="drop")
    target, *_ = np.histogram2d(*points.T, [EDGES, other], weights=weights)
    np.testing.assert_allclose(h.contents, target, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(
        hard_histogram(points, weights, [EDGES, other]).total, weights.sum(), rtol=1e-12
    )


def test_hard_is_differentiable_in_weights_only():
    def loss(x, weights):
        return jnp.sum(hard_histogram(x, weights, EDGES).contents ** 2)

    slope_x, slope_w = jax.grad(loss, argnums=(0, 1))(jnp.asarray(X), jnp.asarray(WEIGHTS))
    assert np.all(slope_x == 0)
    contents = hard_histogram(X, WEIGHTS, EDGES).contents
    bins = np.clip(np.searchsorted(EDGES, X, side="right") - 1, 0, 3)
    np.testing.assert_allclose(slope_w, 2 * np.asarray(contents)[bins], rtol=1e-12)


def test_hard_float32_keeps_the_digits_of_many_weights():
    x = jnp.full(1_000_000, 0.5, jnp.float32)
    weights = jnp.full(1_000_000, 0.1, jnp.float32)
    h = hard_histogram(x, weights, jnp.array([0.0, 1.0], jnp.float32))
    np.testing.assert_allclose(h.contents, [1e5], rtol=1e-4)


def test_hard_shows_nan_and_takes_no_events():
    run = jax.jit(lambda x, w: hard_histogram(x, w, EDGES).contents)
    assert np.isnan(run(jnp.array([jnp.nan, 0.0]), jnp.ones(2))).any()
    assert np.isfinite(run(jnp.array([jnp.nan, 0.0]), jnp.array([0.0, 1.0]))).all()
    assert np.all(run(jnp.zeros(0), jnp.zeros(0)) == 0)
    with pytest.raises(InputError, match="NaN"):
        hard_histogram(np.array([np.nan]), None, EDGES)


@pytest.mark.parametrize("flow", ["fold", "drop"])
def test_nd_is_the_sum_of_outer_products(flow):
    points, weights = RNG.normal(size=(37, 3)), RNG.normal(size=37)
    edges = [EDGES, np.array([-1.0, 0.0, 2.0]), np.array([-1.0, 1.0])]
    widths = (0.3, 0.5, 1e-9)
    shares = []
    for column, row, width in zip(points.T, edges, widths, strict=True):
        steps = ndtr((row - column[:, None]) / width)
        if flow == "fold":
            steps[:, 0], steps[:, -1] = 0, 1
        shares.append(np.diff(steps, axis=1))
    h = soft_histogram_nd(points, weights, edges, bandwidth=widths, flow=flow, chunk=16)
    for sums, powers in ((h.contents, weights), (h.squares, weights**2)):
        target = np.einsum("i,ia,ib,ic->abc", powers, *shares)
        np.testing.assert_allclose(sums, target, rtol=1e-11, atol=1e-13)


def test_nd_in_one_dimension_has_the_gradients_of_soft_histogram():
    inputs = tuple(jnp.asarray(row) for row in (X, WEIGHTS, EDGES, 0.2))

    def loss_nd(x, weights, edges, bandwidth):
        h = soft_histogram_nd(x[:, None], weights, [edges], bandwidth=bandwidth, chunk=100)
        return jnp.sum(jnp.sin(h.contents) + h.squares**2)

    def loss(x, weights, edges, bandwidth):
        h = soft_histogram(x, weights, edges, bandwidth=bandwidth)
        return jnp.sum(jnp.sin(h.contents) + h.squares**2)

    for ours, target in zip(
        jax.jit(jax.grad(loss_nd, (0, 1, 2, 3)))(*inputs),
        jax.jit(jax.grad(loss, (0, 1, 2, 3)))(*inputs),
        strict=True,
    ):
        scale = float(jnp.max(jnp.abs(target)))
        np.testing.assert_allclose(ours, target, rtol=1e-9, atol=1e-12 * scale)


def test_nd_at_zero_bandwidth_is_hard_with_finite_gradients():
    points = jnp.asarray(RNG.normal(size=(200, 2)))
    edges = [jnp.asarray(EDGES), jnp.asarray(EDGES)]
    for flow in ("fold", "drop"):
        h = soft_histogram_nd(points, None, edges, bandwidth=0.0, flow=flow)
        hard = hard_histogram(points, None, edges, flow=flow)
        np.testing.assert_allclose(h.contents, hard.contents)

    def loss(x, bandwidth):
        return jnp.sum(soft_histogram_nd(x, None, edges, bandwidth=bandwidth).contents ** 2)

    for slope in jax.jit(jax.grad(loss, (0, 1)))(points, 0.0):
        assert np.all(slope == 0)


def test_nd_names_bad_input():
    with pytest.raises(InputError, match=r"not \(events, 2\)"):
        soft_histogram_nd(np.zeros((3, 1)), None, [EDGES, EDGES], bandwidth=0.1)
    with pytest.raises(InputError, match=r"edges\[1\] do not increase"):
        soft_histogram_nd(np.zeros((3, 2)), None, [EDGES, EDGES[::-1]], bandwidth=0.1)
    with pytest.raises(InputError, match="one for each of the 2 axes"):
        soft_histogram_nd(np.zeros((3, 2)), None, [EDGES, EDGES], bandwidth=(0.1, 0.1, 0.1))


def test_softmax_goes_to_argmax_and_conserves_the_sum():
    logits, weights = jnp.asarray(RNG.normal(size=(60, 5))), jnp.asarray(RNG.normal(size=60))
    soft = softmax_histogram(logits, weights, temperature=1.0)
    np.testing.assert_allclose(soft.total, weights.sum(), rtol=1e-12)
    np.testing.assert_allclose(soft.squares.sum(), (weights**2).sum(), rtol=1e-12)
    hard = argmax_histogram(logits, weights)
    cold = softmax_histogram(logits, weights, temperature=1e-5)
    np.testing.assert_allclose(cold.contents, hard.contents, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(cold.squares, hard.squares, rtol=1e-9, atol=1e-9)
    assert soft.edges[0].tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(InputError, match="temperature is 0"):
        softmax_histogram(logits, weights, temperature=0)
    with pytest.raises(InputError, match="not \\(events, bins\\)"):
        softmax_histogram(logits[0], weights, temperature=1)


@pytest.mark.parametrize("keep", ["above", "below"])
def test_cut_agrees_with_relaxed(keep):
    ours = soft_cut(jnp.asarray(X), 0.3, slope=4.0, keep=keep)
    target = relaxed_cut(X, 0.3, slope=4.0, keep=keep)
    np.testing.assert_allclose(ours, target, rtol=1e-12)


def test_cut_is_finite_far_away_and_names_bad_input():
    slope = jax.grad(lambda t: jnp.sum(soft_cut(jnp.array([-1e6, 1e6]), t, slope=1e3)))(0.0)
    assert np.isfinite(slope)
    with pytest.raises(InputError, match="slope is -1"):
        soft_cut(jnp.zeros(2), 0.0, slope=-1.0)
    with pytest.raises(InputError, match="keep is 'left'"):
        soft_cut(jnp.zeros(2), 0.0, slope=1.0, keep="left")
