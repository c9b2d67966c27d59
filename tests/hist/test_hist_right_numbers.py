"""Histograms of inputs that once gave a wrong number or a crash."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import InputError
from difana._numerics import segment_sums
from difana.hist import (
    argmax_histogram,
    hard_histogram,
    product_shares,
    soft_histogram,
    soft_histogram_nd,
    softmax_histogram,
)

EDGES = np.array([0.0, 1.0, 2.0])


@pytest.fixture
def float32():
    """Run in the precision that a user has without ``enable_x64``."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", False)
    yield
    jax.config.update("jax_enable_x64", before)


def _many(float32_columns: str):
    events = 3_000_000
    x, w = np.full(events, 0.5, np.float32), np.full(events, 0.1, np.float32)
    logits = np.stack([x, -1e4 * x], axis=1)
    many = np.linspace(0, 40, 41)
    return {
        "hard": lambda: hard_histogram(x, w, EDGES),
        "soft": lambda: soft_histogram(x, w, EDGES, bandwidth=0.1),
        "soft, many bins": lambda: soft_histogram(x, w, many, bandwidth=0.01),
        "nd": lambda: soft_histogram_nd(x[:, None], w, [EDGES], bandwidth=0.0),
        "softmax": lambda: softmax_histogram(logits, w, temperature=0.1),
        "argmax": lambda: argmax_histogram(logits, w),
    }[float32_columns]


@pytest.mark.parametrize("kind", ["hard", "soft", "soft, many bins", "nd", "softmax", "argmax"])
def test_sums_of_many_small_weights_in_single_precision(kind, float32):
    found = _many(kind)()
    assert found.contents.dtype == jnp.float32
    assert float(found.total) == pytest.approx(300_000, rel=3e-5)
    assert float(jnp.sum(found.squares)) == pytest.approx(30_000, rel=3e-5)


def test_segment_sums_are_linear_and_have_a_gradient():
    index = jnp.asarray([0, 2, 2, 0, 2])
    slope = jax.jacobian(lambda w: segment_sums(w, index, 3))(jnp.ones(5))
    np.testing.assert_array_equal(slope, np.asarray(index) == np.arange(3)[:, None])


@pytest.mark.parametrize("number", [0, 1])
def test_no_event_and_one_event(number):
    x, logits = np.full(number, 0.5), np.zeros((number, 2))
    grid = soft_histogram_nd(np.full((number, 2), 0.5), None, [EDGES, EDGES], bandwidth=0.0)
    np.testing.assert_array_equal(grid.values(), [[number, 0], [0, 0]])
    assert hard_histogram(x, None, EDGES).values().tolist() == [number, 0]
    assert soft_histogram(x, None, EDGES, bandwidth=0.0).values().tolist() == [number, 0]
    assert softmax_histogram(logits, None, temperature=1.0).values().sum() == number


def test_softmax_of_infinite_logits():
    logits = np.array([[np.inf, 0.0], [np.inf, np.inf], [-np.inf, 0.0], [0.0, 0.0]])
    values = softmax_histogram(logits, None, temperature=1.0).values()
    np.testing.assert_allclose(values, [1 + 0.5 + 0 + 0.5, 0 + 0.5 + 1 + 0.5])
    np.testing.assert_allclose(
        softmax_histogram(np.array([[1.0, 0.0]]), None, temperature=1e-300).values(), [1, 0]
    )


def test_integers_are_exact(float32):
    x, edges = np.array([16777217, 16777216]), np.array([16777216, 16777217, 16777218])
    for found in (hard_histogram(x, None, edges), soft_histogram(x, None, edges, bandwidth=0.0)):
        assert found.values().tolist() == [1, 1]
        assert np.asarray(found.edges[0]).tolist() == edges.tolist()


def test_integers_are_exact_in_double_precision():
    x, edges = jnp.array([16777217, 16777216]), jnp.array([16777216, 16777217, 16777218])
    assert hard_histogram(x, None, edges).values().tolist() == [1, 1]


def test_a_narrow_peak_far_from_zero(float32):
    x = 1.7e9 + np.random.default_rng(0).normal(size=5000)
    edges = 1.7e9 + np.linspace(-4, 4, 9)
    wanted = np.histogram(np.clip(x, edges[0], edges[-1]), edges)[0]
    found = hard_histogram(x, None, edges)
    np.testing.assert_array_equal(found.values(), wanted)
    np.testing.assert_allclose(found.density(), wanted / 5000)
    np.testing.assert_array_equal(soft_histogram(x, None, edges, bandwidth=0.0).values(), wanted)
    both = soft_histogram_nd(x[:, None], None, [edges], bandwidth=0.0)
    np.testing.assert_array_equal(both.values(), wanted)
    traced = jax.jit(lambda w: hard_histogram(x, w, edges).contents)(jnp.ones(5000))
    np.testing.assert_array_equal(traced, wanted)


def test_edges_that_become_equal_are_refused(float32):
    with pytest.raises(InputError, match="the same number in float32: call"):
        hard_histogram(np.float32([1e8, 1e8 + 8]), None, np.array([1e8, 1e8 + 1, 1e8 + 16]))


def test_complex_numbers_and_widths_of_other_axes_are_refused():
    with pytest.raises(InputError, match="x are complex"):
        hard_histogram(np.array([1j]), None, EDGES)
    with pytest.raises(InputError, match=r"bandwidth has shape \(3,\)"):
        product_shares((EDGES, EDGES), bandwidth=(0.1, 0.2, 0.3))
    with pytest.raises(InputError, match="bandwidth is"):
        product_shares((EDGES,), bandwidth=-0.1)
