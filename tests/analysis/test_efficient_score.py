"""The efficient score against closed forms: Gaussians whose log ratios are known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana import InputError
from difana.analysis import EfficientScore, efficient_score_of, fit_efficient_score
from difana.data import (
    Events,
    Inputs,
    Normalisation,
    Sample,
    ShiftedEvents,
    Transformation,
    WeightVariation,
)
from difana.likelihood import Parameter
from difana.losses import ScorePlan, Step, efficient_score
from difana.train import Training

S, B1, B2 = 30.0, 600.0, 300.0
SHIFT, TILT = 0.3, 0.2


def gaussian(mean, total, *, points=4001):
    """Events on a grid with the weights of a Gaussian: sums are integrals."""
    x = np.linspace(-6, 7, points)
    w = np.exp(-((x - mean) ** 2) / 2)
    return Events(jnp.asarray(x[:, None]), jnp.asarray(total * w / w.sum()), columns=("x",))


def analysis(kind="transformation"):
    one, two = gaussian(0.0, B1), gaussian(-1.0, B2)

    def shift(events, mean, total):
        if kind == "transformation":
            return Transformation(function=lambda x, alpha: x + SHIFT * alpha, name="shift")
        up, down = (gaussian(mean + SHIFT * a, total) for a in (1, -1))
        return ShiftedEvents(up=up, down=down, name="shift")

    ratio = jnp.exp(TILT * one.features[:, 0])
    tilt = WeightVariation(up=one.weights * ratio, down=one.weights / ratio, name="tilt")
    norm = Normalisation(up=1.2, down=1 / 1.2, name="norm")
    return (
        Sample(gaussian(1.5, S), (shift(None, 1.5, S),), name="s", normfactors=("mu",)),
        Sample(one, (shift(one, 0.0, B1), tilt, norm), name="one"),
        Sample(two, (shift(two, -1.0, B2),), name="two", normfactors=("free",)),
    )


def densities(x, alpha=0.0, tilt=0.0):
    def density(mean):
        return np.exp(-((x - mean) ** 2) / 2) / np.sqrt(2 * np.pi)

    one, two, s = (density(m + SHIFT * alpha) for m in (0.0, -1.0, 1.5))
    return S * s, B1 * one * np.exp(TILT * tilt * x), B2 * two


def exact(x):
    """The scores by hand: mu, tilt, shift, norm, free."""
    s, one, two = densities(x)
    background = one + two

    def half(**at):
        up, down = (sum(densities(x, **{k: a * v for k, v in at.items()})[1:]) for a in (1, -1))
        return 0.5 * np.log(up / down)

    norm, free = np.log(1.2) * one / background, two / background
    return np.stack([s / background, half(tilt=1.0), half(alpha=1.0), norm, free], axis=1)


def true_network(samples):
    """The log ratios of normalised densities, as a network would learn them."""
    up = B1 * np.exp(TILT**2 / 2)  # the integral of the tilted Gaussian

    def net(inputs):
        x = inputs[:, 0]

        def density(mean):
            return jnp.exp(-((x - mean) ** 2) / 2)

        def background(alpha=0.0, tilt=0.0):
            one = B1 * density(SHIFT * alpha) * jnp.exp(TILT * tilt * x)
            return one + B2 * density(-1.0 + SHIFT * alpha)

        yields = jnp.log((up + B2) / (up + B2))  # both sides of the tilt have the same yield
        return jnp.stack(
            [
                jnp.log(density(1.5) / (background() / (B1 + B2))),
                jnp.log(density(0.0)),
                jnp.log(density(-1.0)),
                jnp.log(background(tilt=1.0) / background(tilt=-1.0)) - yields,
                jnp.log(background(alpha=1.0) / background(alpha=-1.0)),
            ],
            axis=-1,
        )

    return net


def test_outputs_are_planned_by_what_a_variation_does():
    plan = ScorePlan.of(analysis())
    assert plan.weighted == ("tilt",)
    assert plan.moved == ("shift",)
    assert plan.scaled == ("norm", "free")
    assert plan.processes == ("one", "two")
    assert plan.outputs == 5
    assert ScorePlan.of(analysis("shifted")).moved == ("shift",)


@pytest.mark.parametrize("kind", ["transformation", "shifted"])
def test_scores_and_mix_are_those_of_the_closed_form(kind):
    samples = analysis(kind)
    plan = ScorePlan.of(samples)
    found = efficient_score_of(true_network(samples), samples, plan=plan)
    assert found.parameters == ("mu", "tilt", "shift", "norm", "free")
    x = np.linspace(-3, 4, 50)
    np.testing.assert_allclose(found.scores(x[:, None]), exact(x), rtol=1e-4, atol=1e-6)
    fine = np.linspace(-6, 7, 20001)
    t = exact(fine)
    weights = sum(densities(fine)[1:]) * (fine[1] - fine[0])
    information = t.T @ (weights[:, None] * t) + np.diag([0.0, 1, 1, 1, 0])
    np.testing.assert_allclose(found.information, information, rtol=2e-3, atol=1e-3)
    covariance = np.linalg.inv(information)
    np.testing.assert_allclose(found.mix[0], covariance[0] / covariance[0, 0], rtol=5e-3, atol=1e-4)
    np.testing.assert_allclose(found.uncertainties, np.sqrt(covariance[0, 0]), rtol=2e-3)
    observable = np.sinh(found(x[:, None])[:, 0]) / found.scale[0]
    np.testing.assert_allclose(observable, exact(x) @ found.mix[0], rtol=1e-3, atol=1e-6)


def test_the_efficient_score_is_orthogonal_to_the_nuisances():
    samples = analysis()
    found = efficient_score_of(true_network(samples), samples, plan=ScorePlan.of(samples))
    information = np.asarray(found.information)
    prior = np.diag([0.0, 1, 1, 1, 0])
    product = np.asarray(found.mix[0]) @ (information - prior) + np.asarray(found.mix[0]) @ prior
    np.testing.assert_allclose(product[1:], 0, atol=1e-6 * information[0, 0])


def test_settings_of_the_nuisances_count():
    """A free nuisance is projected out entirely; one that is held costs nothing."""
    samples = analysis()
    plan = ScorePlan.of(samples)

    def score(**settings):
        own = [Parameter(name, **options) for name, options in settings.items()]
        return efficient_score_of(true_network(samples), samples, plan=plan, parameters=own)

    place = score().parameters.index("shift")
    data = score(shift={"constraint": "none"}).information[place, place]
    for options, prior in (({"sigma": 0.5}, 4.0), ({}, 1.0), ({"fixed": True}, 1e12)):
        found = score(shift=options)
        assert found.information[place, place] - data == pytest.approx(prior, rel=1e-6)
    assert abs(found.mix[0, place]) < 1e-6
    assert found.uncertainties[0] < score().uncertainties[0]
    assert score().uncertainties[0] < score(shift={"constraint": "none"}).uncertainties[0]


def test_the_loss_is_lowest_at_the_true_ratios():
    samples = analysis()
    plan = ScorePlan.of(samples)
    net = true_network(samples)

    def at(shift):
        # outputs of processes have no absolute zero: change them one by one
        return efficient_score(lambda x: net(x) + shift, samples, plan=plan, process_weight=1.0)[0]

    gradient, curvature = jax.grad(at)(jnp.zeros(5)), jax.hessian(at)(jnp.zeros(5))
    np.testing.assert_allclose(gradient, 0, atol=1e-3)
    assert np.linalg.eigvalsh(curvature).min() > -1e-9

    def along(size):
        bend = jnp.stack([jnp.ones(5), jnp.array([1.0, -1, 1, -1, 1])])
        return efficient_score(
            lambda x: net(x) + size * jnp.sin(x[:, :1]) * bend[1], samples, plan=plan
        )[0]

    np.testing.assert_allclose(jax.grad(along)(0.0), 0, atol=2e-3)
    assert along(0.5) > along(0.0) < along(-0.5)


def test_the_strength_puts_signal_into_the_reference():
    samples = analysis()
    plan = ScorePlan.of(samples, strength=2.0)
    found = efficient_score_of(true_network(samples), samples, plan=plan)
    x = np.linspace(-3, 4, 50)
    s, one, two = densities(x)
    total = one + two + 2 * s
    np.testing.assert_allclose(found.scores(x[:, None])[:, 0], s / total, rtol=1e-4)
    free = found.scores(x[:, None])[:, -1]
    np.testing.assert_allclose(free, two / total, rtol=1e-4)


def test_drawn_nuisances_have_the_full_loss_in_the_mean():
    events = gaussian(0.0, 100.0, points=50)
    moves = tuple(
        Transformation(function=lambda x, a, c=c: x + c * a, name=f"n{c}") for c in (0.1, 0.5, 1.0)
    )
    samples = (
        Sample(gaussian(1.0, 5.0, points=40), name="s", normfactors=("mu",)),
        Sample(events, moves, name="b"),
    )
    plan = ScorePlan.of(samples)

    def net(x):
        return jnp.concatenate([x, x, 2 * x, 0.1 * x], axis=1)

    full = efficient_score(net, samples, plan=plan)[0]
    steps = [Step.at(i, key=jax.random.key(0), steps=90) for i in range(90)]
    one = jax.jit(lambda step: efficient_score(net, samples, step, plan=plan, per_step=1)[0])
    found = np.array([one(step) for step in steps])
    assert len(np.unique(found.round(5))) == 3
    assert abs(found.mean() - full) < 4 * found.std() / np.sqrt(len(found))
    everything = efficient_score(net, samples, steps[0], plan=plan, per_step=3)[0]
    np.testing.assert_allclose(everything, full, rtol=1e-6)


def test_a_trained_network_orders_events_as_the_closed_form_does():
    rng = np.random.default_rng(1)

    def draw(n=4000):
        def events(mean, total):
            x = rng.normal(mean, 1.0, (n, 1)).astype(np.float32)
            return Events(jnp.asarray(x), jnp.full(n, total / n, jnp.float32), columns=("x",))

        shift = Transformation(function=lambda x, alpha: x + SHIFT * alpha, name="shift")
        norm = Normalisation(up=1.2, down=1 / 1.2, name="norm")
        return (
            Sample(events(1.5, S), (shift,), name="s", normfactors=("mu",)),
            Sample(events(0.0, B1), (shift, norm), name="b"),
        )

    found = fit_efficient_score(
        draw(),
        draw(),
        key=jax.random.key(0),
        training=Training(steps=300, batch_size=1000, final_rate=0.0),
        members=2,
        progress_bar=False,
    )
    observable = found.observable
    assert isinstance(observable, EfficientScore)
    assert len(observable.nets) == 2
    x = np.linspace(-2.5, 3.5, 200)
    ratio = S / B1 * np.exp(1.5 * x - 1.125)
    exact_scores = np.stack([ratio, SHIFT * x, np.full_like(x, np.log(1.2))], axis=1)
    density = B1 * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi) * (x[1] - x[0])
    information = exact_scores.T @ (density[:, None] * exact_scores) + np.diag([0.0, 1, 1])
    mix = np.linalg.inv(information)[0]
    expected = exact_scores @ (mix / mix[0])
    got = np.sinh(observable(jnp.asarray(x[:, None], jnp.float32))[:, 0]) / observable.scale[0]
    weights = density / density.sum()
    centred = [v - weights @ v for v in (np.asarray(got), expected)]
    correlation = (
        (weights * centred[0])
        @ centred[1]
        / np.sqrt((weights @ centred[0] ** 2) * (weights @ centred[1] ** 2))
    )
    assert correlation > 0.98


def test_two_parameters_that_do_the_same_are_named():
    events = gaussian(0.0, 100.0, points=50)
    samples = (
        Sample(gaussian(1.0, 5.0, points=40), name="s", normfactors=("mu",)),
        Sample(events, name="b", normfactors=("one", "two")),
    )
    with pytest.raises(InputError, match="one, two cannot be told apart"):
        efficient_score_of(lambda x: x, samples, plan=ScorePlan.of(samples))


def test_wrong_number_of_outputs_is_refused():
    samples = analysis()
    with pytest.raises(InputError, match="needs 5 outputs"):
        efficient_score(lambda x: x, samples, plan=ScorePlan.of(samples))


def test_particles_are_moved_and_seen():
    rng = np.random.default_rng(3)

    def events(mean, total, n=200):
        particles = rng.normal(mean, 1.0, (n, 4, 2)).astype(np.float32)
        mask = np.arange(4) < rng.integers(1, 5, (n, 1))
        weights = np.full(n, total / n, np.float32)
        return Events(jnp.zeros((n, 0), jnp.float32), weights, particles, mask)

    def stretched(x, alpha):
        return Inputs(x.features, x.particles * (1 + 0.1 * alpha), x.mask)

    shift = Transformation(function=stretched, name="scale")
    samples = (
        Sample(events(1.0, 10.0), name="s", normfactors=("mu",)),
        Sample(events(0.0, 100.0), (shift,), name="b"),
    )
    found = fit_efficient_score(
        samples,
        samples,
        key=jax.random.key(0),
        training=Training(steps=2, batch_size=100),
        progress_bar=False,
    ).observable
    assert found.parameters == ("mu", "scale")
    assert found(samples[0].nominal.inputs).shape == (200, 1)
