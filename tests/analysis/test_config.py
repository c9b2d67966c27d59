"""Configurations: what is read, and what is refused with line and key."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from difana._errors import ConfigError
from difana.analysis import ConstraintOptions, config_schema, read_config
from difana.analysis.options import ACTIVATIONS
from difana.nn.activations import _BY_NAME

GOOD = """\
General:
  Measurement: search
  Tree: events
  Seed: 7
Features:
  mass: m_jj / 1000
  pt: pt_lead
Regions:
  - Name: SR
    Filter: m_jj > 60
  - Name: CR
    Variable: mass
    Binning: [0.1, 0.2, 0.3]
Samples:
  - Name: signal
    Files: s.root
    Signal: true
  - Name: background
    Files: [b1.root, "b2*.root"]
    Weight: w * 2
Systematics:
  - Name: scale
    Type: Transform
    Transform:
      mass: mass * (1 + 0.01 * alpha)
  - Name: slope
    Type: Weight
    Samples: background
    Up:
      Weight: w_up
    Down:
      Weight: w_down
  - Name: lumi
    Type: Normalization
    Up: {Normalization: 0.02}
    Symmetrize: true
NormFactors:
  - Name: mu
    Samples: signal
Network:
  Hidden: [16, 16]
Training:
  Rate: 1e-3
  Bandwidth: [0.5, 0.1]
"""


def refused(tmp_path: Path, text: str) -> str:
    path = tmp_path / "analysis.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    return str(caught.value).replace(str(path), "analysis.yaml")


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, f"'{old}' must stand once"
    return GOOD.replace(old, new)


def test_every_section_is_read(tmp_path: Path) -> None:
    path = tmp_path / "analysis.yaml"
    path.write_text(GOOD)
    config = read_config(path)
    assert config.general.measurement == "search"
    assert config.features == (("mass", "m_jj / 1000"), ("pt", "pt_lead"))
    assert [region.name for region in config.trained] == ["SR"]
    assert config.regions[1].binning == (0.1, 0.2, 0.3)
    assert config.samples[1].files == ("b1.root", "b2*.root")
    assert config.network.hidden == (16, 16)
    assert config.training.rate == 1e-3  # YAML 1.1 takes 1e-3 for text
    assert config.training.bandwidth == (0.5, 0.1)
    assert config.training.seed == config.general.seed == 7
    scale, slope, lumi = config.systematics
    assert scale.samples == ("signal", "background")
    assert scale.regions == ("SR", "CR")
    assert (slope.up.weight, slope.down.weight) == ("w_up", "w_down")
    assert lumi.up.normalization == 0.02
    assert lumi.down is None
    assert config.factors_of("signal", "SR") == ("mu",)
    assert config.factors_of("background", "SR") == ()
    assert config.echo["Samples"][0] == {"Name": "signal", "Files": "s.root", "Signal": True}


def test_a_factor_for_the_signal_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "analysis.yaml"
    path.write_text(changed("NormFactors:\n  - Name: mu\n    Samples: signal\n", ""))
    assert read_config(path).factors_of("signal", "SR") == ("mu",)


CONSTRAINED = (
    GOOD
    + """\
  Constraints:
    MinimumBackground: 10
    NuisanceWidth: 0.7
    Nuisances: [scale, lumi]
    Closure: 0.05
