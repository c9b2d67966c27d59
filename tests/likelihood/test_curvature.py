"""The written-out derivatives are those of automatic differentiation, and the new constraints."""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from difana._errors import ModelError
from difana.infer import fit
from difana.infer.fit import profile
from difana.likelihood import (
    Channel,
    Correlation,
    HistoSys,
    Lumi,
    NormFactor,
    NormSys,
    Parameter,
    ShapeFactor,
    ShapeSys,
    StatError,
    Template,
    build_model,
)
from difana.likelihood.engine.curvature import constants_of, evaluate, hessian, layout_of

CODES = [("code4", "code4p"), ("code1", "code0"), ("code4", "code2")]
OBSERVED = np.array([83.0, 0.0, 45.0, 52.0, 37.0, 28.0])


def rich(codes=CODES[0], **changes):
    """All modifiers, nuisances of one type and of two, an empty bin, all kinds of constraints."""
    first = (
        NormSys(1.2, 0.85, "norm"),
        HistoSys([55.0, 41.0, 27.0], [46.0, 38.0, 32.0], "norm"),
        HistoSys([54.0, 43.0, 30.0], [45.0, 39.0, 29.0], "shape"),
        StatError([3.0, 2.0, 1.5], "stat"),
    )
    signal = (
        NormFactor("mu"),
        Lumi(),
        NormSys(1.1, 0.92, "norm"),
        StatError([1.0, 0.9, 0.5], "stat"),
    )
    channels = [
        Channel(
            (
                Template([12.0, 9.0, 5.0], signal, name="signal"),
                Template([50.0, 40.0, 30.0], first, name="first"),
                Template([9.0, 0.0, 5.0], (ShapeSys([3.0, 2.0, 1.5], "rate"),), name="fakes"),
                Template([8.0, 6.0, 4.0], (ShapeFactor("free"),), name="qcd"),
            ),
            name="SR",
        ),
        Channel(
            (
                Template([40.0, 30.0, 20.0], (ShapeFactor("free"), NormFactor("k")), name="qcd"),
                Template(
                    [9.0, 8.0, 6.0],
                    (ShapeSys([2.0, 2.0, 1.0], "other"), Lumi(), NormSys(1.3, 0.8, "scale")),
                    name="x",
                ),
            ),
            name="CR",
        ),
    ]
    settings = [
        Parameter("lumi", auxdata=1.0, sigma=0.03),
        Parameter("k", auxdata=1.0, sigma=0.2, constraint="lognormal"),
    ]
    kinds = {"normsys": codes[0], "histosys": codes[1]}
    pair = Correlation(("norm", "shape"), [[1.0, 0.6], [0.6, 1.0]])
    return build_model(
        channels, parameters=settings, correlations=[pair], interpolation=kinds, **changes
    )


@eqx.filter_jit
def compiled(model, params, data):
    """Return all four evaluations, and gradient and Hessian by automatic differentiation."""
    found = {}
    for eliminate in (True, False):
        for dense in (True, False):
            layout = layout_of(model.structure, eliminate=eliminate)
            layout = dataclasses.replace(layout, dense=dense)
            constants, near = constants_of(model, layout), jnp.ones((), bool)
            found[eliminate, dense] = evaluate(
                model, constants, layout, params, data, ~model.fixed, near=near
            )
    there = found[True, True].params  # a pass of its own where private factors are best
    by_ad = [
        (jax.grad(model.half_deviance)(p, data), jax.hessian(model.half_deviance)(p, data))
        for p in (params, there)
    ]
    return found, by_ad


def points(model, number=2):
    rng = np.random.default_rng(3)
    for _ in range(number):
        moved = np.asarray(model.init) + 0.4 * rng.normal(size=model.init.size)
        yield jnp.clip(jnp.asarray(moved), model.lower + 0.05, model.upper - 0.05)


@pytest.mark.parametrize("codes", CODES)
def test_gradient_and_curvature_are_those_of_automatic_differentiation(codes):
    model = rich(codes)
    data = model.data(OBSERVED)
    layout = layout_of(model.structure, eliminate=True)
    assert layout.eliminated.tolist() == [True] * 6
    shared, private = layout.shared, np.flatnonzero(layout.is_private)
    for params in points(model):
        found, ((gradient, curvature), best) = compiled(model, params, data)
        plain = found[False, True]
        np.testing.assert_allclose(plain.value, model.half_deviance(params, data), rtol=1e-12)
        order = layout_of(model.structure, eliminate=False).shared
        np.testing.assert_allclose(plain.gradient, gradient[order], rtol=1e-9, atol=1e-9)
        expected = curvature[np.ix_(order, order)]
        np.testing.assert_allclose(plain.curvature, expected, rtol=1e-9, atol=1e-9)
        # private factors: the others feel the complement of Schur
        own = found[True, True]
        np.testing.assert_allclose(own.gradient, best[0][shared], rtol=1e-8, atol=1e-8)
        slope, full = np.asarray(best[0])[private], np.asarray(best[1])
        inside = (np.asarray(own.params) > np.asarray(model.lower) + 1e-9)[private]
        np.testing.assert_allclose(slope[inside], 0.0, atol=1e-8)
        assert (slope[~inside] >= 0).all()  # an empty bin may push its factor to the bound
        moving = private[inside & ~np.asarray(model.fixed)[private]]
        cross = full[np.ix_(shared, moving)]
        lost = cross @ np.linalg.solve(full[np.ix_(moving, moving)], cross.T)
        expected = full[np.ix_(shared, shared)] - lost
        np.testing.assert_allclose(own.curvature, expected, rtol=1e-7, atol=1e-7)
        for eliminate in (True, False):  # entry by entry, without mixed second derivatives
            sparse, dense = found[eliminate, False], found[eliminate, True]
            np.testing.assert_allclose(sparse.value, dense.value, rtol=1e-12)
            np.testing.assert_allclose(sparse.gradient, dense.gradient, rtol=1e-9, atol=1e-9)
            assert np.linalg.eigvalsh(sparse.curvature)[0] > -1e-9


