from __future__ import annotations

import jax
import numpy as np

from difana.data.generate import JET_BINS, JET_MOMENTS, jet_recursion, jets
from difana.unfold import triangular


def test_jets_have_the_published_moments_and_distances():
    found = jets(key=jax.random.key(0), events=100_000)
    for level in ("gen", "reco"):
        x = np.asarray(getattr(found, level))
        mean, sd = np.array(JET_MOMENTS[level]).T
        np.testing.assert_allclose(x.mean(0), mean, atol=0.02 * sd.max() + 0.01, rtol=0.015)
        np.testing.assert_allclose(x.std(0), sd, rtol=0.03)
    # of simulation and truth: near those of Pythia and Herwig (times 1000), arXiv:2503.09720
    published = [3.46, 22.39, 14.94, 18.97, 3.99, 20.70]
    for i, (low, high, bins) in enumerate(JET_BINS):
        edges = np.linspace(low, high, bins + 1)
        p, q = (np.histogram(np.asarray(x)[:, i], edges)[0] for x in (found.gen, found.truth))
        distance = 1000 * float(triangular(p, q))
        assert 0.6 < distance / published[i] < 1.6, (i, distance)


def test_the_response_of_the_mass_depends_on_the_multiplicity():
    found = jets(key=jax.random.key(1), events=20_000)
    log = np.log(np.asarray(found.reco)[:, 0] / np.asarray(found.gen)[:, 0])
    assert np.corrcoef(log, np.log(np.asarray(found.gen)[:, 2]))[0, 1] < -0.3


def test_an_ideal_iteration_is_that_of_the_closed_form():
    found = jets(key=jax.random.key(2), events=100_000)

    def normal(x, like):
        def raw(y):
            y = np.asarray(y, np.float64)
            bounded = y[:, 4:] / [0.5, 1.2]
            return np.hstack([np.log(y[:, :3]), y[:, 3:4], np.log(bounded / (1 - bounded))])

        return (raw(x) - raw(like).mean(0)) / raw(like).std(0)

    def log_density(x, like):
        mean, covariance = like.mean(0), np.cov(like.T)
        away = np.linalg.solve(np.linalg.cholesky(covariance), (x - mean).T)
        return -0.5 * (away**2).sum(0) - 0.5 * np.linalg.slogdet(covariance)[1]

    z, truth = normal(found.gen, found.gen), normal(found.truth, found.gen)
    r, data = normal(found.reco, found.reco), normal(found.data, found.reco)
    w = np.exp(log_density(r, data) - log_density(r, r))
    wanted, _, (mean, covariance) = jet_recursion(1)
    np.testing.assert_allclose(truth.mean(0), wanted[0], atol=0.01)
    np.testing.assert_allclose(np.cov(truth.T), wanted[1], atol=0.015)
    np.testing.assert_allclose(np.average(z, axis=0, weights=w), mean, atol=0.015)
    np.testing.assert_allclose(np.cov(z.T, aweights=w), covariance, atol=0.025)
