"""Post-fit observables: finite differences, closed forms, and the yields they are made of."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import InputError, ModelError
from difana.infer import (
    normalised,
    observables,
    prefit_covariance,
    prefit_uncertainties,
    pulls,
    ratio,
    total,
    yields,
)
from difana.infer.parallel._many import best_fit
from difana.likelihood import (
    Channel,
    Correlation,
    Lumi,
    NormFactor,
    NormSys,
    Parameter,
    Template,
    build_model,
)

FUNCTIONS = {
    "events": total("SR"),
    "ttbar": total(("*", "ttbar")),
    "shape": normalised(("SR", "ttbar")),
    "transfer": ratio(("SR", "ttbar"), ("CR", "ttbar"), sums=True),
    "bins": ratio(("SR", "qcd"), ("CR", "qcd")),
    "significance": lambda y: y["SR", "signal"] / jnp.sqrt(y["SR"]),
}


@pytest.fixture(scope="module")
def best(rich):
    return best_fit(rich.model, rich.model.data(rich.excess))


@pytest.fixture(scope="module")
def found(rich, best):
    return observables(rich.model, FUNCTIONS, fit=best)


def numbers(model, params):
    """Return the same by hand."""
    rows, parts = np.asarray(model.rows(params)), {}
    for channel in model.structure.channels:
        for t in channel.templates:
            parts[channel.name, t.name] = rows[t.start : t.start + channel.bins]
    region = sum(parts["SR", name] for name in ("signal", "ttbar", "fakes", "qcd"))
    ttbar = parts["SR", "ttbar"]
    return np.concatenate([
        [region.sum(), ttbar.sum() + parts["CR", "ttbar"].sum()],
        ttbar / ttbar.sum(),
        [ttbar.sum() / parts["CR", "ttbar"].sum()],
        parts["SR", "qcd"] / parts["CR", "qcd"],
        parts["SR", "signal"] / np.sqrt(region),
    ])  # fmt: skip


def test_values_and_covariance_are_those_of_finite_differences(rich, best, found):
    model, params = rich.model, np.asarray(best.params)
    np.testing.assert_allclose(found.values, numbers(model, best.params), rtol=1e-12)
    slopes, step = [], 1e-5
    for i in range(params.size):
        move = step * np.eye(params.size)[i]
        difference = numbers(model, params + move) - numbers(model, params - move)
        slopes.append(difference / (2 * step))
    jacobian = np.array(slopes).T
    expected = jacobian @ np.asarray(best.covariance) @ jacobian.T
    scale = np.sqrt(np.diag(expected))
    np.testing.assert_allclose(found.errors, scale, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.covariance, expected, rtol=1e-6, atol=1e-8)
    assert found.names[:4] == ("events", "ttbar", "shape[0]", "shape[1]")
    assert found["shape"].shape == (3,)
    assert found["events"].shape == ()
    assert float(found["shape"].sum()) == pytest.approx(1.0)
    # a normalised shape has no uncertainty of its sum; one ratio of qcd does not move at all
    shape = slice(2, 5)
    assert float(jnp.abs(found.covariance[shape, shape].sum())) < 1e-12
    assert found.label == "post-fit"
    table = found.as_dict()
    assert table["observables"]["events"]["error"] == pytest.approx(float(found.errors[0]))


def test_the_bins_are_those_of_yields(rich, best):
    both = [
        (observables(rich.model, lambda y: y.bins, **kwargs),
         yields(rich.model, full_covariance=True, **kwargs))
        for kwargs in ({"fit": best}, {})
    ]  # fmt: skip
    for bins, table in both:
        np.testing.assert_allclose(bins.values, table.bins, rtol=1e-12)
        np.testing.assert_allclose(bins.errors, table.bin_errors, rtol=1e-9)
        np.testing.assert_allclose(bins.covariance, table.covariance, rtol=1e-8, atol=1e-10)
        assert np.shape(table.as_dict()["covariance"]) == (6, 6)
    assert yields(rich.model).covariance is None
    spread = yields(rich.model, fit=best, spread="symmetric", full_covariance=True)
    np.testing.assert_allclose(jnp.diagonal(spread.covariance), spread.bin_errors**2, rtol=1e-9)
    assert float(jnp.abs(spread.covariance - both[0][1].covariance).max()) > 1e-3


def test_inside_jit_and_differentiable(rich, best):
    def events(scale):
        model = eqx.tree_at(lambda m: m.nominal, rich.model, scale * rich.model.nominal)
        return observables(model, total("CR"), best.params, best.covariance).values[0]

    slope = jax.jit(jax.grad(events))(1.0)
    assert float(slope) == pytest.approx(float(jax.jit(events)(1.0)), rel=1e-9)


def test_masked_channels_are_as_good_as_others():
    def region(name, events, *more):
        return Channel((Template([events], (NormFactor("k"),), name="ttbar"), *more), name=name)

    extra = Template([5.0], name="other")
    channels = [region("CR", 100.0), region("VR", 20.0, extra)]
    model = build_model(channels, poi="k", masked=["VR"])
    found = observables(
        model, ratio("VR", "CR", sums=True), fit=best_fit(model, model.data([121.0]))
    )
    k = 1.21  # (20 k + 5) / 100 k
    assert float(found.values[0]) == pytest.approx((20 * k + 5) / (100 * k), rel=1e-9)
    assert float(found.errors[0]) == pytest.approx(0.05 / k**2 * k / np.sqrt(121), rel=1e-6)


def test_prefit_correlations_and_lognormal_widths():
    bkg = Template([100.0], (NormSys(1.1, 0.9, "a"), NormSys(1.2, 0.8, "b")), name="bkg")
    other = Template([50.0], (NormFactor("k"),), name="other")
    signal = Template([5.0], (NormFactor("mu"), Lumi()), name="s")
    model = build_model(
        [Channel((bkg, other, signal), name="SR")],
        correlations=[Correlation(("a", "b"), [[1.0, -0.5], [-0.5, 1.0]])],
        parameters=[
            Parameter("k", constraint="lognormal", auxdata=2.0, sigma=0.1),
            Parameter("lumi", auxdata=1.0, sigma=0.02, fixed=True),
        ],
    )
    covariance = prefit_covariance(model)
    names = [model.index(name) for name in ("a", "b", "k", "lumi", "mu")]
    expected = np.zeros((5, 5))
    expected[:2, :2] = [[1.0, -0.5], [-0.5, 1.0]]
    expected[2, 2] = 0.2**2  # of the logarithm, at 2
    np.testing.assert_allclose(covariance[np.ix_(names, names)], expected, atol=1e-12)
    assert float(prefit_uncertainties(model)[names[2]]) == pytest.approx(0.2)
    # d ln / d alpha at 0 of code 4 is (hi - lo)/2 to the digits wanted here
    found = observables(model, total(("SR", "bkg")))
    assert float(found.errors[0]) == pytest.approx(100 * np.sqrt(0.01 + 0.04 - 0.02), rel=2e-2)
    assert float(found.errors[0]) == pytest.approx(float(yields(model).row_errors[0]), rel=1e-9)
    fit = best_fit(model, model.data([205.0]))
    at = pulls(model, fit).names.index("k")
    ratio_of = pulls(model, fit).ratios[at]
    assert float(ratio_of) < 1.001


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: observables(m, total("SSR")), "no channel 'SSR'. Did you mean 'SR'"),
        (lambda m: observables(m, total(("CR", "signal"))), "no sample 'signal' in channel 'CR'"),
        (lambda m: observables(m, ratio("*", "SR")), "sums=True"),
        (lambda m: observables(m, {}), "no observable"),
        (lambda m: observables(m, lambda y: {"a": y["SR"]}), "returned dict"),
        (lambda m: observables(m, total("SR"), m.init), "go together"),
        (lambda m: observables(m, total("SR"), m.init[:2], jnp.eye(2)), "do not fit the model"),
        (lambda m: observables(m, {"events": total("SR")})["event"], "Did you mean 'events'"),
    ],
)
def test_wrong_input_names_the_culprit(rich, call, message):
    with pytest.raises((InputError, ModelError), match=message):
        call(rich.model)
