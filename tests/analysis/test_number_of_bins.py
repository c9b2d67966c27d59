"""The limit to first order against closed forms and the full likelihood; the number of bins."""

import dataclasses

import numpy as np
import pytest

from difana._errors import InputError
from difana.analysis import ObservedSample, Values, number_of_bins
from difana.analysis.linear_limit import LinearLimit, linear_information
from difana.analysis.pooled import resampled
from difana.infer import expected_limits
from difana.likelihood import (
    Channel,
    HistoSys,
    NormFactor,
    NormSys,
    StatError,
    Template,
    build_model,
)

SIGNAL, BACKGROUND = np.array([100.0, 300.0, 500.0]), np.array([2e5, 1e5, 5e4])
SHAPE, ERROR = np.array([900.0, -200.0, 300.0]), np.array([300.0, 200.0, 100.0])


def channel(*modifiers, values=BACKGROUND, name="SR", signal=SIGNAL):
    """Return a channel of large yields, where everything is Gaussian."""
    s = Template(signal, (NormFactor("mu"),), name="signal")
    return Channel((s, Template(values, modifiers, name="background")), name=name)


def shape(values=BACKGROUND):
    return HistoSys(values + SHAPE, values - SHAPE, "shape")


def test_a_shape_moves_by_half_of_the_difference_of_its_sides():
    """One bin: sigma = sqrt(b + delta^2) / s."""
    b = np.array([100.0])
    own = channel(HistoSys(b + 60, b - 40, "shape"), values=b, signal=np.array([2.0]))
    assert LinearLimit(own, poi="mu").sigma(whole(1))[0] == pytest.approx(np.sqrt(2600) / 2)


def whole(size=3):
    return np.arange(size + 1)[None]


def test_without_nuisances_bins_add():
    found = LinearLimit(channel(StatError(ERROR, "stat")), poi="mu")
    exact = np.sum(SIGNAL**2 / (BACKGROUND + ERROR**2)) ** -0.5
    assert found.sigma(whole())[0] == pytest.approx(exact, rel=1e-12)
    without = np.sum(SIGNAL**2 / BACKGROUND) ** -0.5
    assert found.sigma(whole(), simulation=False)[0] == pytest.approx(without, rel=1e-12)
    # merged bins are those of the sums
    two = LinearLimit(channel(StatError(ERROR, "stat")), poi="mu").sigma(np.array([[0, 2, 3]]))
    s, b, v = (np.add.reduceat(part, [0, 2]) for part in (SIGNAL, BACKGROUND, ERROR**2))
    assert two[0] == pytest.approx(np.sum(s**2 / (b + v)) ** -0.5, rel=1e-12)


@pytest.mark.parametrize("with_control", [False, True])
def test_against_the_full_likelihood(with_control):
    """For many events 1.96 sigma is the expected limit: shape, norm, free factor, control bins."""
    own = channel(
        shape(), NormSys(1.02, 1 / 1.02, "norm"), NormFactor("free"), StatError(ERROR, "stat")
    )
    others = [channel(NormFactor("free"), name="CR", signal=np.zeros(3))] if with_control else []
    found = LinearLimit(own, others, poi="mu")
    full = expected_limits(build_model([own, *others]), median_only=True)
    assert float(full.median) == pytest.approx(found.limit(whole())[0], rel=5e-3)


def test_information_is_that_of_the_matrix_form():
    """Schur complement of the information with the constraints added: the same uncertainty."""
    own = channel(shape(), NormSys(1.02, 1 / 1.02, "norm"))
    names = ["mu", "shape", "norm"]
    matrix = linear_information([own], names, poi="mu") + np.diag([0.0, 1.0, 1.0])
    sigma = LinearLimit(own, poi="mu").sigma(whole())[0]
    assert np.sqrt(np.linalg.inv(matrix)[0, 0]) == pytest.approx(sigma, rel=1e-9)
    assert linear_information([], names, poi="mu").tolist() == np.zeros((3, 3)).tolist()


def test_few_events_cost_and_empty_bins_say_nothing():
    few = LinearLimit(channel(StatError(BACKGROUND / 2, "stat")), poi="mu", minimum=10.0)
    assert few.poverty(whole())[0] == pytest.approx(3 * (1 - 4 / 10) ** 2)
    empty = LinearLimit(channel(values=np.array([2e5, 1e5, 0.0])), poi="mu")
    exact = np.sum(SIGNAL[:2] ** 2 / BACKGROUND[:2]) ** -0.5
    assert empty.sigma(whole())[0] == pytest.approx(exact, rel=1e-9)


def half(rng, *, signal=2.0, events=4000):
    """Return a split of a logit with a shape that moves the background."""
    s, b = rng.normal(signal, 1, events), rng.normal(0, 1, events)
    w = np.full(events, 1.0)
    moved = ("shape", Values(b + 0.1, w), Values(b - 0.1, w))
    return (
        ObservedSample("s", Values(s, w / 100), normfactors=("mu",)),
        ObservedSample("b", Values(b, w), (moved,)),
    )


def test_as_many_bins_as_the_observable_is_worth():
    rng = np.random.default_rng(2)
    rich = number_of_bins(half(rng), half(rng), replicas=5)
    assert rich.chosen >= 4
    chosen = rich.bins.index(rich.chosen)
    assert rich.limits[chosen] <= 1.01 * min(rich.limits)
    assert all(limit > 1.01 * min(rich.limits) for limit in rich.limits[:chosen])
    assert rich.errors[chosen] == 0.0

    # an observable of two values is worth two bins
    def coarse(samples):
        return tuple(
            dataclasses.replace(
                own,
                nominal=Values(np.floor(np.clip(own.nominal.x, 0, 1.5)), own.nominal.weights),
                shapes=(),
            )
            for own in samples
        )

    poor = number_of_bins(coarse(half(rng)), coarse(half(rng)), replicas=5)
    assert (poor.bins, poor.chosen) == ((2,), 2)
    with pytest.raises(InputError, match="too few distinct"):
        number_of_bins(coarse(half(rng, signal=-9)), coarse(half(rng)), ladder=(3,))


def test_bins_end_where_the_simulation_does():
    rng = np.random.default_rng(3)
    few = number_of_bins(half(rng, events=60), half(rng, events=60), replicas=5)
    many = number_of_bins(half(rng), half(rng), replicas=5)
    assert max(few.bins) < max(many.bins)


def test_bootstrap_errors_are_those_of_the_counts():
    """The spread of a sum of n equal weights is w sqrt(n); variations are drawn with it."""
    x, w = np.linspace(0, 1, 400), np.full(400, 0.5)
    same = Values(x + 0.1, 2 * w)
    other = Values(x[:300], w[:300])
    sample = ObservedSample("b", Values(x, w), (("same", same, same), ("other", other, other)))
    rng = np.random.default_rng(0)
    drawn = [resampled([sample], rng)[0] for _ in range(400)]
    totals = np.array([own.nominal.weights.sum() for own in drawn])
    assert np.std(totals) == pytest.approx(0.5 * np.sqrt(400), rel=0.15)
    assert np.mean(totals) == pytest.approx(200, abs=3)
    assert all(own.shapes[0][1].weights.sum() == 2 * own.nominal.weights.sum() for own in drawn)
    assert not np.allclose([own.shapes[1][1].weights.sum() for own in drawn], 0.75 * totals)
