"""The search for bins against exhaustive ones."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from difana._errors import ConfigError, InputError
from difana.analysis import best_bins
from difana.analysis.best_bins import _even, _moves, cell_edges, merged
from difana.analysis.pooled import pooled
from difana.analysis.templates import ObservedSample, Values, hard_channel
from difana.data import is_signal
from difana.likelihood import StatError


def events(rng, *, signal=400, background=4000, shift=0.3):
    """Return signal and background of a logit; a shape and a normalisation of the background."""
    s = Values(rng.normal(2, 1, signal), np.full(signal, 50.0 / signal))
    x = rng.normal(-1, 1, background)
    b = Values(x, np.full(background, 1000.0 / background))
    up, down = Values(x + shift, b.weights), Values(x - shift, b.weights)
    return (
        ObservedSample("s", s, normfactors=("mu",)),
        ObservedSample("b", b, (("shape", up, down),), (("norm", 1.1, 0.9),)),
    )


@pytest.fixture(scope="module")
def splits():
    rng = np.random.default_rng(7)
    return events(rng), events(rng, signal=300, background=2500)


def information(channel):
    """Return a sum over bins: the best without systematic uncertainties."""
    s = b = variance = 0.0
    for template in channel.templates:
        if is_signal(template, "mu"):
            s = 0.3 * np.asarray(template.values)
            continue
        b = b + np.asarray(template.values)
        own = [m.uncertainty for m in template.modifiers if isinstance(m, StatError)]
        variance = variance + sum(np.asarray(u) ** 2 for u in own)
    return -float(np.sum(s**2 / np.maximum(s + b + variance, 1e-300)))


def with_shape(channel):
    """Return a score with a shape uncertainty: no sum over bins, so that steps interact."""
    s, b = (np.asarray(t.values) for t in channel.templates)
    shape = next(m for m in channel.templates[1].modifiers if m.name == "shape")
    delta = 0.5 * (np.asarray(shape.hi) - np.asarray(shape.lo))
    covariance = np.diag(b + 1) + np.outer(delta, delta) + 0.01 * np.outer(b, b)
    return -float(s @ np.linalg.solve(covariance, s))


def test_merged_bins_are_those_of_the_coarse_edges(splits):
    edges = np.linspace(-5, 6, 23)
    fine = hard_channel(splits[0], edges, name="SR")
    starts = np.array([0, 3, 9, 20])
    coarse = hard_channel(splits[0], np.append(edges[starts], edges[-1]), name="SR")
    own = merged(fine, starts)
    for a, b in zip(own.templates, coarse.templates, strict=True):
        assert (a.name, a.values.tolist()) == (b.name, pytest.approx(b.values.tolist()))
        for left, right in zip(a.modifiers, b.modifiers, strict=True):
            assert type(left) is type(right)
            assert left.name == right.name
            for key in ("hi", "lo", "uncertainty"):
                if hasattr(left, key):
                    assert getattr(left, key) == pytest.approx(getattr(right, key))


def test_an_edge_moves_within_its_bins_and_into_the_middle_of_others():
    assert set(_moves((1, 2), 0, 9)) == {(2, 6)}
    assert set(_moves((4, 8), 0, 11)) == {(3, 8), (5, 8), (2, 8), (6, 8), (8, 10)}


@pytest.mark.parametrize("score", [information, with_shape])
def test_the_search_against_all_binnings(splits, score):
    """On a small grid every binning can be tried; its best one is found."""
    found = best_bins(splits, score, cuts=12, bins=4)
    assert found.converged
    edges = cell_edges(pooled(splits), poi="mu", bins=4, cuts=12)
    fine = hard_channel(pooled(splits), edges, name="SR")
    best = min(
        score(merged(fine, np.array((0, *trial))))
        for trial in itertools.combinations(range(1, len(edges) - 1), 3)
    )
    assert found.score == pytest.approx(best, rel=1e-3)
    # the score is that of the hard bins at these edges
    assert score(hard_channel(pooled(splits), found.edges, name="SR")) == pytest.approx(found.score)


def test_better_than_bins_of_equal_signal(splits):
    found = best_bins(splits, with_shape, bins=6)
    edges = cell_edges(pooled(splits), poi="mu", bins=6)
    fine = hard_channel(pooled(splits), edges, name="SR")
    even = with_shape(merged(fine, np.array((0, *_even(fine, poi="mu", bins=6)))))
    assert found.score <= min(found.starts) <= even + 1e-9
    assert found.score < 0.97 * even  # scores are negative
    assert len(found.edges) == 7
    assert np.all(np.diff(found.edges) > 0)


def test_a_budget_ends_the_search(splits):
    found = best_bins(splits, with_shape, bins=6, budget=40)
    assert found.evaluations <= 41
    assert not found.converged
    assert found.score <= min(found.starts)


def test_scores_that_are_not_finite_are_left_out(splits):
    def picky(channel):
        return with_shape(channel) if channel.templates[0].values[-1] > 13.0 else float("nan")

    found = best_bins(splits, picky, bins=4)
    assert np.isfinite(found.score)
    assert not np.isfinite(found.starts).all()
    with pytest.raises(InputError, match="no binning to start from"):
        best_bins(splits, lambda channel: float("nan"), bins=4)


def test_wrong_questions_are_refused(splits):
    with pytest.raises(ConfigError, match="at least two"):
        best_bins(splits, with_shape, bins=1)
    with pytest.raises(ConfigError, match="budget = 0"):
        best_bins(splits, with_shape, bins=3, budget=0)


@pytest.mark.parametrize("seed", range(6))
def test_single_precision_may_round_an_edge_past_the_grid(seed):
    """Every start must be a cell of the grid, whose places are rounded to the observable's type."""
    rng = np.random.default_rng(seed)
    s = Values(rng.normal(2, 1, 40).astype(np.float32), np.full(40, 1.0))
    b = Values(rng.normal(-1, 0.1, 40).astype(np.float32), np.full(40, 1.0))
    samples = [ObservedSample("s", s, normfactors=("mu",)), ObservedSample("b", b)]
    found = best_bins([samples], information, bins=5, cuts=12, budget=40)
    assert np.all(np.diff(found.edges) > 0)


def test_no_gap_of_the_grid_holds_many_events(splits):
    """A third of the places follows each sample: at most one in so many events lies between two."""
    cuts, samples = 120, pooled(splits)
    edges = cell_edges(samples, poi="mu", bins=4, cuts=cuts)
    assert len(edges) <= cuts + 2
    for sample in samples:
        between = np.histogram(sample.nominal.x, edges)[0]
        assert between.max() <= 3 / cuts * len(sample.nominal.x) + 1
        assert between.sum() == len(sample.nominal.x)


def test_a_constant_observable_is_refused():
    one = Values(np.zeros(10), np.ones(10))
    samples = [ObservedSample("s", one, normfactors=("mu",)), ObservedSample("b", one)]
    with pytest.raises(InputError, match="too few distinct"):
        best_bins([samples], information, bins=4)
