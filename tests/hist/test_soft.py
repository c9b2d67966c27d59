"""Soft histograms against a naive sum of error functions, NumPy and relaxed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.special import ndtr

from difana._errors import InputError
from difana.hist import (
    hard_histogram,
    relaxed_histogram,
    soft_histogram,
    straight_through_histogram,
)


def naive(x, weights, edges, bandwidth, flow="fold"):
    """The definition in NumPy, with an events x bins matrix, and its derivative by hand."""
    x, weights, edges = (np.asarray(values, np.float64) for values in (x, weights, edges))
    z = (edges[:, None] - x) / bandwidth
    steps, density = ndtr(z), np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi) / bandwidth
    if flow == "fold":
        steps[0], steps[-1], density[0], density[-1] = 0, 1, 0, 0
    shares = np.diff(steps, axis=0)

    def pull(probe):
        """The gradient of ``sum(probe[0] * contents + probe[1] * squares)``."""
        rise = -np.diff(probe, axis=1, prepend=0, append=0)
        flux = density * (rise[0][:, None] * weights + rise[1][:, None] * weights**2)
        slope_weights = probe[0] @ shares + 2 * weights * (probe[1] @ shares)
        return -flux.sum(axis=0), slope_weights, flux.sum(axis=1), -np.sum(flux * z)

    return (shares @ weights, shares @ weights**2), pull


def sample(events, bins, seed=0, dtype=None):
    rng = np.random.default_rng(seed)
    x = rng.normal(0.0, 1.0, events)
    weights = rng.normal(0.5, 1.0, events)
    widths = rng.uniform(0.2, 1.0, bins)
    edges = np.concatenate([[0.0], np.cumsum(widths)]) / widths.sum() * 4 - 2
    return tuple(jnp.asarray(values, dtype) for values in (x, weights, edges))


def close(ours, target, rtol=1e-10):
    for value, expected in zip(ours, target, strict=True):
        scale = float(np.max(np.abs(expected)))
        np.testing.assert_allclose(value, expected, rtol=rtol, atol=1e-2 * rtol * scale)


# 6 bins: every event visits every edge; 40 bins: a window; chunks that divide the events or not
CASES = [(6, 101, 1000, "fold"), (6, 96, 32, "drop"), (40, 101, 32, "fold"), (40, 101, 999, "drop")]


@pytest.mark.parametrize(("bins", "events", "chunk", "flow"), CASES)
def test_value_and_all_gradients_equal_the_naive_sum(bins, events, chunk, flow):
    x, weights, edges = sample(events, bins)
    probe = np.random.default_rng(1).normal(size=(2, bins))

    @jax.jit
    def run(*inputs):
        def loss(*inputs):
            h = soft_histogram(*inputs[:3], bandwidth=inputs[3], flow=flow, chunk=chunk)
            return jnp.sum(probe[0] * h.contents + probe[1] * h.squares), (h.contents, h.squares)

        return jax.grad(loss, argnums=(0, 1, 2, 3), has_aux=True)(*inputs)

    for bandwidth in (0.11, 1e-4, 5.0):
        slopes, sums = run(x, weights, edges, bandwidth)
        expected, pull = naive(x, weights, edges, bandwidth, flow)
        close((*sums, *slopes), (*expected, *pull(probe.astype(float))))


def test_gradients_equal_finite_differences():
    x, weights, edges = sample(40, 30)

    @jax.jit
    def yields(*inputs):
        h = soft_histogram(*inputs[:3], bandwidth=inputs[3], chunk=16)
        return h.contents, h.squares

    check_grads(yields, (x, weights, edges, jnp.asarray(0.2)), order=1, modes=["rev"], rtol=1e-6)


@pytest.mark.parametrize("bins", [5, 30])
def test_gradients_can_be_differentiated_again(bins):
    x, weights, edges = sample(40, bins)
    probe = np.zeros((2, bins))
    probe[0] = np.arange(bins)

    def slope(bandwidth):
        def loss(h):
            return probe[0] @ soft_histogram(x, weights, edges, bandwidth=h).contents

        return jax.grad(loss)(bandwidth)

    up, down = (naive(x, weights, edges, 0.2 + s)[1](probe)[3] for s in (1e-5, -1e-5))
    modes = (jax.jacfwd, jax.grad) if bins <= 17 else (jax.jacfwd,)
    for mode in modes:
        np.testing.assert_allclose(jax.jit(mode(slope))(0.2), (up - down) / 2e-5, rtol=1e-7)


def test_each_sum_alone_has_the_right_gradient():
    # one compiled function, differentiated in every way: caches must not mix the ways up
    x, weights, edges = sample(50, 20)
    _, pull = naive(x, weights, edges, 0.1)
    for argnum in (0, 1):
        for index, which in enumerate(("contents", "squares")):

            def loss(x, weights, which=which):
                h = soft_histogram(x, weights, edges, bandwidth=0.1)
                return np.arange(20.0) @ getattr(h, which)

            probe = np.zeros((2, 20))
            probe[index] = np.arange(20)
            close([jax.grad(loss, argnum)(x, weights)], [pull(probe.astype(float))[argnum]])


@pytest.mark.parametrize(("bins", "flow"), [(4, "drop"), (32, "fold"), (32, "drop")])
def test_zero_bandwidth_is_the_hard_histogram(bins, flow):
    _, _, edges = sample(1, bins)
    rng = np.random.default_rng(2)
    # events on every edge, the outer ones included
    x = jnp.concatenate([jnp.asarray(rng.normal(0, 1.5, 300)), edges])
    weights = jnp.asarray(rng.normal(1.0, 1.0, len(x)))

    @jax.jit
    def run(x, weights, edges, bandwidth):
        def loss(*inputs):
            h = soft_histogram(*inputs[:3], bandwidth=inputs[3], flow=flow, chunk=64)
            return jnp.sum(h.contents**2), h

        hard = hard_histogram(x, weights, edges, flow=flow)
        return jax.grad(loss, argnums=(0, 1, 2, 3), has_aux=True)(
            x, weights, edges, bandwidth
        ), hard

    # a soft histogram shares an event on an edge
    for events, bandwidth in ((x, 0.0), (x + 1e-3, 1e-300)):
        (slopes, h), target = run(events, weights, edges, bandwidth)
        np.testing.assert_allclose(h.contents, target.contents, rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(h.squares, target.squares, rtol=1e-13, atol=1e-13)
        for name, slope in zip(("x", "weights", "edges", "bandwidth"), slopes, strict=True):
            assert np.all(np.isfinite(slope))
            assert np.any(slope != 0) == (name == "weights")


def test_agrees_with_relaxed_where_that_is_defined():
    x, _, edges = sample(200, 7)
    for flow in ("drop", "fold"):
        target = relaxed_histogram(x, edges, bandwidth=0.2, flow=flow)
        ours = soft_histogram(x, None, edges, bandwidth=0.2, flow=flow)
        np.testing.assert_allclose(ours.contents, target, rtol=1e-12)
        np.testing.assert_allclose(ours.squares, ours.contents, rtol=1e-14)


@pytest.mark.parametrize("bins", [1, 2, 60])
def test_fold_conserves_the_sums_down_to_the_hard_limit(bins):
    x, weights, _ = sample(700, 3)
    edges = np.linspace(-0.3, 0.2, bins + 1)
    hard = np.histogram(np.clip(x, -0.3, 0.2), edges, weights=weights)[0]
    distances = []
    for bandwidth in (1.0, 0.01, 1e-4, 1e-9, 0.0):
        h = soft_histogram(x, weights, edges, bandwidth=bandwidth, chunk=128)
        np.testing.assert_allclose(h.values().sum(), weights.sum(), rtol=1e-12)
        np.testing.assert_allclose(h.variances().sum(), (weights**2).sum(), rtol=1e-12)
        distances.append(np.abs(h.values() - hard).sum())
    assert bins == 1 or distances[0] > distances[1] > distances[2]
    assert max(distances[3:]) < 1e-10
    # all events in one bin
    h = soft_histogram(np.full(700, 0.123), weights, edges, bandwidth=1e-5, chunk=128)
    assert np.count_nonzero(h.values()) == 1


@pytest.mark.parametrize("bins", [6, 40])
def test_vmap_equals_loop_and_jit_equals_eager(bins):
    rng = np.random.default_rng(3)
    x = jnp.asarray(rng.normal(size=(3, 70)))
    weights = jnp.asarray(rng.normal(size=(3, 70)))
    edges = np.linspace(-2, 2, bins + 1)
    widths = np.array([0.05, 0.3, 1.0])

    def loss(x, weights, bandwidth):
        h = soft_histogram(x, weights, edges, bandwidth=bandwidth, chunk=32)
        return jnp.sum(h.contents**2 + h.squares)

    both = jax.value_and_grad(loss, argnums=(0, 1, 2))
    compiled = jax.jit(both)
    loop = [compiled(*row) for row in zip(x, weights, widths, strict=True)]
    np.testing.assert_allclose(loss(x[0], weights[0], widths[0]), loop[0][0], rtol=1e-12)
    batched = jax.jit(jax.vmap(both))(x, weights, widths)
    for index, row in enumerate(loop):
        for ours, target in zip(
            jax.tree.leaves(jax.tree.map(lambda leaf: leaf[index], batched)),  # noqa: B023
            jax.tree.leaves(row),
            strict=True,
        ):
            np.testing.assert_allclose(ours, target, rtol=1e-11, atol=1e-12)


def test_float32_keeps_its_digits():
    x, weights, edges = sample(20_000, 50, dtype=jnp.float32)
    probe = np.random.default_rng(4).normal(size=(2, 50)).astype(np.float32)

    @jax.jit
    def run(*inputs):
        def loss(*inputs):
            h = soft_histogram(*inputs[:3], bandwidth=inputs[3], chunk=4096)
            return jnp.sum(probe[0] * h.contents + probe[1] * h.squares), (h.contents, h.squares)

        return jax.grad(loss, argnums=(0, 1, 2, 3), has_aux=True)(*inputs)

    slopes, sums = run(x, weights, edges, jnp.float32(0.07))
    assert all(leaf.dtype == jnp.float32 for leaf in (*slopes, *sums))
    expected, pull = naive(x, weights, edges, float(jnp.float32(0.07)))
    np.testing.assert_allclose(sums[0], expected[0], atol=1e-3)
    np.testing.assert_allclose(sums[1], expected[1], rtol=1e-5)
    for ours, target in zip(slopes, pull(probe.astype(float)), strict=True):
        np.testing.assert_allclose(ours, target, atol=3e-5 * np.max(np.abs(target)))


@pytest.mark.parametrize("bins", [4, 40])
def test_padding_counts_nothing_and_nan_stays_visible(bins):
    edges = np.linspace(0, 1, bins + 1)

    @jax.jit
    def run(x, weights):
        def first(x, weights):
            return soft_histogram(x, weights, edges, bandwidth=0.05).contents[0]

        return jax.value_and_grad(first, argnums=(0, 1))(x, weights)

    x, weights = np.array([0.1, np.nan]), np.array([1.0, 0.0])
    value, slopes = run(x, weights)
    (contents, _), pull = naive(x[:1], weights[:1], edges, 0.05)
    target = pull(np.eye(2, bins, k=0) * [[1], [0]])
    np.testing.assert_allclose(value, contents[0])
    for slope, expected in zip(slopes, target[:2], strict=True):
        np.testing.assert_allclose(slope, [expected[0], 0.0])
    assert np.isnan(run(x, np.ones(2))[0])


def test_infinite_events_go_to_the_edge_bins():
    x = np.array([-np.inf, 0.4, np.inf])
    edges = np.linspace(0, 1, 31)
    value, slope = jax.jit(
        jax.value_and_grad(lambda x: soft_histogram(x, None, edges, bandwidth=0.01).contents[-1])
    )(x)
    assert value == 1
    assert np.all(np.isfinite(slope))
    for flow in ("fold", "drop"):
        wide = np.array([-np.inf, 0.0, np.inf])
        h = soft_histogram(x, None, wide, bandwidth=0.01, flow=flow)
        np.testing.assert_allclose(h.contents, [1.0, 2.0])


def test_straight_through_is_hard_forward_and_soft_backward():
    x, weights, edges = sample(200, 12)
    probe = np.random.default_rng(5).normal(size=(2, 12))

    @jax.jit
    def run(x, weights, edges):
        def loss(*inputs):
            h = straight_through_histogram(*inputs, bandwidth=0.2, flow="drop")
            return jnp.sum(probe[0] * h.contents + probe[1] * h.squares), h

        hard = hard_histogram(x, weights, edges, flow="drop")
        return jax.grad(loss, argnums=(0, 1, 2), has_aux=True)(x, weights, edges), hard

    (slopes, h), hard = run(x, weights, edges)
    assert np.array_equal(h.contents, hard.contents)
    assert np.array_equal(h.squares, hard.squares)
    close(slopes, naive(x, weights, edges, 0.2, "drop")[1](probe)[:3])


def test_nothing_of_size_events_times_bins_is_kept():
    x = jnp.linspace(-1, 1, 5000, dtype=jnp.float32)
    edges = jnp.linspace(-1, 1, 101, dtype=jnp.float32)
    _, pull = jax.vjp(
        lambda *a: soft_histogram(*a, edges, bandwidth=0.1, chunk=512).contents, x, x + 2
    )
    kept = sum(leaf.size for leaf in jax.tree.leaves(pull) if hasattr(leaf, "size"))
    assert kept < 2.2 * x.size


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((3, 1))}, r"x has shape \(3, 1\).*x\[:, 0\]"),
        ({"weights": np.ones(2)}, r"weights have shape \(2,\), but x holds 3 events"),
        ({"weights": np.array([1.0, np.inf, 1.0])}, "weights holds 1 non-finite.*event 1"),
        ({"x": np.array([0.0, 1.0, np.nan])}, "x holds 1 NaN.*event 2"),
        ({"edges": np.array([0.0, 2.0, 1.0])}, "edges do not increase in bin 1"),
        ({"edges": np.array([0.0])}, "at least two edges"),
        ({"bandwidth": -0.1}, "bandwidth is -0.1"),
        ({"bandwidth": np.array([0.1, 0.2])}, r"bandwidth has shape \(2,\)"),
        ({"flow": "lose"}, "flow is 'lose'"),
        ({"chunk": 0}, "chunk is 0"),
    ],
)
def test_bad_input_is_named(change, message):
    inputs = {
        "x": np.zeros(3),
        "weights": np.ones(3),
        "edges": np.array([0.0, 1.0]),
        "bandwidth": 0.1,
    } | change
    with pytest.raises(InputError, match=message):
        soft_histogram(inputs.pop("x"), inputs.pop("weights"), inputs.pop("edges"), **inputs)


def test_sharded_events_give_the_same_gradient():
    devices = jax.devices()
    mesh = jax.sharding.Mesh(np.array(devices), ("events",))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("events"))
    x, weights, edges = sample(64 * len(devices), 20)

    @jax.jit
    def run(x, weights):
        def loss(x):
            return jnp.sum(soft_histogram(x, weights, edges, bandwidth=0.1).contents ** 2)

        return jax.value_and_grad(loss)(x)

    target = run(x, weights)
    ours = run(*jax.device_put((x, weights), split))
    for value, expected in zip(ours, target, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-11)


def test_constants_inside_jit_are_checked_too():
    # events closed over are concrete while the bandwidth is traced
    x, edges = np.array([0.2, 0.7]), np.array([0.0, 0.5, 1.0])
    run = jax.jit(lambda h: soft_histogram(x, np.ones(2), edges, bandwidth=h).contents)
    np.testing.assert_allclose(run(1e-3), [1.0, 1.0])
    with pytest.raises(InputError, match="x holds 1 NaN"):
        jax.jit(lambda h: soft_histogram(np.array([0.2, np.nan]), None, edges, bandwidth=h).total)(
            0.1
        )
