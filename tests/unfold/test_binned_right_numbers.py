"""Binned unfolding of inputs that once gave a wrong number without a word."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import ConfigError, InputError
from difana.unfold import (
    Response,
    UnfoldStatus,
    bayes,
    fit_truth,
    invert,
    response,
    unfolding_model,
    unfolding_problem,
)

EDGES = [0.0, 1.0, 2.0]


@pytest.fixture
def float32():
    """Run in the precision that a user has without ``enable_x64``."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", False)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture
def two_bins() -> Response:
    z = np.array([0.5, 1.5, 1.5])
    data = np.array([0.5, 1.5, 1.5, 1.5])
    return response(unfolding_problem(z, z, data), gen_edges=EDGES, reco_edges=EDGES)


def smeared(matrix: np.ndarray, truth: np.ndarray, dtype=float) -> Response:
    folded = matrix @ truth
    zero = np.zeros(len(folded))
    rows = (matrix, truth, zero, folded, folded, zero, zero)
    return Response(
        *(jnp.asarray(row, dtype) for row in rows),
        edges=(jnp.linspace(0, 1, len(truth) + 1),),
    )


def gaussian_smearing(bins: int, width: float) -> np.ndarray:
    centres = np.arange(bins)
    matrix = np.exp(-0.5 * ((centres[:, None] - centres) / width) ** 2)
    return matrix / matrix.sum(axis=0)


def test_response_of_many_small_weights(float32):
    events = 3_000_000
    rng = np.random.default_rng(0)
    gen = rng.uniform(0, 2, events).astype(np.float32)
    seen = rng.random(events) < np.where(gen < 1, 0.5, 0.2)
    problem = unfolding_problem(
        gen, gen, gen[:1000][seen[:1000]], pass_reco=seen, gen_weights=np.full(events, 0.1)
    )
    found = response(problem, gen_edges=EDGES, reco_edges=EDGES)
    wanted = 0.1 * np.histogram(gen, EDGES)[0]
    assert found.prior.dtype == jnp.float32
    np.testing.assert_allclose(found.prior, wanted, rtol=2e-5)
    np.testing.assert_allclose(found.prior_variances, 0.1 * wanted, rtol=2e-5)
    efficiency = 0.1 * np.histogram(gen[seen], EDGES)[0] / wanted
    np.testing.assert_allclose(found.efficiency, efficiency, rtol=2e-5)


def test_response_of_a_narrow_peak_far_from_zero(float32):
    rng = np.random.default_rng(0)
    gen = rng.normal(size=5000)
    edges, shift = np.linspace(-3, 3, 7), 1.7e9
    near = response(unfolding_problem(gen, gen, gen), gen_edges=edges, reco_edges=edges)
    gen, edges = gen + shift, edges + shift
    far = response(unfolding_problem(gen, gen, gen), gen_edges=edges, reco_edges=edges)
    np.testing.assert_allclose(far.prior, near.prior, atol=1)
    np.testing.assert_array_equal(far.edges[0], edges)
    assert bayes(far).message == "ok"


@pytest.mark.parametrize(("dtype", "bins", "width"), [("float32", 20, 0.8), ("float64", 14, 2.6)])
def test_inversion_of_an_ill_conditioned_response(dtype, bins, width):
    matrix = gaussian_smearing(bins, width)
    truth = 1e5 * np.exp(-np.arange(bins) / 8)
    one = smeared(matrix, truth, dtype)
    data = jnp.asarray(matrix @ (truth * (1 + 0.1 * np.sin(np.arange(bins)))), dtype)
    one = dataclasses.replace(smeared(matrix, truth, dtype), data=data)
    found = invert(one)
    exact = np.asarray(one.matrix, np.float64)
    inverse = np.linalg.inv(exact)
    wanted = inverse @ np.asarray(one.data, np.float64)
    errors = np.sqrt(np.diag(inverse @ np.diag(np.asarray(one.data_variances)) @ inverse.T))
    np.testing.assert_allclose(found.errors, errors, rtol=0.01)
    assert np.max(np.abs(np.asarray(found.values) - wanted) / errors) < 0.01
    assert found.condition is not None
    assert float(found.condition) == pytest.approx(np.linalg.cond(exact), rel=9)  # of its size
    bad = int(found.status) & int(UnfoldStatus.ILL_CONDITIONED)
    assert bool(bad) == (dtype == "float64")
    assert int(found.rank) == bins


