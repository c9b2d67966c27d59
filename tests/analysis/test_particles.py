"""`difana run` on jagged branches: particles with a mask from the file to the exported network."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import jax
import numpy as np
import pytest
import uproot
import yaml

from difana._errors import ConfigError, InputError
from difana.analysis import (
    AnalysisResult,
    apply,
    check,
    observable_of,
    observe,
    read_config,
    run,
)
from difana.analysis.changes import changed
from difana.analysis.load import load
from difana.analysis.network import network_for
from difana.analysis.stages import stages_of
from difana.data import Inputs, read_events
from difana.nn import load_network, load_weights
from difana.train.history import JSONLLogger

CONFIG: dict[str, Any] = {
    "General": {"Tree": "events", "Seed": 3},
    "Features": {"met": "met"},
    "Particles": {
        "Maximum": 4,
        "OrderBy": "pt",
        "Channels": {"log_pt": "log(jet_pt)", "eta": "jet_eta", "pt": "jet_pt / 100"},
    },
    "Regions": [
        {"Name": "SR", "Filter": "num(jet_pt) > 1"},
        {"Name": "CR", "Variable": "met", "Binning": [0, 50, 500], "Flow": "fold"},
    ],
    "Samples": [
        {"Name": "signal", "Files": "signal.root", "Weight": "weight", "Signal": True},
        {"Name": "background", "Files": "background.root", "Weight": "weight"},
    ],
    "Systematics": [
        {
            "Name": "jes",
            "Type": "Transform",
            "Regions": ["SR"],
            "Transform": {
                "log_pt": "log_pt + log(1 + 0.05 * alpha)",
                "pt": "pt * (1 + 0.05 * alpha)",
                "met": "met * (1 + 0.02 * alpha)",
            },
        },
        {
            "Name": "tune",
            "Type": "Files",
            "Samples": "background",
            "Regions": "SR",
            "Symmetrize": True,
            "Up": {"Files": "tune.root"},
        },
    ],
    "Network": {"Hidden": [8], "Latent": 4},
    "Training": {"Bins": 3, "Start": "cross-entropy",
                 "PretrainSteps": 40, "PretrainBatch": 200, "PretrainRate": 0.01,
                 "Steps": 4, "Batch": 200, "ValidateEvery": 2, "MinimumEvents": 3},
}  # fmt: skip


def write_root(path: Path, seed: int, *, signal: bool, bad: float | None = None) -> None:
    """Write jets as jagged branches, in no order; those of signal lie further forward."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 8, 800)
    pt = 30 + rng.exponential(40, counts.sum())
    eta = rng.normal(0, 2.4 if signal else 1.0, counts.sum())
    if bad is not None:
        pt[-1] = bad
    arrays = {name: ak.unflatten(flat, counts) for name, flat in (("jet_pt", pt), ("jet_eta", eta))}
    weight = np.full(800, (30.0 if signal else 600.0) / 800)
    with uproot.recreate(path) as file:
        file["events"] = {**arrays, "met": rng.exponential(60, 800), "weight": weight}


def write(folder: Path, edit: Callable[[dict[str, Any]], None] | None = None) -> Path:
    config = copy.deepcopy(CONFIG)
    if edit is not None:
        edit(config)
    path = folder / "analysis.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("jets")
    write_root(path / "signal.root", 1, signal=True)
    write_root(path / "background.root", 2, signal=False)
    write_root(path / "tune.root", 3, signal=False)
    write(path)
    return path


@pytest.fixture(scope="module")
def finished(folder: Path) -> AnalysisResult:
    return run(folder / "analysis.yaml", folder / "out", progress=False)


