"""Discrete profiling: closed forms of counting bins, one model as without, and the envelope."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import norm

from difana._errors import InputError, ModelError
from difana.infer import (
    discrete_profile,
    discrete_upper_limit,
    profile_interval,
    upper_limit,
)
from difana.infer._envelope import free_number
from difana.likelihood import Channel, NormFactor, NormSys, Parameter, Template, build_model

SIGNAL = np.array([1.0, 10.0, 1.0])
SHAPES = [np.array([40.0, 38.0, 36.0]), np.array([46.0, 37.0, 29.0]), np.array([38.0, 44.0, 38.0])]
SEEN = np.array([43.0, 47.0, 33.0])


def fixed(background):
    """Signal and a background that is known."""
    samples = (
        Template(SIGNAL, (NormFactor("mu"),), name="signal"),
        Template(background, (), name="background"),
    )
    return build_model(
        [Channel(samples, name="SR")], parameters=[Parameter("mu", bounds=(-5.0, 10.0))]
    )


def floating(background, *extra, free=("k",)):
    modifiers = tuple(NormFactor(name) for name in free)
    samples = (
        Template(SIGNAL, (NormFactor("mu"),), name="signal"),
        Template(background, (*modifiers, *extra), name="background"),
    )
    return build_model(
        [Channel(samples, name="SR")], parameters=[Parameter("mu", bounds=(-5.0, 10.0))]
    )


def twice(mu, background, seen):
    rates = background + mu * SIGNAL
    return 2 * float(np.sum(rates - seen - seen * np.log(rates / seen)))


def envelope(mu, seen=SEEN):
    return min(twice(mu, b, seen) for b in SHAPES)


@pytest.fixture(scope="module")
def known():
    models = [fixed(b) for b in SHAPES]
    return models, models[0].data(SEEN)


def lowest(seen, low=-3.0):
    best = [
        minimize_scalar(lambda mu, b=b: twice(mu, b, seen), bounds=(low, 8), method="bounded",
                        options={"xatol": 1e-11})
        for b in SHAPES
    ]  # fmt: skip
    first = min(best, key=lambda found: found.fun)
    return float(first.x), float(first.fun)


def test_the_envelope_is_that_of_closed_forms(known):
    models, data = known
    found = discrete_profile(models, data, names=["a", "b", "c"])
    mu_hat, floor = lowest(SEEN)
    assert found.ok
    assert float(found.value) == pytest.approx(mu_hat, abs=1e-6)
    assert found.names[int(found.index)] == "a"
    expected = [envelope(mu) - floor for mu in np.asarray(found.grid)]
    np.testing.assert_allclose(found.envelope, expected, atol=1e-9)
    assert set(np.asarray(found.choice).tolist()) == {0, 1, 2}  # others elsewhere
    q = norm.isf((1 - 0.6827) / 2) ** 2
    low = brentq(lambda mu: envelope(mu) - floor - q, -3, mu_hat)
    high = brentq(lambda mu: envelope(mu) - floor - q, mu_hat, 6)
    assert [float(found.lower), float(found.upper)] == pytest.approx([low, high], abs=1e-7)
    # wider than that of the best model alone
    alone = profile_interval(models[0], data, "mu")
    assert float(found.lower) <= float(alone.lower) + 1e-9
    assert float(found.upper) > float(alone.upper) + 0.05
    table = found.as_dict()
    assert table["best"] == "a"
    assert table["models"]["a"]["rise"] == 0.0


def test_limits_are_those_of_closed_forms(known):
    models, data = known
    found = discrete_upper_limit(models, data)
    asimov = min(SHAPES, key=lambda b: twice(0.0, b, SEEN))
    mu_hat, floor = lowest(SEEN, 0.0)
    mu_asimov, floor_asimov = lowest(asimov, 0.0)
    assert abs(mu_asimov) < 1e-6

    def root_asimov(mu):
        return np.sqrt(max(envelope(mu, asimov) - floor_asimov, 0.0))

    def log_cls(mu):
        q = envelope(mu) - floor if mu >= mu_hat else 0.0
        a = root_asimov(mu)
        shift = np.sqrt(q) - a if q <= a * a else (q - a * a) / (2 * a)
        return norm.logcdf(-(shift + a)) - norm.logcdf(-shift)

    observed = brentq(lambda mu: log_cls(mu) - np.log(0.05), mu_hat + 1e-3, 8.0, xtol=1e-10)
    assert float(found.observed) == pytest.approx(observed, rel=1e-6)
    for n, limit in zip(range(-2, 3), found.expected, strict=True):
        target = n + norm.isf(0.05 * norm.cdf(n))
        expected = brentq(lambda mu, t=target: root_asimov(mu) - t, 1e-3, 9.0, xtol=1e-10)
        assert float(limit) == pytest.approx(expected, rel=1e-6)
    assert found.ok


def test_one_model_is_no_choice():
    model = floating(SHAPES[0], NormSys(1.2, 0.85, "norm"), free=())
    data = model.data(SEEN)
    found = discrete_profile([model], data, values=jnp.linspace(0.0, 2.0, 3))
    interval = profile_interval(model, data, "mu")
    assert float(found.lower) == pytest.approx(float(interval.lower), rel=1e-7)
    assert float(found.upper) == pytest.approx(float(interval.upper), rel=1e-7)
    limit = discrete_upper_limit([model], data)
    expected = eqx.filter_jit(upper_limit)(model, data)
    assert float(limit.observed) == pytest.approx(float(expected.observed), rel=1e-6)
    np.testing.assert_allclose(limit.expected, expected.expected, rtol=1e-6)


def test_more_parameters_must_pay():
    """The bigger model fits better by less than its extra parameter costs at c = 2."""
    small = floating(SHAPES[0])
    tilt = Template([5.0, 0.0, -5.0], (NormFactor("tilt"),), name="tilt")
    signal = Template(SIGNAL, (NormFactor("mu"),), name="signal")
    bkg = Template(SHAPES[0], (NormFactor("k"),), name="background")
    big = build_model(
        [Channel((signal, bkg, tilt), name="SR")],
        parameters=[Parameter("mu", bounds=(-5.0, 10.0)), Parameter("tilt", bounds=(-4.0, 4.0))],
    )
    data = small.data(SEEN)
    gain = float(2 * discrete_profile([small, big], data, correction=0.0).rises[0] / 2)
    assert gain > 0
    for correction in (0.9 * gain, 1.1 * gain):
        found = discrete_profile([small, big], data, correction=correction)
        assert int(found.index) == int(correction < gain)
        worse = float(jnp.max(found.rises))
        assert worse == pytest.approx(abs(gain - correction), abs=1e-8)
        np.testing.assert_allclose(found.envelope, found.curves.min(0))
    # constrained parameters cost nothing by themselves
    assert [free_number(model) for model in (small, big)] == [2, 3]
    assert free_number(floating(SHAPES[0], NormSys(1.1, 0.9, "n"))) == 2


def test_differentiable_curves(known):
    models, _ = known

    def height(counts):
        grid = jnp.array([1.5])
        found = discrete_profile(models[:2], models[0].data(counts), values=grid)
        return found.curves[0, 0]

    slope = jax.jit(jax.grad(height))(jnp.asarray(SEEN))
    step = 1e-4
    for i in range(2):
        move = step * np.eye(3)[i]
        expected = (
            twice(1.5, SHAPES[0], SEEN + move) - lowest(SEEN + move)[1]
            - twice(1.5, SHAPES[0], SEEN - move) + lowest(SEEN - move)[1]
        ) / (2 * step)  # fmt: skip
        assert float(slope[i]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, d: discrete_profile([], d), "at least one model"),
        (lambda m, d: discrete_profile(m, [d]), "1 data vectors are given for 3 models"),
        (lambda m, d: discrete_profile(m, [d, d, d + 1]), "model 2 are not those of model 0"),
        (lambda m, d: discrete_profile(m, d, parameter="nu"), "no parameter 'nu'"),
        (lambda m, d: discrete_profile(m, d, names=["a"]), "1 names"),
        (lambda m, d: discrete_profile(m, d, correction=-1.0), "not be negative"),
        (lambda m, d: discrete_profile(m, d, level=1.0), "between 0 and 1"),
        (lambda m, d: discrete_upper_limit(m, d, level=0.0), "between 0 and 1"),
        (lambda m, d: jax.grad(lambda d: discrete_upper_limit(m, d).observed)(d), "no derivatives"),
        (lambda m, d: discrete_profile([m[0], floating(SHAPES[0], NormSys(1.1, 0.9, "x"))], d),
         "model 1: data have shape"),
    ],
)  # fmt: skip
def test_wrong_input_names_the_culprit(known, call, message):
    with pytest.raises((InputError, ModelError), match=message):
        call(*known)
