from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import ConfigError, InputError, ModelError
from difana.data.generate import gaussian_levels, gaussian_recursion
from difana.nn import MLP
from difana.unfold import OmniFold, Settings, unfolding_problem


def small(key):
    return MLP(1, [32], activation="silu", key=key)


SMALL = {
    "gen_net": small, "reco_net": small, "iterations": 3, "epochs": 25, "batch_size": 500,
    "learning_rate": 1e-2, "patience": 4,
}  # fmt: skip


def moments(problem, log_weights):
    w = np.asarray(problem.gen_weights * np.exp(log_weights) * problem.pass_gen)
    z = np.asarray(problem.gen)[:, 0]
    mean = np.average(z, weights=w)
    return mean, np.sqrt(np.average((z - mean) ** 2, weights=w))


@pytest.fixture(scope="module")
def minimal():
    toy = gaussian_levels("minimal", key=jax.random.key(4), events=10_000)
    return unfolding_problem(**toy.inputs(), names=("z",))


@pytest.fixture(scope="module")
def fitted(minimal):
    return OmniFold(**SMALL, bootstraps=1).fit(minimal, key=jax.random.key(5))


def test_iterations_follow_the_exact_recursion(minimal, fitted):
    expected = gaussian_recursion("minimal", iterations=3)
    found = [moments(minimal, log[0]) for log in fitted.result.log_weights]
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_report_and_norm(minimal, fitted):
    report = fitted.result.report
    assert report.norm.shape == (3, 2)
    np.testing.assert_allclose(report.norm[:, 0], 1.0, atol=0.05)
    w = np.exp(fitted.result.log_weights[-1, 0])
    np.testing.assert_allclose(
        report.effective[-1, 0], w.sum() ** 2 / 1e4 / (w**2).sum(), rtol=1e-4
    )
    np.testing.assert_allclose(report.largest[-1, 0], w.max(), rtol=1e-5)
    assert report.change[0, 0] > report.change[-1, 0]
    assert int(report.epochs.max()) <= 25
    assert int(report.epochs.min()) < 25  # stopped early
    assert int(report.saturated.max()) == 0


def test_weights_of_other_events_are_those_of_the_fit(minimal, fitted):
    again = fitted.weights(minimal.gen)
    np.testing.assert_allclose(again, fitted.weights(), rtol=1e-4)
    np.testing.assert_allclose(fitted.weights(minimal.gen[:7, 0]), again[:7], rtol=1e-4)


def test_unfolded_events_are_histogrammed_with_replicas(minimal, fitted):
    events = fitted.unfolded()
    assert list(events.replicas) == ["bootstrap"]
    h = events.histogram("z", [-10.0, 0.0, 10.0])
    np.testing.assert_allclose(h.values.sum(), events.weights.sum(), rtol=1e-6)


@pytest.mark.slow
def test_chunks_do_not_change_the_result(minimal, fitted):
    parts = OmniFold(**SMALL, bootstraps=1, chunk=1).fit(minimal, key=jax.random.key(5))
    np.testing.assert_allclose(
        parts.result.log_weights[0], fitted.result.log_weights[0], atol=2e-3
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("background", ["subtract", "add"])
def test_background_fakes_and_misses_keep_the_yield(background):
    toy = gaussian_levels("full", key=jax.random.key(6), events=10_000)
    weights = np.full(10_000, 0.5)
    problem = unfolding_problem(**toy.inputs(), gen_weights=weights)
    model = OmniFold(**SMALL, missed="learned", fakes="learned", background=background)
    model = model.fit(problem, key=jax.random.key(7))
    mean, sd = moments(problem, model.result.log_weights[-1, 0])
    assert abs(mean - float(toy.truth.mean())) < 0.06
    assert abs(sd - float(toy.truth.std())) < 0.06
    # the simulation has half the yield of the data
    total = float(model.unfolded().weights.sum())
    np.testing.assert_allclose(total, len(toy.truth), rtol=0.04)
    assert float(jnp.abs(model.unfolded().weights[~problem.pass_gen]).sum()) == 0.0


def test_a_number_that_is_not_finite_stops_the_run(minimal):
    broken = eqx.tree_at(lambda p: p.data_weights, minimal, minimal.data_weights.at[0].set(jnp.nan))
    with pytest.raises(ModelError, match=r"replicas \[0, 1\]: a value was not finite"):
        OmniFold(**SMALL, bootstraps=1).fit(broken, key=jax.random.key(0))


@pytest.mark.slow
def test_the_cap_is_counted(minimal):
    model = OmniFold(**SMALL | {"cap": 0.1, "iterations": 1}).fit(minimal, key=jax.random.key(1))
    assert int(model.result.report.saturated[-1, 0]) > 1000
    assert float(jnp.abs(model.result.log_weights).max()) <= 0.1 + 1e-6
    assert "cap of the weights" in model.unfolded().describe()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iterations": 0}, "iterations = 0"),
        ({"held_out": 1.0}, "held_out"),
        ({"cap": -1.0}, "cap"),
        ({"missed": "drop"}, "missed = 'drop'"),
    ],
)
def test_wrong_settings_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        Settings(**change).check()


def test_wrong_use_is_refused(minimal, fitted):
    with pytest.raises(InputError, match="not fitted"):
        OmniFold().weights()
    with pytest.raises(InputError, match="seeds = 0"):
        OmniFold(seeds=0).fit(minimal, key=jax.random.key(0))
    with pytest.raises(InputError, match="gen has columns"):
        fitted.weights(np.ones((3, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("toy", ["minimal", "shifted", "blurred"])
def test_recursion_within_a_hundredth(toy):
    levels = gaussian_levels(toy, key=jax.random.key(8), events=400_000)
    problem = unfolding_problem(**levels.inputs())
    settings = {"iterations": 5, "epochs": 40, "batch_size": 4000, "learning_rate": 3e-3}
    model = OmniFold(**SMALL | settings).fit(problem, key=jax.random.key(9))
    found = [moments(problem, log[0]) for log in model.result.log_weights]
    np.testing.assert_allclose(found, gaussian_recursion(toy, iterations=5), atol=0.01)
