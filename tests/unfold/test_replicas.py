from __future__ import annotations

import functools
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import ConfigError, InputError
from difana.data.generate import gaussian_levels
from difana.train import Training
from difana.unfold import (
    Replicas,
    Settings,
    Shifts,
    closure_test,
    fit_omnifold,
    halved,
    start_nets,
    unfolding_problem,
)
from difana.unfold._halves import omnifold_with_checkpoints
from difana.unfold.omnifold import _whole, prepared

# float64: the order of sums must not change which epoch is the best
TRAINING = Training(epochs=3, batch_size=500, learning_rate=3e-2)
SETTINGS = Settings(iterations=2, training=TRAINING, dtype="float64")
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def problem():
    toy = gaussian_levels("full", key=jax.random.key(4), events=2000)
    return unfolding_problem(**toy.inputs(), names=("z",))


@pytest.fixture(scope="module")
def nets(quadratic):
    return {name: quadratic(1, jnp.float64) for name in ("gen_net", "reco_net")}


def unfolded(problem, seeds=1, bootstraps=0, variations=None, **more):
    """Return the result with the settings of these tests."""
    replicas = Replicas(seeds, bootstraps, variations or {})
    return fit_omnifold(problem, key=KEY, replicas=replicas, progress_bar=False,
                        **SETTINGS._asdict() | more)  # fmt: skip


@pytest.fixture(scope="module")
def variations(problem):
    slope = 1 + 0.1 * np.asarray(problem.gen[:, 0])
    return {"slope": {"gen": slope, "reco": slope}, "scale": {"reco": np.full(2000, 1.1)}}


@pytest.fixture(scope="module")
def fitted(nets, problem, variations):
    return unfolded(problem, 2, 2, variations, **nets)


def test_the_number_side_by_side_changes_nothing(nets, fitted, problem, variations):
    parts = unfolded(problem, 2, 2, variations, chunk=3, **nets)
    assert parts.log_weights.shape == fitted.log_weights.shape == (2, 8, 2000)
    np.testing.assert_allclose(parts.log_weights, fitted.log_weights, atol=1e-9)
    np.testing.assert_allclose(parts.unfolded().weights, fitted.unfolded().weights, rtol=1e-9)


def test_replicas_are_what_they_say(fitted, problem):
    plan = Replicas(2, 2, {"slope": {}, "scale": {}})
    assert [plan.start(r) for r in range(plan.number)] == [0, 1, 2, 3, 0, 1, 0, 1]
    keys = jax.random.split(jax.random.key(0), 3)
    drawn = plan.factors(np.arange(8), problem, keys)
    rows = [
        np.asarray(drawn.data[2:4]),
        np.asarray(drawn.gen[2:4]),
        np.asarray(drawn.background[2:4]),
    ]
    for row in rows:
        assert (row[0] != row[1]).mean() > 0.5  # each replica has its own
        assert abs(row.var() - 1) < 0.1
    size = min(row.shape[1] for row in rows)
    for one, two in itertools.combinations(rows, 2):  # and each sample
        assert abs(np.corrcoef(one[0, :size], two[0, :size])[0, 1]) < 0.2
    events = fitted.unfolded()
    for kind in events.replicas.values():
        assert float(jnp.abs(jnp.log(kind[0] + 1e-9) - jnp.log(kind[1] + 1e-9)).mean()) > 1e-3
    assert {k: len(v) for k, v in events.replicas.items()} == {"ensemble": 2, "bootstrap": 2}
    assert list(events.variations) == ["slope", "scale"]
    factors = np.asarray(fitted.factors)
    assert set(np.unique(factors[2:4])) <= set(range(10))
    np.testing.assert_allclose(factors[:2], 1)
    np.testing.assert_allclose(factors[6:], 1)  # scale is on the detector level only
    np.testing.assert_allclose(factors[4], 1 + 0.1 * problem.gen[:, 0])
    wanted = np.exp(fitted.log_weights[-1, 4:6]) * factors[4:6] * problem.gen_weights
    np.testing.assert_allclose(
        events.variations["slope"], np.where(problem.pass_gen, wanted.mean(0), 0)
    )


@pytest.fixture(scope="module")
def shifts(problem):
    """Two shifts of the detector: of the scale, with another acceptance, and of the mask only."""
    passed = np.asarray(problem.pass_reco)
    every = np.asarray(problem.reco) + 0.3 * passed[:, None]
    other = passed.copy()
    other[:100], every[:100] = True, 0.5
    other[100:200] = False
    return {
        "jes": {"observables": every, "pass_reco": other, "reco": np.full(2000, 0.9)},
        "slope": {"gen": 1 + 0.1 * np.asarray(problem.gen[:, 0])},
        "cut": {"pass_reco": passed & (np.arange(2000) % 9 > 0)},
    }


@pytest.mark.parametrize("more", [
    {},
    pytest.param({"missed": "learned", "fakes": "learned", "ensemble": 2}, marks=pytest.mark.slow),
])  # fmt: skip
def test_a_shift_of_observables_is_a_problem_of_its_own(nets, problem, shifts, more):
    found = unfolded(problem, variations=shifts, **nets, **more)
    assert found.log_weights.shape == (2, 4, 2000)
    settings = SETTINGS._replace(**more)
    nets, run = start_nets(problem, np.arange(1), key=KEY, ensemble=settings.ensemble, **nets)
    every = prepared(problem, *nets, settings, key=run, shifts=Shifts(
        problem.reco[None], (problem.pass_reco | shifts["jes"]["pass_reco"])[None]
    ))  # fmt: skip
    for replica, name in ((0, None), (1, "jes"), (3, "cut")):
        change = shifts.get(name, {})
        passed = jnp.asarray(change.get("pass_reco", problem.pass_reco))
        values = jnp.where(passed[:, None], change.get("observables", problem.reco), 0.0)
        weights = problem.reco_weights * change.get("reco", 1.0)
        alone = eqx.tree_at(
            lambda p: (p.reco, p.pass_reco, p.reco_weights), problem, (values, passed, weights)
        )
        inputs = prepared(alone, *nets, settings, key=run)
        # the same rows in the same order: those that fail here have no weight
        alone = _whole(eqx.tree_at(lambda i: i.rows, inputs, every.rows))
        for one, other in ((found.log_weights, alone.log_weights),
                           (found.report.chi2, alone.report.chi2)):  # fmt: skip
            np.testing.assert_allclose(one[:, replica], other[:, 0], rtol=1e-6, atol=1e-9)
    assert not np.allclose(found.log_weights[:, 0], found.log_weights[:, 3], atol=1e-3)


