from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import ConfigError, InputError, ModelError
from difana.data.generate import acceptance_levels, gaussian_levels, gaussian_recursion
from difana.nn import MLP
from difana.ratio import log_mean
from difana.train import Training
from difana.unfold import Replicas, Settings, fit_omnifold, unfolding_problem
from difana.unfold._levels import split
from difana.unfold.report import summary

SHORT = Training(epochs=8, batch_size=1000, learning_rate=3e-2, final_rate=0.02, patience=8)
LONG = Training(epochs=30, batch_size=2000, learning_rate=5e-3, final_rate=0.01, patience=8)


def small(key):
    return MLP(1, [32, 32], activation="silu", key=key)


@pytest.fixture(scope="module")
def minimal():
    toy = gaussian_levels("minimal", key=jax.random.key(4), events=20_000)
    return unfolding_problem(**toy.inputs(), names=("z",))


@pytest.fixture(scope="module")
def exact(quadratic):
    """Settings with networks that can represent the answer: what is left is the algorithm."""
    nets = {"gen_net": quadratic(1), "reco_net": quadratic(1)}
    return {"iterations": 3, "training": SHORT, **nets}


@pytest.fixture(scope="module")
def fitted(minimal, exact):
    scale = {"scale": {"gen": np.full(20_000, 1.1), "reco": np.full(20_000, 1.1)}}
    replicas = Replicas(bootstraps=1, variations=scale)
    return fit_omnifold(minimal, key=jax.random.key(5), replicas=replicas, **exact)


def test_iterations_follow_the_exact_recursion(minimal, fitted, moments):
    expected = gaussian_recursion("minimal", iterations=3)
    found = [moments(minimal, log[0]) for log in fitted.log_weights]
    np.testing.assert_allclose(found, expected, atol=0.03)


def test_report_and_norm(minimal, fitted):
    report = fitted.report
    assert report.norm.shape == (3, 3)
    np.testing.assert_allclose(report.norm[:, 0], 1.0, atol=1e-4)  # no fakes: exactly the data
    w = np.exp(fitted.log_weights[-1, 0])
    np.testing.assert_allclose(
        report.effective[-1, 0], w.sum() ** 2 / 2e4 / (w**2).sum(), rtol=1e-4
    )
    np.testing.assert_allclose(report.largest[-1, 0], w.max(), rtol=1e-5)
    assert report.change[0, 0] > report.change[-1, 0]
    assert report.chi2[0, 0] > 2 > report.chi2[-1, 0]
    assert int(report.saturated.max()) == 0
    assert bool(report.ran.all())
    assert len(report.table().splitlines()) == 4


def test_fold_forward_chi2_is_that_of_numpy(minimal, fitted):
    p = jax.tree.map(np.asarray, minimal)
    edges = np.quantile(p.data[:, 0], np.linspace(0, 1, 21))
    edges[0], edges[-1] = -np.inf, np.inf
    w = np.exp(np.asarray(fitted.log_weights[1, 0], float))
    d, s, v = (
        np.histogram(x[:, 0], edges, weights=y)[0]
        for x, y in ((p.data, None), (p.reco, w), (p.reco, w**2))
    )
    expected = np.mean((d - s) ** 2 / (d + v))
    np.testing.assert_allclose(fitted.report.chi2[1, 0], expected, rtol=1e-4)


def test_weights_of_other_events_are_those_of_the_fit(minimal, fitted):
    again = fitted.weights(minimal.gen)
    np.testing.assert_allclose(again, fitted.weights(), rtol=1e-4)
    np.testing.assert_allclose(fitted.weights(minimal.gen[:7, 0]), again[:7], rtol=1e-4)


