"""The exponential average of the weights, against its closed form."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from difana._errors import ConfigError
from difana.train import Average, RowSampler, TrainStatus, minimise

DECAY = 0.8
ROWS = jnp.linspace(-1.0, 1.0, 12)


def loss(trainable, batch, step):
    return jnp.mean((trainable["w"] - batch) ** 2), {"w": trainable["w"]}


def run(steps=9, *, loss=loss, **options):
    settings = {"optimizer": optax.sgd(0.3), "key": jax.random.key(1), "average": DECAY, **options}
    draw = RowSampler(ROWS, key=jax.random.key(0), size=3)
    return minimise(loss, {"w": jnp.asarray(5.0)}, draw, steps=steps, **settings)


def closed_form(weights):
    n = len(weights)
    shares = (1 - DECAY) * DECAY ** np.arange(n - 1, -1, -1) / (1 - DECAY**n)
    return float(np.sum(shares * np.asarray(weights)))


def path(result):
    """Return the weights after each update: what the next step saw."""
    return [record["aux"]["w"] for record in result.history if record["kind"] == "train"][1:]


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_closed_form(steps):
    weights = path(run(steps + 1, average=None))[:steps]
    assert float(run(steps).trainable["w"]) == pytest.approx(closed_form(weights), rel=1e-12)


def test_validation_and_best_state_are_averaged():
    seen = []

    def validate(trainable):
        seen.append(float(trainable["w"]))
        return jnp.abs(trainable["w"] - seen[3] if len(seen) > 3 else 1.0), {}

    result = run(validate=validate, validate_every=1)
    weights = path(run(10, average=None))
    expected = [5.0] + [closed_form(weights[:n]) for n in range(1, 10)]
    np.testing.assert_allclose(seen, expected, rtol=1e-12)
    assert float(result.trainable["w"]) == pytest.approx(expected[result.best_step], rel=1e-12)
    assert float(result.last["w"]) == pytest.approx(expected[-1], rel=1e-12)


def test_a_skipped_step_does_not_count():
    def broken(trainable, batch, step):
        value, aux = loss(trainable, batch, step)
        return jnp.where(step.index == 4, jnp.nan, value), aux

    result = run(loss=broken)
    kept = path(run(10, loss=broken, average=None))[:9]
    kept.pop(4)  # the weights after the skipped step are those before
    assert result.skipped == 1
    assert float(result.trainable["w"]) == pytest.approx(closed_form(kept), rel=1e-12)


def test_divergence_returns_the_last_sound_average():
    def broken(trainable, batch, step):
        value, aux = loss(trainable, batch, step)
        return jnp.where(step.index >= 4, jnp.nan, value), aux

    result = run(loss=broken, max_nonfinite=3)
    assert result.status == TrainStatus.DIVERGED
    # the weights after the update of step 3 were never seen to be good
    kept = path(run(10, average=None))[:3]
    assert float(result.trainable["w"]) == pytest.approx(closed_form(kept), rel=1e-12)


def test_low_precision_weights_are_averaged_in_single_precision():
    mean = Average.start(jnp.ones(2, jnp.bfloat16))
    for _ in range(300):
        mean = mean.updated(jnp.full(2, 1.5, jnp.bfloat16), decay=0.99)
    assert mean.leaves.dtype == jnp.float32
    np.testing.assert_allclose(mean.leaves, 1.5, rtol=1e-6)


def test_another_decay_is_another_training(tmp_path):
    run(checkpoint=tmp_path)
    with pytest.raises(ConfigError, match=r"average was 0\.8, is 0\.9"):
        run(checkpoint=tmp_path, average=0.9)
    with pytest.raises(ConfigError, match=r"average = 1\.0"):
        run(average=1.0)
