"""Masked channels: the fit is that of a model without them, their predictions that of one with."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import ModelError
from difana.infer import goodness_of_fit, impacts, upper_limit, yields
from difana.infer.fit import negative_yield
from difana.infer.parallel._many import best_fit
from difana.likelihood import (
    Channel,
    HistoSys,
    NormFactor,
    NormSys,
    ShapeFactor,
    ShapeSys,
    StatError,
    Template,
    build_model,
    from_workspace,
    mask,
)

SEEN = np.array([58.0, 47.0, 95.0])


def region(name, scale, bins, *extra):
    norm = NormSys(1.1, 0.92, "norm")
    shape = np.linspace(1.0, 1.3, bins)
    signal = Template(0.2 * scale * shape, (NormFactor("mu"),), name="signal")
    ttbar = Template(
        scale / shape,
        (norm, HistoSys(1.1 * scale / shape, 0.95 * scale / shape, "shape"),
         StatError(0.05 * scale * np.ones(bins), f"stat_{name}")),
        name="ttbar",
    )  # fmt: skip
    return Channel((signal, ttbar, *extra), name=name)


def fakes(bins, name):
    # a private factor of each masked bin, in which nothing but its constraint acts
    return Template(4.0 * np.ones(bins), (ShapeSys(np.ones(bins), name),), name="fakes")


SR, CR = region("SR", 50.0, 2), region("CR", 90.0, 1)
VR = region("VR", 30.0, 3, fakes(3, "rate"))


@pytest.fixture(scope="module")
def both():
    return build_model([SR, VR, CR], masked=["VR"]), build_model([SR, CR])


def test_fits_do_not_see_masked_channels(both):
    blind, without = both
    assert blind.structure.masked_channels == ("VR",)
    # whatever their data are
    full = blind.data(np.array([58.0, 47.0, 999.0, 0.0, 1.0, 95.0]))
    data, reference = blind.data(SEEN), without.data(SEEN)
    expected = best_fit(without, reference)
    names = [blind.index(name) for name in without.parameters]
    for given in (data, full):
        best = best_fit(blind, given)
        assert best.ok
        np.testing.assert_allclose(best.params[jnp.array(names)], expected.params, rtol=1e-7)
        assert float(best.half_deviance) == pytest.approx(float(expected.half_deviance))
        np.testing.assert_allclose(
            best.covariance[np.ix_(names, names)], expected.covariance, rtol=1e-6, atol=1e-12
        )
    # parameters of the masked channel alone stay where their constraints are, with their widths
    rest = [i for i in range(len(blind.parameters)) if i not in names]
    assert blind.parameters[rest[0]] == "stat_VR[0]"
    np.testing.assert_allclose(best.params[jnp.array(rest)], 1.0)
    widths = np.r_[np.full(3, 0.05) * np.linspace(1.0, 1.3, 3), np.full(3, 0.25)]
    np.testing.assert_allclose(best.uncertainties[jnp.array(rest)], widths, rtol=1e-8)
    dof = goodness_of_fit(blind, data, fit=best).dof
    assert dof == goodness_of_fit(without, reference, fit=expected).dof == 2


def test_limits_and_impacts_do_not_see_them_either(both):
    limit = eqx.filter_jit(upper_limit)
    found, expected = (limit(m, m.data(SEEN)) for m in both)
    assert float(found.observed) == pytest.approx(float(expected.observed), rel=1e-7)
    np.testing.assert_allclose(found.expected, expected.expected, rtol=1e-7)
    a, b = (impacts(m, m.data(SEEN), method="gradient") for m in both)
    assert float(a.statistical) == pytest.approx(float(b.statistical), rel=1e-7)
    assert float(a.systematic) == pytest.approx(float(b.systematic), rel=1e-7)


def test_the_density_has_no_term_for_them(both):
    blind, without = both
    logpdf = eqx.filter_jit(lambda m, params, data: m.logpdf(params, data))
    rng = np.random.default_rng(4)
    names = np.array([blind.index(name) for name in without.parameters])
    data = blind.data(SEEN)
    lost = blind.saturated(data) - without.saturated(without.data(SEEN))  # of more constraints
    for _ in range(3):
        params = blind.init.at[names].add(0.1 * rng.normal(size=names.size))
        expected = logpdf(without, params[names], without.data(SEEN)) + lost
        assert float(logpdf(blind, params, data)) == pytest.approx(float(expected), rel=1e-12)
    slope = eqx.filter_jit(lambda m, d: jax.grad(m.logpdf, argnums=1)(m.init, d))(blind, data)
    assert not slope[2:5].any()
    assert bool(jnp.isfinite(slope).all())


def test_post_fit_predictions_are_those_of_the_whole_model(both):
    blind, _ = both
    whole = build_model([SR, VR, CR])
    best = best_fit(blind, blind.data(SEEN))
    found = yields(blind, fit=best).channel("VR")
    expected = yields(whole, best.params, best.covariance).channel("VR")
    assert found == expected
    assert found["errors"][0] > 0


def test_what_only_masked_channels_know_is_held():
    extra = Template([5.0], (ShapeFactor("free"), NormSys(1.1, 0.9, "own")), name="x")
    model = build_model([SR, region("VR", 30.0, 1, extra)], masked=["VR"])
    assert bool(model.fixed[model.index("free[0]")])
    assert not bool(model.fixed[model.index("own")])  # its constraint knows it
    assert best_fit(model, model.data(SEEN[:2])).ok
    assert mask(model, []) is model
    assert mask(mask(build_model([SR, VR, CR]), "VR"), "CR").structure.masked_channels == (
        "VR",
        "CR",
    )


def test_a_workspace_may_have_no_observation_there(specs):
    spec = {**specs["everything"]}
    model, _ = from_workspace(spec)
    spec["observations"] = [o for o in spec["observations"] if o["name"] != "CR"]
    with pytest.raises(ModelError, match="no observation"):
        from_workspace(spec)
    blind, data = from_workspace(spec, masked=["CR"])
    assert blind.structure.masked_channels == ("CR",)
    assert data.shape == (model.bins + model.structure.constrained.size,)
    assert not data[blind.slice_of("CR")].any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: mask(m, "VRR"), "no channel 'VRR' to mask. Did you mean 'VR'"),
        (lambda m: mask(m, ["SR", "CR", "VR"]), "at least one"),
        (lambda m: m.data(np.ones(4)), "the model has 6 bins"),
    ],
)
def test_wrong_input_names_the_culprit(both, call, message):
    with pytest.raises(ModelError, match=message):
        call(both[0])


def test_negative_yields_there_do_no_harm():
    steep = HistoSys([12.0], [-4.0], "shape")
    channels = [SR, Channel((Template([4.0], (steep, NormFactor("mu")), name="x"),), name="VR")]
    model = build_model(channels, masked=["VR"])
    params = model.pack({"shape": -1.0})
    assert int(negative_yield(model, params)) == 0
    assert int(negative_yield(build_model(channels), params)) != 0


def test_a_parameter_of_interest_must_be_seen():
    only = Channel((Template([5.0], (NormFactor("mu"),), name="s"),), name="SR")
    other = Channel((Template([5.0], name="b"),), name="CR")
    with pytest.raises(ModelError, match="'mu' acts in masked channels only"):
        build_model([only, other], masked=["SR"])
