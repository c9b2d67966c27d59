from __future__ import annotations

import jax
import numpy as np
import pytest

from difana._errors import InputError
from difana.train import Training
from difana.unfold import positive_weights, unfolding_problem

KEY = jax.random.key(0)


def negative_fraction(z):
    """Probability of a negative weight: the local mean of the sign is 1 - 2 of it."""
    return 0.35 / (1 + np.exp(-2 * z))


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(1)
    z = rng.normal(size=10_000)
    reco = z + 0.5 * rng.normal(size=len(z))
    sign = np.where(rng.uniform(size=len(z)) < negative_fraction(z), -1.0, 1.0)
    weights = sign * rng.uniform(0.5, 1.5, len(z))
    return unfolding_problem(
        z, reco, reco, gen_weights=weights, reco_weights=weights * (1 + 0.1 * np.tanh(z)),
        pass_gen=z > -2, pass_reco=rng.uniform(size=len(z)) < 0.8,
    )  # fmt: skip


def test_the_local_mean_of_the_sign_is_learned(problem):
    found = positive_weights(
        problem, key=KEY, hidden=(16,), training=Training(epochs=10, learning_rate=1e-2)
    )
    either = np.asarray(problem.pass_gen | problem.pass_reco)
    # what a masked level holds is zero: the truth is known where it passes
    chosen = np.asarray(problem.pass_gen)
    z = np.asarray(problem.gen[:, 0])
    for level in ("gen", "reco"):
        mask = np.asarray(getattr(problem, f"pass_{level}"))
        old, new = (np.asarray(getattr(p, f"{level}_weights")) for p in (problem, found))
        assert (new[either] > 0).all()
        np.testing.assert_allclose(new[mask].sum(), old[mask].sum(), rtol=1e-5)
        ratio = (new / np.abs(old))[chosen]
        error = ratio - (1 - 2 * negative_fraction(z[chosen]))
        assert np.sqrt(np.mean(error**2)) < 0.05
    # scale factors of the detector stay what they are, up to the two yields
    factors = (found.reco_weights / found.gen_weights) / (
        problem.reco_weights / problem.gen_weights
    )
    np.testing.assert_allclose(factors[either], factors[either][0], rtol=1e-5)


def test_positive_weights_stay_as_they_are(problem):
    same = unfolding_problem(problem.gen, problem.reco, problem.data)
    assert positive_weights(same, key=KEY) is same


def test_weights_that_cannot_be_mended_are_refused(problem):
    z, weights = problem.gen, np.asarray(problem.gen_weights)
    with pytest.raises(InputError, match="different sign at the two levels"):
        positive_weights(
            unfolding_problem(z, z, z, gen_weights=weights, reco_weights=np.abs(weights)), key=KEY
        )
    clouds = np.ones((len(z), 2, 3))
    with pytest.raises(InputError, match="cannot see particles"):
        positive_weights(unfolding_problem(clouds, clouds, clouds, gen_weights=weights), key=KEY)
