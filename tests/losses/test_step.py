"""What a loss is told about its step."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from difana.data import Events, Sample
from difana.losses import Step, cross_entropy
from difana.nn import MLP
from difana.train import fit, fit_ensemble

KEY = jax.random.key(7)
EVENTS = Events(jnp.arange(8.0)[:, None], jnp.ones(8))
DATA = [Sample(EVENTS, name="d")]
OPTIONS = {"steps": 5, "batch_size": 8, "optimizer": optax.sgd(0.5)}


def noisy(x, batch, step):
    """Draw; the trained number ends at minus the mean of what was drawn."""
    drawn = jax.random.normal(step.key)
    return 0.5 * x**2 + x * drawn, {"index": step.index, "drawn": drawn, "at": step.progress}


def test_step_of_a_training():
    step = Step.at(3, key=KEY, steps=5)
    assert (int(step.index), step.index.dtype, float(step.progress)) == (3, jnp.int32, 0.75)
    expected = jax.random.key_data(jax.random.fold_in(KEY, 3))
    np.testing.assert_array_equal(jax.random.key_data(step.key), expected)
    assert float(Step.at(key=KEY).progress) == 0.0


def test_every_step_has_its_own_key_and_number():
    result = fit(noisy, jnp.asarray(0.0), DATA, key=KEY, **OPTIONS)
    aux = [record["aux"] for record in result.history]
    assert [row["index"] for row in aux] == [0, 1, 2, 3, 4]
    np.testing.assert_allclose([row["at"] for row in aux], [0, 0.25, 0.5, 0.75, 1])
    drawn = [float(jax.random.normal(jax.random.fold_in(KEY, i))) for i in range(5)]
    np.testing.assert_allclose([row["drawn"] for row in aux], drawn, rtol=1e-6)
    assert len(set(drawn)) == 5


def test_keys_of_both_kinds_and_of_members():
    typed = fit(noisy, jnp.asarray(0.0), DATA, key=jax.random.key(3), **OPTIONS)
    plain = fit(noisy, jnp.asarray(0.0), DATA, key=jax.random.PRNGKey(3), **OPTIONS)
    assert float(typed.trainable) == float(plain.trainable)
    both = fit_ensemble(
        noisy, [jnp.asarray(0.0)] * 2, DATA, keys=[jax.random.key(3), KEY], **OPTIONS
    )
    np.testing.assert_allclose(both.members[0], typed.trainable, rtol=1e-6)
    assert abs(float(both.members[0] - both.members[1])) > 1e-3


def test_a_loss_of_the_house_is_one_of_the_loop():
    samples = [Sample(EVENTS, name="s", normfactors=("mu",)), Sample(EVENTS, name="b")]
    result = fit(cross_entropy, MLP(1, (2,), key=KEY), samples, key=KEY, **OPTIONS)
    assert result.message == "ok"
