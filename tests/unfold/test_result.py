from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import InputError
from difana.unfold import UnfoldedEvents, UnfoldedHistogram, UnfoldStatus


@pytest.fixture(scope="module")
def events() -> UnfoldedEvents:
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 4, (50, 2))
    return UnfoldedEvents(
        status=jnp.asarray(0),
        observables=jnp.asarray(x),
        weights=jnp.asarray(rng.uniform(0, 2, 50)),
        replicas={"bootstrap": jnp.asarray(rng.uniform(0, 2, (30, 50)))},
        variations={"scale": jnp.asarray(rng.uniform(0, 2, 50))},
        fiducial=jnp.asarray(rng.uniform(size=50) < 0.8),
        names=("pt", "eta"),
    )


def test_covariance_is_that_of_the_replicas_and_variations(events):
    edges = np.linspace(0, 4, 5)
    h = events.histogram("pt", edges)

    def fill(w):
        chosen = np.where(events.fiducial, w, 0)
        return np.histogram(events.observables[:, 0], edges, weights=chosen)[0]

    rows = np.stack([fill(w) for w in events.replicas["bootstrap"]])
    shift = fill(events.variations["scale"]) - fill(events.weights)
    np.testing.assert_allclose(h.values, fill(events.weights), rtol=1e-12)
    expected = np.cov(rows, rowvar=False) + np.outer(shift, shift)
    np.testing.assert_allclose(h.covariance, expected, rtol=1e-10)
    assert h.message == "ok"


def test_rank_is_checked(events):
    h = events.histogram("pt", np.linspace(0, 4, 41))
    assert int(h.status) == UnfoldStatus.FEW_REPLICAS
    bare = dataclasses.replace(events, replicas={}, variations={})
    assert int(bare.histogram("pt", [0.0, 4.0]).status) == UnfoldStatus.NO_COVARIANCE
    more = bare.with_replicas(ensemble=events.replicas["bootstrap"])
    assert int(more.histogram("pt", [0.0, 4.0]).status) == UnfoldStatus.OK


def test_projection_and_merging_equal_a_coarser_histogram(events):
    fine = events.histogram(["pt", "eta"], [np.linspace(0, 4, 5), np.linspace(0, 4, 4)])
    coarse, direct = fine.histogram("pt", [0.0, 2.0, 4.0]), events.histogram("pt", [0.0, 2.0, 4.0])
    np.testing.assert_allclose(coarse.values, direct.values, rtol=1e-12)
    np.testing.assert_allclose(coarse.covariance, direct.covariance, rtol=1e-10)
    np.testing.assert_allclose(coarse.to_histogram().variances(), jnp.diagonal(coarse.covariance))
    assert isinstance(fine.histogram(), UnfoldedHistogram)


def test_wrong_requests_are_refused(events):
    with pytest.raises(InputError, match="Did you mean 'eta'"):
        events.histogram("etta", [0.0, 1.0])
    with pytest.raises(InputError, match="edges are needed"):
        events.histogram("pt")
    with pytest.raises(InputError, match="one number for each"):
        events.histogram(np.ones(3), [0.0, 1.0])
    with pytest.raises(InputError, match="arrays of edges"):
        events.histogram(["pt", "eta"], [0.0, 1.0])
    with pytest.raises(InputError, match="replicas 'a' have shape"):
        events.with_replicas(a=jnp.ones((3, 4)))
    binned = events.histogram("pt", [0.0, 2.0, 4.0])
    with pytest.raises(InputError, match="not among those it was"):
        binned.histogram("pt", [0.0, 1.0, 4.0])
    with pytest.raises(InputError, match="no axis 'eta'"):
        binned.histogram("eta")