def test_a_singular_response_is_said():
    matrix = np.array([[0.4, 0.4, 0.1], [0.4, 0.4, 0.2], [0.1, 0.1, 0.6]])
    one = smeared(matrix, np.array([100.0, 100.0, 50.0]))
    found = invert(one)
    assert int(found.rank) == 2
    assert np.isinf(float(found.condition))
    assert "cannot tell all truth bins apart" in found.message
    assert not int(found.status) & int(UnfoldStatus.ILL_CONDITIONED)  # one sentence is enough
    np.testing.assert_allclose(found.values, one.prior, rtol=1e-6)  # nothing moved it
    assert int(bayes(one).status) & int(UnfoldStatus.SINGULAR)
    assert int(fit_truth(one)[0].status) & int(UnfoldStatus.SINGULAR)
    assert not int(invert(one, strength=1.0, order=0).status) & int(UnfoldStatus.ILL_CONDITIONED)


def test_inversion_has_an_exact_derivative_without_separate_singular_values(finite_difference):
    matrix = np.eye(3) * 0.5  # all singular values agree
    one = smeared(matrix, np.array([10.0, 10.0, 10.0]))

    def value(entries):
        return jnp.sum(invert(dataclasses.replace(one, matrix=entries)).values ** 2)

    slope = jax.grad(value)(one.matrix)
    np.testing.assert_allclose(slope, finite_difference(value, one.matrix), rtol=1e-5, atol=1e-5)


def test_inversion_of_two_bins_needs_no_curvature(two_bins):
    np.testing.assert_allclose(invert(two_bins).values, [1, 3])
    with pytest.raises(ConfigError, match="more than 2 bins"):
        invert(two_bins, strength=1.0)


def test_numbers_that_mean_nothing_are_refused(two_bins):
    for strength in (-5.0, np.nan, np.inf):
        with pytest.raises(ConfigError, match="finite number, zero or positive"):
            invert(two_bins, strength=strength, order=1)
        with pytest.raises(ConfigError, match="finite number, zero or positive"):
            unfolding_model(two_bins, strength=strength, order=1)
    for iterations in (2.5, True, "4"):
        with pytest.raises(ConfigError, match="must be a whole number"):
            bayes(two_bins, iterations=iterations)
    for prior in ([-1.0, 1.0], [np.nan, 1.0], [0.0, 0.0]):
        with pytest.raises(InputError, match="none negative"):
            bayes(two_bins, prior=jnp.asarray(prior))
    for covariance in (-np.eye(2), np.array([[1.0, 2.0], [2.0, 1.0]]), np.full((2, 2), np.nan)):
        with pytest.raises(InputError, match="is no covariance"):
            bayes(two_bins, data_covariance=covariance)
        with pytest.raises(InputError, match="is no covariance"):
            invert(two_bins, order=1, data_covariance=covariance)


def test_merged_bins_need_edges_that_increase(two_bins):
    found = bayes(response(
        unfolding_problem(*[np.array([0.5, 1.5])] * 3, names=("x",)),
        gen_edges=EDGES, reco_edges=EDGES,
    ))  # fmt: skip
    np.testing.assert_allclose(found.histogram("x", [0, 2]).values, [2])
    for edges in ([2, 0], [0, 0, 2], [0, np.nan, 2]):
        with pytest.raises(InputError, match="do not increase"):
            found.histogram("x", edges)
    for edges in ([], [0]):
        with pytest.raises(InputError, match="at least two edges"):
            found.histogram("x", edges)


def test_complex_observables_and_equal_names_are_refused():
    z = np.array([0.5, 1.5])
    with pytest.raises(InputError, match="complex"):
        unfolding_problem(z + 1j, z, z)
    with pytest.raises(InputError, match="gen_weights are complex"):
        unfolding_problem(z, z, z, gen_weights=z + 1j)
    with pytest.raises(InputError, match="give real numbers"):
        unfolding_problem(np.array(["a", "b"]), z, z)
    two = np.ones((3, 2))
    with pytest.raises(InputError, match="two truth-level observables are called 'a'"):
        unfolding_problem(two, two, two, names=("a", "a"))
