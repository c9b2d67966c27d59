"""The loop: convergence, any PyTree, best state, early stopping, non-finite numbers."""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from difana import train
from difana._errors import ConfigError
from difana.train import TrainStatus
from difana.train._book import Book


def records(result, kind):
    return [record for record in result.history if record["kind"] == kind]


def test_converges_to_the_separating_line(fit, toy):
    result = fit(steps=150, optimizer=optax.adam(0.1))
    assert result.ok
    assert result.steps_done == 150
    assert result.message == "ok"
    assert result.skipped == 0
    # Two unit Gaussians at (1, 1) and (-1, -1): the log-likelihood ratio is 2 (a + b).
    np.testing.assert_allclose(result.trainable["w"][:, 0], [2.0, 2.0], atol=0.9)
    assert result.best_metric < 0.2 < float(toy.validate(toy.start)[0])


def test_full_batch_is_plain_gradient_descent(fit, toy):
    result = fit(steps=3, batch_size=1000, optimizer=optax.sgd(0.5), validate=None)
    reference = toy.start
    for step in range(3):
        now = train.Step.at(step, key=jax.random.key(3), steps=3)
        gradient = jax.grad(lambda p, now=now: toy.loss(p, toy.samples, now)[0])(reference)
        reference = jax.tree.map(lambda p, g: p - 0.5 * g, reference, gradient)
    for name in reference:
        np.testing.assert_allclose(result.trainable[name], reference[name], rtol=1e-12)


def test_best_state_is_the_one_validated_best(fit, toy):
    result = fit(steps=40, optimizer=optax.sgd(40.0))
    metrics = {record["step"]: record["metric"] for record in records(result, "validation")}
    assert sorted(metrics) == [0, 5, 10, 15, 20, 25, 30, 35, 40]
    assert result.best_step == min(metrics, key=metrics.get) != 40
    assert result.best_metric == min(metrics.values())
    assert float(toy.validate(result.trainable)[0]) == pytest.approx(result.best_metric, rel=1e-12)
    assert float(toy.validate(result.last)[0]) == pytest.approx(metrics[40], rel=1e-12)
    last = fit(steps=40, optimizer=optax.sgd(40.0), select="last")
    np.testing.assert_array_equal(last.trainable["w"], result.last["w"])


def test_initial_state_is_a_candidate(fit, toy):
    # Uphill: no later state is as good as the start.
    result = fit(loss=lambda *a: (-toy.loss(*a)[0], {}), steps=10)
    assert (result.best_step, result.status) == (0, TrainStatus.OK)
    for name, leaf in toy.start.items():
        np.testing.assert_array_equal(result.trainable[name], leaf)
    assert np.any(result.last["w"] != toy.start["w"])


def test_stops_early_after_patience(fit, toy):
    result = fit(loss=lambda *a: (-toy.loss(*a)[0], {}), steps=1000, patience=3)
    assert (result.status, result.steps_done, result.best_step) == (
        TrainStatus.STOPPED_EARLY,
        15,
        0,
    )
    assert result.ok
    assert "no longer improved" in result.message


def test_a_better_state_resets_the_patience():
    book = Book(best="none")
    waited = []
    for step, metric in enumerate((3.0, 3.5, 4.0, 2.0, math.nan, 2.0, 1.0)):
        book = book.judge(metric, f"state {step}", step=step)
        waited.append(book.waited)
    assert waited == [0, 1, 2, 0, 1, 2, 0]
    assert (book.best, book.metric, book.best_step) == ("state 6", 1.0, 6)


def test_validation_at_the_end_even_if_not_due(fit):
    result = fit(steps=7, validate_every=5)
    assert [record["step"] for record in records(result, "validation")] == [0, 5, 7]


def test_without_validation_the_last_state_is_returned(fit):
    result = fit(steps=4, validate=None)
    assert math.isnan(result.best_metric)
    assert result.best_step == 4
    np.testing.assert_array_equal(result.trainable["w"], result.last["w"])
    assert not records(result, "validation")


def test_history_has_every_step(fit, toy):
    result = fit(steps=5, batch_size=1000)  # the batch is all there is
    steps = records(result, "train")
    assert [record["step"] for record in steps] == [1, 2, 3, 4, 5]
    np.testing.assert_allclose([r["aux"]["progress"] for r in steps], np.linspace(0, 1, 5))
    now = train.Step.at(key=jax.random.key(3))
    value, gradient = jax.value_and_grad(lambda p: toy.loss(p, toy.samples, now)[0])(toy.start)
    assert steps[0] == {
        "stage": "train",
        "kind": "train",
        "step": 1,
        "loss": pytest.approx(float(value), rel=1e-12),
        "gradient_norm": pytest.approx(
            float(sum(jnp.sum(g**2) for g in gradient.values())) ** 0.5, rel=1e-12
        ),
        "skipped": False,
        "aux": {"progress": 0.0, "bias": 0.0},
    }


