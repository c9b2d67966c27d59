"""Several trained regions: a network and bins for each, one likelihood of all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyhf
import pytest
import uproot

from difana._errors import ConfigError, InputError
from difana.analysis import (
    AnalysisResult,
    apply,
    evaluate_from,
    load,
    observable_of,
    observables_of,
    read_config,
    run,
)
from difana.infer import Inference
from difana.likelihood import channel_from_events
from tests.analysis.conftest import fill, write_yaml

Config = dict[str, Any]


def two_regions(config: Config) -> None:
    """Train in two regions, of which one has its own number of bins; measure in a third."""
    config["Regions"] = [
        {"Name": "low", "Filter": "mass > 60 and pt < 40"},
        {"Name": "high", "Filter": "mass > 60 and pt >= 40", "Bins": 2},
        {"Name": "CR", "Filter": "pt < 30", "Variable": "mass", "Binning": [60, 100, 140, 900]},
    ]
    config["Systematics"][1]["Decorrelate"] = "region"


@pytest.fixture(scope="session")
def two(tmp_path_factory: pytest.TempPathFactory) -> AnalysisResult:
    """An analysis of two trained regions that ran once."""
    folder = fill(tmp_path_factory.mktemp("two"))
    path = write_yaml(folder / "analysis.yaml", two_regions)
    return run(path, folder / "out", progress=False)


def test_each_region_has_a_network_and_bins(two: AnalysisResult) -> None:
    summary = json.loads((two.out / "result.json").read_text())
    assert summary["status"] == "ok"
    assert summary["regions"] == ["low", "high"]
    assert [len(summary["edges"][name]) for name in ("low", "high")] == [4, 3]
    low, high = observables_of(two.out)
    assert (low.region, high.region) == ("low", "high")
    x = np.random.default_rng(0).normal(80, 30, (50, 3)).astype(np.float32)
    assert not np.allclose(low.net(x), high.net(x))
    assert observable_of(two.out, region="high").edges.tolist() == summary["edges"]["high"]
    loaded = load(two.config)
    for own, region, channel in zip((low, high), loaded.regions, two.channels, strict=False):
        wanted = channel_from_events(
            own.net, region.test, edges=own.edges.astype(np.float32), bandwidth=None
        )
        for ours, theirs in zip(wanted.templates, channel.templates, strict=True):
            np.testing.assert_allclose(ours.values, theirs.values, rtol=1e-5)
    assert {r.get("region") for r in two.history} == {"low", "high", None}
    assert [region.name for region in two.regions] == ["low", "high", "CR"]


def test_the_limit_is_that_of_all_regions_and_pyhf_agrees(two: AnalysisResult) -> None:
    spec = json.loads((two.out / "workspace.json").read_text())
    workspace = pyhf.Workspace(spec)
    model, data = workspace.model(), None
    data = workspace.data(model)
    assert model.config.channels == ["CR", "high", "low"]
    pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer(tolerance=1e-3))
    try:
        for mu in (0.5, two.trained.median):
            _, band = pyhf.infer.hypotest(mu, data, model, return_expected_set=True)
            np.testing.assert_allclose(Inference(two.model).cls(mu).expected, band, atol=1e-5)
    finally:
        pyhf.set_backend("numpy")
    limits = Inference(two.model).limits().expected
    np.testing.assert_allclose(two.trained.limits, limits, rtol=1e-5)
    for name in ("low", "high"):
        alone = [own for own in two.channels if own.name == name]
        assert two.trained.median < _alone(two, alone)


def _alone(result: AnalysisResult, channels: list[Any]) -> float:
    """Return the expected limit of some of the regions."""
    from difana.likelihood import build_model

    return Inference(build_model(channels, poi="mu")).limits().median


def test_scores_and_bins_are_written_to_files(two: AnalysisResult, tmp_path: Path) -> None:
    source = two.config.path.parent / "ntuples" / "background.root"
    apply(two.out, str(source), tmp_path / "out.root", sample="background", chunk_size=300)
    with uproot.open(tmp_path / "out.root") as file:
        found = file["events"].arrays(library="np")
    low, high = (found[f"difana_bin_{name}"] >= 0 for name in ("low", "high"))
    assert (low == (found["pt"] < 40)).all()
    assert (high == ~low).all()
    np.testing.assert_array_equal(found["difana_region"], np.where(low, 0, 1))
    for name, inside in (("low", low), ("high", high)):
        own = found[f"difana_score_{name}"]
        np.testing.assert_array_equal(np.isnan(own), ~inside)
        np.testing.assert_array_equal(found["difana_score"][inside], own[inside])
    part, weight = found["difana_part"], found["difana_weight"]
    for channel, inside in zip(two.channels[:2], (low, high), strict=True):
        test = inside & (part == 2)
        scaled = weight[test] * weight[inside].sum() / weight[test].sum()
        bins = found[f"difana_bin_{channel.name}"][test].astype(int)
        wanted = next(t for t in channel.templates if t.name == "background")
        counts = np.bincount(bins, scaled, len(np.asarray(wanted.values)))
        np.testing.assert_allclose(counts, wanted.values, rtol=1e-12)


def test_evaluated_again_without_training(two: AnalysisResult, tmp_path: Path) -> None:
    again = evaluate_from(two.out, two.config.path, tmp_path / "again", progress=False)
    for ours, theirs in zip(again.comparison, two.comparison, strict=True):
        assert ours.limits == theirs.limits
        np.testing.assert_equal(ours.retained, theirs.retained)
    folder = tmp_path / "one"
    folder.mkdir()
    shutil.copytree(two.config.path.parent / "ntuples", folder / "ntuples")
    path = write_yaml(folder / "analysis.yaml", None)
    with pytest.raises(ConfigError, match=r"trained Regions is one, .* made for low, high"):
        evaluate_from(two.out, path, tmp_path / "other", progress=False)


def test_a_resumed_run_ends_with_the_same_bytes(two: AnalysisResult, tmp_path: Path) -> None:
    """The run is stopped in the second region and in the descent by what it left behind."""
    folder = tmp_path / "copy"
    shutil.copytree(two.config.path.parent, folder)
    out = folder / "out"
    wanted = (out / "result.json").read_bytes()
    (out / "result.json").unlink()
    shutil.rmtree(out / "checkpoints" / "region_2" / "score")
    shutil.rmtree(out / "checkpoints" / "expected_limit")
    first = (out / "checkpoints" / "region_1").rglob("*")
    before = {path: path.stat().st_mtime_ns for path in first if path.is_file()}
    run(folder / "analysis.yaml", out, progress=False)
    assert (out / "result.json").read_bytes() == wanted
    kept = [path for path, time in before.items() if path.stat().st_mtime_ns == time]
    assert len(kept) == len(before)


def test_what_is_asked_of_one_region_is_refused(two: AnalysisResult) -> None:
    with pytest.raises(InputError, match=r"2 trained regions: give region="):
        observable_of(two.out)
    with pytest.raises(InputError, match=r"no trained region 'lo'.* Did you mean 'low'"):
        observable_of(two.out, region="lo")
    with pytest.raises(InputError, match=r"there are 2 trained regions: ask for \.regions"):
        _ = load(two.config).train
    assert read_config(two.config.path).bins_of(two.config.trained[1]) == 2
