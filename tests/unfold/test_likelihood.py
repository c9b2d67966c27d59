from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import ConfigError, InputError
from difana.infer import fit
from difana.likelihood import NormFactor, Parameter, Template, build_model
from difana.unfold import (
    Response,
    UnfoldedHistogram,
    UnfoldStatus,
    bayes,
    compatibility,
    covariance_rank,
    fit_truth,
    invert,
    unfolded_channel,
    unfolding_model,
)
from difana.unfold.inversion import difference_matrix

MATRIX = jnp.array([[0.70, 0.15, 0.02], [0.15, 0.60, 0.15], [0.02, 0.15, 0.65]])
PRIOR = jnp.array([1000.0, 1500.0, 800.0])
TRUTH = jnp.array([1200.0, 1400.0, 900.0])


def binned(matrix=MATRIX, truth=TRUTH, data=None) -> Response:
    fakes, background = jnp.array([20.0, 30.0, 10.0]), jnp.array([50.0, 40.0, 60.0])
    data = jnp.asarray(matrix @ truth + fakes + background if data is None else data)
    return Response(
        matrix, PRIOR, fakes, data, data, background, jnp.zeros(3),
        (jnp.array([0.0, 1.0, 2.0, 3.0]),), ("pt",),
    )  # fmt: skip


@pytest.fixture(scope="module")
def unfolded():
    return fit_truth(binned())


def test_the_fit_finds_the_truth_with_the_errors_of_the_inverse(unfolded):
    histogram, result = unfolded
    assert result.ok
    assert histogram.message == "ok"
    np.testing.assert_allclose(histogram.values, TRUTH, rtol=1e-7)
    # as many bins at both levels: the likelihood is that of the inverse matrix
    expected = invert(binned())
    np.testing.assert_allclose(histogram.covariance, expected.covariance, rtol=1e-6)
    np.testing.assert_allclose(bayes(binned(), iterations=400).values, TRUTH, rtol=1e-4)


def test_the_model_is_the_folding(unfolded):
    problem = binned()
    model = unfolding_model(problem)
    assert model.parameters[:3] == ("truth_0", "truth_1", "truth_2")
    params = model.init.at[:3].set(TRUTH / PRIOR)
    np.testing.assert_allclose(model.expected_main(params), problem.fold(TRUTH), rtol=1e-12)


def test_errors_and_variations_stand_where_they_belong():
    nominal = dataclasses.replace(binned(), background_variances=jnp.array([4.0, 9.0, 1.0]))
    sides = [dataclasses.replace(nominal, matrix=MATRIX * factor) for factor in (1.2, 0.9)]
    model = unfolding_model(nominal, variations={"scale": tuple(sides)})
    np.testing.assert_allclose(model.staterror, [2.0, 3.0, 1.0])
    for pull, side in zip((1.0, -1.0), sides, strict=True):
        params = model.init.at[model.index("scale")].set(pull)
        np.testing.assert_allclose(model.expected_main(params), side.fold(PRIOR), rtol=1e-12)


def test_the_penalty_is_that_of_tikhonov():
    noise = jnp.array([40.0, -60.0, 50.0])
    problem = binned(data=binned().data + noise)
    strength = 300.0
    model = unfolding_model(problem, strength=strength)
    rows = np.asarray(difference_matrix((3,), 2))
    data = model.data(problem.data)
    base = unfolding_model(problem)
    for factors in (jnp.array([1.2, 0.9, 1.1]), jnp.array([1.0, 1.0, 1.3])):
        params = model.init.at[:3].set(factors)
        extra = model.half_deviance(params, data) - base.half_deviance(
            base.init.at[:3].set(factors), base.data(problem.data)
        )
        expected = 0.5 * strength * np.sum((rows @ np.asarray(factors - 1)) ** 2)
        np.testing.assert_allclose(extra, expected, rtol=1e-6)
    # close to least squares with the same penalty, whose variances are those of the data
    histogram, result = fit_truth(problem, strength=strength)
    assert result.ok
    np.testing.assert_allclose(
        histogram.values, invert(problem, strength=strength).values, rtol=0.02
    )
    strong = fit_truth(problem, strength=1e8, order=1)[0].values / PRIOR
    np.testing.assert_allclose(strong, strong[0], rtol=1e-3)