def test_unfolded_events_bring_replicas_and_variations(fitted):
    events = fitted.unfolded()
    assert list(events.replicas) == ["bootstrap"]
    h = events.histogram("z", [-10.0, 0.0, 10.0])
    np.testing.assert_allclose(h.values.sum(), events.weights.sum(), rtol=1e-6)
    # a scale of the simulation alone changes its weights and nothing else
    np.testing.assert_allclose(events.variations["scale"], events.weights, rtol=2e-3)
    assert float(fitted.report.norm[-1, 2]) == pytest.approx(1 / 1.1, rel=1e-4)


def test_the_run_stops_at_tolerance_cap_and_non_finite_numbers(minimal, exact):
    training = dataclasses.replace(SHORT, patience=1)
    exact = exact | {"training": training, "cap": 0.1, "tolerance": 1.0}
    broken = eqx.tree_at(lambda p: p.data_weights, minimal, minimal.data_weights.at[0].set(jnp.nan))
    with pytest.raises(ModelError, match=r"replicas \[0\]: a value was not finite"):
        fit_omnifold(broken, key=jax.random.key(0), **exact)
    result = fit_omnifold(minimal, key=jax.random.key(0), **exact)
    assert result.report.ran[:, 0].tolist() == [True, False, False]
    epochs = result.report.epochs[:, 0]
    assert 2 <= int(epochs[0].min()) < SHORT.epochs  # stopped early
    assert int(epochs[1:].max()) == 0
    logs = result.log_weights[:, 0]
    np.testing.assert_array_equal(logs[1], logs[0])
    np.testing.assert_array_equal(logs[2], logs[0])
    # step 2 averages weights that step 1 has cut: few of them reach the cap themselves
    assert int(result.report.saturated[-1, 0]) > 100
    assert float(jnp.abs(logs).max()) <= 0.1 + 1e-6
    assert "cap of the weights" in result.unfolded().message


def test_fakes_misses_and_background_keep_the_yield(exact, moments):
    toy = gaussian_levels("full", key=jax.random.key(6), events=20_000)
    weights = np.full(20_000, 0.5)
    problem = unfolding_problem(**toy.inputs(), gen_weights=weights)
    settings = {"missed": "learned", "fakes": "learned", "background": "add", "iterations": 4}
    result = fit_omnifold(problem, key=jax.random.key(7), **exact | settings)
    mean, sd = moments(problem, result.log_weights[-1, 0])
    assert abs(mean - float(toy.truth.mean())) < 0.04
    assert abs(sd - float(toy.truth.std())) < 0.04
    # the simulation has half the yield of the data
    total = float(result.unfolded().weights.sum())
    np.testing.assert_allclose(total, len(toy.truth), rtol=0.03)
    assert float(jnp.abs(result.unfolded().weights[~problem.pass_gen]).sum()) == 0.0
    # the network alone knows densities, not the yield
    inside, again = np.asarray(problem.pass_gen), result.weights(problem.gen)
    np.testing.assert_allclose(again[inside], result.weights()[inside], rtol=1e-3)


@pytest.mark.parametrize("missed", ["learned", "prior"])
def test_missed_events_are_learned_or_keep_their_prior(missed, exact):
    """Two values of the truth, seen as they are: every iteration has a closed form.

    A variation of the detector sees fewer of one value; its missed events are others.
    """
    simulated, measured = 8000, [4000, 3000]
    efficiencies = np.array([0.25, 0.75]), np.array([0.125, 0.75])
    z, place = np.repeat([-1.0, 1.0], simulated), np.tile(np.arange(simulated), 2)
    seen, fewer = (place < np.repeat(e, simulated) * simulated for e in efficiencies)
    problem = unfolding_problem(z, z, np.repeat([-1.0, 1.0], measured), pass_reco=seen)
    training = dataclasses.replace(SHORT, epochs=20)
    result = fit_omnifold(
        problem, key=jax.random.key(2), missed=missed,
        replicas=Replicas(variations={"fewer": {"pass_reco": fewer}}),
        **exact | {"iterations": 2, "training": training},
    )  # fmt: skip
    for replica, efficiency in enumerate(efficiencies):
        ratio = measured / (efficiency * simulated)
        first = ratio if missed == "learned" else efficiency * ratio + (1 - efficiency)
        second = ratio if missed == "learned" else efficiency * ratio + (1 - efficiency) * first
        found = np.exp(np.asarray(result.log_weights[:, replica]))[:, [0, -1]]
        np.testing.assert_allclose(found, [first, second], rtol=0.06)


