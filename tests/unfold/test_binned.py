from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import ConfigError, InputError
from difana.unfold import bayes, bayes_iterations, invert, response, unfolding_problem
from difana.unfold.inversion import difference_matrix

GEN = [np.linspace(-2, 2, 5), np.linspace(0, 1, 3)]
RECO = [np.linspace(-3, 3, 7), np.linspace(0, 1, 4)]


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(3)
    n = 4000
    z = np.stack([rng.normal(size=n), rng.uniform(size=n)], 1)
    x = z + np.stack([0.4 * rng.normal(size=n), 0.1 * rng.normal(size=n)], 1)
    b = np.stack([rng.normal(size=300), rng.uniform(size=300)], 1)
    return unfolding_problem(
        z[:3000], x[:3000], np.concatenate([x[3000:] + 0.2, b[:100]]),
        pass_gen=rng.uniform(size=3000) < 0.9, pass_reco=rng.uniform(size=3000) < 0.8,
        gen_weights=rng.uniform(0.2, 0.5, 3000), reco_weights=rng.uniform(0.2, 0.5, 3000),
        background=b[100:], background_weights=np.full(200, 0.5), names=("a", "b"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def binned(problem):
    return response(problem, gen_edges=GEN, reco_edges=RECO)


def test_response_is_that_of_numpy(problem, binned):
    p = jax.tree.map(np.asarray, problem)
    gen, both = p.pass_gen, p.pass_gen & p.pass_reco
    joint = np.histogramdd(
        np.concatenate([p.reco, p.gen], 1)[both], [*RECO, *GEN], weights=p.reco_weights[both]
    )[0].reshape(18, 8)
    prior = np.histogramdd(p.gen[gen], GEN, weights=p.gen_weights[gen])[0].ravel()
    np.testing.assert_allclose(binned.matrix, joint / prior, rtol=1e-12)
    np.testing.assert_allclose(binned.prior, prior, rtol=1e-12)
    reco = np.histogramdd(
        p.reco[p.pass_reco], RECO, weights=p.reco_weights[p.pass_reco]
    )[0].ravel()  # fmt: skip
    np.testing.assert_allclose(binned.fakes, reco - joint.sum(1), atol=1e-12)
    background = np.histogramdd(p.background, RECO, weights=p.background_weights)[0].ravel()
    np.testing.assert_allclose(binned.background, background, rtol=1e-12)
    np.testing.assert_allclose(binned.fold(binned.prior), reco + background, rtol=1e-12)
    squares = np.histogramdd(p.background, RECO, weights=p.background_weights**2)[0].ravel()
    np.testing.assert_allclose(binned.background_variances, squares, rtol=1e-12)


def test_the_last_edge_belongs_to_the_last_bin():
    z = np.array([0.0, 1.0, 2.0, 2.1])
    one = response(unfolding_problem(z, z, z), gen_edges=[0, 1, 2], reco_edges=[0, 1, 2])
    assert one.prior.tolist() == one.data.tolist() == [1.0, 2.0]


def test_bayes_is_the_direct_computation(binned):
    r = jax.tree.map(np.asarray, binned)
    t = r.prior.copy()
    for _ in range(5):
        new = np.zeros_like(t)
        for i in range(len(t)):
            for j in range(len(r.data)):
                expected = sum(r.matrix[j, k] * t[k] for k in range(len(t))) + r.fakes[j]
                new[i] += r.matrix[j, i] * t[i] * (r.data[j] - r.background[j]) / expected
            new[i] /= r.matrix[:, i].sum()
        t = new
    unfolded = bayes(binned, iterations=5)
    np.testing.assert_allclose(unfolded.values.ravel(), t, rtol=1e-10)
    assert unfolded.values.shape == (4, 2)


def test_bayes_covariance_is_that_of_finite_differences(binned):
    step = 1e-4
    unfold = jax.jit(
        lambda data: bayes_iterations(
            data, binned.matrix, binned.prior, iterations=3, fakes=binned.fakes
        )[-1]
    )
    net = binned.data - binned.background
    shifts = step * np.eye(len(net))
    rows = [(unfold(net + shift) - unfold(net - shift)) / (2 * step) for shift in shifts]
    jacobian = np.stack(rows, axis=1)
    variances = np.asarray(binned.data_variances + binned.background_variances)
    expected = jacobian @ np.diag(variances) @ jacobian.T
    np.testing.assert_allclose(bayes(binned, iterations=3).covariance, expected, rtol=1e-6)


def test_bayes_gives_the_published_numbers_of_pyunfold():
    # the quickstart of github.com/jrbourbeau/pyunfold (README), made with the Jeffreys prior of its
    # first versions: 1 / (0.5, 1.5)
    matrix = jnp.array([[0.9, 0.1], [0.1, 0.9]])
    data, prior = jnp.array([100.0, 150.0]), jnp.array([187.5, 62.5])
    unfolded = bayes_iterations(data, matrix, prior, iterations=5)[-1]
    np.testing.assert_allclose(unfolded, [94.48002622, 155.51997378], rtol=1e-8)


@pytest.mark.parametrize(
    ("matrix", "prior", "data", "values"),
    [
        (
            [[0.9, 0.1], [0.1, 0.9]], [125.0, 125.0], [100.0, 150.0], [94.32086967, 155.67913033],
        ),
        (
            [[0.5, 0.1, 0.0], [0.2, 0.5, 0.1], [0.05, 0.2, 0.6]], [112.0, 280.0, 168.0],
            [120.0, 260.0, 180.0], [163.9415086, 403.22551684, 163.51922155],
        ),
    ],
)  # fmt: skip
def test_bayes_is_that_of_pyunfold(matrix, prior, data, values):
    # iterative_unfold of PyUnfold 0.5.0, run with these numbers: the quickstart (uniform prior)
    # and three bins with efficiencies; four iterations. Its errors differ from the exact Jacobian
    # (see the finite differences above) by up to 1.3 %.
    arrays = (jnp.asarray(x) for x in (data, matrix, prior))
    unfolded = bayes_iterations(*arrays, iterations=4)[-1]
    np.testing.assert_allclose(unfolded, values, rtol=1e-8)


def test_response_statistics_is_the_spread_of_resampled_simulation(problem, binned):
    rng = np.random.default_rng(0)
    one = jax.jit(lambda m: bayes_iterations(
        binned.data - binned.background, m, binned.prior, iterations=2, fakes=binned.fakes
    )[-1])  # fmt: skip
    events = np.asarray(binned.prior**2 / binned.prior_variances)
    matrix = np.asarray(binned.matrix)
    rows = []
    for _ in range(400):
        columns = [
            rng.multinomial(round(n), np.append(c, 1 - c.sum()))[:-1] / round(n)
            for n, c in zip(events, matrix.T, strict=True)
        ]
        rows.append(np.asarray(one(jnp.asarray(np.stack(columns, axis=1)))))
    expected = np.cov(np.stack(rows), rowvar=False)
    known = bayes(binned, iterations=2).covariance
    found = np.asarray(bayes(binned, iterations=2, response_statistics=True).covariance - known)
    np.testing.assert_allclose(np.sqrt(np.diag(found)), np.sqrt(np.diag(expected)), rtol=0.15)
    with pytest.raises(InputError, match="does not know the variances"):
        bayes(dataclasses.replace(binned, prior_variances=None), response_statistics=True)


def test_an_empty_bin_of_the_data_has_the_smallest_variance(binned):
    variances = np.array(binned.data_variances + binned.background_variances)
    empty = eqx.tree_at(
        lambda r: (r.data_variances, r.background_variances), binned,
        (jnp.asarray(variances).at[3].set(0.0), jnp.zeros(len(variances))),
    )  # fmt: skip
    variances[3] = variances[np.arange(len(variances)) != 3].min()
    found = invert(empty, strength=1.0)
    wanted = invert(empty, strength=1.0, data_covariance=jnp.diag(jnp.asarray(variances)))
    np.testing.assert_allclose(found.values, wanted.values, rtol=1e-9)
    np.testing.assert_allclose(found.covariance, wanted.covariance, rtol=1e-9)


def test_closure_and_empty_bins(binned):
    asimov = eqx.tree_at(lambda r: r.data, binned, binned.fold(binned.prior))
    np.testing.assert_allclose(bayes(asimov).values.ravel(), binned.prior, rtol=1e-12)
    np.testing.assert_allclose(
        invert(asimov, strength=3.0).values.ravel(), binned.prior, rtol=1e-12
    )
    blind = eqx.tree_at(lambda r: r.matrix, binned, binned.matrix.at[:, 2].set(0.0))
    unfolded = bayes(blind)
    assert "never reconstructed" in unfolded.message
    assert float(unfolded.values.ravel()[2]) == float(binned.prior[2])
    assert bool(jnp.all(jnp.isfinite(unfolded.covariance)))


def test_bayes_is_differentiable_in_the_response(binned, finite_difference):
    def total(shift):
        moved = eqx.tree_at(lambda r: r.matrix, binned, binned.matrix * (1 + shift))
        return jnp.sum(bayes(moved, iterations=3).values ** 2)

    gradient = jax.grad(total)(jnp.asarray(0.1))
    np.testing.assert_allclose(gradient, finite_difference(total, jnp.asarray(0.1)), rtol=1e-6)


def test_inversion_is_its_closed_form(problem):
    square = response(problem, gen_edges=GEN, reco_edges=[np.linspace(-3, 3, 5), GEN[1]])
    net = np.asarray(square.data - square.background - square.fakes)
    inverse = np.linalg.inv(square.matrix)
    plain = invert(square)
    np.testing.assert_allclose(plain.values.ravel(), inverse @ net, rtol=1e-9)
    v = np.diag(square.data_variances + square.background_variances)
    np.testing.assert_allclose(plain.covariance, inverse @ v @ inverse.T, rtol=1e-8)
    for order in (0, 1, 2):
        matrix, t0 = np.asarray(square.matrix), np.asarray(square.prior)
        d = difference_matrix((4, 2), order) / t0
        rows = np.concatenate([matrix / np.sqrt(np.diag(v))[:, None], np.sqrt(5.0) * d])
        right = np.concatenate([net / np.sqrt(np.diag(v)), np.sqrt(5.0) * d @ t0])
        expected = np.linalg.lstsq(rows, right)[0]
        values = invert(square, strength=5.0, order=order).values.ravel()
        np.testing.assert_allclose(values, expected, rtol=1e-9)


def test_a_strong_penalty_gives_the_simulation_scaled(binned):
    ratio = invert(binned, strength=1e8, order=1).values.ravel() / binned.prior
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)


def test_wrong_settings_are_refused(problem, binned):
    with pytest.raises(ConfigError, match="iterations = 0"):
        bayes(binned, iterations=0)
    with pytest.raises(InputError, match="prior has shape"):
        bayes(binned, prior=jnp.ones(3))
    with pytest.raises(InputError, match="data_covariance has shape"):
        bayes(binned, data_covariance=jnp.eye(2))
    with pytest.raises(ConfigError, match="order = 3"):
        invert(binned, order=3)
    with pytest.raises(ConfigError, match="more than 2 bins"):
        difference_matrix((2,), 2)
    with pytest.raises(InputError, match="1 arrays of gen_edges for 2 gen columns"):
        response(problem, gen_edges=GEN[0], reco_edges=RECO)
    with pytest.raises(InputError, match="do not increase"):
        response(problem, gen_edges=[GEN[0][::-1], GEN[1]], reco_edges=RECO)
    with pytest.raises(InputError, match="holds no simulated yield"):
        response(problem, gen_edges=[[-90, -80, 0], GEN[1]], reco_edges=RECO)
