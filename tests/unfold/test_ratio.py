from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from difana.unfold._ratio import Rows, _mix, _typical, fit_ratio
from difana.unfold.replicas import stacked_nets
from difana.unfold.settings import Settings


def maximum_likelihood(x, above, below):
    """Coefficients of the quadratic logit by Newton."""
    design = np.stack([np.ones_like(x), x, x**2], axis=1)
    found = np.zeros(3)
    for _ in range(20):
        p = 1 / (1 + np.exp(-design @ found))
        gradient = design.T @ (below * p - above * (1 - p))
        found -= np.linalg.solve(design.T * ((above + below) * p * (1 - p)) @ design, gradient)
    return found


def test_held_out_rows_do_not_choose_the_noise_they_like(quadratic):
    rng = np.random.default_rng(3)
    replicas, sizes = 6, (8000, 2000)
    # the held-out rows happen to lie 2.5 of their standard errors further apart
    x = [np.concatenate([rng.normal(0.1 + shift, 1, n // 2), rng.normal(0, 1, n // 2)])
         for n, shift in zip(sizes, (0.0, 0.11), strict=True)]  # fmt: skip
    label = [np.arange(n) < n // 2 for n in sizes]
    factors = [rng.poisson(1.0, (replicas, n)) for n in sizes]
    train, held = (
        Rows(jnp.asarray(a, jnp.float32)[:, None], jnp.asarray(f * b), jnp.asarray(f * ~b))
        for a, b, f in zip(x, label, factors, strict=True)
    )
    nets = stacked_nets(quadratic(1), jax.random.key(0), replicas)
    start, static = eqx.partition(nets, eqx.is_array)

    def run(patience):
        settings = Settings(epochs=40, batch_size=200, learning_rate=1e-2, patience=patience)
        return eqx.filter_jit(fit_ratio)(
            start, static, train, held, settings,
            active=jnp.ones(replicas, bool), key=jax.random.key(1),
        )  # fmt: skip

    found, report = run(40)
    kept = np.asarray(found.coefficients, float)
    one, two = (
        np.array([maximum_likelihood(a, f * b, f * ~b) for f in part])
        for a, b, part in zip(x, label, factors, strict=True)
    )
    apart = np.linalg.norm((two - one)[:, 1])
    # of the epochs, each near the maximum likelihood, the best held-out one is 0.17 away
    assert np.linalg.norm((kept - one)[:, 1]) < 0.02 * apart
    assert report.epochs.tolist() == [40] * replicas
    # each replica stops for itself
    assert len(set(run(2)[1].epochs.tolist())) > 1


def test_later_epochs_count_more():
    mean = jnp.zeros(2)
    for number in (1, 2, 3):
        mean = _mix(mean, jnp.full(2, float(number)), jnp.asarray(number))
    np.testing.assert_allclose(mean, (1 + 4 + 9) / 6, rtol=1e-6)


def test_the_weight_of_a_typical_row():
    weights = jnp.array([[1.0, 1.0, 0.0], [3.0, -1.0, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(_typical(weights), [1.0, 5.0, 0.0])