def test_a_variation_is_profiled(unfolded):
    other = dataclasses.replace(binned(), matrix=MATRIX * jnp.array([1.1, 1.05, 1.0]))
    down = dataclasses.replace(binned(), matrix=MATRIX * jnp.array([0.9, 0.95, 1.0]))
    histogram, result = fit_truth(binned(), variations={"scale": (other, down)})
    assert result.ok
    assert "scale" in result.names
    np.testing.assert_allclose(histogram.values, TRUTH, rtol=1e-6)
    # the efficiency of the first bin moves by 10 %: so does its yield, anticorrelated
    added = histogram.covariance - unfolded[0].covariance
    shift = jnp.array([0.1, 0.05, 0.0]) * TRUTH
    np.testing.assert_allclose(added, jnp.outer(shift, shift), rtol=0.02, atol=30.0)


@pytest.mark.slow
def test_the_fit_is_differentiable_in_the_response(finite_difference):
    def total(shift):
        moved = dataclasses.replace(binned(), matrix=MATRIX * (1 + shift * jnp.arange(3.0)))
        return jnp.sum(fit_truth(moved)[0].values ** 2) / 1e6

    gradient = jax.grad(total)(jnp.asarray(0.01))
    np.testing.assert_allclose(gradient, finite_difference(total, jnp.asarray(0.01)), rtol=1e-5)


def test_status_says_what_is_wrong():
    blind = dataclasses.replace(binned(), matrix=MATRIX.at[:, 1].set(0.0))
    histogram, _ = fit_truth(blind)
    assert int(histogram.status) & UnfoldStatus.EMPTY_TRUTH
    low = binned(data=jnp.array([40.0, 1000.0, 600.0]))  # less than the background
    assert int(fit_truth(low)[0].status) & UnfoldStatus.AT_BOUND


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match="strength = -1"):
        unfolding_model(binned(), strength=-1.0)
    with pytest.raises(ConfigError, match="order = 3"):
        unfolding_model(binned(), strength=1.0, order=3)
    small = Response(*(x[:2] for x in jax.tree.leaves(binned())[:7]), (jnp.arange(3.0),))
    with pytest.raises(InputError, match="variation 'jes' has a response"):
        unfolding_model(binned(), variations={"jes": (binned(), small)})
    with pytest.raises(InputError, match="name of a truth bin"):
        unfolding_model(binned(), variations={"truth_0": (binned(), binned())})


# an unfolded histogram as the measurement of a model

COVARIANCE = jnp.array([[900.0, -200.0, 50.0], [-200.0, 1600.0, -300.0], [50.0, -300.0, 700.0]])
THEORY = jnp.array([1100.0, 1450.0, 850.0])
BACKGROUND = jnp.array([50.0, 30.0, 100.0])


def measurement(values=TRUTH, covariance=COVARIANCE, status=0) -> UnfoldedHistogram:
    return UnfoldedHistogram(
        status=jnp.asarray(status), edges=(jnp.arange(4.0),), values=values,
        covariance=covariance, names=("pt",),
    )  # fmt: skip


def cross_section(h):
    theory = Template(THEORY, (NormFactor("sigma"),), name="theory")
    channel, observed = unfolded_channel(h, [theory, Template(BACKGROUND, name="other")])
    model = build_model([channel], poi="sigma")
    return fit(model, model.data(observed))


def test_a_fit_to_an_unfolded_histogram_is_generalised_least_squares():
    result = jax.jit(cross_section)(measurement())
    assert result.ok
    weight = np.linalg.inv(COVARIANCE)
    information = THEORY @ weight @ THEORY
    best = THEORY @ weight @ (TRUTH - BACKGROUND) / information
    np.testing.assert_allclose(result["sigma"], best, rtol=1e-6)
    np.testing.assert_allclose(result.uncertainties[0], information**-0.5, rtol=1e-5)
    left = TRUTH - BACKGROUND - best * THEORY
    np.testing.assert_allclose(2 * result.half_deviance, left @ weight @ left, rtol=1e-4)


