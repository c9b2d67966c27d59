"""Losses, metrics and edges of inputs that once gave a wrong number without a word."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import InputError
from difana.data import Events, Normalisation, Sample
from difana.hist import TrainableEdges
from difana.losses import cross_entropy
from difana.metrics import asimov_significance, roc_auc


@pytest.mark.parametrize("factor", [0.0, -0.4, np.nan, np.inf])
def test_normalisations_need_positive_factors(factor):
    with pytest.raises(InputError, match="normalisation 'bn': the factor"):
        Normalisation(up=jnp.asarray(2.4), down=jnp.asarray(factor), name="bn")
    made = jax.jit(lambda f: Normalisation(up=f, down=f, name="bn").up)(jnp.asarray(1.1))
    assert float(made) == 1.1


def samples(weight):
    signal, events = (Events(jnp.zeros((4, 1)), w * jnp.ones(4)) for w in (1.0, weight))
    return Sample(signal, name="s", normfactors=("mu",)), Sample(events, name="b")


def test_cross_entropy_without_weights():
    for weight in (0.0, -1.0):
        with pytest.raises(InputError, match="weights of the background have a total"):
            cross_entropy(lambda x: x, samples(weight))
    assert np.isfinite(jax.jit(lambda w: cross_entropy(lambda x: x, samples(w))[0])(0.0))
    for weight in (1e-6, 1e6):
        value = cross_entropy(lambda x: x, samples(weight))[0]
        assert float(value) == pytest.approx(np.log(2))


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
def test_auc_of_any_scale_of_weights(scale):
    weights = jnp.full(4, scale, jnp.float32)
    scores = jnp.asarray([0.1, 0.4, 0.35, 0.8], jnp.float32)
    assert float(roc_auc(scores, jnp.array([0, 0, 1, 1]), weights)) == pytest.approx(0.75)


def test_uncertainty_of_the_background():
    for sigma in (-1.0, np.nan, np.inf):
        with pytest.raises(InputError, match="uncertainty of the background"):
            asimov_significance(1.0, 10.0, sigma)


def test_trainable_edges_do_not_collapse():
    with pytest.raises(InputError, match="could collapse"):
        TrainableEdges.from_edges(np.float32([1e6, 1e6 + 0.125, 1e6 + 0.25]))
    binning = TrainableEdges.from_edges(np.float32([1e6, 1e6 + 1, 1e6 + 2]))
    narrow = TrainableEdges(binning.first, binning.raw - 1e3, binning.scale, binning.min_width)
    assert (np.diff(np.asarray(narrow.edges)) > 0).all()
