"""Toys against closed forms, asymptotics and pyhf."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pyhf
import pytest
from scipy import optimize, stats

from difana._errors import ConfigError, InputError, ModelError
from difana.infer import combine_toys, tmu_tilde_p_value, toys
from difana.infer.toys import _rank, _toy_loop

ONE = jax.devices()[:1]
SEED = jax.random.key(11)


@pytest.fixture(scope="module")
def counting_model(two_bins):
    """One bin that matters; all models of this module share one compiled program."""
    return two_bins([4.0, 0.0], [3.0, 1.0], [0.0, 0.0])


@pytest.fixture(scope="module")
def run(counting_model):
    def call(observed=2.0, mu=1.0, *, number=4000, key=SEED, **options):
        data = None if observed is None else counting_model.data([observed, 1.0])
        return toys(
            counting_model, data, mu=mu, number=number, key=key, chunk=1000, devices=ONE, **options
        )

    return call


@pytest.fixture(scope="module")
def counted(run):
    return run()


def test_counting_experiment(counted):
    """q-tilde falls with the count: at least as large means as few events, or fewer."""
    clsb, clb = stats.poisson.cdf(2, 7.0), stats.poisson.cdf(2, 3.0)
    assert counted.ok
    assert counted.failed == (0, 0)
    assert abs(counted.clsb - clsb) < 4 * np.sqrt(clsb * (1 - clsb) / 4000)
    assert abs(counted.clb - clb) < 4 * np.sqrt(clb * (1 - clb) / 4000)
    assert counted.clsb_error == pytest.approx(np.sqrt(clsb * (1 - clsb) / 4000), rel=0.1)
    assert counted.cls == counted.clsb / counted.clb
    assert abs(counted.cls - clsb / clb) < 4 * counted.cls_error
    assert counted.p_value == counted.clsb
    # the same few counts give the same few values
    assert np.unique(counted.signal.round(9)).size < 12
    # quantiles of a Poisson of mean 3 at -2 .. 2 standard deviations: 0 1 3 5 7
    for n, count in enumerate((0, 1, 3)):
        exact = stats.poisson.cdf(count, 7.0) / stats.poisson.cdf(count, 3.0)
        assert abs(counted.expected[n] - exact) < 4 * counted.expected_error[n]


def test_best_fits(counted):
    """The mean of the best fit, cut at zero, is known."""
    n = np.arange(60)
    for best, mean in ((counted.signal_best, 7.0), (counted.background_best, 3.0)):
        values, weights = np.maximum(n - 3.0, 0) / 4.0, stats.poisson.pmf(n, mean)
        exact = np.sum(values * weights)
        spread = np.sqrt(np.sum((values - exact) ** 2 * weights) / best.size)
        assert abs(best.mean() - exact) < 4 * spread


def test_chunks_and_devices_do_not_matter(run, counting_model, counted):
    data = counting_model.data([2.0, 1.0])
    other = toys(counting_model, data, mu=1.0, number=4000, key=SEED, chunk=777)
    np.testing.assert_allclose(other.signal, counted.signal, atol=1e-9)
    np.testing.assert_allclose(other.background_best, counted.background_best, atol=1e-9)
    few = run(number=1000)
    np.testing.assert_array_equal(few.signal, counted.signal[:1000])


def test_interrupted_runs_continue(run, tmp_path, counted, monkeypatch):
    file = tmp_path / "toys.npz"
    work = _toy_loop.iterate_chunks

    def stop(*args, **options):
        for i, result in enumerate(work(*args, **options)):
            if i == 2:
                raise KeyboardInterrupt
            yield result

    with monkeypatch.context() as patch:
        patch.setattr(_toy_loop, "iterate_chunks", stop)
        with pytest.raises(KeyboardInterrupt):
            run(file=file)
    with np.load(file, allow_pickle=False) as content:
        assert np.sum(content["status"] >= 0) == 2000
        assert np.all(np.isnan(content["statistic"][content["status"] < 0]))
    whole = run(file=file)
    np.testing.assert_array_equal(whole.signal, counted.signal)
    np.testing.assert_array_equal(whole.background_status, counted.background_status)

    def never(*args, **options):
        raise AssertionError

    monkeypatch.setattr(_toy_loop, "iterate_chunks", never)
    assert run(file=file, number=1500).signal.size == 1500  # no toy is made again
    assert run(file=file).cls == counted.cls  # nor lost from the file
    assert list(tmp_path.iterdir()) == [file]


def test_files_of_other_runs_are_refused(run, tmp_path):
    file = tmp_path / "toys.npz"
    run(number=500, file=file)
    for other in ({"mu": 2.0}, {"statistic": "q0"}, {"key": jax.random.key(0)}):
        with pytest.raises(InputError, match="of another model, data"):
            run(number=500, file=file, **other)
    file.write_bytes(b"no zip")
    with pytest.raises(InputError, match="no file of toys"):
        run(number=500, file=file)
    np.save(tmp_path / "plain.npy", np.ones(3))
    with pytest.raises(InputError, match="no file of toys"):
        run(number=500, file=tmp_path / "plain.npy")


def test_seeds_combine(run, counted):
    other = run(number=1000, key=jax.random.key(12))
    both = combine_toys(counted, other)
    assert both.signal.size == both.background_status.size == 5000
    assert both.clsb == pytest.approx((4000 * counted.clsb + 1000 * other.clsb) / 5000)
    assert both.cls_error < counted.cls_error
    with pytest.raises(InputError, match="count twice"):
        combine_toys(both, other)
    with pytest.raises(InputError, match="cannot be combined"):
        combine_toys(counted, run(observed=3.0, number=1000))
    with pytest.raises(InputError, match="no toys"):
        combine_toys()


def test_failing_toys_are_counted(counted):
    status = counted.signal_status.copy()
    status[:40] = 1
    broken = eqx.tree_at(lambda r: r.signal_status, counted, status)
    assert not broken.ok
    assert broken.failed == (40, 0)
    assert "40 of 4000 toys with signal and 0 of 4000 without failed" in broken.message
    assert broken.clsb == np.mean(counted.signal[40:] >= counted.observed - 1e-6)
    assert broken.clsb_error > np.hypot(counted.clsb_error, 0.0099)


def test_discovery_and_no_data(run):
    found = run(observed=7.0, statistic="q0")
    exact = stats.poisson.sf(6, 3.0)
    assert found.p_value == found.clb
    assert abs(found.p_value - exact) < 4 * np.sqrt(exact / 4000)
    median = stats.poisson.sf(6, 3.0)  # the median count with signal is 7
    assert abs(found.expected_p_value[2] - median) < 4 * np.sqrt(median / 4000)
    blind = run(observed=None, number=1000)
    assert blind.observed is None
    assert np.isnan(blind.cls)
    assert 0 < blind.expected[2] < 0.5


@pytest.fixture(scope="module")
def wide(two_bins):
    model = two_bins([100.0, 200.0], [4000.0, 3000.0], [0.0, 0.0])
    return eqx.tree_at(lambda m: m.lower, model, model.lower.at[model.poi_index].set(-5.0))


@pytest.mark.parametrize("statistic", ["qmu", "tmu_tilde"])
def test_gaussian_limit(wide, statistic):
    """Many events: the statistics follow their asymptotic distributions."""
    data = wide.data([4000.0, 3100.0])
    found = toys(wide, data, mu=0.8, number=4000, key=SEED, statistic=statistic, devices=ONE)
    sigma = float(1 / np.sqrt(np.sum(np.array([100.0, 200.0]) ** 2 / np.array([4080.0, 3160.0]))))
    if statistic == "qmu":
        assert abs(np.mean(found.signal == 0) - 0.5) < 4 * 0.5 / np.sqrt(4000)
        exact = stats.norm.sf(np.sqrt(found.observed))
    else:
        exact = float(tmu_tilde_p_value(found.observed, (0.8 / sigma) ** 2))
    assert abs(found.p_value - exact) < 4 * found.p_value_error + 0.005
    assert found.signal_best.std() == pytest.approx(sigma, rel=0.08 if statistic == "qmu" else 0.2)
    assert np.unique(found.signal_best.round(12)).size > 3600  # no toy is drawn twice


@pytest.mark.parametrize("statistic", ["qtilde", "qmu"])
def test_only_the_statistic_with_a_tilde_bounds_the_best_fit(wide, statistic):
    """A deficit: the tested value is compared with zero, or with the negative best fit."""
    n = np.array([3900.0, 2700.0])
    found = toys(wide, wide.data(n), mu=0.8, number=500, key=SEED, statistic=statistic, devices=ONE)

    def deviance(mu):
        rate = mu * np.array([100.0, 200.0]) + np.array([4000.0, 3000.0])
        return 2 * np.sum(rate - n + n * np.log(n / rate))

    best = optimize.minimize_scalar(deviance, bounds=(-5, 0), method="bounded").x
    assert best < -1
    exact = deviance(0.8) - deviance(0.0 if statistic == "qtilde" else best)
    assert float(found.observed) == pytest.approx(exact, rel=1e-6)
    negative = np.mean(found.background_best < 0)
    assert negative == 0 if statistic == "qtilde" else abs(negative - 0.5) < 4 * 0.5 / 500**0.5


def test_same_as_pyhf(two_bins, exact_pyhf):
    """The example of pyhf's documentation: both calculators within their statistical errors."""
    pyhf = exact_pyhf
    pyhf.set_backend("numpy", pyhf.optimize.scipy_optimizer())
    numbers = [12.0, 11.0], [50.0, 52.0], [3.0, 7.0]
    model = two_bins(*numbers)
    ours = toys(model, model.data([51.0, 48.0]), mu=1.0, number=4000, key=SEED, devices=ONE)
    peer = pyhf.simplemodels.uncorrelated_background(*numbers)
    data = [51.0, 48.0, *peer.config.auxdata]
    np.random.seed(7)  # noqa: NPY002
    calculator = pyhf.infer.calculators.ToyCalculator(data, peer, ntoys=100, track_progress=False)
    signal, background = calculator.distributions(1.0)
    observed = calculator.teststatistic(1.0)
    assert ours.observed == pytest.approx(float(observed), rel=1e-4)
    np.testing.assert_allclose(
        ours.params[:, [model.index("unc[0]"), model.index("unc[1]")]][0],
        np.asarray(pyhf.infer.mle.fixed_poi_fit(0.0, data, peer))[1:],
        rtol=1e-3,
    )
    for own, other in ((ours.signal, signal), (ours.background, background)):
        assert stats.ks_2samp(own, np.asarray(other.samples)).pvalue > 1e-3
    clsb, clb, _ = calculator.pvalues(observed, signal, background)
    assert abs(ours.clsb - float(clsb)) < 4 * np.sqrt(ours.clsb / 100)
    assert abs(ours.clb - float(clb)) < 4 * np.sqrt(0.25 / 100)