def test_shifts_that_do_not_fit_are_refused(problem):
    for change, message in (
        ({"observables": np.ones((1999, 1))}, "the observables have shape"),
        ({"observables": np.full((2000, 1), np.nan)}, "observables is not finite"),
        ({"pass_reco": np.zeros(2000, bool)}, "pass_reco passes no event"),
        ({"pass_reco": np.ones(2000, bool)}, "give observables, too"),
        ({"observable": np.ones((2000, 1))}, "Did you mean 'observables'"),
    ):
        with pytest.raises(InputError, match=message):
            unfolded(problem, variations={"jes": change})


def test_a_run_killed_at_a_half_step_goes_on(nets, fitted, problem, tmp_path):
    started, key = start_nets(problem, np.arange(2), key=KEY, **nets)
    inputs = prepared(problem, *started, SETTINGS, key=key)
    whole = omnifold_with_checkpoints(inputs, tmp_path / "whole", progress_bar=False)
    for stop in (1, 3, None):
        found = omnifold_with_checkpoints(
            inputs, tmp_path / "killed", progress_bar=False, stop_after=stop
        )
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(found), strict=True):
        np.testing.assert_array_equal(a, b)
    other = eqx.tree_at(lambda i: i.problem.data_weights, inputs, 2 * problem.data_weights)
    with pytest.raises(ConfigError, match=r"another training: arrays.*data_weights"):
        omnifold_with_checkpoints(other, tmp_path / "killed", progress_bar=False)
    # the program of half steps and the one of the whole agree
    steps = unfolded(problem, 2, checkpoint=tmp_path / "fit", **nets)
    np.testing.assert_allclose(steps.log_weights, found.log_weights, atol=1e-12)
    np.testing.assert_allclose(found.log_weights, fitted.log_weights[:, :2], atol=1e-9)


@pytest.mark.slow
def test_devices_change_nothing(nets, fitted, problem, variations):
    spread = unfolded(problem, 2, 2, variations, devices=jax.devices()[:2], **nets)
    np.testing.assert_allclose(spread.log_weights, fitted.log_weights, atol=1e-9)


@pytest.mark.slow
def test_half_steps_agree_with_the_whole(nets, fitted, problem, variations, tmp_path):
    steps = unfolded(problem, 2, 2, variations, checkpoint=tmp_path, **nets)
    np.testing.assert_allclose(steps.log_weights, fitted.log_weights, atol=1e-9)
    for name in ("effective", "chi2", "loss", "norm"):
        one, two = (getattr(m.report, name) for m in (steps, fitted))
        np.testing.assert_allclose(one, two, rtol=1e-6)


@pytest.mark.slow
def test_the_mean_of_an_ensemble_is_handed_on(problem, nets):
    same = {name: lambda _: nets["gen_net"](jax.random.key(0)) for name in nets}
    one = unfolded(problem, **same)
    three = unfolded(problem, **same, ensemble=3)
    np.testing.assert_allclose(one.log_weights, three.log_weights, atol=1e-9)
    mixed = unfolded(problem, 2, **nets, ensemble=3)
    np.testing.assert_allclose(mixed.weights(problem.gen)[problem.pass_gen],
                               mixed.weights()[problem.pass_gen], rtol=1e-9)  # fmt: skip


def test_halves_of_the_simulation(problem):
    factors = 1 + (np.asarray(problem.gen[:, 0]) > 0)
    half = halved(problem, key=KEY, factors=factors)
    assert len(half.problem.gen) == 1000
    expected = np.where(half.truth[:, 0] > 0, 2.0, 1.0)
    np.testing.assert_allclose(half.weights, expected)
    # the data are the seen events of the same half, each with its factor
    order = np.asarray(jax.random.permutation(KEY, 2000))
    rows = np.sort(order[1000:])
    rows = rows[np.asarray(problem.pass_reco)[rows]]
    np.testing.assert_array_equal(half.problem.data, problem.reco[rows])
    np.testing.assert_array_equal(half.problem.data_weights, factors[rows])
    with pytest.raises(InputError, match="non-negative"):
        halved(problem, key=KEY, factors=-factors)


@pytest.mark.slow
def test_closure_and_stress(quadratic):
    toy = gaussian_levels("minimal", key=jax.random.key(4), events=40_000)
    problem = unfolding_problem(**toy.inputs())
    nets = {"gen_net": quadratic(1), "reco_net": quadratic(1)}
    training = Training(epochs=10, batch_size=1000, learning_rate=2e-2)
    fit = functools.partial(fit_omnifold, **nets, iterations=4, training=training)
    closed = closure_test(fit, problem, key=KEY)
    assert float(closed.chi2[0]) < 2
    assert float(closed.norm) == pytest.approx(1, abs=0.02)
    stressed = closure_test(fit, problem, key=KEY, factors=np.exp(0.5 * problem.gen[:, 0]))
    assert float(stressed.after[0]) < 0.1 * float(stressed.before[0])
