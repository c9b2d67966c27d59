"""Mini-batches keep yields, variances and variations of the full samples."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import InputError
from difana.data.batches import BatchSampler, draw_batch, key_words
from difana.data.events import Events
from difana.data.samples import (
    Normalisation,
    Sample,
    ShiftedEvents,
    Transformation,
    WeightVariation,
)

N, SIZE = 60, 20


def make_events(n: int, *, seed: int, negative: bool = False) -> Events:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=n)
    weights = generator.uniform(0.2, 1.0, size=n)
    if negative:
        weights = np.where(generator.uniform(size=n) < 0.2, -weights, weights)
    return Events(
        jnp.asarray(np.stack([x, np.arange(n)], 1)), jnp.asarray(weights), columns=("x", "i")
    )


def shift(x, alpha):
    return x + 0.1 * alpha


@pytest.fixture
def sample() -> Sample:
    nominal = make_events(N, seed=1, negative=True)
    up, down = make_events(N, seed=2), make_events(45, seed=3)
    slope = nominal["x"]
    return Sample(
        nominal,
        (
            ShiftedEvents(up=up, down=down, name="energy"),
            WeightVariation(
                up=nominal.weights * (1 + 0.1 * slope),
                down=nominal.weights * (1 - 0.1 * slope),
                name="slope",
            ),
            Transformation(function=shift, name="scale"),
            Normalisation(up=jnp.asarray(1.1), down=jnp.asarray(0.9), name="lumi"),
        ),
        jnp.asarray(2.0),
        name="signal",
        normfactors=("mu",),
    )


def test_full_yields_and_variances_are_kept(sample, key):
    for step in range(5):
        (batch,) = draw_batch([sample], key=key, step=step, size=SIZE)
        energy, slope, scale, lumi = batch.variations
        assert len(batch.nominal) == len(energy.up) == len(energy.down) == SIZE
        assert (batch.name, batch.normfactors) == ("signal", ("mu",))
        np.testing.assert_allclose(batch.nominal.total(), sample.nominal.total(), rtol=1e-13)
        for side in ("up", "down"):
            full = getattr(sample.variations[0], side).total()
            np.testing.assert_allclose(getattr(energy, side).total(), full, rtol=1e-13)
        np.testing.assert_allclose(
            batch.variance_scale * jnp.sum(batch.nominal.weights**2),
            sample.variance_scale * jnp.sum(sample.nominal.weights**2),
            rtol=1e-13,
        )
        assert scale.function is shift
        assert float(lumi.up) == 1.1
        assert slope.name == "slope"


def test_weight_variation_keeps_the_ratio_of_every_event(sample, key):
    (batch,) = draw_batch([sample], key=key, step=3, size=SIZE)
    slope = batch.variations[1]
    np.testing.assert_allclose(
        slope.up / batch.nominal.weights, 1 + 0.1 * batch.nominal["x"], rtol=1e-12
    )
    rows = np.asarray(batch.nominal["i"], int)
    factor = batch.nominal.weights / sample.nominal.weights[rows]
    np.testing.assert_allclose(factor, factor[0], rtol=1e-12)
    np.testing.assert_allclose(slope.down, sample.variations[1].down[rows] * factor, rtol=1e-12)


def test_total_of_a_weight_variation_is_kept_in_the_mean(key):
    nominal = make_events(400, seed=4)
    up = nominal.weights * jnp.exp(0.3 * nominal["x"])
    sample = Sample(nominal, (WeightVariation(up=up, down=up, name="w"),), name="b")
    draw = BatchSampler([sample], key=key, size=100)
    totals = np.array([float(jnp.sum(draw(step)[0].variations[0].up)) for step in range(100)])
    error = totals.std() / np.sqrt(len(totals))
    assert abs(totals.mean() - float(up.sum())) < 4 * error + 0.002 * float(up.sum())


def test_every_event_once_in_an_epoch_and_the_mean_is_the_full_histogram(key):
    nominal = make_events(N, seed=5).with_weights(jnp.full(N, 0.5))
    sample = Sample(nominal, name="b")
    draw = BatchSampler([sample], key=key, size=SIZE)
    edges = np.linspace(-3, 3, 7)
    batches = [draw(step)[0].nominal for step in range(2 * N // SIZE)]
    for epoch in (batches[:3], batches[3:]):
        rows = np.concatenate([np.asarray(batch["i"]) for batch in epoch])
        assert sorted(rows) == list(range(N))
        counts = [np.histogram(b["x"], edges, weights=b.weights)[0] for b in epoch]
        full = np.histogram(nominal["x"], edges, weights=nominal.weights)[0]
        np.testing.assert_allclose(np.mean(counts, axis=0), full, rtol=1e-12)
    first, second = (np.asarray(batches[k]["i"]) for k in (0, 3))
    assert not np.array_equal(first, second), "each epoch has its own permutation"


def test_no_event_twice_in_a_batch_where_size_does_not_divide(key):
    draw = BatchSampler([Sample(make_events(50, seed=6), name="b")], key=key, size=35)
    seen = np.zeros(50)
    for step in range(40):
        rows = np.asarray(draw(step)[0].nominal["i"], int)
        assert len(set(rows)) == 35
        seen[rows] += 1
    assert seen.min() > 15, "every event takes part"


def test_whole_sample_where_size_suffices(sample, key):
    other = Sample(make_events(100, seed=7), name="b")
    small, large = BatchSampler([sample, other], key=key, size=N)(9)
    assert len(large.nominal) == N
    for full, drawn in zip(jax.tree.leaves(sample), jax.tree.leaves(small), strict=True):
        np.testing.assert_array_equal(full, drawn)
    draw = BatchSampler([sample], key=key, size=1000)
    assert draw.whole
    assert draw(0) is draw(1)


def test_only_the_longer_side_is_drawn(key):
    nominal, up, down = (make_events(n, seed=n) for n in (10, 30, 5))
    sample = Sample(nominal, (ShiftedEvents(up=up, down=down, name="e"),), name="b")
    (batch,) = draw_batch([sample], key=key, step=0, size=10)
    np.testing.assert_array_equal(batch.nominal.weights, nominal.weights)
    assert float(batch.variance_scale) == 1.0
    assert len(batch.variations[0].up) == 10
    np.testing.assert_allclose(batch.variations[0].up.total(), up.total(), rtol=1e-13)
    np.testing.assert_array_equal(batch.variations[0].down.features, down.features)


def test_matched_sides_stay_matched(key):
    nominal = make_events(N, seed=8)
    moved = nominal.with_features(nominal.features + jnp.asarray([[0.1, 0.0]]))
    sample = Sample(nominal, (ShiftedEvents(up=moved, down=moved, name="e"),), name="b")
    (batch,) = draw_batch([sample], key=key, step=2, size=SIZE)
    np.testing.assert_allclose(batch.variations[0].up["x"], batch.nominal["x"] + 0.1, rtol=1e-12)
    np.testing.assert_array_equal(batch.variations[0].up.weights, batch.nominal.weights)


def test_stateless_function_of_key_and_step(sample, key):
    draw = BatchSampler([sample, sample], key=key, size=SIZE)
    forward = [draw(step) for step in range(6)]
    fresh = BatchSampler([sample, sample], key=key, size=SIZE)
    for step in (5, 0, 3):
        for a, b in zip(jax.tree.leaves(forward[step]), jax.tree.leaves(fresh(step)), strict=True):
            np.testing.assert_array_equal(a, b)
    one, two = forward[0]
    assert not np.array_equal(one.nominal["i"], two.nominal["i"]), "samples are independent"
    other = draw_batch([sample], key=jax.random.key(1), step=0, size=SIZE)[0]
    assert not np.array_equal(one.nominal["i"], other.nominal["i"])
    assert key_words(jax.random.PRNGKey(7)) == key_words(jax.random.key(7))


def test_shapes_are_constant_so_jit_traces_once(sample, key):
    traces = []

    @jax.jit
    def total(batch):
        traces.append(1)
        return batch[0].nominal.total() * batch[0].variance_scale

    draw = BatchSampler([sample], key=key, size=SIZE)
    for step in range(7):
        total(draw(step))
    assert len(traces) == 1


@pytest.mark.parametrize("weights", [[1.0, -1.0], [-1.0, 1.0], [0.0, 0.0]])
def test_cancelling_batches_fall_back_to_the_numbers_of_events(weights, key):
    # 10 events; a batch of 2 may sum to zero or below while the sample is positive.
    w = jnp.asarray([*weights, *weights, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0])
    sample = Sample(Events(jnp.arange(10.0)[:, None], w, columns=("i",)), name="b")
    draw = BatchSampler([sample], key=key, size=2)
    fallbacks = 0
    for step in range(30):
        (batch,) = draw(step)
        rows = np.asarray(batch.nominal["i"], int)
        assert np.all(np.isfinite(batch.nominal.weights))
        assert np.isfinite(batch.variance_scale)
        if float(w[rows].sum()) <= 0:
            fallbacks += 1
            np.testing.assert_allclose(batch.nominal.weights, w[rows] * 5, rtol=1e-14)
        else:
            np.testing.assert_allclose(batch.nominal.total(), w.sum(), rtol=1e-12)
    assert fallbacks


def test_negative_total_is_kept_too(key):
    events = make_events(N, seed=9)
    sample = Sample(events.with_weights(-events.weights), name="interference")
    (batch,) = draw_batch([sample], key=key, step=0, size=SIZE)
    np.testing.assert_allclose(batch.nominal.total(), -events.total(), rtol=1e-13)


def test_particles_ride_along(key):
    events = Events(
        jnp.arange(N * 1.0)[:, None],
        jnp.ones(N),
        particles=jnp.broadcast_to(jnp.arange(N * 1.0)[:, None, None], (N, 3, 2)),
        mask=jnp.arange(N)[:, None] % 2 == jnp.zeros((1, 3), int),
        columns=("i",),
    )
    (batch,) = draw_batch([Sample(events, name="b")], key=key, step=1, size=SIZE)
    np.testing.assert_array_equal(batch.nominal.particles[:, 0, 0], batch.nominal["i"])
    np.testing.assert_array_equal(batch.nominal.mask[:, 0], batch.nominal["i"] % 2 == 0)


def test_bad_input_is_named(key):
    good = make_events(4, seed=1)
    empty = jax.tree.map(lambda leaf: leaf[:0], good)
    broken = good.with_weights(good.weights.at[2].set(jnp.nan))
    short = WeightVariation(up=jnp.ones(3), down=jnp.ones(4), name="muR")
    cases = [
        ([Sample(good, name="b")], 0, "batch size 0"),
        ([Sample(empty, name="ttbar")], 2, "sample 'ttbar': no events"),
        ([Sample(broken, name="ttbar")], 2, "sample 'ttbar': 1 weights .* at event 2"),
        ([Sample(good, (short,), name="b")], 2, "variation 'muR': 3 weights for 4 events"),
        (
            [Sample(good, (ShiftedEvents(up=good, down=empty, name="jes"),), name="b")],
            2,
            "variation 'jes' down: no events",
        ),
    ]
    for samples, size, message in cases:
        with pytest.raises(InputError, match=message):
            BatchSampler(samples, key=key, size=size)