def test_same_key_same_result_other_key_other_result(fit):
    one, two, other = fit(steps=6), fit(steps=6), fit(steps=6, key=jax.random.key(4))
    assert one.history == two.history
    np.testing.assert_array_equal(one.last["w"], two.last["w"])
    assert np.any(one.last["w"] != other.last["w"])


def test_the_arguments_survive(fit, toy):
    fit(steps=2)
    assert np.all(np.asarray(toy.start["w"]) == 0), "donation must not eat the caller's arrays"


class Line(eqx.Module):
    layer: eqx.nn.Linear
    activation: object = eqx.field(static=True)
    name: str = eqx.field(static=True, default="line")

    def __call__(self, x):
        return jax.vmap(self.layer)(x)


class Perceptron(nnx.Module):
    def __init__(self, *, rngs):
        self.inner = nnx.Linear(2, 4, rngs=rngs, param_dtype=jnp.float64)
        self.norm = nnx.LayerNorm(4, rngs=rngs, param_dtype=jnp.float64)
        self.outer = nnx.Linear(4, 1, rngs=rngs, param_dtype=jnp.float64)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)  # holds a random key and a counter
        self.activation = jax.nn.gelu

    def __call__(self, x):
        return self.outer(self.activation(self.norm(self.inner(x))))


def nets():
    line = Line(eqx.nn.Linear(2, 1, key=jax.random.key(0)), jax.nn.relu)
    return {
        "equinox": (line, lambda t: t),
        "nnx": (Perceptron(rngs=nnx.Rngs(0)), lambda t: t),
        "dictionary": (
            {
                "net": Perceptron(rngs=nnx.Rngs(1)),
                "scale": np.ones(1),
                "line": line,
                "function": jax.nn.tanh,
                "count": jnp.arange(3),
            },
            lambda t: lambda x: t["net"](x) * t["scale"] + t["function"](t["line"](x)),
        ),
    }


@pytest.mark.parametrize("kind", ["equinox", "nnx", "dictionary"])
def test_any_pytree(kind, fit, toy, tmp_path):
    start, network = nets()[kind]

    def loss(trainable, batch, step):
        return toy.cross_entropy(network(trainable), batch), {}

    @eqx.filter_jit
    def validate(trainable):
        return toy.cross_entropy(network(trainable), toy.test), {}

    options = {"loss": loss, "start": start, "validate": validate, "steps": 8}
    result = fit(**options, checkpoint=tmp_path)
    assert type(result.trainable) is type(start)
    assert result.best_metric < float(validate(start)[0])
    assert jax.tree.structure(result.trainable) == jax.tree.structure(start)
    assert network(result.trainable)(toy.test[0].nominal.features).shape == (50, 1)
    again = fit(**options, checkpoint=tmp_path)
    pair = (jax.tree.leaves(eqx.filter(r.last, eqx.is_inexact_array)) for r in (result, again))
    for one, two in zip(*pair, strict=True):
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one, two)


def test_only_the_chosen_leaves_are_trained(fit, toy):
    result = fit(steps=5, trained={"w": True, "b": False})
    np.testing.assert_array_equal(result.last["b"], toy.start["b"])
    assert np.all(result.last["w"] != toy.start["w"])


def test_the_step_compiles_once(fit, toy):
    traces = []

    def loss(*arguments):
        traces.append(1)
        return toy.loss(*arguments)

    # A weakly typed leaf must not make the second step compile again.
    start = {"w": jnp.zeros((2, 1)), "b": jnp.full(1, 0.0)}
    assert start["b"].weak_type
    fit(loss=loss, start=start, steps=6)
    assert len(traces) == 1


def test_optimizers_that_ask_for_the_loss(fit):
    plateau = optax.chain(optax.adam(0.05), optax.contrib.reduce_on_plateau(patience=2))
    assert fit(steps=4, optimizer=plateau).skipped == 0
    search = fit(steps=4, optimizer=optax.lbfgs(), batch_size=1000)
    assert search.best_metric < 0.3


def test_noise_from_a_key_in_the_optimizer_state(fit, tmp_path):
    noisy = optax.chain(optax.add_noise(0.1, 0.5, jax.random.key(0)), optax.sgd(0.1))
    one = fit(steps=4, optimizer=noisy, checkpoint=tmp_path)
    assert one.skipped == 0
    two = fit(steps=4, optimizer=noisy, checkpoint=tmp_path)
    np.testing.assert_array_equal(one.last["w"], two.last["w"])


def nan_between(toy, first, last):
    """Return the toy loss with a gradient that is NaN at steps first..last of 21."""

    def loss(trainable, batch, step):
        value, aux = toy.loss(trainable, batch, step)
        number = jnp.round(step.progress * 20) + 1
        bad = (number >= first) & (number <= last)
        return value + jnp.where(bad, jnp.nan, 0.0) * trainable["w"][0, 0], aux

    return loss


