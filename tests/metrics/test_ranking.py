from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from difana._errors import InputError
from difana.metrics import background_rejection, roc_auc, roc_curve


def sample(seed=0, size=300, *, ties=True, negative=False):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, size)
    scores = rng.normal(labels, 1.0)
    if ties:
        scores = np.round(scores, 1)
    weights = rng.uniform(0.1, 2.0, size)
    if negative:
        weights *= rng.choice([1, -1], size, p=[0.85, 0.15])
    return scores, labels, weights


def naive_auc(scores, labels, weights):
    s, b = labels == 1, labels == 0
    wins = (scores[s][:, None] > scores[b]) + 0.5 * (scores[s][:, None] == scores[b])
    return weights[s] @ wins @ weights[b] / (weights[s].sum() * weights[b].sum())


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("negative", [True, False])
def test_auc_is_the_double_sum(ties, negative):
    events = sample(ties=ties, negative=negative)
    np.testing.assert_allclose(roc_auc(*map(jnp.asarray, events)), naive_auc(*events), rtol=1e-12)
    np.testing.assert_allclose(jax.jit(roc_auc)(*events), naive_auc(*events), rtol=1e-12)


def test_auc_without_weights_is_the_mann_whitney_statistic():
    scores, labels, _ = sample()
    u = mannwhitneyu(scores[labels == 1], scores[labels == 0]).statistic
    wanted = u / (labels == 1).sum() / (labels == 0).sum()
    np.testing.assert_allclose(roc_auc(jnp.asarray(scores), jnp.asarray(labels)), wanted)


def test_auc_of_a_constant_and_of_a_perfect_observable():
    labels = jnp.array([0, 1, 0, 1])
    assert roc_auc(jnp.zeros(4), labels) == 0.5
    assert roc_auc(labels.astype(float), labels) == 1.0
    assert roc_auc(-labels.astype(float), labels) == 0.0


def test_auc_gradient_with_respect_to_the_weights(finite_difference):
    scores, labels, weights = map(jnp.asarray, sample(size=12))
    gradient = jax.grad(roc_auc, argnums=2)(scores, labels, weights)
    wanted = finite_difference(lambda w: roc_auc(scores, labels, w), weights)
    np.testing.assert_allclose(gradient, wanted, rtol=1e-6, atol=1e-10)


def test_auc_maps_over_events_sets():
    sets = [sample(seed) for seed in range(3)]
    stacked = [jnp.stack([s[i] for s in sets]) for i in range(3)]
    np.testing.assert_allclose(
        jax.vmap(roc_auc)(*stacked), [naive_auc(*s) for s in sets], rtol=1e-12
    )


def test_curve_counts_what_passes_each_threshold():
    scores, labels, weights = sample()
    curve = roc_curve(*map(jnp.asarray, (scores, labels, weights)))
    s = labels == 1
    for passing in (scores >= 1.2, scores >= -0.3):
        wanted = [weights[passing & kind].sum() / weights[kind].sum() for kind in (s, ~s)]
        here = np.argmin(abs(curve.signal_efficiency - wanted[0]))
        np.testing.assert_allclose(curve.background_efficiency[here], wanted[1], rtol=1e-12)
    area = np.trapezoid(curve.signal_efficiency, curve.background_efficiency)
    np.testing.assert_allclose(area, naive_auc(scores, labels, weights), rtol=1e-10)


def test_rejection_at_a_threshold():
    scores, labels, weights = sample(ties=False)
    threshold = np.sort(scores[labels == 1])[40]
    s, passing = labels == 1, scores >= threshold
    efficiency = weights[passing & s].sum() / weights[s].sum()
    wanted = weights[~s].sum() / weights[passing & ~s].sum()
    events = map(jnp.asarray, (scores, labels, weights))
    found = background_rejection(*events, efficiency=efficiency - 1e-12)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_rejection_of_tied_scores_interpolates():
    # One signal and one background event share the only threshold: random choice, 1 / eff.
    found = background_rejection(jnp.zeros(2), jnp.array([0, 1]), efficiency=jnp.array([0.25, 1]))
    np.testing.assert_allclose(found, [4.0, 1.0])


def test_rejection_is_infinite_without_background():
    found = background_rejection(jnp.arange(4.0), jnp.array([0, 0, 1, 1]), efficiency=0.5)
    assert jnp.isinf(found)


def test_wrong_input_is_refused():
    one, labels = jnp.ones(3), jnp.array([0, 1, 1])
    with pytest.raises(InputError, match="both classes"):
        roc_auc(one, jnp.ones(3))
    with pytest.raises(InputError, match="finite"):
        roc_auc(one.at[0].set(jnp.nan), labels)
    with pytest.raises(InputError, match="one length"):
        roc_auc(one, labels, jnp.ones(2))
    with pytest.raises(InputError, match=r"\(0, 1\]"):
        background_rejection(one, labels, efficiency=0.0)
