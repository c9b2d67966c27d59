from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner

from difana._errors import ConfigError, InputError
from difana.cli import main
from difana.data import Events, to_hdf5, to_root
from difana.train import Checkpoints
from difana.unfold import (
    bayes,
    fit_truth,
    invert,
    load_dataset,
    read_unfolding,
    response,
    run_unfolding,
    unfolding_problem,
    unfolding_schema,
)

ENTRY = "{Name: z, Gen: z, Reco: z, Edges: [0, 1]}"
EDGES = [-2.0, -0.5, 0.5, 2.0]
CONFIG = """
General: {{Method: {method}, Seed: 3, Fiducial: all z, Luminosity: 10 fb^-1}}
Simulation:
  Files: mc.h5
  PassReco: reco > -90
  GenWeight: weight
  RecoWeight: weight * sf
Data: {{Files: data.root, Tree: events, Filter: x > -90}}
Observables:
  - Name: z
    Gen: gen
    Reco: reco
    Data: x
    Unit: GeV
    Edges: [-2, -0.5, 0.5, 2]
{rest}
"""
SYSTEMATICS = """
Systematics:
  - {Name: efficiency, RecoWeight: weight * sf * 1.1}
"""
JES = "  - {Name: jes, Reco: {z: reco + 0.3}, PassReco: reco > -1.2}\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("unfold")
    rng = np.random.default_rng(0)
    gen = rng.normal(0.2, 0.8, 3000)
    reco = np.where(rng.uniform(size=3000) < 0.8, gen + 0.5 * rng.normal(size=3000), -99.0)
    weights, factors = rng.uniform(0.5, 1.5, 3000), rng.uniform(0.9, 1.1, 3000)
    x = np.append(rng.normal(0, 1.1, 2000), -99.0)
    to_hdf5(
        Events(jnp.asarray(gen)[:, None], jnp.asarray(weights), columns=("gen",)),
        path / "mc.h5", extra={"reco": reco, "sf": factors},
    )  # fmt: skip
    to_root(Events(jnp.asarray(x)[:, None], jnp.ones(2001), columns=("x",)), path / "data.root")
    problem = unfolding_problem(
        gen, reco, x[:-1], pass_reco=reco > -90, gen_weights=weights,
        reco_weights=weights * factors, names=("z",), units=("GeV",),
    )  # fmt: skip
    return path, problem


def configured(folder, method, rest=""):
    path = folder / f"{method}.yaml"
    path.write_text(CONFIG.format(method=method, rest=rest))
    return path


def test_a_configured_unfolding_is_that_of_the_functions(folder, tmp_path):
    path, problem = folder
    config = configured(path, "Bayes", SYSTEMATICS + "Options: {Iterations: 3}")
    result = run_unfolding(config, tmp_path / "out", progress=False)
    binned = response(problem, gen_edges=EDGES, reco_edges=EDGES)
    expected = bayes(binned, iterations=3)
    h = result.histograms["z"]
    np.testing.assert_allclose(h.values, expected.values, rtol=1e-6)
    varied = eqx.tree_at(lambda p: p.reco_weights, problem, 1.1 * problem.reco_weights)
    other = bayes(response(varied, gen_edges=EDGES, reco_edges=EDGES), iterations=3)
    shift = np.asarray(other.values - h.values)
    assert (shift < -0.05 * np.asarray(h.values)).all()  # more efficiency: less truth
    np.testing.assert_allclose(
        h.covariance, expected.covariance + np.outer(shift, shift), rtol=1e-5
    )
    assert result.events is None
    summary = json.loads((tmp_path / "out" / "result.json").read_text())
    entry = summary["histograms"]["z"]
    np.testing.assert_allclose(entry["values"], h.values)
    np.testing.assert_allclose(entry["covariance"], h.covariance)
    assert entry["status"] == "ok"
    assert summary["fiducial"] == "all z"


