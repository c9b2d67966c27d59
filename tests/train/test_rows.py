"""Rows instead of samples: batches, held-out part, early stopping, padding."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from difana._errors import ConfigError, InputError
from difana.train import (
    RowSampler,
    Training,
    TrainStatus,
    Weighted,
    minimise,
    pad_batch,
    train_rows,
)

KEY = jax.random.key(0)
RNG = np.random.default_rng(1)
X = RNG.normal(size=(200, 2))
ROWS = {"x": X, "y": X @ np.array([1.0, -2.0]) + 0.1 * RNG.normal(size=200)}


def squares(model, batch, step):
    residual = batch.rows["y"] - batch.rows["x"] @ model
    return jnp.sum(batch.weights * residual**2) / jnp.sum(batch.weights), {}


def test_batches_are_pure_in_the_index_and_go_through_all_rows():
    rows = {"a": np.arange(10), "b": np.arange(10)[:, None] * 2.0}
    draw, again = (RowSampler(rows, key=KEY, size=3) for _ in range(2))
    late = again(7)
    drawn = [draw(i) for i in range(8)]
    np.testing.assert_array_equal(drawn[7]["a"], late["a"])
    seen = np.concatenate([batch["a"] for batch in drawn[:3]])
    assert len(set(seen.tolist())) == 9
    for batch in drawn:
        np.testing.assert_array_equal(2.0 * batch["a"], batch["b"][:, 0])
    other = RowSampler(rows, key=jax.random.key(1), size=3)(0)
    assert set(other["a"].tolist()) != set(drawn[0]["a"].tolist())
    whole = RowSampler(rows, key=KEY, size=10)
    assert whole.whole
    np.testing.assert_array_equal(whole(3)["a"], rows["a"])


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ({}, "no rows"),
        (np.ones((0, 2)), "no rows"),
        ({"a": np.ones(3), "b": np.ones(4)}, r"\['a'\] has 3, \['b'\] has 4"),
        ({"a": np.ones(3), "b": 1.0}, r"\['b'\] is a single number"),
    ],
)
def test_rows_without_a_common_axis_are_refused(rows, match):
    with pytest.raises(InputError, match=match):
        RowSampler(rows, key=KEY, size=2)


def test_least_squares():
    training = Training(learning_rate=0.1, batch_size=32, epochs=40)
    result = train_rows(squares, jnp.zeros(2), ROWS, key=KEY, training=training)
    np.testing.assert_allclose(result.trainable, [1.0, -2.0], atol=0.03)
    assert result.best_metric == pytest.approx(0.01, rel=0.4)
    assert result.ok


def test_held_out_rows_are_not_trained_on_and_stop_the_training():
    """Labels are noise: every epoch fits the training rows better and the others worse."""
    noise = {"x": RNG.normal(size=(60, 40)), "y": RNG.normal(size=60)}
    training = Training(learning_rate=0.05, batch_size=10, epochs=100, patience=4, held_out=0.3)
    result = train_rows(squares, jnp.zeros(40), noise, key=KEY, training=training)
    assert result.status == TrainStatus.STOPPED_EARLY
    metric = [r["metric"] for r in result.history if r["kind"] == "validation"]
    assert result.best_metric == min(metric)
    assert len(metric) == 5 + metric.index(min(metric))  # the start, epochs, four without a best
    split = jax.random.split(KEY)[0]
    held = np.array(jax.random.uniform(split, (60,)) < 0.3)
    held[[0, -1]] = True, False
    # of the initial state: the mean square of the labels of the held-out rows alone
    assert metric[0] == pytest.approx(np.mean(noise["y"][held] ** 2), rel=1e-6)


def test_weights_count_as_copies():
    twice = {name: np.concatenate([part, part[100:]]) for name, part in ROWS.items()}
    weights = np.where(np.arange(200) < 100, 1.0, 2.0)
    options = {"steps": 60, "optimizer": optax.sgd(0.3), "key": KEY}
    found = [
        minimise(squares, jnp.zeros(2), RowSampler(Weighted(r, w), key=KEY, size=400), **options)
        for r, w in ((ROWS, weights), (twice, np.ones(300)))
    ]
    np.testing.assert_allclose(found[0].trainable, found[1].trainable, rtol=1e-10)


def test_what_makes_no_sense_is_refused():
    def call(rows=ROWS, **options):
        return train_rows(squares, jnp.zeros(2), rows, key=KEY, **options)

    with pytest.raises(InputError, match="200 rows and weights of shape"):
        call(weights=np.ones(3))
    with pytest.raises(InputError, match="total weight of 0"):
        call(weights=np.zeros(200))
    with pytest.raises(InputError, match="needs at least 2"):
        call(rows={"x": np.ones((1, 2)), "y": np.ones(1)})
    with pytest.raises(ConfigError, match=r"give Training\(patience="):
        call(patience=3)
    with pytest.raises(ConfigError, match="give held_out_loss"):
        call(validate=lambda model: (0.0, {}))


def test_a_draw_of_ones_own_resumes_and_is_compared(tmp_path):
    class Draw:
        def __init__(self, shift):
            self.shift = shift

        def __call__(self, index):
            return jnp.asarray([index + self.shift])

    def own(w, batch, step):
        return jnp.mean((w - batch) ** 2), {}

    def run(draw, folder=tmp_path):
        options = {"steps": 6, "optimizer": optax.sgd(0.1), "key": KEY, "checkpoint": folder}
        return minimise(own, jnp.asarray(0.0), draw, **options)

    first = run(Draw(0.0))
    assert float(run(Draw(0.0)).trainable) == float(first.trainable)
    with pytest.raises(ConfigError, match="first batch was"):
        run(Draw(1.0))
    named = Draw(0.0)
    named.facts = lambda: {"files": ["a.root"]}
    run(named, tmp_path / "named")
    other = Draw(0.0)
    other.facts = lambda: {"files": ["b.root"]}
    with pytest.raises(ConfigError, match=r"draw\.files was"):
        run(other, tmp_path / "named")


def test_rows_are_padded_by_weight_zero_or_refused():
    batch = pad_batch(Weighted({"x": jnp.arange(1.0, 4.0)}, jnp.full(3, 2.0)), multiple=4)
    assert batch.rows["x"].tolist() == [1.0, 2.0, 3.0, 1.0]
    assert batch.weights.tolist() == [2.0, 2.0, 2.0, 0.0]
    with pytest.raises(ConfigError, match="multiple of 4"):
        pad_batch({"x": jnp.arange(3.0)}, multiple=4)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight simulated devices")
def test_eight_devices_give_the_result_of_one():
    training = Training(learning_rate=0.1, batch_size=30, epochs=2)
    one, eight = (
        train_rows(squares, jnp.zeros(2), ROWS, key=KEY, training=training, mesh=mesh)
        for mesh in (None, jax.make_mesh((8,), ("rows",)))
    )
    np.testing.assert_allclose(eight.last, one.last, rtol=1e-10)
