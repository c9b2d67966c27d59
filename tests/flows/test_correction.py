"""One flow that corrects simulation to data."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import InputError
from difana._numerics import third_party_promotion
from difana.data import Events, Sample, Transformation
from difana.flows import fit_correction
from difana.losses import expected_limit
from difana.train import Training

EVENTS = 6000


@pytest.fixture(scope="module")
def toy():
    rng = np.random.default_rng(0)
    given = rng.uniform(-1, 1, (2 * EVENTS, 1))
    z = rng.normal(size=(2 * EVENTS, 1))
    simulated, data = slice(EVENTS), slice(EVENTS, None)
    x = np.where(np.arange(2 * EVENTS)[:, None] < EVENTS, z + given, 1.4 * z + 0.5 + 1.5 * given)
    found = fit_correction(
        x[data], x[simulated], data_given=given[data], simulation_given=given[simulated],
        data_weights=np.full(EVENTS, 1e3), key=jax.random.key(0), layers=2, bins=6, hidden=(24,),
        training=Training(epochs=25, batch_size=400, learning_rate=1e-2),
    )  # fmt: skip
    return found.correction, jnp.asarray(x[simulated]), jnp.asarray(given[simulated])


def test_simulation_is_moved_to_data_at_the_same_quantile(toy):
    correction, x, given = toy
    moved = correction(x, given)
    expected = 1.4 * (x - given) + 0.5 + 1.5 * given
    assert float(jnp.sqrt(jnp.mean((moved - expected) ** 2))) < 0.15
    at = jnp.linspace(-2.5, 2.5, 101)[:, None]
    line = correction(at, jnp.full((101, 1), 0.3))[:, 0]
    assert (jnp.diff(line) > 0).all()  # the order is kept
    np.testing.assert_allclose(correction.undone(moved, given), x, atol=1e-5)


def test_its_uncertainty_is_a_nuisance_of_the_limit(toy, finite_difference):
    correction, x, given = toy
    background = jnp.concatenate([correction(x, given), given], axis=1)

    def vary(inputs, alpha):
        return inputs.at[:, :1].set(
            correction.varied(inputs[:, :1], inputs[:, 1:], alpha, size=0.5)
        )

    assert jnp.array_equal(vary(background, 0.0), background)
    everything = vary(background, -2.0)[:, :1]
    np.testing.assert_allclose(everything, x, atol=1e-5)  # no correction at all
    rng = np.random.default_rng(1)
    signal = Events(jnp.asarray(rng.normal([3.0, 0.0], 0.8, (2000, 2))), jnp.full(2000, 0.01))
    several = (Transformation(function=vary, name="correction"),)

    def limit(slope, variations):
        batch = (
            Sample(signal, name="s", normfactors=("mu",)),
            Sample(Events(background, jnp.full(EVENTS, 0.05)), name="b", variations=variations),
        )
        net = lambda inputs: inputs[:, :1] + slope * inputs[:, 1:]  # noqa: E731
        edges = jnp.array([-8.0, 0.0, 2.0, 3.5, 9.0])
        with third_party_promotion():  # fits are not among the strict rooms
            value, _ = expected_limit(net, batch, edges=edges, bandwidth=0.4)
        return value

    without, with_ = (jax.jit(lambda s, v=v: limit(s, v)) for v in ((), several))
    at = jnp.asarray(0.2)
    assert float(with_(at)) > 1.02 * float(without(at))
    with third_party_promotion():
        gradient = jax.grad(with_)(at)
    numerical = finite_difference(with_, at, step=1e-3)
    np.testing.assert_allclose(gradient, numerical, rtol=2e-3)


def test_wrong_use_is_refused():
    x, key = np.random.default_rng(0).normal(size=(10, 2)), jax.random.key(0)
    for arguments, options, text in (
        ((x, x[:, :1]), {}, "give the same columns"),
        ((x, x), {"data_given": x}, "conditions of one sample"),
        ((x, x), {"data_weights": np.ones(3)}, "weights of the data"),
        ((x, x), {"simulation_weights": -np.ones(10)}, "weights of the simulation"),
    ):
        with pytest.raises(InputError, match=text):
            fit_correction(*arguments, key=key, **options)