@pytest.mark.slow
def test_slow_fits_are_as_good_as_fast_ones(run, counted, monkeypatch):
    """Fits that stop early go on later: here all of them, after every third step."""
    monkeypatch.setattr(_toy_loop, "_STEPS", 3)
    monkeypatch.setattr(_toy_loop, "_TRIES", 100)
    jax.clear_caches()
    slow = run(number=1000)
    jax.clear_caches()
    assert slow.ok
    np.testing.assert_allclose(slow.signal, counted.signal[:1000], atol=1e-7)
    np.testing.assert_allclose(slow.background_best, counted.background_best[:1000], atol=1e-4)


def test_bad_questions(counting_model, run):
    with pytest.raises(ConfigError, match="no statistic 'q'"):
        run(statistic="q")
    with pytest.raises(ModelError, match="may be negative"):
        run(statistic="tmu")
    with pytest.raises(ConfigError, match="number = 0"):
        run(number=0)
    with pytest.raises(ConfigError, match="mu = -1"):
        run(mu=-1.0)
    with pytest.raises(ModelError, match="data have shape"):
        toys(counting_model, np.ones(3), number=1, key=SEED)


def test_ranks():
    assert np.isnan(_rank.tail(np.array([]), 1.0))
    assert np.isnan(_rank.tail(np.ones(3), np.nan))
    np.testing.assert_array_equal(_rank.tail(np.array([0.0, 0.0, 1.0, 2.0]), np.arange(4.0)),
                                  [1.0, 0.5, 0.25, 0.0])  # fmt: skip
    value, error = _rank.cls_of(np.ones(10), np.zeros(10), 0.5)
    assert np.isnan(value)
    assert np.isnan(error)


@pytest.mark.slow
def test_models_of_few_events_against_pyhf():
    """A reduced benchmarks/toys_agreement.py: the same toys ranked alike, the shares agree."""
    path = Path(__file__).parents[2] / "benchmarks" / "toys_agreement.py"
    spec = importlib.util.spec_from_file_location("toys_agreement", path)
    benchmark = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = benchmark  # its classes look themselves up there
    spec.loader.exec_module(benchmark)
    try:
        for name in benchmark.MODELS:
            for row in benchmark.compare(name, number=10_000, pyhf_number=500, seed=7):
                assert (row.other_side, row.failed) == (0, 0), name
                assert abs(row.difference) < 3.0, (name, row)
    finally:
        del sys.modules[spec.name]
        pyhf.set_backend("numpy")
