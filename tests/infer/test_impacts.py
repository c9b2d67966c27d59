"""Impacts and sensitivities: refits, gradients, cabinetry, and models that are really changed.

The numbers of cabinetry are from ``cabinetry.fit.ranking(model, data, fit_results=r,
tolerance=1e-6, strategy=2)``; see test_after_the_fit.py for the model and ``r``.
"""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import InputError, ModelError
from difana.infer import (
    Status,
    fit,
    impacts,
    scaled,
    sensitivity,
    uncertainty_split,
    what_would_help,
)
from difana.infer.after_fit.sensitivity import no_change
from difana.infer.parallel._many import best_fit
from difana.likelihood import (
    Channel,
    Correlation,
    Model,
    NormFactor,
    NormSys,
    Parameter,
    ShapeSys,
    StatError,
    Template,
    build_model,
)

RANKING = {  # pre-fit up, pre-fit down, post-fit up, post-fit down
    "shape": (-0.15803, 0.252525, -0.148102, 0.224034),
    "lumi": (-0.029174, 0.030943, -0.029174, 0.030943),
    "k": (0.0, 0.0, 0.0, 0.0),
    "norm": (-0.952293, 0.855691, -0.937523, 0.842277),
    "free[0]": (0.0, 0.0, -0.035274, 0.028993),
    "free[1]": (0.0, 0.0, -0.029829, 0.025938),
    "free[2]": (0.0, 0.0, -0.006689, 0.000664),
    "rate[0]": (-0.141051, 0.14126, -0.138212, 0.138396),
    "rate[1]": (-0.098188, 0.101642, -0.096221, 0.099534),
    "rate[2]": (-0.042098, 0.040029, -0.041139, 0.03916),
    "stat_SR[0]": (-0.138156, 0.14014, -0.134778, 0.136666),
    "stat_SR[1]": (-0.102165, 0.103795, -0.09995, 0.10151),
    "stat_SR[2]": (-0.042227, 0.039164, -0.04153, 0.038564),
}
GROUPS = {"statistics": ["stat_*"], "modelling": ["norm", "shape"], "fakes": ["rate"]}


@pytest.fixture(scope="module")
def data(rich):
    return rich.model.data(rich.excess)


@pytest.fixture(scope="module")
def best(rich, data):
    return best_fit(rich.model, data)


@pytest.fixture(scope="module")
def refits(rich, data, best):
    return impacts(rich.model, data, groups=GROUPS, fit=best)


@pytest.fixture(scope="module")
def expected_help(rich):
    return sensitivity(rich.model)


def test_refits_are_those_of_cabinetry(refits):
    assert refits.ok
    assert refits.poi == "mu"
    found = jnp.stack(
        [refits.prefit_up, refits.prefit_down, refits.postfit_up, refits.postfit_down], axis=1
    )
    expected = [RANKING[name] for name in refits.names]
    np.testing.assert_allclose(found, expected, atol=1.5e-4)
    assert [refits.names[i] for i in refits.ranking[:2]] == ["norm", "shape"]


def test_both_methods_agree_where_the_model_is_linear(rich):
    """Many events and small uncertainties: the same program, other numbers."""
    model = rich.model
    small, many = 1e-4, 1e9
    nominal = many * model.nominal
    shape = nominal[model.structure.histosys_row]
    shift = small * (many * model.histosys_hi - shape)
    factor = small * (model.normsys_hi - 1)
    linear = dataclasses.replace(
        model,
        nominal=nominal,
        histosys_hi=shape + shift,
        histosys_lo=shape - shift,
        normsys_hi=1 + factor,
        normsys_lo=1 - factor,
        staterror=small * many * model.staterror,
        shapesys=small * many * model.shapesys,
        widths=jnp.where(model.centers == 1, small * model.widths, model.widths),
    )
    data = linear.expected(linear.init)
    best = best_fit(linear, data)
    a = impacts(linear, data, fit=best)
    b = impacts(linear, data, fit=best, method="gradient")
    scale = float(best.uncertainties[linear.poi_index])
    for name in ("prefit_up", "prefit_down", "postfit_up", "postfit_down"):
        np.testing.assert_allclose(
            getattr(a, name) / scale, getattr(b, name) / scale, atol=2e-4, err_msg=name
        )
    # symmetric to first order: the mean of both sides is better by one order
    for stage in ("prefit", "postfit"):
        mean = 0.5 * (getattr(a, f"{stage}_up") - getattr(a, f"{stage}_down"))
        np.testing.assert_allclose(mean / scale, getattr(b, f"{stage}_up") / scale, atol=1e-6)


