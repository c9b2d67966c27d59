"""Constrained training: analytic optima, and a limit with filled bins against a scan."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.scipy.stats import norm as jax_norm
from scipy.optimize import brentq
from scipy.stats import norm

from difana._errors import ConfigError, ModelError
from difana.data import Events, Sample
from difana.hist import soft_histogram_nd
from difana.infer import expected_limits
from difana.likelihood import (
    Channel,
    HistoSys,
    NormFactor,
    Parameter,
    StatError,
    Template,
    build_model,
)
from difana.losses import (
    Constraint,
    abcd_non_closure,
    background_events,
    closure,
    constrained,
    lagrangian,
    minimum_background,
    nuisance_width,
    relative_difference,
    reverse_gradient,
    with_multipliers,
)
from difana.train import fit


def descend(loss, state, optimizer, steps):
    """Return the state after some steps, in one compiled loop."""
    weights, rest = eqx.partition(state, eqx.is_inexact_array)

    def step(carry, _):
        weights, memory = carry
        gradient = jax.grad(
            lambda w: loss(eqx.combine(w, rest), (), jnp.zeros(()))[0],
        )(weights)
        updates, memory = optimizer.update(gradient, memory, weights)
        return (optax.apply_updates(weights, updates), memory), None

    @jax.jit
    def run(weights):
        return jax.lax.scan(step, (weights, optimizer.init(weights)), None, length=steps)[0][0]

    return eqx.combine(run(weights), rest)


def test_reversed_gradient():
    x = jnp.array([0.3, -2.0])

    def function(x):
        return jnp.sum(jnp.sin(x))

    plain = jax.grad(function)(x)
    reversed_ = jax.jit(jax.grad(lambda x, s: function(reverse_gradient(x, scale=s))))(x, 0.7)
    np.testing.assert_allclose(reversed_, -0.7 * plain, rtol=1e-12)
    assert float(function(reverse_gradient(x))) == float(function(x))


TARGET = jnp.array([2.0, 1.0])
CASES = [  # kind, bound on x + y, optimum of |p - (2, 1)|^2, multiplier
    ("equal", 1.0, (1.0, 0.0), 2.0),
    ("at_most", 1.0, (1.0, 0.0), 2.0),
    ("at_most", 4.0, (2.0, 1.0), 0.0),
    ("at_least", 4.0, (2.5, 1.5), 1.0),
    ("at_least", 1.0, (2.0, 1.0), 0.0),
]


@pytest.mark.parametrize(("kind", "bound", "optimum", "multiplier"), CASES)
def test_quadratic_with_a_linear_constraint(kind, bound, optimum, multiplier):
    line = Constraint(jnp.sum, bound, kind=kind)
    loss = constrained(lambda p: jnp.sum((p - TARGET) ** 2), [line], subject=lambda p, *_: p)
    start = jnp.array([-3.0, 4.0])
    state = descend(loss, with_multipliers(start, [line], start), optax.sgd(0.1), 300)
    np.testing.assert_allclose(state.trainable, optimum, atol=1e-4)
    # in the sign convention of the infeasibility, an equality pulls down here
    expected = -multiplier if kind == "equal" else multiplier
    assert float(state.multipliers[0]) == pytest.approx(expected, abs=1e-3)


def test_the_value_of_the_lagrangian():
    """Against the formula, with the slack variable of the inequalities on a grid."""
    x, multiplier, damping = 0.7, 0.4, 3.0
    slack = np.linspace(0, 3, 100_001) ** 2
    for kind, h in (("equal", 0.5), ("at_least", 0.5), ("at_most", -0.5)):
        line = Constraint(lambda x: x, 1.2, kind=kind, damping=damping, name="line")
        found, _ = lagrangian(jnp.asarray(2.0), jnp.asarray(x), [line], [jnp.asarray(multiplier)])
        held = h if kind == "equal" else h + slack
        terms = multiplier * held + 0.5 * damping * held**2
        assert float(found) == pytest.approx(2.0 + np.min(terms), rel=1e-6)


def test_multipliers_are_trained_by_fit():
    line = Constraint(jnp.sum, 1.0, kind="equal", name="line")
    data = Sample(Events(TARGET[None], jnp.ones(1)), name="data")

    def subject(p, batch, step):
        return p

    loss = constrained(lambda p: jnp.sum((p - TARGET) ** 2), [line], subject=subject)
    start = with_multipliers(jnp.zeros(2), [line], jnp.zeros(2))
    options = {"steps": 200, "batch_size": 1, "key": jax.random.key(0)}
    result = fit(loss, start, [data], optimizer=optax.sgd(0.1), **options)
    np.testing.assert_allclose(result.trainable.trainable, [1.0, 0.0], atol=1e-3)
    assert abs(result.history[-1]["aux"]["line"]) < 1e-3


def two_bins(cut):
    """A narrow signal on a falling background; exact yields below and above a cut."""
    above = jnp.stack([jax_norm.sf(cut, 4.0, 0.7), jnp.exp(-cut)])
    signal, background = (jnp.stack([1 - x, x]) for x in above)
    templates = (
        Template(8.0 * signal, (NormFactor("mu"),), name="s"),
        Template(100.0 * background, name="b"),
    )
    return build_model([Channel(templates, name="SR")])


def log_limit(model):
    return jnp.log(expected_limits(model, median_only=True).median)


def exact_log_limit(cut):
    s = 8.0 * np.array([norm.cdf(cut, 4.0, 0.7), norm.sf(cut, 4.0, 0.7)])
    b = 100.0 * np.array([1 - np.exp(-cut), np.exp(-cut)])

    def height(mu):
        q = 2 * np.sum(mu * s - b * np.log1p(mu * s / b))
        return np.sqrt(q) - norm.isf(0.025)

    return np.log(brentq(height, 1e-3, 100))


def test_best_limit_with_ten_background_events_in_every_bin():
    filled = minimum_background(10.0)
    loss = constrained(log_limit, [filled], subject=lambda cut, *_: two_bins(cut))
    start = with_multipliers(jnp.asarray(3.5), [filled], two_bins(jnp.asarray(3.5)))
    state = descend(loss, start, optax.sgd(0.2), 150)
    cut = float(state.trainable)
    # a scan of the cut is the reference
    cuts = np.linspace(1.0, 4.5, 141)
    limits = np.array([exact_log_limit(c) for c in cuts])
    allowed = np.exp(-cuts) >= 0.1
    assert cuts[limits.argmin()] > 2.7  # without the constraint, seven events would be left
    assert cut == pytest.approx(np.log(10.0), abs=1e-3)
    assert exact_log_limit(cut) <= limits[allowed].min() + 1e-6
    assert limits.min() < limits[allowed].min() - 1e-3  # it costs something
    np.testing.assert_array_equal(state.multipliers[0] > 1e-2, [False, True])


@pytest.mark.slow
def test_a_nuisance_keeps_its_width():
    def model_of(size):
        shift = 100.0 * jnp.array([size, -size])
        values = jnp.array([100.0, 100.0])
        b = Template(values, (HistoSys(values + shift, values - shift, "scale"),), name="b")
        s = Template([5.0, 1.0], (NormFactor("mu"),), name="s")
        return build_model([Channel((s, b), name="SR")])

    width = nuisance_width(["scale"], 0.7, damping=4.0)

    def subject(p, batch, step):
        return model_of(0.1 * p[0])

    # the larger the shift, the better it is measured: wanted as large as the constraint allows
    loss = constrained(lambda m: -m.histosys_hi[0] / 10.0, [width], subject=subject)
    start = jnp.array([0.2])
    state = with_multipliers(start, [width], model_of(0.02))
    found = descend(loss, state, optax.sgd(0.1), 400).trainable[0] / 10

    # closed form: J J^T / 100 with the rows of mu (5, 1) and scale (100 s, -100 s)
    s = float(found)
    information = np.array([[26.0, 400.0 * s], [400.0 * s, 2e4 * s**2]]) / 100 + np.diag([0, 1])
    assert np.sqrt(np.linalg.inv(information)[1, 1]) == pytest.approx(0.7, abs=1e-3)


def test_a_nuisance_without_effect_keeps_its_width():
    idle = HistoSys([10.0, 10.0], [10.0, 10.0], "idle")
    templates = (
        Template([1.0, 3.0], (NormFactor("mu"),), name="s"),
        Template([10.0, 10.0], (idle,), name="b"),
    )
    model = build_model([Channel(templates, name="SR")], parameters=[Parameter("idle", sigma=0.5)])
    found = nuisance_width(["idle"], 0.7).infeasibility(model)
    assert float(found[0]) == pytest.approx(np.log(0.7), abs=1e-9)


def test_effective_background_and_closure():
    s = Template([2.0, 8.0], (NormFactor("mu"), StatError([1.0, 1.0], "stat")), name="s")
    b = Template([100.0, 4.0], (StatError([20.0, 2.0], "stat"),), name="b")
    model = build_model([Channel((s, b), name="SR")])
    np.testing.assert_allclose(background_events(model, effective=True), [25.0, 4.0])
    constraint = minimum_background(5.0, effective=True)
    np.testing.assert_allclose(constraint.infeasibility(model), np.log(5.0 / np.array([25.0, 4.0])))
    side = Channel((Template([7.0], (NormFactor("norm"),), name="b"),), name="CR")
    two = build_model([side, Channel((s, b), name="SR")], poi="mu")
    np.testing.assert_array_equal(background_events(two, channel="SR"), [100.0, 4.0])
    np.testing.assert_array_equal(background_events(two, channel="CR"), [7.0])
    # independent observables close; correlated ones do not, and soft counts have a gradient
    x = jax.random.normal(jax.random.key(0), (4000, 2))

    def counts(r):
        y = jnp.stack([x[:, 0], r * x[:, 0] + jnp.sqrt(1 - r**2) * x[:, 1]], axis=1)
        cut = jnp.array([-9.0, 0.5, 9.0])
        return soft_histogram_nd(y, None, [cut, cut], bandwidth=0.1).contents

    below = closure(0.3, of=lambda r: r).infeasibility(jnp.asarray(-0.5))
    assert float(below) == pytest.approx(0.2)  # of either sign
    within = closure(0.3, of=lambda r: abcd_non_closure(counts(r)))
    assert float(within.infeasibility(jnp.asarray(0.0))) < 0
    assert float(within.infeasibility(jnp.asarray(0.5))) > 0.5
    assert float(jax.grad(lambda r: within.infeasibility(r))(jnp.asarray(0.5))) > 0
    soft_hard = closure(0.05, of=lambda pair: relative_difference(*pair))
    violation = soft_hard.infeasibility((jnp.array([1.1, 2.0]), jnp.array([1.0, 2.0])))
    np.testing.assert_allclose(violation, [0.05, -0.05], atol=1e-12)


def test_bad_constraints_are_refused():
    with pytest.raises(ConfigError, match="none of"):
        Constraint(jnp.sum, 1.0, kind="below")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="damping"):
        Constraint(jnp.sum, 1.0, kind="equal", damping=0.0)
    one = Constraint(jnp.sum, 1.0, kind="equal")
    with pytest.raises(ConfigError, match="different names"):
        with_multipliers(jnp.zeros(2), [one, one], jnp.zeros(2))
    with pytest.raises(ModelError, match="positive"):
        minimum_background(0.0)
    with pytest.raises(ModelError, match="no constraint"):
        nuisance_width(["mu"]).infeasibility(two_bins(jnp.asarray(2.0)))
