"""Cuts whose values are trained: gradients, templates, files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import ConfigError, InputError
from difana.analysis import (
    AnalysisResult,
    NetworkOptions,
    apply,
    evaluate_from,
    load,
    new_network,
    observable_of,
    observe,
    read_config,
    run,
    stretch_importance,
)
from difana.analysis.cuts import WithCuts, cut_samples, uncut
from difana.analysis.stages import stages_of
from difana.data import (
    Events,
    Normalisation,
    Sample,
    ShiftedEvents,
    Transformation,
    WeightVariation,
    read_events,
)
from difana.infer import expected_limits
from difana.likelihood import Channel, build_model, channel_from_events
from difana.plot import analysis_report
from tests.analysis.conftest import fill, table, write_root, write_yaml

EDGES = jnp.array([-9.0, -0.5, 0.5, 9.0])


def moved(x: Any, alpha: Any) -> Any:
    return x + 0.1 * alpha * jnp.array([1.0, 0.0])


def sample(name: str, mean: float, total: float, size: int, **options: Any) -> Sample:
    """Two variables: the first is cut, the second is the observable; evenly spread events."""
    i = np.arange(size) + 0.5
    even = jnp.asarray([i / size, (i * (np.sqrt(5) - 1) / 2) % 1])  # a lattice of golden ratio
    x = jax.scipy.stats.norm.ppf(even).T + mean * jnp.array([1.0, 0.7])
    events = Events(x, jnp.full(size, total / size), columns=("cut", "score"))
    shift = events.with_features(x + jnp.array([0.05, 0.1]))
    variations = (
        Transformation(function=moved, name="scale"),
        WeightVariation(
            up=events.weights * (1 + 0.05 * x[:, 0]),
            down=events.weights * (1 - 0.05 * x[:, 0]),
            name="slope",
        ),
        ShiftedEvents(up=shift, down=events, name="tail"),
        Normalisation(up=1.1, down=0.9, name=f"norm_{name}"),
    )
    return Sample(events, variations, name=name, **options)


def samples(size: int) -> tuple[Sample, ...]:
    return (
        sample("signal", 1.0, 20.0, size, normfactors=("mu",)),
        sample("background", 0.0, 300.0, size + 1),
    )


def score(x: Any) -> Any:
    return x[:, 1:2]


def log_limit(value: Any, width: float | None, own: tuple[Sample, ...], side: str = "above") -> Any:
    """Return the logarithm of the expected limit with a cut at a value."""
    net = WithCuts(score, jnp.atleast_1d(value), columns=(0,), sides=(side,))
    widths = None if width is None else [width]
    channel = channel_from_events(
        score, cut_samples(net, own, widths=widths), edges=EDGES,
        bandwidth=None if width is None else 0.1,
    )  # fmt: skip
    return jnp.log(expected_limits(build_model([channel]), median_only=True).median)


@pytest.mark.parametrize("side", ["above", "below"])
def test_the_gradient_of_the_limit_is_that_of_finite_differences(side: str) -> None:
    """All kinds of variations are cut where they move the events to."""
    own, step = samples(300), 1e-5
    value = jax.jit(lambda t: log_limit(t, 0.3, own, side))
    start = 0.2 if side == "above" else 1.2
    slope = float(jax.jit(jax.grad(value))(start))
    difference = (float(value(start + step)) - float(value(start - step))) / (2 * step)
    assert abs(slope) > 1e-3
    assert slope == pytest.approx(difference, rel=1e-5)


def test_the_soft_gradient_is_that_of_hard_cuts() -> None:
    """With enough events at the cut: the derivative of the limit that the analysis will have."""
    own, step = samples(20_000), 0.1
    hard = jax.jit(lambda t: log_limit(t, None, own))
    slope = float(jax.jit(jax.grad(lambda t: log_limit(t, 0.03, own)))(0.0))
    difference = (float(hard(step)) - float(hard(-step))) / (2 * step)
    assert slope == pytest.approx(difference, rel=0.05)
    assert float(jax.jit(jax.grad(lambda t: log_limit(t, None, own)))(0.0)) == 0.0


def test_hard_templates_hold_the_events_that_pass_in_each_variation() -> None:
    own = samples(300)
    net = WithCuts(score, jnp.array([0.2]), columns=(0,), sides=("above",))
    for before, after in zip(own, observe(net, own), strict=True):
        x, w = (np.asarray(leaf) for leaf in (before.nominal.features, before.nominal.weights))
        passes = x[:, 0] >= 0.2
        assert after.nominal.weights.sum() == pytest.approx(w[passes].sum())
        np.testing.assert_array_equal(after.nominal.x[after.nominal.weights > 0], x[passes, 1])
        shapes = {name: (up, down) for name, up, down in after.shapes}
        up, down = shapes["scale"]
        assert up.weights.sum() == pytest.approx(w[x[:, 0] + 0.1 >= 0.2].sum())
        assert down.weights.sum() == pytest.approx(w[x[:, 0] - 0.1 >= 0.2].sum())
        assert len(up.x) == len(down.x) == len(after.nominal.x)  # the bootstrap keeps them aligned
        up, _ = shapes["slope"]
        assert up.weights.sum() == pytest.approx((w * (1 + 0.05 * x[:, 0]))[passes].sum())
        up, _ = shapes["tail"]
        assert up.weights.sum() == pytest.approx(w[x[:, 0] + 0.05 >= 0.2].sum())
        assert after.norms == ((f"norm_{before.name}", 1.1, 0.9),)


def test_a_variable_of_cuts_alone_is_not_seen_by_the_network() -> None:
    own = samples(50)
    net = new_network(NetworkOptions(hidden=(4,), columns=1), own, key=jax.random.key(0))
    x = own[0].nominal.features
    assert net.net.mean.shape == (1,)
    assert jnp.array_equal(net(x), net(x.at[:, 1].add(5.0)))
    assert not jnp.array_equal(net(x), net(x.at[:, 0].add(5.0)))


def test_importance_leaves_out_what_fails() -> None:
    own = samples(200)

    def objective(channel: Channel) -> Any:
        return jnp.sum(channel.templates[0].values ** 2)

    net = WithCuts(score, jnp.array([0.2]), columns=(0,), sides=("above",))
    found = {
        name: stretch_importance(one, own, objective, edges=EDGES, bandwidth=0.3)
        for name, one in (("cut", net), ("whole", score))
    }
    passing = cut_samples(net, own)
    left = stretch_importance(score, passing, objective, edges=EDGES, bandwidth=0.3)
    np.testing.assert_allclose(found["cut"], left)
    assert not np.allclose(found["cut"], found["whole"], rtol=0.01)


CUTS = [
    {"Variable": "mass", "Start": 80},
    {"Variable": "mass", "Start": 190, "Side": "below", "Width": 15},
]


def with_cuts(config: dict[str, Any]) -> None:
    """The network sees no mass: the cuts alone find the peak."""
    config["Features"] = ["pt", "eta"]
    config["Cuts"] = [dict(cut) for cut in CUTS]
    scale = {"mass": "mass * (1 + 0.05 * alpha)", "pt": "pt * (1 + 0.05 * alpha)"}
    config["Systematics"][0]["Transform"] = scale
    config["Training"] |= {"Start": "cross-entropy", "Bins": 2, "Steps": 24, "CutRate": 0.05,
                           "ValidateEvery": 8, "Batch": 400}  # fmt: skip
    config["Samples"].append({"Name": "data", "Files": "data.root", "Data": True})


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> AnalysisResult:
    folder = fill(tmp_path_factory.mktemp("cuts"))
    write_root(folder / "ntuples" / "data.root", table("background", events=500))
    path = write_yaml(folder / "analysis.yaml", with_cuts)
    return run(path, folder / "out", progress=False)


def test_the_descent_moves_cuts_to_where_the_limit_is_lower(cut: AnalysisResult) -> None:
    low, high = (row["value"]["SR"] for row in cut.summary["cuts"])
    assert 85 < low < 125 < high < 185
    rows = {row["name"]: row for row in cut.summary["training"]["candidates"]}
    assert rows["cross-entropy, best bins"]["regions"]["SR"]["cuts"] == [80.0, 190.0]
    best = rows["trained on the objective"]
    assert best["regions"]["SR"]["cuts"] == [low, high]
    assert best["held_out"] < rows["cross-entropy, best bins"]["held_out"] - 0.05
    assert cut.trained.observable == "trained on the objective"
    said = [note for note in cut.summary["notes"] if note.startswith("cut mass")]
    assert said == [f"cut mass above {low:.5g}, 80 at the start",
                    f"cut mass below {high:.5g}, 190 at the start"]  # fmt: skip


def test_templates_and_data_are_those_of_events_that_pass(cut: AnalysisResult) -> None:
    low, high = (row["value"]["SR"] for row in cut.summary["cuts"])
    loaded = load(cut.config)
    assert loaded.test[0].nominal.columns == ("pt", "eta", "mass")
    for template, test in zip(cut.channels[0].templates, loaded.test, strict=True):
        mass, weights = (np.asarray(own) for own in (test.nominal["mass"], test.nominal.weights))
        wanted = weights[(mass >= low) & (mass < high)].sum()
        assert np.sum(template.values) == pytest.approx(wanted, rel=1e-6)
        (scale,) = [m for m in template.modifiers if m.name == "scale"]
        up = np.float32(1.05) * mass
        wanted = weights[(up >= low) & (up < high)].sum()
        assert np.sum(scale.hi) == pytest.approx(wanted, rel=1e-2)
        assert np.sum(scale.hi) != np.sum(template.values)
    mass = np.asarray(loaded.observed["mass"])
    assert cut.regions[0].data.sum() == ((mass >= low) & (mass < high)).sum()


def test_apply_and_evaluate_know_the_cuts(cut: AnalysisResult, tmp_path: Path) -> None:
    low, high = (row["value"]["SR"] for row in cut.summary["cuts"])
    folder = cut.out.parent / "ntuples"
    for everywhere in (False, True):
        target = tmp_path / "out.root"
        apply(cut.out, folder / "background.root", target, sample="background",
              everywhere=everywhere)  # fmt: skip
        names = ("mass", "difana_bin", "difana_region", "difana_score")
        columns = {name: f"fill({name}, -99)" for name in names}
        found = read_events(target, columns=columns, dtype=np.float64)
        mass, bins, region, scores = (np.asarray(found[name]) for name in names)
        passes = (mass >= low) & (mass < high)
        np.testing.assert_array_equal(bins >= 0, passes)
        np.testing.assert_array_equal(region >= 0, passes)
        np.testing.assert_array_equal(scores > -99, passes | everywhere)
    again = evaluate_from(cut.out, cut.config.path, tmp_path / "new", progress=False)
    assert again.trained.limits == cut.trained.limits
    assert again.summary["cuts"] == cut.summary["cuts"]
    assert type(observable_of(cut.out).net) is WithCuts


def test_other_cuts_do_not_fit_the_networks(cut: AnalysisResult, tmp_path: Path) -> None:
    def edit(config: dict[str, Any]) -> None:
        with_cuts(config)
        config["Cuts"][1]["Side"] = "above"
        config["Cuts"][1]["Variable"] = "pt"

    path = write_yaml(cut.out.parent / "other.yaml", edit)
    with pytest.raises(ConfigError, match=r"Cuts is mass above, pt above, the networks .* below"):
        evaluate_from(cut.out, path, tmp_path / "new", progress=False)


def test_the_report_shows_the_cuts(cut: AnalysisResult, tmp_path: Path) -> None:
    text = analysis_report(cut, tmp_path).read_text()
    low = cut.summary["cuts"][0]["value"]["SR"]
    assert "Trained cuts" in text
    assert f"{low:.5g}" in text


def test_folds_have_cuts_of_their_own_and_blinding_hides_the_data(
    folder: Path, write_config: Callable[..., Path]
) -> None:
    def edit(config: dict[str, Any]) -> None:
        with_cuts(config)
        config["General"] |= {"Split": {"Folds": 2}, "Blind": True}
        config["Training"] |= {"Steps": 8, "ValidateEvery": 4}

    found = run(write_config(edit), folder / "out", progress=False)
    values = [row["value"]["SR"] for row in found.summary["cuts"]]
    assert [len(own) for own in values] == [2, 2]
    assert len(set(values[0])) == 2
    loaded = load(found.config)
    total = 0.0
    for fold, low, high in zip(loaded.folds, *values, strict=True):
        own = fold.test[1].nominal
        mass = np.asarray(own["mass"])
        total += np.asarray(own.weights)[(mass >= low) & (mass < high)].sum()
    assert np.sum(found.channels[0].templates[1].values) == pytest.approx(total, rel=1e-6)


def test_a_moved_start_trains_on_the_objective_again(write_config: Callable[..., Path]) -> None:
    def edit(config: dict[str, Any], start: float = 80.0) -> None:
        config["Cuts"] = [{"Variable": "mass", "Start": start}]

    config = read_config(write_config(edit))
    loaded = load(config)
    moved = (dataclasses.replace(config.cuts[0], start=90.0),)
    before, after = (
        stages_of(own, loaded) for own in (config, dataclasses.replace(config, cuts=moved))
    )
    assert before["classify"] == after["classify"]
    assert dict(before["train"])["Cuts"] != dict(after["train"])["Cuts"]
    assert config.columns == ("mass", "pt", "eta")  # a feature is no column of its own
    assert config.network.columns is None


@pytest.mark.parametrize(
    ("cuts", "message"),
    [
        ([{"Start": 1}], "missing key 'Variable' in Cuts[0]"),
        ([{"Variable": "mass"}], "missing key 'Start' in Cuts[0]"),
        ([{"Variable": "mass", "Start": 1, "Side": "over"}], "must be one of 'above', 'below'"),
        ([{"Variable": "mass", "Start": 1, "Width": 0}], "Width must be above 0"),
        ([{"Variable": "mass >", "Start": 1}], "Cuts[0].Variable is not valid"),
        ([{"Variable": "mass", "Start": 1}] * 2, "a second cut on 'mass above'"),
        (
            [{"Variable": "mass", "Start": 90}, {"Variable": "mass", "Start": 80, "Side": "below"}],
            "the cuts on 'mass' keep nothing between 90 and 80",
        ),
    ],
)
def test_what_is_wrong_is_named(
    cuts: list[dict[str, Any]], message: str, write_config: Callable[..., Path]
) -> None:
    path = write_config(lambda config: config.update(Cuts=cuts))
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    assert message in str(caught.value)
    assert "analysis.yaml:" in str(caught.value)


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        ({"Variable": "mass", "Start": 1e6}, "no event of the signal passes .*mass above 1e"),
        ({"Variable": "1", "Start": 0}, "the cut variable '1' is 1 in all events"),
        ({"Variable": "masss", "Start": 0}, "no branch 'masss'"),
    ],
)
def test_cuts_that_keep_nothing_are_refused(
    cut: dict[str, Any], message: str, folder: Path, write_config: Callable[..., Path]
) -> None:
    def edit(config: dict[str, Any]) -> None:
        config["Cuts"] = [cut]
        config["Training"] |= {"Start": "cross-entropy", "PretrainSteps": 1}

    with pytest.raises(InputError, match=message):
        run(write_config(edit), folder / "out", progress=False)
    assert not (folder / "out" / "result.json").exists()
    assert json.dumps(cut)
    assert uncut(score) is score
