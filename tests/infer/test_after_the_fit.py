"""Intervals, goodness of fit, pulls, yields and scans: against cabinetry, closed forms, each other.

The numbers of cabinetry 0.6.0 with pyhf 0.7.6 are those of the rich model of conftest.py written
by ``to_workspace`` and read by ``cabinetry.model_utils.model_and_data``, with

    r = cabinetry.fit.fit(model, data, goodness_of_fit=True, minos=["mu", "norm", "shape"],
                          tolerance=1e-6, strategy=2)
    cabinetry.fit.scan(model, data, "mu", par_range=(0, 3), n_steps=7, tolerance=1e-6, strategy=2)
    cabinetry.model_utils.prediction(model[, fit_results=r])

HESSE of MINUIT is 2 % off here (uncertainty of mu 1.053; central differences of pyhf's own
likelihood tend to 1.0729), so uncertainties and correlations in ``r`` were replaced by those of
such differences, with steps of 2 % of the uncertainty, before ``prediction``.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import InputError, ModelError
from difana.infer import (
    Status,
    goodness_of_fit,
    minuit_fit,
    prefit_uncertainties,
    profile_interval,
    profile_scan,
    pulls,
    yields,
)
from difana.infer.parallel._many import best_fit, in_chunks

BEST = {
    "shape": 0.0499011, "lumi": 1.0000037, "mu": 1.1822983, "norm": -0.0170488,
    "free[0]": 1.0498885, "rate[0]": 1.0048274, "rate[2]": 0.9944871, "stat_SR[0]": 1.0007301,
}  # fmt: skip
WIDTHS = {
    "shape": 0.894315, "lumi": 0.03, "k": 0.0, "mu": 1.072791, "norm": 0.984458,
    "free[0]": 0.181856, "free[1]": 0.203068, "free[2]": 0.262093, "rate[0]": 0.326603,
    "rate[1]": 0.326536, "rate[2]": 0.29331, "stat_SR[0]": 0.049746, "stat_SR[2]": 0.044454,
}  # fmt: skip
MINOS = {
    "shape": (-0.926606, 0.856535), "mu": (-1.084025, 1.064373), "norm": (-0.987664, 0.982959)
}  # fmt: skip
GOODNESS = 0.9943391185
SCAN = [1.1941054, 0.3936767, 0.0285773, 0.0891602, 0.5950901, 1.5105196, 2.7851619]
PREFIT = {"SR": [11.743019, 8.542189, 6.632119], "CR": [1.044031, 0.835225, 0.626418]}
PREFIT_SUM = {"SR": 24.359321, "CR": 2.505674}
POSTFIT = {"SR": [7.193241, 5.43348, 4.424337], "CR": [7.183543, 6.04509, 5.24311]}
POSTFIT_SUM = {"SR": 13.775323, "CR": 10.814173}
POSTFIT_TTBAR = [10.13041, 7.338627, 5.473754]


@pytest.fixture(scope="module")
def model(rich):
    return rich.model


@pytest.fixture(scope="module")
def data(rich):
    return rich.model.data(rich.excess)


@pytest.fixture(scope="module")
def best(model, data):
    return best_fit(model, data)


@pytest.fixture(scope="module")
def free(model):
    return [name for name, held in zip(model.parameters, model.fixed, strict=True) if not held]


@pytest.fixture(scope="module")
def intervals(model, data, best, free):
    return profile_interval(model, data, free, level=0.6826894921, fit=best)


def test_uncertainties_are_those_of_the_likelihood_of_pyhf(best):
    assert best.ok
    for name, value in BEST.items():
        assert float(best[name]) == pytest.approx(value, abs=3e-5)
    found = dict(zip(best.names, best.uncertainties.tolist(), strict=True))
    for name, width in WIDTHS.items():
        assert found[name] == pytest.approx(width, rel=1e-4)


def test_iminuit_finds_the_same_minimum_and_covariance(model, data, best):
    other = minuit_fit(model, data)
    assert other.ok, other.message
    width = jnp.where(best.uncertainties > 0, best.uncertainties, 1.0)
    assert jnp.max(jnp.abs(other.params - best.params) / width) < 1e-4
    np.testing.assert_allclose(
        other.covariance / jnp.outer(width, width),
        best.covariance / jnp.outer(width, width),
        atol=0.01,
    )
    assert float(other.nll) == pytest.approx(float(best.nll), abs=1e-7)
    held = minuit_fit(model, data, fixed={"mu": 0.5})
    assert float(held["mu"]) == 0.5
    assert held.uncertainties[model.poi_index] == 0


def test_intervals_are_those_of_minos(intervals, free):
    assert intervals.ok
    for name, (low, high) in MINOS.items():
        i = free.index(name)
        assert float(intervals.lower[i] - intervals.value[i]) == pytest.approx(low, abs=5e-5)
        assert float(intervals.upper[i] - intervals.value[i]) == pytest.approx(high, abs=5e-5)


def test_the_likelihood_ratio_is_one_at_the_ends(model, data, best, intervals, free):
    for name in ("mu", "rate[1]", "free[2]"):
        i = free.index(name)
        ends = [intervals.lower[i], intervals.value[i], intervals.upper[i]]
        rise = profile_scan(model, data, {name: jnp.array(ends)}, fit=best).twice_delta_nll
        np.testing.assert_allclose(rise, [1, 0, 1], atol=1e-8)


def test_one_name_gives_scalars(model, data, best, intervals, free):
    one = profile_interval(model, data, "mu", level=0.6826894921, fit=best)
    assert one.lower.shape == ()
    assert float(one.upper) == pytest.approx(float(intervals.upper[free.index("mu")]), rel=1e-9)


def test_an_interval_ends_at_a_bound_and_says_so(model, data, best, rich):
    wide = profile_interval(model, data, "mu", level=0.95, fit=best)
    assert bool(wide.lower_at_bound)
    assert not bool(wide.upper_at_bound)
    assert float(wide.lower) == float(model.lower[model.poi_index]) == 0
    assert int(wide.status) == Status.AT_BOUND
    assert wide.ok
    deficit = model.data(rich.deficit)  # the best fit itself lies at the bound
    low = profile_interval(model, deficit, "mu", level=0.6826894921)
    assert float(low.lower) == float(low.value) == 0
    assert float(low.upper) > 0
    rise = profile_scan(model, deficit, {"mu": low.upper[None]}).twice_delta_nll
    np.testing.assert_allclose(rise, [1], atol=1e-8)


@pytest.mark.slow
def test_intervals_have_gradients(two_bins):
    def upper(numbers):
        model = two_bins(numbers[:2], numbers[2:4], numbers[4:6])
        found = profile_interval(model, model.data(numbers[6:]), "mu").upper
        return found, found

    start = jnp.array([12.0, 11.0, 50.0, 52.0, 3.0, 7.0, 55.0, 60.0])
    gradient, value = eqx.filter_jit(jax.grad(upper, has_aux=True))(start)
    assert float(value) == pytest.approx(float(upper(start)[0]), rel=1e-9)  # eager = jit
    for i in range(start.size):
        ends = [float(upper(start.at[i].add(step))[0]) for step in (1e-4, -1e-4)]
        assert float(gradient[i]) == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=1e-4, abs=1e-6)


def test_goodness_of_fit(model, data, best):
    found = goodness_of_fit(model, data, fit=best)
    assert found.dof == 2  # six bins; mu and three free factors, k is held
    assert float(found.p_value) == pytest.approx(GOODNESS, rel=1e-6)
    assert float(found.chi2) == pytest.approx(2 * float(best.half_deviance))
    assert found.ok


def test_goodness_of_fit_without_degrees_of_freedom(two_bins, best):
    model = two_bins([12.0], [50.0], [3.0])
    found = goodness_of_fit(model, model.data([60.0]), fit=best)
    assert found.dof == 0
    assert np.isnan(found.p_value)
    assert not found.ok
    assert "0 degrees of freedom" in found.message


def test_pulls(model, best):
    found = pulls(model, best)
    values = dict(zip(found.names, found.pulls.tolist(), strict=True))
    ratios = dict(zip(found.names, found.ratios.tolist(), strict=True))
    assert len(values) == model.structure.constrained.size
    assert values["shape"] == pytest.approx(BEST["shape"], abs=3e-5)
    assert values["lumi"] == pytest.approx((BEST["lumi"] - 1) / 0.03, abs=1e-3)
    assert values["rate[0]"] == pytest.approx((BEST["rate[0]"] - 1) * 3, abs=1e-4)  # 9 of 3
    total, squares = 62.0, 1.0 + 9.0  # signal and ttbar share the factor
    width = np.sqrt(squares) / total
    assert values["stat_SR[0]"] == pytest.approx((BEST["stat_SR[0]"] - 1) / width, abs=1e-3)
    assert ratios["stat_SR[0]"] == pytest.approx(WIDTHS["stat_SR[0]"] / width, rel=1e-4)
    assert ratios["norm"] == pytest.approx(WIDTHS["norm"], rel=1e-4)
    assert bool(jnp.all(found.free))
    before = prefit_uncertainties(model)
    assert before[model.index("mu")] == before[model.index("k")] == 0


@pytest.mark.parametrize("stage", ["pre-fit", "post-fit"])
def test_yields_are_those_of_cabinetry(model, best, stage):
    fit = best if stage == "post-fit" else None
    errors, sums = (POSTFIT, POSTFIT_SUM) if fit else (PREFIT, PREFIT_SUM)
    found = yields(model, fit=fit, spread="symmetric")
    assert found.label == stage
    for name, expected in errors.items():
        channel = found.channel(name)
        np.testing.assert_allclose(channel["errors"], expected, rtol=1e-4 if fit else 1e-6)
        assert channel["sum_error"] == pytest.approx(sums[name], rel=1e-4 if fit else 1e-6)
    if fit:
        ttbar = found.channel("SR")["samples"]["ttbar"]
        np.testing.assert_allclose(ttbar["errors"], POSTFIT_TTBAR, rtol=1e-4)


def test_linear_yields_are_j_c_j(model, best):
    found = yields(model, fit=best, batch=5)
    params, covariance = best.params, np.asarray(best.covariance)
    j = np.asarray(jax.jit(jax.jacfwd(model.rows))(params))
    np.testing.assert_allclose(found.row_errors**2, np.diag(j @ covariance @ j.T), atol=1e-10)
    bins = np.zeros((model.bins, j.shape[0]))
    bins[model.structure.row_bin, np.arange(j.shape[0])] = 1
    np.testing.assert_allclose(
        found.bin_errors**2, np.diag(bins @ j @ covariance @ j.T @ bins.T), rtol=1e-10
    )
    total = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]]) @ bins @ j
    np.testing.assert_allclose(
        found.channel_errors**2, np.diag(total @ covariance @ total.T), rtol=1e-10
    )
    np.testing.assert_allclose(found.bins, model.expected_main(params), rtol=1e-12)
    np.testing.assert_allclose(found.channels, [found.bins[:3].sum(), found.bins[3:].sum()])
    assert float(found.blocks.sum()) == pytest.approx(float(found.bins.sum()))


def test_tables_of_yields(model, best, rich):
    found = yields(model, fit=best)
    table = found.as_text(rich.excess)
    assert "SR (post-fit)" in table
    assert "CR (post-fit)" in table
    assert "191" in table.splitlines()[6]  # the data of SR
    numbers = found.as_dict()["channels"]
    assert list(numbers["SR"]["samples"]) == ["signal", "ttbar", "fakes", "qcd"]
    assert sum(s["sum"] for s in numbers["CR"]["samples"].values()) == pytest.approx(
        numbers["CR"]["sum"]
    )
    short = found.as_text(per_bin=False).splitlines()
    assert short[0].split() == ["SR", "(post-fit)", "sum"]


def test_scan_is_that_of_cabinetry(model, data, best):
    found = profile_scan(model, data, {"mu": np.linspace(0, 3, 7)}, fit=best)
    np.testing.assert_allclose(found.twice_delta_nll, SCAN, atol=2e-6)
    assert found.ok
    assert found.as_dict()["best"]["mu"] == pytest.approx(BEST["mu"], abs=1e-4)


def test_scan_in_two_dimensions_holds_that_in_one(model, data, best):
    line = profile_scan(model, data, {"mu": [0.2, 2.0]}, fit=best)
    norm = line.params[:, model.index("norm")]
    seen = []
    plane = profile_scan(
        model, data, {"mu": [0.2, 2.0], "norm": norm}, fit=best, batch=8,
        report=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert plane.twice_delta_nll.shape == (2, 2)
    assert plane.params.shape == (2, 2, len(model.parameters))
    np.testing.assert_allclose(jnp.diagonal(plane.twice_delta_nll), line.twice_delta_nll, atol=1e-9)
    assert plane.twice_delta_nll[0, 1] > line.twice_delta_nll[0]
    np.testing.assert_allclose(plane.params[0, 1, model.index("norm")], norm[1])
    assert seen == [(4, 4)]


def test_chunks_do_not_change_results():
    items = jnp.arange(7.0)
    for batch in (1, 3, 7, 10):
        found = in_chunks(jnp.multiply, jnp.array(2.0), items, batch=batch)
        np.testing.assert_array_equal(found, 2 * items)
        jitted = jax.jit(lambda x, b=batch: in_chunks(jnp.multiply, jnp.array(2.0), x, batch=b))
        np.testing.assert_array_equal(jitted(items), 2 * items)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, d: profile_interval(m, d, "muu"), "Did you mean 'mu'"),
        (lambda m, d: profile_interval(m, d, "k"), "'k' is held"),
        (lambda m, d: profile_interval(m, d, "mu", level=1.0), "between 0 and 1"),
        (lambda m, d: profile_interval(m, d[:-1], "mu"), "model.data"),
        (lambda m, d: profile_scan(m, d, {}), "at least one parameter"),
        (lambda m, d: profile_scan(m, d, {"mu": 1.0}), "row of numbers"),
        (lambda m, d: profile_scan(m, d, {"nrm": [1.0]}), "Did you mean 'norm'"),
        (lambda m, d: yields(m, m.init), "go together"),
        (lambda m, d: yields(m, spread="wide"), "'linear' or 'symmetric'"),
        (lambda m, d: yields(m).channel("XX"), "no channel 'XX'"),
        (lambda m, d: minuit_fit(m, d, fixed={"muu": 1.0}), "Did you mean 'mu'"),
    ],
)
def test_wrong_input_names_the_culprit(model, data, call, message):
    with pytest.raises((InputError, ModelError), match=message):
        call(model, data)
