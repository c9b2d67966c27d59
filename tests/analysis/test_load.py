"""From configuration to samples: yields, parts, variations of every kind, fixed regions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

from difana._errors import InputError
from difana.analysis import load, read_config
from difana.data import Normalisation, ShiftedEvents, Transformation, WeightVariation
from difana.likelihood import build_model

Config = dict[str, Any]
FILES = {
    "Name": "resolution",
    "Type": "Files",
    "Up": {"Files": "{Sample}_up.root"},
    "Down": {"Files": "{Sample}_down.root"},
}


def total(weights: Any) -> float:
    return float(np.sum(np.asarray(weights, np.float64)))


def branches(folder: Path, name: str) -> dict[str, np.ndarray]:
    with uproot.open(folder / "ntuples" / f"{name}.root") as file:
        return file["events"].arrays(library="np")


def shapes(channel: Any, sample: str) -> dict[str, Any]:
    (template,) = (t for t in channel.templates if t.name == sample)
    return {m.name: m for m in template.modifiers}


def test_every_part_has_the_full_yield(folder: Path, write_config: Callable[..., Path]) -> None:
    loaded = load(read_config(write_config(lambda c: c["Systematics"].append(FILES))))
    selected = branches(folder, "signal")
    expected = selected["weight"][selected["mass"] > 60].sum()
    counts = []
    for part in (loaded.train, loaded.validation, loaded.test):
        signal, background = part
        assert (signal.name, signal.normfactors) == ("signal", ("mu",))
        assert (background.name, background.normfactors) == ("background", ())
        assert total(signal.nominal.weights) == pytest.approx(expected, rel=1e-6)
        assert total(background.nominal.weights) == pytest.approx(600, rel=1e-6)
        counts.append(len(background.nominal))
        kinds = {v.name: type(v) for v in background.variations}
        assert kinds == {
            "scale": Transformation,
            "resolution": ShiftedEvents,
            "slope": WeightVariation,
            "norm": Normalisation,
        }
        assert [v.name for v in signal.variations] == ["scale", "resolution"]
    assert sum(counts) == 800
    assert counts[0] == pytest.approx(400, abs=60)


def test_parts_follow_the_identifier(folder: Path, write_config: Callable[..., Path]) -> None:
    loaded = load(read_config(write_config(lambda c: c["Systematics"].append(FILES))))
    for part in (loaded.train, loaded.test):
        background = part[1]
        (shifted,) = (v for v in background.variations if isinstance(v, ShiftedEvents))
        # the same simulated events, with masses shifted by 2 %
        np.testing.assert_allclose(
            shifted.up["mass"], 1.02 * np.asarray(background.nominal["mass"]), rtol=1e-5
        )


def test_luminosity_scales_simulation(folder: Path, write_config: Callable[..., Path]) -> None:
    once = load(read_config(write_config()))
    twice = load(read_config(write_config(lambda c: c["General"].update(Luminosity=2))))
    for a, b in zip(once.test, twice.test, strict=True):
        np.testing.assert_allclose(2 * a.nominal.weights, b.nominal.weights, rtol=1e-6)
    weights = [
        next(v for v in part.test[1].variations if isinstance(v, WeightVariation))
        for part in (once, twice)
    ]
    np.testing.assert_allclose(2 * weights[0].up, weights[1].up, rtol=1e-6)


def test_mirrored_sides(folder: Path, write_config: Callable[..., Path]) -> None:
    def edit(config: Config) -> None:
        for entry in config["Systematics"][1:]:
            del entry["Down"]
            entry["Symmetrize"] = True
        one = {key: value for key, value in FILES.items() if key != "Down"}
        config["Systematics"].append(one | {"Symmetrize": True})
        config["Regions"].append({"Name": "CR", "Variable": "pt", "Binning": [0, 40, 1e4]})
        config["Systematics"][0]["Regions"] = ["SR"]

    loaded = load(read_config(write_config(edit)))
    for part in (loaded.train, loaded.validation, loaded.test):
        background = part[1]
        by_name = {v.name: v for v in background.variations}
        nominal = total(background.nominal.weights)
        weights = by_name["slope"]
        np.testing.assert_allclose(weights.down.sum(), 2 * nominal - total(weights.up), rtol=1e-6)
        files = by_name["resolution"]
        down = 2 * nominal - total(files.up.weights)
        assert total(files.down.weights) == pytest.approx(down, rel=1e-6)
        assert (float(by_name["norm"].up), float(by_name["norm"].down)) == (1.1, 0.9)
    (channel,) = loaded.channels
    found = shapes(channel, "background")
    nominal = np.asarray(channel.templates[1].values)
    for name in ("slope", "resolution"):
        np.testing.assert_allclose(found[name].lo, 2 * nominal - found[name].hi, rtol=1e-9)


def test_fixed_region_against_numpy(folder: Path, write_config: Callable[..., Path]) -> None:
    def edit(config: Config) -> None:
        config["Features"] = {"mass": "mass", "pt": "pt", "eta": "eta", "ratio": "mass / pt"}
        config["Regions"].append(
            {
                "Name": "CR",
                "Variable": "2 * mass",
                "Binning": [120, 200, 400],
                "Filter": "abs(eta) < 1",
            }
        )
        config["Systematics"].append(FILES)

    loaded = load(read_config(write_config(edit)))
    (channel,) = loaded.channels
    assert channel.name == "CR"
    raw = branches(folder, "background")
    inside = np.abs(raw["eta"]) < 1

    def histogram(mass: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return np.histogram(2 * mass, [120, 200, 400], weights=weights)[0]

    mass, weight = raw["mass"][inside], raw["weight"][inside]
    background = channel.templates[1]
    np.testing.assert_allclose(background.values, histogram(mass, weight))
    found = shapes(channel, "background")
    np.testing.assert_allclose(found["scale"].hi, histogram(1.05 * mass, weight))
    np.testing.assert_allclose(found["scale"].lo, histogram(0.95 * mass, weight))
    np.testing.assert_allclose(found["slope"].hi, histogram(mass, raw["weight_up"][inside]))
    shifted = branches(folder, "background_up")
    np.testing.assert_allclose(found["resolution"].hi, histogram(shifted["mass"][inside], weight))
    assert (found["norm"].hi, found["norm"].lo) == (1.1, 0.9)
    np.testing.assert_allclose(
        found["staterror_CR"].uncertainty, np.sqrt(histogram(mass, weight**2))
    )
    assert "mu" in shapes(channel, "signal")
    build_model(loaded.channels, parameters=loaded.parameters)


def test_flow_of_a_fixed_region(folder: Path, write_config: Callable[..., Path]) -> None:
    def edit(flow: str) -> Callable[[Config], None]:
        def change(config: Config) -> None:
            region = {"Name": "CR", "Variable": "pt", "Binning": [20, 40, 60], "Flow": flow}
            config["Regions"].append(region)
            config["Systematics"][0]["Regions"] = ["SR"]

        return change

    sums = {
        flow: load(read_config(write_config(edit(flow)))).channels[0].templates[1].values.sum()
        for flow in ("drop", "fold")
    }
    raw = branches(folder, "background")
    assert sums["fold"] == pytest.approx(raw["weight"].sum())
    kept = (raw["pt"] >= 20) & (raw["pt"] <= 60)
    assert sums["drop"] == pytest.approx(raw["weight"][kept].sum())


def test_regions_of_samples_and_systematics(
    folder: Path, write_config: Callable[..., Path]
) -> None:
    def edit(config: Config) -> None:
        config["Regions"].append({"Name": "CR", "Variable": "pt", "Binning": [0, 40, 1e4]})
        config["Samples"][0]["Regions"] = ["SR"]
        config["Systematics"][0]["Regions"] = ["SR"]
        config["Systematics"][1]["Regions"] = ["CR"]

    loaded = load(read_config(write_config(edit)))
    (channel,) = loaded.channels
    assert [t.name for t in channel.templates] == ["background"]
    assert set(shapes(channel, "background")) == {"slope", "norm", "staterror_CR"}
    assert [v.name for v in loaded.test[1].variations] == ["scale", "norm"]


def test_data_are_counted_once_and_unweighted(
    folder: Path, write_config: Callable[..., Path]
) -> None:
    def edit(config: Config) -> None:
        config["Regions"].append({"Name": "CR", "Variable": "pt", "Binning": [0, 40, 1e4]})
        config["Systematics"][0]["Regions"] = ["SR"]
        config["Samples"].append({"Name": "data", "Files": "background.root", "Data": True})
        config["General"]["Luminosity"] = 5

    loaded = load(read_config(write_config(edit)))
    assert len(loaded.observed) == 800
    assert total(loaded.observed.weights) == 800
    raw = branches(folder, "background")
    low = int((raw["pt"] < 40).sum())
    assert loaded.observed_yields == {"CR": (low, 800 - low)}
    assert [s.name for s in loaded.test] == ["signal", "background"]


def test_filters_of_region_and_sample_both_apply(
    folder: Path, write_config: Callable[..., Path]
) -> None:
    def edit(config: Config) -> None:
        config["Regions"][0]["Filter"] = "mass > 80"
        config["Samples"][1]["Filter"] = "eta > 0 or pt > 50"

    loaded = load(read_config(write_config(edit)))
    raw = branches(folder, "background")
    kept = (raw["mass"] > 80) & ((raw["eta"] > 0) | (raw["pt"] > 50))
    parts = (loaded.train, loaded.validation, loaded.test)
    assert sum(len(part[1].nominal) for part in parts) == kept.sum()


def test_templates_of_paths_and_notes(folder: Path, write_config: Callable[..., Path]) -> None:
    def edit(config: Config) -> None:
        config["General"]["InputPath"] = "ntuples/{Sample}.root"
        for sample in config["Samples"]:
            del sample["Files"]

    loaded = load(read_config(write_config(edit)))
    assert [s.name for s in loaded.test] == ["signal", "background"]
    assert any("'scale'" in note and "['mass']" in note for note in loaded.notes)


def test_a_file_named_twice_counts_once_and_is_noted(
    folder: Path, write_config: Callable[..., Path]
) -> None:
    def twice(config: Config) -> None:
        for sample in config["Samples"]:
            if sample["Name"] == "signal":
                sample["Files"] = ["signal.root", "sig*l.root"]

    once, both = (load(read_config(write_config(change))) for change in (lambda _: None, twice))
    for part, other in zip(once.train, both.train, strict=True):
        np.testing.assert_array_equal(part.nominal.features, other.nominal.features)
    assert not [note for note in once.notes if "twice" in note]
    assert len([note for note in both.notes if "signal.root' is named twice" in note]) == 1


def add_rare(config):
    """Add a process of which no event is in the trained region, and data."""
    config["Samples"] += [
        {"Name": "rare", "Files": "background.root", "Weight": "weight", "Filter": "mass > 5000"},
        {"Name": "data", "Files": "background.root", "Data": True},
    ]
    config["Systematics"][2]["Samples"] = ["background", "rare"]
    config["NormFactors"] = [
        {"Name": "mu", "Samples": "signal"},
        {"Name": "k", "Samples": "rare", "Bounds": [0, 5]},
    ]


def test_a_sample_without_events_is_an_empty_template(write_config, folder):
    def edit(config):
        add_rare(config)
        config["Regions"].append({"Name": "CR", "Variable": "pt", "Binning": [0, 40, 900]})
        config["Systematics"][0]["Regions"] = ["SR"]

    loaded = load(read_config(write_config(edit)))
    assert [sample.name for sample in loaded.train] == ["signal", "background"]
    assert [sample.name for sample in loaded.empty] == ["rare"]
    (channel,) = loaded.channels
    rare = next(t for t in channel.templates if t.name == "rare")
    assert np.asarray(rare.values).tolist() == [0.0, 0.0]
    assert [p.name for p in loaded.parameters] == ["mu"]
    said = " ".join(loaded.notes)
    assert "'rare' in region 'SR': selection '(mass > 60) and (mass > 5000)' keeps none" in said
    assert "'rare' in region 'CR'" in said
    assert "its template is empty" in said


def test_no_observed_event_is_a_result(write_config, folder):
    def edit(config):
        config["Samples"].append(
            {"Name": "data", "Files": "background.root", "Data": True, "Filter": "mass > 5000"}
        )
        config["Regions"].append({"Name": "CR", "Variable": "mass", "Binning": [60, 120, 900]})

    loaded = load(read_config(write_config(edit)))
    assert len(loaded.observed) == 0
    assert loaded.observed_yields == {"CR": (0.0, 0.0)}
    said = " ".join(loaded.notes)
    assert "'data' in region 'SR'" in said
    assert "no event is observed" in said
    assert "observed yields are zero" in said


@pytest.mark.parametrize("name", ["signal", "background"])
def test_without_signal_or_background_there_is_no_analysis(write_config, name):
    def edit(config):
        entry = next(entry for entry in config["Samples"] if entry["Name"] == name)
        entry["Filter"] = "mass > 5000"

    with pytest.raises(InputError, match=f"'{name}'.*keeps none of the 800 events"):
        load(read_config(write_config(edit)))


def test_events_outside_the_binning_are_said(write_config, folder):
    def edit(config, flow="drop"):
        region = {"Name": "CR", "Variable": "pt", "Binning": [10, 40, 80], "Flow": flow}
        config["Regions"].append(region)
        config["Systematics"][0]["Regions"] = ["SR"]

    config = read_config(write_config(edit))
    loaded = load(config)
    with uproot.open(folder / "ntuples" / "background.root") as file:
        pt = file["events"]["pt"].array(library="np")
    lost = (pt < 10) | (pt > 80)
    (said,) = (note for note in loaded.notes if "sample 'background' in region 'CR'" in note)
    assert f"{lost.sum()} of 800 events, {100 * lost.mean():.3g} % of its yield" in said
    assert "outside the Binning (10 to 80) and are dropped ('Flow: fold'" in said
    folded = load(read_config(write_config(lambda c: edit(c, "fold"))))
    assert not [note for note in folded.notes if "outside" in note]
    kept = np.asarray(loaded.channels[0].templates[1].values).sum()
    assert kept == pytest.approx(600 * (1 - lost.mean()))


@pytest.mark.parametrize("luminosity", [1.7e308, 1e200])
def test_weights_that_overflow(write_config, luminosity):
    path = write_config(lambda config: config["General"].update(Luminosity=luminosity))
    with pytest.raises(InputError, match=r"'signal'.*squared weights is not finite \(Luminosity"):
        load(read_config(path))