def test_fits_with_and_without_elimination_agree():
    model = rich()
    data = model.data(OBSERVED)
    both = [
        jax.jit(lambda d, e=e: profile(model, d, model.init, held=model.fixed, eliminate=e))(data)
        for e in (True, False)
    ]
    np.testing.assert_allclose(both[0].value, both[1].value, rtol=1e-10)
    np.testing.assert_allclose(both[0].params, both[1].params, atol=2e-5)
    np.testing.assert_allclose(
        hessian(model, both[1].params, data),
        jax.hessian(model.half_deviance)(both[1].params, data),
        rtol=1e-9,
        atol=1e-9,
    )


def test_constraints_are_the_densities_of_scipy():
    model = rich()
    params = next(iter(points(model)))
    place = model.bins + model.structure.constrained.tolist().index(model.index("k"))
    data = model.data(OBSERVED).at[place].set(1.3)  # a datum of one hides the density's 1 / datum
    parts = stats.poisson.logpmf(OBSERVED, np.asarray(model.expected_main(params))).sum()
    pair = np.asarray([params[model.index("norm")], params[model.index("shape")]])
    parts += stats.multivariate_normal.logpdf(pair, cov=[[1.0, 0.6], [0.6, 1.0]])
    parts += stats.lognorm.logpdf(1.3, 0.2, scale=float(params[model.index("k")]))
    parts += stats.norm.logpdf(1.0, params[model.index("lumi")], 0.03)
    parts += stats.norm.logpdf(0.0, params[model.index("scale")], 1.0)
    for name, width in zip(("stat[0]", "stat[1]", "stat[2]"), _relative(), strict=True):
        parts += stats.norm.logpdf(1.0, params[model.index(name)], width)
    for name, yields, widths in (
        ("rate", [9.0, 5.0], [3.0, 1.5]),
        ("other", [9.0, 8.0, 6.0], [2.0, 2.0, 1.0]),
    ):
        places = (0, 2) if name == "rate" else (0, 1, 2)
        for i, value, width in zip(places, yields, widths, strict=True):
            tau = (value / width) ** 2
            mean = float(params[model.index(f"{name}[{i}]")]) * tau
            parts += -mean + tau * np.log(mean) - float(jax.lax.lgamma(tau + 1.0))
    # the factor of an empty bin is held; its term is that of a count of one
    held = float(params[model.index("rate[1]")])
    parts += np.log(held) - held
    np.testing.assert_allclose(model.logpdf(params, data), parts, rtol=1e-10)


def _relative():
    total = np.array([62.0, 49.0, 35.0])
    return np.hypot([3.0, 2.0, 1.5], [1.0, 0.9, 0.5]) / total


def test_a_correlation_moves_the_other_nuisance():
    channel = Channel(
        (
            Template([100.0, 100.0], (NormFactor("mu"),), name="s"),
            Template([100.0, 0.0], (NormSys(1.1, 0.9, "a"),), name="b"),
            Template([0.0, 10.0], (NormSys(1.1, 0.9, "c"),), name="c"),
        ),
        name="SR",
    )
    pair = Correlation(("a", "c"), [[1.0, 0.9], [0.9, 1.0]])
    data = np.array([230.0, 110.0])
    run = eqx.filter_jit(lambda m: fit(m, m.data(data), fixed={"mu": 1.0}))
    joint, alone = run(build_model([channel], correlations=[pair])), run(build_model([channel]))
    assert float(joint["c"]) > 0.5 * float(joint["a"]) > 0.3
    assert abs(float(alone["c"])) < 0.05
    # the covariance is the inverse of the Hessian, constraint included
    model = build_model([channel], correlations=[pair])
    free = [model.index("a"), model.index("c")]
    curvature = jax.hessian(model.half_deviance)(joint.params, model.data(data))
    own = np.asarray(joint.covariance)[np.ix_(free, free)]
    np.testing.assert_allclose(
        own, np.linalg.inv(np.asarray(curvature)[np.ix_(free, free)]), rtol=1e-8
    )


@pytest.mark.parametrize(
    ("settings", "pairs", "message"),
    [
        ([Parameter("n", constraint="poisson")], [], "may be negative"),
        ([Parameter("mu", constraint="gaussian")], [], "needs `sigma`"),
        ([Parameter("mu", constraint="uniform", sigma=1.0)], [], "no constraint 'uniform'"),
        ([], [Correlation(("n", "mu"), [[1.0, 0.0], [0.0, 1.0]])], "no Gaussian constraint"),
        ([], [Correlation(("n", "o"), [[1.0, 2.0], [2.0, 1.0]])], "positive definite"),
        ([], [Correlation(("n", "o"), [[1.0]])], "has shape"),
    ],
)
def test_wrong_constraints_are_refused(settings, pairs, message):
    own = (NormFactor("mu"), NormSys(1.1, 0.9, "n"), NormSys(1.1, 0.9, "o"))
    channel = Channel((Template([5.0], own, name="s"),), name="SR")
    with pytest.raises(ModelError, match=message):
        build_model([channel], parameters=settings, correlations=pairs)


def test_unknown_interpolation_is_refused():
    channel = Channel((Template([5.0], (NormFactor("mu"),), name="s"),), name="SR")
    with pytest.raises(ModelError, match="no interpolation 'code9'"):
        build_model([channel], interpolation={"histosys": "code9"})
