"""Notes on asymptotic results, against toys and exact counting experiments."""

from __future__ import annotations

import equinox as eqx
import jax
import numpy as np
import pytest
from scipy import optimize, stats

from difana._errors import ModelError
from difana.infer import NotesStatus, fit, notes, toys, upper_limit
from difana.likelihood import Channel, NormFactor, Template, build_model, mask, model_with


def model_of(signal, background, *others):
    """Return a model of one channel, with more factors of the background."""
    samples = (
        Template(signal, (NormFactor("mu"),), name="signal"),
        Template(background, tuple(map(NormFactor, others)), name="background"),
    )
    return build_model([Channel(samples, name="SR")])


FEW = model_of([4.0, 0.0, 0.0], [1.5, 60.0, 90.0])
MANY = model_of([14.0, 25.0, 8.0], [60.0, 250.0, 310.0])


_limit = eqx.filter_jit(upper_limit)


@pytest.mark.parametrize("name", ["few", "many"])
def test_the_note_is_given_where_toys_disagree_and_nowhere_else(name):
    """CLs at the limit of the formulae: 0.05 by them, half as much again where events are few."""
    model = {"few": FEW, "many": MANY}[name]
    data = model.expected(model.init.at[model.poi_index].set(0.0)).round()
    mu = float(_limit(model, data).observed)
    found = toys(model, data, mu=mu, number=40_000, key=jax.random.key(3))
    off, error = found.cls / 0.05 - 1, found.cls_error / 0.05
    said = notes(model, data, mu=mu)
    if name == "few":
        assert off > 0.4 + 2 * error
        assert "equivalent of" in said.message
    else:
        assert abs(off) < 0.03 + 2 * error
        assert said.ok


@pytest.mark.parametrize("background", [1.0, 4.0, 9.0])
def test_the_size_that_the_note_tells(background):
    """The exact limit of a counting experiment lies 30 / sqrt(N) per cent above."""
    model = model_of([1.0, 0.0, 0.0], [background, 10.0, 10.0])
    count = int(background)
    asymptotic = float(_limit(model, model.data([background, 10.0, 10.0])).observed)

    def excess(mu):
        clsb = stats.poisson.cdf(count, mu + background)
        return clsb / stats.poisson.cdf(count, background) - 0.05

    exact = optimize.brentq(excess, 0.1, 50.0)
    found = notes(model, mu=asymptotic, sigmas=2.5)
    said = 0.3 / np.sqrt(found.events)
    assert found.events == pytest.approx(background + asymptotic / 2)
    assert 0.8 < said / (exact / asymptotic - 1) < 1.25
    assert f"limit {100 * said:.0f} % above" in found.message
    assert ("fewer than no events" in found.message) == (found.events < 4)


def test_many_bins_of_few_events_hold_many():
    """The bins are said, as asked; the test itself rests on their sum."""
    spread = notes(model_of([0.5] * 400, [1.0] * 400))
    assert spread.events == pytest.approx(400 * 1.25)
    (sentence,) = spread.sentences
    assert "bin 1 expects 1 background events (400 bins expect less than 5)" in sentence
    # the purest bin counts most, whatever stands beside it
    pure = notes(model_of([5.0, 1.0], [6.0, 1e6]))
    assert pure.events == pytest.approx(8.5, rel=1e-3)
    assert notes(MANY).events > 100


def test_far_tails_need_more_events():
    model = model_of([10.0], [30.0])
    assert notes(model, sigmas=2.0).ok
    few = notes(model_of([4.0], [6.0]), sigmas=1.0)  # of eight events the middle is no Gaussian
    assert few.status == NotesStatus.FEW_EVENTS
    assert "equivalent of 8 events" in few.message
    assert "equivalent of 35 events" in notes(model, sigmas=4.0).message
    assert notes(model, sigmas=np.inf).ok  # which has a status of its own


def test_discoveries():
    model = model_of([5.0, 5.0], [0.2, 900.0])
    few = notes(model, model.data([3.0, 900.0]), mu=0.0, statistic="q0", sigmas=3.0)
    assert few.sentences[1] == (
        "the test rests on the equivalent of 0.2 events: counting as many, the exact "
        "significance 0.49 below the asymptotic one"
    )
    assert "the data hold the equivalent of 3.4 events" in few.message
    assert few.message.endswith(
        'infer.toys(model, data, mu=0, number=10000, key=key, statistic="q0")'
    )
    many = notes(model_of([50.0], [900.0]), MANY.data([1.0, 1.0, 1.0])[:1] * 990, statistic="q0")
    assert many.ok


def test_bounds_factors_and_masks():
    model = model_of([5.0], [2.0], "k")
    assert "2 background" in notes(model).message
    model = model_with(model, bounds={"k": (0.0, 4.0)})
    data = model.data([60.0])
    best = eqx.filter_jit(fit)(model_with(model, fixed={"mu": 0.0}), data)
    found = notes(model, data, fit=best)  # k = 4: enough background
    assert found.sentences[-1] == "at a bound, which the formulae do not know: 'k'"
    assert "2 background" not in found.message
    two = build_model(
        [
            Channel((Template([3.0], (NormFactor("mu"),), name="s"), Template([1.0], name="b")),
                    name="low"),
            Channel((Template([30.0], (NormFactor("mu"),), name="s"), Template([400.0], name="b")),
                    name="high"),
        ]
    )  # fmt: skip
    assert "channel 'low', bin 1" in notes(two).message
    assert notes(mask(two, ["low"])).ok
    none = build_model([Channel((Template([1.0], name="b"),), name="SR")], poi=None)
    with pytest.raises(ModelError, match="no parameter of interest"):
        notes(none)
