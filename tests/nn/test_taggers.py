"""Taggers: symmetries, safety, padding, gradients, sizes as published, bad input."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from difana._errors import ConfigError, InputError
from difana.data import Inputs
from difana.nn import batch_statistics, evaluation_mode, trainable, training_mode
from difana.nn.taggers import (
    EFN,
    LITE,
    LSTM,
    NANO,
    PELICAN,
    PFN,
    ImageCNN,
    InJetFrame,
    LGATrSlim,
    LLoCaTransformer,
    LorentzNet,
    ParticleNet,
    ParticleTransformer,
    Transformer,
    VertexTagger,
    boosted,
    four_momenta,
    jet_image,
    minkowski_products,
    pair_features,
    particle_features,
    rotated,
)
from difana.nn.taggers import _spurions as spurions
from difana.nn.taggers._layers import BatchNorm
from difana.nn.taggers.frames import LocalFrames, polar
from difana.nn.taggers.kinematics import boost_matrix, transverse

PARTICLES = 10
KEY = jax.random.key(7)
TINY = {"dtype": jnp.float64, "extras": 1, "key": KEY}

MAKE = {
    "PFN": functools.partial(PFN, phi=(8, 8), hidden=(8,)),
    "EFN": functools.partial(EFN, phi=(8, 8), hidden=(8,)),
    "ParticleNet": functools.partial(
        ParticleNet, blocks=((3, (8,)), (3, (6, 6))), hidden=(8,), fusion=8
    ),
    "ParticleTransformer": functools.partial(
        ParticleTransformer, embedding=(8,), pairs=(4,), heads=2, blocks=1, class_blocks=1
    ),
    "LorentzNet": functools.partial(LorentzNet, width=6, blocks=2, beams=False),
    "PELICAN": functools.partial(
        PELICAN, channels=4, messages=6, scalars=2, blocks=1, beams=False
    ),
    "LGATrSlim": functools.partial(
        LGATrSlim, vectors=4, scalars=8, heads=2, blocks=2, expansion=2, spurions=False
    ),
    "LLoCaTransformer": functools.partial(
        LLoCaTransformer, width=16, heads=2, blocks=1, hidden=8, spurions=False
    ),
    "InJetFrame": lambda outputs, **options: InJetFrame(
        ParticleNet(outputs, blocks=((3, (8,)),), hidden=(8,), **options),
        hidden=8, spurions=False, key=options["key"],
    ),
    "Transformer": functools.partial(Transformer, width=8, heads=2, blocks=1),
    "VertexTagger": functools.partial(VertexTagger, width=8, heads=2, blocks=1),
    "ImageCNN": functools.partial(ImageCNN, widths=(3,), hidden=(6,), pixels=6),
    "LSTM": functools.partial(LSTM, point=(6,), width=6, hidden=(6,)),
}  # fmt: skip
EQUIVARIANT = ("LorentzNet", "PELICAN", "LGATrSlim", "LLoCaTransformer", "InJetFrame")


@functools.cache
def made(name):
    """Return a tagger with running statistics that are not trivial, and itself as a program."""
    net = jax.jit(lambda key: MAKE[name](2, **{**TINY, "key": key}))(KEY)
    rng = np.random.default_rng(5)

    def moved(leaf):
        return jnp.asarray(rng.uniform(0.1, 0.3, leaf.shape), leaf.dtype)

    statistics = [jax.tree.map(moved, state) for state in batch_statistics(net)]
    net = evaluation_mode(net, statistics=statistics)
    return net, jax.jit(lambda net, x, mask: net(x, mask))


@pytest.fixture(scope="module")
def jets():
    """Return three jets with 10, 8 and 5 particles and an empty one, with a scalar channel."""
    rng = np.random.default_rng(3)
    shape = (4, PARTICLES)
    cylindrical = np.stack([
        rng.exponential(30, shape) + 1, 0.4 + rng.normal(0, 0.3, shape),
        -2.9 + rng.normal(0, 0.3, shape), np.full(shape, 0.2),
    ], -1)  # fmt: skip
    mask = np.arange(PARTICLES) < np.array([10, 8, 5, 0])[:, None]
    p = four_momenta(jnp.asarray(cylindrical))
    x = jnp.concatenate([p, jnp.asarray(rng.integers(-1, 2, (*shape, 1)), p.dtype)], -1)
    return jnp.where(mask[..., None], x, 0), jnp.asarray(mask)


def lorentz(p):
    """Return momenta after a rotation and a boost."""
    a, b = 0.7, -1.1
    rotation = np.eye(4)
    rotation[1:3, 1:3] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    other = np.eye(4)
    other[2:, 2:] = [[np.cos(b), -np.sin(b)], [np.sin(b), np.cos(b)]]
    boost = boost_matrix(jnp.array([0.3, -0.4, 0.5]))
    return jnp.einsum("ij,...j->...i", boost @ jnp.asarray(rotation @ other), p)


@pytest.mark.parametrize("name", MAKE)
def test_symmetries_of_every_tagger(name, jets):
    net, run = made(name)
    x, mask = jets
    out = run(net, x, mask)
    assert out.shape == (4, 2)
    assert bool(jnp.all(jnp.isfinite(out)))
    assert float(jnp.std(out[:3])) > 1e-6  # it looks at the jets
    order = np.random.default_rng(0).permutation(PARTICLES)
    np.testing.assert_allclose(run(net, x[:, order], mask[:, order]), out, atol=1e-9)
    rubbish = jnp.where(mask[..., None], x, jnp.nan)
    np.testing.assert_array_equal(run(net, rubbish, mask), out)
    moved = x.at[..., :4].set(lorentz(x[..., :4]))
    change = jnp.abs(run(net, moved, mask) - out)[:3]
    size = jnp.maximum(jnp.abs(out[:3]), 1)
    assert (float(jnp.max(change / size)) < 1e-6) == (name in EQUIVARIANT)


@pytest.mark.parametrize("name", MAKE)
def test_more_padding_changes_nothing_and_gradients_are_finite(name, jets):
    net, _ = made(name)
    x, mask = jets

    @jax.jit
    def both(net, x, mask):
        wide = jnp.pad(x, ((0, 0), (0, 3), (0, 0)))
        value, slopes = jax.value_and_grad(
            lambda net, x: jnp.sum(jnp.sin(net(x, mask))), argnums=(0, 1), allow_int=True
        )(net, x)
        return net(wide), value, slopes

    out, _, slopes = both(net, x, mask)
    np.testing.assert_allclose(out, made(name)[1](net, x, mask), atol=1e-9)
    marks = jax.tree.leaves(trainable(net))
    found = [g for g, mark in zip(jax.tree.leaves(slopes[0]), marks, strict=True) if mark]
    assert all(bool(jnp.all(jnp.isfinite(g))) for g in found)
    assert bool(jnp.all(jnp.isfinite(slopes[1])))
    assert not bool(jnp.any(jnp.where(mask[..., None], 0, slopes[1])))


@pytest.mark.parametrize("name", ["LorentzNet", "PELICAN", "LGATrSlim", "LLoCaTransformer"])
def test_beams_break_the_symmetry_unless_they_move_along(name, jets, monkeypatch):
    options = (
        {"spurions": True} if name.startswith("L") and name != "LorentzNet" else {"beams": True}
    )
    net = jax.jit(lambda key: MAKE[name](2, **{**TINY, **options, "key": key}))(KEY)
    x, mask = jets
    moved = x.at[..., :4].set(lorentz(x[..., :4]))
    run = jax.jit(lambda net, x, mask: net(x, mask))
    out = run(net, x, mask)[:3]
    assert float(jnp.max(jnp.abs(run(net, moved, mask)[:3] - out))) > 1e-6
    owner = net.frames if name == "LLoCaTransformer" else net
    beams = lorentz(jnp.array(owner.beams, jnp.float64))
    owner.beams = tuple(tuple(map(float, beam)) for beam in beams)
    np.testing.assert_allclose(run(net, moved, mask)[:3], out, rtol=1e-6, atol=1e-6)


def test_efn_is_infrared_and_collinear_safe(jets):
    net, _ = made("EFN")
    other, _ = made("PFN")
    x, mask = jets
    massless = x.at[..., 0].set(jnp.linalg.norm(x[..., 1:4], axis=-1))[1:3, :8]
    mask = mask[1:3, :8]
    zero = jnp.zeros((2, 2, 5))
    before = jnp.concatenate([massless, zero], axis=1)
    there = jnp.concatenate([mask, jnp.zeros((2, 2), bool)], axis=1)
    split = before.at[:, 0].multiply(0.3).at[:, 8].set(0.7 * before[:, 0])
    soft = 1e-9 * jnp.array([5.0, 3.0, 4.0, 0.0, 0.0])
    split = split.at[:, 9].set(soft)
    both = there.at[:, 8:].set(True)
    np.testing.assert_allclose(net(split, both), net(before, there), atol=1e-6)
    assert float(jnp.max(jnp.abs(other(split, both) - other(before, there)))) > 1e-4


PUBLISHED = {
    "PFN": (PFN, {}, 82_458),
    "ParticleNet": (ParticleNet, {}, 366_160),
    "ParticleNet-Lite": (ParticleNet, LITE, 26_416),
    "ParT": (ParticleTransformer, {}, 2_141_134),
    "LorentzNet": (LorentzNet, {}, 224_072),
    "PELICAN": (PELICAN, {}, 208_498),
    "PELICAN-nano": (PELICAN, NANO, 3_465),
    "L-GATr-slim": (LGATrSlim, {}, 2_030_338),
    "Transformer": (Transformer, {}, 1_978_882),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_those_of_the_publications(name):
    kind, options, size = PUBLISHED[name]

    def weights(key):
        return nnx.state(kind(2, **options, key=key), nnx.Param)

    assert sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(weights, KEY))) == size


def test_features_of_pairs_follow_their_formula(jets):
    x, mask = jets
    p = x[..., :4]
    found = pair_features(p, mask)
    np.testing.assert_allclose(found, jnp.swapaxes(found, 1, 2), atol=1e-12)
    assert not bool(jnp.any(found[3]))
    a, b = np.asarray(p[0, 0]), np.asarray(p[0, 1])
    pt = [np.hypot(v[1], v[2]) for v in (a, b)]
    y = [0.5 * np.log((v[0] + v[3]) / (v[0] - v[3])) for v in (a, b)]
    phi = [np.arctan2(v[2], v[1]) for v in (a, b)]
    delta = np.hypot(y[0] - y[1], (phi[0] - phi[1] + np.pi) % (2 * np.pi) - np.pi)
    total = a + b
    expected = [min(pt) * delta, min(pt) / sum(pt), delta, total[0] ** 2 - total[1:] @ total[1:]]
    np.testing.assert_allclose(found[0, 0, 1], np.log(expected), rtol=1e-9)


def test_kinematics_have_finite_derivatives_at_zeros():
    there = jnp.ones((1, 2), bool)

    @jax.jit
    def total(p):
        found = [sum(transverse(p)), pair_features(p, there), particle_features(p, there)]
        return sum(jnp.sum(x) for x in [*found, jet_image(p, there, pixels=4)])

    assert bool(jnp.all(jnp.isfinite(jax.grad(total)(jnp.zeros((1, 2, 4))))))


def test_turned_jets_keep_axis_energies_and_masses(jets):
    x, mask = jets
    turned = rotated(x, KEY)
    for p, q in ((x, turned),):
        np.testing.assert_allclose(q[..., :4].sum(1), p[..., :4].sum(1), atol=1e-9)
        np.testing.assert_allclose(minkowski_products(q[..., :4]), minkowski_products(p[..., :4]),
                                   atol=1e-7)  # fmt: skip
    np.testing.assert_array_equal(turned[..., 4], x[..., 4])
    assert not np.allclose(turned[0], x[0])
    assert not bool(jnp.any(jnp.where(mask[..., None], 0, turned)))


def test_products_and_boosts(jets):
    p = jets[0][0, :, :4]
    moved = boosted(p, jnp.array([0.2, 0.3, -0.6]))
    np.testing.assert_allclose(
        minkowski_products(moved[None]), minkowski_products(p[None]), rtol=1e-7
    )
    rest = boosted(p[0], p[0, 1:] / p[0, 0])
    np.testing.assert_allclose(rest, [0.2, 0, 0, 0], atol=1e-9)


def test_frames_are_lorentz_transformations_that_move_along(jets):
    frames = LocalFrames(1, hidden=4, spurions=False, dtype=jnp.float64, key=KEY)
    x, mask = jets
    p, scalars = x[..., :4], x[..., 4:]
    found = frames(p, scalars, mask)
    metric = jnp.diag(jnp.array([1.0, -1.0, -1.0, -1.0]))
    product = jnp.einsum("epji,jk,epkl->epil", found, metric, found)
    np.testing.assert_allclose(product, jnp.broadcast_to(metric, product.shape), atol=1e-6)
    inside = jnp.einsum("epij,epj->epi", found, p)
    moved = lorentz(p)
    again = jnp.einsum("epij,epj->epi", frames(moved, scalars, mask), moved)
    np.testing.assert_allclose(again, inside, atol=1e-6)
    np.testing.assert_array_equal(found[3], jnp.broadcast_to(jnp.eye(4), (PARTICLES, 4, 4)))


def test_a_rest_frame_is_one(jets):
    p = jets[0][0, 0, :4]
    trafo = polar(p, jets[0][0, 1:3, :4])
    np.testing.assert_allclose(trafo @ p, [0.2, 0, 0, 0], atol=1e-9)
    np.testing.assert_allclose((trafo @ jets[0][0, 1, :4])[2:], 0, atol=1e-9)


def test_an_image_holds_all_of_the_momentum_inside():
    cylindrical = jnp.array([[[30.0, 0.1, 0.2, 0.0], [10.0, -0.3, -0.6, 0.0]]])
    image = jet_image(four_momenta(cylindrical), jnp.ones((1, 2), bool), pixels=17, reach=0.8)
    assert float(image.sum()) == pytest.approx(1.0)
    assert int((image > 0).sum()) <= 8


def test_batch_statistics_are_those_of_real_particles(jets):
    x, mask = jets
    norm = BatchNorm(5, dtype=jnp.float64)
    norm.train()
    out = norm(x, mask)
    real = np.asarray(x)[np.asarray(mask)]
    np.testing.assert_allclose(norm.mean[...], 0.1 * real.mean(0), rtol=1e-9)
    np.testing.assert_allclose(norm.var[...], 0.9 + 0.1 * real.var(0, ddof=1), rtol=1e-9)
    np.testing.assert_allclose(out[mask].mean(0), 0, atol=1e-9)
    before = norm.mean[...]
    assert bool(jnp.all(jnp.isfinite(norm(x[3:], mask[3:]))))  # nothing but padding
    np.testing.assert_array_equal(norm.mean[...], before)


def test_training_moves_statistics_and_evaluation_does_not(jets):
    net, _ = made("ParticleNet")
    x, mask = jets
    moving = training_mode(net)
    moving(x, mask)
    (before,), (after,) = batch_statistics(net), batch_statistics(moving)
    changed = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), before, after)
    assert all(jax.tree.leaves(changed))
    np.testing.assert_array_equal(evaluation_mode(net)(x, mask), net(x, mask))


def test_tasks_of_tracks_and_vertices(jets):
    net, _ = made("VertexTagger")
    x, mask = jets
    tasks = net.tasks(x, mask)
    np.testing.assert_allclose(tasks.jet, net(x, mask))
    assert tasks.origin.shape == (4, PARTICLES, 6)
    np.testing.assert_allclose(tasks.vertex, jnp.swapaxes(tasks.vertex, 1, 2), atol=1e-12)
    order = np.random.default_rng(1).permutation(PARTICLES)
    other = net.tasks(x[:, order], mask[:, order])
    np.testing.assert_allclose(other.origin, tasks.origin[:, order], atol=1e-9)


def test_inputs_may_be_cylindrical_and_events_have_features():
    cylindrical = jnp.array([[[30.0, 0.1, 0.2, 0.5], [10.0, -0.3, -0.6, 0.1]]])
    options = {"phi": (8,), "hidden": (8,), "dtype": jnp.float64, "key": KEY}
    one = PFN(2, coordinates="cylindrical", **options)(cylindrical)
    np.testing.assert_allclose(one, PFN(2, **options)(four_momenta(cylindrical)), rtol=1e-12)
    net = PFN(2, features=2, coordinates="cylindrical", **options)
    inputs = Inputs(jnp.ones((1, 2)), cylindrical, jnp.ones((1, 2), bool))
    other = Inputs(jnp.zeros((1, 2)), cylindrical, inputs.mask)
    assert not np.allclose(net(inputs), net(other))
    with pytest.raises(InputError, match="2 features beside"):
        net(cylindrical)


def test_bad_input_is_named(jets):
    net, _ = made("PFN")
    x, mask = jets
    wrong = x[..., jnp.array([1, 2, 3, 0, 4])]  # px, py, pz, E
    with pytest.raises(InputError, match="order of the channels must be E, px, py, pz"):
        net(wrong, mask)
    with pytest.raises(InputError, match="event 1 has a particle with a channel that is not"):
        net(x.at[1, 2, 0].set(jnp.nan), mask)
    with pytest.raises(InputError, match=r"must be \[events, particles, 5\]"):
        net(x[..., :4], mask)
    cylindrical = PFN(2, coordinates="cylindrical", key=KEY)
    with pytest.raises(InputError, match="negative pT or mass"):
        cylindrical(jnp.array([[[-1.0, 0.0, 0.0, 0.0]]]))
    for make in (
        lambda: PFN(2, coordinates="polar", key=KEY),
        lambda: PFN(2, extras=-1, key=KEY),
        lambda: Transformer(2, width=10, heads=4, key=KEY),
        lambda: LLoCaTransformer(2, width=12, heads=2, key=KEY),
        lambda: ParticleTransformer(2, heads=7, key=KEY),
        lambda: PELICAN(2, messages=5, scalars=5, key=KEY),
    ):
        with pytest.raises(ConfigError):
            make()


def test_beams_are_labelled():
    _, label, mask = spurions.with_beams(
        jnp.ones((2, 3, 4)), jnp.ones((2, 3), bool), spurions.BEAMS
    )
    assert label[1].tolist() == [[0, 1]] * 2 + [[1, 0]] * 3
    assert mask.shape == (2, 5)