def test_a_systematic_shifts_observables_and_acceptance(folder, tmp_path):
    path, problem = folder
    rest = """
Systematics:
  - {Name: jes, Reco: {z: reco + 0.2}, PassReco: reco + 0.2 > -0.5}
Options: {Iterations: 3}
"""
    result = run_unfolding(configured(path, "Bayes", rest), tmp_path / "out", progress=False)
    values = np.asarray(problem.reco) + 0.2
    moved = eqx.tree_at(
        lambda p: (p.reco, p.pass_reco), problem,
        (jnp.asarray(values), problem.pass_reco & (values[:, 0] > -0.5)),
    )  # fmt: skip
    nominal, other = (
        bayes(response(p, gen_edges=EDGES, reco_edges=EDGES), iterations=3)
        for p in (problem, moved)
    )
    shift = np.asarray(other.values - nominal.values)
    assert np.abs(shift).max() > 10
    np.testing.assert_allclose(
        result.histograms["z"].covariance, nominal.covariance + np.outer(shift, shift), rtol=1e-4
    )


@pytest.mark.slow
def test_negative_weights_are_made_positive(folder, tmp_path):
    config = configured(folder[0], "Bayes", SYSTEMATICS + "Options: {PositiveWeights: true}")
    text = config.read_text().replace(
        "GenWeight: weight", "GenWeight: weight * (1 - 2 * (sf < 0.91))"
    )
    text = text.replace("weight * sf", "weight * (1 - 2 * (sf < 0.91)) * sf")
    config.write_text(text)
    found = run_unfolding(config, tmp_path, progress=False)
    assert (np.asarray(found.problem.gen_weights) > 0).all()
    config.write_text(text.replace("PositiveWeights: true", "PositiveWeights: false"))
    signed = run_unfolding(config, tmp_path, progress=False)
    assert (np.asarray(signed.problem.gen_weights) < 0).any()
    one, two = found.histograms["z"], signed.histograms["z"]
    np.testing.assert_allclose(one.values, two.values, rtol=0.08)
    shifts = [np.sqrt(np.diag(h.covariance)) for h in (one, two)]
    np.testing.assert_allclose(*shifts, rtol=0.1)


@pytest.mark.parametrize("method", ["Inversion", "Likelihood"])
def test_other_binned_methods_are_those_of_the_functions(folder, tmp_path, method):
    path, problem = folder
    config = configured(path, method, "Options: {Strength: 1.0, Order: 1}")
    h = run_unfolding(config, tmp_path, progress=False).histograms["z"]
    binned = response(problem, gen_edges=EDGES, reco_edges=EDGES)
    if method == "Inversion":
        expected = invert(binned, strength=1.0, order=1)
    else:
        expected = fit_truth(binned, strength=1.0, order=1)[0]
    np.testing.assert_allclose(h.values, expected.values, rtol=1e-6)
    np.testing.assert_allclose(h.covariance, expected.covariance, rtol=1e-5)
    # folded again, what was unfolded has the yield of the data but for the regularisation
    folded = float((binned.matrix @ h.values + binned.fakes).sum())
    measured = float(binned.data.sum())
    assert abs(folded - measured) < np.sqrt(measured)


