"""The simple models are those of pyhf."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pyhf
import pytest

from difana._errors import ModelError
from difana.infer import hypotest
from difana.likelihood import correlated_background, uncorrelated_background
from difana.likelihood.simple import uncorrelated_background as same

SIGNAL, BACKGROUND = [12.0, 11.0], [50.0, 52.0]
PAIRS = {
    "uncorrelated": (
        lambda: uncorrelated_background(SIGNAL, BACKGROUND, [3.0, 7.0]),
        lambda: pyhf.simplemodels.uncorrelated_background(SIGNAL, BACKGROUND, [3.0, 7.0]),
    ),
    "correlated": (
        lambda: correlated_background(SIGNAL, BACKGROUND, [45.0, 57.0], [55.0, 47.0]),
        lambda: pyhf.simplemodels.correlated_background(
            SIGNAL, BACKGROUND, [45.0, 57.0], [55.0, 47.0]
        ),
    ),
}


@pytest.fixture(params=sorted(PAIRS))
def pair(request):
    ours, theirs = PAIRS[request.param]
    return ours(), theirs()


def test_the_density_is_that_of_pyhf(pair):
    model, reference = pair
    data = model.data(jnp.array([51.0, 48.0]))
    names = [name.split("[")[0] for name in model.parameters]
    order = np.argsort([list(reference.config.par_order).index(n) for n in names], kind="stable")
    rng = np.random.default_rng(5)
    for _ in range(4):
        params = np.abs(1.0 + 0.3 * rng.normal(size=len(names)))
        expected = reference.logpdf(params[order], [51.0, 48.0, *reference.config.auxdata])[0]
        assert float(model.logpdf(jnp.asarray(params), data)) == pytest.approx(expected, rel=1e-12)
    assert model.structure.channels[0].name == reference.config.channels[0]
    assert sorted(set(names)) == sorted(reference.config.par_order)


def test_cls_is_that_of_pyhf(pair):
    model, reference = pair
    observed = [51.0, 48.0]
    before = pyhf.get_backend()
    pyhf.set_backend("numpy", pyhf.optimize.scipy_optimizer(tolerance=1e-12))
    try:
        # code 4p of histosys is also the default of pyhf
        cls, band = pyhf.infer.hypotest(
            1.0, [*observed, *reference.config.auxdata], reference, return_expected_set=True
        )
    finally:
        pyhf.set_backend(*before)
    found = hypotest(model, model.data(jnp.array(observed)), mu=1.0)
    assert float(found.observed) == pytest.approx(float(cls), rel=1e-6)
    np.testing.assert_allclose(found.expected, np.asarray(band, float), rtol=1e-5)


def test_numbers_may_be_traced():
    slope = jax.grad(
        lambda s: (
            uncorrelated_background(s, jnp.array(BACKGROUND), jnp.array([3.0, 7.0]))
            .expected_main(jnp.ones(3))
            .sum()
        )
    )(jnp.array(SIGNAL))
    assert slope.tolist() == [1.0, 1.0]
    assert same is uncorrelated_background


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: uncorrelated_background([1.0, 2.0], [1.0], [1.0, 1.0]), "background has shape"),
        (lambda: uncorrelated_background([1.0], [1.0], [-1.0]), "of bin 0 is negative"),
        (lambda: uncorrelated_background([1.0], [np.nan], [1.0]), "background of bin 0 is not fin"),
        (lambda: correlated_background([1.0], [1.0], [1.0], [1.0, 2.0]), "down has shape"),
        (lambda: correlated_background(1.0, 1.0, 1.0, 1.0), "vectors"),
        (lambda: correlated_background([], [], [], []), "vectors"),
    ],
)
def test_wrong_input_names_the_culprit(call, message):
    with pytest.raises(ModelError, match=message):
        call()
