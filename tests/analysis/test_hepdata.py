"""HEPData submissions: against the official validator, and read back."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import yaml

from difana._errors import InputError
from difana.analysis import Table, Uncertainty, Variable, hepdata_tables, write_hepdata
from difana.analysis.publish import _yields
from difana.analysis.result import RegionYields

# the validator does not close its files
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

MASS = Variable("mass", [0.0, 100.0, 250.0, 400.0], "GeV")
NAMES = Variable("selection", ["loose", "medium", "tight"])
YIELDS = Variable(
    "events",
    np.array([120.0, 7.123456789, np.nan]),
    uncertainties=(
        Uncertainty("stat", [11.0, 2.6, 1.0]),
        Uncertainty("sys", [5.0, 1.0, 1.0], [-4.0, -0.5, -1.0]),
    ),
    qualifiers=(("Region", "SR"), ("Luminosity", 139.0)),
)
KEYWORDS = {"cmenergies": [13000.0], "observables": ["N"]}
TABLE = Table("Yields in SR", "Events in bins of mass.", (MASS,), (YIELDS,), "Figure 2", KEYWORDS)


@pytest.fixture
def submission(tmp_path):
    extra = tmp_path / "workspace.json"
    extra.write_text("{}")
    other = Table("Cuts", "Events by selection.", (NAMES,), (YIELDS, YIELDS))
    resources = {extra: "likelihood"}
    return write_hepdata(
        tmp_path / "out", [TABLE, other], comment="Two tables.", resources=resources
    )


def complaints(folder) -> str:
    validator = pytest.importorskip("hepdata_validator.full_submission_validator")
    found = validator.FullSubmissionValidator(schema_version="1.1.1")
    fine = found.validate(directory=str(folder))
    messages = [m.message for own in found.get_messages().values() for m in own]
    gc.collect()  # the validator leaves files open
    return "" if fine and not messages else str(messages or "invalid")


def test_the_official_validator_is_content(submission):
    assert complaints(submission.parent) == ""


def test_the_validator_would_complain(submission):
    """The check above is worth something: a broken table is found."""
    file = submission.parent / "cuts.yaml"
    content = yaml.safe_load(file.read_text())
    content["dependent_variables"][0]["values"].pop()
    file.write_text(yaml.safe_dump(content))
    assert "length" in complaints(submission.parent)


def test_what_is_in_the_files(submission):
    head, first, second = yaml.safe_load_all(submission.read_text())
    assert head["comment"] == "Two tables."
    assert head["additional_resources"][0]["location"] == "workspace.json"
    assert (submission.parent / "workspace.json").read_text() == "{}"
    assert first["data_file"] == "yields_in_sr.yaml"
    assert first["location"] == "Figure 2"
    assert {"name": "cmenergies", "values": [13000.0]} in first["keywords"]
    content = yaml.safe_load((submission.parent / "yields_in_sr.yaml").read_text())
    (mass,), (events,) = content["independent_variables"], content["dependent_variables"]
    assert mass["header"] == {"name": "mass", "units": "GeV"}
    assert mass["values"][1] == {"low": 100.0, "high": 250.0}
    assert events["qualifiers"][1] == {"name": "Luminosity", "value": 139.0}
    assert events["values"][0] == {
        "value": 120.0,
        "errors": [
            {"symerror": 11.0, "label": "stat"},
            {"asymerror": {"minus": -4.0, "plus": 5.0}, "label": "sys"},
        ],
    }
    assert events["values"][1]["value"] == 7.12346  # six digits
    assert events["values"][2] == {"value": "-"}  # no number, and no error of one
    assert second["data_file"] == "cuts.yaml"


def test_an_analysis_is_published(finished):
    folder = finished.out / "hepdata"
    assert complaints(folder) == ""
    tables = {table.name: table for table in hepdata_tables(finished)}
    assert {"Yields prefit SR", "Yields postfit CR", "Limits", "CLs scan"} < set(tables)
    limits = yaml.safe_load((folder / "limits.yaml").read_text())
    names = [entry["value"] for entry in limits["independent_variables"][0]["values"]]
    row = limits["dependent_variables"][0]["values"][names.index("difana")]
    band = finished.trained.limits
    assert row["value"] == pytest.approx(band[2], rel=1e-5)
    one, two = (error["asymerror"] for error in row["errors"])
    assert row["value"] + one["plus"] == pytest.approx(band[3], rel=1e-4)
    assert row["value"] + two["minus"] == pytest.approx(band[0], rel=1e-4)
    after = yaml.safe_load((folder / "yields_postfit_sr.yaml").read_text())
    total = next(v for v in after["dependent_variables"] if v["header"]["name"] == "total")
    region = next(r for r in finished.regions if r.name == "SR")
    assert [v["value"] for v in total["values"]] == pytest.approx(
        np.sum(list(region.postfit.values()), axis=0), rel=1e-5
    )
    errors = [v["errors"][0]["symerror"] for v in total["values"]]
    assert errors == pytest.approx(region.postfit_errors, rel=1e-5)


def test_yields_before_and_after_the_fit():
    region = RegionYields(
        "SR",
        "score",
        np.array([0.0, 1.0]),
        prefit={"s": np.array([0.0]), "b": np.array([9.0])},
        postfit={"s": np.array([2.0]), "b": np.array([8.0])},
        prefit_errors=np.array([3.0]),
        postfit_errors=np.array([1.5]),
        signal={"s": np.array([4.0])},
        data=np.array([10.0]),
        observed=True,
    )
    for when, total, error in (("prefit", 9.0, 3.0), ("postfit", 10.0, 1.5)):
        columns = {column.name: column for column in _yields(region, when).dependent}
        assert ("s" in columns) == (when == "postfit")
        assert list(columns["total"].values) == [total]
        assert list(columns["total"].uncertainties[0].up) == [error]
        assert list(columns["s at unit strength"].values) == [4.0]
        assert list(columns["data"].values) == [10.0]


def test_wrong_tables_are_refused(tmp_path):
    short = Variable("events", [1.0, 2.0])
    with pytest.raises(InputError, match="'mass': 4 values for 2 rows"):
        write_hepdata(tmp_path, [Table("T", "", (MASS,), (short,))], comment="")
    with pytest.raises(InputError, match="'events': 2 values for 3 rows"):
        write_hepdata(tmp_path, [Table("T", "", (MASS,), (YIELDS, short))], comment="")
    with pytest.raises(InputError, match="no dependent"):
        write_hepdata(tmp_path, [Table("T", "", (MASS,), ())], comment="")
    one = Table("T", "", (MASS,), (YIELDS,))
    with pytest.raises(InputError, match="two tables would be written"):
        write_hepdata(tmp_path, [one, one], comment="")
    with pytest.raises(InputError, match="64 characters"):
        write_hepdata(tmp_path, [Table("T" * 65, "", (MASS,), (YIELDS,))], comment="")
    assert not (tmp_path / "submission.yaml").exists()
