"""Small runs of the INFERNO example: the densities, the published rows, and training that pays."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana.data import Events, Sample

EXAMPLE = "inferno"

pytestmark = pytest.mark.paper


@pytest.mark.slow
def test_the_published_rows_from_the_exact_density(example, run):
    problem, analytic = example.problem, example.analytic
    x, weights = analytic.asimov(jax.random.key(1), events=30_000)
    assert analytic.likelihood_width("B2", x, weights) == pytest.approx(15.65, abs=0.25)
    test = problem.generate(jax.random.key(2), events=40_000)
    edges = example.run.logit_edges(10)
    yields = problem.templates([problem.Binned(analytic.optimal_classifier, edges)], test)
    assert yields[0, 0].sum() == pytest.approx(50, rel=1e-5)
    assert yields[0, 1:].sum(axis=1) == pytest.approx(1000 * np.ones(5), rel=1e-5)
    # our own Monte Carlo of 1e6 events: 14.99 without nuisances
    assert problem.uncertainty(yields[0], "B0") == pytest.approx(14.99, abs=0.15)


@pytest.mark.slow
def test_training_on_the_uncertainty_beats_the_classifier(example):
    run = example.run
    found = run.run(("B2", "classifier"), **run.REDUCED)
    rows = found["rows"]
    assert max(rows["B2"]["B2"]) < 19.5
    assert min(rows["classifier"]["B2"]) > 21
    assert min(rows["B2"]["B0"]) > 14.7  # the exact likelihood


@pytest.mark.slow
def test_bins_of_the_score_come_near_the_exact_likelihood(example):
    run = example.run
    found = run.run(("B2-score",), **run.REDUCED)
    rows = found["rows"]
    assert max(rows["B2-score, before"]["B2"]) < 16.6
    assert max(rows["B2-score"]["B2"]) < 16.6
    assert min(rows["B2-score"]["B2"]) > 15.4


def test_exact_ratios_give_the_efficient_score(example):
    """Classifiers that know the densities: their bins are those of the exact derivatives."""
    problem, analytic, score = example.problem, example.analytic, example.score

    def classifiers(x):
        def moved(r, rate):
            return analytic.log_background(x, r, rate)

        r, rate = problem.STEPS["r"] / 20, problem.STEPS["lambda"] / 20  # small: no curvature
        return jnp.stack(
            [
                analytic.log_signal(x) - moved(0.0, 3.0),
                20 * (moved(r, 3.0) - moved(-r, 3.0)),
                # a unit up is a rate of 3.5
                20 * (moved(0.0, 3.0 + rate) - moved(0.0, 3.0 - rate)),
            ],
            axis=1,
        )

    x, weights = analytic.asimov(jax.random.key(3), events=3000)
    samples = tuple(
        Sample(Events(part, own), name="part")
        for part, own in zip(jnp.split(x, 2), jnp.split(weights, 2), strict=True)
    )
    for benchmark in ("B0", "B2", "B4"):
        exact = analytic.efficient_score(benchmark, x, weights)(x)[:, 0]
        names = score.shapes(benchmark)
        outputs = 1 + len(names)
        bins = score.score_bins(
            lambda y, n=outputs: classifiers(y)[:, :n], samples, benchmark, bins=10
        )
        found = score.scores(bins.net, x) @ bins.mixture
        assert np.corrcoef(exact, found)[0, 1] == pytest.approx(1, abs=1e-5)
        assert np.bincount(np.argmax(bins(x), axis=1), minlength=10).min() > 0


def test_no_row_undercuts_the_exact_densities_or_gains_from_nuisances(example):
    """Without nuisances the exact information bounds all rows; each more nuisance widens."""
    analytic, rows = example.analytic, example.expected["rows"]
    x, weights = analytic.asimov(jax.random.key(4), events=50_000)
    signal, background = (
        np.exp(np.asarray(log, float))
        for log in (analytic.log_signal(x), analytic.log_background(x, 0.0, 3.0))
    )
    parts = signal / (50 * signal + 1000 * background)
    terms = np.asarray(weights, float) * parts**2
    bound = 1 / np.sqrt(terms.sum())
    assert float(np.sum(weights)) == pytest.approx(1050, rel=1e-4)
    for name, found in rows.items():
        for benchmark, numbers in found.items():
            assert np.min(numbers) > 0.99 * bound, (name, benchmark)  # 200,000 test events
        for few, many in (("B0", "B1"), ("B1", "B2"), ("B3", "B2"), ("B3", "B4")):
            if few in found and many in found:
                assert np.all(np.array(found[few]) <= np.array(found[many]) + 1e-3), (name, few)


def test_the_table_of_the_read_me_holds_the_medians(example):
    """Medians of the seeds of the record, row by row."""
    rows = example.expected["rows"]
    lines = (example.folder / "README.md").read_text(encoding="utf-8").splitlines()
    checked = 0
    for line in lines:
        head, *cells = (cell.strip().strip("*") for cell in line.strip("|").split("|"))
        name = head.strip("* ").removesuffix(", difana").replace(" from the score", "-score")
        if not head.endswith(", difana") or name not in rows or len(cells) != 5:
            continue
        for benchmark, cell in zip(("B0", "B1", "B2", "B3", "B4"), cells, strict=True):
            median = np.median(rows[name][benchmark])
            assert float(cell.split()[0]) == pytest.approx(median, abs=0.00501), (name, benchmark)
            checked += 1
    assert checked == 50  # five benchmarks, trained for each, from two starts


def test_expected_values(example):
    rows = example.expected["rows"]
    medians = {
        name: {key: float(np.median(numbers)) for key, numbers in values.items()}
        for name, values in rows.items()
    }
    targets = {"B0": 15.5, "B1": 16.8, "B2": 16.9, "B3": 16.9, "B4": 18.6}
    for benchmark, target in targets.items():
        assert len(rows[benchmark][benchmark]) >= 10
        assert medians[benchmark][benchmark] <= target
        assert medians["B2"][benchmark] <= target  # one training serves all
        assert medians["classifier"][benchmark] >= medians["B2"][benchmark] - 0.5
        # the exact densities know no better classifier
        optimal = medians["optimal classifier"][benchmark]
        assert medians["classifier"][benchmark] == pytest.approx(optimal, rel=0.02)
    # the goal: halfway from the published 16.95 to the exact likelihood
    assert medians["B2-score"]["B2"] <= 16.3
    for benchmark in targets:
        found = rows[f"{benchmark}-score"][benchmark]
        assert len(found) >= 10
        assert min(found) > medians["analytic likelihood"][benchmark]
        assert np.median(found) < 1.02 * medians["analytic likelihood"][benchmark]
