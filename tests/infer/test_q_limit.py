"""Limits with q: the best fit may be negative; numbers and derivatives of a counting experiment."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from difana.infer import upper_limit_q
from difana.likelihood import Channel, NormFactor, Parameter, Template, build_model


def limit_of(numbers):
    signal, background, seen = numbers
    samples = (Template(signal[None], (NormFactor("mu"),), name="s"),
               Template(background[None], name="b"))  # fmt: skip
    wide = Parameter("mu", bounds=((-4.0, 10.0),))
    model = build_model([Channel(samples, name="SR")], parameters=[wide])
    return upper_limit_q(model, seen[None])


def exact(numbers):
    """The observed limit by a root of scipy: CLs+b / CLb = 0.05 of q_mu."""
    signal, background, seen = numbers

    def q(mu, n):
        rate, best = mu * signal + background, n
        return 2 * (rate - best + n * np.log(best / rate))

    def height(mu):
        root, asimov = np.sqrt(q(mu, seen)), np.sqrt(q(mu, background))
        return norm.sf(root) / norm.cdf(asimov - root) - 0.05

    return brentq(height, 0.1, 10.0, xtol=1e-13)


def test_number_and_gradient_of_a_deficit():
    numbers = np.array([10.0, 50.0, 40.0])  # the best fit is -1
    found, slopes = jax.jit(jax.value_and_grad(lambda x: limit_of(x).observed))(numbers)
    assert float(found) == pytest.approx(exact(numbers), rel=1e-8)
    for i, step in enumerate(1e-4 * np.eye(3)):
        change = (exact(numbers + step) - exact(numbers - step)) / 2e-4
        assert float(slopes[i]) == pytest.approx(change, rel=1e-5), i
    assert np.isfinite(jnp.asarray(limit_of(numbers).expected)).all()
