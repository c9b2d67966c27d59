"""What is trained on the limit of several regions together, against closed forms."""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana.analysis import RegionEvents, TrainingOptions, efficient_score_of
from difana.analysis.desk import Desk
from difana.analysis.efficient_score import jointly, unbinned_uncertainty
from difana.analysis.question import judged, question_of
from difana.data import Events, Normalisation, Sample, WeightVariation
from difana.likelihood import channel_from_events
from difana.losses import ScorePlan


def region(shift: float, events: int = 400, *, up: float = 1.2) -> tuple[Sample, ...]:
    """Return signal at a place and background at 0, with a shape and a shared normalisation."""
    rng = np.random.default_rng(int(10 * shift))
    norm = Normalisation(up=up, down=1 / up, name="norm")

    def sample(name: str, mean: float, total: float, **kwargs: Any) -> Sample:
        x = rng.normal(mean, 1.0, (events, 1))
        weights = jnp.full(events, total / events)
        tilt = np.exp(0.1 * x[:, 0])
        shape = WeightVariation(up=weights * tilt, down=weights / tilt, name="tilt")
        variations = () if kwargs else (norm, shape)
        return Sample(Events(jnp.asarray(x), weights), variations, name=name, **kwargs)

    return sample("s", shift, 20.0, normfactors=("mu",)), sample("b", 0.0, 300.0)


def log_ratios(shift: float) -> Any:
    """Return the exact outputs for the plan of `region`: signal over background, and the tilt."""
    return lambda x: jnp.concatenate([shift * x - shift**2 / 2, 0.2 * x], axis=1)


def test_the_efficient_scores_of_regions_know_each_other() -> None:
    """What is projected is orthogonal to all nuisances, in the events of both and the priors."""
    samples = [region(1.0), region(2.0)]
    scores = [
        efficient_score_of(log_ratios(shift), own, plan=ScorePlan.of(own))
        for shift, own in zip((1.0, 2.0), samples, strict=True)
    ]
    names = scores[0].parameters
    assert names == ("mu", "tilt", "norm")
    together = jointly(scores, samples)
    products = np.zeros(3)
    for score, own in zip(together, samples, strict=True):
        t = np.asarray(score.scores(own[1].nominal.features))
        products += np.asarray(own[1].nominal.weights) @ (t @ np.asarray(score.mix)[0][:, None] * t)
    mix = np.asarray(together[0].mix)[0]
    products += mix * [0.0, 1.0, 1.0]  # the constraints
    np.testing.assert_allclose(products[1:], 0.0, atol=1e-4 * products[0])
    sigma = unbinned_uncertainty(scores, samples)
    assert products[0] == pytest.approx(sigma**-2, rel=1e-5)
    assert sigma < min(unbinned_uncertainty([o], [s]) for o, s in zip(scores, samples, strict=True))
    assert not np.allclose(mix, scores[0].mix, rtol=0.05)
    assert jointly(scores[:1], samples[:1])[0] is scores[0]


def test_the_gradient_of_the_joint_limit_is_that_of_finite_differences() -> None:
    samples = [region(1.0, 60), region(2.0, 60)]
    question = question_of(TrainingOptions(), others=(), parameters=(), poi="mu")
    edges = [jnp.array([-6.0, 0.2, 1.1, 8.0]), jnp.array([-6.0, 0.9, 8.0])]

    @eqx.filter_jit
    def limit(slopes: Any, edges: Any) -> Any:
        channels = tuple(
            channel_from_events(
                lambda x, a=a: a * x + 0.1 * x**2, own, edges=e, bandwidth=0.4, name=f"SR{i}"
            )
            for i, (a, own, e) in enumerate(zip(slopes, samples, edges, strict=True))
        )
        return question(channels)[0]

    slopes = jnp.array([1.0, 0.7])
    gradient = jax.grad(limit, argnums=(0, 1))(slopes, edges)
    step = 1e-5
    for i in (0, 1):
        moved = [limit(slopes.at[i].add(sign * step), edges) for sign in (1, -1)]
        assert float(gradient[0][i]) == pytest.approx(
            float(moved[0] - moved[1]) / (2 * step), rel=1e-4
        )
        moved = [
            limit(slopes, [e.at[1].add(sign * step) if j == i else e for j, e in enumerate(edges)])
            for sign in (1, -1)
        ]
        wanted = float(moved[0] - moved[1]) / (2 * step)
        assert float(gradient[1][i][1]) == pytest.approx(wanted, rel=1e-4)


def test_bins_are_searched_given_those_of_the_other_regions() -> None:
    """Where one region measures the normalisation, the other has nothing to do for it."""
    pair = [region(1.0, 4000, up=2.0), region(2.0, 4000, up=2.0)]
    regions = [RegionEvents(f"SR{i}", train=own, validation=own) for i, own in enumerate(pair)]
    training = TrainingOptions(minimum_events=3.0)
    question = question_of(training, others=(), parameters=(), poi="mu")
    desk = Desk(regions, question, training, staterror=True)

    def net(x: Any) -> Any:
        return x

    seen = desk.seen([net, net])
    found = desk.edges(seen, [3, 3])
    best = desk.candidate("efficient score, best bins", [net, net], found, seen)
    alone = [
        Desk([own], question, training, staterror=True).edges([mine], [3])[0]
        for own, mine in zip(regions, seen, strict=True)
    ]
    other = desk.candidate("efficient score, best bins", [net, net], alone, seen)
    assert best.metric < other.metric
    assert [own.region for own in best.observables] == ["SR0", "SR1"]
    channels = tuple(
        desk.hard(r, mine[1], np.asarray(e))
        for r, (mine, e) in enumerate(zip(seen, found, strict=True))
    )
    priced = float(judged(dataclasses.replace(question, penalty=0.0), channels))
    assert best.metric == pytest.approx(priced, abs=1e-9)
