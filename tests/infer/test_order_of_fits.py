"""Fits of one program come one after the other: two at once can hang two cores (``after``).

A fit waits for what the one before says of itself: if that were a status that no fit has, -1, the
next one would get no numbers.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana.analysis.coverage import _Toy
from difana.infer import fit, qmu, tmu_tilde
from difana.likelihood import Channel, NormFactor, Template, build_model

NEVER = jnp.asarray(-1)


@pytest.fixture(scope="module")
def model():
    signal = Template([10.0], (NormFactor("mu"),), name="signal")
    return build_model([Channel((signal, Template([50.0], name="b")), name="SR")])


@pytest.fixture
def fits(monkeypatch, model):
    """What each fit is given; every one returns the same, with the status that no fit has."""
    seen, found = [], fit(model, jnp.array([52.0]))
    found = eqx.tree_at(lambda result: result.status, found, NEVER)

    def recorded(_, data, **__):
        seen.append(np.asarray(data))
        return found

    for room in ("infer.statistics", "analysis.coverage"):
        monkeypatch.setattr(sys.modules[f"difana.{room}"], "fit", recorded)
    return seen


@pytest.mark.parametrize("statistic", [qmu, tmu_tilde])
def test_the_conditional_fit_waits_for_the_free_one(model, fits, statistic):
    statistic(model, jnp.array([52.0]), mu=1.0)
    assert [np.isnan(data).all() for data in fits] == [False, True]


@pytest.mark.parametrize("kind", ["limit", "interval"])
def test_the_fits_of_a_toy_wait_for_each_other(model, fits, kind, monkeypatch):
    one = jnp.asarray(0.5)

    def hypotest(_, data, **__):
        fits.append(np.asarray(data))
        return SimpleNamespace(observed=one, clsb=one, q_asimov=one, status=NEVER)

    monkeypatch.setattr(sys.modules["difana.analysis.coverage"], "hypotest", hypotest)
    point = {"row": jnp.uint32(0), "toy": jnp.uint32(0), "params": model.init}
    _Toy("threefry2x32", kind)(point, model, jax.random.key_data(jax.random.key(0)))
    # an interval takes both fits of its statistic
    expected = [False, True] if kind == "limit" else [False, True, True]
    assert [np.isnan(data).all() for data in fits] == expected
