"""Fits of one program come one after the other: two at once can hang two cores (``after``)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from difana.analysis.coverage import _Toy
from difana.infer import qmu, tmu_tilde
from difana.likelihood import Channel, NormFactor, Template, build_model


def chain(function, *args):
    """Return, of each fit, whether it waits for the one before."""
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    reached: set = set()
    found = []
    for equation in jaxpr.eqns:
        inputs = {v for v in equation.invars if not hasattr(v, "val")}
        text = str(equation)
        if "while[" in text and "cholesky" in text:
            found.append(bool(inputs & reached))
            reached = set(equation.outvars)
        elif inputs & reached:
            reached |= set(equation.outvars)
    return found


@pytest.fixture(scope="module")
def model():
    signal = Template([10.0], (NormFactor("mu"),), name="signal")
    return build_model([Channel((signal, Template([50.0], name="b")), name="SR")])


@pytest.mark.parametrize("statistic", [qmu, tmu_tilde])
def test_the_conditional_fit_waits_for_the_free_one(model, statistic):
    found = chain(lambda data: statistic(model, data, mu=1.0).value, jnp.array([52.0]))
    assert found == [False, True]


@pytest.mark.parametrize("kind", ["limit", "interval"])
def test_the_fits_of_a_toy_wait_for_each_other(model, kind):
    point = {"row": jnp.uint32(0), "toy": jnp.uint32(0), "params": model.init}
    key = jax.random.key_data(jax.random.key(0))
    found = chain(lambda p: _Toy("threefry2x32", kind)(p, model, key), point)
    assert found == [False, True] if kind == "limit" else [False, True, True]