def test_jagged_branches_become_padded_particles(folder: Path) -> None:
    loaded = load(read_config(folder / "analysis.yaml"))
    events = loaded.train[0].nominal
    assert events.particle_columns == ("log_pt", "eta", "pt")
    assert events.particles is not None
    pt = np.asarray(events.particles[..., 2])
    mask = np.asarray(events.mask)
    assert pt.shape[1] == 4
    assert mask.sum(axis=1).min() == 2  # the Filter asks for two jets
    # sorted, the leading four kept; nothing in the padding
    assert np.all(np.diff(pt, axis=1) <= 0)
    assert np.all((pt > 0) == mask)
    whole = read_events(
        str(folder / "signal.root"), columns=[], particles=["jet_pt"], selection="num(jet_pt) > 1"
    )
    leading = np.sort(np.asarray(whole.particles[..., 0]), axis=1)[:, ::-1][:, :4] / 100
    kept = np.concatenate([np.asarray(p[0].nominal.particles[..., 2])
                           for p in (loaded.train, loaded.validation, loaded.test)])  # fmt: skip
    rows = [np.sort(np.round(x, 4).sum(axis=1)) for x in (leading, kept)]
    np.testing.assert_allclose(*rows, rtol=1e-4)
    (note,) = (note for note in loaded.notes if "smallest 'pt'" in note and "signal" in note)
    assert "have more than 4 particles (up to 7)" in note
    # the constituents move, the mirrored side is twice nominal minus up
    jes, tune = loaded.train[1].variations
    up = jes.variants(loaded.train[1].nominal)[0].inputs
    nominal = loaded.train[1].nominal.inputs
    np.testing.assert_allclose(up.particles[..., 2], 1.05 * nominal.particles[..., 2], rtol=1e-6)
    np.testing.assert_allclose(up.features, 1.02 * nominal.features, rtol=1e-6)
    down = tune.tables()["down"]
    assert len(down) == len(loaded.train[1].nominal) + len(tune.tables()["up"])
    assert down.particles is not None


@pytest.mark.filterwarnings("ignore:.* have more than . particles")
def test_run_and_export(folder: Path, finished: AnalysisResult) -> None:
    summary = finished.summary
    assert summary["status"] == "ok"
    limits = {entry["name"]: entry["limit"] for entry in summary["comparison"]}
    # the jets tell: one bin of all events cannot
    assert limits["difana"] < 0.85 * limits["one bin"]
    exported = load_network(finished.out / "network.stablehlo")
    assert exported.channels == ("log_pt", "eta", "pt")
    assert exported.max_particles == 4
    # the exported network on a new file, against the network of the saved weights
    config = read_config(folder / "analysis.yaml")
    particles = {"particles": dict(config.particles.channels), "leading": "pt"}  # type: ignore
    events = read_events(str(folder / "tune.root"), columns=["met"], max_particles=4, **particles)
    start = network_for(config.network, load(config).train)(jax.random.key(0))
    net = load_weights(finished.out / "weights.eqx", start)
    scores = exported(events.inputs)
    np.testing.assert_allclose(scores, net(events.inputs), rtol=1e-5, atol=1e-6)
    narrow = read_events(str(folder / "tune.root"), columns=["met"], max_particles=2, **particles)
    wide = Inputs(narrow.inputs.features, *(np.pad(x, ((0, 0), (0, 2), (0, 0))[: x.ndim])
                  for x in (narrow.inputs.particles, narrow.inputs.mask)))  # fmt: skip
    np.testing.assert_allclose(exported(narrow.inputs), exported(wide), rtol=1e-5)
    with pytest.raises(InputError, match=r"takes up to 4 particles .* give Events.inputs"):
        exported(events.features)


def test_channels_are_checked_before_the_training(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "in", ignore=shutil.ignore_patterns("out"))
    assert "no problem" in str(check(tmp_path / "in" / "analysis.yaml", progress=False))

    def spoil(config: dict[str, Any]) -> None:
        config["Particles"]["Channels"].update(eta="jet_etaa", pt="met")

    path = write(tmp_path / "in", spoil)
    with pytest.raises(ConfigError) as caught:
        check(path, progress=False)
    lines = path.read_text().splitlines()
    for text, word in (("jet_etaa", "Did you mean 'jet_eta'"), ("pt: met", "one list of numbers")):
        (line,) = [i for i, own in enumerate(lines, 1) if own.strip().endswith(text)]
        assert f":{line}: " in str(caught.value)
        assert word in str(caught.value)