def test_the_command_writes_histograms_and_report(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("DIFANA_CACHE", "off")
    config = configured(folder[0], "Bayes", "Options: {Iterations: 3}")
    done = CliRunner().invoke(main, ["unfold", str(config), "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "unfolded" in done.output
    names = ["report.html", "result.json", "timing.json"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    assert (tmp_path / "report.html").read_text().count("<img") == 3
    wrong = CliRunner().invoke(main, ["unfold", str(tmp_path / "no.yaml"), "--out", str(tmp_path)])
    assert wrong.exit_code == 2
    assert "cannot read the configuration" in wrong.output


SHORT = "Options: {Iterations: 2, Bootstraps: 2, Epochs: 2, BatchSize: 500}"


@pytest.fixture(scope="module")
def resumable(folder, tmp_path_factory):
    """A configuration of OmniFold with negative weights, and the result of one uncut run."""
    config = configured(folder[0], "OmniFold", SYSTEMATICS + SHORT)
    text = config.read_text().replace("BatchSize: 500", "BatchSize: 500, PositiveWeights: true")
    text = text.replace("GenWeight: weight", "GenWeight: weight * (1 - 2 * (sf < 0.91))")
    config = config.with_name("resumable.yaml")
    config.write_text(text.replace("weight * sf", "weight * (1 - 2 * (sf < 0.91)) * sf"))
    whole = tmp_path_factory.mktemp("whole")
    run_unfolding(config, whole, progress=False)
    return config, whole


def test_an_interrupted_unfolding_continues_where_it_was(resumable, tmp_path, monkeypatch):
    config, whole = resumable
    save, saved = Checkpoints.save, []

    def saving(self, step, *args, **kwargs):
        save(self, step, *args, **kwargs)
        saved.append((self.directory.name, step))
        if len(saved) in (1, 3):
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", saving)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_unfolding(config, tmp_path, progress=False)
        assert not (tmp_path / "result.json").exists()
    run_unfolding(config, tmp_path, progress=False)
    # each half iteration was computed once: no stage ran twice
    assert saved == [("positive", 1), *(("replicas_0", step) for step in (1, 2, 3, 4))]
    for name in ("result.json", "unfolded.parquet"):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes(), name
    other = config.with_name("other.yaml")
    other.write_text(config.read_text().replace("Epochs: 2", "Epochs: 3"))
    with pytest.raises(ConfigError, match=r"epochs was 2, is 3.*resume=False"):
        run_unfolding(other, tmp_path, progress=False)


@pytest.mark.slow
def test_a_killed_unfolding_continues_where_it_was(resumable, tmp_path):
    config, _ = resumable  # in this process, XLA rounds otherwise
    environment = os.environ | {"DIFANA_CACHE": str(tmp_path / "cache"), "XLA_FLAGS": ""}

    def started(out):
        command = [sys.executable, "-m", "difana.cli", "unfold", str(config), "--quiet"]
        command += ["--no-report", "--out", str(tmp_path / out)]
        return subprocess.Popen(command, env=environment)

    assert started("whole").wait() == 3  # too few replicas for a covariance
    kept = tmp_path / "parts" / "checkpoints"
    for waited in ("replicas_0/1", "replicas_0/3"):
        process = started("parts")
        while not (kept / waited).exists() and process.poll() is None:
            time.sleep(0.005)
        process.kill()
        assert process.wait() == -9, "it ended before it could be stopped"
    assert not (tmp_path / "parts" / "result.json").exists()
    assert started("parts").wait() == 3
    for name in ("result.json", "unfolded.parquet"):
        own, other = ((tmp_path / out / name).read_bytes() for out in ("parts", "whole"))
        assert own == other, name


@pytest.mark.slow
@pytest.mark.slow
def test_a_configured_flow_has_bootstraps(folder, tmp_path):
    options = "Options: {Iterations: 1, Bootstraps: 3, Samples: 2, Epochs: 2, BatchSize: 500}"
    config = configured(folder[0], "Flow", options)
    result = run_unfolding(config, tmp_path, progress=False)
    assert result.events.replicas["bootstrap"].shape[0] == 3
    h = result.histograms["z"]
    assert np.isfinite(h.values).all()
    assert (np.asarray(h.errors) > 0).all()


def test_the_command_writes_a_dataset(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("DIFANA_CACHE", "off")
    training = "Epochs: 8, BatchSize: 300, LearningRate: 0.01"
    options = f"Options: {{Iterations: 2, Bootstraps: 5, {training}}}"
    config = configured(folder[0], "OmniFold", SYSTEMATICS + JES + options)
    done = CliRunner().invoke(main, ["unfold", str(config), "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "unfolded" in done.output
    events = load_dataset(tmp_path / "unfolded.parquet")
    assert events.replicas["bootstrap"].shape[0] == 5
    # more efficiency, less truth
    total = float(events.variations["efficiency"].sum() / events.weights.sum())
    assert 0.85 < total < 0.95
    # measured at a higher scale: the truth lies lower
    gen = np.asarray(events.observables[:, 0])
    means = [np.average(gen, weights=np.asarray(w))
             for w in (events.variations["jes"], events.weights)]  # fmt: skip
    assert -0.4 < means[0] - means[1] < -0.05
    texts = dict(events.metadata)
    assert (texts["luminosity"], texts["fiducial"]) == ("10 fb^-1", "all z")
    entry = json.loads((tmp_path / "result.json").read_text())["histograms"]["z"]
    again = events.histogram("z", EDGES)
    np.testing.assert_allclose(again.values, entry["values"], rtol=1e-5)
    np.testing.assert_allclose(again.covariance, entry["covariance"], rtol=1e-4)
    page = (tmp_path / "report.html").read_text()
    assert page.count("<img") == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("General: {Method: Bays}", "Did you mean 'Bayes'"),
        ("Simulaton: {}", "Did you mean 'Simulation'"),
        ("Data: {Files: a.root}", "missing section 'Simulation'"),
        ("Observables: []", "Observables is empty"),
        ("Observables: 3", "must be a list"),
        ("Observables: [{Name: z, Gen: z, Reco: z, Edges: [1, 0]}]", "that increase"),
        ("Observables: [{Name: z, Gen: 'z +', Reco: z, Edges: [0, 1]}]", "not valid"),
        ("Systematics: [{Name: jes}]", "changes nothing"),
        ("Systematics: [{Name: jes, Reco: 3}]", "must map observables to expressions"),
        ("Systematics: [{Name: jes, Reco: {z: 'z +'}}]", r"Reco\.z is not valid"),
        (
            f"Observables: [{ENTRY}]\nSystematics: [{{Name: jes, Reco: {{zz: z}}}}]",
            "unknown observable 'zz'. Did you mean 'z'",
        ),
        ("Options: {Iterations: 0}", "at least 1"),
        (
            f"Observables: [{ENTRY}, {ENTRY}]",
            "two entries 'z'",
        ),
    ],
)
def test_wrong_configurations_are_refused(tmp_path, text, message):
    path = tmp_path / "u.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_unfolding(path)


def test_wrong_inputs_name_their_section(folder, tmp_path):
    path = folder[0]
    config = configured(path, "Bayes", SYSTEMATICS)
    for old, new, error, message in (
        ("Reco: reco", "Reco: rco", InputError, "Simulation: .*rco"),
        ("Data: x", "Data: y", InputError, "Data: .*y"),
        ("PassReco: reco > -90", "PassReco: reco > 90", InputError, "pass_reco passes no event"),
        ("[-2, -0.5, 0.5, 2]", "[-90, -80, 0]", InputError, "Observables, 'z': truth bin 0"),
        ("Method: Bayes", "Method: OmniFold, Joint: true", ConfigError, "'Joint' is for binned"),
        ("Files: mc.h5", "Files: m.h5", InputError, "no file"),
        ("Method: Bayes", "Method: Flow", ConfigError, "systematics of the method Flow"),
    ):
        other = path / "wrong.yaml"
        other.write_text(config.read_text().replace(old, new, 1))
        with pytest.raises(error, match=message):
            run_unfolding(other, tmp_path, progress=False)


def test_the_schema_knows_every_section(folder):
    schema = unfolding_schema()
    document = json.loads(json.dumps(read_unfolding(configured(folder[0], "Bayes")).echo))
    import jsonschema

    jsonschema.validate(document, schema)
    document["Options"] = {"Iterations": 0}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)


def test_joint_histograms_of_two_observables(folder, tmp_path):
    shift = "10 * (sf - 1)"  # between -1 and 1
    rest = f"  - {{Name: y, Gen: gen + {shift}, Reco: reco + {shift}, Data: x, Edges: [-9, 0, 9]}}"
    path = configured(folder[0], "Bayes", rest)
    path.write_text(path.read_text().replace("Seed: 3", "Joint: true"))
    h = run_unfolding(path, tmp_path, progress=False).histograms["joint"]
    assert h.values.shape == (3, 2)
    assert h.names == ("z", "y")
    assert jax.tree.leaves(h.histogram("z").values)[0].shape == (3,)
