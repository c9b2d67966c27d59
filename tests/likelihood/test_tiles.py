"""Template sums tile by tile are those of one pass, and so are their derivatives."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import InputError
from difana.data import (
    Events,
    Normalisation,
    Sample,
    ShiftedEvents,
    Transformation,
    WeightVariation,
)
from difana.hist import bin_coordinate, product_shares, soft_regions
from difana.likelihood import (
    build_model,
    channel_from_events,
    channel_from_sums,
    template_sums,
)

EDGES = jnp.array([-1.0, 0.0, 0.5, 2.0])


def scale(x, alpha):
    return x * (1.0 + 0.1 * alpha) + 0.05 * alpha


def shift(x, alpha):
    return x + 0.1 * alpha


def events(n, seed, dtype=np.float64):
    rng = np.random.default_rng(seed)
    x, w = rng.normal(0.2, 1.0, (n, 2)), rng.uniform(-0.2, 1.5, n)
    return Events(jnp.asarray(x, dtype), jnp.asarray(w, dtype))


def samples():
    """Samples of 20, 30 and no events, and variations of every kind."""
    other = events(30, 5).weights
    background = (
        Transformation(function=scale, name="scale"),
        ShiftedEvents(up=events(30, 3), down=events(20, 4), name="shower"),
        WeightVariation(up=other, down=other[::-1], name="pdf"),
        Normalisation(up=jnp.asarray(1.1), down=jnp.asarray(0.95), name="xsec"),
        Transformation(function=shift, name="shift"),
    )
    return (
        Sample(
            events(20, 1),
            (Transformation(function=scale, name="scale"),),
            name="signal",
            normfactors=("mu",),
        ),
        Sample(events(30, 2), background, 0.25, name="background"),
        Sample(Events(jnp.zeros((0, 2)), jnp.zeros(0)), name="none"),
    )


def outputs(weights, x):
    return jnp.tanh(x @ weights)


BINNINGS = {
    "soft": {"edges": EDGES, "bandwidth": 0.3},
    "relative": {"edges": EDGES, "bandwidth": 0.3, "relative": True},
    "regions": {
        "edges": soft_regions(jnp.stack([EDGES, EDGES + 0.1]), bandwidth=0.2),
        "bandwidth": None,
    },
}


def weighted_sum(weights, binning, chunk):
    """A function of all sums, of whose derivative no term is zero."""
    sums = template_sums(lambda x: outputs(weights, x), samples(), **binning, chunk=chunk)
    factors = jnp.cos(jnp.arange(sums.contents.size)).reshape(sums.contents.shape)
    return jnp.sum(factors * sums.contents) + jnp.sum(jnp.sqrt(1 + sums.squares)), sums


@pytest.mark.parametrize("kind", ["soft", "regions"])
def test_tiles_give_the_sums_and_the_gradient_of_one_pass(kind):
    weights = jnp.asarray(np.random.default_rng(7).normal(size=(2, 3)))
    compiled = eqx.filter_jit(
        lambda w, chunk: jax.value_and_grad(weighted_sum, has_aux=True)(w, BINNINGS[kind], chunk)
    )
    (value, sums), gradient = compiled(weights, None)
    assert sums.contents.shape == (1 + 2 + 1 + 8 + 1, 3 if kind == "soft" else 6)
    # 30 events: two tiles with an overlap; 20 events: one tile, padded
    (other, tiled), slopes = compiled(weights, 25)
    assert float(other) == pytest.approx(float(value), rel=1e-12)
    np.testing.assert_allclose(tiled.contents, sums.contents, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(tiled.squares, sums.squares, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(slopes, gradient, rtol=1e-10, atol=1e-12)


def test_hard_bins_in_tiles_are_hard_bins():
    batch = (samples()[1],)

    @eqx.filter_jit
    def hard(batch, chunk):
        return template_sums(lambda x: x, batch, edges=EDGES, bandwidth=None, chunk=chunk).contents

    np.testing.assert_allclose(hard(batch, 25), hard(batch, None), rtol=1e-12, atol=1e-13)


def test_the_network_stands_twice_in_the_graph_whatever_the_number_of_nuisances():
    def products(variations):
        many = tuple(
            Transformation(function=lambda x, alpha, i=i: x + 0.01 * i * alpha, name=f"t{i}")
            for i in range(variations)
        )
        batch = [Sample(events(20, 1), many, name="a"), Sample(events(30, 2), many, name="b")]
        graph = jax.make_jaxpr(
            lambda w: (
                template_sums(
                    lambda x: outputs(w, x), batch, edges=EDGES, bandwidth=0.2, chunk=10
                ).contents
            )
        )(jnp.ones((2, 3)))
        return str(graph).count("tanh")

    assert products(2) == products(9) == 2


def test_relative_bandwidth_is_a_soft_histogram_of_bins():
    x = samples()[0].nominal
    sums = template_sums(lambda x: x, samples()[:1], **BINNINGS["relative"])
    plain = Sample(Events(bin_coordinate(x.features[:, 0], EDGES)[:, None], x.weights), name="u")
    other = template_sums(lambda x: x, [plain], edges=jnp.arange(4.0), bandwidth=0.3)
    np.testing.assert_allclose(sums.contents[0], other.contents[0], rtol=1e-12)


def test_two_observables_in_one_channel():
    binning = product_shares((EDGES, EDGES), bandwidth=0.0)
    sums = template_sums(lambda x: x, samples()[:1], edges=binning, bandwidth=None)
    x, w = (
        np.asarray(part) for part in (samples()[0].nominal.features, samples()[0].nominal.weights)
    )
    clipped = np.clip(x, EDGES[0], EDGES[-1])
    reference = np.histogram2d(*clipped.T, bins=(EDGES, EDGES), weights=w)[0]
    np.testing.assert_allclose(sums.contents[0], reference.ravel(), atol=1e-12)


def test_channel_of_sums_is_the_channel_of_events():
    options = {"edges": EDGES, "bandwidth": 0.2}
    sums = template_sums(lambda x: x, samples(), **options)
    whole = build_model([channel_from_events(lambda x: x, samples(), **options, chunk=8)])
    parts = build_model([channel_from_sums(sums, samples())])
    assert whole.structure == parts.structure
    np.testing.assert_allclose(whole.histosys_hi, parts.histosys_hi, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(whole.staterror, parts.staterror, rtol=1e-11)


def test_wrong_input():
    def sums(**options):
        return template_sums(
            lambda x: x, samples(), **({"edges": EDGES, "bandwidth": 0.1} | options)
        )

    with pytest.raises(InputError, match="chunk is 0"):
        sums(chunk=0)
    with pytest.raises(InputError, match="needs a bandwidth"):
        sums(bandwidth=None, relative=True)
    with pytest.raises(InputError, match="these 1 samples have 3 histograms"):
        channel_from_sums(sums(), samples()[:1])
