"""What every flow promises: the same tests for all kinds."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import InputError
from difana.flows import AbstractFlow
from difana.metrics import roc_auc
from difana.nn import load_weights, save_weights
from difana.ratio import RatioRows, fit_ratio
from difana.train import Training
from tests.flows.conftest import KINDS, SMALL, shaken, table


def test_inverse_and_log_determinant(flow, kind):
    x, given = (part[:5] for part in table(2))
    z, log_det = flow.transform(x, given)
    solver = 2e-4 if kind == "continuous" else 1e-7  # ten steps of Runge-Kutta
    np.testing.assert_allclose(flow.inverse(z, given), x, atol=solver)

    def one(row, context):
        return flow.transform(row[None], context[None])[0][0]

    jacobians = eqx.filter_jit(jax.vmap(jax.jacfwd(one)))(x, given)
    np.testing.assert_allclose(log_det, jnp.linalg.slogdet(jacobians)[1], atol=solver, rtol=1e-6)
    assert np.abs(np.asarray(log_det)).max() > 0.1
    assert isinstance(flow, AbstractFlow)


def test_it_integrates_to_one_in_two_dimensions(flow, kind):
    edge = (6.0, 8.0) if kind == "ranges and a circle" else (9.0, 9.0)
    n = 250
    axes = [(np.arange(n) + 0.5) / n * 2 * e - e for e in edge]
    grid = jnp.stack(jnp.meshgrid(*map(jnp.asarray, axes), indexing="ij"), axis=-1).reshape(-1, 2)
    density = jnp.exp(flow.log_prob(grid, jnp.full((len(grid), 1), 0.7)))
    assert float(jnp.sum(density)) * 4 * edge[0] * edge[1] / n**2 == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", ["spline coupling", "autoregressive", "continuous"])
def test_it_integrates_to_one_in_one_dimension_and_draws_follow_it(name):
    make, options = KINDS[name]
    one = shaken(make(*table(1), key=jax.random.key(0), **options))
    grid = jnp.linspace(-9.0, 9.0, 4001)
    density = np.asarray(jnp.exp(one.log_prob(grid[:, None], jnp.full((4001, 1), 0.7))))
    cumulative = np.cumsum(density) * float(grid[1] - grid[0])
    assert cumulative[-1] == pytest.approx(1, abs=1e-3)
    draws = one.sample(jnp.full((1, 1), 0.7), key=jax.random.key(4), samples=20_000)[0, :, 0]
    at = np.interp(np.sort(np.asarray(draws)), np.asarray(grid), cumulative)
    distance = np.abs(at - (np.arange(20_000) + 0.5) / 20_000).max()
    assert distance < 0.0115  # Kolmogorov-Smirnov: 1.63 / sqrt(20000) at 1 %


def test_draws_follow_the_density(flow):
    """A classifier cannot tell draws from a grid weighted with the density."""
    n, half = 70, 6.0
    axis = (np.arange(n) + 0.5) / n * 2 * half - half
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    grid = jnp.asarray(grid + rng.uniform(-half / n, half / n, grid.shape))
    given = jnp.full((1, 1), 0.7)
    weights = jnp.exp(flow.log_prob(grid, jnp.broadcast_to(given, (len(grid), 1))))
    draws = flow.sample(given, key=jax.random.key(1), samples=len(grid))[0]
    inside = jnp.all(jnp.abs(draws) < half, axis=1).astype(float)
    zeros = jnp.zeros(len(grid))
    table_ = (
        jnp.concatenate([draws, grid]),
        jnp.concatenate([inside / jnp.sum(inside), zeros]),
        jnp.concatenate([zeros, weights / jnp.sum(weights)]),
    )
    rows = RatioRows(*(part.astype(jnp.float32) for part in table_))
    training = Training(epochs=6, learning_rate=1e-2, batch_size=500)
    found = fit_ratio(rows, key=jax.random.key(2), training=training, hidden=(16,))
    held = found.held
    labels = jnp.concatenate([zeros + 1, zeros])[held]
    auc = roc_auc(found.log_ratio(rows.x)[held], labels, (rows.above + rows.below)[held])
    assert float(auc) < 0.55


def test_eager_is_jit_and_gradients_are_finite_at_the_edges(flow, kind):
    x, given = (part[:5] for part in table(2))
    edges = jnp.array([[-6.0, 8.0], [6.0, -8.0], [0.0, 0.0], [5.9999, 7.9999]])
    with jax.disable_jit():
        eager = flow.log_prob(x[:1], given[:1])
    np.testing.assert_allclose(flow.log_prob(x, given)[:1], eager, rtol=1e-6)
    at = jnp.concatenate([edges, jnp.array([[1e8, 0.0], [40.0, -40.0]])])
    if kind == "ranges and a circle":
        at = edges
    context = jnp.full((len(at), 1), 0.7)

    @eqx.filter_jit
    def gradients(at, flow):
        leaves, rest = eqx.partition(flow, flow.trained())

        def total(at, leaves):
            return jnp.sum(eqx.combine(leaves, rest).log_prob(at, context))

        return jax.grad(total, argnums=(0, 1))(at, leaves)

    for leaf in jax.tree.leaves(gradients(at, flow)):
        assert np.isfinite(np.asarray(leaf)).all()


def test_the_condition_is_respected(flow):
    x, given = (part[:5] for part in table(2))
    assert np.abs(flow.log_prob(x, given + 1) - flow.log_prob(x, given)).max() > 1e-3
    alone = flow.log_prob(x[:1], given[:1])
    np.testing.assert_allclose(flow.log_prob(x, given)[:1], alone, rtol=1e-6)
    few = flow.sample(given[:2], key=jax.random.key(1), samples=4)
    many = flow.sample(given, key=jax.random.key(1), samples=4)
    np.testing.assert_allclose(few, many[:2], rtol=1e-6)


def test_saved_and_loaded_it_is_the_same_to_the_last_bit(flow, kind, tmp_path):
    x, given = (part[:5] for part in table(2))
    make, options = KINDS[kind]
    save_weights(tmp_path / "flow", flow)
    like = make(*table(2), key=jax.random.key(5), **options)
    assert np.abs(like.log_prob(x, given) - flow.log_prob(x, given)).max() > 1e-3
    again = load_weights(tmp_path / "flow", like)
    np.testing.assert_array_equal(again.log_prob(x, given), flow.log_prob(x, given))


def test_wrong_shapes_are_refused(flow):
    x, given = table(2)
    with pytest.raises(InputError, match="x has shape"):
        flow.log_prob(x[:, :1], given)
    with pytest.raises(InputError, match="the flow takes 1"):
        flow.sample(x, key=jax.random.key(0))
    with pytest.raises(InputError, match="no context was given"):
        flow.log_prob(x)
    with pytest.raises(InputError, match="latent columns"):
        flow.inverse(x[:, :1], given)


def test_the_graph_does_not_grow_with_the_layers():
    x, given = table(2)

    def size(layers: int) -> int:
        make, options = KINDS["spline coupling"]
        one = make(x, given, key=jax.random.key(0), **(options | {"layers": layers}))
        return len(str(jax.make_jaxpr(lambda v, c: one.log_prob(v, c))(x[:2], given[:2])))

    assert size(9) < 1.05 * size(3)


def test_every_layer_moves_other_columns():
    make, _ = KINDS["spline coupling"]
    x, given = table(5, 20)
    orders = make(x, given, key=jax.random.key(0), **(SMALL | {"layers": 6})).body.layers.order
    passing = [set(row[:2].tolist()) for row in orders]
    assert all(not (a & b) for a, b in zip(passing[::2], passing[1::2], strict=True))
    assert len({frozenset(one) for one in passing}) == 6
