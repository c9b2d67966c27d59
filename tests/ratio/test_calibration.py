"""Calibrated ratios against a known law, signed ratios, and the contract of all ratios."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import ConfigError, InputError
from difana.metrics import calibration_error
from difana.ratio import (
    RatioRows,
    calibrated,
    fit_isotonic,
    fit_ratio,
    fit_signed_ratio,
    fit_temperature,
)
from difana.train import Training

KEY = jax.random.key(0)


def tilted(rng, events, slope=1.0, power=1):
    """Rows of a normal distribution and of the same with log ratio slope * sinh-like of x."""
    x = rng.normal(size=events)
    log = slope * np.sign(x) * np.abs(x) ** power
    label = rng.uniform(size=events) < 1 / (1 + np.exp(-log))
    return RatioRows(jnp.asarray(x[:, None]), jnp.asarray(label * 1.0), jnp.asarray(~label * 1.0))


def error(log_ratio, rows):
    p = jax.nn.sigmoid(log_ratio(rows.x))
    return float(calibration_error(p, rows.above, rows.above + rows.below))


@pytest.mark.parametrize("method", ["isotonic", "temperature"])
def test_a_classifier_too_sure_of_itself_is_put_right(line, method):
    rng = np.random.default_rng(1)
    before = line(2.5)
    after = calibrated(before, tilted(rng, 40_000), method=method)
    test = tilted(rng, 40_000)
    assert error(before, test) > 0.08
    assert error(after, test) < 0.015
    at = np.array([[-1.0], [0.0], [1.0]])
    np.testing.assert_allclose(after(at), at[:, 0], atol=0.12)


def test_a_temperature_looks_at_both_classes():
    """Rows mostly on one side: each class alone would ask for another temperature."""
    rng = np.random.default_rng(5)
    log = rng.normal(0.7, 1.0, size=20_000)
    label = rng.uniform(size=len(log)) < 1 / (1 + np.exp(-log))
    found = fit_temperature(2.5 * log, label * 1.0, ~label * 1.0)
    # the mean slope of the cross-entropy along the logits vanishes
    p = 1 / (1 + np.exp(-np.asarray(found(2.5 * log))))
    assert abs(np.mean(2.5 * log * (p - label))) < 1e-6
    np.testing.assert_allclose(found.slope, 1 / 2.5, rtol=0.05)


def test_isotonic_finds_any_monotone_law(line):
    rng = np.random.default_rng(2)
    after = calibrated(line(1.0), tilted(rng, 60_000, power=3), method="isotonic")
    at = np.array([[-1.2], [-1.0], [0.0], [1.0], [1.2]])
    np.testing.assert_allclose(after(at), at[:, 0] ** 3, atol=0.25)
    values = np.asarray(after(np.linspace(-3, 3, 500)[:, None]))
    assert (np.diff(values) >= 0).all()
    # a temperature cannot
    test = tilted(rng, 40_000, power=3)
    other = calibrated(line(1.0), tilted(rng, 40_000, power=3), method="temperature")
    assert error(after, test) < 0.5 * error(other, test)


def test_yields_stay_and_weights_count(line):
    rng = np.random.default_rng(3)
    rows = tilted(rng, 40_000)
    scaled = rows._replace(above=5 * rows.above)
    log = calibrated(line(2.5), rows)
    other = eqx.tree_at(lambda r: r.log_norm, line(2.5), jnp.log(5.0))
    np.testing.assert_allclose(
        calibrated(other, scaled)(rows.x), log(rows.x) + np.log(5), atol=1e-4
    )


def test_negative_weights_are_joined_with_their_neighbours():
    rng = np.random.default_rng(4)
    rows = tilted(rng, 60_000)
    # two of three numerator rows with weight 1, one with -1, in sum the same density
    sign = np.where(rng.uniform(size=60_000) < 1 / 3, -1.0, 1.0) * 3
    log = np.asarray(rows.x[:, 0])
    above, below = np.asarray(rows.above) * sign, np.asarray(rows.below)
    found = fit_isotonic(log, above / above.sum(), below / below.sum())
    at = np.array([-1.0, 0.0, 1.0])
    np.testing.assert_allclose(found(at), at, atol=0.25)
    assert (np.diff(found.values) >= 0).all()
    slope = float(fit_temperature(2 * log, above / above.sum(), below / below.sum()).slope)
    assert slope == pytest.approx(0.5, abs=0.05)


def test_what_cannot_be_calibrated_is_refused(line):
    x = jnp.linspace(-1, 1, 50)[:, None]
    upside = RatioRows(x, jnp.exp(-3 * x[:, 0]), jnp.ones(50))
    with pytest.raises(InputError, match="no order"):
        calibrated(line(1.0), upside)
    with pytest.raises(InputError, match="no temperature"):
        calibrated(line(1.0), upside, method="temperature")
    with pytest.raises(ConfigError, match="Did you mean 'isotonic'"):
        calibrated(line(1.0), upside, method="isotonik")


@pytest.fixture(scope="module")
def signed():
    """Numerator 1.5 N(0, 1) - 0.5 N(1, 0.4), negative around 1.2; denominator 1.2 - 0.2 of it."""
    rng = np.random.default_rng(5)
    x = np.concatenate([rng.normal(0, 1, 15_000), rng.normal(1, 0.4, 5000),
                        rng.normal(0, 1.3, 12_000), rng.normal(0, 0.5, 2000)])  # fmt: skip
    kind = np.repeat(np.arange(4), [15_000, 5000, 12_000, 2000])
    weights = np.array([1.0, -1.0, 1.0, -1.0])[kind]
    rows = RatioRows(jnp.asarray(x[:, None]), jnp.asarray(np.where(kind < 2, weights, 0.0)),
                     jnp.asarray(np.where(kind < 2, 0.0, weights)))  # fmt: skip
    training = Training(epochs=15, batch_size=500, learning_rate=1e-2)
    return fit_signed_ratio(rows, key=KEY, training=training, hidden=(32,))


def density(x, mean, sd):
    return np.exp(-((x - mean) ** 2) / (2 * sd**2)) / sd


def test_a_ratio_of_signed_densities_may_be_negative(signed):
    at = np.array([-1.5, -0.5, 0.3, 1.0, 1.3, 2.2])
    above = 1.5 * density(at, 0, 1) - 0.5 * density(at, 1, 0.4)
    below = 1.2 * density(at, 0, 1.3) - 0.2 * density(at, 0, 0.5)
    expected = above / below
    assert expected.min() < -0.2
    np.testing.assert_allclose(signed.ratio(at[:, None]), expected, atol=0.2)
    assert signed.ratio.parts == ("numerator_plus", "numerator_minus", "denominator_minus")


def test_signed_and_plain_ratios_are_one_without_signs():
    x = jax.random.normal(KEY, (2000, 1))
    rows = RatioRows(x, jnp.exp(0.5 * x[:, 0]), jnp.ones(2000))
    named = {"key": KEY, "training": Training(epochs=4), "hidden": (8,)}
    one, two = fit_ratio(rows, **named), fit_signed_ratio(rows, **named)
    np.testing.assert_allclose(two.ratio(x), jnp.exp(one.log_ratio(x)), rtol=1e-6)
    with pytest.raises(InputError, match="both must be positive"):
        fit_signed_ratio(rows._replace(above=-rows.above), **named)


@pytest.mark.parametrize("kind", ["plain", "isotonic", "temperature", "capped", "signed"])
def test_the_contract_of_ratios(kind, line, signed):
    """A PyTree, callable inside jit, one number a row, differentiable in the rows."""
    rows = tilted(np.random.default_rng(6), 4000)
    ratio = {
        "plain": lambda: line(1.0),
        "isotonic": lambda: calibrated(line(2.0), rows),
        "temperature": lambda: calibrated(line(2.0), rows, method="temperature"),
        "capped": lambda: line(1.0, cap=0.5),
        "signed": lambda: signed.ratio,
    }[kind]()
    x = rows.x[:7]
    found = ratio(x)
    assert found.shape == (7,)
    np.testing.assert_allclose(eqx.filter_jit(lambda r, x: r(x))(ratio, x), found, rtol=1e-5)
    leaves, structure = jax.tree.flatten(ratio)
    np.testing.assert_allclose(jax.tree.unflatten(structure, leaves)(x), found, rtol=1e-6)
    at, step = jnp.full((1, 1), 0.21), 1e-2
    slope = jax.grad(lambda z: ratio(z)[0])(at)[0, 0]
    difference = (ratio(at + step)[0] - ratio(at - step)[0]) / (2 * step)
    if kind != "isotonic":  # its knots are closer than the step
        np.testing.assert_allclose(slope, difference, rtol=0.05)
    assert np.isfinite(slope)
