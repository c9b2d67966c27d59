"""Second derivatives of limits and other results: closed forms and differences of gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana.infer import (
    expected_limits,
    hypotest,
    profile_interval,
    profile_scan,
    upper_limit,
)
from difana.likelihood import (
    Channel,
    Model,
    NormFactor,
    NormSys,
    ShapeSys,
    Template,
    build_model,
)

X = jnp.array([1.1, 0.9])


def model_of(x: jax.Array) -> tuple[Model, jax.Array]:
    """Return a model and data that depend on two numbers."""
    signal = Template(jnp.array([10.0, 5.0]) * x[0], (NormFactor("mu"),), name="signal")
    shared = (NormSys(1.1, 0.9, "norm"), ShapeSys(jnp.array([5.0, 3.0]), "unc"))
    background = Template(jnp.array([50.0, 30.0]) * x[1], shared, name="background")
    model = build_model([Channel((signal, background), name="SR")])
    return model, model.data(jnp.array([53.0, 31.0]) * x[0] * x[1])


RESULTS = {
    "observed": lambda x: upper_limit(*model_of(x)).observed,
    "cls": lambda x: hypotest(*model_of(x), mu=1.0).observed,
    "interval": lambda x: profile_interval(*model_of(x), "mu").upper,
    "scan": lambda x: profile_scan(*model_of(x), {"mu": [1.0]}).twice_delta_nll[0],
}


@pytest.mark.parametrize("name", RESULTS)
def test_agree_with_differences_of_gradients(name: str) -> None:
    function = RESULTS[name]
    gradient = jax.jit(jax.grad(function))
    step = 1e-4
    shifts = step * jnp.eye(2)
    expected = [(gradient(X + s) - gradient(X - s)) / (2 * step) for s in shifts]
    mode = jax.jacrev if name == "cls" else jax.jacfwd
    found = jax.jit(mode(jax.grad(function)))(X)
    np.testing.assert_allclose(found, jnp.stack(expected), rtol=1e-5, atol=1e-6)


def test_of_a_limit_that_scales_like_one_over_the_signal() -> None:
    """limit = L / x: the second derivative is 2 L / x^3, by every order of the two modes."""

    def limit(x: jax.Array) -> jax.Array:
        signal = Template(x * jnp.array([10.0]), (NormFactor("mu"),), name="signal")
        background = Template(jnp.array([50.0]), (NormSys(1.1, 0.9, "n"),), name="background")
        model = build_model([Channel((signal, background), name="SR")])
        return expected_limits(model, median_only=True).median

    x = jnp.array(1.3)
    wanted = 2 * limit(x) / x**2
    for twice in (
        jax.hessian(limit),
        jax.grad(jax.grad(limit)),
        jax.jacfwd(jax.jacfwd(limit)),
    ):
        np.testing.assert_allclose(jax.jit(twice)(x), wanted, rtol=1e-7)
