"""Four ways to fail: each stops the training, names the culprit and keeps the last good state."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from difana import train
from difana.data import Events, Sample, Transformation
from difana.likelihood import (
    Channel,
    HistoSys,
    NormFactor,
    NormSys,
    StatError,
    Template,
    channel_from_events,
)
from difana.train import TrainStatus
from difana.train.diagnose import _of_edges

NAN = float("nan")


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(0)

    def sample(name, centre, **options):
        x = jnp.asarray(rng.normal(centre, 0.5, (40, 1)))
        shift = Transformation(function=lambda x, alpha: x / (1 - 0.5 * alpha), name="scale")
        return Sample(Events(x, jnp.full(40, 0.5)), (shift,), name=name, **options)

    return sample("signal", 0.8, normfactors=("mu",)), sample("top", 0.2)


@eqx.filter_jit
def channel(state, batch):
    return channel_from_events(
        lambda x: state["slope"] * x, batch, edges=state["edges"], bandwidth=None
    )


def watch(state, batch):
    return train.diagnose(channel(state, batch), edges=state["edges"], events=2.0)


START = {"slope": jnp.asarray(1.0), "edges": jnp.array([-1.0, 0.0, 0.5, 2.0])}


def run(samples, loss, rate, start=START, **options):
    """Descend; the checkpoint of the last state comes back, too."""
    settings = {"steps": 60, "batch_size": 40, "validate_every": 1, "watch": watch} | options
    return train.fit(
        loss, start, samples, optimizer=optax.sgd(rate), key=jax.random.key(0), **settings
    )


def on_disk(samples, loss, rate, folder, **options):
    """Return the result, and what a second call reads from the disk."""
    first = run(samples, loss, rate, checkpoint=folder, **options)
    again = run(samples, loss, rate, checkpoint=folder, **options)
    assert (again.status, again.message) == (first.status, first.message) != (0, "ok")
    for one, two in zip(*map(jax.tree.leaves, (first.last, again.last)), strict=True):
        np.testing.assert_array_equal(one, two)
    return first


def test_diverging_loss(samples, tmp_path):
    def loss(state, batch, step):
        return (state["slope"] - 1.5) ** 2, {}

    # the error grows by a factor of 19 a step: from 0.25 beyond a thousand times as much
    result = on_disk(samples, loss, 10.0, tmp_path, watch=None, max_nonfinite=3)
    assert result.status == TrainStatus.DIVERGED
    assert "far above its lowest value, 0.25" in result.message
    assert float(loss(result.last, None, None)[0]) < 1e3
    assert result.steps_done < 10


def test_vanishing_bins(samples, tmp_path):
    def loss(state, batch, step):  # drives all events into the last bin
        return -state["slope"], {}

    result = on_disk(samples, loss, 1.0, tmp_path)
    assert result.status == TrainStatus.DIVERGED
    assert "channel 'SR': bin" in result.message
    assert "effective simulated background event" in result.message
    assert "minimum_events" in result.message
    assert not watch(result.last, samples)
    moved = {**result.last, "slope": result.last["slope"] + 1.0}
    assert watch(moved, samples), "the step after the last good state is the bad one"


@pytest.mark.parametrize("j", range(3))
def test_every_bin_of_the_edges_is_looked_at(j):
    edges = np.arange(4.0)
    edges[j + 1 :] -= 1.0
    assert f"bin {j} reaches from" in _of_edges(edges, 0.01)[0]


def test_degenerate_edges(samples, tmp_path):
    def loss(state, batch, step):
        return state["edges"][2] ** 2 + 0.0 * state["slope"], {}

    result = on_disk(samples, loss, 0.7, tmp_path, steps=9)  # 0.5, -0.2, ...
    assert result.status == TrainStatus.DIVERGED
    assert "edges do not increase: bin 1 reaches from 0 to -0.2" in result.message
    np.testing.assert_allclose(result.last["edges"], START["edges"])
    at_start = run(samples, loss, 0.1, {**START, "edges": jnp.array([-1.0, 0.0, 1e-9, 2.0])})
    assert (at_start.status, at_start.steps_done) == (TrainStatus.DIVERGED, 0)
    assert "degenerate edges: bin 1 is 1e-09 wide" in at_start.message


def test_nonfinite_gradient(samples, tmp_path):
    def loss(state, batch, step):  # at slope 1 the derivative is 0/0
        return jnp.sqrt(jnp.sum((state["slope"] - 1.0) ** 2)), {}

    result = on_disk(samples, loss, 0.1, tmp_path, max_nonfinite=2)
    assert result.status == TrainStatus.DIVERGED
    assert "the gradient is not finite in ['slope']" in result.message
    assert float(result.last["slope"]) == 1.0


def test_a_nonfinite_loss_names_sample_and_nuisance(samples):
    bad = Transformation(function=lambda x, alpha: jnp.where(alpha > 0, NAN, x), name="jes")
    broken = (samples[0], Sample(samples[1].nominal, (bad,), name="top"))

    def soft(state, batch):
        return channel_from_events(
            lambda x: state["slope"] * x, batch, edges=START["edges"], bandwidth=0.1
        )

    def loss(state, batch, step):
        shift = soft(state, batch).templates[1].modifiers[0]
        return jnp.sum(shift.hi**2), {}

    calls = iter(range(100))

    def late(state, batch):  # as if all had been well at the start
        return () if next(calls) == 0 else train.diagnose(compiled(state, batch))

    compiled = eqx.filter_jit(soft)
    result = run(broken, loss, 0.1, watch=late, max_nonfinite=2, validate_every=50)
    assert "the loss is nan" in result.message
    assert "sample 'top', nuisance 'jes': the upward variation is nan in bins" in result.message


def test_diagnose_names_everything():
    signal = Template([0.0, 0.0], (NormFactor("mu"),), name="s")
    top = Template(
        [4.0, NAN], (NormSys(1.1, -0.2, "norm"), StatError([1.0, NAN], "stat")), name="top"
    )
    other = Template([5.0, 1.0], (HistoSys([5.0, 1.0], [NAN, 1.0], "jes"),), name="w")
    found = "\n".join(train.diagnose((Channel((signal, top, other), name="A"),)))
    for part in (
        "channel 'A', sample 'top': the yield is nan in bin 1",
        "sample 'top', nuisance 'norm': the downward factor is -0.2, not positive",
        "sample 'top', nuisance 'stat': the uncertainty is nan in bin 1",
        "sample 'w', nuisance 'jes': the downward variation is nan in bin 0",
        "channel 'A': the signal has no yield",
    ):
        assert part in found
    many = Template(np.zeros(8), name="b")
    (empty,) = train.diagnose(Channel((many,), name="A"))
    assert "vanishes in bins 0, 1, 2 and 5 more (yield 0, 0, 0)" in empty
    assert train.diagnose(Channel((Template([1.0], name="b"),), name="A"), edges=[0, NAN]) == (
        "edges are not finite: edge 1 is nan",
    )
    assert not train.diagnose(Channel((Template([1.0], name="b"),), name="A"), edges=[0, 1])


def test_effective_events_are_those_of_the_background_alone():
    """(sum w)^2 / sum w^2 = 8^2 / 2^2 and 2^2 / 1^2, whatever the signal has."""
    signal = Template(
        [90.0, 90.0], (NormFactor("mu"), StatError([0.1, 0.1], "stat_s")), name="signal"
    )
    top = Template([8.0, 2.0], (StatError([2.0, 1.0], "stat_b"),), name="top")
    channel = Channel((signal, top), name="A")
    assert train.diagnose(channel, events=3.9) == ()
    (one,) = train.diagnose(channel, events=4.1)
    assert "channel 'A': bin 1 has no more than 4 effective" in one
    (two,) = train.diagnose(channel, events=17.0)
    assert "bins 0, 1 has no more than 16, 4 effective" in two
