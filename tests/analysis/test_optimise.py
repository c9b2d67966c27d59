from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from difana._errors import ConfigError
from difana.analysis.best_bins import best_bins
from difana.analysis.candidates import CROSS_ENTROPY, DESCENT, SCORE, Candidate, chosen_of
from difana.analysis.conditions import (
    Closing,
    Subject,
    background_of,
    constraints_of,
    judged,
    nuisances_of,
    price,
)
from difana.analysis.optimise import optimise
from difana.analysis.options import ConstraintOptions, NetworkOptions, TrainingOptions
from difana.analysis.pooled import pooled
from difana.analysis.question import log_objective
from difana.analysis.templates import hard_channel, observe
from difana.data import is_signal, split
from difana.data.generate import resonance
from difana.infer import Status, expected_limits
from difana.likelihood import Channel, NormFactor, NormSys, StatError, Template, build_model
from difana.losses import OBJECTIVES, Objective

TINY = {
    "start": "cross-entropy",
    "bins": 4,
    "pretrain_steps": 40,
    "pretrain_batch": 256,
    "pretrain_rate": 5e-3,
    "steps": 12,
    "batch": 1000,
    "rate": 1e-3,
    "validate_every": 4,
    "minimum_events": 3.0,
}


@pytest.fixture(scope="module")
def splits():
    parts = [split(sample, (0.5, 0.3, 0.2)) for sample in resonance(seed=3, events=2000)]
    return tuple(zip(*parts, strict=True))


def recipe(splits, **changes):
    return optimise(
        splits[0],
        splits[1],
        network=NetworkOptions(hidden=(8,), activation="relu"),
        training=TrainingOptions(**{**TINY, **changes}),
        key=jax.random.key(0),
        progress_bar=False,
    )


@pytest.fixture(scope="module")
def optimised(splits):
    return recipe(splits)


def hard_limit(net, edges, samples):
    channel = hard_channel(observe(net, samples), np.asarray(edges), name="SR")
    return float(expected_limits(build_model([channel]), median_only=True).median)


def test_the_best_candidate_is_chosen_where_it_is_better_by_its_error():
    def candidates(*rows):
        names = (SCORE, CROSS_ENTROPY, DESCENT)
        return [Candidate((), n, *row) for n, row in zip(names, rows, strict=True)]

    near = candidates((-0.60, 0.0), (-0.61, 0.02), (-0.63, 0.05))
    assert chosen_of(near).name == SCORE
    far = candidates((-0.60, 0.0), (-0.65, 0.02), (-0.68, 0.05))
    assert chosen_of(far).name == DESCENT
    broken = candidates((np.inf, np.inf), (-0.65, np.inf), (-0.68, np.inf))
    assert chosen_of(broken).name == DESCENT


def test_the_result_is_never_worse_than_the_start_on_held_out_events(optimised):
    records = [r for r in optimised.history if r["stage"] == "expected_limit"]
    metrics = [r["metric"] for r in records if r["kind"] == "validation"]
    assert len(metrics) == 4
    assert min(metrics) <= metrics[0]


def test_the_validation_metric_is_the_limit_of_the_analysis(splits, optimised):
    records = [r for r in optimised.history if r["stage"] == "expected_limit"]
    best = min((r for r in records if r["kind"] == "validation"), key=lambda r: r["metric"])
    limit = hard_limit(optimised.net, optimised.edges, splits[1])
    assert np.log(limit) == pytest.approx(best["aux"]["objective"], abs=1e-3)


def test_the_baseline_was_trained_on_cross_entropy(optimised):
    records = [r for r in optimised.history if r["stage"] == "cross-entropy"]
    metrics = [r["metric"] for r in records if r["kind"] == "validation"]
    assert metrics[-1] < metrics[0]


def test_edges_increase(optimised):
    assert optimised.edges.shape == (5,)
    assert np.all(np.diff(optimised.edges) > 0)


def test_the_same_key_gives_the_same_result(splits, optimised):
    again = recipe(splits)
    same = jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), again.net, optimised.net)
    assert all(jax.tree.leaves(same))
    assert np.array_equal(again.edges, optimised.edges)


def test_a_trained_network_and_edges_are_taken(splits, optimised, monkeypatch):
    """Without the first stage, from given edges; nothing is compiled here."""
    calls = []

    def stub(loss, state, samples, **options):
        calls.append(options["stage"])
        return SimpleNamespace(trainable=state, history=(), status=0, diagnosis="")

    monkeypatch.setattr("difana.train.fit", stub)
    edges = np.array([-9.0, -1.0, 0.0, 1.0, 9.0])
    again = optimise(
        splits[0],
        splits[1],
        network=NetworkOptions(hidden=(8,), activation="relu"),
        training=TrainingOptions(**TINY),
        key=jax.random.key(0),
        baseline=optimised.baseline_net,
        edges=edges,
    )
    assert calls == ["expected_limit"]
    assert again.baseline_net is again.net is optimised.baseline_net
    assert again.edges == pytest.approx(edges, abs=1e-5)


