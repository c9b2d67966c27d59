from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from difana._errors import InputError
from difana.data import read_events, read_identifiers
from difana.data.generate import (
    RESONANCE_COLUMNS,
    RESONANCE_TRANSFORMATION,
    RESONANCE_YIELDS,
    blobs,
    inferno,
    inferno_log_ratio,
    resonance,
    uncertain_variable,
    write_resonance,
)
from difana.data.generate._dijets import decay, reconstruct

SIZE = 4000
UNCERTAIN = {
    "signal": (60, (3.2, 0.9, 0.6, 1.0), (0.7, 1, 1, 1)),
    "first": (4000, (1, 0, 0, 0.3), (1, 1, 1, 1.09**0.5)),
    "second": (500, (1.2, 0.7, -0.6, 0.5), (0.6, 1, 1, 1)),
}
DECAYS = ((50, 200), (0, 100), (-1, 1), (-1, 1), (-3, 3))


def test_blobs_have_the_moments_of_the_code(key):
    signal, background = blobs(key=key, events=SIZE)
    shift = background.variations[0]
    assert shift.name == "bkg_shift"
    assert (signal.normfactors, background.normfactors) == (("mu",), ())
    for events, mean, total in (
        (signal.nominal, (-1, 1), 20),
        (background.nominal, (1, -1), 100),
        (shift.up, (2.5, 2), 100),
        (shift.down, (-2.5, -1.5), 100),
    ):
        np.testing.assert_allclose(events.features.mean(axis=0), mean, atol=0.08)
        np.testing.assert_allclose(jnp.cov(events.features.T), np.eye(2), atol=0.1)
        np.testing.assert_allclose(events.total(), total, rtol=1e-6)
    other = blobs(key=jax.random.key(1), events=SIZE)[0]
    assert not np.array_equal(other.nominal.features, signal.nominal.features)


@pytest.fixture(scope="module")
def uncertain():
    return uncertain_variable(key=jax.random.key(4), events=SIZE, size=2.0)


def test_uncertain_variable_has_its_moments(uncertain):
    assert [sample.name for sample in uncertain] == list(UNCERTAIN)
    assert [sample.normfactors for sample in uncertain] == [("mu",), (), ()]
    for sample in uncertain:
        total, mean, width = UNCERTAIN[sample.name]
        x = np.asarray(sample.nominal.features)
        np.testing.assert_allclose(sample.nominal.total(), total, rtol=1e-6)
        np.testing.assert_allclose(x.mean(axis=0), mean, atol=0.08)
        np.testing.assert_allclose(x.std(axis=0), width, rtol=0.08)
    first = np.asarray(uncertain[1].nominal.features)
    assert stats.kstest(first[:, 0], stats.expon().cdf).pvalue > 1e-3
    np.testing.assert_allclose(np.cov(first[:, 0], first[:, 3])[0, 1], 0.3, atol=0.08)


def test_uncertain_variable_has_its_variations(uncertain):
    names = [[variation.name for variation in sample.variations] for sample in uncertain]
    assert names == [["scale"], ["scale", "shape", "norm_first"], ["scale", "norm_second"]]
    x = np.asarray(uncertain[1].nominal.features)
    scale, shape, norm = uncertain[1].variations
    moved = np.stack([x[:, 0] * 1.24, x[:, 1], x[:, 2], x[:, 3] + 0.072 * x[:, 0]], axis=1)
    np.testing.assert_allclose(scale.function(x, jnp.float32(1.0)), moved, rtol=1e-5, atol=1e-6)
    for weights, sign in ((shape.up, 1), (shape.down, -1)):
        expected = 1 + sign * 0.6 * np.tanh(x[:, 0] - 2)
        np.testing.assert_allclose(weights / uncertain[1].nominal.weights, expected, rtol=1e-5)
    np.testing.assert_allclose((norm.up, norm.down), (1.4, 1 / 1.4))
    np.testing.assert_allclose(uncertain[2].variations[1].up, 1.6)
    assert all(not s.variations for s in uncertain_variable(key=jax.random.key(4), size=0.0))