"""
)


def test_conditions_are_read(tmp_path: Path) -> None:
    path = tmp_path / "analysis.yaml"
    path.write_text(CONSTRAINED)
    wanted = ConstraintOptions(
        minimum_background=10.0, nuisance_width=0.7, nuisances=("scale", "lumi"), closure=0.05
    )
    assert read_config(path).training.constraints == wanted
    assert wanted.active
    assert not ConstraintOptions().active
    validator = jsonschema.Draft202012Validator(config_schema())
    own = yaml.safe_load(CONSTRAINED.replace("1e-3", "1.0e-3"))
    assert validator.is_valid(own), list(validator.iter_errors(own))
    own["Training"]["Constraints"]["NuisanceWidth"] = 1.2
    assert not validator.is_valid(own)


BAD_CONSTRAINTS = {
    "unknown condition": (
        "    Closure: 0.05",
        "    Closur: 0.05",
        [":49:", "'Closur' in Training.Constraints", "Did you mean 'Closure'?"],
    ),
    "width that narrows nothing": (
        "NuisanceWidth: 0.7",
        "NuisanceWidth: 1.2",
        [":47:", "must be below 1"],
    ),
    "no events": ("Background: 10", "Background: 0", [":46:", "must be above 0"]),
    "unknown nuisance": (
        "[scale, lumi]",
        "[scale, lumy]",
        [":48:", "refers to 'lumy'", "Did you mean 'lumi'?"],
    ),
    "nuisances of nothing": ("    NuisanceWidth: 0.7\n", "", [":47:", "no 'NuisanceWidth'"]),
    "nothing asked": (
        CONSTRAINED[CONSTRAINED.index("    MinimumBackground") :],
        "    {}\n",
        [":45:", "asks for nothing"],
    ),
    "no mapping": (
        CONSTRAINED[CONSTRAINED.index("    MinimumBackground") :],
        "    [10]\n",
        [":45:", "Training.Constraints must be a mapping"],
    ),
}


@pytest.mark.parametrize("case", BAD_CONSTRAINTS)
def test_bad_conditions_are_refused(tmp_path: Path, case: str) -> None:
    old, new, fragments = BAD_CONSTRAINTS[case]
    assert CONSTRAINED.count(old) == 1
    message = refused(tmp_path, CONSTRAINED.replace(old, new))
    for fragment in fragments:
        assert fragment in message, message


def test_conditions_on_widths_need_systematics(tmp_path: Path) -> None:
    start, end = GOOD.index("Systematics:"), GOOD.index("NormFactors:")
    text = GOOD[:start] + GOOD[end:] + "  Constraints: {NuisanceWidth: 0.7}\n"
    assert "no Systematics whose width" in refused(tmp_path, text)


def test_the_documentation_knows_every_key() -> None:
    page = Path(__file__).parents[2] / "docs" / "analysis_file.md"
    if not page.is_file():
        pytest.skip("docs are not in the checkout")
    text = page.read_text(encoding="utf-8")
    schema = config_schema()["properties"]
    for name, section in schema.items():
        own = section.get("items", section).get("properties", {})
        keys = [name, *own, *own.get("Constraints", {}).get("properties", {})]
        missing = [key for key in keys if f"`{key}`" not in text]
        assert not missing, (name, missing)


def test_the_whole_file_of_the_documentation_is_read(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "analysis_file.md"
    if not page.is_file():
        pytest.skip("docs are not in the checkout")
    text = page.read_text(encoding="utf-8").split("## A whole file")[1].split("```")[1]
    path = tmp_path / "analysis.yaml"
    path.write_text(text.removeprefix("yaml\n"))
    config = read_config(path)
    assert (config.trained[0].name, config.blinded) == ("SR", ("SR",))
    assert {entry.type for entry in config.systematics} == {
        "Transform", "Tree", "Files", "Weight", "Normalization"
    }  # fmt: skip


def test_what_pictures_say_is_read(tmp_path: Path) -> None:
    path = tmp_path / "analysis.yaml"
    own = "  Label: ATLAS Internal\n  Energy: 13.6 TeV\n  LuminosityLabel: 140 fb-1\n"
    labels = "Labels: {mass: '$m$ [GeV]', SR: signal region, scale: jet scale, mu: k}\n"
    path.write_text(changed("  Seed: 7\n", "  Seed: 7\n" + own) + labels)
    config = read_config(path)
    general = config.general
    assert (general.label, general.energy) == ("ATLAS Internal", "13.6 TeV")
    assert general.luminosity_label == "140 fb-1"
    assert dict(config.labels)["mass"] == "$m$ [GeV]"
    assert len(config.labels) == 4
    validator = jsonschema.Draft202012Validator(config_schema())
    read = yaml.safe_load(path.read_text().replace("1e-3", "1.0e-3"))
    assert validator.is_valid(read), list(validator.iter_errors(read))


BAD = {
    "label of nothing": (
        GOOD + "Labels: {mas: m}\n",
        [":45: Labels refers to 'mas', which does not exist. Did you mean 'mass'?"],
    ),
    "labels that are no texts": (GOOD + "Labels: {mass: 3}\n", [":45: Labels.mass must be text"]),
    "labels without names": (GOOD + "Labels: [mass]\n", [":45: Labels must map names to texts"]),
    "luminosity that is a number": (
        changed("  Seed: 7", "  LuminosityLabel: 140"),
        [":4: General.LuminosityLabel must be text", "quotes"],
    ),
    "unknown key": (
        changed("    Weight: w * 2", "    Wieght: w * 2"),
        ["analysis.yaml:20: unknown key 'Wieght' in Samples[1]. Did you mean 'Weight'?"],
    ),
    "unknown section": (
        changed("Regions:", "Region:"),
        ["analysis.yaml:8: unknown section 'Region'. Did you mean 'Regions'?", "missing section"],
    ),
    "unknown training key": (
        changed("  Rate: 1e-3", "  Ratte: 1e-3"),
        [":43: unknown key 'Ratte' in Training. Did you mean 'Rate'?"],
    ),
    "seed in training": (changed("  Rate: 1e-3", "  Seed: 3"), [":43:", "'Seed'", "General"]),
    "wrong type": (
        changed("  Bandwidth: [0.5, 0.1]", "  Bins: many"),
        [":44: Training.Bins must be a whole number, got 'many'"],
    ),
    "too few bins": (changed("  Rate: 1e-3", "  Bins: 1"), [":43:", "at least 2"]),
    "negative rate": (changed("Rate: 1e-3", "Rate: -1e-3"), [":43:", "above 0", "-0.001"]),
    "unknown objective": (
        changed("Rate: 1e-3", "Objective: expected_limits"),
        [":43:", "must be one of", "Did you mean 'expected_limit'?"],
    ),
    "unknown activation": (changed("Hidden: [16, 16]", "Activation: rellu"), [":41:", "'relu'?"]),
    "missing key": (
        changed("  - Name: signal\n    Files", "  - Files"),
        [":15: missing key 'Name' in Samples[0]"],
    ),
    "missing files": (changed("    Files: s.root\n", ""), [":15:", "'Files'", "'signal'"]),
    "duplicate name": (
        changed("  - Name: background", "  - Name: signal"),
        [":18: Samples has two entries 'signal', the first in line 15"],
    ),
    "duplicate key": (
        changed("    Weight: w * 2", "    Weight: w\n    Weight: w * 2"),
        [":21: key 'Weight' stands twice, first in line 20"],
    ),
    "unknown sample": (
        changed("    Samples: background", "    Samples: backgroundd"),
        [":26: systematic 'slope' refers to 'backgroundd'", "Did you mean 'background'?"],
    ),
    "unknown region": (
        changed("    Type: Weight", "    Type: Weight\n    Regions: [VR]"),
        [":26:", "'slope'", "'VR'", "does not exist", "SR"],
    ),
    "one side missing": (
        changed("    Down:\n      Weight: w_down\n", ""),
        [":26: systematic 'slope' has no side 'Down'", "Symmetrize: true"],
    ),
    "mirrored side missing": (
        changed("    Up: {Normalization: 0.02}\n", ""),
        [":33: systematic 'lumi' has no side 'Up'"],
    ),
    "wrong side": (
        changed("Up: {Normalization: 0.02}", "Up: {Weight: w}"),
        [":35:", "unknown key 'Weight' in Systematics[2].Up", "missing key 'Normalization'"],
    ),
    "unknown type": (changed("Type: Weight", "Type: Weighht"), [":27:", "Did you mean 'Weight'?"]),
    "normalisation to nothing": (
        changed("Normalization: 0.02", "Normalization: -1"),
        [":35:", "above -1"],
    ),
    "syntax error in a selection": (
        changed("Filter: m_jj > 60", "Filter: m_jj >> 60 (("),
        [":10: Regions[0].Filter is not valid", "syntax error"],
    ),
    "unknown function": (
        changed("Weight: w * 2", "Weight: sqr(w)"),
        [":20:", "no function 'sqr'", "'sqrt'"],
    ),
    "transform of no feature": (
        changed("      mass: mass *", "      mas: mass *"),
        [":22: systematic 'scale'", "no column 'mas'", "'mass'"],
    ),
    "transform that is no identity": (
        changed("(1 + 0.01 * alpha)", "(1.1 + 0.01 * alpha)"),
        [":22:", "'scale'", "alpha = 0"],
    ),
    "transform that a fixed region cannot follow": (
        changed("Variable: mass", "Variable: m_jj"),
        [":22:", "'scale'", "'m_jj'", "'CR'", "Regions: [...]"],
    ),
    "binning that falls": (
        changed("[0.1, 0.2, 0.3]", "[0.3, 0.2, 0.1]"),
        [":13: Regions[1].Binning", "increase"],
    ),
    "binning missing": (
        changed("    Binning: [0.1, 0.2, 0.3]\n", ""),
        [":11:", "'CR'", "no 'Binning'"],
    ),
    "no trained region": (
        changed("    Filter: m_jj > 60", "    Variable: pt\n    Binning: [0, 1]"),
        [":9:", "no region is trained"],
    ),
    "trained region without signal": (
        changed("    Variable: mass\n    Binning: [0.1, 0.2, 0.3]\n", "").replace(
            "    Samples: signal\n", "    Samples: signal\n    Regions: SR\n"
        ),
        [":11:", "'CR' is trained, and no signal is expected"],
    ),
    "bins of a fixed region": (
        changed("    Variable: mass", "    Bins: 4\n    Variable: mass"),
        [":11:", "'CR' has 'Bins'", "Binning"],
    ),
    "no signal": (
        changed("NormFactors:\n  - Name: mu\n    Samples: signal\n", "").replace(
            "    Signal: true\n", ""
        ),
        [":15:", "no sample is signal"],
    ),
    "no background": (
        changed("    Samples: signal\n", "    Samples: [signal, background]\n"),
        [":15:", "add a background"],
    ),
    "poi is no factor": (
        changed("  - Name: mu", "  - Name: muu"),
        ["POI 'mu' is none of the NormFactors. Did you mean 'muu'?"],
    ),
    "nominal outside bounds": (
        changed("    Samples: signal\n", "    Samples: signal\n    Bounds: [2, 3]\n"),
        [":38:", "'mu'", "Nominal", "Bounds"],
    ),
    "same parameter twice": (
        changed("  - Name: lumi\n", "  - Name: lumi\n    ModifierName: norm\n").replace(
            "NormFactors:",
            "  - Name: other\n    ModifierName: norm\n    Type: Normalization\n"
            "    Up: {Normalization: 0.1}\n    Symmetrize: true\nNormFactors:",
        ),
        ["'lumi'", "'other'", "'norm'"],
    ),
    "split that is none": (
        changed("  Seed: 7", "  Split: [0.5, 0.25]"),
        [":4:", "sum to 1"],
    ),
    "number for a name": (changed("Name: CR", "Name: 3"), [":11:", "put it in quotes"]),
    "nothing for a key": (changed("Weight: w * 2", "Weight:"), [":20:", "got nothing"]),
    "list for a section": (changed("Network:\n  Hidden: [16, 16]", "Network: [16]"), [":40:"]),
    "mapping for a list": (
        changed("  - Name: mu\n    Samples: signal", "  Name: mu"),
        [":37: NormFactors must be a list"],
    ),
    "data with a weight": (
        changed("    Weight: w * 2", "    Weight: w * 2\n    Data: true"),
        [":18:", "'background' is data", "'Weight'"],
    ),
    "not yaml": (
        changed("  Tree: events", "  Tree: [events"),
        ["analysis.yaml:", "not valid YAML"],
    ),
    "tab": (changed("  Tree: events", "\tTree: events"), ["analysis.yaml:3", "not valid YAML"]),
    "a list": ("- 1\n- 2\n", ["analysis.yaml:1:", "sections"]),
    "empty": ("", ["analysis.yaml is empty"]),
    "recursion": ("General: &a\n  POI: *a\n", ["analysis.yaml:2:", "contains itself"]),
}


@pytest.mark.parametrize("case", BAD)
def test_refused_with_line_and_key(tmp_path: Path, case: str) -> None:
    text, fragments = BAD[case]
    message = refused(tmp_path, text)
    for fragment in fragments:
        assert fragment in message, message


def test_all_problems_are_listed_together(tmp_path: Path) -> None:
    text = changed("Wei" + "ght: w * 2", "Wieght: w").replace("  Seed: 7", "  Sede: 7")
    message = refused(tmp_path, text)
    assert message.startswith("analysis.yaml has 2 problems:")
    assert message.index(":4:") < message.index(":20:")


def test_billion_laughs_end_early(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert "too large" in refused(tmp_path, "\n".join(lines))


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.yaml.*missing"):
        read_config(tmp_path / "no.yaml")
    with pytest.raises(ConfigError, match="a folder"):
        read_config(tmp_path)


def test_merge_keys_may_be_overridden(tmp_path: Path) -> None:
    text = changed(
        "  - Name: background\n    Files",
        "  - <<: {Name: x, Tree: t}\n    Name: background\n    Files",
    )
    path = tmp_path / "analysis.yaml"
    path.write_text(text)
    sample = read_config(path).samples[1]
    assert (sample.name, sample.tree) == ("background", "t")


def test_schema_takes_good_and_refuses_bad_configurations() -> None:
    schema = config_schema()
    json.dumps(schema, allow_nan=False)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    good = yaml.safe_load(GOOD.replace("1e-3", "1.0e-3"))
    assert validator.is_valid(good), list(validator.iter_errors(good))
    good["Samples"][1]["Wieght"] = "w"
    assert not validator.is_valid(good)


def test_choices_are_those_of_the_rooms() -> None:
    assert set(ACTIVATIONS) == set(_BY_NAME)
