"""A checkpoint belongs to one training: its data, loss, optimizer and rate, not its names."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from difana._errors import ConfigError
from difana.data import Events, Sample
from difana.train import fit


def sample(x=range(8), weights=(1.0,) * 8, name="d"):
    x = jnp.asarray(x, float)[:, None]
    return Sample(Events(x, jnp.asarray(weights), columns=("x",)), name=name)


def squares(state, batch, step, *, power=2.0, shift=0.0):
    distance = jnp.abs(batch[0].nominal["x"] - state["c"] + shift + 0.5)
    return jnp.mean(distance**power) + 0 * state["fixed"].sum(), {}


class Stop(Exception):
    pass


def train(folder, *, stop=None, **changes):
    class Logger:
        def start(self, *, stage, step): ...
        def close(self): ...
        def log(self, record):
            if record["step"] == stop:
                raise Stop

    options = {
        "loss": squares,
        "samples": [sample()],
        "optimizer": optax.adam(optax.cosine_decay_schedule(0.2, 12)),
        "start": {"c": jnp.asarray(0.0), "fixed": jnp.arange(3.0)},
        "validate": lambda state: (jnp.abs(state["c"] - 3), {}),
        "validate_every": 4,
    } | changes
    loss, start = options.pop("loss"), options.pop("start")
    return fit(
        loss, start, options.pop("samples"), steps=12, batch_size=4, key=jax.random.key(0),
        checkpoint=folder, checkpoint_every=3, trained={"c": True, "fixed": False},
        logger=Logger(), progress_bar=False, **options,
    )  # fmt: skip


def with_offset(offset):
    return lambda state, batch, step: (squares(state, batch, step)[0] + offset, {})


PROGRAM = "loss or optimizer"
CHANGED = {
    "data": ({"samples": [sample(range(1, 9))]}, "samples.0 was 8 events"),
    "order": ({"samples": [sample([1, 0, *range(2, 8)])]}, "samples.0 was 8 events"),
    "weights": ({"samples": [sample(weights=[0.5, 1.5] * 4)]}, "samples.0 was 8 events"),
    "loss": ({"loss": with_offset(0.0)}, PROGRAM),
    "partial": ({"loss": functools.partial(squares, power=2.0001)}, PROGRAM),
    "optimizer": ({"optimizer": optax.sgd(0.2)}, "optimizer"),
    "rate": ({"optimizer": optax.adam(optax.cosine_decay_schedule(0.21, 12))}, PROGRAM),
    "schedule": ({"optimizer": optax.adam(optax.cosine_decay_schedule(0.2, 13))}, PROGRAM),
    "beta": (
        {"optimizer": optax.adam(optax.cosine_decay_schedule(0.2, 12), b1=0.8)},
        PROGRAM,
    ),
    "fixed": (
        {"start": {"c": jnp.asarray(0.0), "fixed": jnp.arange(3.0) + 1}},
        "checksum of the untrained arrays",
    ),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("trainings")
    whole = train(base / "finished")
    with pytest.raises(Stop):
        train(base / "interrupted", stop=8)
    return base, whole


@pytest.mark.parametrize("state", ["finished", "interrupted"])
@pytest.mark.parametrize("case", CHANGED)
def test_another_training_is_refused_in_one_line(folders, state, case):
    changes, message = CHANGED[case]
    with pytest.raises(ConfigError) as caught:
        train(folders[0] / state, **changes)
    text = str(caught.value)
    assert message in text
    assert "resume=False" in text
    assert "\n" not in text


def test_another_metric_is_refused(folders):
    other = {"validate": lambda state: (jnp.abs(state["c"] - 3.1), {})}
    with pytest.raises(ConfigError, match=r"metric of the initial state was 3, is 3.1"):
        train(folders[0] / "interrupted", **other)


def test_what_does_not_matter_is_not_compared(folders):
    def moved(model, events, fraction):  # the same loss, written elsewhere
        return squares(model, events, fraction)

    again = train(
        folders[0] / "finished", loss=moved, samples=[dataclasses.replace(sample(), name="other")]
    )
    np.testing.assert_array_equal(again.last["c"], folders[1].last["c"])
    with pytest.raises(Stop):
        train(folders[0] / "interrupted", loss=functools.partial(squares, power=2.0), stop=11)
    resumed = train(folders[0] / "interrupted", loss=moved)
    np.testing.assert_array_equal(resumed.last["c"], folders[1].last["c"])
    assert resumed.history == folders[1].history
