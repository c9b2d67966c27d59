"""What a result says where data, bounds or a model are out of the ordinary."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from scipy.stats import poisson

from difana._errors import InputError, ModelError
from difana._status import describe, joined
from difana.infer import (
    Status,
    expected_limits,
    fit,
    hypotest,
    impacts,
    profile_interval,
    profile_scan,
    qmu,
    significance,
    tmu_tilde,
    toys,
    upper_limit,
)
from difana.likelihood import (
    Channel,
    Model,
    NormFactor,
    NormSys,
    Parameter,
    ShapeSys,
    Template,
    build_model,
    from_workspace,
    model_with,
)
from difana.losses import poi_uncertainty


def counting(signal: float = 10.0, background: float = 50.0, **setting: object) -> Model:
    """Return one bin of signal and background."""
    samples = (
        Template([signal], (NormFactor("mu"),), name="signal"),
        Template([background], (ShapeSys([5.0], "unc"),) if background else (), name="b"),
    )
    settings = [Parameter("mu", **setting)] if setting else []
    return build_model([Channel(samples, name="SR")], parameters=settings)


@pytest.mark.parametrize("mu", [-1.0, float("nan"), float("inf")])
def test_tested_values_that_mean_nothing_are_refused(mu: float) -> None:
    model = counting()
    data = model.data([55.0])
    for function in (hypotest, qmu, tmu_tilde):
        with pytest.raises(InputError, match="mu = "):
            function(model, data, mu=mu)
    with pytest.raises(InputError, match="mu = "):
        significance(model, mu=mu)


@pytest.mark.parametrize("level", [0.0, 1.0, 1.5, float("nan")])
def test_levels_that_mean_nothing_are_refused(level: float) -> None:
    for function in (upper_limit, expected_limits):
        with pytest.raises(ModelError, match="level"):
            function(counting(), level=level)


@pytest.mark.parametrize("count", [-1.0, float("nan"), float("inf")])
def test_counts_that_mean_nothing_are_refused_with_channel_and_bin(count: float) -> None:
    model = counting()
    with pytest.raises(ModelError, match="channel 'SR', bin 0"):
        model.data([count])
    data = model.data([55.5])  # fractional Asimov data are allowed
    with pytest.raises(ModelError, match="channel 'SR', bin 0"):
        fit(model, data.at[0].set(count))
    with pytest.raises(ModelError, match=r"auxiliary datum of 'unc\[0\]'"):
        fit(model, data.at[1].set(count))


def test_bounds_that_exclude_every_limit_are_refused() -> None:
    model = counting(bounds=((-5.0, 0.0),))
    with pytest.raises(ModelError, match="bounds of 'mu'"):
        upper_limit(model)


def test_a_held_parameter_of_interest_is_held_by_fits_and_refused_by_tests() -> None:
    held, free = counting(fixed=True, init=1.0), counting(init=1.0)
    freed = model_with(held, free=["mu"])
    data = free.data([55.0])
    assert float(fit(held, data)["mu"]) == 1.0
    for result in (
        lambda model: hypotest(model, data, mu=1.0).observed,
        lambda model: qmu(model, data, mu=1.0).value,
        lambda model: significance(model, data).observed,
        lambda model: upper_limit(model, data).observed,
        lambda model: profile_scan(model, data, {"mu": [1.0]}).twice_delta_nll[0],
        lambda model: impacts(model, data, method="gradient").postfit_up[0],
    ):
        with pytest.raises(ModelError, match=r"holds 'mu'.*free=\['mu'\]"):
            result(held)
        np.testing.assert_allclose(result(freed), result(free), rtol=1e-10)
        assert float(result(free)) != 0
    with pytest.raises(ModelError, match="'mu' is held"):
        profile_interval(held, data, "mu")
    with pytest.raises(ModelError, match="holds 'mu'"):
        poi_uncertainty.of_model(held)


def test_events_without_any_background_are_infinitely_significant() -> None:
    model = counting(signal=3.0, background=0.0)
    data = model.data([2.0])
    found = significance(model, data)
    assert float(found.observed) == np.inf
    assert float(found.observed_p) == 0
    assert int(found.status) & Status.IMPOSSIBLE
    assert int(fit(model, data, fixed={"mu": 0.0}).status) & Status.IMPOSSIBLE
    # tests of a signal have no such problem
    for result in (hypotest(model, data, mu=1.0), upper_limit(model, data)):
        assert describe(result.status) == "ok"
    # nor have they where nothing was seen
    assert float(significance(model, model.data([0.0])).observed) == 0


def test_an_impossible_bin_is_flagged_in_every_fit() -> None:
    samples = (Template([5.0, 0.0], (NormFactor("mu"),), name="s"), Template([9.0, 0.0], name="b"))
    model = build_model([Channel(samples, name="SR")])
    data = model.data([9.0, 1.0])
    for result in (fit(model, data), hypotest(model, data), upper_limit(model, data)):
        assert int(result.status) & Status.IMPOSSIBLE
    assert not int(fit(model, model.data([9.0, 0.0])).status) & Status.IMPOSSIBLE


def test_a_parameter_at_its_bound_is_named_and_has_the_width_of_its_open_side() -> None:
    signal = Template([10.0], (NormFactor("mu"),), name="signal")
    background = Template([100.0], (NormFactor("k"),), name="background")
    model = build_model(
        [Channel((signal, background), name="SR")],
        parameters=[Parameter("k", bounds=((0.5, 1.5),)), Parameter("mu", fixed=True, init=0.0)],
    )
    result = fit(model, model.data([40.0]))
    assert result.at_bound == ("k",)
    assert "at its bound (k)" in result.message
    # 100 k - 40 ln k: slope 20 and curvature 160 at k = 0.5, one half above at
    slope, bend = 100 - 40 / 0.5, 40 / 0.25
    width = (-slope + np.sqrt(slope**2 + bend)) / bend
    np.testing.assert_allclose(result.uncertainties[1], width, rtol=1e-6)


def test_a_model_of_eliminated_parameters_alone_is_fitted() -> None:
    """No parameter of interest, one factor a bin: gamma = (n + tau) / (b + tau)."""
    spec = {
        "channels": [
            {
                "name": "A",
                "samples": [
                    {
                        "name": "b",
                        "data": [50.0, 60.0],
                        "modifiers": [{"name": "u", "type": "shapesys", "data": [5.0, 6.0]}],
                    }
                ],
            }
        ],
        "observations": [{"name": "A", "data": [40.0, 50.0]}],
        "measurements": [{"name": "m", "config": {"poi": "", "parameters": []}}],
        "version": "1.0.0",
    }
    result = fit(*from_workspace(spec))
    tau = 100.0
    expected = (np.array([40.0, 50.0]) + tau) / (np.array([50.0, 60.0]) + tau)
    np.testing.assert_allclose(result.params, expected, rtol=1e-9)
    assert result.ok


def test_a_toy_is_kept_although_its_signal_vanishes() -> None:
    """An auxiliary datum of zero takes the signal away: q = 0, not a failure."""
    samples = (
        Template([4.0], (NormFactor("mu"), ShapeSys([4.0], "us")), name="signal"),
        Template([0.1], (NormSys(2.0, 0.001, "ub"),), name="background"),
    )
    model = build_model([Channel(samples, name="SR")])
    result = toys(model, model.data([0.0]), mu=1.0, number=400, key=jax.random.key(0))
    assert result.failed == (0, 0)
    assert result.message == "ok"


def test_toys_of_a_counting_experiment_have_the_exact_p_values() -> None:
    samples = (
        Template([4.0], (NormFactor("mu"),), name="signal"),
        Template([1.5], name="background"),
    )
    model = build_model([Channel(samples, name="SR")])
    result = toys(model, model.data([2.0]), mu=1.0, number=10000, key=jax.random.key(3))
    for found, error, mean in (
        (result.clsb, result.clsb_error, 5.5),
        (result.clb, result.clb_error, 1.5),
    ):
        assert abs(found - poisson.cdf(2, mean)) < 3 * error


def test_each_status_has_its_own_sentence() -> None:
    sentences = [describe(int(status)) for status in Status if status]
    assert len(set(sentences)) == len(sentences)
    assert all(sentence != "ok" for sentence in sentences)
    no_signal = counting(signal=0.0)
    result = upper_limit(no_signal, no_signal.data([50.0]))
    both = Status.UNBOUNDED | Status.NOT_BRACKETED
    assert joined(result.status) & both == both
    assert "within the range" not in result.message  # why, and not that it ended


def test_a_flat_valley_takes_as_many_steps_as_it_needs() -> None:
    """The product of two factors is known to 1e-4, their way to (9, 1/9) is a narrow bend."""
    a, b = NormFactor("a"), NormFactor("b")
    samples = (
        Template([1e8, 0.0], (a, b), name="product"),
        Template([0.0, 100.0], (a,), name="one"),
        Template([0.0, 1.0], (NormFactor("mu"),), name="s"),
    )
    model = build_model([Channel(samples, name="SR")])
    result = fit(model, model.data([1e8, 900.0]), fixed={"mu": 0.0})
    assert result.ok
    assert result.steps > 300
    np.testing.assert_allclose([result["a"], result["b"]], [9, 1 / 9], rtol=1e-6)
