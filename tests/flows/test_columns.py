"""Ranges, angles, integers, signed weights, particles: what columns, weights and conditions are."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import ConfigError, InputError
from difana.data import Inputs
from difana.flows import Column, continuous_flow, coupling_flow, fit_flow
from difana.flows.continuous import transport_pairs
from difana.nn import DeepSets, Standardised
from difana.train import Training

KEY = jax.random.key(0)
TRAINING = Training(epochs=12, batch_size=200, learning_rate=1e-2)
SMALL = {"layers": 2, "bins": 4, "hidden": (8,)}


def test_draws_stay_in_the_ranges_and_integers_are_whole():
    rng = np.random.default_rng(0)
    x = np.stack(
        [rng.exponential(size=2000) + 2, rng.beta(0.5, 0.5, 2000),
         np.mod(rng.normal(3.0, 0.6, 2000) + np.pi, 2 * np.pi) - np.pi, rng.poisson(3.0, 2000)],
        axis=1,
    )  # fmt: skip
    columns = {
        "pt": Column("above", 2.0), "b": Column("between", 0.0, 1.0),
        "phi": Column("periodic", -np.pi, np.pi), "n": Column("whole", 0),
    }  # fmt: skip
    flow = coupling_flow(x, key=KEY, columns=columns, names=("pt", "b", "phi", "n"), **SMALL)
    found = fit_flow(flow, x, key=KEY, training=TRAINING)
    draws = np.asarray(found.flow.sample(key=KEY, samples=4000))
    assert draws.shape == (4000, 4)
    assert draws[:, 0].min() >= 2
    assert 0 <= draws[:, 1].min() < draws[:, 1].max() <= 1
    assert np.abs(draws[:, 2]).max() <= np.pi + 1e-6
    assert set(draws[:, 3]) <= set(range(20))
    np.testing.assert_allclose(draws[:, [0, 1, 3]].mean(0), x[:, [0, 1, 3]].mean(0), rtol=0.08)
    # the peak lies across the ends of the range
    assert abs(np.angle(np.exp(1j * draws[:, 2]).mean()) - 3.0) < 0.1
    outside = np.array([[1.9, 0.5, 0.0, 3.0], [3.0, 1.1, 0.0, 3.0]])
    assert np.isneginf(found.flow.log_prob(outside)).all()
    turned = x[:5].copy()
    turned[:, 2] += 2 * np.pi
    np.testing.assert_allclose(found.flow.log_prob(turned), found.flow.log_prob(x[:5]), rtol=1e-6)
    low = np.array([[2.0, 0.0, -np.pi, 0.0], [2.0, 1.0, np.pi, 0.0]])
    gradient = jax.grad(lambda at: jnp.sum(found.flow.log_prob(at)))(jnp.asarray(low))
    assert np.isfinite(gradient).all()
    x[7, 1] = 1.5
    for call in (
        lambda: coupling_flow(x, key=KEY, columns=columns, names=("pt", "b", "phi", "n")),
        lambda: fit_flow(flow, x, key=KEY),
    ):
        with pytest.raises(InputError, match=r"column 'b' is declared between .* event 7 \(1\.5\)"):
            call()


def test_a_range_density_integrates_to_one():
    x = np.random.default_rng(0).beta(2, 3, (500, 1))
    flow = coupling_flow(x, key=KEY, columns={0: Column("between", 0.0, 1.0)}, **SMALL)
    grid = (np.arange(4000) + 0.5)[:, None] / 4000
    assert float(jnp.mean(jnp.exp(flow.log_prob(grid)))) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("make", [coupling_flow, continuous_flow])
def test_negative_weights_are_subtracted(make):
    rng = np.random.default_rng(1)
    x = np.concatenate(
        [rng.normal(-1, 0.5, 4000), rng.normal(1, 0.5, 4000), rng.normal(1, 0.5, 3000)]
    )
    weights = np.concatenate([np.ones(8000), -np.ones(3000)])
    options = SMALL if make is coupling_flow else {"hidden": (16, 16), "steps": 8}
    flow = make(x[:, None], key=KEY, **options)
    found = fit_flow(flow, x[:, None], key=KEY, weights=weights, training=TRAINING)
    draws = np.asarray(found.flow.sample(key=KEY, samples=4000))
    assert np.mean(draws > 0) == pytest.approx(0.2 * 0.977 + 0.8 * 0.023, abs=0.05)


def test_a_condition_of_particles():
    rng = np.random.default_rng(2)
    particles = rng.normal(size=(2000, 4, 1)).astype(np.float32)
    mask = np.arange(4) < rng.integers(1, 5, 2000)[:, None]
    total = (particles[..., 0] * mask).sum(1)
    x = (total + 0.3 * rng.normal(size=2000))[:, None]
    given = Inputs(jnp.zeros((2000, 0), jnp.float32), jnp.asarray(particles), jnp.asarray(mask))
    with pytest.raises(InputError, match="give `summary`"):
        coupling_flow(x, given, key=KEY)
    summary = Standardised.fit(DeepSets(1, (8,), latent=4, out_features=2, key=KEY), given)
    flow = coupling_flow(x, given, key=KEY, summary=summary, layers=1, bins=4, hidden=(8,))
    found = fit_flow(flow, x, given, key=KEY, training=TRAINING)
    gaussian = 0.5 * np.log(2 * np.pi * np.e)
    assert float(found.loss) < gaussian + np.log(x.std()) - 0.5  # the particles say much of x
    two = jax.tree.map(lambda leaf: leaf[:2], given)
    assert found.flow.sample(two, key=KEY, samples=3).shape == (2, 3, 1)


def test_transport_straightens_and_options_are_checked():
    x = jax.random.normal(KEY, (64, 2))
    noise = jax.random.normal(jax.random.key(1), (64, 2))
    pairs = transport_pairs(noise, x, key=KEY)
    assert jnp.mean((noise[pairs] - x) ** 2) < 0.4 * jnp.mean((noise - x) ** 2)
    assert len(set(pairs.tolist())) > 32
    exact = continuous_flow(x, key=KEY, hidden=(8,), pairing="transport")
    assert exact.body.pairing == "transport"
    for options, text in (
        ({"pairing": "sorted"}, "choose 'independent'"), ({"probes": -1}, "probes = -1"),
        ({"columns": {0: Column("periodic", 0.0, 9.0)}}, "no periodic columns"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=text):
            continuous_flow(x, key=KEY, **options)
    with pytest.raises(ConfigError, match="with a context it would move"):
        continuous_flow(x, x, key=KEY, pairing="transport")
    for options, text in (
        ({"transformer": "cubic"}, "transformer = 'cubic'"), ({"layers": 0}, "layers = 0"),
        ({"columns": {"pt": Column()}}, "'pt' is no column"),
        ({"columns": {0: Column("periodic", 0.0, 9.0)}, "mixing": "lu"}, "leaves the circle"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=text):
            coupling_flow(x, key=KEY, **options)


def test_hutchinson_is_the_exact_trace_on_average():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(50, 3)))
    options = {"key": KEY, "hidden": (8,), "steps": 6}
    exact, guess = continuous_flow(x, **options), continuous_flow(x, probes=200, **options)
    from tests.flows.conftest import shaken

    exact, guess = shaken(exact), shaken(guess)
    difference = np.asarray(exact.log_prob(x) - guess.log_prob(x))
    assert np.abs(difference).mean() < 0.1
    assert np.abs(np.asarray(exact.log_prob(x))).mean() > 1


def test_half_precision_conditioners():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(50, 3)), jnp.float32)
    from tests.flows.conftest import shaken

    full, half = (shaken(coupling_flow(x, key=KEY, half=h, **SMALL)) for h in (False, True))
    logs = full.log_prob(x), half.log_prob(x)
    assert logs[1].dtype == jnp.float32
    assert np.abs(np.asarray(logs[0] - logs[1])).mean() < 0.02 * np.abs(np.asarray(logs[0])).mean()
    z, _ = half.transform(x)
    # a last digit of float32 may change one of bfloat16
    assert np.quantile(np.abs(np.asarray(half.inverse(z) - x)), 0.95) < 1e-3
