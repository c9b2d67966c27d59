"""Cross-fitting: every event in the templates, through a network that has not seen it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from difana._errors import ConfigError, InputError
from difana.analysis import (
    AnalysisResult,
    Loaded,
    Optimised,
    TrainingOptions,
    apply,
    evaluate_from,
    load,
    observable_of,
    optimise,
    read_config,
    run,
)
from difana.analysis.folds import Bins, evaluate_folds, numbered, train_folds
from difana.analysis.observable_of import network_of
from difana.analysis.templates import bin_of, network_scores
from difana.data import fold_of, read_events
from tests.analysis.conftest import fill, table, write_root, write_yaml

Config = dict[str, Any]


def in_folds(config: Config, folds: int = 2) -> None:
    """Ask for folds; the number of the event is a feature, so that the test can follow it."""
    config["General"]["Split"] = {"Folds": folds}
    config["Features"] = ["mass", "pt", "eta", "event"]


def with_data(config: Config) -> None:
    in_folds(config)
    config["Regions"].append({"Name": "CR", "Variable": "pt", "Binning": [0, 40, 900]})
    config["Samples"].append({"Name": "data", "Files": "data.root", "Data": True})


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory) -> AnalysisResult:
    """A run in two folds, with data."""
    folder = fill(tmp_path_factory.mktemp("folds"))
    data = table("background", events=700)
    # numbers as those of the simulation: a feature beyond would put all of them into one bin
    write_root(folder / "ntuples" / "data.root", data)
    return run(write_yaml(folder / "analysis.yaml", with_data), folder / "out", progress=False)


@pytest.fixture(scope="module")
def inputs(crossed: AnalysisResult) -> Loaded:
    return load(crossed.config)


def numbers(events: Any) -> set[int]:
    return set(np.asarray(events.features)[:, 3].astype(int).tolist())


@pytest.mark.parametrize("folds", [2, 3])
def test_no_event_is_in_the_test_and_in_the_training_of_a_fold(
    write_config: Callable[..., Path], folds: int
) -> None:
    loaded = load(read_config(write_config(lambda config: in_folds(config, folds))))
    assert len(loaded.folds) == folds
    for i in range(2):
        everything = numbers(loaded.test[i].nominal)
        tested: list[int] = []
        for fold in loaded.folds:
            train, held_out, test = (
                numbers(part[i].nominal) for part in (fold.train, fold.validation, fold.test)
            )
            assert not train & held_out
            assert train | held_out == everything - test
            assert len(train) == pytest.approx(2 / 3 * len(train | held_out), rel=0.15)
            tested += test
        assert sorted(tested) == sorted(everything)


def test_a_fold_is_scaled_for_the_training_and_keeps_its_weights_for_the_test(
    inputs: Loaded,
) -> None:
    for i, sample in enumerate(inputs.test):
        total = float(sample.nominal.total())
        for fold in inputs.folds:
            assert float(fold.train[i].nominal.total()) == pytest.approx(total, rel=1e-5)
            assert float(fold.validation[i].nominal.total()) == pytest.approx(total, rel=1e-5)
        tested = sum(float(fold.test[i].nominal.total()) for fold in inputs.folds)
        assert tested == pytest.approx(total, rel=1e-5)


def test_templates_add_up_to_the_full_yield_with_variations_and_errors(
    crossed: AnalysisResult, inputs: Loaded
) -> None:
    for template, sample in zip(crossed.channels[0].templates, inputs.test, strict=True):
        weights = np.asarray(sample.nominal.weights, float)
        assert np.sum(template.values) == pytest.approx(weights.sum(), rel=1e-6)
        kinds = {(m.kind, m.name): m for m in template.modifiers}
        error: Any = kinds["staterror", "staterror_SR"]
        assert np.sum(np.square(error.uncertainty)) == pytest.approx((weights**2).sum(), rel=1e-6)
        for variation in sample.variations:
            if variation.name == "slope":
                slope: Any = kinds["histosys", "slope"]
                up = float(np.sum(np.asarray(variation.up, float)))
                assert np.sum(slope.hi) == pytest.approx(up, rel=1e-6)


def test_each_fold_fills_its_own_bins_through_its_own_network(
    crossed: AnalysisResult, inputs: Loaded
) -> None:
    rows = crossed.summary["training"]["folds"]
    nets = [
        network_of(crossed.config, crossed.out / f"fold_{f + 1}" / "weights.eqx", kind["network"])
        for f, kind in enumerate(
            next(c for c in row["candidates"] if c["name"] == row["chosen"])["regions"]["SR"]
            for row in rows
        )
    ]
    assert len({row["chosen"] for row in rows}) == 1
    assert rows[0]["edges"] != rows[1]["edges"]
    left = np.asarray(crossed.summary["edges"]["SR"], int)  # merged bins are left out

    def counted(net: Any, row: Config, events: Any, weights: Any) -> np.ndarray:
        x = network_scores(net, events.inputs)
        index = bin_of(x, np.asarray(row["edges"]["SR"], x.dtype)[left])
        return np.bincount(index, weights, len(left) - 1)

    for i, template in enumerate(crossed.channels[0].templates):
        wanted = sum(
            counted(net, row, own.test[i].nominal, np.asarray(own.test[i].nominal.weights, float))
            for net, row, own in zip(nets, rows, inputs.folds, strict=True)
        )
        np.testing.assert_allclose(template.values, wanted, rtol=1e-12)
    observed = inputs.observed
    assert observed is not None
    fold = fold_of(observed, 2, seed=3, identifiers=numbers_of(observed))
    wanted = sum(
        counted(net, row, own.observed, np.ones(np.sum(fold == f)))
        for f, (net, row, own) in enumerate(zip(nets, rows, inputs.folds, strict=True))
    )
    np.testing.assert_array_equal(crossed.regions[0].data, wanted)
    assert (wanted > 0).all()
    assert wanted.sum() == len(observed)


def numbers_of(events: Any) -> np.ndarray:
    return np.asarray(events.features)[:, 3].astype(int)


def test_the_result_compares_all_observables_in_the_same_folds(crossed: AnalysisResult) -> None:
    summary = json.loads((crossed.out / "result.json").read_text())
    assert summary == crossed.summary
    rows = summary["comparison"]
    assert [row["name"] for row in rows][:4] == [
        "one bin",
        "cross-entropy, uniform bins",
        "cross-entropy, quantile bins",
        "cross-entropy, equal-signal bins",
    ]
    assert (len(rows), rows[-1]["name"]) == (7, "difana")
    for row in rows:
        assert row["status"] == "ok"
        assert 0 < row["error"] < row["limit"]
        assert 0 < row["retained"] < 1.5
    assert any(note.startswith("cross-fitting in 2 folds") for note in summary["notes"])
    events = summary["samples"]["SR"]["background"]["events"]
    assert (set(events), sum(events.values())) == ({"fold 1", "fold 2"}, 800)
    found: dict[str, list[tuple[float, float]]] = {}
    for own in summary["training"]["folds"]:
        for c in own["candidates"]:
            found.setdefault(c["name"], []).append((c["held_out"], c["held_out_error"]))
    mean = {name: sum(m for m, _ in both) / 2 for name, both in found.items()}
    error = {name: np.hypot(*(e for _, e in both)) / 2 for name, both in found.items()}
    start = "efficient score, best bins"
    better = {n: m for n, m in mean.items() if m < mean[start] - error[n]}
    assert summary["training"]["chosen"] == min(better, key=lambda n: better[n], default=start)
    assert {record["fold"] for record in crossed.history} == {1, 2}


def test_a_run_that_is_resumed_ends_with_the_same_bytes(
    crossed: AnalysisResult, tmp_path: Path
) -> None:
    wanted = (crossed.out / "result.json").read_bytes()
    out = tmp_path / "out"
    shutil.copytree(crossed.out, out)
    (out / "result.json").unlink()
    shutil.rmtree(out / "checkpoints" / "fold_2")  # as if it had been killed in the first fold
    run(crossed.config.path, out, progress=False)
    assert (out / "result.json").read_bytes() == wanted


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_observable_in_units_of_bins_keeps_the_bins_of_all_events(dtype: Any) -> None:
    rng = np.random.default_rng(1)
    edges = np.sort(rng.normal(size=7).astype(dtype))
    near = [np.nextafter(edges, dtype(side)) for side in (-np.inf, np.inf)]
    x = np.concatenate([edges, *near, rng.normal(0, 3, 500).astype(dtype)])
    found = numbered(x, edges)
    np.testing.assert_array_equal(bin_of(found, np.arange(7.0)), bin_of(x, edges))
    assert (np.diff(found[np.argsort(x)]) >= 0).all()


def test_bins_of_a_file_with_scores_are_those_of_the_run(
    crossed: AnalysisResult, tmp_path: Path
) -> None:
    for number, sample in enumerate(("signal", "background")):
        source = crossed.config.path.parent / "ntuples" / f"{sample}.root"
        target = tmp_path / f"{sample}.h5"
        apply(crossed.out, source, target, sample=sample, chunk_size=300, everywhere=True)
        names = ("bin_SR", "fold", "weight")
        table = read_events(target, columns=[f"difana_{name}" for name in names], dtype=float)
        bins, fold, weight = np.asarray(table.features).T
        inside = bins >= 0
        assert set(fold[inside]) == {0, 1}
        template = crossed.channels[0].templates[number]
        found = np.bincount(bins[inside].astype(int), weight[inside], len(template.values))
        np.testing.assert_allclose(found, template.values, rtol=1e-12)


def test_networks_of_all_folds_evaluate_other_analyses(
    crossed: AnalysisResult, tmp_path: Path
) -> None:
    found = evaluate_from(crossed.out, crossed.config.path, tmp_path / "same", progress=False)
    assert found.comparison[:-1] == crossed.comparison[:-1]
    assert found.trained.limits == crossed.trained.limits
    assert found.summary["training"] == crossed.summary["training"]
    parts = [0.5, 0.25, 0.25]
    path = write_yaml(
        crossed.config.path.parent / "one.yaml", lambda c: c["General"].update(Split=parts)
    )
    with pytest.raises(ConfigError, match=r"Split is 0.5, 0.25, 0.25, of the training 2 folds"):
        evaluate_from(crossed.out, path, tmp_path / "other", progress=False)
    with pytest.raises(InputError, match=r"has 2 folds"):
        observable_of(crossed.out)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"Folds": 1}, "must be at least 2, got 1"),
        ({"Folds": 21}, "must be at most 20"),
        ({"Fold": 2}, "Did you mean 'Folds'"),
        ({}, "missing key 'Folds'"),
        (2, "or {Folds: k}"),
    ],
)
def test_wrong_folds_are_refused(write_config: Callable[..., Path], value: Any, said: str) -> None:
    path = write_config(lambda config: config["General"].update(Split=value))
    with pytest.raises(ConfigError) as error:
        read_config(path)
    assert said in str(error.value)


def test_too_few_events_for_the_folds_name_fold_and_remedy(
    write_config: Callable[..., Path], write_events: Callable[..., Any]
) -> None:
    write_events("signal", "signal", events=4)
    path = write_config(lambda config: in_folds(config, 20))
    with pytest.raises(InputError, match=r"'signal'.*fold.*has 0 events.*more events"):
        load(read_config(path))


def test_a_signal_that_looks_like_background_gains_nothing(
    write_config: Callable[..., Path], write_events: Callable[..., Any]
) -> None:
    """Through the networks of the wrong folds, which know the events, it would."""
    rng = np.random.default_rng(5)

    def same(columns: Config) -> Config:
        names = ("mass", "pt", "eta")
        noise = {name: 100 + rng.normal(size=400).astype(np.float32) for name in names}
        return columns | noise

    for name in ("signal", "background"):
        write_events(name, name, same, events=400)

    def edit(config: Config) -> None:
        config["General"]["Split"] = {"Folds": 2}
        config["Systematics"] = []
        config["Network"] = {"Hidden": [64, 64]}

    config = read_config(write_config(edit))
    training = TrainingOptions(
        start="cross-entropy", bins=4, steps=0, pretrain_steps=300, pretrain_batch=130,
        pretrain_rate=1e-2, minimum_events=3,
    )  # fmt: skip
    loaded = load(config)

    def fit(own: Loaded, fold: int, bins: Bins) -> Optimised:
        # validated on events of the training: as much as can be learned by heart
        return optimise(
            own.train, own.train, network=config.network, training=training,
            key=jax.random.key(fold), progress_bar=False,
        )  # fmt: skip

    found = train_folds(loaded, [4], fit)
    right = evaluate_folds(config, loaded, found).comparison
    one, own = right[0], right[-1]
    assert own.median > one.median - 2 * np.hypot(one.error, own.error)
    swapped = dataclasses.replace(loaded, folds=loaded.folds[::-1])
    wrong = evaluate_folds(config, swapped, found).comparison
    assert wrong[-1].median < 0.7 * own.median
