"""Two parameters of interest in two trained regions: from ROOT files to the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyhf
import pytest

from difana._errors import ConfigError
from difana.analysis import (
    AnalysisResult,
    TrainingOptions,
    efficient_score_of,
    evaluate_from,
    read_config,
    run,
)
from difana.analysis.interests import models_of
from difana.analysis.linear_limit import LinearLimit
from difana.analysis.question import question_of
from difana.data import Events, Sample
from difana.infer import Inference
from difana.likelihood import Channel, NormFactor, NormSys, Parameter, Template, build_model
from difana.losses import ScorePlan
from difana.plot import analysis_report
from tests.analysis.conftest import fill, table, write_root, write_yaml

Config = dict[str, Any]


def two_pois(config: Config) -> None:
    """Two signals in two regions; the second region has its observable for the second."""
    config["General"]["POI"] = ["mu_a", "mu_b"]
    config["Regions"] = [
        {"Name": "low", "Filter": "mass > 60 and pt < 40"},
        {"Name": "high", "Filter": "mass > 60 and pt >= 40", "POI": "mu_b", "Bins": 2},
    ]
    config["Samples"].insert(
        1, {"Name": "other", "Files": "other.root", "Weight": "weight", "Signal": True}
    )
    config["NormFactors"] = [
        {"Name": "mu_a", "Samples": "signal"},
        {"Name": "mu_b", "Samples": "other", "Bounds": [0, 20]},
    ]


def with_files(folder: Path) -> Path:
    """Add a second signal at higher masses and momenta."""
    columns = table("signal", shift=0.4)
    write_root(folder / "ntuples" / "other.root", {**columns, "pt": 1.5 * columns["pt"]})
    return folder


@pytest.fixture(scope="session")
def found(tmp_path_factory: pytest.TempPathFactory) -> AnalysisResult:
    """An analysis with two parameters of interest that ran once."""
    folder = with_files(fill(tmp_path_factory.mktemp("pois")))
    path = write_yaml(folder / "analysis.yaml", two_pois)
    return run(path, folder / "out", progress=False)


def test_limits_of_both_are_those_of_pyhf(found: AnalysisResult) -> None:
    spec = json.loads((found.out / "workspace.json").read_text())
    workspace = pyhf.Workspace(spec)
    assert workspace.measurement_names == ["measurement", "measurement_mu_b"]
    pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer(tolerance=1e-3))
    try:
        for poi, name in (("mu_a", "measurement"), ("mu_b", "measurement_mu_b")):
            own = found.trained.by_poi(("mu_a", "mu_b"))[poi]
            model = workspace.model(measurement_name=name)
            assert model.config.poi_name == poi
            data = workspace.data(model)
            for mu in (own.limits[1], own.limits[2]):
                _, band = pyhf.infer.hypotest(mu, data, model, return_expected_set=True)
                ours = Inference(models_of(found.model, ("mu_a", "mu_b"))[poi]).cls(mu).expected
                np.testing.assert_allclose(ours, band, atol=1e-5)
    finally:
        pyhf.set_backend("numpy")
    for poi, model in models_of(found.model, ("mu_a", "mu_b")).items():
        limits = Inference(model).limits().expected
        own = found.trained.by_poi(("mu_a", "mu_b"))[poi]
        np.testing.assert_allclose(own.limits, limits, rtol=1e-5)


def test_summary_intervals_and_plane(found: AnalysisResult) -> None:
    summary = json.loads((found.out / "result.json").read_text())
    assert summary["status"] == "ok"
    assert (summary["poi"], summary["pois"]) == ("mu_a", ["mu_a", "mu_b"])
    for row in summary["comparison"]:
        assert row["others"]["mu_b"]["limits"][2] > 0
    for name in ("mu_a", "mu_b"):
        value, low, high = summary["intervals"][name]
        assert value == pytest.approx(1.0, abs=1e-3)  # Asimov data with both at 1
        assert low < 1 < high
    plane = found.statistics.plane
    assert plane is not None
    rise = np.asarray(plane.twice_delta_nll)
    assert rise.min() == pytest.approx(0, abs=0.1)
    # the profile along one axis is that of the interval
    value, _, high = summary["intervals"]["mu_a"]
    profile = rise.min(axis=1)
    np.testing.assert_allclose(np.interp(high, plane.values[0], profile), 1.0, rtol=0.2)
    rows = {row["name"]: row["regions"] for row in summary["training"]["candidates"]}
    plans = [rows["efficient score, best bins"][r]["network"]["plan"] for r in ("low", "high")]
    assert [plan["pois"] for plan in plans] == [["mu_a", "mu_b"], ["mu_b", "mu_a"]]


def test_the_report_shows_both(found: AnalysisResult, tmp_path: Path) -> None:
    text = analysis_report(found, tmp_path).read_text()
    for name in ("cls_scan", "cls_scan_mu_b", "plane", "low_postfit", "high_roc"):
        assert (tmp_path / "plots" / f"{name}.png").is_file()
    assert "mu_b &lt; " in text
    assert '<th class="number">mu_b &lt;</th>' in text


def test_evaluated_again_with_the_other_held(found: AnalysisResult, tmp_path: Path) -> None:
    folder = found.config.path.parent

    def edit(config: Config) -> None:
        two_pois(config)
        config["General"]["OtherPOIs"] = "fixed"

    path = write_yaml(folder / "fixed.yaml", edit)
    again = evaluate_from(found.out, path, tmp_path / "fixed", progress=False)
    profiled, held = (r.trained.by_poi(("mu_a", "mu_b")) for r in (found, again))
    for name in ("mu_a", "mu_b"):
        assert held[name].limits[2] <= profiled[name].limits[2] * (1 + 1e-6)
    spec = json.loads((tmp_path / "fixed" / "workspace.json").read_text())
    settings = [
        {p["name"]: p.get("fixed", False) for p in m["config"]["parameters"]}
        for m in spec["measurements"]
    ]
    assert settings[0]["mu_b"]
    assert not settings[0]["mu_a"]
    assert settings[1]["mu_a"]


def channel(name: str = "SR") -> Channel:
    """Two signals that are partly alike, and a background with a normalisation."""
    a = Template([2.0, 5.0, 3.0], (NormFactor("a"),), name="a")
    b = Template([4.0, 2.0, 6.0], (NormFactor("b"),), name="b")
    c = Template([90.0, 40.0, 25.0], (NormSys(1.1, 1 / 1.1, "norm"),), name="c")
    return Channel((a, b, c), name=name)


@pytest.mark.parametrize("others", ["profiled", "fixed"])
def test_the_objective_is_the_sum_of_the_logarithms_of_the_limits(others: str) -> None:
    names, fixed = ("a", "b"), others == "fixed"
    settings = tuple(Parameter(name, init=0.0, bounds=((-20.0, 50.0),)) for name in names)
    options: dict[str, Any] = {"others": (), "parameters": settings, "others_fixed": fixed}
    training = TrainingOptions(penalty=0.0)
    question = question_of(training, poi=names, **options)
    model = build_model([channel()], poi="a", parameters=settings)
    limits = [
        Inference(own).limits().median for own in models_of(model, names, fixed=fixed).values()
    ]
    value = float(jax.jit(lambda: question([channel()])[0])())
    assert value == pytest.approx(np.log(limits).sum(), rel=1e-6)
    one = question_of(TrainingOptions(penalty=0.0, objective_poi="b"), poi=names, **options)
    assert float(one([channel()])[0]) == pytest.approx(np.log(limits[1]), rel=1e-6)


def test_linear_limits_of_two_are_profiled_over_each_other() -> None:
    """The square of the first uncertainty is the first entry of the inverse information."""
    linear = LinearLimit(channel(), poi=("a", "b"))
    found = linear.sigmas(np.array([[0, 1, 2, 3]]))[0]
    a, b, c = (np.asarray(t.values) for t in channel().templates)
    move = c * np.log(1.1)
    inverse = np.linalg.inv(np.diag(c) + np.outer(move, move))
    rows = np.stack([a, b])
    wanted = np.sqrt(np.diag(np.linalg.inv(rows @ inverse @ rows.T)))
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    mean = 1.959964 * np.sqrt(wanted.prod())
    np.testing.assert_allclose(linear.limit(np.array([[0, 1, 2, 3]])), mean, rtol=1e-5)


def test_the_efficient_score_of_one_is_orthogonal_to_the_other() -> None:
    x = np.linspace(-4, 4, 4001)[:, None]

    def gauss(mean: float, total: float) -> Events:
        weights = np.exp(-((x[:, 0] - mean) ** 2) / 2)
        return Events(jax.numpy.asarray(x), jax.numpy.asarray(total * weights / weights.sum()))

    samples = [
        Sample(gauss(1.0, 10.0), name="a", normfactors=("a",)),
        Sample(gauss(1.8, 10.0), name="b", normfactors=("b",)),
        Sample(gauss(0.0, 300.0), name="c"),
    ]

    def ratios(x: Any) -> Any:
        return jax.numpy.concatenate([x - 0.5, 1.8 * x - 1.62], axis=1)

    score = efficient_score_of(ratios, samples, plan=ScorePlan.of(samples, pois=("b", "a")))
    swapped = efficient_score_of(
        lambda x: ratios(x)[:, ::-1], samples, plan=ScorePlan.of(samples, pois=("b", "a"))
    )
    assert not np.allclose(score.mix, swapped.mix)
    t = np.asarray(swapped.scores(jax.numpy.asarray(x)))
    products = np.asarray(samples[2].nominal.weights) @ ((t @ swapped.mix[0])[:, None] * t)
    assert abs(products[1]) < 1e-4 * products[0]


BAD: dict[str, tuple[Callable[[Config], Any], str]] = {
    "unknown": (
        lambda c: c["General"].update(POI=["mu_a", "mu_c"]),
        r":\d+: POI 'mu_c' is none of the NormFactors. Did you mean 'mu_",
    ),
    "twice": (lambda c: c["General"].update(POI=["mu_a", "mu_a"]), "names 'mu_a' twice"),
    "none of the factors": (
        lambda c: c.pop("NormFactors"),
        r":\d+: POI 'mu_a' is none of the NormFactors.*Of several, each needs one",
    ),
    "no sample": (
        lambda c: c["NormFactors"][1].update(Samples="othr"),
        r":\d+: NormFactor 'mu_b' refers to 'othr', which does not exist. Did you mean 'other'",
    ),
    "one sample for both": (
        lambda c: c["NormFactors"][1].update(Samples=["other", "signal"]),
        r":\d+: sample 'signal' is multiplied by the POIs 'mu_a' and 'mu_b'",
    ),
    "signal of none": (
        lambda c: c["General"].update(POI="mu_a"),
        r":\d+: sample 'other' is signal, but the POI 'mu_a' does not multiply it",
    ),
    "region for none": (
        lambda c: c["Regions"][1].update(POI="mu"),
        r":\d+: 'POI' of region 'high' refers to 'mu', which does not exist. Did you mean 'mu_",
    ),
    "region without it": (
        lambda c: c["Samples"][1].update(Regions="low"),
        r":\d+: 'POI' of region 'high': 'mu_b' multiplies no sample there",
    ),
    "trained for none": (
        lambda c: c["Training"].update(ObjectivePOI="mu"),
        r":\d+: Training.ObjectivePOI refers to 'mu', which does not exist.",
    ),
    "others": (
        lambda c: c["General"].update(OtherPOIs="held"),
        r":\d+: General.OtherPOIs must be one of",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_with_its_line(case: str, tmp_path: Path) -> None:
    change, message = BAD[case]

    def edit(config: Config) -> None:
        two_pois(config)
        change(config)

    with pytest.raises(ConfigError, match=message):
        read_config(write_yaml(tmp_path / "analysis.yaml", edit))
