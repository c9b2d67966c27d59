"""A small run of the rotating Gaussians, and what does not need a training."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

EXAMPLE = "uncertainty_aware"

pytestmark = pytest.mark.paper


def test_best_fixed_bins(example):
    """Without bins the angle costs nothing; ten bins that do not know it cost 4 to 5 %."""
    fixed = example.fixed_bins
    known, _ = example.rotating.known_angle()
    cells = fixed.grid(points=81)
    unbinned = np.sqrt(fixed.inverse(cells + 1e-300)[:, 0, 0])
    assert unbinned == pytest.approx(known, rel=2e-3)
    found = fixed.best_bins(cells, bins=10, seed=0, steps=60)
    assert 1.035 < np.exp(np.mean(np.log(found))) / known < 1.06


def test_centres_are_means_of_what_is_nearest(example):
    bins = example.sigma_bins
    rng = np.random.default_rng(1)
    points, weights = rng.uniform(size=(400, 2)), rng.uniform(0.5, 1.5, 400)
    found = bins.centres(points, weights, bins=5, rng=rng, steps=200)
    place = bins.nearest(points, found)
    distances = np.linalg.norm(points[:, None] - found, axis=2)
    assert place.tolist() == distances.argmin(axis=1).tolist()
    for j in range(5):
        mean = np.average(points[place == j], axis=0, weights=weights[place == j])
        np.testing.assert_allclose(found[j], mean, atol=1e-9)


def test_experiments_are_poisson_and_share_their_events(example):
    """Both values see the same events, here in swapped bins."""
    place = np.repeat([[0, 1], [1, 0]], [3, 1], axis=1)[:, :4].astype(np.uint8)
    pool = {"signal": place, "background": place}
    rng = np.random.default_rng(2)
    found = example.toys.experiments(pool, bins=2, number=400, rng=rng)
    assert (found[:, 0] == found[:, 1, ::-1]).all()
    total = found[:, 0].sum(axis=1)
    assert total.mean() == pytest.approx(50_500, abs=4 * np.sqrt(50_500 / 400))
    assert total.var() == pytest.approx(50_500, rel=0.3)


def test_auc_of_the_exact_classifiers(run):
    test = run.gaussians(jax.random.key(0), events=50_000)
    nominal = lambda x: jnp.sum(x, axis=1, keepdims=True)  # noqa: E731
    _, best = run.known_angle()
    assert best == pytest.approx(0.97832, abs=1e-5)
    assert run.auc(nominal, test, np.pi / 4) == pytest.approx(best, abs=2e-3)
    assert run.auc(nominal, test, np.pi / 2) == pytest.approx(0.92344, abs=3e-3)
    aware = lambda x: x[:, 1:2]  # the classifier at pi/2  # noqa: E731
    assert run.auc(aware, test, np.pi / 2) == pytest.approx(best, abs=2e-3)


@pytest.mark.slow
def test_an_aware_network_pays_off_the_nominal_angle(run):
    found = run.run(**run.REDUCED)
    methods = found["methods"]
    sigma = {name: rows["sigma"]["signal"] for name, rows in methods.items()}
    assert sigma["aware"]["pi/2"][0] < 0.8 * sigma["nominal"]["pi/2"][0]
    # no observable can beat the unbinned likelihood with a known angle
    assert all(v[0] > 0.97 * found["known_angle"] for rows in sigma.values() for v in rows.values())
    assert methods["aware"]["auc"]["shifted"][0] > 0.95


def test_the_record_keeps_to_the_closed_forms(example, run):
    """No AUC above that of the densities, no sigma(mu) below that of a known angle."""
    expected = example.expected
    known, best = run.known_angle()
    assert (expected["known_angle"], expected["best_auc"]) == pytest.approx((known, best))
    for name, rows in expected["methods"].items():
        for values in rows["auc"].values():
            # 200,000 events of each class: the error of an AUC of 0.978 is 1.5e-4
            assert max(values) < best + 6e-4, name
        for bins in rows["sigma"].values():
            for values in bins.values():
                assert min(values) > 0.98 * known, name  # the yield of the test events: 1 %
    # a nominal classifier that is right orders events by x + y
    nominal = expected["methods"]["nominal"]["auc"]
    assert np.mean(nominal["nominal"]) == pytest.approx(best, abs=6e-4)


def test_expected_values(example):
    expected = example.expected
    published, methods = expected["published"], expected["methods"]
    mean = {name: {k: np.mean(v) for k, v in methods[name]["auc"].items()} for name in methods}
    assert mean["nominal"]["nominal"] == pytest.approx(published["nominal"], abs=2e-3)
    assert mean["nominal"]["shifted"] == pytest.approx(published["shifted"], abs=2e-3)
    assert mean["aware"]["shifted"] == pytest.approx(published["aware"], abs=2e-3)
    assert len(methods["aware"]["auc"]["shifted"]) >= 3
    edge = {
        name: np.mean(next(iter(rows["sigma"].values()))["pi/2"]) for name, rows in methods.items()
    }
    assert edge["aware"] < edge["limit"] < 0.6 * edge["nominal"]
    everywhere = {
        name: np.mean(list(next(iter(methods[name]["sigma"].values())).values()))
        for name in methods
    }
    assert everywhere["limit-aware"] == min(everywhere.values())
    for rows in expected["coverage"].values():
        found = [toys for seeds in rows.values() for toys in seeds]
        # all angles of a seed see the same experiments
        independent = sum(toys["toys"] for toys in next(iter(rows.values())))
        for level, name in ((0.6827, "68 %"), (0.95, "95 %")):
            error = np.sqrt(level * (1 - level) / independent)
            assert abs(np.mean([toys[name] for toys in found]) - level) < 3 * error
