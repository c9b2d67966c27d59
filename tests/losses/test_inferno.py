"""INFERNO: the curvature against finite differences and AD, exact against interpolated, vmap."""

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
from difana.infer import trustworthy
from difana.likelihood import Parameter, channel_from_logits, code4
from difana.losses import inferno

TAU = 0.3
FREE = (Parameter("shift", constraint="none"), Parameter("scale", sigma=0.5))


class Net(eqx.Module):
    """Two tanh layers in float64: light enough to compile often."""

    first: jax.Array
    last: jax.Array

    def __init__(self, key, bins=4):
        one, two = jax.random.split(key)
        self.first = jax.random.normal(one, (2, 6))
        self.last = jax.random.normal(two, (6, bins))

    def __call__(self, x):
        return jnp.tanh(x @ self.first) @ self.last


def shift(x, alpha):
    return x + alpha * jnp.array([0.3, 0.1])


def scale(x, alpha):
    return x * jnp.exp(0.2 * alpha)


def events(key, centre, total, n=60):
    one, two = jax.random.split(key)
    weights = jax.random.uniform(two, (n,), minval=0.5, maxval=1.5)
    return Events(centre + jax.random.normal(one, (n, 2)), weights * total / weights.sum())


@pytest.fixture(scope="module")
def samples():
    keys = jax.random.split(jax.random.key(0), 5)
    background = events(keys[1], -0.5, 100.0)
    moved = events(keys[2], -0.4, 105.0), events(keys[3], -0.7, 95.0)
    variations = (
        Transformation(function=shift, name="shift"),
        WeightVariation(up=1.1 * background.weights, down=0.8 * background.weights, name="slope"),
        ShiftedEvents(up=moved[0], down=moved[1], name="other"),
        Transformation(function=scale, name="scale"),
        Normalisation(up=jnp.asarray(1.1), down=jnp.asarray(0.95), name="norm"),
    )
    return (
        Sample(events(keys[0], 0.8, 20.0), name="signal", normfactors=("mu",)),
        Sample(background, variations, name="background"),
        Sample(events(keys[4], 0.0, 30.0, n=40), name="rest"),
    )


def yields(net, x, weights):
    return weights @ jax.nn.softmax(net(x) / TAU, axis=1)


def expected(net, samples, theta):
    """Expected yields, written independently: mu, shift, slope, other, scale, norm."""
    mu, move, slope, other, stretch, norm = theta
    signal, background, rest = samples
    nominal = background.nominal
    moved = scale(shift(nominal.features, move), stretch)
    total = yields(net, moved, nominal.weights)
    variations = {v.name: v for v in background.variations}
    weights = variations["slope"]
    total += 0.5 * slope * yields(net, nominal.features, weights.up - weights.down)
    up, down = variations["other"].up, variations["other"].down
    difference = yields(net, up.features, up.weights) - yields(net, down.features, down.weights)
    total += 0.5 * other * difference
    total *= code4(norm[None], jnp.array([0.95]), jnp.array([1.1]))[0]
    first = mu * yields(net, signal.nominal.features, signal.nominal.weights)
    return first + total + yields(net, rest.nominal.features, rest.nominal.weights)


@pytest.fixture(scope="module")
def net():
    return Net(jax.random.key(1))


@pytest.fixture(scope="module")
def losses(samples):
    def loss(nuisances):
        def value(net):
            options = {"parameters": FREE, "staterror": False, "nuisances": nuisances}
            return inferno(net, samples, temperature=TAU, **options)

        return value

    return {name: eqx.filter_jit(loss(name)) for name in ("exact", "interpolated")}


def test_the_curvature_is_the_hessian_of_the_asimov_likelihood(net, samples, losses):
    nominal = jnp.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    constraints = np.diag([0.0, 0.0, 1.0, 1.0, 0.5**-2, 1.0])
    asimov = expected(net, samples, nominal)

    def nll(theta):
        rates = expected(net, samples, theta)
        return jnp.sum(rates - asimov * jnp.log(rates))

    curvature = np.asarray(jax.jit(jax.hessian(nll))(nominal)) + constraints
    sigma, aux = losses["exact"](net)
    assert trustworthy(aux["status"])
    assert float(sigma) == pytest.approx(np.linalg.inv(curvature)[0, 0] ** 0.5, rel=1e-9)
    # finite differences of the yields instead of AD
    rates = jax.jit(lambda theta: expected(net, samples, theta))
    step = 1e-4
    slopes = np.stack([(rates(nominal + d) - rates(nominal - d)) / (2 * step)
                       for d in step * np.eye(6)])  # fmt: skip
    curvature = (slopes / np.asarray(asimov)) @ slopes.T + constraints
    assert float(sigma) == pytest.approx(np.linalg.inv(curvature)[0, 0] ** 0.5, rel=1e-6)


