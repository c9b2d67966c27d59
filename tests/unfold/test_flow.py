from __future__ import annotations

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from difana._errors import ConfigError, InputError
from difana.data.generate import gaussian_levels, gaussian_recursion
from difana.train import Training
from difana.unfold import fit_flow_unfolding, unfolding_problem

TRAINING = Training(epochs=30, batch_size=250, learning_rate=1e-2, patience=8)
SMALL = {"samples": 4, "layers": 1, "bins": 6, "hidden": (16,), "training": TRAINING}


def moments(values, weights):
    mean = np.average(values, weights=weights)
    return mean, np.sqrt(np.average((values - mean) ** 2, weights=weights))


@pytest.fixture(scope="module")
def fitted():
    toy = gaussian_levels("full", key=jax.random.key(3), events=6_000)
    problem = unfolding_problem(
        **toy.inputs(), gen_weights=np.full(6_000, 0.5), names=("z",), units=("GeV",)
    )
    return toy, fit_flow_unfolding(
        problem, key=jax.random.key(5), **SMALL, bootstraps=30, retrain=False
    )


def test_yield_and_moments_with_fakes_misses_and_background(fitted):
    toy, model = fitted
    events = model.unfolded()
    assert events.message == "ok"
    assert events.observables.shape == (len(events.weights), 1)
    # one iteration: between the simulation at (0, 1) and the truth at (0.2, 0.8)
    mean, sd = moments(np.asarray(events.observables)[:, 0], np.asarray(events.weights))
    expected = gaussian_recursion("full", iterations=1)[0]
    replicas = np.asarray(events.replicas["bootstrap"])
    scatter = np.std([moments(np.asarray(events.observables)[:, 0], w) for w in replicas], axis=0)
    assert scatter.max() < 0.02
    assert np.all(np.abs(np.array([mean, sd]) - expected) < 4 * scatter)
    # fakes of half the weight stay: 10 % of 0.5 per event less are subtracted
    total = float(events.weights.sum())
    in_data = len(toy.data) - 600 - 0.5 * float((~toy.pass_gen & toy.pass_reco).sum())
    efficiency = float((toy.pass_gen & toy.pass_reco).sum() / toy.pass_gen.sum())
    np.testing.assert_allclose(total, in_data / efficiency, rtol=0.04)


def test_bootstraps_move_all_draws_of_an_event_together(fitted):
    _, model = fitted
    events = model.unfolded()
    replicas = np.asarray(events.replicas["bootstrap"])
    factors = (replicas / np.asarray(events.weights)).reshape(30, -1, 4)
    np.testing.assert_allclose(factors, factors[..., :1].repeat(4, -1), rtol=1e-5)
    h = events.histogram("z", [-10.0, 0.2, 10.0])
    assert float(h.errors[0]) > 0.5 * np.sqrt(float(h.values[0]))
    np.testing.assert_allclose(h.values.sum(), events.weights.sum(), rtol=1e-5)


