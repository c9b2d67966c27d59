"""Categories that one network of several classes defines, each with bins of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import uproot

from difana._errors import ConfigError, InputError
from difana.analysis import (
    AnalysisResult,
    RegionEvents,
    TrainingOptions,
    apply,
    evaluate_from,
    load,
    observables_of,
    read_config,
    run,
)
from difana.analysis.category import Category, category_shares
from difana.analysis.desk import Desk
from difana.analysis.question import question_of
from difana.analysis.templates import in_category, observe
from difana.data import Events, Sample
from difana.infer import Inference
from difana.likelihood import build_model, channel_from_events
from difana.losses import class_entropy, objective_named
from difana.plot import analysis_report
from tests.analysis.conftest import fill, write_yaml

Config = dict[str, Any]


def categories(config: Config) -> None:
    """Two classes: signal and background, each a category."""
    config["Regions"] = [
        {
            "Name": "SR",
            "Filter": "mass > 60",
            "Categories": {"peak": "signal", "rest": ["background"]},
        },
        {"Name": "CR", "Filter": "pt < 30", "Variable": "mass", "Binning": [60, 100, 140, 900]},
    ]
    config["Systematics"][1]["Regions"] = ["SR"]


@pytest.fixture(scope="session")
def sorted_(tmp_path_factory: pytest.TempPathFactory) -> AnalysisResult:
    """An analysis with two categories that ran once."""
    folder = fill(tmp_path_factory.mktemp("categories"))
    path = write_yaml(folder / "analysis.yaml", categories)
    return run(path, folder / "out", progress=False)


def test_every_event_is_in_one_category(sorted_: AnalysisResult) -> None:
    summary = json.loads((sorted_.out / "result.json").read_text())
    assert summary["status"] == "ok"
    assert summary["regions"] == ["SR_peak", "SR_rest"]
    peak, rest = observables_of(sorted_.out)
    loaded = load(sorted_.config)
    assert loaded.regions[0].test is loaded.regions[1].test
    inputs = loaded.regions[0].test[1].nominal.inputs
    inside = [in_category(own.net, inputs) for own in (peak, rest)]
    assert (inside[0] ^ inside[1]).all()
    assert inside[0].any()
    assert inside[1].any()
    x, chosen = np.asarray(peak.net(inputs)).T
    np.testing.assert_array_equal(chosen == 1, inside[0])
    np.testing.assert_array_equal(chosen == 1, x > 0)  # two classes: the larger odds
    for i, name in enumerate(("signal", "background")):
        total = sum(
            np.sum(np.asarray(t.values))
            for channel in sorted_.channels[:2]
            for t in channel.templates
            if t.name == name
        )
        weights = loaded.regions[0].test[i].nominal.weights
        assert total == pytest.approx(float(np.sum(np.asarray(weights, float))), rel=1e-6)
    names = {m.name for c in sorted_.channels for t in c.templates for m in t.modifiers}
    assert {"slope", "staterror_SR_peak", "staterror_SR_rest"} <= names


def test_one_network_for_all_and_the_limit_of_all(sorted_: AnalysisResult, tmp_path: Path) -> None:
    peak, rest = observables_of(sorted_.out)
    for own, other in zip(
        jax.tree.leaves(peak.net.net), jax.tree.leaves(rest.net.net), strict=True
    ):
        np.testing.assert_array_equal(own, other)
    limits = Inference(sorted_.model).limits().expected
    np.testing.assert_allclose(sorted_.trained.limits, limits, rtol=1e-5)
    stages = {record["stage"] for record in sorted_.history}
    assert stages == {"cross-entropy", "expected_limit"}
    text = analysis_report(sorted_, tmp_path).read_text()
    assert "SR_peak" in text
    again = evaluate_from(sorted_.out, sorted_.config.path, tmp_path / "again", progress=False)
    assert again.trained.limits == sorted_.trained.limits


def test_category_of_every_event_of_a_file(sorted_: AnalysisResult, tmp_path: Path) -> None:
    source = sorted_.config.path.parent / "ntuples" / "background.root"
    apply(sorted_.out, str(source), tmp_path / "out.root", sample="background")
    with uproot.open(tmp_path / "out.root") as file:
        found = file["events"].arrays(library="np")
    peak, rest = (found[f"difana_bin_SR_{name}"] >= 0 for name in ("peak", "rest"))
    assert (peak ^ rest).all()
    np.testing.assert_array_equal(found["difana_region"], np.where(peak, 0, 1))
    np.testing.assert_array_equal(found["difana_score_SR_peak"] > 0, peak)
    part, weight = found["difana_part"], found["difana_weight"]
    test = part == 2
    factor = weight.sum() / weight[test].sum()
    for channel, inside in zip(sorted_.channels[:2], (peak, rest), strict=True):
        rows = inside & test
        bins = found[f"difana_bin_{channel.name}"][rows].astype(int)
        wanted = next(t for t in channel.templates if t.name == "background")
        counts = np.bincount(bins, weight[rows] * factor, len(np.asarray(wanted.values)))
        np.testing.assert_allclose(counts, wanted.values, rtol=1e-9)


def three() -> tuple[Any, list[Sample]]:
    """Return a network of three classes and events."""
    rng = np.random.default_rng(0)

    def sample(name: str, mean: float, **kwargs: Any) -> Sample:
        x = jnp.asarray(rng.normal(mean, 1.0, (300, 2)))
        return Sample(Events(x, jnp.full(300, 0.1)), name=name, **kwargs)

    samples = [sample("s", 1.0, normfactors=("mu",)), sample("b", 0.0), sample("c", -1.0)]
    return lambda x: jnp.stack([x[:, 0], 0.5 * x[:, 1], -x[:, 0] - 0.2], axis=1), samples


def test_soft_categories_become_the_hard_ones() -> None:
    net, samples = three()
    edges = jnp.array([-8.0, 0.2, 1.0, 8.0])
    for k in range(3):
        hard = channel_from_events(
            net, samples, edges=category_shares(k, edges, bandwidth=None), bandwidth=None
        )
        seen = observe(Category(net, k, 3), samples)
        soft = channel_from_events(
            net,
            samples,
            edges=category_shares(k, edges, bandwidth=1e-4, temperature=1e-4),
            bandwidth=None,
        )
        for own, near, one in zip(hard.templates, soft.templates, seen, strict=True):
            counts = np.histogram(one.nominal.x, edges, weights=one.nominal.weights)[0]
            np.testing.assert_allclose(own.values, counts, rtol=1e-6)
            np.testing.assert_allclose(near.values, own.values, rtol=0.02, atol=0.02)


def test_the_gradient_through_soft_categories() -> None:
    net, samples = three()
    edges = jnp.array([-8.0, 0.3, 8.0])
    objective = objective_named("expected_limit")

    def limit(scale: Any) -> Any:
        channels = [
            channel_from_events(
                lambda x: net(x * scale),
                samples,
                edges=category_shares(k, edges, bandwidth=0.3),
                bandwidth=None,
                name=f"SR_{k}",
            )
            for k in range(3)
        ]
        return objective(build_model(channels))

    at, step = jnp.array([1.0, 0.8]), 1e-5
    gradient = jax.jit(jax.grad(limit))(at)
    compiled = jax.jit(limit)
    for i in (0, 1):
        up, down = (float(compiled(at.at[i].add(sign * step))) for sign in (1, -1))
        assert float(gradient[i]) == pytest.approx((up - down) / (2 * step), rel=1e-4)


def test_a_category_that_gets_no_event_is_named() -> None:
    _, samples = three()
    both = (tuple(samples), tuple(samples))
    regions = [RegionEvents(f"SR_{name}", *both) for name in "abc"]
    question = question_of(TrainingOptions(), others=(), parameters=(), poi="mu")
    desk = Desk(regions, question, TrainingOptions(), staterror=True)
    nets = [
        Category(lambda x: jnp.stack([x[:, 0], x[:, 1], -99 + 0 * x[:, 0]], axis=1), k, 3)
        for k in range(3)
    ]
    with pytest.raises(InputError, match=r"region 'SR_c': no signal event is left"):
        desk.edges(desk.seen(nets), [2, 2, 2])


def test_the_entropy_of_classes_needs_a_class_for_each_sample() -> None:
    net, samples = three()
    value, _ = class_entropy(net, samples, classes={"s": 0, "b": 1, "c": 2})
    logs = [
        np.asarray(jax.nn.log_softmax(net(s.nominal.features)))[:, k] for k, s in enumerate(samples)
    ]
    assert float(value) == pytest.approx(-np.mean(logs), rel=1e-6)
    with pytest.raises(InputError, match="'c' is in no class"):
        class_entropy(net, samples, classes={"s": 0, "b": 1})
    with pytest.raises(InputError, match="2 classes need as many outputs"):
        class_entropy(net, samples, classes={"s": 0, "b": 1, "c": 1})


def of(config: Config) -> dict[str, Any]:
    return config["Regions"][0]["Categories"]


BAD: dict[str, tuple[Callable[[Config], Any], str]] = {
    "name of a region": (
        lambda c: c["Regions"][1].update(Name="SR_rest"),
        r":\d+: the category 'SR_rest' of region 'SR' has the name of a region",
    ),
    "unknown sample": (
        lambda c: of(c).update(peak="signl"),
        r":\d+: category 'peak' of region 'SR' refers to 'signl'.*Did you mean 'signal'",
    ),
    "sample in both": (
        lambda c: of(c).update(rest=["signal", "background"]),
        r":\d+: Categories of region 'SR': sample 'signal' is in 'peak' and 'rest'",
    ),
    "sample in none": (
        lambda c: c["Samples"].append({"Name": "top", "Files": "background.root"}),
        r":\d+: Categories of region 'SR': sample 'top' is in none",
    ),
    "one": (
        lambda c: c["Regions"][0].update(Categories={"all": ["signal", "background"]}),
        r":\d+: Categories of region 'SR': there is one",
    ),
    "fixed": (
        lambda c: c["Regions"][1].update(Categories={"a": "signal", "b": "background"}),
        r":\d+: Categories of region 'CR': the region has a Variable",
    ),
    "no mapping": (
        lambda c: c["Regions"][0].update(Categories=["signal"]),
        r":\d+: Regions\[0\].Categories must map categories to lists",
    ),
    "region of a factor": (
        lambda c: c.update(NormFactors=[{"Name": "mu", "Samples": "signal", "Regions": "SRR"}]),
        r":\d+: NormFactor 'mu' refers to 'SRR', which does not exist",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_with_its_line(case: str, tmp_path: Path) -> None:
    change, message = BAD[case]

    def edit(config: Config) -> None:
        categories(config)
        change(config)

    with pytest.raises(ConfigError, match=message):
        read_config(write_yaml(tmp_path / "analysis.yaml", edit))
