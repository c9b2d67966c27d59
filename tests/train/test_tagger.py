"""A tagger is trained with its batch statistics and judged without moving them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import InputError
from difana.data import Inputs
from difana.metrics import roc_auc
from difana.nn import MLP, batch_statistics
from difana.nn.taggers import ParticleNet, four_momenta
from difana.train import Training, fit_tagger

TRAINING = Training(epochs=12, batch_size=50, learning_rate=5e-3, patience=None)


@pytest.fixture(scope="module")
def jets():
    """Return jets of one prong and of two, cylindrical."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 400)
    side = np.where(rng.random((400, 6)) < 0.5, 1, -1)
    phi = rng.normal(0, 0.1, (400, 6)) + 0.3 * labels[:, None] * side
    x = np.stack([rng.exponential(20, (400, 6)) + 1, rng.normal(0, 0.1, (400, 6)), phi,
                  np.full((400, 6), 0.1)], -1)  # fmt: skip
    mask = jnp.asarray(np.arange(6) < rng.integers(3, 7, 400)[:, None])
    p = four_momenta(jnp.asarray(x, jnp.float32))
    return Inputs(jnp.zeros((400, 0), jnp.float32), p, mask).cleaned(), labels


def test_a_network_with_batch_statistics_learns(jets, key):
    inputs, labels = jets
    net = ParticleNet(2, blocks=((3, (8, 8)),), hidden=(8,), key=key)
    result = fit_tagger(net, inputs, labels, key=key, training=TRAINING, progress_bar=False)
    assert result.ok
    assert result.best_metric < 0.5
    out = result.trainable(inputs)
    np.testing.assert_array_equal(out, result.trainable(inputs))  # the state of evaluation
    assert float(roc_auc(out[:, 1] - out[:, 0], labels)) > 0.9
    (before,), (after,) = batch_statistics(net), batch_statistics(result.trainable)
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), before, after)
    assert all(jax.tree.leaves(moved))


def test_attacked_training_is_robust(key):
    # the first feature decides but may be moved, the second is weaker and may not
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 600)
    sign = 2 * labels - 1
    x = np.stack([0.3 * sign + rng.normal(0, 0.1, 600), 1.0 * sign + rng.normal(0, 1, 600)], 1)
    x = jnp.asarray(x, jnp.float32)
    found = {}
    for name, attack in (("plain", None), ("attacked", {"size": 0.5, "channels": [0]})):
        net = MLP(2, [], 2, key=key)
        options = {"training": Training(epochs=40, learning_rate=0.3, patience=None)}
        result = fit_tagger(net, x, labels, key=key, attack=attack, progress_bar=False, **options)
        kernel = result.trainable.layers[0].kernel[...]
        slope = kernel[:, 1] - kernel[:, 0]
        found[name] = float(slope[0] / slope[1])
    assert found["plain"] > 3
    assert abs(found["attacked"]) < 0.5 * found["plain"]


def test_rows_and_labels_must_fit(jets, key):
    inputs, labels = jets
    net = MLP(2, [], 2, key=key)
    with pytest.raises(InputError, match="400 rows and labels of shape"):
        fit_tagger(net, inputs, labels[:5], key=key)
    with pytest.raises(InputError, match="label 1 is no class of 1"):
        fit_tagger(net, inputs, labels, key=key, classes=1)