def test_nonfinite_steps_are_skipped(fit, toy):
    result = fit(loss=nan_between(toy, 4, 6), steps=21)
    assert (result.status, result.skipped) == (TrainStatus.OK, 3)
    skipped = [record["step"] for record in records(result, "train") if record["skipped"]]
    assert skipped == [4, 5, 6]
    assert all(record["loss"] is None for record in records(result, "train")[3:6])
    assert np.all(np.isfinite(result.last["w"]))
    # Three steps without update are three steps missing.
    before = fit(loss=nan_between(toy, 4, 6), steps=21, validate_every=3)
    aux = [record["aux"]["bias"] for record in records(before, "train")]
    assert aux[3] == aux[4] == aux[5] == aux[6] != aux[7]


def test_diverged_stops_with_a_diagnosis(fit, toy):
    result = fit(loss=nan_between(toy, 8, 21), steps=21, max_nonfinite=4)
    assert (result.status, result.steps_done, result.skipped) == (TrainStatus.DIVERGED, 11, 4)
    assert not result.ok
    assert result.message.startswith("the training diverged")
    assert "steps 8 to 11 skipped: the loss is nan" in result.message
    assert "clip" in result.message
    assert records(result, "validation")[-1]["step"] == 11, "the last good state is a candidate"
    # the update of step 7 led to where the loss is not finite: the state before it is good
    good = fit(loss=nan_between(toy, 7, 21), steps=21, max_nonfinite=100)
    np.testing.assert_array_equal(result.last["w"], good.last["w"])
    assert np.all(np.isfinite(result.trainable["w"]))


def test_a_nonfinite_gradient_names_the_leaf(fit, toy):
    def loss(trainable, batch, step):
        value, aux = toy.loss(trainable, batch, step)
        return value + jnp.sqrt(jnp.sum(trainable["w"] ** 2)), aux  # gradient 0/0 at w = 0

    result = fit(loss=loss, max_nonfinite=2)
    assert result.status == TrainStatus.DIVERGED
    assert "the gradient is not finite in ['w']" in result.message


def test_an_overflowing_update_is_skipped(fit):
    result = fit(optimizer=optax.sgd(1e308 * 10), max_nonfinite=3)
    assert (result.status, result.skipped) == (TrainStatus.DIVERGED, 3)
    assert "update overflows" in result.message


def test_a_metric_that_is_nan_is_never_the_best(fit, toy):
    def sometimes(trainable):
        value, aux = toy.validate(trainable)
        return jnp.where(trainable["b"][0] == 0, jnp.nan, value), aux

    result = fit(validate=sometimes)
    assert result.history[0]["metric"] is None
    assert result.best_step > 0
    never = fit(validate=lambda trainable: (math.nan, {}), steps=6)
    assert (never.status, never.best_step) == (TrainStatus.NO_METRIC, 6)
    assert not never.ok
    assert never.message.endswith("never was finite: the last state is returned")
    np.testing.assert_array_equal(never.trainable["w"], never.last["w"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps = 0"),
        ({"patience": 0}, "patience = 0"),
        ({"validate_every": 0}, "validate_every = 0"),
        ({"select": "worst"}, "select = 'worst'"),
        ({"start": {"n": jnp.arange(3)}}, "nothing to train"),
        ({"start": {"n": jnp.arange(3)}, "trained": lambda leaf: True}, r"\['n'\] is no floating"),
        ({"loss": lambda *a: 1.0}, "must return"),
        ({"loss": lambda t, b, p: (t["w"], {})}, "real scalar"),
        ({"loss": lambda t, b, p: (t["b"][0], {"x": t["w"]})}, r"aux\['x'\]"),
        ({"validate": lambda t: 1.0}, "validate must return"),
    ],
)
def test_wrong_options_are_refused(options, message, fit):
    with pytest.raises(ConfigError, match=message):
        fit(**options)


def test_a_bar_is_shown_on_a_terminal_only(fit, capsys, monkeypatch):
    fit(steps=2)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    fit(steps=2, stage="limit")
    shown = capsys.readouterr().err
    assert "limit" in shown
    assert "2/2" in shown
    assert "loss" in shown
    fit(steps=2, progress_bar=False)
    assert capsys.readouterr() == ("", "")


def test_loggers_get_every_record(fit):
    class Collect:
        def __init__(self):
            self.calls = []

        def start(self, *, stage, step):
            self.calls.append(("start", stage, step))

        def log(self, record):
            self.calls.append(record)

        def close(self):
            self.calls.append("closed")

    logger = Collect()
    assert isinstance(logger, train.Logger)
    result = fit(steps=3, stage="a", logger=logger)
    assert logger.calls == [("start", "a", -1), *result.history, "closed"]