def test_a_result_applied_to_its_file(
    folder: Path, finished: AnalysisResult, tmp_path: Path
) -> None:
    """The chunks of a file become the same padded particles, scores and parts."""
    test = observe(observable_of(finished.out).net, load(finished.config).test)
    for i, sample in enumerate(("signal", "background")):
        target = tmp_path / f"{sample}.parquet"
        apply(finished.out, folder / f"{sample}.root", target, sample=sample, chunk_size=77)
        found = read_events(target, columns=["difana_score"], selection="difana_part == 2")
        np.testing.assert_array_equal(found["difana_score"], test[i].nominal.x.astype(np.float32))


def test_resumed_equals_uninterrupted(
    folder: Path, finished: AnalysisResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder, tmp_path / "in", ignore=shutil.ignore_patterns("out"))
    log = JSONLLogger.log

    def interrupt(self: JSONLLogger, record: Any) -> None:
        log(self, record)
        if record["stage"] == "expected_limit" and record["step"] == 2:
            raise KeyboardInterrupt

    path = tmp_path / "in" / "analysis.yaml"
    with monkeypatch.context() as patch:
        patch.setattr(JSONLLogger, "log", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(path, tmp_path / "out", progress=False)
    run(path, tmp_path / "out", progress=False)
    for name in ("result.json", "weights.eqx", "network.stablehlo"):
        assert (tmp_path / "out" / name).read_bytes() == (finished.out / name).read_bytes(), name
    before = stages_of(config := read_config(path), load(config))
    write_root(tmp_path / "in" / "tune.root", 3, signal=False, bad=77.0)  # one jet differs
    said = changed(before, stages_of(config, load(config)))
    assert said == "systematic 'tune' changed: training on the objective again"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c["Network"].update(Type="mlp"), "Network.Type 'mlp' ignores the Particles"),
        (lambda c: c.pop("Particles"), r"no column 'log_pt' among \['met'\]"),
        (lambda c: c["Particles"].update(OrderBy="pT"), "Particles.OrderBy refers to 'pT'"),
        (lambda c: c["Particles"].pop("Maximum"), "missing key 'Maximum' in Particles"),
        (
            lambda c: c["Particles"]["Channels"].update(met="jet_pt"),
            "the particle channel 'met' has the name of one of Features",
        ),
        (lambda c: (c.pop("Features"), c.pop("Particles")), "missing section 'Features'"),
        (
            lambda c: c["Systematics"][0].update(Regions=["CR"], Transform={"pt": "pt + alpha"}),
            "changes .'pt'., which Variable 'met' of region 'CR' does not use",
        ),
    ],
)
def test_wrong_configurations_are_refused(
    tmp_path: Path, edit: Callable[[dict[str, Any]], None], message: str
) -> None:
    path = write(tmp_path, edit)
    with pytest.raises(ConfigError, match=message):
        read_config(path)


def test_particles_that_are_no_numbers_or_missing_are_named(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "in", ignore=shutil.ignore_patterns("out"))
    path = write(tmp_path / "in")
    write_root(tmp_path / "in" / "background.root", 2, signal=False, bad=-1.0)
    with pytest.raises(InputError, match=r"column 'log_pt' .* is not finite .*background"):
        load(read_config(path))
    with uproot.recreate(tmp_path / "in" / "background.root") as file:
        file["events"] = {
            "jet_pt": ak.Array([[40.0, 50.0], [60.0, 70.0]]),
            "met": np.array([20.0, 100.0]),
            "weight": np.ones(2),
        }
    with pytest.raises(InputError, match=r"(?s)sample 'background'.*jet_eta"):
        load(read_config(path))