@pytest.mark.parametrize("size", [-1.0, 4.0, float("nan")])
def test_uncertain_variable_wants_positive_weights(key, size):
    with pytest.raises(InputError, match="size must be in"):
        uncertain_variable(key=key, events=10, size=size)


@pytest.fixture(scope="module")
def mixture():
    return inferno(key=jax.random.key(2), events=SIZE, normalisation=0.1)


def densities(x, r=0.0, rate=3.0):
    signal = stats.norm.pdf(x[:, :2]).prod(axis=1) * stats.expon.pdf(x[:, 2], scale=1 / 2)
    plane = stats.norm.pdf(x[:, 0], 2 + r, np.sqrt(5)) * stats.norm.pdf(x[:, 1], 0, 3)
    return signal, plane * stats.expon.pdf(x[:, 2], scale=1 / rate)


def test_inferno_follows_its_densities(mixture):
    signal, background = mixture
    for events, laws in (
        (signal.nominal, (stats.norm(), stats.norm(), stats.expon(scale=1 / 2))),
        (
            background.nominal,
            (stats.norm(2, np.sqrt(5)), stats.norm(0, 3), stats.expon(scale=1 / 3)),
        ),
    ):
        for i, law in enumerate(laws):
            assert stats.kstest(np.asarray(events.features[:, i]), law.cdf).pvalue > 1e-3
    np.testing.assert_allclose(signal.nominal.total(), 50, rtol=1e-6)
    np.testing.assert_allclose(background.nominal.total(), 1000, rtol=1e-6)
    assert [v.name for v in background.variations] == ["r", "lambda", "b"]
    assert signal.variations == ()


def test_inferno_log_ratio_is_that_of_the_densities(mixture):
    x = jnp.concatenate([sample.nominal.features[:100] for sample in mixture])
    for r, rate in ((0.0, 3.0), (0.4, 2.5)):
        top, bottom = densities(np.asarray(x), r, rate)
        found = inferno_log_ratio(x, r=r, rate=rate)
        np.testing.assert_allclose(found, np.log(top / bottom), rtol=1e-5, atol=1e-5)


def test_inferno_transformations_are_exact(mixture):
    background = mixture[1]
    x = background.nominal.features
    shift, rate, _ = background.variations
    np.testing.assert_allclose(shift.function(x, 1.0)[:, 0], x[:, 0] + 0.4, rtol=1e-5)
    np.testing.assert_allclose(rate.function(x, 1.0)[:, 2], x[:, 2] * 3 / 4, rtol=1e-5)
    # the transformed events follow the density at that value of the parameter
    moved = np.asarray(rate.function(x, -1.0)[:, 2])
    assert stats.kstest(moved, stats.expon(scale=1 / 2).cdf).pvalue > 1e-3


def test_inferno_nuisances_can_be_left_out(key):
    assert inferno(key=key, events=10, shift=None, rate=None)[1].variations == ()
    with pytest.raises(InputError, match="standard deviation of lambda"):
        inferno(key=key, events=10, rate=3.0)


@pytest.fixture(scope="module")
def dijets():
    return {sample.name: sample for sample in resonance(events=SIZE)}


def test_resonance_yields_and_nuisances(dijets):
    nuisances = {name: [v.name for v in s.variations] for name, s in dijets.items()}
    assert nuisances == {
        "signal": ["jet_scale", "jet_resolution"],
        "continuum": ["jet_scale", "slope", "norm_continuum"],
        "peaking": ["jet_scale", "jet_resolution", "norm_peaking"],
    }
    for name, sample in dijets.items():
        assert len(sample.nominal) == SIZE
        np.testing.assert_allclose(sample.nominal.total(), RESONANCE_YIELDS[name], rtol=1e-6)
    slope = dijets["continuum"].variations[1]
    np.testing.assert_allclose(slope.up.sum(), RESONANCE_YIELDS["continuum"], rtol=1e-6)
    mass = np.asarray(dijets["continuum"].nominal["mass"])
    assert np.sum(np.asarray(slope.up) * mass) > 1.05 * np.sum(np.asarray(slope.down) * mass)


