"""Options that count something are whole numbers, in every room."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from difana._errors import ConfigError
from difana._options import real_number, whole_number
from difana.analysis import best_bins, coverage, observable_profiles
from difana.data import BatchSampler, Events, Sample
from difana.infer import sample_data
from difana.likelihood import Channel, NormFactor, Template, build_model
from difana.nn import MLP
from difana.train import fit, fit_ensemble, make_step

WRONG = [2.5, 2.0, float("nan"), float("inf"), True, "3", None, -1, 0, np.float32(2.5), [3], 2**40]


@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_wrong_counts_are_refused(value):
    with pytest.raises(ConfigError, match=r"^steps = "):
        whole_number("steps", value)


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), jnp.asarray(3), np.asarray(3)])
def test_whole_numbers_of_all_kinds_become_int(value):
    assert type(whole_number("steps", value)) is int


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1", None, True, [1.0]], ids=repr)
def test_wrong_measures_are_refused(value):
    with pytest.raises(ConfigError, match="finite number"):
        real_number("rate", value)
    with pytest.raises(ConfigError, match="above 0"):
        real_number("rate", 0.0, above=0)


def loss(c, batch, step):
    return (c - 3.0) ** 2, {}


SAMPLE = Sample(Events(jnp.ones((8, 1)), jnp.ones(8), columns=("x",)), name="d")
FIT = {"steps": 2, "batch_size": 8, "optimizer": optax.sgd(0.1), "progress_bar": False}


def train(**options):
    return fit(loss, jnp.asarray(0.0), [SAMPLE], key=jax.random.key(0), **(FIT | options))


def ensemble(**options):
    return fit_ensemble(
        loss, [jnp.asarray(0.0)], [SAMPLE], keys=[jax.random.key(0)], **(FIT | options)
    )


def simple():
    signal = Template([10.0], (NormFactor("mu"),), name="signal")
    return build_model([Channel((signal, Template([50.0], name="b")), name="SR")])


def drawn(**options):
    model = simple()
    return sample_data(model, model.init, key=jax.random.key(0), **options)


def toys(**options):
    model = simple()
    return coverage(model, mu=[1.0], key=jax.random.key(0), **({"number": 2} | options))


CALLS = {
    "steps": lambda v: train(steps=v),
    "batch_size": lambda v: train(batch_size=v),
    "validate_every": lambda v: train(validate_every=v),
    "checkpoint_every": lambda v: train(checkpoint_every=v),
    "patience": lambda v: train(patience=v),
    "max_nonfinite": lambda v: train(max_nonfinite=v),
    "ensemble steps": lambda v: ensemble(steps=v),
    "ensemble batch_size": lambda v: ensemble(batch_size=v),
    "make_step": lambda v: make_step(loss, optax.sgd(0.1), combine=lambda a, b: a, steps=v),
    "sampler": lambda v: BatchSampler([SAMPLE], key=jax.random.key(0), size=v),
    "width": lambda v: MLP(1, [v], key=jax.random.key(0)),
    "toys": lambda v: toys(number=v),
    "drawn": lambda v: drawn(number=v),
    "bins": lambda v: best_bins([[]], lambda own: 0.0, bins=v),
    "budget": lambda v: best_bins([[]], lambda own: 0.0, bins=2, budget=v),
    "profile": lambda v: observable_profiles(lambda x: x, [SAMPLE], bins=v),
}


@pytest.mark.parametrize("value", [2.5, True, float("nan"), -1], ids=repr)
@pytest.mark.parametrize("option", CALLS)
def test_every_room_asks(option, value):
    if (option, value) == ("sampler", -1):
        pytest.skip("an InputError for long, tested with the sampler")
    with pytest.raises(ConfigError):
        CALLS[option](value)
