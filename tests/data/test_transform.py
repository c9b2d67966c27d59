from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import InputError
from difana.data import transformation

COLUMNS = ("m", "pt", "eta")
TEXTS = {"m": "m * (1 + 0.03*alpha)", "pt": "pt + 0.1*alpha*m"}


@pytest.fixture
def features(key):
    return jax.random.uniform(key, (5, 3), minval=10.0, maxval=100.0)


def test_all_right_hand_sides_see_the_original_columns(features):
    moved = transformation("scale", TEXTS, COLUMNS).function(features, 2.0)
    m, pt, eta = features.T
    np.testing.assert_allclose(moved, np.stack([m * 1.06, pt + 0.2 * m, eta], 1), rtol=1e-6)


def test_identity_at_zero_and_dtype(features):
    function = transformation("scale", TEXTS, COLUMNS).function
    np.testing.assert_array_equal(function(features, 0.0), features)
    single = features.astype(jnp.float32)
    assert function(single, jnp.asarray(1.0)).dtype == jnp.float32


def test_contracts_of_jax(features, finite_difference):
    function = transformation("scale", TEXTS, COLUMNS).function
    np.testing.assert_allclose(jax.jit(function)(features, 1.5), function(features, 1.5), rtol=1e-6)
    rows = jax.vmap(lambda row: function(row, 1.5))(features)
    np.testing.assert_allclose(rows, function(features, 1.5), rtol=1e-6)
    alphas = jnp.array([0.5, -1.0])
    stacked = jax.vmap(lambda alpha: function(features, alpha))(alphas)
    np.testing.assert_allclose(stacked[1], function(features, -1.0), rtol=1e-6)

    def total(alpha):
        return jnp.sum(function(features, alpha[0]) ** 2)

    alpha = jnp.array([0.7])
    np.testing.assert_allclose(jax.grad(total)(alpha), finite_difference(total, alpha), rtol=1e-5)


def test_equal_transformations_share_one_compilation(features):
    first, second = (transformation("scale", TEXTS, COLUMNS) for _ in range(2))
    assert first.function == second.function
    assert hash(first.function) == hash(second.function)
    traces = []

    @jax.jit
    def apply(variation, x):
        traces.append(variation.name)
        return variation.function(x, 1.0)

    apply(first, features)
    apply(second, features)
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({}, "changes no column"),
        ({"mm": "m"}, "no column 'mm' among"),
        ({"m": "m * (1 + alphq)"}, "no column 'alphq'.*Did you mean 'alpha'"),
        ({"m": "m * alpha"}, "'m: m \\* alpha' changes 'm' at alpha = 0"),
        ({"m": "m * (1 + alpha"}, "syntax error"),
    ],
)
def test_wrong_transformations_are_named(texts, message):
    with pytest.raises(InputError, match=message):
        transformation("scale", texts, COLUMNS)