def test_the_gradient_against_finite_differences(net, losses):
    gradient = eqx.filter_jit(eqx.filter_grad(lambda n: losses["exact"](n)[0]))(net)
    norm = float(jnp.sqrt(jnp.sum(gradient.first**2) + jnp.sum(gradient.last**2)))
    step = 1e-5

    def moved(sign):
        change = jax.tree.map(lambda g: sign * step * g / norm, gradient)
        return float(losses["exact"](jax.tree.map(jnp.add, net, change))[0])

    assert (moved(1) - moved(-1)) / (2 * step) == pytest.approx(norm, rel=1e-5)


def test_vmap_is_a_loop_over_seeds(losses):
    nets = [Net(jax.random.key(seed)) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *nets)
    together = eqx.filter_vmap(losses["exact"])(stacked)[0]
    alone = [float(losses["exact"](one)[0]) for one in nets]
    np.testing.assert_allclose(together, alone, rtol=1e-10)


def test_exact_and_interpolated_agree_for_small_shifts(net, samples, losses):
    assert float(losses["exact"](net)[0]) != pytest.approx(
        float(losses["interpolated"](net)[0]), rel=1e-3
    )

    @eqx.filter_jit
    def both(size):
        small = Transformation(function=lambda x, alpha: shift(x, size * alpha), name="shift")
        batch = (samples[0], Sample(samples[1].nominal, (small,), name="background"))
        options = {"temperature": TAU, "parameters": FREE[:1], "staterror": False}
        return [inferno(net, batch, nuisances=kind, **options)[0] for kind in losses]

    exact, coarse = both(0.3)
    again, fine = both(0.03)  # a free nuisance: its unit does not matter
    assert float(exact) == pytest.approx(float(again), rel=1e-10)
    ratio = (float(coarse) - float(exact)) / (float(fine) - float(exact))
    assert ratio == pytest.approx(100.0, rel=0.1)  # the error falls with the square of the shift


def test_hard_bins_count_the_largest_logit(net, samples):
    @eqx.filter_jit
    def values(net):
        channels = [channel_from_logits(net, samples, temperature=tau) for tau in (None, 1e-6)]
        return [[template.values for template in channel.templates] for channel in channels]

    hard, soft = values(net)
    for one, other, sample in zip(hard, soft, samples, strict=True):
        bins = np.argmax(net(sample.nominal.features), axis=1)
        counts = np.bincount(bins, np.asarray(sample.nominal.weights), minlength=4)
        np.testing.assert_allclose(one, counts, rtol=1e-12)
        np.testing.assert_allclose(other, counts, rtol=1e-12)


def test_tangents_leave_the_other_variations_alone(net, samples):
    @eqx.filter_jit
    def background(net):
        return [
            channel_from_logits(net, samples, temperature=TAU, tangents=tangents).templates[1]
            for tangents in (False, True)
        ]

    plain, exact = ({m.name: m for m in t.modifiers} for t in background(net))
    for name in ("slope", "other"):
        np.testing.assert_allclose(exact[name].hi, plain[name].hi, rtol=1e-10)
        np.testing.assert_allclose(exact[name].lo, plain[name].lo, rtol=1e-10)
    # up is up: the first order of the templates
    change = 0.5 * (plain["shift"].hi - plain["shift"].lo)
    np.testing.assert_allclose(0.5 * (exact["shift"].hi - exact["shift"].lo), change, atol=0.6)
    assert np.max(np.abs(change)) > 3


def test_bad_options(net, samples):
    with pytest.raises(InputError, match="choose 'exact'"):
        inferno(net, samples, temperature=0.1, nuisances="both")
    with pytest.raises(InputError, match="no derivative"):
        channel_from_logits(net, samples, temperature=None, tangents=True)
    with pytest.raises(InputError, match="no samples"):
        channel_from_logits(net, (), temperature=0.1)
