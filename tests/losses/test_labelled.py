"""Losses of labelled rows: several classes, tasks beside them, attacked inputs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from difana._errors import ConfigError, InputError
from difana.data import Inputs
from difana.losses import attacked, log_cosh, multiclass_entropy, multitask_entropy, pinball

RNG = np.random.default_rng(0)
LOGITS = jnp.asarray(RNG.normal(size=(6, 3)))
LABELS = jnp.array([0, 1, 2, 2, 1, 0])
WEIGHTS = jnp.array([1.0, 2.0, 0.5, -0.3, 1.0, 1.0])  # one is negative


def by_hand(*, smoothing=0.0, focal=0.0, factor=(1.0, 1.0, 1.0)):
    total, norm = 0.0, 0.0
    for logits, label, weight in zip(
        np.asarray(LOGITS), LABELS.tolist(), WEIGHTS.tolist(), strict=True
    ):
        p = np.exp(logits) / np.exp(logits).sum()
        target = smoothing / 3 + (1 - smoothing) * np.eye(3)[label]
        weight *= factor[label]
        total += weight * (1 - p[label]) ** focal * -(target * np.log(p)).sum()
        norm += weight
    return total / norm


@pytest.mark.parametrize(
    "options", [{}, {"smoothing": 0.1}, {"focal": 2.0}, {"smoothing": 0.2, "focal": 1.0}]
)
def test_entropy_of_several_classes_follows_its_formula(options):
    found = multiclass_entropy(LOGITS, LABELS, WEIGHTS, **options)
    np.testing.assert_allclose(found, by_hand(**options), rtol=1e-9)
    factor = (0.5, 1.0, 3.0)
    found = multiclass_entropy(LOGITS, LABELS, WEIGHTS, class_weights=factor, **options)
    np.testing.assert_allclose(found, by_hand(factor=factor, **options), rtol=1e-9)


def test_entropy_has_finite_derivatives_where_all_is_clear():
    sure = jnp.array([[1e3, -1e3], [-1e3, 1e3]])
    slope = jax.grad(lambda x: multiclass_entropy(x, jnp.array([0, 0]), focal=2.0))(sure)
    assert bool(jnp.all(jnp.isfinite(slope)))


def test_bad_labels_and_weights_are_named():
    with pytest.raises(InputError, match="label -1 is no class of 3"):
        multiclass_entropy(LOGITS, LABELS.at[0].set(-1))
    with pytest.raises(InputError, match="must be positive"):
        multiclass_entropy(LOGITS, LABELS, -jnp.ones(6))


@pytest.mark.parametrize("level", [0.16, 0.5, 0.84])
def test_the_quantile_of_a_normal_minimises_pinball(level):
    points = jnp.asarray(stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000))
    mean = jax.jit(lambda q: jnp.mean(pinball(points - q, level)))
    best = stats.norm.ppf(level)
    assert float(jax.grad(mean)(best)) == pytest.approx(0, abs=1e-4)
    assert all(float(mean(best + d)) > float(mean(best)) for d in (-0.05, 0.05))


def test_log_cosh_is_a_square_and_a_distance():
    np.testing.assert_allclose(log_cosh(jnp.array(1e-3)), 0.5e-6, rtol=1e-5)
    np.testing.assert_allclose(
        log_cosh(jnp.array([-50.0, 800.0])), [50 - np.log(2), 800 - np.log(2)]
    )


def test_tasks_add_up():
    outputs = jnp.asarray(RNG.normal(size=(6, 6)))
    target = jnp.asarray(RNG.normal(size=6))
    weights = jnp.abs(WEIGHTS)
    total, parts = multitask_entropy(
        outputs, LABELS, target, weights, classes=3, regression=2.0, quantile=0.5
    )
    share = weights / weights.sum()
    residuals = [target - outputs[:, 3 + i] for i in range(3)]
    expected = {
        "entropy": multiclass_entropy(outputs[:, :3], LABELS, weights),
        "regression": share @ np.log(np.cosh(residuals[0])),
        "quantiles": share @ (pinball(residuals[1], 0.16) + pinball(residuals[2], 0.84)),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(parts[name], value, rtol=1e-9)
    np.testing.assert_allclose(
        total, parts["entropy"] + 2 * parts["regression"] + 0.5 * parts["quantiles"]
    )


def test_attacks_on_a_linear_model_are_those_of_the_closed_form():
    w = jnp.array([1.0, -2.0, 0.5])
    x = jnp.asarray(RNG.normal(size=(5, 3)))

    def loss(x):
        return jnp.sum(x @ w)

    rise = (attacked(loss, x, size=0.1) - x) @ w
    np.testing.assert_allclose(rise, 0.1 * np.abs(w).sum())  # the dual norm
    rise = (attacked(loss, x, size=0.1, norm="gradient") - x) @ w
    np.testing.assert_allclose(rise, 0.1 * np.linalg.norm(w))
    moved = attacked(loss, x, size=0.1, scales=(1.0, 2.0, 0.0))
    np.testing.assert_allclose(moved - x, np.tile([0.1, -0.2, 0.0], (5, 1)), atol=1e-12)
    moved = attacked(loss, x, size=0.1, channels=[1])
    np.testing.assert_allclose((moved - x)[:, [0, 2]], 0)


def test_several_steps_stay_in_the_ball_and_find_more():
    def loss(x):
        return jnp.sum(jnp.sin(3 * x) * jnp.cos(2 * x[:, ::-1]))

    x = jnp.asarray(RNG.normal(size=(50, 2)))
    one, many = (attacked(loss, x, size=0.5, steps=n) for n in (1, 10))
    assert float(jnp.max(jnp.abs(many - x))) <= 0.5 + 1e-12
    assert float(loss(many)) > float(loss(one)) > float(loss(x))


def test_padding_and_features_are_never_attacked():
    mask = jnp.array([[True, False]])
    inputs = Inputs(jnp.ones((1, 2)), jnp.zeros((1, 2, 3)), mask)
    moved = attacked(lambda i: jnp.sum(i.particles) + jnp.sum(i.features), inputs, size=0.1)
    np.testing.assert_allclose(moved.particles[0], [[0.1] * 3, [0.0] * 3])
    np.testing.assert_array_equal(moved.features, inputs.features)
    slope = jax.grad(
        lambda s: jnp.sum(attacked(lambda x: jnp.sum(s * x), jnp.ones((1, 1)), size=0.1))
    )
    assert float(slope(1.0)) == 0  # no derivative through the search


@pytest.mark.parametrize("options", [{"norm": "l1"}, {"size": -1.0}, {"steps": 0}])
def test_options_of_attacks_are_checked(options):
    with pytest.raises(ConfigError):
        attacked(jnp.sum, jnp.ones((1, 1)), **{"size": 0.1, **options})