def test_auxiliary_data_and_counts_make_up_the_uncertainty(rich):
    expected = impacts(rich.model, groups=GROUPS, method="gradient")
    assert expected.ok
    total = expected.statistical**2 + expected.systematic**2
    assert float(total) == pytest.approx(float(expected.uncertainty) ** 2, rel=1e-9)
    single = dict(zip(expected.names, expected.auxiliary.tolist(), strict=True))
    fakes = np.sqrt(sum(single[f"rate[{i}]"] ** 2 for i in range(3)))
    assert float(expected.groups_auxiliary[2]) == pytest.approx(fakes)


def test_auxiliary_impacts_are_the_gradient_of_the_fit(two_bins):
    model = two_bins([12.0, 11.0], [50.0, 52.0], [3.0, 7.0])
    data = model.data([55.0, 60.0])
    found = impacts(model, data, method="gradient")
    slope = eqx.filter_jit(lambda d: jax.grad(lambda d: fit(model, d).params[0])(d))(data)
    tau = model.auxiliary()  # of gamma = 1
    np.testing.assert_allclose(found.auxiliary, slope[2:] * jnp.sqrt(tau * found.params), rtol=1e-8)
    rates = model.expected_main(best_fit(model, data).params)
    statistical = jnp.sqrt(jnp.sum(slope[:2] ** 2 * rates))
    assert float(found.statistical) == pytest.approx(float(statistical), rel=1e-8)


def test_groups_are_what_the_variance_loses(rich, best, refits):
    covariance = np.asarray(best.covariance)
    free = np.flatnonzero(np.diag(covariance) > 0)
    hessian = np.linalg.inv(covariance[np.ix_(free, free)])
    names = [best.names[i] for i in free]
    members = (
        [n.startswith("stat_") for n in names],
        [n in ("norm", "shape") for n in names],
        [n.startswith("rate") for n in names],
    )
    for held, impact in zip(members, refits.groups, strict=True):
        stay = ~np.array(held)
        rest = np.linalg.inv(hessian[np.ix_(stay, stay)])
        at = list(np.array(names)[stay]).index("mu")
        lost = covariance[rich.model.poi_index, rich.model.poi_index] - rest[at, at]
        assert float(impact) == pytest.approx(np.sqrt(lost), rel=1e-9)


