"""A grid of signal masses: one network, limits at every point, from ROOT to the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyhf
import pytest
import yaml

from difana._errors import ConfigError, InputError
from difana.analysis import (
    GridResult,
    apply,
    evaluate_from,
    load,
    observable_of,
    observe,
    read_config,
    run,
)
from difana.analysis.stages import stages_of
from difana.cli.run import _print
from difana.data import read_events
from difana.infer import Inference
from difana.nn import Parametrised
from difana.plot import analysis_report
from tests.analysis.conftest import table, write_root, write_yaml

MASSES = {"s100": 100.0, "s125": 125.0, "s180": 180.0}
SIGMA = {"s100": 4.0, "s125": 2.0, "s180": 0.1}


def grid(config: dict[str, Any]) -> None:
    """Three masses, a control region and data."""
    background = {"Name": "background", "Files": "background.root", "Weight": "weight"}
    signals = [
        {"Name": name, "Files": f"{name}.root", "Weight": "weight", "Signal": True}
        for name in MASSES
    ]
    data = {"Name": "data", "Files": "data.root", "Data": True}
    config["Samples"] = [*signals, background, data]
    config["Regions"].append({"Name": "CR", "Variable": "pt", "Binning": [0, 30, 200],
                              "Filter": "mass < 60", "Flow": "fold"})  # fmt: skip
    config["Grid"] = {
        "Parameter": "mass",
        "Points": [
            {"Sample": name, "Value": value, "CrossSection": SIGMA[name]}
            for name, value in MASSES.items()
        ],
    }
    config["Labels"] = {"mass": "m [GeV]"}
    config["Network"] = {"Hidden": [16, 16]}
    training = config["Training"]
    for name in ("Steps", "Batch", "ValidateEvery"):
        del training[name]
    training |= {"PretrainSteps": 400, "PretrainBatch": 400, "PretrainRate": 0.01}


def fill_grid(folder: Path) -> Path:
    data = folder / "ntuples"
    data.mkdir()
    for name, mass in MASSES.items():
        columns = table("signal")
        columns["mass"] = (columns["mass"] - 125) * 0.6 + mass
        write_root(data / f"{name}.root", columns)
    columns = table("background")
    columns["mass"] = columns["mass"] - 5  # some are in the control region
    write_root(data / "background.root", columns)
    columns = {name: own[::2] for name, own in columns.items()}
    write_root(data / "data.root", columns)
    return folder


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> GridResult:
    folder = fill_grid(tmp_path_factory.mktemp("grid"))
    result = run(write_yaml(folder / "analysis.yaml", grid), folder / "out", progress=False)
    assert isinstance(result, GridResult)
    return result


def test_one_network_for_all_points(found: GridResult) -> None:
    nets = []
    for point, value in zip(found.points, MASSES.values(), strict=True):
        net = observable_of(point.out).net
        assert isinstance(net, Parametrised)
        assert net.theta.tolist() == [value]
        nets.append(jax.tree.leaves(net.net))
    for other in nets[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(nets[0], other, strict=True))


def test_each_signal_is_most_like_one_where_its_mass_is_told(found: GridResult) -> None:
    """The mean of the logarithm of the ratio of the densities: Gibbs' inequality."""
    loaded = load(found.config)
    seen = [observe(observable_of(point.out).net, loaded.test) for point in found.points]
    for k, name in enumerate(MASSES):
        told = [float(np.mean(own[k].nominal.x)) for own in seen]
        assert seen[0][k].name == name
        assert int(np.argmax(told)) == k
    for point, name in zip(found.points, MASSES, strict=True):
        assert [own.name for own in point.scores["difana"]["SR"]] == [name, "background"]


def test_the_table_is_that_of_the_points(found: GridResult) -> None:
    summary = json.loads((found.out / "result.json").read_text())
    assert summary == found.summary
    rows = summary["grid"]["points"]
    assert [row["value"] for row in rows] == [*MASSES.values()]
    for row, point in zip(rows, found.points, strict=True):
        own = json.loads((found.out / row["folder"] / "result.json").read_text())
        assert row["observed"] == own["limits"]["observed"]["limit"] > 0
        assert row["expected"] == own["limits"]["observed"]["expected_limits"]
        assert row["expected"] == sorted(row["expected"])
        assert row["error"] > 0
        assert row["status"] == "ok" == point.message
    assert found.ok, found.message


