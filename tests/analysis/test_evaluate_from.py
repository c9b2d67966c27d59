"""Networks and edges of a finished run on other data, systematics and regions: no training."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from difana._errors import ConfigError, InputError
from difana.analysis import AnalysisResult, evaluate_from, observable_of
from difana.analysis.trained import trained_of
from difana.cli import main
from difana.infer import Inference
from difana.nn import save_weights

Config = dict[str, Any]
Evaluate = Callable[..., AnalysisResult]


def no_training(*args: Any, **keys: Any) -> None:
    raise AssertionError("a network was trained")


@pytest.fixture
def other(
    finished: AnalysisResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """``other(edit) -> path`` writes the configuration of the finished run after ``edit``."""
    monkeypatch.setattr(sys.modules["difana.train.minimise"], "run", no_training)
    monkeypatch.setattr(sys.modules["difana.train.minimise"], "make_step", no_training)
    count = iter(range(100))

    def write(edit: Callable[[Config], Any] = lambda config: None) -> Path:
        config = yaml.safe_load(finished.config.path.read_text())
        edit(config)
        path = finished.config.path.with_name(f"other_{next(count)}.yaml")
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        return path

    return write


@pytest.fixture
def evaluate(finished: AnalysisResult, other: Callable[..., Path], tmp_path: Path) -> Evaluate:
    """``evaluate(edit)`` evaluates the finished run in another configuration."""

    def found(edit: Callable[[Config], Any] = lambda config: None) -> AnalysisResult:
        return evaluate_from(finished.out, other(edit), tmp_path / "new", progress=False)

    return found


def test_the_same_analysis_gives_the_same_files(
    finished: AnalysisResult, evaluate: Evaluate
) -> None:
    found = evaluate()
    for name in ("workspace.json", "weights.eqx", "weights_baseline.eqx", "history.jsonl"):
        assert (found.out / name).read_bytes() == (finished.out / name).read_bytes(), name
    before, after = (json.loads((r.out / "result.json").read_text()) for r in (finished, found))
    (said,) = [note for note in after["notes"] if note not in before["notes"]]
    digest = before["training"]["digest"]
    assert said == (
        f"nothing was trained: networks and bin edges are those of the run 'measurement' ({digest})"
    )
    after["notes"].remove(said)
    assert after == before
    assert not (found.out / "stages.json").exists()


def unblind(config: Config) -> None:
    config["Samples"].append({"Name": "data", "Files": "background.root", "Data": True})


def rename(config: Config) -> None:
    config["General"]["Measurement"] = "renamed"
    config["Regions"][0]["Name"] = "Alpha"
    config["Systematics"][2]["Name"] = "other"
    config["Samples"][1]["Name"] = "b"
    for entry in config["Systematics"]:
        entry["Samples"] = "b" if entry.get("Samples") == "background" else entry.get("Samples")
        entry |= {} if entry["Samples"] else {"Samples": ["signal", "b"]}
    config["Systematics"][-1] |= {side: {"Files": f"background_{side.lower()}.root"}
                                  for side in ("Up", "Down")} | {"Samples": "b"}  # fmt: skip


def prior(config: Config) -> None:
    config["Systematics"][2] |= {"Up": {"Normalization": 0.5}, "Down": {"Normalization": -0.5}}


def fewer(config: Config) -> None:
    config["General"]["Luminosity"] = 2
    config["Regions"] = [{"Name": "SR", "Filter": "mass > 65 and eta < 2"}]
    del config["Systematics"][0]


def test_unblinding_trains_nothing(finished: AnalysisResult, evaluate: Evaluate) -> None:
    found = evaluate(unblind)
    assert found.real_data
    assert found.summary["limits"]["observed"]["limit"] == pytest.approx(
        Inference(found.model, found.data).limits().observed, rel=1e-9
    )
    assert found.summary["limits"]["expected"] == finished.summary["limits"]["expected"]
    assert sum(region.data.sum() for region in found.regions) == 1600


def test_a_changed_prior_trains_nothing(finished: AnalysisResult, evaluate: Evaluate) -> None:
    found = evaluate(prior)
    assert found.trained.edges == finished.trained.edges
    assert found.trained.median > finished.trained.median
    # what the bins keep is measured against the information with this prior
    assert 0 < found.trained.retained < 1.05
    assert found.trained.retained != pytest.approx(finished.trained.retained, rel=1e-3)
    modifier = {m.name: m for m in found.channels[0].templates[1].modifiers}["norm"]
    assert (modifier.hi, modifier.lo) == (1.5, 0.5)


def test_names_train_nothing(finished: AnalysisResult, evaluate: Evaluate) -> None:
    found = evaluate(rename)
    workspace = json.loads((found.out / "workspace.json").read_text())
    assert {channel["name"] for channel in workspace["channels"]} == {"Alpha", "CR"}
    assert workspace["measurements"][0]["name"] == "renamed"
    own = {t.name: np.asarray(t.values) for t in found.channels[0].templates}
    before = {t.name: np.asarray(t.values) for t in finished.channels[0].templates}
    np.testing.assert_array_equal(own["b"], before["background"])
    np.testing.assert_array_equal(own["signal"], before["signal"])
    assert found.trained.retained == pytest.approx(finished.trained.retained, rel=1e-6)


def test_other_regions_systematics_and_luminosity(evaluate: Evaluate) -> None:
    found = evaluate(fewer)
    assert [region.name for region in found.regions] == ["SR"]
    assert not any("scale" in name for name in found.model.parameters)
    assert np.isnan(found.trained.retained)
    assert found.summary["samples"]["SR"]["background"]["yield"] < 1200
    assert found.summary["samples"]["SR"]["background"]["yield"] > 1000


def wrong_network(config: Config) -> None:
    config["Network"]["Hidden"] = [8, 8]
    config["General"] |= {"Seed": 4, "POI": "k"}
    config["Features"] = ["mass", "eta", "pt"]


def test_another_network_is_refused(
    finished: AnalysisResult, other: Callable[..., Path], tmp_path: Path
) -> None:
    path = other(wrong_network)
    with pytest.raises(ConfigError) as caught:
        evaluate_from(finished.out, path, tmp_path / "new", progress=False)
    leak = "events that the networks were trained on would be in the test"
    first, *lines = str(caught.value).splitlines()
    assert first == f"{path} does not fit the trained networks:"
    assert [line.strip() for line in lines] == [
        "Features is mass, eta, pt, the networks were made for mass, pt, eta",
        "Network.Hidden is 8, 8, the networks were made for 8",
        "General.POI is k, the networks were made for mu",
        f"General.Seed is 4, of the training 3: {leak}",
    ]
    assert not (tmp_path / "new").exists()

    def particles(config: Config) -> None:
        config["Particles"] = {"Channels": ["jet"], "Maximum": 3}

    with pytest.raises(ConfigError, match=r"Particles.Channels is jet, .* made for none"):
        evaluate_from(finished.out, other(particles), tmp_path / "new", progress=False)


def test_a_feature_of_another_expression_is_said(evaluate: Evaluate) -> None:
    def scaled(config: Config) -> None:
        config["Features"] = {"mass": "1 * mass", "pt": "pt", "eta": "eta"}

    notes = evaluate(scaled).summary["notes"]
    assert "feature 'mass' is '1 * mass', in the training it was 'mass': it must mean the same" in (
        notes
    )


def test_folders_that_do_not_hold_a_run(
    finished: AnalysisResult, other: Callable[..., Path], tmp_path: Path
) -> None:
    path, folder = other(), tmp_path / "copy"
    with pytest.raises(InputError, match="another folder"):
        evaluate_from(finished.out, path, finished.out, progress=False)
    assert (finished.out / "stages.json").exists()
    with pytest.raises(InputError, match=r"no file result\.json"):
        evaluate_from(tmp_path, path, tmp_path / "new", progress=False)
    shutil.copytree(finished.out, folder, ignore=shutil.ignore_patterns("plots", "checkpoints"))
    moved = jax.tree.map(lambda leaf: leaf + 1, observable_of(folder).net)
    save_weights(folder / "weights.eqx", moved)
    with pytest.raises(InputError, match=r"not those of its result\.json"):
        trained_of(folder)
    (folder / "weights.eqx").write_bytes(b"\x80\x04pickle")
    with pytest.raises(InputError, match=r"weights.eqx is not a file of weights"):
        trained_of(folder)
    summary = json.loads((folder / "result.json").read_text())
    del summary["training"]["edges"]
    (folder / "result.json").write_text(json.dumps(summary))
    with pytest.raises(InputError, match=r"holds no training.edges"):
        trained_of(folder)


def test_command(
    finished: AnalysisResult,
    other: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("difana.cli._setup.start", lambda **_: None)
    words = ["evaluate", str(other(prior)), "--from", str(finished.out), "--no-report"]
    result = CliRunner().invoke(main, [*words, "--out", str(tmp_path / "new")])
    assert result.exit_code == 0, result.output
    assert "expected limit" in result.output.lower()
    assert "nothing was trained" in result.output
    lost = CliRunner().invoke(main, words[:2])
    assert "Missing option '--from'" in lost.output or "Missing option '--out'" in lost.output
