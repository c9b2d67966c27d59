"""What every result of every room has in common."""

import enum
import importlib
import pkgutil
from dataclasses import fields

import jax.numpy as jnp
import pytest

import difana
from difana._result import AbstractResult
from difana._status import Status, StatusBits, describe, trustworthy
from difana.infer import NotesStatus, delta_nll, fit, impacts, observables, total, yields
from difana.likelihood import Channel, NormFactor, Template, build_model
from difana.train import TrainStatus
from difana.unfold import UnfoldStatus

ROOMS = [m.name for m in pkgutil.iter_modules(difana.__path__) if m.ispkg and m.name != "cli"]


@pytest.mark.parametrize("room", ROOMS)
def test_public_results_share_one_base(room):
    """Status, ``ok`` and words: whoever knows one result knows all."""
    door = importlib.import_module(f"difana.{room}")
    for name in door.__all__:
        if not name.endswith("Result") or name == "AbstractResult":
            continue
        found = getattr(door, name)
        assert issubclass(found, AbstractResult), name
        assert issubclass(found.bits, StatusBits), name
        assert "status" in {field.name for field in fields(found)} | set(dir(found)), name


@pytest.mark.parametrize("bits", [Status, TrainStatus, NotesStatus, UnfoldStatus])
def test_every_bit_has_its_own_words(bits):
    assert isinstance(bits, type(enum.IntFlag))
    sentences = [describe(int(bit), bits) for bit in bits if bit]
    assert len(set(sentences)) == len(sentences) == len(bits.sentences())
    assert "ok" not in sentences
    for bit in bits:
        good = bool(trustworthy(int(bit), bits))
        assert good == (int(bit) & ~bits.harmless() == 0)


@pytest.fixture(scope="module")
def lonely():
    """A model without nuisances, and a fit to it that was stopped."""
    model = build_model([Channel((Template([10.0], (NormFactor("mu"),), name="s"),), name="SR")])
    return model, fit(model, model.data([55.0]), max_steps=1)


def test_what_rests_on_a_fit_takes_its_status(lonely):
    model, stopped = lonely
    assert not stopped.ok
    data = model.data([55.0])
    found = impacts(model, data, fit=stopped, method="gradient")
    assert found.names == ()
    for result in (
        found,
        yields(model, fit=stopped),
        observables(model, total("SR"), fit=stopped),
        delta_nll(model, data, stopped, jnp.asarray([5.5])),
    ):
        assert not result.ok
        assert "before it converged" in result.message
        assert result.verdict == result.message


def test_yields_below_zero_are_said():
    signal, negative = Template([1.0], (NormFactor("mu"),), name="s"), Template([-3.0], name="b")
    model = build_model([Channel((signal, negative), name="SR")])
    for result in (yields(model), observables(model, total("SR"))):
        assert not result.ok
        assert "negative yield" in result.message


@pytest.mark.parametrize("spread", ["linear", "symmetric"])
def test_yields_of_a_model_without_parameters(spread):
    model = build_model([Channel((Template([10.0, 3.0], name="b"),), name="SR")], poi=None)
    found = yields(model, spread=spread, full_covariance=True)
    assert found.ok
    assert found.as_dict()["channels"]["SR"]["sum"] == 13.0
    assert not jnp.any(found.covariance)
