"""The Histogram as a PyTree and a UHI object; edges from events; trainable edges."""

from __future__ import annotations

import warnings

import hist
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from uhi.typing.plottable import PlottableAxisGeneric, PlottableHistogram

from difana._errors import InputError
from difana.hist import (
    FixedEdges,
    Histogram,
    TrainableEdges,
    equal_yield_edges,
    quantile_edges,
    soft_histogram,
    uniform_edges,
)

EDGES = np.array([0.0, 1.0, 3.0, 4.0])


def filled():
    return Histogram((jnp.asarray(EDGES),), jnp.array([4.0, 6.0, 0.0]), jnp.array([2.0, 9.0, 0.0]))


def test_histogram_speaks_uhi():
    h = filled()
    assert isinstance(h, PlottableHistogram)
    assert isinstance(h.axes[0], PlottableAxisGeneric)
    assert h.kind == "COUNT"
    assert list(h.axes[0]) == [(0.0, 1.0), (1.0, 3.0), (3.0, 4.0)]
    assert h.axes[0][-1] == (3.0, 4.0)
    assert h.axes[0] == filled().axes[0]
    with pytest.raises(IndexError):
        h.axes[0][3]
    assert isinstance(h.values(), np.ndarray)
    np.testing.assert_allclose(h.counts(), [8.0, 4.0, 0.0])
    np.testing.assert_allclose(h.density(), [0.4, 0.3, 0.0])
    np.testing.assert_allclose(np.sum(h.density() * np.diff(EDGES)), 1.0)


def test_histogram_is_a_pytree_in_a_jit():
    @jax.jit
    def double(h):
        # values() inside jit stays in the graph
        return Histogram(h.edges, 2 * h.values(), 4 * h.variances())

    ours, target = double(filled()), filled().scaled(2.0)
    np.testing.assert_allclose(ours.contents, target.contents)
    np.testing.assert_allclose(ours.squares, target.squares)
    total = filled() + ours
    np.testing.assert_allclose(total.contents, [12.0, 18.0, 0.0])
    np.testing.assert_allclose(total.squares, [10.0, 45.0, 0.0])
    with pytest.raises(InputError, match="cannot add"):
        filled() + Histogram((EDGES[:2],), jnp.ones(1), jnp.ones(1))
    with pytest.raises(AttributeError):
        filled().contents = 1


def test_histogram_goes_to_hist_and_back():
    rng = np.random.default_rng(0)
    x, y, weights = rng.uniform(0, 4, 50), rng.uniform(0, 1, 50), rng.normal(1, 1, 50)
    full = hist.Hist(
        hist.axis.Variable(EDGES, name="m"), hist.axis.Regular(2, 0, 1, name="y"), storage="Weight"
    )
    full.fill(x, y, weight=weights)
    h = Histogram.from_uhi(full)
    assert h.names == ("m", "y")
    np.testing.assert_allclose(h.values(), full.values())
    back = h.to_hist()
    np.testing.assert_allclose(back.values(), full.values())
    np.testing.assert_allclose(back.variances(), full.variances())
    assert [axis.name for axis in back.axes] == ["m", "y"]
    np.testing.assert_allclose(h.project(1).values(), full.project("y").values())
    np.testing.assert_allclose(h.project(1, 0).variances(), full.project("y", "m").variances())
    assert h.project(1, 0).names == ("y", "m")
    with pytest.raises(InputError, match="cannot project"):
        h.project(2)


def test_from_uhi_takes_unweighted_and_categories_and_refuses_means():
    counts = hist.Hist.new.StrCat(["a", "b"]).Int64().fill(["a", "b", "b"])
    h = Histogram.from_uhi(counts)
    np.testing.assert_allclose(h.variances(), [1.0, 2.0])
    np.testing.assert_allclose(h.edges[0], [0.0, 1.0, 2.0])
    with pytest.raises(InputError, match="MEAN"):
        Histogram.from_uhi(hist.Hist.new.Reg(2, 0, 1).Mean())
    with pytest.raises(InputError, match="list has no UHI"):
        Histogram.from_uhi([1.0])


def test_mplhep_plots_it():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import matplotlib as mpl

        mpl.use("Agg")
        import matplotlib.pyplot as plt
        import mplhep

        figure, axes = plt.subplots()
        artists = mplhep.histplot(filled(), ax=axes)
        plt.close(figure)
    assert artists


def test_quantile_edges_share_the_weights():
    rng = np.random.default_rng(1)
    x, weights = rng.normal(size=4000), rng.uniform(0, 2, 4000)
    edges = quantile_edges(x, weights, 8)
    shares = np.histogram(x, edges, weights=weights)[0] / weights.sum()
    np.testing.assert_allclose(shares, 1 / 8, atol=2 / 4000)
    wide = equal_yield_edges(x, weights, 8, low=-100.0, high=100.0)
    np.testing.assert_array_equal(wide[1:-1], edges[1:-1])
    assert (wide[0], wide[-1]) == (-100.0, 100.0)
    with pytest.raises(InputError, match="widen low and high"):
        equal_yield_edges(x, weights, 8, low=0.0)


