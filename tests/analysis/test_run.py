"""The whole chain on small files: outputs, agreement with pyhf, interruptions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyhf
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imsave

from difana.analysis import AnalysisResult, load, observable_of, run
from difana.infer import Inference, notes
from difana.likelihood import channel_from_events
from difana.plot import analysis_report
from difana.train import JSONLLogger, read_history

Config = dict[str, Any]
FILES = (
    "workspace.json",
    "weights.eqx",
    "weights_baseline.eqx",
    "weights_score.eqx",
    "weights_descent.eqx",
    "history.jsonl",
    "result.json",
    "stages.json",
    "timing.json",
)


def read(result: AnalysisResult) -> dict[str, Any]:
    return json.loads((result.out / "result.json").read_text())


def test_files_and_summary(finished: AnalysisResult) -> None:
    assert all((finished.out / name).is_file() for name in FILES)
    summary = read(finished)
    assert summary == finished.summary
    names = [row["name"] for row in summary["comparison"]]
    assert names[:4] == [
        "one bin",
        "cross-entropy, uniform bins",
        "cross-entropy, quantile bins",
        "cross-entropy, equal-signal bins",
    ]
    best = summary["comparison"][-1]
    candidates = {
        "cross-entropy, best bins", "efficient score, best bins", "trained on the objective",
        "efficient score in slices, best bins",
    }  # fmt: skip
    assert {*names[4:-1], best["observable"]} == candidates
    assert (names[-1], len(names)) == ("difana", 8)
    training = summary["training"]
    assert training["chosen"] == best["observable"]
    held_out = {row["name"]: row["held_out"] for row in training["candidates"]}
    assert set(held_out) == candidates
    errors = {row["name"]: row["held_out_error"] for row in training["candidates"]}
    start = "efficient score, best bins"
    better = {name for name in candidates if held_out[name] < held_out[start] - errors[name]}
    assert (errors[start], errors[training["chosen"]] > 0) == (0, bool(better))
    assert training["chosen"] == min(better, key=held_out.get, default=start)
    better = {row["name"] for row in summary["comparison"][:-1] if row["limit"] < best["limit"]}
    said = "".join(summary["notes"])
    assert all(
        (f"'{name}' has the lower expected limit" in said) == (name in better) for name in names
    )
    for row in summary["comparison"]:
        assert 0 < row["error"] < row["limit"]
        assert 0 < row["retained"] < 1.5
        assert row["status"] == "ok"
        assert row["limits"] == sorted(row["limits"])
        assert row["limit"] == row["limits"][2] > 0
        assert 0 < row["cls"][2] < 1
        assert row["significance"] > 0
    assert summary["limits"]["expected"] == summary["comparison"][-1]["limits"]
    assert summary["limits"]["observed"] is None
    assert summary["config"]["General"]["Seed"] == summary["seed"] == 3
    assert summary["options"]["training"]["steps"] == 6
    assert summary["versions"]["jax"] == jax.__version__
    assert sum(summary["samples"]["SR"]["background"]["events"].values()) == 800
    assert summary["samples"]["SR"]["background"]["yield"] == pytest.approx(600)
    # nothing that differs from run to run, or from machine to machine
    text = (finished.out / "result.json").read_text()
    assert str(finished.out.parent) not in text
    assert "seconds" not in text
    stages = {record["stage"] for record in read_history(finished.out / "history.jsonl")}
    assert stages == {"cross-entropy", "efficient score", "expected_limit"}


def test_conditions_are_judged_on_the_test_split(finished: AnalysisResult) -> None:
    found = read(finished)["constraints"]
    own = finished.regions[0]
    filled = found["MinimumBackground"]
    assert filled["found"] == pytest.approx(own.prefit["background"].min(), rel=1e-9)
    assert filled["met"] == (filled["found"] >= 5)
    soft, hard = finished.soft["SR"]["background"], own.prefit["background"]
    worst = np.abs(soft / hard - 1)
    assert found["Closure"] == {
        "wanted": 1e-9,
        "found": pytest.approx(worst.max(), rel=1e-6),
        "where": f"bin {worst.argmax()}",
        "met": False,
    }
    assert any(note.startswith("Closure not met") for note in finished.summary["notes"])
    last = [r for r in finished.history if r["stage"] == "expected_limit"][-1]
    assert {"minimum_background", "closure"} <= last["aux"].keys()


def test_workspace_is_valid_and_agrees_with_pyhf(finished: AnalysisResult) -> None:
    spec = json.loads((finished.out / "workspace.json").read_text())
    workspace = pyhf.Workspace(spec)
    pdf = workspace.model()
    data = workspace.data(pdf)
    low, high = pdf.config.suggested_bounds()[pdf.config.poi_index]
    assert low == 0
    assert high >= max(10, 5 * finished.trained.limits[4])
    pyhf.set_backend("numpy", pyhf.optimize.scipy_optimizer(tolerance=1e-14))
    try:
        for mu in (1.0, finished.trained.median):
            _, expected = pyhf.infer.hypotest(mu, data, pdf, return_expected_set=True)
            own = Inference(finished.model).cls(mu)
            np.testing.assert_allclose(own.expected, np.ravel(expected), rtol=1e-5)
    finally:
        pyhf.set_backend("numpy")
    np.testing.assert_allclose(expected[2], 0.05, rtol=1e-4)
    np.testing.assert_allclose(
        Inference(finished.model).cls(1.0).expected, finished.trained.cls, rtol=1e-6
    )


def test_templates_are_those_of_the_saved_network(finished: AnalysisResult) -> None:
    loaded = load(finished.config)
    net = observable_of(finished.out).net
    edges = np.asarray(finished.trained.edges["SR"], np.float32)
    channel = channel_from_events(net, loaded.test, edges=edges, bandwidth=None)
    for own, other in zip(channel.templates, finished.channels[0].templates, strict=True):
        np.testing.assert_allclose(own.values, other.values, rtol=1e-5)


def test_yields_of_the_regions(finished: AnalysisResult) -> None:
    signal_region, control = finished.regions
    assert (signal_region.name, control.name) == ("SR", "CR")
    assert control.edges.tolist() == [60, 100, 140, 900]
    for region in finished.regions:
        np.testing.assert_allclose(region.prefit["signal"], 0)
        np.testing.assert_allclose(sum(region.prefit.values()), region.data, rtol=1e-9)
        np.testing.assert_allclose(sum(region.postfit.values()), region.data, rtol=1e-4)
        assert (region.postfit_errors <= region.prefit_errors * 1.0001).all()
        # the normalisation of 10 % moves all of the background
        assert (region.prefit_errors >= 0.1 * region.data).all()
    assert signal_region.signal["signal"].sum() == pytest.approx(30, rel=1e-3)
    soft = sum(values.sum() for values in finished.soft["SR"].values())
    assert soft == pytest.approx(signal_region.data.sum() + 30, rel=1e-3)
    scan = finished.statistics.scan
    np.testing.assert_allclose(scan.expected[0], 1, atol=1e-6)
    crossing = np.interp(-0.05, -scan.expected[:, 2], scan.mu)
    assert crossing == pytest.approx(finished.trained.median, rel=0.02)


@pytest.mark.slow
def test_interrupted_and_resumed_equals_uninterrupted(
    finished: AnalysisResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished.out.parent, folder, ignore=shutil.ignore_patterns("out"))
    log = JSONLLogger.log

    def interrupt(self: JSONLLogger, record: Any) -> None:
        log(self, record)
        if record["stage"] == "expected_limit" and record["step"] == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(JSONLLogger, "log", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(folder / "analysis.yaml", folder / "out", progress=False)
    assert not (folder / "out" / "result.json").exists()
    for _ in range(2):  # resumed, then run again although all is done
        run(folder / "analysis.yaml", folder / "out", progress=False)
        for name in ("result.json", "workspace.json", "history.jsonl", "weights.eqx"):
            own, other = (place / name for place in (folder / "out", finished.out))
            assert own.read_bytes() == other.read_bytes(), name


def test_the_report_says_where_asymptotic_formulae_end(finished: AnalysisResult) -> None:
    median, said = finished.trained.median, " ".join(finished.summary["notes"])
    checked = notes(finished.model, mu=median, fit=finished.statistics.fit)
    assert (f"difana toys workspace.json --mu {median:.4g}" in said) == (not checked.ok)
    assert all(sentence in said for sentence in checked.sentences)


@pytest.mark.slow
def test_real_data_and_a_bin_without_background(
    folder: Path,
    write_config: Callable[..., Path],
    stub: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def edit(config: Config) -> None:
        config["Samples"].append({"Name": "data", "Files": "background.root", "Data": True})
        config["Regions"].append({"Name": "CR", "Variable": "mass", "Binning": [60, 120, 900]})

    stub([-2, 1, 500, 600])
    result = run(write_config(edit), folder / "out", progress=False)
    summary = read(result)
    assert summary["edges"] == {"SR": [-2, 1, 600]}
    assert "1 bin(s) without background" in " ".join(summary["notes"])
    observations = json.loads((result.out / "workspace.json").read_text())["observations"]
    assert [len(entry["data"]) for entry in observations] == [2, 2]
    assert [sum(entry["data"]) for entry in observations] == [800, 800]
    observed = summary["limits"]["observed"]
    own = Inference(result.model, result.data)
    assert observed["limit"] == pytest.approx(own.limits().observed, rel=1e-9)
    assert observed["cls"] == pytest.approx(own.cls(1.0).observed, rel=1e-9)
    assert observed["status"] == "ok"
    assert result.statistics.scan.observed[0] == pytest.approx(1)

    def quick(self: Figure, path: Path, **options: Any) -> None:
        imsave(path, np.zeros((1, 1)))

    monkeypatch.setattr(Figure, "savefig", quick)
    assert f"limit {observed['limit']:.4g}" in analysis_report(result).read_text()


def test_a_sample_without_events_goes_through(
    write_config: Callable[..., Path], folder: Path, stub: Callable[..., None]
) -> None:
    def edit(config: dict[str, Any]) -> None:
        config["Samples"] += [
            {"Name": "rare", "Files": "background.root", "Filter": "mass > 5000"},
            {"Name": "data", "Files": "background.root", "Data": True, "Filter": "mass > 5000"},
        ]
        config["Regions"].append({"Name": "CR", "Variable": "mass", "Binning": [60, 120, 900]})

    stub([-2, 1, 600])
    result = run(write_config(edit), folder / "out", progress=False)
    summary = read(result)
    workspace = json.loads((result.out / "workspace.json").read_text())
    for channel in workspace["channels"]:
        own = {sample["name"]: sample["data"] for sample in channel["samples"]}
        assert own["rare"] == [0.0, 0.0]
        assert sum(own["background"]) > 0
    assert all(sum(entry["data"]) == 0 for entry in workspace["observations"])
    assert summary["samples"]["SR"]["rare"]["yield"] == 0
    said = " ".join(summary["notes"])
    for words in ("'rare' in region 'SR'", "'rare' in region 'CR'", "no event is observed"):
        assert words in said
    assert str(folder) not in said  # a result names no folder of the machine
    model = pyhf.Workspace(workspace).model()
    own = np.asarray(result.model.expected_main(result.model.init))
    theirs = model.expected_actualdata(model.config.suggested_init())
    assert sorted(own) == pytest.approx(sorted(theirs), rel=1e-10)