def test_resonance_is_physical(dijets):
    masses = {name: np.asarray(sample.nominal["mass"]) for name, sample in dijets.items()}
    assert abs(np.median(masses["signal"]) - 125) < 1.5
    assert abs(np.median(masses["peaking"]) - 91.2) < 2
    assert 0.06 < masses["signal"].std() / 125 < 0.09
    # a wider resolution widens the peak
    _, resolution = dijets["signal"].variations
    assert resolution.up["mass"].std() > 1.2 * resolution.down["mass"].std()
    assert abs(len(resolution.up) - SIZE) < 0.02 * SIZE
    # massless jets: m^2 = 2 pt pt (cosh(d eta) - cos(d phi))
    events = dijets["continuum"].nominal
    lead, sub, pair = events["pt_lead"], events["pt_sub"], events["pt_pair"]
    cosine = (pair**2 - lead**2 - sub**2) / (2 * lead * sub)
    squared = 2 * lead * sub * (jnp.cosh(events["delta_eta"]) - cosine)
    np.testing.assert_allclose(jnp.sqrt(squared), events["mass"], rtol=1e-3)


def test_resonance_transformation_moves_the_energies_only(dijets):
    nominal = dijets["signal"].nominal
    scale = dijets["signal"].variations[0]
    ratio = scale.function(nominal.features, 2.0) / nominal.features
    expected = [1.06, 1.06, 1.06, 1.06, 1.0, 1.0]
    np.testing.assert_allclose(ratio, np.broadcast_to(expected, ratio.shape), rtol=1e-5)


def test_scaled_jets_are_the_transformation():
    rng = np.random.default_rng(0)
    one, two = decay(*(rng.uniform(low, high, 50) for low, high in DECAYS))
    noise = np.zeros((2, 50))
    nominal = reconstruct((one, two), noise, 1)
    scaled = reconstruct((1.06 * one, 1.06 * two), noise, 1)
    for name in RESONANCE_COLUMNS:
        factor = 1.06 if name in RESONANCE_TRANSFORMATION else 1.0
        np.testing.assert_allclose(scaled[name], factor * nominal[name], rtol=1e-9, atol=1e-9)


def test_resonance_separates_more_than_by_mass(dijets):
    """A linear discriminant near the signal mass finds power in the other features."""
    tables = [np.asarray(s.nominal.features, float) for s in dijets.values()]
    near = [t[np.abs(t[:, 0] - 125) < 15, 1:] for t in (tables[0], np.concatenate(tables[1:]))]
    spread = np.cov(near[0].T) + np.cov(near[1].T)
    direction = np.linalg.solve(spread, near[0].mean(axis=0) - near[1].mean(axis=0))
    rank = stats.mannwhitneyu(near[0] @ direction, near[1] @ direction)
    assert rank.statistic / (len(near[0]) * len(near[1])) > 0.65


def test_resonance_files_hold_the_samples(tmp_path, dijets):
    paths = write_resonance(tmp_path / "events", events=SIZE)
    assert len(paths) == 7
    for name, sample in dijets.items():
        read = read_events(paths[name], tree="events", columns=RESONANCE_COLUMNS, weight="weight")
        np.testing.assert_array_equal(read.features, sample.nominal.features)
        np.testing.assert_allclose(read.weights, sample.nominal.weights, rtol=1e-12)
    up = read_events(paths["continuum"], columns=["mass"], weight="weight_up")
    np.testing.assert_allclose(up.weights, dijets["continuum"].variations[1].up, rtol=1e-12)
    shifted = read_events(
        paths["peaking_resolution_up"], columns=RESONANCE_COLUMNS, weight="weight"
    )
    np.testing.assert_array_equal(shifted.features, dijets["peaking"].variations[1].up.features)
    # the same simulated events
    numbers = [
        read_identifiers(paths[name], columns=["event"])["event"]
        for name in ("peaking", "peaking_resolution_up")
    ]
    assert len(np.intersect1d(*numbers)) > 0.9 * SIZE


def test_resonance_depends_on_the_seed_only(dijets):
    again = resonance(events=SIZE, seed=1)[0]
    np.testing.assert_array_equal(again.nominal.features, dijets["signal"].nominal.features)
    other = resonance(events=10, seed=2)[0]
    assert not np.array_equal(other.nominal.features, again.nominal.features[:10])
    with pytest.raises(InputError, match="events must be at least 1"):
        resonance(events=0)
