"""Soft histograms against a naive sum of error functions, NumPy and relaxed."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from difana._errors import InputError
from difana.hist import hard_histogram, soft_histogram, straight_through_histogram


def naive(x, weights, edges, bandwidth, flow):
    """The definition, with an events x bins matrix."""
    steps = 0.5 * (1 + jax.lax.erf((edges[:, None] - x) / bandwidth / jnp.sqrt(2.0)))
    if flow == "fold":
        steps = steps.at[0].set(0.0).at[-1].set(1.0)
    shares = jnp.diff(steps, axis=0)
    return shares @ weights, shares @ weights**2


def sample(events, bins, seed=0, dtype=None):
    rng = np.random.default_rng(seed)
    x = rng.normal(0.0, 1.0, events)
    weights = rng.normal(0.5, 1.0, events)
    widths = rng.uniform(0.2, 1.0, bins)
    edges = np.concatenate([[0.0], np.cumsum(widths)]) / widths.sum() * 4 - 2
    return tuple(jnp.asarray(values, dtype) for values in (x, weights, edges))


# 6 bins: every event visits every edge; 40 bins: a window; chunks that divide the events or not
CASES = [(6, 101, 1000, "fold"), (6, 96, 32, "drop"), (40, 101, 32, "fold"), (40, 101, 999, "drop")]


@pytest.mark.parametrize(("bins", "events", "chunk", "flow"), CASES)
def test_value_and_all_gradients_equal_the_naive_sum(bins, events, chunk, flow):
    x, weights, edges = sample(events, bins)
    probe = jnp.asarray(np.random.default_rng(1).normal(size=(2, bins)))

    def ours(x, weights, edges, bandwidth):
        h = soft_histogram(x, weights, edges, bandwidth=bandwidth, flow=flow, chunk=chunk)
        return jnp.sum(probe[0] * h.contents + probe[1] * h.squares), (h.contents, h.squares)

    def reference(x, weights, edges, bandwidth):
        sums = naive(x, weights, edges, bandwidth, flow)
        return jnp.sum(probe[0] * sums[0] + probe[1] * sums[1]), sums

    inputs = (x, weights, edges, jnp.asarray(0.11))
    every = (0, 1, 2, 3)
    slopes, sums = jax.jit(jax.grad(ours, argnums=every, has_aux=True))(*inputs)
    expected_slopes, expected = jax.grad(reference, argnums=every, has_aux=True)(*inputs)
    for value, target in zip((*sums, *slopes), (*expected, *expected_slopes), strict=True):
        scale = float(jnp.max(jnp.abs(target)))
        np.testing.assert_allclose(value, target, rtol=1e-10, atol=1e-12 * scale)


@pytest.mark.parametrize("bins", [5, 30])
def test_gradients_equal_finite_differences(bins):
    x, weights, edges = sample(40, bins)

    def yields(*inputs):
        h = soft_histogram(*inputs[:3], bandwidth=inputs[3], chunk=16)
        return h.contents, h.squares

    check_grads(yields, (x, weights, edges, jnp.asarray(0.2)), order=1, modes=["rev"], rtol=1e-6)


@pytest.mark.parametrize("bins", [5, 30])
def test_hessian_equals_that_of_the_naive_sum(bins):
    x, weights, edges = sample(40, bins)

    def curvature(filled):
        return jax.hessian(lambda h: jnp.sum(jnp.sin(filled(h))))(jnp.asarray(0.2))

    @jax.jit
    def both():
        return (
            curvature(lambda h: soft_histogram(x, weights, edges, bandwidth=h).contents),
            curvature(lambda h: naive(x, weights, edges, h, "fold")[0]),
        )

    np.testing.assert_allclose(*both(), rtol=1e-9)


def test_each_sum_alone_has_the_right_gradient():
    # one compiled function, differentiated in every way: caches must not mix the ways up
    x, weights, edges = sample(50, 20)
    for argnum in (0, 1):
        for index, which in enumerate(("contents", "squares")):

            def ours(x, weights, which=which):
                h = soft_histogram(x, weights, edges, bandwidth=0.1)
                return jnp.sum(jnp.cos(getattr(h, which)))

            def reference(x, weights, index=index):
                return jnp.sum(jnp.cos(naive(x, weights, edges, 0.1, "fold")[index]))

            target = jax.jit(jax.grad(reference, argnum))(x, weights)
            np.testing.assert_allclose(jax.grad(ours, argnum)(x, weights), target, rtol=1e-9)


@pytest.mark.parametrize(("bins", "flow"), [(4, "fold"), (4, "drop"), (32, "fold"), (32, "drop")])
def test_zero_bandwidth_is_the_hard_histogram(bins, flow):
    _, _, edges = sample(1, bins)
    rng = np.random.default_rng(2)
    # events on every edge, the outer ones included
    x = jnp.concatenate([jnp.asarray(rng.normal(0, 1.5, 300)), edges])
    weights = jnp.asarray(rng.normal(1.0, 1.0, len(x)))
    hard = jax.jit(lambda x: hard_histogram(x, weights, edges, flow=flow))

    @jax.jit
    def run(x, weights, edges, bandwidth):
        def loss(*inputs):
            h = soft_histogram(*inputs[:3], bandwidth=inputs[3], flow=flow, chunk=64)
            return jnp.sum(h.contents**2), h

        return jax.grad(loss, argnums=(0, 1, 2, 3), has_aux=True)(x, weights, edges, bandwidth)

    # a soft histogram shares an event on an edge
    for events, bandwidth in ((x, 0.0), (x + 1e-3, 1e-300)):
        slopes, h = run(events, weights, edges, bandwidth)
        target = hard(events)
        np.testing.assert_allclose(h.contents, target.contents, rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(h.squares, target.squares, rtol=1e-13, atol=1e-13)
        for name, slope in zip(("x", "weights", "edges", "bandwidth"), slopes, strict=True):
            assert np.all(np.isfinite(slope))
            assert np.any(slope != 0) == (name == "weights")


def test_soft_approaches_hard_as_the_bandwidth_falls():
    x, weights, edges = sample(500, 8)
    hard = hard_histogram(x, weights, edges).contents
    run = jax.jit(lambda h: soft_histogram(x, weights, edges, bandwidth=h).contents)
    distances = [float(jnp.sum(jnp.abs(run(h) - hard))) for h in (0.3, 0.03, 0.0003, 1e-9)]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-12


def test_agrees_with_relaxed_where_that_is_defined():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import relaxed
    x, _, edges = sample(200, 7)
    for flow, reflect in (("drop", False), ("fold", True)):
        target = relaxed.hist(x, edges, bandwidth=0.2, reflect_infinities=reflect)
        ours = soft_histogram(x, None, edges, bandwidth=0.2, flow=flow)
        np.testing.assert_allclose(ours.contents, target, rtol=1e-12)
        np.testing.assert_allclose(ours.squares, ours.contents, rtol=1e-14)


@pytest.mark.parametrize("bins", [1, 2, 9, 60])
def test_fold_conserves_the_sums(bins):
    x, weights, _ = sample(700, 3)
    edges = jnp.linspace(-0.3, 0.2, bins + 1)
    for bandwidth in (0.0, 0.01, 3.0):
        h = soft_histogram(x, weights, edges, bandwidth=bandwidth, chunk=128)
        np.testing.assert_allclose(h.total, weights.sum(), rtol=1e-12)
        np.testing.assert_allclose(h.squares.sum(), (weights**2).sum(), rtol=1e-12)


def test_drop_loses_what_is_outside():
    h = soft_histogram(
        jnp.array([-5.0, 0.5, 5.0]), None, jnp.array([0.0, 1.0]), bandwidth=0.01, flow="drop"
    )
    np.testing.assert_allclose(h.contents, [1.0])


def test_no_events_give_zeros():
    edges = jnp.linspace(0, 1, 31)
    none = jnp.zeros(0)
    h, slope = jax.value_and_grad(
        lambda e: soft_histogram(none, none, e, bandwidth=0.1).contents.sum()
    )(edges)
    assert h == 0
    assert np.all(slope == 0)


def test_all_events_in_one_bin():
    h = soft_histogram(jnp.full(100, 0.55), None, jnp.linspace(0, 1, 41), bandwidth=1e-4)
    assert np.count_nonzero(h.contents) == 2 or h.contents[22] == 100
    np.testing.assert_allclose(h.total, 100)


@pytest.mark.parametrize("bins", [6, 40])
def test_vmap_equals_loop_and_jit_equals_eager(bins):
    rng = np.random.default_rng(3)
    x = jnp.asarray(rng.normal(size=(3, 70)))
    weights = jnp.asarray(rng.normal(size=(3, 70)))
    edges = jnp.linspace(-2, 2, bins + 1)
    widths = jnp.array([0.05, 0.3, 1.0])

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


@pytest.mark.parametrize("bins", [10, 50])
def test_float32_keeps_its_digits(bins):
    x, weights, edges = sample(20_000, bins, dtype=jnp.float32)

    def loss(x, weights, edges):
        h = soft_histogram(x, weights, edges, bandwidth=0.07, chunk=4096)
        return jnp.sum(h.contents) - h.contents[1] ** 2, h

    slopes, h = jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(x, weights, edges)
    assert h.contents.dtype == slopes[0].dtype == jnp.float32
    double = tuple(leaf.astype(jnp.float64) for leaf in (x, weights, edges))
    expected, h_double = jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(*double)
    np.testing.assert_allclose(h.contents, h_double.contents, rtol=2e-5, atol=2e-2 / bins)
    for slope, target in zip(slopes, expected, strict=True):
        scale = float(jnp.max(jnp.abs(target)))
        np.testing.assert_allclose(slope, target, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize("bins", [4, 40])
def test_padding_counts_nothing_and_nan_stays_visible(bins):
    edges = jnp.linspace(0, 1, bins + 1)

    @jax.jit
    def run(x, weights):
        def first(x, weights):
            return soft_histogram(x, weights, edges, bandwidth=0.05).contents[0]

        return jax.value_and_grad(first, argnums=(0, 1))(x, weights)

    x, weights = jnp.array([0.1, jnp.nan]), jnp.array([1.0, 0.0])
    value, slopes = run(x, weights)
    target, target_slopes = run(x[:1], weights[:1])
    np.testing.assert_allclose(value, target)
    for slope, expected in zip(slopes, target_slopes, strict=True):
        np.testing.assert_allclose(slope, [expected[0], 0.0])
    assert np.isnan(run(x, jnp.ones(2))[0])


def test_infinite_events_go_to_the_edge_bins():
    x = jnp.array([-jnp.inf, 0.4, jnp.inf])
    for bins in (2, 30):
        edges = jnp.linspace(0, 1, bins + 1)
        value, slope = jax.value_and_grad(
            lambda x: soft_histogram(x, None, edges, bandwidth=0.01).contents[-1]  # noqa: B023
        )(x)
        assert value == 1
        assert np.all(np.isfinite(slope))
    wide = jnp.array([-jnp.inf, 0.0, jnp.inf])
    h = soft_histogram(x, None, wide, bandwidth=0.01, flow="drop")
    np.testing.assert_allclose(h.contents, [1.0, 2.0])


@pytest.mark.parametrize("flow", ["fold", "drop"])
def test_straight_through_is_hard_forward_and_soft_backward(flow):
    x, weights, edges = sample(200, 12)
    options = {"bandwidth": 0.2, "flow": flow}

    def yields(function, *inputs):
        h = function(*inputs, **options)
        return h.contents, h.squares

    value, pull = jax.vjp(lambda *a: yields(straight_through_histogram, *a), x, weights, edges)
    _, soft_pull = jax.vjp(lambda *a: yields(soft_histogram, *a), x, weights, edges)
    hard = hard_histogram(x, weights, edges, flow=flow)
    assert np.array_equal(value[0], hard.contents)
    assert np.array_equal(value[1], hard.squares)
    probe = (jnp.arange(12.0), jnp.ones(12))
    for ours, target in zip(pull(probe), soft_pull(probe), strict=True):
        np.testing.assert_allclose(ours, target, rtol=1e-13)


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
