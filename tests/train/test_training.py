"""The one place of the defaults of a training."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from difana._errors import ConfigError
from difana.train import Training


@pytest.mark.parametrize(
    ("option", "match"),
    [
        ({"epochs": 0}, "epochs = 0"),
        ({"epochs": None}, "epochs = None"),
        ({"steps": 2.5}, "steps = 2.5"),
        ({"batch_size": -1}, "batch_size = -1"),
        ({"patience": True}, "patience = True"),
        ({"learning_rate": 0.0}, "learning_rate = 0"),
        ({"learning_rate": float("nan")}, "learning_rate = nan"),
        ({"final_rate": 1.5}, "final_rate = 1.5"),
        ({"held_out": 0.0}, "held_out = 0"),
        ({"held_out": 1.0}, "held_out = 1"),
        ({"average": 1.0}, "average = 1"),
        ({"average": 0}, "average = 0"),
        ({"schedule": "cosin"}, "'cosine'"),
    ],
)
def test_values_without_a_meaning_are_refused(option, match):
    with pytest.raises(ConfigError, match=match):
        Training(**option)


def test_steps_and_batches():
    training = Training(epochs=3)
    assert [training.batch(rows) for rows in (50, 1000, 64_000, 10**6)] == [50, 128, 1000, 2048]
    assert (training.steps_an_epoch(1000), training.steps_for(1000)) == (7, 21)
    small = Training(steps=11, batch_size=2000)
    assert (small.batch(1000), small.steps_an_epoch(1000), small.steps_for(1000)) == (1000, 1, 11)


def test_rates():
    cosine = Training(learning_rate=0.1, final_rate=0.2).rate(10)
    expected = 0.1 * (0.2 + 0.8 * (1 + np.cos(np.pi * np.arange(11) / 10)) / 2)
    np.testing.assert_allclose([float(cosine(i)) for i in range(11)], expected, rtol=1e-6)
    flat = Training(learning_rate=0.1, schedule="constant").rate(10)
    assert float(flat(0)) == float(flat(10)) == pytest.approx(0.1)


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Training().epochs = 3  # pyright: ignore
