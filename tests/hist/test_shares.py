"""Shares, regions, bandwidth policies and trainable cuts against sums and differences."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import InputError
from difana.hist import (
    LearnedBandwidth,
    bin_coordinate,
    hard_histogram,
    product_shares,
    soft_cut,
    soft_hard_bias,
    soft_histogram,
    soft_histogram_nd,
    soft_regions,
    soft_shares,
)

EDGES = jnp.array([-1.0, 0.0, 0.5, 2.0])


@pytest.fixture(scope="module")
def events():
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(50, 4))), jnp.asarray(rng.uniform(-0.2, 1.0, 50))


@pytest.mark.parametrize(("flow", "width"), [("fold", 0.3), ("drop", 0.3), ("drop", 0.0)])
def test_shares_times_weights_are_the_soft_histogram(events, flow, width):
    x, w = events[0][:, 0].at[0].set(2.0), events[1]  # one on the last edge
    shares = soft_shares(x, EDGES, bandwidth=width, flow=flow)
    histogram = soft_histogram(x, w, EDGES, bandwidth=width, flow=flow)
    np.testing.assert_allclose(w @ shares, histogram.contents, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(w**2 @ shares, histogram.squares, rtol=1e-12, atol=1e-14)


def test_product_shares_are_the_histogram_in_more_dimensions(events):
    x, w = events
    rows = (EDGES, EDGES[:3])
    shares = product_shares(rows, bandwidth=(0.2, 0.4))(x)
    histogram = soft_histogram_nd(x[:, :2], w, rows, bandwidth=(0.2, 0.4))
    np.testing.assert_allclose(w @ shares, histogram.contents.ravel(), rtol=1e-12, atol=1e-14)
    with pytest.raises(InputError, match="5 axes need as many outputs"):
        product_shares((EDGES,) * 5, bandwidth=0.1)(x)


def test_regions_share_each_event(events):
    x, w = events
    edges = jnp.stack([EDGES, EDGES + 0.2, EDGES - 0.1])
    shares = soft_regions(edges, bandwidth=0.2, temperature=0.5)(x)
    assert shares.shape == (50, 9)
    np.testing.assert_allclose(jnp.sum(shares, axis=1), np.ones(50), rtol=1e-12)
    part = jax.nn.softmax(x[:, 1:] / 0.5, axis=1)
    for region in range(3):
        own = soft_histogram(x[:, 0], w * part[:, region], edges[region], bandwidth=0.2)
        np.testing.assert_allclose(
            (w @ shares)[3 * region : 3 * region + 3], own.contents, rtol=1e-11, atol=1e-13
        )
    hard = w @ soft_regions(edges, bandwidth=0.2, hard=True)(x)
    chosen = jnp.argmax(x[:, 1:], axis=1)
    for region in range(3):
        own = hard_histogram(x[:, 0], jnp.where(chosen == region, w, 0.0), edges[region])
        np.testing.assert_allclose(hard[3 * region : 3 * region + 3], own.contents, atol=1e-13)
    cold = w @ soft_regions(edges, bandwidth=0.0, temperature=1e-6)(x)
    np.testing.assert_allclose(cold, hard, atol=1e-10)
    with pytest.raises(InputError, match=r"3 regions need 4 outputs .* returns \(50, 2\)"):
        soft_regions(edges, bandwidth=0.2)(x[:, :2])
    with pytest.raises(InputError, match="one row of edges a region"):
        soft_regions(EDGES, bandwidth=0.2)


def moments(parameters, x, w):
    """Every trainable part of a binning in one number."""
    edges = jnp.stack([parameters["edges"], parameters["edges"] + 0.2])
    kept = w * soft_cut(x[:, 3], parameters["cut"], slope=4.0)
    shares = soft_regions(
        edges, bandwidth=parameters["bandwidth"].value, temperature=parameters["temperature"]
    )(x[:, :3])
    u = bin_coordinate(x[:, 0], parameters["edges"])
    relative = soft_histogram(u, w, jnp.arange(4.0), bandwidth=parameters["bandwidth"].value)
    factors = jnp.cos(jnp.arange(6.0))
    return jnp.sum(factors * (kept @ shares) ** 2) + jnp.sum(factors[:3] * relative.contents**2)


def test_every_part_of_a_binning_can_be_trained(events, finite_difference):
    parameters = {
        "edges": EDGES,
        "cut": jnp.asarray(0.1),
        "temperature": jnp.asarray(0.7),
        "bandwidth": LearnedBandwidth.start(0.2, low=0.05, high=0.5),
    }
    value = eqx.filter_jit(moments)
    slopes = eqx.filter_jit(jax.grad(moments))(parameters, *events)
    leaves, structure = jax.tree.flatten(parameters)
    for i, slope in enumerate(jax.tree.leaves(slopes)):

        def at(leaf, i=i):
            new = [leaf if j == i else old for j, old in enumerate(leaves)]
            return value(jax.tree.unflatten(structure, new), *events)

        np.testing.assert_allclose(slope, finite_difference(at, leaves[i]), rtol=2e-6)
        assert np.any(np.asarray(slope) != 0)


def test_bin_coordinate_counts_bins():
    edges = np.array([0.0, 1.0, 3.0, 3.5])
    x = np.array([-2.0, 0.0, 0.25, 1.0, 2.0, 3.25, 4.5])
    inside = bin_coordinate(jnp.asarray(x), jnp.asarray(edges))
    # linear between the edges, and beyond them with the width of the outer bins
    np.testing.assert_allclose(inside, [-2.0, 0.0, 0.25, 1.0, 1.5, 2.5, 5.0])


def test_soft_hard_bias(events):
    x, w = events[0][:, 0], jnp.abs(events[1])
    np.testing.assert_allclose(soft_hard_bias(x, w, EDGES, bandwidth=0.0), np.zeros(3), atol=1e-12)
    hard = hard_histogram(x, w, EDGES).contents
    soft = soft_histogram(bin_coordinate(x, EDGES), w, jnp.arange(4.0), bandwidth=0.4).contents
    bias = soft_hard_bias(x, w, EDGES, bandwidth=0.4, relative=True)
    np.testing.assert_allclose(bias, soft / hard - 1, rtol=1e-10)
    slope = jax.grad(lambda h: jnp.sum(soft_hard_bias(x, w, EDGES, bandwidth=h)))(0.3)
    assert float(slope) == 0.0


@pytest.mark.parametrize("value", [0.05, 0.7, -1.0])
def test_a_learned_bandwidth_starts_between_its_bounds(value):
    with pytest.raises(InputError, match="needs 0 < low < it < high"):
        LearnedBandwidth.start(value, low=0.05, high=0.5)


def test_a_learned_bandwidth_stays_between_its_bounds():
    for raw in (-1e3, 1e3):
        bandwidth = LearnedBandwidth(jnp.asarray(raw), 0.05, 0.5)
        assert 0.05 <= float(bandwidth.value) <= 0.5 + 1e-12
