"""Flows of columns and events that once spoiled what they learn of the others."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import ConfigError, InputError
from difana.flows import coupling_flow, fit_flow
from difana.train import Training, usual_batch

EVENTS = 2000


@pytest.fixture(scope="module")
def column():
    return np.random.default_rng(0).normal(size=EVENTS)


@pytest.fixture(scope="module")
def given():
    return np.random.default_rng(1).normal(size=(EVENTS, 1)).astype(np.float32)


def learned(x, given, epochs=8, learning_rate=2e-3, **options):
    """Return draws of a trained flow, and what it warned of."""
    key = jax.random.key(0)
    training = Training(epochs=epochs, learning_rate=learning_rate)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        flow = coupling_flow(x, given, key=key, layers=2, hidden=(16,))
    found = fit_flow(flow, x, given, key=key, training=training, **options)
    draws = np.asarray(found.flow.sample(jnp.asarray(given), key=key)).reshape(-1, x.shape[1])
    return draws, " ".join(str(one.message) for one in caught), found


@pytest.mark.parametrize("kind", ["constant", "copy", "nearly a copy", "sum of two"])
def test_columns_without_a_density_do_not_spoil_the_others(kind, column, given):
    rng = np.random.default_rng(2)
    other = rng.normal(size=EVENTS)
    more = {
        "constant": [np.full(EVENTS, 2.0)],
        "copy": [column],
        "nearly a copy": [column + 1e-6 * rng.normal(size=EVENTS)],
        "sum of two": [other, 3 * column - 2 * other + 5],
    }[kind]
    x = np.stack([column, *more], axis=1)
    draws, text, found = learned(x, given)
    last = x.shape[1] - 1
    assert found.flow.dropped == (last,)
    assert f"columns of x that a flow cannot learn: {last}" in text
    np.testing.assert_allclose(draws.std(axis=0), x.std(axis=0), rtol=0.08, atol=1e-6)
    if kind == "constant":
        assert (draws[:, 1] == 2).all()
    elif kind == "sum of two":
        np.testing.assert_allclose(draws[:, 2], 3 * draws[:, 0] - 2 * draws[:, 1] + 5, atol=1e-3)
    else:
        np.testing.assert_allclose(draws[:, 1], draws[:, 0], atol=1e-4)
    logs = found.flow.log_prob(jnp.asarray(x), jnp.asarray(given))
    law = -0.5 * column**2 - 0.5 * np.log(2 * np.pi)
    if kind != "sum of two":  # a density of the columns that are learned
        assert float(jnp.mean(logs)) == pytest.approx(law.mean(), abs=0.05)


def test_strongly_correlated_columns(column, given):
    x = np.stack([column, column + 0.01 * np.random.default_rng(2).normal(size=EVENTS)], axis=1)
    draws, text, found = learned(x, given)
    assert not text
    np.testing.assert_allclose(draws.std(axis=0), x.std(axis=0), rtol=0.08)
    assert np.std(draws[:, 1] - draws[:, 0]) == pytest.approx(0.01, rel=0.1)
    law = -0.5 * column**2 - 0.5 * ((x[:, 1] - x[:, 0]) / 0.01) ** 2 - np.log(2 * np.pi * 0.01)
    logs = found.flow.log_prob(jnp.asarray(x), jnp.asarray(given))
    assert float(jnp.mean(logs)) == pytest.approx(law.mean(), abs=0.1)


def test_a_value_that_many_events_share(column, given):
    rng = np.random.default_rng(2)
    third = np.where(rng.random(EVENTS) < 0.7, 0.0, 1 + rng.exponential(size=EVENTS))
    draws, _, found = learned(
        np.stack([column, third], axis=1), given, epochs=24, learning_rate=1e-2
    )
    assert found.flow.columns.atoms[0][:2] == (1, 0.0)
    assert draws[:, 0].std() == pytest.approx(column.std(), rel=0.08)
    assert np.mean(draws[:, 1] == 0) > 0.35  # the box has soft ends


def test_one_broken_event(column, given):
    broken = column.copy()
    broken[7] = 1e8
    draws, text, _ = learned(broken[:, None], given)
    assert "column of x 0 lies more than 1000 widths" in text
    assert "event 7 (1e+08" in text
    assert np.quantile(draws, [0.16, 0.84]) == pytest.approx([-1, 1], abs=0.12)


def test_a_column_far_from_zero(column, given):
    x = 1.7e9 + column[:, None]
    draws, text, found = learned(x, given)
    assert not text
    assert found.flow.columns.mean[0] == pytest.approx(1.7e9 + column.mean(), abs=1e-6)
    logs = found.flow.log_prob(x, given)
    law = -0.5 * column**2 - 0.5 * np.log(2 * np.pi)
    assert float(jnp.mean(logs)) == pytest.approx(law.mean(), abs=0.05)
    assert draws.shape == (EVENTS, 1)


def test_integers_and_the_scale_of_weights(column, given):
    x = np.round(10 * column[:, None]).astype(int)
    draws, _, found = learned(x, given, weights=np.full(EVENTS, 1e-6))
    assert draws.std() == pytest.approx(10, rel=0.1)
    same = learned(x, given, weights=np.full(EVENTS, 1e6))[2]
    assert float(same.loss) == pytest.approx(float(found.loss), rel=1e-4)
    assert np.isfinite(found.flow.log_prob(x, given)).all()
    np.testing.assert_allclose(
        found.flow.log_prob(jnp.asarray(x), jnp.asarray(given)), found.flow.log_prob(x, given),
        rtol=1e-4,
    )  # fmt: skip


def test_batches_follow_the_sample(column, given):
    found = learned(column[:, None], given)[2]
    assert usual_batch(EVENTS) == 128
    assert found.training.steps_done >= 50  # batches of 1024 would make at most 8


def test_what_makes_no_sense_is_refused(column, given):
    x, key = column[:, None], jax.random.key(0)
    flow = coupling_flow(x, given, key=key, layers=1, hidden=(4,))
    for weights, text in (
        (np.ones((EVENTS, 1)), "weights of shapes"),
        (-np.ones(EVENTS), "total of -2000"),
        (np.zeros(EVENTS), "total of 0"),
        (np.where(np.arange(EVENTS) == 3, np.nan, 1), "first in event 3"),
        (1j * np.ones(EVENTS), "complex"),
    ):
        with pytest.raises(InputError, match=text):
            fit_flow(flow, x, given, key=key, weights=weights)
    for number in (0, 1):
        with pytest.raises(InputError, match=f"{number} events: a training with held-out"):
            fit_flow(flow, x[:number], given[:number], key=key)
    with pytest.raises(InputError, match="of some events"):
        coupling_flow(x[:0], given[:0], key=key)
    with pytest.raises(InputError, match="all columns of x are constant"):
        coupling_flow(np.ones((5, 2)), given[:5], key=key)
    with pytest.raises(ConfigError, match=r"samples = 2\.5"):
        flow.sample(jnp.asarray(given), key=key, samples=2.5)
    assert flow.sample(jnp.zeros((0, 1)), key=key).shape == (0, 1, 1)
