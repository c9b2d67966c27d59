"""One PyTree with particles: data, network, limit, gradient, training; padding never counts."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from difana import train
from difana._errors import ConfigError, InputError
from difana.data import (
    BatchSampler,
    Events,
    Inputs,
    Sample,
    ShiftedEvents,
    Transformation,
    WeightVariation,
)
from difana.likelihood import channel_from_events, template_sums
from difana.losses import (
    Pivot,
    Step,
    adversarial,
    adversary_outputs,
    augmented,
    aware,
    cross_entropy,
    expected_limit,
    inferno,
    parametrised,
)
from difana.nn import MLP, DeepSets, PointEdgeTransformer, Standardised, trainable

EDGES = jnp.linspace(-1.0, 1.0, 5)


def louder(inputs, alpha):
    """Scale the transverse momentum of every constituent, and their sum with it."""
    factor = 1 + 0.05 * alpha
    particles = inputs.particles.at[..., 0].multiply(factor)
    return Inputs(inputs.features.at[:, 0].multiply(factor), particles, inputs.mask)


LOUDER = Transformation(function=louder, name="jes")


def jet_events(seed, events, *, signal, padding=jnp.nan, dtype=jnp.float64, total=100.0):
    """Jets of 2 to 6 constituents (pt, eta, phi): two prongs, or one blob of the same moments."""
    keys = jax.random.split(jax.random.key(seed), 4)
    pt = jnp.exp(0.4 * jax.random.normal(keys[0], (events, 6)))
    axes = 0.4 * jax.random.normal(keys[1], (events, 6, 2))
    if signal:
        side = jnp.where(jax.random.bernoulli(keys[2], shape=(events, 6)), 0.39, -0.39)
        axes = jnp.stack([side + 0.09 * axes[..., 0], axes[..., 1]], axis=-1)
    mask = jnp.arange(6) < jax.random.randint(keys[3], (events, 1), 2, 7)
    particles = jnp.concatenate([pt[..., None], axes], axis=-1).astype(dtype)
    features = jnp.sum(jnp.where(mask, pt, 0), axis=1, keepdims=True).astype(dtype)
    particles = jnp.where(mask[..., None], particles, jnp.asarray(padding, dtype))
    weights = jnp.full(events, total / events, dtype)
    return Events(features, weights, particles, mask, ("ht",), ("GeV",), ("pt", "eta", "phi"))


def two_samples(events=60, *, variations=True, **options):
    s = jet_events(1, events, signal=True, total=20.0, **options)
    b = jet_events(2, events, signal=False, total=200.0, **options)
    own = []
    if variations:
        w = b.weights
        wide = jet_events(3, events // 2, signal=False, total=210.0, **options)
        own = [
            WeightVariation(up=1.1 * w, down=0.9 * w, name="pdf"),
            ShiftedEvents(up=wide, down=b, name="shower"),
        ]
    return (
        Sample(s, (LOUDER,), name="signal", normfactors=("mu",)),
        Sample(b, (LOUDER, *own), name="background"),
    )


def deep_sets(dtype=jnp.float64, features=1, **options):
    return DeepSets(
        3, [6], latent=4, features=features, activation="tanh", param_dtype=dtype,
        key=jax.random.key(0), **options,
    )  # fmt: skip


def limit(net, samples, **options):
    return expected_limit(net, samples, edges=EDGES, bandwidth=0.2, **options)[0]


@eqx.filter_jit
def value_and_slopes(net, samples, chunk=None):
    moving, rest = eqx.partition((net, samples), eqx.is_inexact_array)
    return jax.value_and_grad(lambda own: limit(*eqx.combine(own, rest), chunk=chunk))(moving)


def test_gradient_of_the_limit_against_finite_differences():
    net, samples = deep_sets(), two_samples()
    _, (by_net, by_samples) = value_and_slopes(net, samples)
    rng = np.random.default_rng(0)
    weights, rest = eqx.partition(net, eqx.is_inexact_array)
    direction = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), weights)
    real = samples[0].nominal.mask[..., None]
    along = jnp.asarray(rng.normal(size=(*real.shape[:2], 3)))

    @eqx.filter_jit
    def at(step, shift):
        moved = jax.tree.map(lambda leaf, d: leaf + step * d, weights, direction)
        place = lambda s: s[0].nominal.particles  # noqa: E731
        there = eqx.tree_at(place, samples, place(samples) + shift * along)
        return limit(eqx.combine(moved, rest), there)

    h = 3e-5
    slopes = [(at(h, 0.0) - at(-h, 0.0)) / (2 * h), (at(0.0, h) - at(0.0, -h)) / (2 * h)]
    products = jax.tree.map(lambda g, d: jnp.sum(g * d), by_net, direction)
    found = sum(jax.tree.leaves(products))
    # also by the constituents themselves: nothing comes back from the padding, which is NaN
    own = by_samples[0].nominal.particles
    assert np.all(np.asarray(own)[~np.asarray(real)[..., 0]] == 0)
    np.testing.assert_allclose(found, slopes[0], rtol=2e-6)
    np.testing.assert_allclose(jnp.sum(own * along), slopes[1], rtol=2e-6)
    assert abs(slopes[0]) > 1e-2
    assert abs(slopes[1]) > 1e-3


def test_the_systematic_moves_the_constituents():
    net, samples = deep_sets(), two_samples()
    channel = channel_from_events(net, samples, edges=EDGES, bandwidth=None)
    x = samples[0].nominal
    for alpha, side in ((1.0, "hi"), (-1.0, "lo")):
        score = net(
            Inputs(
                x.features * (1 + 0.05 * alpha),
                jnp.where(x.mask[..., None], x.particles * jnp.array([1 + 0.05 * alpha, 1, 1]), 0),
                x.mask,
            )
        )[:, 0]
        wanted = np.histogram(np.clip(score, -1, 1), EDGES, weights=x.weights)[0]
        np.testing.assert_allclose(
            getattr(channel.templates[0].modifiers[1], side), wanted, rtol=1e-12
        )


@pytest.mark.parametrize("padding", [0.0, 1e9])
def test_padding_never_counts(padding):
    net = Standardised.fit(deep_sets(), two_samples()[1].nominal.inputs)
    clean, filled = (value_and_slopes(net, two_samples(padding=p)) for p in (jnp.nan, padding))
    for a, b in zip(*map(jax.tree.leaves, (clean, filled)), strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.isfinite(a).all()


def test_tiles_give_the_sums_of_all_at_once():
    net, samples = deep_sets(), two_samples()
    whole, tiled = (
        template_sums(net, samples, edges=EDGES, bandwidth=0.2, chunk=chunk) for chunk in (None, 17)
    )
    assert whole.contents.shape == (10, 4)
    for a, b in zip(*map(jax.tree.leaves, (whole, tiled)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_every_loss_takes_particles():
    samples = two_samples(events=20, variations=False)
    step = Step.at(key=jax.random.key(1))
    told = deep_sets(features=2)
    logits = deep_sets(out_features=3)
    opponent = MLP(
        1, [4], adversary_outputs("mixture", nuisances=1), key=jax.random.key(2),
        param_dtype=jnp.float64,
    )  # fmt: skip
    losses = {
        "entropy": (deep_sets(), partial(cross_entropy, variations=True)),
        "augmented": (deep_sets(), lambda net, s: augmented(net, s, step)),
        "aware": (told, lambda net, s: aware(net, s, step)),
        "adversarial": (Pivot(deep_sets(), opponent), lambda net, s: adversarial(net, s, step)),
        "parametrised": (
            told,
            lambda net, s: parametrised(net, s, step, theta={"signal": jnp.array([0.3])}),
        ),
        "inferno": (logits, lambda net, s: inferno(net, s, temperature=0.5)),
    }
    for name, (net, loss) in losses.items():
        moving, rest = eqx.partition(net, eqx.is_inexact_array)
        slopes = eqx.filter_jit(
            jax.grad(lambda own, rest=rest, loss=loss: loss(eqx.combine(own, rest), samples)[0])
        )(moving)
        sizes = [float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(slopes)]
        assert np.isfinite(sizes).all(), name
        assert max(sizes) > 1e-6, name


WIDE = jnp.linspace(-2, 2, 7)


def recipe(net, batch, step):
    """The limit, with cross-entropy as a regulariser."""
    value, aux = expected_limit(net, batch, edges=WIDE, bandwidth=0.3)
    return value + cross_entropy(net, batch)[0], aux


def fitted(net, samples, **options):
    return train.fit(
        recipe,
        net,
        samples,
        batch_size=250,
        optimizer=optax.adam(2e-2),
        key=jax.random.key(4),
        trained=trainable(net),
        progress_bar=False,
        **options,
    )


@eqx.filter_jit
def hard_limit(net, samples):
    return expected_limit(net, samples, edges=WIDE, bandwidth=None)[0]


def test_deep_sets_on_particles_train_on_the_limit_and_beat_what_has_no_axes(tmp_path):
    s = jet_events(1, 1000, signal=True, total=20.0, dtype=jnp.float32)
    b = jet_events(2, 1000, signal=False, total=200.0, dtype=jnp.float32)
    samples = (Sample(s, (LOUDER,), name="s", normfactors=("mu",)), Sample(b, (LOUDER,), name="b"))
    inputs = jax.tree.map(lambda *x: jnp.concatenate(x), s.inputs, b.inputs)
    net = Standardised.fit(DeepSets(3, [16], latent=8, features=1, key=jax.random.key(0)), inputs)
    # the same program for both: momenta and their sum alone hold nothing that tells the two apart
    axes = lambda s: [own.nominal.particles for own in s]  # noqa: E731
    momenta = eqx.tree_at(axes, samples, [p.at[..., 1:].set(0) for p in axes(samples)])
    results = [fitted(net, data, steps=40) for data in (samples, momenta)]
    clouds, without = (
        float(hard_limit(r.trainable, data))
        for r, data in zip(results, (samples, momenta), strict=True)
    )
    assert clouds < 0.65 * without
    # continued after a stop: the same weights, bit for bit; other particles are refused
    folder = tmp_path / "half"
    with pytest.raises(KeyboardInterrupt):
        fitted(net, samples, steps=40, checkpoint=folder, checkpoint_every=10, logger=StopAt())
    resumed = fitted(net, samples, steps=40, checkpoint=folder, checkpoint_every=10)
    for x, y in zip(*map(jax.tree.leaves, (results[0].trainable, resumed.trainable)), strict=True):
        np.testing.assert_array_equal(x, y)
    other = eqx.tree_at(lambda s: s[0].nominal.particles, samples, s.particles.at[0, 0, 1].add(0.1))
    with pytest.raises(ConfigError, match=r"samples.0 was"):
        fitted(net, other, steps=40, checkpoint=folder, checkpoint_every=10)


class StopAt:
    """A logger that ends the training in the middle of a step."""

    def start(self, *, stage, step):
        pass

    def log(self, record):
        if record["step"] == 25:
            raise KeyboardInterrupt

    def close(self):
        pass


def no_particles(events):
    return Events(events.features, events.weights, columns=("ht",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: no_particles(b), "sample 'background' consists of 1 features without"),
        (
            lambda b: Events(b.features, b.weights, b.particles[..., :2], b.mask),
            "particles of 2 channels",
        ),
        (
            lambda b: Events(b.features, b.weights, b.particles, b.mask, b.columns, b.units,
                             ("pt", "phi", "eta")),
            r"has the particle channels \['pt', 'phi', 'eta'\]",
        ),
        (
            lambda b: eqx.tree_at(lambda e: e.particles, b, b.particles.at[3, 0, 1].set(jnp.nan)),
            "1 real particles are not finite, the first in event 3, particle 0",
        ),
    ],
)  # fmt: skip
def test_wrong_particles_are_named(change, message):
    signal, background = two_samples(events=10, variations=False)
    wrong = Sample(change(background.nominal), name="background")
    with pytest.raises(InputError, match=message):
        BatchSampler([signal, wrong], key=jax.random.key(0), size=5)
    if "finite" not in message:
        with pytest.raises(InputError, match=message):
            template_sums(deep_sets(), [signal, wrong], edges=EDGES, bandwidth=None)


def test_a_network_that_ignores_an_input_is_refused():
    inputs = two_samples(events=10)[0].nominal.inputs
    key = jax.random.key(0)
    with pytest.raises(InputError, match="an MLP does not look at"):
        MLP(1, [4], key=key)(inputs)
    for net in (deep_sets(features=0), PointEdgeTransformer(3, 4, blocks=1, key=key)):
        with pytest.raises(InputError, match="takes 0 features beside the particles"):
            net(inputs)
    with pytest.raises(InputError, match="fitted to events with none"):
        Standardised.fit(lambda x: x, inputs.features)(inputs)