def test_multipliers_are_trained_beside_network_and_edges(splits, optimised, monkeypatch):
    """They ascend by plain gradient steps of their own rate; nothing is compiled here."""
    seen = {}

    def stub(loss, state, samples, **options):
        seen.update(options, state=state)
        return SimpleNamespace(trainable=state, history=(), status=0, diagnosis="")

    monkeypatch.setattr("difana.train.fit", stub)
    wanted = ConstraintOptions(minimum_background=10.0, closure=0.1, rate=0.25)
    optimise(
        splits[0],
        splits[1],
        network=NetworkOptions(hidden=(8,), activation="relu"),
        training=TrainingOptions(**TINY, constraints=wanted),
        key=jax.random.key(0),
        baseline=optimised.baseline_net,
        edges=np.array([-9.0, -1.0, 0.0, 1.0, 9.0]),
    )
    trained = eqx.filter(seen["state"], seen["trained"])
    multipliers = trained["multipliers"]
    assert [m.shape for m in jax.tree.leaves(multipliers)] == [(4,), (4,)]
    ones = jax.tree.map(jnp.ones_like, trained)
    optimizer = seen["optimizer"]
    steps, _ = optimizer.update(ones, optimizer.init(trained), trained)
    assert np.concatenate(jax.tree.leaves(steps["multipliers"])) == pytest.approx(-0.25)


def test_the_score_is_that_of_the_recipe(splits, optimised):
    """`log_objective` is the logarithm of the limit and a penalty; best_bins returns it."""
    wanted = 500.0  # effective background events: more than there are in the purest bin
    score = log_objective(TrainingOptions(**{**TINY, "minimum_events": wanted}))
    seen = [observe(optimised.baseline_net, part) for part in splits[:2]]
    found = best_bins(seen, score, budget=120, bins=4)
    x = np.concatenate([sample.nominal.x for sample in pooled(seen)])
    edges = np.array([x.min(), *np.quantile(x, [0.4, 0.8, 0.99]), np.nextafter(x.max(), np.inf)])
    channel = hard_channel(pooled(seen), edges, name="SR")
    limit = float(expected_limits(build_model([channel]), median_only=True).median)
    background = [t for t in channel.templates if t.modifiers and not is_signal(t, "mu")]
    yields = sum(np.asarray(t.values) for t in background)
    errors = [m.uncertainty for t in background for m in t.modifiers if isinstance(m, StatError)]
    effective = yields**2 / sum(np.asarray(error) ** 2 for error in errors)
    poverty = np.sum(np.maximum(0.0, 1 - effective / wanted) ** 2)
    assert poverty > 0.1
    assert float(score(channel)) == pytest.approx(np.log(limit) + poverty, rel=1e-6)
    assert found.score <= float(score(channel)) + 1e-9
    again = score(hard_channel(pooled(seen), found.edges, name="SR"))
    assert found.score == pytest.approx(float(again), rel=1e-6)


def separation(model):
    """An objective that compiles in no time, for -ln(sum s^2 / b)."""
    b, both = (model.expected_main(model.init.at[model.poi_index].set(mu)) for mu in (0.0, 1.0))
    return -jnp.log(jnp.sum((both - b) ** 2 / b)), {"status": jnp.asarray(0)}


def test_conditions_hold_in_the_end(splits, optimised, monkeypatch):
    """The last bin begins with a tenth of the background it must have; the objective wants less."""
    monkeypatch.setitem(OBJECTIVES, "discovery", Objective("discovery", separation, ""))
    train = [observe(optimised.baseline_net, part) for part in splits[:2]]
    x = np.concatenate([sample.nominal.x for sample in pooled(train)[1:]])
    w = np.concatenate([sample.nominal.weights for sample in pooled(train)[1:]])
    order = np.argsort(-x)
    place = x[order][np.searchsorted(np.cumsum(w[order]), 30.0)]
    edges = np.array([x.min() - 1, *np.quantile(x, [0.3, 0.6]), place, place + 9.0])
    wanted = ConstraintOptions(minimum_background=300.0, closure=0.3, damping=4.0)
    training = TrainingOptions(
        **{
            **TINY,
            "objective": "discovery",
            "steps": 100,
            "edge_rate": 5e-3,
            "cross_entropy": 0.0,
            "rate": 1e-5,
            "validate_every": 5,
            "constraints": wanted,
        }
    )
    found = optimise(
        splits[0],
        splits[1],
        network=NetworkOptions(hidden=(8,), activation="relu"),
        training=training,
        key=jax.random.key(1),
        baseline=optimised.baseline_net,
        edges=edges,
        progress_bar=False,
    )
    # a bin without held-out background has no number here
    records = [r for r in found.history if r["kind"] == "validation" and r["metric"] is not None]
    assert records[0]["aux"]["minimum_background"] > 2.0  # ln(300 / 30) at the start
    best = min(records, key=lambda r: r["metric"])
    assert best["aux"]["minimum_background"] < 0.1  # at least 271 of 300, as steps are random
    assert best["aux"]["closure"] < 0.05
    channel = hard_channel(observe(found.net, splits[1]), found.edges, name="SR")
    assert float(background_of(channel, poi="mu")[-1]) > 270
    # and the condition costs something: the bins with it are no better without the price
    assert best["aux"]["objective"] > records[0]["aux"]["objective"]