def test_quantile_edges_increase_whatever_the_ties():
    rng = np.random.default_rng(2)
    # a saturated sigmoid, neighbouring floats, and a few negative weights
    next_up = np.nextafter(np.float32(1), np.float32(2))
    cases = [
        (np.concatenate([np.ones(1000), rng.uniform(0, 1, 9)]).astype(np.float32), 10),
        (np.array([1, next_up, np.nextafter(next_up, np.float32(2))], np.float32), 3),
        (np.array([1, next_up], np.float32), 2),
        (np.array([3.0, 4.0]), 1),
        (np.arange(7), 7),
    ]
    for x, bins in cases:
        weights = np.where(np.arange(len(x)) % 5 == 4, -0.5, 1.0)
        edges = quantile_edges(x, weights, bins)
        assert len(edges) == bins + 1
        assert np.all(np.diff(edges) > 0)
        if np.issubdtype(x.dtype, np.floating):
            assert edges.dtype == x.dtype
        contents, _ = np.histogram(x, edges)
        assert contents.sum() == len(x)
        assert np.all(contents > 0)


@pytest.mark.parametrize(
    ("x", "weights", "message"),
    [
        ([1.0, np.nan, 2.0], None, "x holds 1 NaN"),
        ([1.0, 2.0, 3.0], [1.0, np.inf, 1.0], "weights holds 1 NaN or infinite"),
        ([1.0, 2.0, 3.0], [1.0, -1.0, 0.0], "total weight 0"),
        ([], None, "total weight 0"),
        ([1.0, 1.0, 1.0], None, "1 distinct value"),
        ([1.0, 2.0], [1.0], "shape"),
    ],
)
def test_quantile_edges_name_bad_input(x, weights, message):
    with pytest.raises(InputError, match=message):
        quantile_edges(np.array(x), weights, 2)


def test_uniform_edges():
    np.testing.assert_allclose(uniform_edges(-1, 1, 4), [-1, -0.5, 0, 0.5, 1])
    for low, high, bins in ((1, 0, 3), (0, np.inf, 3), (0, 1, 0)):
        with pytest.raises(InputError):
            uniform_edges(low, high, bins)


def test_fixed_edges_have_no_gradient():
    binning = FixedEdges(EDGES)
    np.testing.assert_array_equal(binning.edges, EDGES)
    slope = jax.grad(lambda b: jnp.sum(b.edges**2))(binning)
    assert np.all(slope.positions == 0)
    with pytest.raises(InputError, match="do not increase"):
        FixedEdges(EDGES[::-1])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_trainable_edges_round_trip_and_stay_ordered(dtype):
    edges = jnp.asarray([-3.0, -2.9, 0.0, 0.01, 7.0], dtype)
    binning = TrainableEdges.from_edges(edges)
    assert binning.edges.dtype == dtype
    np.testing.assert_allclose(binning.edges, edges, rtol=1e-6, atol=1e-6)
    rng = np.random.default_rng(3)
    pushed = jax.tree.map(
        lambda leaf: leaf + jnp.asarray(rng.normal(0, 30, leaf.shape), dtype), binning
    )
    assert np.all(np.diff(pushed.edges) > 0)


def test_gradient_reaches_trainable_edges():
    rng = np.random.default_rng(4)
    x = jnp.asarray(rng.normal(size=300))
    binning = TrainableEdges.from_edges(jnp.array([-2.0, -1.0, 0.5, 2.0]), min_width=0.1)

    @jax.jit
    def loss(binning):
        return soft_histogram(x, None, binning.edges, bandwidth=0.2).contents[1]

    slope = jax.jit(jax.grad(loss))(binning)
    step = 1e-6
    for index in range(3):
        up, down = (
            loss(TrainableEdges(binning.first, binning.raw.at[index].add(s), binning.scale, 0.1))
            for s in (step, -step)
        )
        np.testing.assert_allclose(slope.raw[index], (up - down) / 2 / step, rtol=1e-6, atol=1e-7)
    assert slope.first != 0


def test_trainable_edges_name_bad_input():
    with pytest.raises(InputError, match="min_width"):
        TrainableEdges.from_edges(EDGES, min_width=1.0)
    with pytest.raises(InputError, match="not finite"):
        TrainableEdges.from_edges(np.array([0.0, 1.0, np.inf]))
    with pytest.raises(InputError, match="outside jit"):
        jax.jit(lambda edges: TrainableEdges.from_edges(edges).edges)(EDGES)
