"""`difana apply`: the numbers of a run, event by event."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from click.testing import CliRunner

from difana._errors import InputError
from difana.analysis import AnalysisResult, apply, load, observable_of, observe
from difana.cli import main
from difana.data import convert, read_events, read_metadata
from difana.likelihood import Channel

SUFFIXES = (".root", ".h5", ".parquet")


def columns_of(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Return columns; those that are not finite as -99."""
    found = read_events(path, columns={name: f"fill({name}, -99)" for name in names}, dtype=float)
    return {name: np.asarray(found[name]) for name in names}


def source_of(result: AnalysisResult, sample: str = "background", suffix: str = ".root") -> Path:
    path = result.out.parent / "ntuples" / f"{sample}.root"
    if suffix == ".root":
        return path
    target = result.out.parent / f"{sample}{suffix}"
    convert(path, target)
    return target


def template(channel: Channel, sample: str) -> np.ndarray:
    return np.asarray(next(t.values for t in channel.templates if t.name == sample))


@pytest.mark.parametrize("sample", ["signal", "background"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_bins_of_the_file_are_the_yields_of_the_run(
    sample: str, suffix: str, finished: AnalysisResult, tmp_path: Path
) -> None:
    """Exactly: every event of the test split is in the bin in which the run counted it."""
    target = tmp_path / f"out{suffix}"
    apply(finished.out, source_of(finished, sample), target, sample=sample, chunk_size=300)
    own = columns_of(target, *(f"difana_{n}" for n in ("bin_SR", "bin_CR", "part", "weight")))
    bins, part, weight = (own[f"difana_{n}"] for n in ("bin_SR", "part", "weight"))
    assert set(part) == {0, 1, 2}
    test = part == 2
    scaled = weight[test] * weight[part >= 0].sum() / weight[test].sum()
    trained, control = finished.channels
    found = np.bincount(bins[test].astype(int), scaled, len(finished.summary["edges"]["SR"]) - 1)
    np.testing.assert_allclose(found, template(trained, sample), rtol=1e-12)
    inside = own["difana_bin_CR"] >= 0
    found = np.bincount(own["difana_bin_CR"][inside].astype(int), weight[inside], 3)
    np.testing.assert_allclose(found, template(control, sample), rtol=1e-12)


def test_scores_are_those_of_the_saved_network(finished: AnalysisResult, tmp_path: Path) -> None:
    trained, loaded = observable_of(finished.out), load(finished.config)
    assert trained.edges.tolist() == finished.summary["edges"]["SR"]
    apply(finished.out, source_of(finished), tmp_path / "out.root")
    own = columns_of(tmp_path / "out.root", "difana_score", "difana_part", "mass")
    wanted = observe(trained.net, loaded.test)[1].nominal.x
    np.testing.assert_array_equal(own["difana_score"][own["difana_part"] == 2], wanted)
    assert (own["difana_part"] == -1).sum() == (own["mass"] <= 60).sum()
    assert (own["difana_score"][own["mass"] <= 60] == -99).all()
    apply(finished.out, source_of(finished), tmp_path / "all.root", everywhere=True)
    wider = columns_of(tmp_path / "all.root", "difana_score")["difana_score"]
    assert (wider != -99).all()
    inside = own["difana_score"] != -99
    np.testing.assert_array_equal(wider[inside], own["difana_score"][inside])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_formats_and_chunks_agree(suffix: str, finished: AnalysisResult, tmp_path: Path) -> None:
    names = [f"difana_{n}" for n in ("score", "region", "bin", "part", "bin_SR", "bin_CR")]
    apply(finished.out, source_of(finished), tmp_path / "whole.root")
    source, target = source_of(finished, suffix=suffix), tmp_path / f"out{suffix}"
    tree = "/" if suffix == ".h5" else None
    keep = ["mass", "weight*"]
    report = apply(finished.out, source, target, keep=keep, tree=tree, chunk_size=123)
    assert set(report.kept) == {"mass", "weight", "weight_up", "weight_down"}
    assert list(report.new) == names
    whole, own = columns_of(tmp_path / "whole.root", *names), columns_of(target, *names)
    for name in names:
        np.testing.assert_array_equal(whole[name], own[name])
    both = own["difana_bin_SR"] >= 0  # the first region of an event in both
    np.testing.assert_array_equal(own["difana_bin"][both], own["difana_bin_SR"][both])
    assert set(own["difana_region"][both]) == {0}
    if suffix != ".root":
        (notes,) = read_metadata(target).values()
        assert json.loads(notes)["regions"] == ["SR", "CR"]


def test_a_friend_tree(finished: AnalysisResult, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main,
        [
            "apply",
            str(finished.out),
            str(source_of(finished)),
            str(tmp_path / "f.root"),
            "--friend",
        ],
    )
    assert result.exit_code == 0
    assert "800 entries, 0 columns kept, new: difana_score" in result.output
    with uproot.open(tmp_path / "f.root") as file:
        assert file["events"].num_entries == 800
        assert not set(file["events"].keys()) & {"mass", "pt", "event"}


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "sample": ({"sample": "back"}, "no sample 'back'. Did you mean 'background'"),
    "column": ({"keep": "masss"}, "no column of tree 'events' of .* Did you mean 'mass'"),
    "tree": ({"tree": "event"}, "no tree 'event' in file"),
    "taken": ({"prefix": "difana_"}, "column 'difana_score' already: keep other columns"),
}


@pytest.mark.parametrize("case", BAD)
def test_refused(case: str, finished: AnalysisResult, tmp_path: Path) -> None:
    options, words = BAD[case]
    source = source_of(finished)
    if case == "taken":
        apply(finished.out, source, tmp_path / "first.root")
        source = tmp_path / "first.root"
    with pytest.raises(InputError, match=words):
        apply(finished.out, source, tmp_path / "out.root", **options)
    assert not (tmp_path / "out.root").exists()


def test_never_half_written(
    finished: AnalysisResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in the second chunk leaves the file of before, and nothing else."""
    target = tmp_path / "out.root"
    apply(finished.out, source_of(finished), target)
    before = target.read_bytes()
    calls = []

    def scores(*args: Any) -> Any:
        calls.append(args)
        if len(calls) > 1:
            raise InputError("stop")
        return np.zeros(len(args[1]))

    monkeypatch.setattr(sys.modules["difana.analysis.apply"], "network_scores", scores)
    with pytest.raises(InputError, match="stop"):
        apply(finished.out, source_of(finished), target, chunk_size=200)
    assert len(calls) == 2
    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out.root"]


def test_observed_events_of_a_blinded_region_stay_unseen(
    finished: AnalysisResult, tmp_path: Path
) -> None:
    summary = json.loads((finished.out / "result.json").read_text())
    summary["config"]["General"]["Blind"] = ["SR"]
    summary["config"]["Samples"].append({"Name": "seen", "Files": "signal.root", "Data": True})
    (tmp_path / "result.json").write_text(json.dumps(summary))
    (tmp_path / "weights.eqx").write_bytes((finished.out / "weights.eqx").read_bytes())
    apply(tmp_path, source_of(finished), tmp_path / "o.root", sample="seen", everywhere=True)
    names = ("difana_score", "difana_bin_SR", "difana_bin_CR", "difana_region")
    own = columns_of(tmp_path / "o.root", *names)
    assert set(own["difana_score"]) == {-99}
    assert set(own["difana_bin_SR"]) == {-1}
    assert set(own["difana_region"]) == {1}
    assert set(own["difana_bin_CR"]) == {0, 1, 2}


def test_a_background_from_data_has_no_luminosity(finished: AnalysisResult, tmp_path: Path) -> None:
    summary = json.loads((finished.out / "result.json").read_text())
    summary["config"]["General"]["Luminosity"] = 3.0
    filters = dict.fromkeys(("SR", "CR"), "eta > 0")
    fakes = {"Name": "fakes", "Files": "x.root", "FromData": True, "RegionFilters": filters}
    summary["config"]["Samples"].append(fakes | {"Weight": "0.5 * weight"})
    (tmp_path / "result.json").write_text(json.dumps(summary))
    (tmp_path / "weights.eqx").write_bytes((finished.out / "weights.eqx").read_bytes())
    for name, factor in (("fakes", 0.5), ("background", 3.0)):
        apply(tmp_path, source_of(finished), tmp_path / "o.root", sample=name)
        own = columns_of(tmp_path / "o.root", "difana_weight", "weight", "difana_bin_SR", "eta")
        np.testing.assert_allclose(own["difana_weight"], factor * own["weight"])
        if name == "fakes":
            np.testing.assert_array_equal(own["difana_bin_SR"] >= 0, own["eta"] > 0)


def test_damaged_results(finished: AnalysisResult, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(InputError, match=r"cannot read '.*result.json'"):
        observable_of(tmp_path)
    (tmp_path / "result.json").write_text("[]")
    with pytest.raises(InputError, match="holds no config"):
        observable_of(tmp_path)
    (tmp_path / "result.json").write_text((finished.out / "result.json").read_text())
    with pytest.raises(InputError, match="no weights in"):
        observable_of(tmp_path)