@pytest.mark.parametrize("place", [0, 1, 2])
def test_pyhf_finds_the_same_limits(place: int, found: GridResult) -> None:
    point = found.points[place]
    spec = json.loads((point.out / "workspace.json").read_text())
    names = {s["name"] for channel in spec["channels"] for s in channel["samples"]}
    assert names == {[*MASSES][place], "background"}
    workspace = pyhf.Workspace(spec)
    pdf = workspace.model()
    limit = found.summary["grid"]["points"][place]["observed"]
    pyhf.set_backend("numpy", pyhf.optimize.scipy_optimizer(tolerance=1e-14))
    try:
        _, expected = pyhf.infer.hypotest(limit, workspace.data(pdf), pdf, return_expected_set=True)
    finally:
        pyhf.set_backend("numpy")
    own = Inference(point.model, point.data).cls(limit)
    # CLs falls with at least the third power of the signal strength here: 1e-5 of the limits
    np.testing.assert_allclose(own.expected, np.ravel(expected), rtol=3e-5)


def test_the_report_and_the_terminal_show_the_grid(
    found: GridResult, capsys: pytest.CaptureFixture[str]
) -> None:
    text = analysis_report(found).read_text()
    for words in ("cross-section", "m [GeV]", "point_125/report.html", "excluded"):
        assert words in text
    assert (found.out / "plots" / "grid.png").is_file()
    assert all((point.out / "report.html").is_file() for point in found.points)
    _print(found)
    said = capsys.readouterr().out
    assert "s125" in said
    assert f"{found.summary['grid']['points'][1]['observed']:.3f}" in said
    submission = [*yaml.safe_load_all((found.out / "hepdata" / "submission.yaml").read_text())]
    assert [own["name"] for own in submission[1:]] == ["Limits on the grid"]


def test_apply_takes_a_point_and_the_grid_says_which(found: GridResult, tmp_path: Path) -> None:
    source = found.out.parent / "ntuples" / "s125.root"
    apply(found.points[1].out, source, tmp_path / "out.root", sample="s125")
    scores = read_events(tmp_path / "out.root", columns=["fill(difana_score, -99)"])
    assert np.ptp(np.asarray(scores.features)) > 0
    with pytest.raises(InputError, match=r"is a grid: give the folder of a point, .*point_125"):
        observable_of(found.out)
    with pytest.raises(ConfigError, match="Grid"):
        evaluate_from(found.points[0].out, found.config.path, tmp_path / "new", progress=False)


def test_the_same_run_again_trains_nothing(
    found: GridResult, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (found.out / "result.json").read_bytes()
    again = run(found.config.path, found.out)
    assert "nothing changed: continuing" in capsys.readouterr().err
    assert (again.out / "result.json").read_bytes() == before


def test_folds_and_another_value_train_again(found: GridResult) -> None:
    def edit(config: dict[str, Any]) -> None:
        grid(config)
        config["Grid"]["Points"][0]["Value"] = 101.0

    path = write_yaml(found.config.path.with_name("other.yaml"), edit)
    other, loaded = read_config(path), load(found.config)
    before, after = (stages_of(own, loaded) for own in (found.config, other))
    assert dict(before["classify"])["Grid"] != dict(after["classify"])["Grid"]


def test_folds(found: GridResult) -> None:
    def edit(config: dict[str, Any]) -> None:
        grid(config)
        config["General"]["Split"] = {"Folds": 2}
        config["Training"] |= {"PretrainSteps": 20}

    path = write_yaml(found.config.path.with_name("folds.yaml"), edit)
    crossed = run(path, found.out.with_name("folds"), progress=False)
    assert isinstance(crossed, GridResult)
    yields = [own.summary["samples"]["SR"]["background"]["yield"] for own in crossed.points]
    assert len(set(yields)) == 1
    assert (crossed.out / "point_100" / "fold_2" / "weights.eqx").is_file()


WRONG: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "unknown sample": (
        lambda c: c["Grid"]["Points"][0].update(Sample="s101"),
        "Grid: 's101' is none of the signals.",
    ),
    "a signal without value": (
        lambda c: c["Grid"]["Points"].pop(0),
        "the signal 's100' is none of the Points",
    ),
    "equal values": (
        lambda c: c["Grid"]["Points"][0].update(Value=125.0),
        "'s100' and 's125' have the same value 125",
    ),
    "a score": (lambda c: c["Training"].update(Start="score"), "Start: score does not go with"),
    "a descent": (lambda c: c["Training"].update(Steps=5), "Training.Steps: 5 does not go with"),
    "no value": (lambda c: c["Grid"]["Points"][0].pop("Value"), "missing key 'Value'"),
    "no cross-section": (
        lambda c: c["Grid"]["Points"][0].update(CrossSection=0),
        "CrossSection must be above 0",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_named(case: str, tmp_path: Path) -> None:
    change, message = WRONG[case]

    def edit(config: dict[str, Any]) -> None:
        grid(config)
        change(config)

    with pytest.raises(ConfigError) as caught:
        read_config(write_yaml(tmp_path / "analysis.yaml", edit))
    assert message in str(caught.value)