def test_weights_of_every_level_count(exact, moments):
    toy = gaussian_levels("minimal", key=jax.random.key(12), events=20_000)
    rng = np.random.default_rng(1)
    z, x = np.asarray(toy.gen), np.asarray(toy.reco)
    other = rng.normal(2.0, 0.5, 3000)  # 2000 of them in the data, 1000 with weight 2 simulated
    data = np.concatenate([np.asarray(toy.data), other[:2000]])
    inputs = {
        "gen_weights": np.exp(0.3 * z), "reco_weights": 0.5 * np.exp(0.3 * z),
        "data_weights": np.where(np.arange(22_000) < 20_000, np.exp(0.2 * data), 1.0),
        "background": other[2000:], "background_weights": np.full(1000, 2.0),
        "pass_reco": rng.uniform(size=20_000) < 0.9,
    }  # fmt: skip
    problem = unfolding_problem(z, x, data, **inputs)
    result = fit_omnifold(problem, key=jax.random.key(13), **exact | {"iterations": 1})
    gen, missed = inputs["gen_weights"], ~inputs["pass_reco"]
    measured = 2 * (inputs["data_weights"].sum() - 2000)
    norm = (measured + gen[missed].sum()) / gen.sum()
    np.testing.assert_allclose(result.report.norm[0, 0], norm, rtol=1e-4)
    # a tilt moves the mean of a Gaussian by its slope times the variance
    start, seen, gain = 0.2 + 0.3 * 0.64, 0.2 * 1.25, 0.64 / 0.89
    parts = np.array([start + gain * (seen - start), start])
    variances = np.array([gain**2 * 1.25 + (1 - gain) * 0.64, 0.64])
    share = np.array([measured, gen[missed].sum()]) / (measured + gen[missed].sum())
    mean = share @ parts
    sd = np.sqrt(share @ (variances + parts**2) - mean**2)
    np.testing.assert_allclose(moments(problem, result.log_weights[0, 0]), (mean, sd),
                               atol=0.025)  # fmt: skip


def test_the_facts_of_an_iteration():
    new, old = jnp.log(jnp.array([[0.5, 4.0, 0.5]])), jnp.zeros((1, 3))
    fiducial = jnp.array([True, True, False])
    facts = summary(new, old, jnp.array([[3.0, 1.0, 0.0]]), fiducial, float(np.log(4.0)))
    expected = [5.5**2 / (2 * 18.25), 5.5 / 4, 4.0, (3 * np.log(2) + np.log(4)) / 4, 1]
    np.testing.assert_allclose(np.ravel(jnp.stack(facts)), expected, rtol=1e-6)


def test_no_event_is_on_both_sides_of_the_split():
    held = jnp.arange(50) % 4 == 0
    one = split(jnp.arange(50.0)[:, None], held, 0.2)
    train, test = one.classes(jnp.arange(50.0)[None], jnp.ones((1, 50)))
    assert sorted([*train.x[:, 0].tolist(), *test.x[:, 0].tolist()]) == list(range(50))
    assert len(test.x) == 10
    assert bool(jnp.all(held[test.x[:, 0].astype(int)]))
    np.testing.assert_array_equal(train.above[0], train.x[:, 0])


