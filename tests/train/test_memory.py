"""A loss that hands something on from step to step."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import ConfigError


def remembering(toy, break_at=-1.0):
    def loss(trainable, batch, step, memory):
        value, aux = toy.loss(trainable, batch, step)
        value = jnp.where(jnp.isclose(step.progress, break_at), jnp.nan, value)
        memory = {"sum": memory["sum"] + value, "steps": memory["steps"] + 1}
        return value, aux | {"sum": memory["sum"], "steps": memory["steps"]}, memory

    return loss


START = {"sum": jnp.asarray(0.0), "steps": jnp.asarray(0)}


def test_memory_is_handed_on(fit, toy):
    seen = []

    def validate(trainable, memory):
        seen.append(int(memory["steps"]))
        return toy.validate(trainable)

    result = fit(loss=remembering(toy), memory=START, steps=6, validate=validate, select="last")
    assert seen == [0, 5, 6]
    assert int(result.memory["steps"]) == 6
    rows = [row for row in result.history if row["kind"] == "train"]
    assert [row["aux"]["steps"] for row in rows] == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(
        [row["aux"]["sum"] for row in rows], np.cumsum([row["loss"] for row in rows]), rtol=1e-12
    )
    assert int(START["steps"]) == 0


def test_a_skipped_step_leaves_no_memory(fit, toy):
    result = fit(loss=remembering(toy, break_at=0.4), memory=START, steps=6, validate=None)
    rows = [row for row in result.history if row["kind"] == "train"]
    assert [row["skipped"] for row in rows] == [False, False, True, False, False, False]
    assert rows[-1]["aux"]["steps"] == 5
    assert np.isfinite(rows[-1]["aux"]["sum"])


def test_a_resumed_training_remembers(fit, toy, tmp_path):
    options = {"loss": remembering(toy), "memory": START, "checkpoint_every": 3}
    options["validate"] = lambda trainable, memory: toy.validate(trainable)
    whole = fit(**options, steps=9, checkpoint=tmp_path / "whole")

    class Killed(Exception):
        pass

    class Killer:
        def start(self, *, stage, step):
            pass

        def log(self, record):
            if record["step"] == 5:
                raise Killed

        def close(self):
            pass

    with pytest.raises(Killed):
        fit(**options, steps=9, checkpoint=tmp_path / "killed", logger=Killer())
    resumed = fit(**options, steps=9, checkpoint=tmp_path / "killed")
    assert resumed.history == whole.history
    assert jax.tree.all(jax.tree.map(lambda a, b: a == b, resumed.memory, whole.memory))


def test_a_loss_must_return_its_memory(fit, toy):
    with pytest.raises(ConfigError, match="with a memory must return"):
        fit(loss=lambda t, b, p, memory: toy.loss(t, b, p), memory=START, validate=None)
    with pytest.raises(ConfigError, match="must return"):
        fit(loss=lambda t, b, p: (jax.numpy.asarray(1.0), {}, 3))
