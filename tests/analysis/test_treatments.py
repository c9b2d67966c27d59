"""Templates of real analyses from YAML: what each key makes of the events, in closed form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

from difana._errors import ConfigError
from difana.analysis import check, load, read_config, run
from difana.analysis.changes import changed
from difana.analysis.stages import stages_of
from difana.analysis.treatments import treatments_of
from difana.data import Normalisation, WeightVariation
from difana.infer import Inference
from difana.likelihood import Channel, from_workspace, smooth_templates, symmetric_templates

Config = dict[str, Any]
WriteConfig = Callable[..., Path]
BINNING = [60, 80, 100, 120, 140, 180, 900]


def with_region(config: Config) -> None:
    """Add a control region, without a systematic that moves events."""
    config["Regions"].append(
        {"Name": "CR", "Filter": "mass > 60", "Variable": "mass", "Binning": BINNING}
    )
    del config["Systematics"][0]


def edited(write: WriteConfig, edit: Callable[[Config], Any]) -> Path:
    def both(config: Config) -> None:
        with_region(config)
        edit(config)

    return write(both)


def slope(config: Config, **keys: Any) -> None:
    config["Systematics"][0].update(keys)


def columns(folder: Path, name: str = "background") -> dict[str, np.ndarray]:
    with uproot.open(folder / "ntuples" / f"{name}.root") as file:
        found = file["events"].arrays(library="np")
    kept = found["mass"] > 60
    return {key: values[kept] for key, values in found.items()}


def histogram(folder: Path, weight: str | np.ndarray, name: str = "background") -> np.ndarray:
    own = columns(folder, name)
    weights = own[weight] if isinstance(weight, str) else weight
    return np.histogram(own["mass"], BINNING, weights=weights)[0]


def modifiers(channel: Channel, sample: str = "background") -> dict[str, Any]:
    (template,) = [t for t in channel.templates if t.name == sample]
    return {m.name: m for m in template.modifiers}


def test_a_nominal_side_does_nothing(write_config: WriteConfig, folder: Path) -> None:
    loaded = load(read_config(edited(write_config, lambda c: slope(c, Down="nominal"))))
    own = modifiers(loaded.channels[0])["slope"]
    np.testing.assert_allclose(own.hi, histogram(folder, "weight_up"), rtol=1e-12)
    np.testing.assert_allclose(own.lo, histogram(folder, "weight"), rtol=1e-12)
    (variation,) = [v for v in loaded.train[1].variations if v.name == "slope"]
    np.testing.assert_array_equal(variation.down, loaded.train[1].nominal.weights)


def test_nominal_files(write_config: WriteConfig, folder: Path) -> None:
    def edit(config: Config) -> None:
        up = {"Files": "{Sample}_up.root"}
        entry = {"Name": "two", "Type": "Files", "Up": up, "Down": "nominal"}
        config["Systematics"].append(entry)

    path = edited(write_config, edit)
    check(path, progress=False)
    own = modifiers(load(read_config(path)).channels[0])["two"]
    np.testing.assert_allclose(own.hi, histogram(folder, "weight", "background_up"), rtol=1e-12)
    np.testing.assert_allclose(own.lo, histogram(folder, "weight"), rtol=1e-12)


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("region", {"SR": ("slope_SR",) * 2, "CR": ("slope_CR",) * 2}),
        ("sample", dict.fromkeys(("SR", "CR"), ("slope_signal", "slope_background"))),
        (
            ["sample", "region"],
            {r: (f"slope_{r}_signal", f"slope_{r}_background") for r in ("SR", "CR")},
        ),
    ],
)
def test_decorrelated_names(by: Any, names: dict[str, tuple], write_config: WriteConfig) -> None:
    both = {"Samples": ["signal", "background"]}
    config = read_config(edited(write_config, lambda c: slope(c, Decorrelate=by, **both)))
    loaded = load(config)
    for i, sample in enumerate(("signal", "background")):
        assert names["SR"][i] in {v.name for v in loaded.train[i].variations}
        own = modifiers(loaded.channels[0], sample)
        assert names["CR"][i] in own
        assert not {"slope", names["SR"][i]} & (set(own) - {names["CR"][i]})


def test_normalisation_only_and_shape_only(write_config: WriteConfig, folder: Path) -> None:
    """In the training as in the templates of all regions."""
    own = columns(folder)
    up, down = (own[f"weight_{side}"].sum() / own["weight"].sum() for side in ("up", "down"))
    loaded = load(read_config(edited(write_config, lambda c: slope(c, Keep="normalization"))))
    (variation,) = [v for v in loaded.train[1].variations if v.name == "slope"]
    assert isinstance(variation, Normalisation)
    np.testing.assert_allclose((variation.up, variation.down), (up, down), rtol=1e-9)
    found = modifiers(loaded.channels[0])["slope"]
    assert found.kind == "normsys"
    np.testing.assert_allclose((found.hi, found.lo), (up, down), rtol=1e-9)
    loaded = load(read_config(edited(write_config, lambda c: slope(c, Keep="shape"))))
    (variation,) = [v for v in loaded.train[1].variations if v.name == "slope"]
    assert isinstance(variation, WeightVariation)
    nominal = loaded.train[1].nominal.weights
    np.testing.assert_allclose(np.sum(variation.up), np.sum(nominal), rtol=1e-9)
    found = modifiers(loaded.channels[0])["slope"]
    np.testing.assert_allclose(found.hi, histogram(folder, own["weight_up"]) / up, rtol=1e-9)
    np.testing.assert_allclose(found.lo, histogram(folder, own["weight_down"]) / down, rtol=1e-9)


def test_parts_of_mirrored_files(write_config: WriteConfig, folder: Path) -> None:
    def edit(config: Config) -> None:
        up = {"Files": "{Sample}_up.root", "Weight": "1.2 * weight"}
        entry = {
            "Name": "two",
            "Type": "Files",
            "Up": up,
            "Symmetrize": True,
            "Keep": "normalization",
        }
        config["Systematics"].append(entry)

    loaded = load(read_config(edited(write_config, edit)))
    factor = (
        1.2 * columns(folder, "background_up")["weight"].sum() / columns(folder)["weight"].sum()
    )
    (variation,) = [v for v in loaded.test[1].variations if v.name == "two"]
    np.testing.assert_allclose((variation.up, variation.down), (factor, 2 - factor), rtol=1e-9)
    found = modifiers(loaded.channels[0])["two"]
    np.testing.assert_allclose((found.hi, found.lo), (factor, 2 - factor), rtol=1e-9)


def test_final_templates_are_smoothed_and_symmetric(
    write_config: WriteConfig, folder: Path
) -> None:
    keys = {"Smooth": "local", "Symmetrize": "average"}
    config = read_config(edited(write_config, lambda c: slope(c, **keys)))
    nominal = histogram(folder, "weight")
    errors = np.sqrt(histogram(folder, columns(folder)["weight"] ** 2))
    hi, lo = (
        smooth_templates(nominal, histogram(folder, f"weight_{side}"), errors=errors)
        for side in ("up", "down")
    )
    (wanted,) = symmetric_templates(nominal, hi, lo)
    found = modifiers(load(config).channels[0])["slope"]
    np.testing.assert_allclose(found.hi, wanted.up, rtol=1e-9)
    np.testing.assert_allclose(found.lo, wanted.down, rtol=1e-9)
    assert np.abs(found.hi / histogram(folder, "weight_up") - 1).max() > 1e-4


def test_luminosity(write_config: WriteConfig) -> None:
    def edit(config: Config) -> None:
        config["General"].update(Luminosity=2.0, LuminosityUncertainty=0.02)

    config = read_config(edited(write_config, edit))
    loaded = load(config)
    for i, sample in enumerate(("signal", "background")):
        (variation,) = [v for v in loaded.train[i].variations if v.name == "luminosity"]
        found = modifiers(loaded.channels[0], sample)["luminosity"]
        for own in (variation.up, found.hi):
            assert float(own) == pytest.approx(1.02)
        for own in (variation.down, found.lo):
            assert float(own) == pytest.approx(0.98)


def test_a_run_with_pruning_and_negative_bins(
    write_config: WriteConfig, folder: Path, stub: Callable[..., None]
) -> None:
    """The workspace has fewer parameters and the same limits; the notes say what was done."""

    def edit(config: Config) -> None:
        third = {"Name": "third", "Files": "background.root"}
        third["Weight"] = "0.1 * (weight if mass > 110 or mass < 85 else -0.5 * weight)"
        config["Samples"].append(third)
        config["Pruning"] = {"Shape": 0.02, "Normalization": 0.02}
        small = {"Name": "small", "Type": "Normalization", "Samples": "third"}
        config["Systematics"].append(
            small | {"Up": {"Normalization": 0.01}, "Down": {"Normalization": -0.01}}
        )
        slope(config, Decorrelate="region")

    stub([-3.0, -1.0, 0.0, 1.0, 100.0])
    result = run(edited(write_config, edit), folder / "out", progress=False)
    notes = " ".join(result.summary["notes"])
    assert "region 'CR', sample 'third': 1 negative bin (" in notes
    assert "region 'SR', sample 'third': " in notes
    assert "Pruning leaves out" in notes
    assert "'small' of 'third'" in notes
    names = {name for name, *_ in result.model.structure.sets}
    assert "small" not in names
    assert {"slope_SR", "slope_CR", "norm"} <= names
    model, _ = from_workspace(folder / "out" / "workspace.json")
    assert "small" not in {name for name, *_ in model.structure.sets}
    found = Inference(model).limits().expected
    np.testing.assert_allclose(found, result.trained.limits, rtol=2e-5)
    rows = np.asarray(model.rows(model.init))
    assert (rows >= 0).all()


def test_negative_bins_may_stay(write_config: WriteConfig, folder: Path) -> None:
    def edit(config: Config) -> None:
        config["General"]["NegativeBins"] = "keep"
        third = {"Name": "third", "Files": "background.root"}
        third["Weight"] = "0.1 * (weight if mass > 110 or mass < 85 else -0.5 * weight)"
        config["Samples"].append(third)

    loaded = load(read_config(edited(write_config, edit)))
    (template,) = [t for t in loaded.channels[0].templates if t.name == "third"]
    assert np.min(template.values) < 0
    assert not [note for note in loaded.notes if "negative" in note]


def test_free_factors_of_some_regions(write_config: WriteConfig) -> None:
    """Three factors make an ABCD: A with all, B and C with two, D with one."""

    def edit(config: Config) -> None:
        config["Regions"][1]["Name"] = "D"
        for name in ("B", "C"):
            config["Regions"].append({**config["Regions"][1], "Name": name})
        config["NormFactors"] = [
            {"Name": "mu", "Samples": "signal"},
            {"Name": "all", "Samples": "background"},
            {"Name": "b", "Samples": "background", "Regions": ["SR", "B"]},
            {"Name": "c", "Samples": "background", "Regions": ["SR", "C"]},
        ]

    loaded = load(read_config(edited(write_config, edit)))
    assert loaded.train[1].normfactors == ("all", "b", "c")
    own = {c.name: c.templates[1].normfactors for c in loaded.channels}
    assert own == {"D": ("all",), "B": ("all", "b"), "C": ("all", "c")}
    assert loaded.channels[0].templates[0].normfactors == ("mu",)


def from_data(config: Config) -> None:
    """A background of observed events with |eta| > 1, weighted by a transfer factor."""
    config["General"].update(Luminosity=0.5, LuminosityUncertainty=0.02)
    filters = {"SR": "mass > 60 and abs(eta) > 1", "CR": "mass > 60 and abs(eta) > 1"}
    fakes = {"Name": "fakes", "Files": "background_up.root", "FromData": True}
    fakes |= {"RegionFilters": filters, "Weight": "0.5 + 0.001 * pt", "Subtract": "background"}
    config["Samples"].append(fakes)
    config["Systematics"].append(
        {
            "Name": "rate",
            "Type": "Weight",
            "Samples": "fakes",
            "Up": {"Weight": "0.6 + 0.001 * pt"},
            "Down": {"Weight": "0.4 + 0.001 * pt"},
        }
    )


def test_a_background_from_data(write_config: WriteConfig, folder: Path) -> None:
    path = edited(write_config, from_data)
    assert check(path, progress=False).notes == ()
    loaded = load(read_config(path))
    seen, other = columns(folder, "background_up"), columns(folder)
    seen, other = (
        {key: values[np.abs(own["eta"]) > 1] for key, values in own.items()}
        for own in (seen, other)
    )

    def wanted(offset: float) -> np.ndarray:
        factors = [offset + 0.001 * own["pt"] for own in (seen, other)]
        data = np.histogram(seen["mass"], BINNING, weights=factors[0])[0]
        weights = 0.5 * other["weight"] * factors[1]
        return data - np.histogram(other["mass"], BINNING, weights=weights)[0]

    control = loaded.channels[0]
    (template,) = [t for t in control.templates if t.name == "fakes"]
    np.testing.assert_allclose(template.values, wanted(0.5), rtol=1e-6)
    own = modifiers(control, "fakes")
    np.testing.assert_allclose(own["rate"].hi, wanted(0.6), rtol=1e-6)
    np.testing.assert_allclose(own["rate"].lo, wanted(0.4), rtol=1e-6)
    assert set(own) == {"rate", "staterror_CR"}  # no luminosity, and of all others none
    fakes = loaded.test[2]
    assert float(fakes.nominal.total()) == pytest.approx(wanted(0.5).sum(), rel=1e-6)
    assert (np.asarray(fakes.nominal.weights) < 0).any()
    assert [v.name for v in fakes.variations] == ["rate"]


REFUSED: dict[str, tuple[Callable[[Config], Any], str]] = {
    "part of a factor": (lambda c: c["Systematics"][1].update(Keep="shape"), "has no shape"),
    "smooth factor": (lambda c: c["Systematics"][1].update(Smooth="local"), "has no shape"),
    "method": (lambda c: slope(c, Smooth="loess"), "must be one of 'local', '353QH'"),
    "symmetry": (lambda c: slope(c, Symmetrize="avg"), "must be true, false or one of average"),
    "index": (lambda c: slope(c, Decorrelate="regions"), "Did you mean 'region'"),
    "both nominal": (lambda c: slope(c, Up="nominal", Down="nominal"), "both sides are nominal"),
    "side": (lambda c: slope(c, Down="nominl"), "Down .*must be a mapping"),
    "region of a factor": (
        lambda c: c.update(NormFactors=[{"Name": "mu", "Samples": "signal", "Regions": "SRR"}]),
        "refers to 'SRR'.*Did you mean 'SR'",
    ),
    "poi elsewhere": (
        lambda c: c.update(NormFactors=[{"Name": "mu", "Samples": "signal", "Regions": "CR"}]),
        "POI 'mu' does not act in a trained region",
    ),
    "threshold": (lambda c: c.update(Pruning={"Shape": -0.1}), "must be at least 0"),
    "name taken": (
        lambda c: (
            c["General"].update(LuminosityUncertainty=0.1),
            slope(c, Name="luminosity", Keep="normalization"),
            c["Systematics"][1].update(ModifierName="luminosity"),
        ),
        "both change sample 'background'",
    ),
    "data of the region itself": (
        lambda c: (from_data(c), c["Samples"][2]["RegionFilters"].pop("CR")),
        r"say of which, by RegionFilters: \{CR: ...\}",
    ),
    "subtract": (
        lambda c: (from_data(c), c["Samples"][2].update(Subtract="backgroundd")),
        "Subtract of sample 'fakes' refers to 'backgroundd'.*Did you mean 'background'",
    ),
    "subtract from simulation": (
        lambda c: (from_data(c), c["Samples"][2].update(FromData=False)),
        "has 'Subtract' but no 'FromData: true'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, write_config: WriteConfig) -> None:
    edit, words = REFUSED[case]
    with pytest.raises(ConfigError, match=f"(?s){words}"):
        read_config(edited(write_config, edit))


def test_a_transform_has_no_normalisation(write_config: WriteConfig) -> None:
    path = write_config(lambda c: c["Systematics"][0].update(Keep="normalization"))
    with pytest.raises(ConfigError, match="does not change the yield"):
        read_config(path)


def test_what_a_change_repeats(write_config: WriteConfig) -> None:
    """Smoothing of the trained region trains nothing; parts, and formulas by any name, do."""

    def stages(**keys: Any) -> dict[str, Any]:
        config = read_config(edited(write_config, lambda c: slope(c, Regions="SR", **keys)))
        return stages_of(config, load(config))

    before = stages()
    said = changed(before, stages(Smooth="local"))
    assert said == "the treatment of templates changed: evaluating again"
    assert changed(before, stages(Keep="shape")).startswith("systematic 'slope' changed: training")
    assert changed(before, stages(Decorrelate="region")) == "a name changed: evaluating again"

    def scaled(size: float) -> dict[str, Any]:
        mass = {"mass": f"mass * (1 + {size} * alpha)"}
        path = write_config(lambda c: slope(c, Decorrelate="sample", Transform=mass))
        return stages_of(config := read_config(path), load(config))

    assert changed(scaled(0.05), scaled(0.06)).endswith("changed: training again")


def test_nothing_asked_nothing_done(write_config: WriteConfig) -> None:
    treated = treatments_of(read_config(write_config(with_region)))
    assert (treated.smoothing, treated.symmetry, treated.parts) == ((), (), ())
    assert treated.clip
    assert not treated.prunes
