"""Likelihoods with two minima: several starts find the deeper one, and say that there are two."""

from __future__ import annotations

import equinox as eqx
import jax
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from difana._errors import ConfigError
from difana.infer import fit, fit_from_several
from difana.likelihood import Channel, HistoSys, NormFactor, Parameter, Template, build_model

many = eqx.filter_jit(fit_from_several)


@pytest.fixture(scope="module")
def folded():
    """Both signs of the nuisance raise the yield; it is easier on the negative side."""
    background = Template(
        [50.0, 50.0], (HistoSys([60.0, 55.0], [65.0, 57.5], "up"),), name="background"
    )
    signal = Template([1.0, 0.0], (NormFactor("mu"),), name="signal")
    held = Parameter("mu", init=0.0, fixed=True)
    return build_model([Channel((signal, background), name="SR")], parameters=[held])


def test_the_deeper_minimum_is_found(folded):
    data = folded.data([75.0, 62.0])
    start = folded.init.at[folded.index("up")].set(1.0)

    @eqx.filter_jit
    def both(model, data):
        return fit(model, data, init=start), fit_from_several(
            model, data, key=jax.random.key(0), number=12
        )

    stuck, result = both(folded, data)

    def function(alpha):
        params = folded.init.at[folded.index("up")].set(alpha)
        return float(folded.half_deviance(params, data))

    sides = [minimize_scalar(function, bounds=b, method="bounded") for b in ((0.3, 5), (-5, -0.3))]
    depth = min(side.fun for side in sides)
    np.testing.assert_allclose(stuck.half_deviance, sides[0].fun, atol=1e-6)
    assert stuck.ok
    assert sides[1].fun < sides[0].fun - 0.1
    np.testing.assert_allclose(result.best.half_deviance, depth, atol=1e-6)
    assert result.best["up"] < 0
    assert not result.unique
    assert 0 < int(result.agreeing().sum()) < 12


def test_one_minimum_and_bad_numbers(folded):
    unique = build_model([Channel((Template([10.0], (NormFactor("mu"),), name="s"),), name="SR")])
    result = many(unique, unique.data([12.0]), key=jax.random.key(1), number=3)
    assert result.unique
    assert float(result.best["mu"]) == pytest.approx(1.2)
    with pytest.raises(ConfigError, match="at least one start"):
        fit_from_several(folded, folded.data([50.0, 50.0]), key=jax.random.key(0), number=0)