def test_the_posterior_of_an_event(fitted):
    _, model = fitted
    draws = np.asarray(model.sample(np.array([-1.0, 1.0]), key=jax.random.key(0), samples=2000))
    assert draws.shape == (2, 2000, 1)
    # simulated N(0, 1), resolution 0.5
    np.testing.assert_allclose(draws.mean(axis=(1, 2)), [-0.8, 0.8], atol=0.12)
    np.testing.assert_allclose(draws.std(axis=(1, 2)), np.sqrt(0.2), rtol=0.2)
    again = model.sample(np.array([-1.0]), key=jax.random.key(0), samples=2000)
    np.testing.assert_allclose(again[0], draws[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("toy", "iterations"), [("minimal", 1), pytest.param("full", 2, marks=pytest.mark.slow)]
)
def test_bootstraps_hold_the_simulation_and_the_training_too(toy, iterations):
    toy = gaussian_levels(toy, key=jax.random.key(8), events=1_000)
    problem = unfolding_problem(**toy.inputs(), names=("z",))
    training = Training(epochs=12, batch_size=100, learning_rate=1e-2)
    named = SMALL | {"training": training, "bootstraps": 5, "iterations": iterations}
    plain, whole = (
        fit_flow_unfolding(problem, key=jax.random.key(9), retrain=retrain, **named)
        for retrain in (False, True)
    )
    np.testing.assert_array_equal(plain.draws, whole.draws)  # the nominal one stays
    np.testing.assert_array_equal(plain.draw_weights, whole.draw_weights)
    assert whole.bootstraps.shape == (5, *whole.draw_weights.shape)
    # weights of the same draws: of every one on average that of the efficiencies
    ratio = np.asarray(whole.bootstraps.sum((1, 2)) / (4 * plain.bootstraps.sum((1, 2))))
    np.testing.assert_allclose(ratio, 1.0, atol=0.15)
    edges = np.array([-1.5, -0.5, 0.5, 1.5])
    errors = [np.asarray(r.unfolded().histogram("z", edges).errors) for r in (plain, whole)]
    assert (errors[1] > errors[0]).all()


@pytest.mark.slow
def test_iterations_follow_the_exact_recursion():
    toy = gaussian_levels("minimal", key=jax.random.key(5), events=40_000)
    problem = unfolding_problem(**toy.inputs())
    training = Training(epochs=15, batch_size=1000, learning_rate=3e-3, patience=8)
    settings = SMALL | {"layers": 2, "hidden": (32, 32), "training": training}
    model = fit_flow_unfolding(problem, key=jax.random.key(6), **settings, iterations=3)
    expected = gaussian_recursion("minimal", iterations=3)
    z = np.asarray(problem.gen)[:, 0]
    assert model.log_weights.shape == (2, 40_000)
    found = [moments(z, np.exp(log)) for log in np.asarray(model.log_weights)]
    events = model.unfolded()
    found.append(moments(np.asarray(events.observables)[:, 0], np.asarray(events.weights)))
    np.testing.assert_allclose(found, expected, atol=0.03)


def test_a_second_iteration_starts_from_the_unfolded_spectrum(monkeypatch):
    """Without training: what the flow and the classifier are given."""
    seen, ratios = [], []

    def fit_flow(flow, gen, reco, *, weights, **_):
        seen.append(np.asarray(weights))
        return SimpleNamespace(flow=flow, ok=True, message="ok")

    def fit_ratio(rows, **_):
        ratios.append((np.asarray(rows.above), np.asarray(rows.below)))
        return SimpleNamespace(log_ratio=lambda z: 0.5 * z[:, 0])

    for name, stub in (
        ("coupling_flow", lambda *_, **__: SimpleNamespace(dropped=())), ("fit_flow", fit_flow),
        ("fit_ratio", fit_ratio), ("drawn", lambda _, reco, key, samples: reco[:, None] + 1.0),
    ):  # fmt: skip
        monkeypatch.setitem(fit_flow_unfolding.__globals__, name, stub)
    z = np.array([0.0, 1.0, 2.0, 3.0])
    problem = unfolding_problem(
        z, z, z[:3], gen_weights=np.full(4, 3.0), reco_weights=[1.0, 2.0, 3.0, 4.0],
        pass_reco=z != 1.0,
    )  # fmt: skip
    model = fit_flow_unfolding(problem, key=jax.random.key(0), iterations=2, samples=1, cap=1.2)
    push = np.minimum(0.5 * z, 1.2)
    np.testing.assert_allclose(model.log_weights, push[None])
    np.testing.assert_allclose(seen[0], [1.0, 3.0, 4.0])
    np.testing.assert_allclose(seen[1], (np.array([1.0, 2.0, 3.0, 4.0]) * np.exp(push))[z != 1.0])
    # efficiency: reconstructed over all; unfolded: draws over the simulated truth
    np.testing.assert_allclose(ratios[0], [[1.0, 0.0, 3.0, 4.0], [3.0] * 4])
    unfolded = np.exp(-np.minimum(0.5 * (z[:3] + 1.0), 1.2))
    np.testing.assert_allclose(ratios[1], [[*unfolded, *[0.0] * 4], [*[0.0] * 3, *[3.0] * 4]])
    np.testing.assert_allclose(model.unfolded().weights, unfolded, rtol=1e-6)


@pytest.mark.slow
def test_an_interrupted_training_continues(tmp_path):
    toy = gaussian_levels("minimal", key=jax.random.key(5), events=2_000)
    problem = unfolding_problem(**toy.inputs())
    first, again = (
        fit_flow_unfolding(problem, key=jax.random.key(6), checkpoint=tmp_path, **SMALL)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.draws, again.draws)
    assert (tmp_path / "flow_0").is_dir()


def test_wrong_use_is_refused(fitted):
    _, model = fitted
    with pytest.raises(InputError, match="reco has columns"):
        model.sample(np.ones((3, 2)), key=jax.random.key(0))
    for change, message in (
        ({"iterations": 0}, "iterations = 0"),
        ({"samples": 0}, "samples = 0"),
        ({"cap": -1.0}, "cap = -1"),
        ({"bootstraps": -1}, "bootstraps = -1"),
    ):
        with pytest.raises(ConfigError, match=message):
            fit_flow_unfolding(model.problem, key=jax.random.key(0), **change)
    cloud = np.ones((5, 3, 2))
    with pytest.raises(InputError, match="not particles"):
        fit_flow_unfolding(unfolding_problem(cloud, cloud, cloud), key=jax.random.key(0))
