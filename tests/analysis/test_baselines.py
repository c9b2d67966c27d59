"""Baselines by one call each, and the exact profile over a nuisance."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import norm

from difana._errors import InputError
from difana.analysis import (
    NetworkOptions,
    NuisanceScan,
    nuisance_scan,
    profiled_interval,
    samples_at,
    train_adversarial,
    train_augmented,
    train_aware,
    train_cross_entropy,
    train_parametrised,
)
from difana.data import Events, Normalisation, Sample, Transformation
from difana.likelihood import Channel, NormFactor, NormSys, Template, build_model
from difana.nn import Parametrised
from difana.train import Training


def move(features, alpha):
    return features + 0.4 * alpha


def quantile_sample(name, centre, total, events=4000, **options):
    """Events at the quantiles of a unit Gaussian: yields are those of its integral."""
    x = centre + norm.ppf((np.arange(events) + 0.5) / events)
    drawn = Events(jnp.asarray(x)[:, None], jnp.full(events, total / events))
    return Sample(drawn, (Transformation(function=move, name="move"),), name=name, **options)


SAMPLES = (
    quantile_sample("s", 1.5, 50.0, normfactors=("mu",)),
    quantile_sample("b", -0.5, 400.0),
)
SMALL = NetworkOptions((8,), activation="tanh")


def training(steps, size):
    return Training(steps=steps, batch_size=size, learning_rate=0.02, final_rate=0.0)


@pytest.mark.parametrize("train", [train_augmented, train_adversarial])
def test_each_baseline_is_one_call(train):
    options = {"network": SMALL, "training": training(60, 200)}
    found = train(SAMPLES, key=jax.random.key(0), **options)
    assert found.message == "ok"
    low, high = found.net(jnp.array([[-2.0], [2.0]]))[:, 0]
    assert float(high - low) > 1  # it separates
    losses = [record["loss"] for record in found.history]
    assert losses[-1] < losses[0]


def test_several_seeds_at_once():
    options = {"network": SMALL, "training": training(30, 200)}
    key = jax.random.key(0)
    many = train_cross_entropy(SAMPLES, key=key, members=2, **options)
    alone = train_cross_entropy(SAMPLES, key=jax.random.split(key)[1], **options)
    x = jnp.array([[-2.0], [2.0]])
    np.testing.assert_allclose(many[1].net(x), alone.net(x), rtol=1e-4)
    assert abs(float((many[0].net(x) - alone.net(x))[0, 0])) > 1e-3


def test_aware_network_follows_the_nuisance():
    found = train_aware(SAMPLES, key=jax.random.key(0), network=SMALL, training=training(400, 500))
    # the point of equal densities moves by 0.4 a standard deviation
    cuts = []
    for value in (-1.0, 1.0):
        net = Parametrised(found.net, jnp.array([value]))
        cuts.append(brentq(lambda x, net=net: float(net(jnp.array([[x]]))[0, 0]), -3, 4))
    assert cuts[0] == pytest.approx(0.1, abs=0.15)
    assert cuts[1] - cuts[0] == pytest.approx(0.8, abs=0.15)


def test_parametrised_network():
    points = [
        quantile_sample(f"m{m}", float(m), 10.0, events=500, normfactors=("mu",)) for m in (1, 3)
    ]
    theta = {"m1": [100.0], "m3": [300.0]}
    found = train_parametrised(
        [*points, quantile_sample("b", 0.0, 10.0, events=500)],
        theta=theta,
        key=jax.random.key(1),
        network=SMALL,
        training=training(300, 500),
    )
    # equal densities of signal and background halfway to the mass
    for mass in (100.0, 300.0):
        net = Parametrised(found.net, jnp.array([mass]))
        cut = brentq(lambda x, net=net: float(net(jnp.array([[x]]))[0, 0]), -3, 5)
        assert cut == pytest.approx(mass / 200, abs=0.2)


EDGES = np.array([-6.0, -1.0, 0.0, 1.0, 2.0, 8.0])


def yields(centre, total):
    inner = norm.cdf(EDGES[1:-1], centre)
    return total * np.diff(np.concatenate([[0.0], inner, [1.0]]))


def reference(truth, center, mu=1.0):
    """The interval of mu by nested minimisation of the exact likelihood."""
    data = yields(1.5 + 0.4 * truth, 50.0) * mu + yields(-0.5 + 0.4 * truth, 400.0)

    def nll(mu, nu):
        rates = mu * yields(1.5 + 0.4 * nu, 50.0) + yields(-0.5 + 0.4 * nu, 400.0)
        return np.sum(rates - data + data * np.log(data / rates)) + 0.5 * (nu - center) ** 2

    def profile(mu):
        return minimize_scalar(lambda nu: nll(mu, nu), bounds=(-3, 3), method="bounded").fun

    best = minimize_scalar(profile, bounds=(0.01, 5), method="bounded")
    rise = lambda mu: 2 * (profile(mu) - best.fun) - 1  # noqa: E731
    return best.x, brentq(rise, 1e-3, best.x), brentq(rise, best.x, 9)


@pytest.mark.parametrize(("truth", "center"), [(0.0, 0.0), (1.0, -0.5)])
def test_exact_profile_against_nested_minimisation(truth, center):
    scan = nuisance_scan(
        lambda x: x,
        SAMPLES,
        nuisance="move",
        values=np.linspace(-2, 2, 33),
        edges=jnp.asarray(EDGES),
        truth=truth,
        center=center,
        staterror=False,
    )
    found = profiled_interval(scan)
    assert found.ok
    value, lower, upper = reference(truth, center)
    # 4000 events at quantiles: bin contents are right to 1 in 4000
    np.testing.assert_allclose(
        [found.value, found.lower, found.upper], [value, lower, upper], atol=4e-3
    )
    assert center - 0.01 < float(found.nuisance) < truth + 0.01


def test_network_and_data_of_each_value():
    """A network that undoes the nuisance: at the truth the templates are the nominal ones."""
    options = {"nuisance": "move", "values": np.linspace(-2, 2, 9), "edges": jnp.asarray(EDGES)}
    scan = nuisance_scan(
        lambda value: lambda x: x - 0.4 * value,
        SAMPLES,
        per_value=True,
        truth=1.0,
        staterror=False,
        **options,
    )
    rows = np.asarray(scan.models.nominal).reshape(9, 2, 5)
    np.testing.assert_allclose(rows, np.broadcast_to(rows[4], rows.shape), atol=0.2)
    expected = rows[4].sum(axis=0)
    np.testing.assert_allclose(scan.data[6], expected, atol=0.2)  # at +1, the truth
    assert abs(float(scan.data[4, 0]) - expected[0]) > 10
    # the same from events
    true = samples_at(SAMPLES, "move", 1.0)
    features = jnp.concatenate([s.nominal.features for s in true])
    weights = jnp.concatenate([s.nominal.weights for s in true])
    seen = nuisance_scan(
        lambda value: lambda x: x - 0.4 * value,
        SAMPLES,
        per_value=True,
        observed=Events(features, weights),
        staterror=False,
        **options,
    )
    np.testing.assert_allclose(seen.data, scan.data, rtol=1e-9)


def test_bad_input():
    with pytest.raises(InputError, match="evenly"):
        nuisance_scan(
            lambda x: x,
            SAMPLES,
            nuisance="move",
            values=[0.0, 1.0, 3.0],
            edges=jnp.asarray(EDGES),
        )
    with pytest.raises(InputError, match="no variation"):
        samples_at(SAMPLES, "mov", 1.0)
    norm_only = Sample(SAMPLES[1].nominal, (Normalisation(up=1.1, down=0.9, name="n"),), name="b")
    with pytest.raises(InputError, match="no Transformation"):
        samples_at([norm_only], "n", 1.0)


def test_other_nuisances_are_fitted_at_each_value():
    """Nothing depends on the scanned one: the interval is that of the model by itself."""
    signal = Template([50.0, 0.0], (NormFactor("mu"),), name="s")
    other = Template([100.0, 100.0], (NormSys(1.2, 0.8, "norm"),), name="b")
    model = build_model([Channel((signal, other), name="SR")])
    data = model.data([160.0, 95.0])
    stack = lambda x: jnp.stack([x] * 3)  # noqa: E731
    values = jnp.array([-1.0, 0.0, 1.0])
    scan = NuisanceScan(jax.tree.map(stack, model), stack(data), values, jnp.asarray(0.0))
    found = profiled_interval(scan)
    assert found.ok

    half = jax.jit(lambda mu, norm: model.half_deviance(jnp.stack([mu, norm]), data))
    assert model.structure.parameters == ("mu", "norm")

    def profile(mu):
        return minimize_scalar(lambda norm: float(half(mu, norm)), bracket=(-0.5, 0.5)).fun

    best = minimize_scalar(profile, bounds=(0.1, 4), method="bounded", options={"xatol": 1e-6})
    rise = lambda mu: 2 * (profile(mu) - best.fun) - 1  # noqa: E731
    ends = [brentq(rise, 0.1, best.x), brentq(rise, best.x, 4)]
    np.testing.assert_allclose([found.lower, found.upper], ends, rtol=1e-4)
    # with the nuisance held the interval would be shorter
    assert float(found.sigma) > 1.1 * np.sqrt(160) / 50
