"""A toy analysis: two Gaussian samples, separated by a line or a small network."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from difana import train as train_room
from difana.data.events import Events
from difana.data.samples import Sample


def cross_entropy(score: Callable, batch: tuple[Sample, ...]) -> jax.Array:
    """Weighted cross-entropy; each sample counts with weight one half."""
    signal, background = batch
    loss = 0.0
    for sample, sign in ((signal, -1.0), (background, 1.0)):
        w = sample.nominal.weights
        loss += jnp.sum(w * jax.nn.softplus(sign * score(sample.nominal.features)[:, 0]))
        loss = loss / jnp.sum(w)
    return loss


@pytest.fixture(scope="session")
def toy() -> SimpleNamespace:
    """Samples, a linear trainable, its loss and its validation."""
    generator = np.random.default_rng(0)

    def sample(name: str, mean: float, n: int) -> Sample:
        x = generator.normal(mean, 1.0, size=(n, 2))
        return Sample(Events(jnp.asarray(x), jnp.full(n, 0.1), columns=("a", "b")), name=name)

    train = (sample("signal", 1.0, 70), sample("background", -1.0, 120))
    test = (sample("signal", 1.0, 50), sample("background", -1.0, 50))

    def loss(trainable, batch, step):
        value = cross_entropy(lambda x: x @ trainable["w"] + trainable["b"], batch)
        return value, {"progress": step.progress, "bias": trainable["b"][0]}

    @jax.jit
    def validate(trainable):
        value = cross_entropy(lambda x: x @ trainable["w"] + trainable["b"], test)
        return value, {"bias": trainable["b"][0]}

    start = {"w": jnp.zeros((2, 1)), "b": jnp.zeros(1)}
    return SimpleNamespace(
        samples=train,
        test=test,
        loss=loss,
        validate=validate,
        start=start,
        cross_entropy=cross_entropy,
    )


@pytest.fixture(scope="session")
def fit(toy) -> Callable[..., train_room.TrainResult]:
    """``fit(**options)``: the toy training with other options."""

    def run(**options) -> train_room.TrainResult:
        settings = {
            "steps": 20,
            "batch_size": 32,
            "optimizer": optax.adam(0.05),
            "key": jax.random.key(3),
            "validate": toy.validate,
            "validate_every": 5,
        } | options
        loss, start = settings.pop("loss", toy.loss), settings.pop("start", toy.start)
        return train_room.fit(loss, start, toy.samples, **settings)

    return run
