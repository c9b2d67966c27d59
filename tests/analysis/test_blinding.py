"""Blinded regions: no observed event of theirs is read, and nothing hangs on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imsave

from difana._errors import ConfigError, InputError
from difana.analysis import AnalysisResult, check, load, read_config, run
from difana.analysis._sources import Source
from difana.analysis.words import headline
from difana.infer import Inference, fit
from difana.likelihood import build_model
from difana.plot import analysis_report

Config = dict[str, Any]
Write = Callable[..., Path]
Stub = Callable[..., None]
Observe = Callable[..., dict[str, np.ndarray]]

ALL, NONE = True, False
CONTROL = {"Name": "CR", "Filter": "mass <= 100", "Variable": "pt", "Binning": [0, 30, 60, 900]}


def two_regions(config: Config) -> None:
    """Give the analysis data and a control region that shares no event with the trained one."""
    config["Regions"] = [{"Name": "SR", "Filter": "mass > 100"}, CONTROL]
    config["Samples"].append({"Name": "data", "Files": "data.root", "Data": True})


def blinded(value: Any, /, **more: Any) -> Callable[[Config], None]:
    def edit(config: Config) -> None:
        two_regions(config)
        config["General"] |= {"Blind": value, **more}

    return edit


@pytest.fixture
def observe(folder: Path, write_events: Callable[..., dict[str, np.ndarray]]) -> Observe:
    """``observe(poison)`` writes the observed events; poison is in those of the trained region."""

    def write(poison: str = "") -> dict[str, np.ndarray]:
        def poisoned(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            hidden = columns["mass"] > 100
            if poison == "nan":
                columns["pt"] = np.where(hidden, np.nan, columns["pt"])
                columns["eta"] = np.where(hidden, np.inf, columns["eta"])
            elif poison == "huge":
                columns["mass"] = np.where(hidden, 1e9, columns["mass"])
            elif poison == "none":
                columns = {name: values[~hidden] for name, values in columns.items()}
            return columns

        columns = write_events("data", "background", poisoned, events=700)
        if poison == "missing":
            (folder / "ntuples" / "data.root").unlink()
        return columns

    return write


def with_fakes(config: Config) -> None:
    """Add a background made of data, of a selection that overlaps with the blinded region."""
    blinded(["SR"])(config)
    sample = {"Name": "fakes", "Files": "data.root", "FromData": True, "Weight": 0.1}
    config["Samples"].append(sample | {"RegionFilters": {"SR": "eta > 0", "CR": "eta > 0"}})


def contents(out: Path) -> dict[str, bytes]:
    files = {str(path.relative_to(out)): path for path in out.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name != "timing.json"}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, stub: Stub) -> None:
    """Train nothing and draw nothing."""
    stub([-2, 0.5, 1, 600])
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: imsave(path, np.zeros((1, 1))))


def analyse(path: Path, out: Path) -> AnalysisResult:
    return run(path, out, progress=False, report=analysis_report)


@pytest.mark.parametrize(
    ("edit", "poisons"),
    [
        (blinded(ALL), ("nan", "huge", "none", "missing")),
        (blinded(["SR"]), ("nan", "huge", "none")),
        (with_fakes, ("nan",)),
    ],
    ids=["all", "one", "one, with a background made of data"],
)
def test_poison_in_blinded_regions_changes_no_byte(
    edit: Callable[[Config], None],
    poisons: tuple[str, ...],
    folder: Path,
    write_config: Write,
    quick: None,
    observe: Observe,
) -> None:
    path = write_config(edit)
    observe()
    analyse(path, folder / "clean")
    clean = contents(folder / "clean")
    assert {"result.json", "workspace.json", "report.html", "hepdata/submission.yaml"} <= set(clean)
    for poison in poisons:
        observe(poison)
        analyse(path, folder / poison)
        assert contents(folder / poison) == clean, poison


def test_all_blinded_is_an_analysis_without_data(
    folder: Path, write_config: Write, quick: None, observe: Observe
) -> None:
    found = []

    def without_data(config: Config) -> None:
        two_regions(config)
        config["Samples"].pop()

    for edit in (blinded(ALL), without_data):
        result = analyse(write_config(edit), folder / f"out{len(found)}")  # no data.root exists
        assert not result.real_data
        found.append(contents(result.out))
    blind, without = (json.loads(own.pop("result.json")) for own in found)
    blind_stages, stages = (json.loads(own.pop("stages.json")) for own in found)
    assert blind_stages["train"] == stages["train"]
    assert blind.pop("blinded") == ["SR", "CR"]
    assert without.pop("blinded") == []
    assert blind.pop("config")["General"].pop("Blind") is True
    without.pop("config")
    assert blind == without
    assert found[0] == found[1]


@pytest.mark.parametrize("signal_regions", [[], ["SR"]], ids=["signal in both", "signal in one"])
def test_expected_limits_after_the_fit_to_the_control_region(
    signal_regions: list[str], folder: Path, write_config: Write, quick: None, observe: Observe
) -> None:
    def edit(config: Config) -> None:
        blinded(["SR"])(config)
        if signal_regions:
            config["Samples"][0]["Regions"] = signal_regions

    events = observe()
    result = analyse(write_config(edit), folder / "out")
    summary = json.loads((result.out / "result.json").read_text())
    signal_region, control = result.regions
    assert (signal_region.observed, control.observed) == (False, True)
    assert not result.real_data
    assert control.data.sum() == (events["mass"] <= 100).sum()

    # by another way: a model of the control region alone, whose parameters go into the whole
    alone = build_model([result.channels[1]], poi=None)
    held = {} if signal_regions else {"mu": 0.0}
    fitted = fit(alone, alone.data(control.data), fixed=held)
    model, best = result.model, result.statistics.fit
    params = np.array(model.init)
    params[model.poi_index] = 0
    for name, value in zip(fitted.names, fitted.params, strict=True):
        params[model.parameters.index(name)] = value
    np.testing.assert_allclose(best.params, params, atol=1e-6)
    asimov = model.expected(params)
    expected = Inference(model, asimov)
    with_signal = Inference(model, model.expected(params + np.eye(len(params))[model.poi_index]))
    own = summary["limits"]["control_fit"]
    np.testing.assert_allclose(own["limits"], expected.limits().expected, rtol=1e-5)
    np.testing.assert_allclose(own["cls"], expected.cls(1.0).expected, rtol=1e-5)
    assert own["significance"] == pytest.approx(with_signal.significance().observed, rel=1e-4)
    assert own["status"] == summary["status"] == "ok"
    assert abs(own["limits"][2] / summary["limits"]["expected"][2] - 1) > 1e-3
    assert summary["limits"]["observed"] is None
    assert result.statistics.scan.observed is None
    told = {**summary["limits"], "control_fit": {**own, "limits": [1.0, 2.0, 30.0, 40.0, 50.0]}}
    assert headline({**summary, "limits": told})[0][1].startswith("mu < 30")
    assert any(f"in 'CR': {own['limits'][2]:.4g} (" in note for note in summary["notes"])

    # what is written stands for the control region and a prediction
    spec = json.loads((result.out / "workspace.json").read_text())
    data = {entry["name"]: entry["data"] for entry in spec["observations"]}
    np.testing.assert_array_equal(data["CR"], control.data)
    start = signal_region.data.size
    np.testing.assert_allclose(data["SR"], asimov[:start], rtol=1e-6)
    np.testing.assert_allclose(data["SR"], sum(signal_region.postfit.values()), rtol=1e-6)
    tables = (result.out / "hepdata").glob("yields_*.yaml")
    named = {path.stem: "Asimov data" in path.read_text() for path in tables}
    assert sum(named.values()) == 2
    assert all(asimov == ("SR" in name or "sr" in name) for name, asimov in named.items())


def test_expected_limits_before_any_fit(
    folder: Path, write_config: Write, quick: None, observe: Observe
) -> None:
    observe()
    result = analyse(write_config(blinded("SR", BlindFit="prefit")), folder / "out")
    limits = result.summary["limits"]
    assert limits["control_fit"] is None
    assert limits["observed"] is None
    signal_region, control = result.regions
    np.testing.assert_allclose(signal_region.data, sum(signal_region.prefit.values()))
    assert control.data.sum() != pytest.approx(sum(control.prefit.values()).sum(), rel=1e-3)
    crossing = np.interp(-0.05, -result.statistics.scan.expected[:, 2], result.statistics.scan.mu)
    assert crossing == pytest.approx(limits["expected"][2], rel=0.02)
    assert any("before any fit" in note for note in result.summary["notes"])


def test_a_blinded_control_region_leaves_no_observed_limit(
    folder: Path, write_config: Write, quick: None, observe: Observe
) -> None:
    events = observe()
    result = analyse(write_config(blinded(["CR"])), folder / "out")
    assert [region.observed for region in result.regions] == [True, False]
    assert result.regions[0].data.sum() == (events["mass"] > 100).sum()
    assert result.summary["limits"]["observed"] is None
    assert result.summary["limits"]["control_fit"]["status"] == "ok"
    unblinded = analyse(write_config(blinded(NONE)), folder / "unblinded")
    assert unblinded.real_data
    assert unblinded.summary["limits"]["observed"]["limit"] > 0
    np.testing.assert_array_equal(unblinded.regions[0].data, result.regions[0].data)


def test_nobody_reads_a_blinded_region(write_config: Write, observe: Observe) -> None:
    observe()
    config = read_config(write_config(blinded(["SR"])))
    data = config.observed
    assert data is not None
    with pytest.raises(InputError, match=r"'data' in region 'SR': the region is blinded"):
        Source(config, data, config.trained[0])
    loaded = load(config)
    assert loaded.observed is None
    assert list(loaded.observed_yields) == ["CR"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (blinded(["SRR"]), r"General.Blind refers to 'SRR', which.*Did you mean 'SR'\?"),
        (blinded(["SR", "SR"]), "General.Blind names 'SR' twice"),
        (blinded(3), "General.Blind must be"),
        (blinded(["SR"], BlindFit="postfit"), "General.BlindFit"),
        (blinded(ALL, BlindFit="control"), r"analysis.yaml:\d+: .*all regions are blinded: name"),
    ],
)
def test_wrong_blinding(edit: Callable[[Config], None], message: str, write_config: Write) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(write_config(edit))


def test_a_blinded_region_without_filter_leaves_no_data_for_a_background(
    write_config: Write,
) -> None:
    def edit(config: Config) -> None:
        with_fakes(config)
        del config["Regions"][0]["Filter"]

    with pytest.raises(ConfigError, match=r"'fakes' is made of data, .*'SR', which is blinded"):
        read_config(write_config(edit))


def test_a_control_fit_needs_data(write_config: Write) -> None:
    def edit(config: Config) -> None:
        blinded(["SR"], BlindFit="control")(config)
        config["Samples"].pop()

    with pytest.raises(ConfigError, match="no sample is data"):
        read_config(write_config(edit))


def test_a_check_does_not_look_at_blinded_data(write_config: Write) -> None:
    assert "data" not in check(write_config(blinded(ALL)), progress=False).entries  # no data.root
    with pytest.raises(ConfigError, match=r"no file .*data.root"):
        check(write_config(blinded(["SR"])), progress=False)
