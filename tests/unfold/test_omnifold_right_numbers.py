"""Unbinned unfolding of inputs that once gave a wrong number, a crash, or nothing to see."""

from __future__ import annotations

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import ConfigError, InputError
from difana.train import Training
from difana.unfold import (
    Replicas,
    UnfoldStatus,
    fit_flow_unfolding,
    fit_omnifold,
    positive_weights,
    unfolding_problem,
)
from difana.unfold.status import joined

EVENTS = 2000
FAST = {"iterations": 1, "training": Training(epochs=4)}


def problem(*, scale=1.0, shift=0.0, broken=None, events=EVENTS, **more):
    rng = np.random.default_rng(0)
    gen = rng.normal(size=events)
    reco = gen + rng.normal(0, 0.3, events)
    data = rng.normal(0.3, 1, events) + rng.normal(0, 0.3, events)
    if broken is not None:
        gen[5] = reco[5] = broken
    return unfolding_problem(
        gen + shift, reco + shift, data + shift, gen_weights=np.full(events, scale),
        names=("x",), **more,
    )  # fmt: skip


def unfolded(one, fit=None):
    """Return the fitted model, its events and what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = fit or functools.partial(fit_omnifold, **FAST)
        fitted = fit(one, key=jax.random.key(0))
    return fitted, fitted.unfolded(), " ".join(str(w.message) for w in caught)


@pytest.fixture(scope="module")
def plain():
    return unfolded(problem())


def mean_of(events):
    weights = np.asarray(events.weights, np.float64)
    return np.sum(weights * np.clip(np.asarray(events.observables[:, 0]), -5, 5)) / weights.sum()


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_weights_of_another_scale(scale, plain):
    fitted, events, text = unfolded(problem(scale=scale))
    assert float(jnp.sum(events.weights)) == pytest.approx(EVENTS, rel=1e-3)
    assert mean_of(events) == pytest.approx(mean_of(plain[1]), abs=1e-3)
    assert int(events.status) & int(UnfoldStatus.OTHER_SCALE)
    assert not int(events.status) & int(UnfoldStatus.SATURATED)
    assert "are scaled by" in text
    np.testing.assert_allclose(
        fitted.weights(fitted.problem.gen) * scale, plain[0].weights(), rtol=1e-3
    )
    assert not plain[2]


@pytest.mark.parametrize("broken", [1e5, 1e8])
def test_one_broken_event_is_named_and_spoils_nothing(broken, plain):
    _, events, text = unfolded(problem(broken=broken))
    assert "gen: observable 'x' lies more than 1000 widths" in text
    assert "event 5" in text
    assert int(events.status) & int(UnfoldStatus.OUTLIER)
    assert mean_of(events) == pytest.approx(mean_of(plain[1]), abs=0.02)


def test_an_observable_far_from_zero(plain):
    shift = 1.7e9
    for x64 in (False, True):
        before = jax.config.jax_enable_x64
        jax.config.update("jax_enable_x64", x64)
        try:
            one = problem(shift=shift)
            fitted, events, text = unfolded(one)
            edges = np.linspace(-3, 3, 7)
            found = events.histogram("x", edges + shift)
            weights = fitted.weights(np.asarray(one.gen)[:10])
        finally:
            jax.config.update("jax_enable_x64", before)
        assert not text
        wanted = plain[1].histogram("x", edges)
        np.testing.assert_allclose(found.values, wanted.values, rtol=0.1, atol=5)
        np.testing.assert_allclose(weights, plain[0].weights()[:10], rtol=0.2)


def test_positive_weights_far_from_zero_and_of_another_scale():
    signs = np.where(np.random.default_rng(3).random(EVENTS) < 0.2, -1.0, 1.0)
    totals = []
    for scale, shift in ((1.0, 0.0), (1e-6, 0.0), (1.0, 1.7e9)):
        one = problem(shift=shift)
        one = unfolding_problem(one.gen, one.reco, one.data, gen_weights=scale * signs)
        found = positive_weights(
            one, key=jax.random.key(0), training=Training(epochs=3), hidden=(16,)
        )
        assert float(jnp.min(found.gen_weights)) > 0
        totals.append(np.asarray(found.gen_weights) / scale)
    np.testing.assert_allclose(totals[1], totals[0], rtol=1e-3)
    np.testing.assert_allclose(totals[2], totals[0], rtol=0.2)


@pytest.mark.parametrize("events", [0, 1])
def test_too_few_events(events):
    z = np.arange(float(events))
    with pytest.raises(InputError, match="at least"):
        fit_omnifold(unfolding_problem(z, z, z), key=jax.random.key(0), **FAST)
    with pytest.raises(InputError, match="at least"):
        fit_flow_unfolding(unfolding_problem(z, z, z), key=jax.random.key(0))


@pytest.mark.parametrize(
    "change",
    [{"iterations": 1.5}, {"replicas": Replicas(seeds=1.5)}, {"replicas": Replicas(bootstraps=2.5)},
     {"chunk": 1.5}, {"cap": np.inf}, {"ensemble": 0.5}],
    ids=lambda change: str(next(iter(change))),
)  # fmt: skip
def test_fractions_of_things_are_refused(change):
    with pytest.raises(ConfigError, match=" = "):
        fit_omnifold(problem(events=50), key=jax.random.key(0), **change)


@pytest.mark.parametrize(
    "change", [{"iterations": 1.5}, {"samples": 0.5}, {"bootstraps": 2.5}, {"cap": np.inf}]
)
def test_fractions_of_things_are_refused_by_the_flow(change):
    with pytest.raises(ConfigError, match=f"{next(iter(change))} = "):
        fit_flow_unfolding(problem(events=50), key=jax.random.key(0), **change)


def test_status_of_many_replicas():
    assert int(joined(jnp.asarray([1, 4, 0]))) == 5
    assert int(jax.jit(joined)(jnp.asarray([1, 4, 0]))) == 5


FLOW = functools.partial(
    fit_flow_unfolding, training=Training(epochs=10), layers=2, hidden=(16,), samples=2
)


def test_a_flow_names_what_it_cannot_learn():
    one = problem()
    gen = np.concatenate([np.asarray(one.gen), np.full((EVENTS, 1), 2.0)], axis=1)
    two = unfolding_problem(gen, one.reco, one.data, names=("x", "year"))
    _, events, text = unfolded(two, FLOW)
    assert "'year' (constant)" in text
    assert int(events.status) & int(UnfoldStatus.DEPENDENT)
    assert (np.asarray(events.observables[:, 1]) == 2).all()
    assert float(jnp.sum(events.weights)) == pytest.approx(EVENTS)
    assert np.asarray(events.observables[:, 0]).std() == pytest.approx(1.0, abs=0.15)


def test_a_flow_far_from_zero():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", False)
    try:
        model, events, text = unfolded(problem(shift=1.7e9), FLOW)
        draws = np.asarray(model.sample(np.array([1.7e9]), key=jax.random.key(1)), np.float64)
    finally:
        jax.config.update("jax_enable_x64", before)
    assert not text
    x = np.asarray(events.observables)[:, 0] - 1.7e9
    assert x.mean() == pytest.approx(0.3, abs=0.15)
    assert x.std() == pytest.approx(1.0, abs=0.15)
    assert abs(draws - 1.7e9).max() < 5