def test_a_bad_description_is_fitted_as_well(finite_difference):
    # the slope of the prediction is off by 20 standard deviations of the data
    values = TRUTH * jnp.array([1.5, 1.0, 0.5])

    def sigma(scale):
        return cross_section(measurement(values=scale * values))

    result = jax.jit(sigma)(1.0)
    weight = np.linalg.inv(COVARIANCE)
    best = THEORY @ weight @ (values - BACKGROUND) / (THEORY @ weight @ THEORY)
    left = np.asarray(values - BACKGROUND - best * THEORY)
    chi2 = left @ weight @ left
    assert chi2 > 400
    assert result.ok
    assert float(jnp.max(jnp.abs(result.params[1:]))) > 10
    np.testing.assert_allclose(result["sigma"], best, rtol=1e-3)
    np.testing.assert_allclose(2 * result.half_deviance, chi2, rtol=1e-2)
    one = jnp.asarray(1.0)
    gradient = jax.jit(jax.grad(lambda scale: sigma(scale)["sigma"]))(one)
    expected = finite_difference(jax.jit(lambda scale: sigma(scale)["sigma"]), one, step=1e-4)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4)


def test_gradient_from_the_cross_section_back_to_the_detector(finite_difference):
    # the resolution of the detector moves the response, the unfolding and the fitted sigma
    data = binned().data

    def sigma(resolution):
        far = jnp.abs(jnp.arange(3.0)[:, None] - jnp.arange(3.0))
        kernel = jnp.exp(-0.5 * (far / resolution) ** 2)
        matrix = 0.85 * kernel / jnp.sum(kernel, axis=0)
        return cross_section(bayes(binned(matrix=matrix, data=data), iterations=4))["sigma"]

    start = jnp.asarray(0.6)
    gradient = jax.jit(jax.grad(sigma))(start)
    expected = finite_difference(jax.jit(sigma), start, step=1e-4)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)
    assert abs(float(gradient)) > 1e-4


def test_settings_that_a_channel_brings_can_be_replaced():
    channel, _ = unfolded_channel(
        measurement(), [Template(THEORY, (NormFactor("sigma"),), name="t")]
    )
    model = build_model(
        [channel], poi="sigma", parameters=[Parameter("unfolded_cov_1", bounds=(-2.0, 3.0))]
    )
    np.testing.assert_array_equal(model.lower, [0, -1000, -2, -1000])
    np.testing.assert_array_equal(model.upper, [10, 1000, 3, 1000])


def test_wrong_measurements_are_refused():
    theory = Template([1.0, 2.0], name="theory")
    with pytest.raises(InputError, match="'theory' has shape"):
        unfolded_channel(measurement(), [theory])
    with pytest.raises(InputError, match="fewer replicas than bins"):
        unfolded_channel(measurement(status=int(UnfoldStatus.FEW_REPLICAS)), [])
    with pytest.raises(InputError, match="bin 1 is not positive"):
        unfolded_channel(measurement(values=TRUTH.at[1].set(0.0)), [])
    with pytest.raises(InputError, match="not positive definite"):
        unfolded_channel(measurement(covariance=-COVARIANCE), [])


# compatibility


def test_chi2_counts_the_correlations():
    found = compatibility(measurement(), THEORY)
    left = np.asarray(TRUTH - THEORY)
    chi2 = left @ np.linalg.inv(COVARIANCE) @ left
    np.testing.assert_allclose(found.chi2, chi2, rtol=1e-10)
    from scipy.stats import chi2 as law

    np.testing.assert_allclose(found.p_value, law.sf(chi2, 3), rtol=1e-8)
    half = compatibility(measurement(), THEORY, prediction_covariance=COVARIANCE)
    np.testing.assert_allclose(half.chi2, chi2 / 2, rtol=1e-10)
    few = compatibility(measurement(), THEORY, replicas=11)
    np.testing.assert_allclose(few.chi2, chi2 * 6 / 10, rtol=1e-10)


def test_a_covariance_without_inverse_is_refused():
    row = jnp.array([1.0, 2.0, 3.0])
    singular = measurement(covariance=jnp.outer(row, row))
    assert int(covariance_rank(singular.covariance)) == 1
    with pytest.raises(InputError, match="rank 1 and no inverse"):
        compatibility(singular, THEORY)
    with pytest.raises(InputError, match="4 replicas for 3 bins"):
        compatibility(measurement(), THEORY, replicas=4)
    with pytest.raises(InputError, match="prediction has shape"):
        compatibility(measurement(), [1.0])
    inside = eqx.filter_jit(lambda h: compatibility(h, THEORY).chi2)(singular)
    assert bool(jnp.isnan(inside))
