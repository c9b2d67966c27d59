"""Eight devices give the result of one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana import train
from difana._errors import ConfigError
from difana.data.events import Events
from difana.data.samples import Normalisation, Sample, ShiftedEvents, WeightVariation

pytestmark = pytest.mark.skipif(
    jax.device_count() < 8, reason="needs XLA_FLAGS=--xla_force_host_platform_device_count=8"
)


@pytest.fixture(scope="module")
def mesh():
    return jax.make_mesh((8,), ("events",))


def events(n, *, seed=0):
    x = np.random.default_rng(seed).normal(1.0, size=(n, 2))
    particles, mask = jnp.ones((n, 3, 1)), jnp.ones((n, 3), bool)
    return Events(jnp.asarray(x), jnp.arange(1.0, n + 1), particles, mask)


def test_padding_adds_events_of_weight_zero(mesh):
    nominal = events(11)
    sample = Sample(
        nominal,
        (
            ShiftedEvents(up=events(16, seed=1), down=events(3, seed=2), name="e"),
            WeightVariation(up=2 * nominal.weights, down=nominal.weights, name="w"),
            Normalisation(up=jnp.asarray(1.1), down=jnp.asarray(0.9), name="n"),
        ),
        name="b",
    )
    (padded,) = train.shard_batch((sample,), mesh=mesh)
    shifted, weighted, _ = padded.variations
    assert [len(e) for e in (padded.nominal, shifted.up, shifted.down)] == [16, 16, 8]
    assert len(weighted.up) == len(weighted.down) == 16
    assert float(padded.nominal.total()) == float(nominal.total())
    assert float(weighted.up.sum()) == 2 * float(nominal.total())
    assert np.all(np.asarray(padded.nominal.weights[11:]) == 0)
    np.testing.assert_array_equal(padded.nominal.features[:11], nominal.features)
    np.testing.assert_array_equal(
        padded.nominal.features[11:], np.tile(nominal.features[0], (5, 1))
    )
    assert padded.nominal.mask.dtype == bool
    for leaf in (padded.nominal.features, weighted.up, shifted.down.weights):
        assert len(leaf.sharding.device_set) == 8
        assert leaf.addressable_shards[0].data.shape[0] == leaf.shape[0] // 8
    assert padded.variance_scale.sharding.is_fully_replicated


@pytest.mark.parametrize("size", [30, 1000])
def test_same_result_as_one_device(fit, toy, mesh, size):
    shardings = []

    def loss(trainable, batch, step):
        # Both 30 and 70 or 120 events must be padded or not, and are never gathered.
        jax.debug.inspect_array_sharding(batch[0].nominal.features, callback=shardings.append)
        return toy.loss(trainable, batch, step)

    one = fit(batch_size=size)
    eight = fit(batch_size=size, mesh=mesh, loss=loss)
    assert len(shardings[0].device_set) == 8
    assert not shardings[0].is_fully_replicated
    for name in toy.start:
        np.testing.assert_allclose(eight.last[name], one.last[name], rtol=1e-11)
        assert len(eight.last[name].sharding.device_set) == 1
    assert eight.best_step == one.best_step
    for a, b in zip(eight.history, one.history, strict=True):
        key = "loss" if a["kind"] == "train" else "metric"
        assert a[key] == pytest.approx(b[key], rel=1e-12)


def test_resume_on_a_mesh(fit, mesh, tmp_path):
    options = {"mesh": mesh, "checkpoint_every": 4, "steps": 10}
    whole = fit(**options)

    class Stop:
        def start(self, *, stage, step):
            pass

        def log(self, record):
            if record["step"] == 7:
                raise KeyboardInterrupt

        def close(self):
            pass

    with pytest.raises(KeyboardInterrupt):
        fit(**options, checkpoint=tmp_path, logger=Stop())
    resumed = fit(**options, checkpoint=tmp_path)
    assert resumed.history == whole.history
    np.testing.assert_array_equal(resumed.last["w"], whole.last["w"])


def test_a_mesh_with_two_axes_is_refused(fit):
    with pytest.raises(ConfigError, match="one axis"):
        fit(mesh=jax.make_mesh((4, 2), ("events", "model")))