def test_the_mean_of_ratios_is_not_that_of_logs():
    logs = jnp.log(jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 5.0], [7.0, 1.0]]))
    np.testing.assert_allclose(jnp.exp(log_mean(logs, 2)), [[2.0, 3.0], [6.0, 3.0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iterations": 0}, "iterations = 0"),
        ({"ensemble": 0}, "ensemble = 0"),
        ({"cap": -1.0}, "cap"),
        ({"tolerance": -1.0}, "tolerance"),
        ({"fold_bins": 1}, "fold_bins"),
        ({"missed": "drop"}, "missed = 'drop'"),
        ({"dtype": "float16"}, "dtype = 'float16'"),
    ],
)
def test_wrong_settings_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        Settings(**change).check()


def test_wrong_use_is_refused(minimal, fitted):
    key = jax.random.key(0)
    with pytest.raises(ConfigError, match="seeds = 0"):
        fit_omnifold(minimal, key=key, replicas=Replicas(seeds=0))
    with pytest.raises(InputError, match="gen has columns"):
        fitted.weights(np.ones((3, 2)))
    with pytest.raises(InputError, match=r"factors on 'recos'.*mean 'reco'"):
        fit_omnifold(minimal, key=key, replicas=Replicas(variations={"a": {"recos": np.ones(3)}}))
    with pytest.raises(InputError, match=r"have shape \(3,\)"):
        fit_omnifold(minimal, key=key, replicas=Replicas(variations={"a": {"reco": np.ones(3)}}))
    with pytest.raises(ConfigError, match="exclude each other"):
        fit_omnifold(minimal, key=key, checkpoint="x", devices=jax.devices()[:1])


@pytest.mark.slow
@pytest.mark.parametrize("net", ["mlp", "quadratic"])
@pytest.mark.parametrize("toy", ["minimal", "full", "shifted", "blurred"])
def test_recursion_within_a_hundredth(toy, net, quadratic, moments):
    clean = {"missed": 0.0, "fakes": 0.0, "background": 0.0}
    levels = gaussian_levels(toy, key=jax.random.key(8), events=200_000, **clean)
    problem = unfolding_problem(**levels.inputs())
    make = small if net == "mlp" else quadratic(1)
    # at 5e-3 the noise of Adam moves a quadratic logit by more than a hundredth
    training = dataclasses.replace(LONG, learning_rate=2e-3)
    logs = fit_omnifold(
        problem, key=jax.random.key(9), gen_net=make, reco_net=make, iterations=5,
        training=training,
    ).log_weights  # fmt: skip
    found = [moments(problem, log[0]) for log in logs]
    np.testing.assert_allclose(found, gaussian_recursion(toy, iterations=5), atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("background", ["subtract", "reweight", "add"])
def test_the_full_toy_is_recovered_within_two_hundredths(background, moments):
    toy = gaussian_levels("full", key=jax.random.key(6), events=100_000)
    problem = unfolding_problem(**toy.inputs())
    result = fit_omnifold(
        problem, key=jax.random.key(7), gen_net=small, reco_net=small, iterations=5,
        missed="learned", fakes="learned", background=background, training=LONG,
    )  # fmt: skip
    found = moments(problem, result.log_weights[-1, 0])
    np.testing.assert_allclose(found, (0.2, 0.8), atol=0.02)
    total = float(result.unfolded().weights.sum())
    np.testing.assert_allclose(total, len(toy.truth), rtol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("missed", "iterations"), [("prior", 15), ("learned", 5)])
def test_a_toy_with_acceptance_closes(missed, iterations, moments):
    toy = acceptance_levels(key=jax.random.key(10), events=200_000, measured=100_000)
    problem = unfolding_problem(**toy.inputs())
    training = dataclasses.replace(LONG, learning_rate=2e-3)
    # events beyond the fiducial edge are fakes: with prior weights the data seem to lack them
    result = fit_omnifold(
        problem, key=jax.random.key(11), gen_net=small, reco_net=small, fakes="learned",
        iterations=iterations, missed=missed, training=training,
    )  # fmt: skip
    mean, sd = moments(problem, result.log_weights[-1, 0])
    assert abs(mean) < 0.03
    assert abs(sd - 2.0) < 0.03
    total = float(result.unfolded().weights.sum())
    np.testing.assert_allclose(total, len(toy.truth), rtol=0.01)