def test_another_parameter_and_its_report(rich, data, best):
    seen = []
    found = impacts(
        rich.model, data, parameter="norm", fit=best, batch=8,
        report=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert "mu" in found.names
    assert "norm" not in found.names
    assert float(found.value) == float(best["norm"])
    fits = 4 * len(found.names)
    assert seen[-1] == (fits, fits)
    table = found.as_dict()
    assert table["impacts"]["mu"]["prefit_up"] == 0  # without constraint
    assert table["impacts"]["mu"]["postfit_up"] < -0.1
    assert next(iter(table["impacts"])) == found.names[found.ranking[0]]


def test_a_nuisance_at_its_bound_is_cut_and_says_so(rich, data):
    model = rich.model
    index = model.index("shape")
    narrow = eqx.tree_at(lambda m: m.upper, model, model.upper.at[index].set(0.5))
    found = impacts(narrow, data)
    i = found.names.index("shape")
    assert int(found.status[i]) & Status.AT_BOUND
    assert found.ok
    assert abs(float(found.prefit_up[i])) < abs(float(RANKING["shape"][0]))
    assert float(found.prefit_down[i]) == pytest.approx(RANKING["shape"][1], abs=1e-4)


def test_sensitivity_is_the_slope_of_really_changed_models(rich, expected_help):
    step = 1e-4
    up, down = (
        what_would_help(rich.model, method="recompute", width=x, statistics=x, luminosity=x)
        for x in (1 + step, 1 - step)
    )
    assert up.ok
    assert float(up.limit) == pytest.approx(float(expected_help.limit), rel=1e-10)
    slopes = dict(
        zip(up.changes, np.asarray(up.limits - down.limits) / (2 * step), strict=True)
    )  # d(limit) / d(ln x)
    widths = dict(zip(expected_help.names, expected_help.widths.tolist(), strict=True))
    assert widths["mu"] == widths["k"] == 0
    expected = {name: widths[name] for name in ("lumi", "norm", "shape")}
    for name in ("stat_SR", "rate"):
        expected[name] = sum(widths[f"{name}[{i}]"] for i in range(3))
    keys = list(slopes)
    for name, value in expected.items():
        key = next(k for k in keys if k.startswith(f"{name},"))
        assert slopes[key] == pytest.approx(value, rel=1e-4)
    more = dict(zip(expected_help.samples, expected_help.statistics.tolist(), strict=True))
    for name in ("signal", "ttbar"):
        key = next(k for k in keys if k.startswith(f"{name},"))
        assert slopes[key] == pytest.approx(more[name], rel=1e-4)
    assert slopes[keys[-1]] == pytest.approx(float(expected_help.luminosity), rel=1e-4)


def test_predictions_are_near_the_truth(rich):
    guess = what_would_help(rich.model)
    truth = what_would_help(rich.model, method="recompute")
    assert guess.changes == truth.changes
    gain = np.asarray(truth.improvements)
    np.testing.assert_allclose(guess.improvements, gain, rtol=0.1)
    name, limit, best = guess.rows()[0]
    assert name == "norm, 0.5 times the uncertainty"
    assert limit < float(guess.limit)
    assert best == max(np.asarray(guess.improvements))
    assert guess.as_dict()["changes"][0]["change"] == name


def test_templates_have_a_sensitivity(rich, expected_help):
    slope = expected_help.template("SR", "ttbar")
    assert slope.shape == (3,)
    assert bool(jnp.all(jnp.isfinite(slope)))
    step, limits = 1e-3, []
    row = next(
        t.start for c in rich.model.structure.channels if c.name == "SR"
        for t in c.templates if t.name == "ttbar"
    )  # fmt: skip
    for sign in (1, -1):
        moved = eqx.tree_at(
            lambda m: m.nominal, rich.model, rich.model.nominal.at[row].add(sign * step)
        )
        limits.append(float(sensitivity(moved).limit))
    assert float(slope[0]) == pytest.approx((limits[0] - limits[1]) / (2 * step), rel=1e-4)
    with pytest.raises(InputError, match="no sample 'x'"):
        expected_help.template("SR", "x")


@pytest.mark.slow
def test_sensitivity_with_data(rich, data):
    found = sensitivity(rich.model, data)
    step, limits = 1e-4, []
    for x in (1 + step, 1 - step):
        changed = scaled(rich.model, no_change(rich.model)._replace(luminosity=x))
        counts = x * data[: changed.bins]
        limits.append(float(sensitivity(changed, changed.data(counts)).limit))
    slope = (limits[0] - limits[1]) / (2 * step)
    assert float(found.luminosity) == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: impacts(m, parameter="muu"), "Did you mean 'mu'"),
        (lambda m: impacts(m, method="guess"), "'refit' or 'gradient'"),
        (lambda m: uncertainty_split(m, kind="total"), "'global' or 'covariance'"),
        (lambda m: impacts(m, groups={"a": ["nrm"]}), "group 'a'.*Did you mean 'norm'"),
        (lambda m: what_would_help(m, method="guess"), "'gradient' or 'recompute'"),
        (lambda m: what_would_help(m, width=0.0), "width must be positive"),
        (lambda m: what_would_help(m, samples=["x"]), "no sample 'x'"),
    ],
)
def test_wrong_input_names_the_culprit(rich, call, message):
    with pytest.raises((InputError, ModelError), match=message):
        call(rich.model)


PARTS = ("statistical", "systematic", "uncertainty")


def correlated_model() -> Model:
    """All kinds of constraints: Gaussian with correlations, log-normal, Poisson."""
    bkg = Template(
        [60.0, 40.0, 90.0],
        (NormSys(1.1, 0.9, "a"), NormSys(1.2, 0.8, "b"), NormFactor("k"),
         StatError([3.0, 2.0, 4.0], "stat_SR")),
        name="bkg",
    )  # fmt: skip
    fakes = Template([5.0, 5.0, 5.0], (ShapeSys([2.0, 2.0, 2.0], "rate"),), name="fakes")
    signal = Template([9.0, 15.0, 3.0], (NormFactor("mu"),), name="signal")
    return build_model(
        [Channel((signal, bkg, fakes), name="SR")],
        correlations=[Correlation(("a", "b"), [[1.0, -0.6], [-0.6, 1.0]])],
        parameters=[Parameter("k", init=1.3, constraint="lognormal", auxdata=1.3, sigma=0.07)],
    )


@pytest.mark.parametrize("parameter", ["mu", "a"])
def test_all_data_make_up_the_variance(parameter):
    """Also with correlated and log-normal constraints, and for a constrained parameter."""
    model = correlated_model()
    split = uncertainty_split(model, kind="global", method="gradient", parameter=parameter)
    assert split.ok
    assert float(split.closure) == pytest.approx(0.0, abs=1e-9)
    assert float(jnp.sum(split.bins**2)) == pytest.approx(float(split.statistical) ** 2)
    old = impacts(model, method="gradient", parameter=parameter)
    for part in PARTS:
        assert float(getattr(old, part)) == pytest.approx(float(getattr(split, part)), rel=1e-12)
    # groups of independent sources add up; a and b are correlated, so their group is one
    sizes = dict(zip(split.group_names, split.groups.tolist(), strict=True))
    assert list(sizes) == ["mc_statistics", "systematics"]
    whole = np.sqrt(sizes["mc_statistics"] ** 2 + sizes["systematics"] ** 2)
    if parameter == "mu":
        assert whole == pytest.approx(float(split.systematic), rel=1e-12)