def test_the_width_of_nuisances_is_judged():
    """100 events with 10 % and 5 %: sigma^2 = 1 - a^2 / (100 + a^2 + b^2), a = 10, b = 5."""
    norms = (NormSys(1.1, 0.9, "large"), NormSys(1.05, 0.95, "small"))
    b = Template([100.0, 100.0], norms, name="b")
    signal = Template([1.0, 0.0], (NormFactor("mu"),), name="s")
    channel = Channel((signal, b), name="SR")
    model = build_model([channel])
    asked = ConstraintOptions(nuisance_width=0.8)
    assert nuisances_of(asked, model) == ("large", "small")
    closing = Closing(jnp.ones(2), jnp.ones(2))
    (found,) = judged(asked, model, closing, channels=[channel])
    # mu takes the first bin: the second measures both
    assert found.found == pytest.approx(np.sqrt(1 - 100 / 225), rel=1e-3)
    assert (found.where, found.met, found.name) == ("large", False, "NuisanceWidth")
    (constraint,) = constraints_of(asked, model, channels=["SR"])
    cost, aux = eqx.filter_jit(lambda m: price([constraint], Subject(m)))(model)
    assert float(aux["nuisance_width"]) == pytest.approx(np.log(0.8 / found.found), rel=1e-6)
    assert float(cost) == pytest.approx(10 * float(aux["nuisance_width"]), rel=1e-6)
    only_small = ConstraintOptions(nuisance_width=0.8, nuisances=("small",))
    (found,) = judged(only_small, model, closing, channels=[channel])
    assert found.found == pytest.approx(np.sqrt(1 - 25 / 225), rel=1e-3)
    assert found.met
    with pytest.raises(ConfigError, match="no systematics"):
        nuisances_of(
            asked,
            build_model([Channel((Template([1.0], (NormFactor("mu"),), name="s"),), name="SR")]),
        )


def test_objectives_of_a_counting_experiment():
    """One bin without uncertainties: all objectives have a closed form."""
    s, b = 12.0, 50.0
    parts = (Template([s], (NormFactor("mu"),), name="s"), Template([b], name="b"))
    model = build_model([Channel(parts, name="SR")])
    q_asimov = 2 * (s - b * np.log1p(s / b))
    exact = {
        "expected_cls": np.log(2) + norm.logcdf(-np.sqrt(q_asimov)),
        "discovery": -np.sqrt(2 * ((s + b) * np.log1p(s / b) - s)),
        "signal_injection": -np.sqrt(2 * ((s + b) * np.log1p(s / b) - s)),
        "poi_uncertainty": np.log(np.sqrt(s + b) / s),
        "generalised_variance": np.log((s + b) / s**2),
    }
    target = norm.isf(0.025)

    def root(mu):
        return np.sqrt(2 * (mu * s - b * np.log1p(mu * s / b))) - target

    exact["expected_limit"] = np.log(brentq(root, 0.1, 10))
    assert set(exact) == set(OBJECTIVES)
    for name, objective in OBJECTIVES.items():
        assert float(eqx.filter_jit(objective)(model)) == pytest.approx(exact[name], rel=1e-6), name


def test_an_unknown_objective_is_refused(splits):
    with pytest.raises(ConfigError, match="Did you mean 'expected_limit'"):
        recipe(splits, objective="expected_limits")


def test_one_bin_is_refused(splits):
    with pytest.raises(ConfigError, match="at least two"):
        recipe(splits, bins=1)


def test_a_binning_without_a_limit_is_never_the_best(monkeypatch):
    """Pure bins without background, met in a search: no limit was found, its number was 1e-19."""
    status = [Status.NOT_BRACKETED | Status.NEGATIVE_YIELD, Status.AT_BOUND, Status.NOT_FINITE]
    found = SimpleNamespace(median=jnp.array([1e-19, 2.0, jnp.nan]), status=jnp.array(status))
    monkeypatch.setitem(
        OBJECTIVES["expected_limit"].of_model.__globals__,
        "expected_limits",
        lambda model, **options: found,
    )
    value = OBJECTIVES["expected_limit"](None)
    assert value.tolist() == [np.inf, pytest.approx(np.log(2)), np.inf]
