"""Losses of the baselines: random nuisances, aware and parametrised networks, adversaries."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from difana._errors import ConfigError, InputError
from difana.data import (
    Events,
    Normalisation,
    Sample,
    ShiftedEvents,
    Transformation,
    WeightVariation,
)
from difana.losses import (
    Pivot,
    Step,
    adversarial,
    adversary_outputs,
    at_random_nuisances,
    augmented,
    aware,
    cross_entropy,
    mixture_nll,
    nuisance_names,
    parametrised,
    squared_error,
)
from difana.nn import MLP


def shift(features, alpha):
    return features + jnp.asarray([[0.5, 0.0]]) * alpha


def scale(features, alpha):
    return features * (1 + 0.1 * alpha)


def sample(name, centre, events, key, *variations, **options):
    features = jnp.asarray(centre)[None] + jax.random.normal(key, (events, 2))
    weights = jax.random.uniform(jax.random.fold_in(key, 1), (events,), minval=0.5, maxval=1.5)
    return Sample(Events(features, weights), variations, name=name, **options)


SHIFT = Transformation(function=shift, name="shift")
SCALE = Transformation(function=scale, name="scale")
ONE, TWO = jax.random.split(jax.random.key(5))
BATCH = (
    sample("s", (1.0, 1.0), 50, ONE, SHIFT, SCALE, normfactors=("mu",)),
    sample("b", (-1.0, 0.0), 80, TWO, SCALE, Normalisation(up=1.2, down=0.9, name="norm")),
)


def test_every_event_has_its_own_nuisances():
    assert nuisance_names(BATCH) == ("shift", "scale", "norm")
    s, b = at_random_nuisances(BATCH, key=jax.random.key(3))
    assert (s.signal, b.signal) == (True, False)
    for i in (0, 7, 49):
        x = shift(BATCH[0].nominal.features[i : i + 1], s.nuisances[i, 0])
        np.testing.assert_allclose(s.inputs[i], scale(x, s.nuisances[i, 1])[0], rtol=1e-12)
    np.testing.assert_array_equal(s.weights, BATCH[0].nominal.weights)
    alpha = b.nuisances[:, 2]
    factors = np.where(alpha > 0, 1.2**alpha, 0.9**-alpha)
    np.testing.assert_allclose(b.weights, BATCH[1].nominal.weights * factors, rtol=1e-12)
    # the values of a nuisance that does not touch the sample carry no information, either
    assert 0.5 < float(b.nuisances[:, 0].std()) < 1.5


def test_weight_variation_at_one_sigma():
    w = BATCH[1].nominal.weights
    variation = WeightVariation(up=1.3 * w, down=0.8 * w, name="w")
    batch = (BATCH[0], Sample(BATCH[1].nominal, (variation,), name="b"))
    for value, factor in ((1.0, 1.3), (-1.0, 0.8), (0.0, 1.0)):
        _, b = at_random_nuisances(
            batch,
            key=jax.random.key(0),
            draw=lambda key, shape, value=value: jnp.full(shape, value),
        )
        np.testing.assert_allclose(b.weights, factor * w, rtol=1e-12)


def test_without_spread_all_are_the_nominal_cross_entropy():
    net = MLP(2, (4,), 1, param_dtype=jnp.float64, key=jax.random.key(0))
    wide = MLP(5, (4,), 1, param_dtype=jnp.float64, key=jax.random.key(1))
    zero = lambda key, shape: jnp.zeros(shape)  # noqa: E731
    step, options = Step.at(key=jax.random.key(0)), {"draw": zero}
    nominal = float(cross_entropy(net, BATCH)[0])
    assert float(augmented(net, BATCH, step, **options)[0]) == pytest.approx(nominal, rel=1e-12)
    padded = lambda x: wide(jnp.pad(x, ((0, 0), (0, 3))))  # noqa: E731
    own = float(cross_entropy(padded, BATCH)[0])
    assert float(aware(wide, BATCH, step, **options)[0]) == pytest.approx(own, rel=1e-12)


def test_adversary_descends_and_classifier_ascends():
    """Both gradients against those of the two losses, taken apart."""
    net = MLP(2, (4,), 1, param_dtype=jnp.float64, key=jax.random.key(0))
    opponent = MLP(1, (4,), 3, param_dtype=jnp.float64, key=jax.random.key(1), activation="tanh")
    step, strength = Step.at(key=jax.random.key(2)), 0.7
    s, b = at_random_nuisances(BATCH, key=step.key)

    def opposed(net, opponent):
        def own(block):
            guess = opponent(jax.nn.sigmoid(net(block.inputs)))
            return jnp.average(squared_error(guess, block.nuisances), weights=block.weights)

        return 0.5 * (own(s) + own(b))

    @jax.jit
    def gradients(net, opponent):
        def total(state):
            return adversarial(state, BATCH, step, adversary="regressor", strength=strength)

        (_, aux), whole = jax.value_and_grad(total, has_aux=True)(Pivot(net, opponent))
        entropy = jax.grad(lambda n: augmented(n, BATCH, step)[0])(net)
        value, parts = jax.value_and_grad(opposed, argnums=(0, 1))(net, opponent)
        return aux, whole, entropy, value, parts

    aux, whole, entropy, value, (by_net, by_opponent) = gradients(net, opponent)
    assert float(aux["adversary"]) == pytest.approx(float(value), rel=1e-12)
    expected = jax.tree.map(lambda e, a: e - strength * a, entropy, by_net)
    for a, b_ in zip(jax.tree.leaves(whole.net), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b_, rtol=1e-9, atol=1e-12)
    for a, b_ in zip(jax.tree.leaves(whole.adversary), jax.tree.leaves(by_opponent), strict=True):
        np.testing.assert_allclose(a, b_, rtol=1e-9, atol=1e-12)


def test_mixture_density():
    rng = np.random.default_rng(0)
    outputs, nu = rng.normal(size=(4, 3 * (1 + 2 * 2))), rng.normal(size=(4, 2))
    assert adversary_outputs("mixture", nuisances=2, components=3) == outputs.shape[1]
    shares = np.exp(outputs[:, :3]) / np.exp(outputs[:, :3]).sum(axis=1, keepdims=True)
    means = outputs[:, 3:9].reshape(4, 3, 2)
    widths = np.log1p(np.exp(outputs[:, 9:].reshape(4, 3, 2))) + 0.01
    density = (shares * norm.pdf(nu[:, None], means, widths).prod(axis=2)).sum(axis=1)
    found = mixture_nll(jnp.asarray(outputs), jnp.asarray(nu))
    np.testing.assert_allclose(found, -np.log(density), rtol=1e-10)


def test_parametrised_network_sees_the_right_parameters():
    three = jax.random.key(9)
    batch = (
        sample("m1", (1.0, 0.0), 30, ONE, normfactors=("mu",)),
        sample("b", (0.0, 0.0), 400, TWO),
        sample("m2", (2.0, 0.0), 30, three, normfactors=("mu",)),
    )
    seen = []

    def spy(x):
        seen.append(np.asarray(x[:, 2]))
        return jnp.zeros((len(x), 1))

    theta = {"m1": [1.0], "m2": [2.0]}
    step = Step.at(key=jax.random.key(0))
    value, _ = parametrised(spy, batch, step, theta=theta)
    assert float(value) == pytest.approx(np.log(2), rel=1e-12)
    m1, b, m2 = np.split(seen[0], [30, 430])
    assert (set(m1), set(m2), set(b)) == ({1.0}, {2.0}, {1.0, 2.0})
    assert abs(b.mean() - 1.5) < 0.1
    with pytest.raises(InputError, match="Did you mean"):
        parametrised(spy, batch, step, theta={"m1": [1.0], "m3": [2.0]})


def test_bad_input():
    events = BATCH[1].nominal
    shifted = ShiftedEvents(up=events, down=events, name="files")
    with pytest.raises(InputError, match="'files' is given as shifted events"):
        at_random_nuisances((BATCH[0], Sample(events, (shifted,), name="b")), key=jax.random.key(0))
    with pytest.raises(InputError, match="background"):
        at_random_nuisances(BATCH[:1], key=jax.random.key(0))
    with pytest.raises(ConfigError, match="neither"):
        adversarial(Pivot(None, None), BATCH, Step.at(key=jax.random.key(0)), adversary="other")  # pyright: ignore