def test_global_refits_shift_the_data_and_fit_again():
    model = correlated_model()
    data = model.data([75.0, 60.0, 93.0])
    seen = []
    split = uncertainty_split(
        model, data, kind="global", groups={"norms": ["a", "b"]},
        report=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert split.group_names == ("norms", "mc_statistics")
    assert seen[-1] == (2 * len(split.names),) * 2
    best = best_fit(model, data)
    for name, shift in (("a", 1.0), ("rate[1]", np.sqrt(6.25 * float(best["rate[1]"])))):
        place = model.bins + split.names.index(name)
        up, down = (
            float(best_fit(model, data.at[place].add(sign * shift))["mu"] - best["mu"])
            for sign in (1, -1)
        )
        i = split.names.index(name)
        assert float(split.up[i]) == pytest.approx(up, abs=1e-7)
        assert float(split.down[i]) == pytest.approx(down, abs=1e-7)
    linear = uncertainty_split(model, data, kind="global", method="gradient", fit=best)
    middle = 0.5 * (split.up - split.down)
    np.testing.assert_allclose(middle, linear.up, atol=0.02 * float(split.uncertainty))
    assert float(split.statistical) == float(linear.statistical)
    table = split.as_dict()
    assert next(iter(table["impacts"])) == split.names[split.ranking[0]]
    assert set(table["bins"]) == {"SR[0]", "SR[1]", "SR[2]"}
    assert "mc_statistics" in split.as_text(most=2)


def test_covariance_impacts_are_rows_of_the_covariance():
    model = correlated_model()
    data = model.data([75.0, 60.0, 93.0])
    best = best_fit(model, data)
    split = uncertainty_split(model, data, kind="covariance", fit=best, groups={"one": ["a"]})
    covariance, i = np.asarray(best.covariance), model.index("mu")
    expected = np.delete(covariance[i] / np.sqrt(np.diag(covariance)), i)
    np.testing.assert_allclose(split.up, expected, rtol=1e-12)
    np.testing.assert_allclose(split.down, -expected, rtol=1e-12)
    hessian = np.linalg.inv(covariance)
    free = [model.index("mu")]  # all others are constrained
    left = np.sqrt(np.linalg.inv(hessian[np.ix_(free, free)])[0, 0])
    assert float(split.statistical) == pytest.approx(left, rel=1e-9)
    assert float(split.closure) == pytest.approx(0.0, abs=1e-12)
    # a group of one is its impact
    assert float(split.groups[0]) == pytest.approx(abs(expected[split.names.index("a")]), rel=1e-9)


def test_counting_in_closed_form(two_bins):
    """One bin, s = 10, b = 50 +- 5: the parts of the variance of mu are 60 and 25 over 100."""
    split = uncertainty_split(two_bins([10.0], [50.0], [5.0]), kind="global", method="gradient")
    assert float(split.statistical) == pytest.approx(np.sqrt(60) / 10, rel=1e-9)
    assert float(split.systematic) == pytest.approx(0.5, rel=1e-9)
    assert float(split.up[0]) == pytest.approx(-0.5, rel=1e-9)
    other = uncertainty_split(two_bins([10.0], [50.0], [5.0]), kind="covariance")
    assert float(other.statistical) == pytest.approx(np.sqrt(60) / 10, rel=1e-9)


def test_luminosity_keeps_relative_uncertainties_and_simulation_shrinks_them(rich):
    """Four times the luminosity is the model of four times the yields and uncertainties."""
    model = rich.model
    more = scaled(model, no_change(model)._replace(luminosity=4.0))
    for name in ("nominal", "histosys_hi", "histosys_lo", "staterror", "shapesys"):
        np.testing.assert_allclose(getattr(more, name), 4 * getattr(model, name), rtol=1e-12)
    params = model.init
    np.testing.assert_allclose(
        more.expected_main(params), 4 * model.expected_main(params), rtol=1e-12
    )
    for own, old in zip(more.constraint_scales(), model.constraint_scales(), strict=True):
        np.testing.assert_allclose(own, old, rtol=1e-12)
    samples = no_change(model).statistics.at[:].set(9.0)
    finer = scaled(model, no_change(model)._replace(statistics=samples))
    np.testing.assert_allclose(finer.staterror, model.staterror / 3, rtol=1e-12)
    np.testing.assert_array_equal(finer.nominal, model.nominal)
