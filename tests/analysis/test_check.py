"""`difana run --check`: all that is wrong with the files at once, in seconds, before any work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from click.testing import CliRunner

from difana._errors import ConfigError
from difana.analysis import check
from difana.cli import main

Config = dict[str, Any]
WriteConfig = Callable[..., Path]


def everything(config: Config) -> None:
    """Add a fixed region with an expression, and systematics of all kinds."""
    config["Features"] = {"mass": "mass", "pt": "pt", "boost": "pt / mass"}
    config["Regions"].append(
        {"Name": "CR", "Filter": "mass < 600", "Variable": "mass", "Binning": [60, 100, 600]}
    )
    sides = {side: {"Files": f"{{Sample}}_{side.lower()}.root"} for side in ("Up", "Down")}
    config["Systematics"].append({"Name": "resolution", "Type": "Files", **sides})


def line_of(path: Path, text: str) -> int:
    lines = path.read_text().splitlines()
    (found,) = [i for i, line in enumerate(lines, 1) if text in line]
    return found


def problems(path: Path) -> dict[int, str]:
    """Return what is wrong by line."""
    with pytest.raises(ConfigError) as caught:
        check(path, progress=False)
    prefix = f"{path}:"
    found: dict[int, str] = {}
    for line in str(caught.value).splitlines():
        place, _, text = line.strip().removeprefix(prefix).partition(": ")
        if line.strip().startswith(prefix):
            found[int(place)] = found.get(int(place), "") + text
    return found


def test_a_sound_analysis(write_config: WriteConfig) -> None:
    path = write_config(everything)
    found = check(path, progress=False)
    assert {name: len(own) for name, own in found.entries.items()} == {"signal": 3, "background": 3}
    assert set(found.entries["signal"].values()) == {800}
    assert found.notes == ()
    assert "2 samples, 2 regions, 4 systematics, 6 files" in str(found)


BROKEN: dict[str, tuple[Callable[[Config], None], str, list[str]]] = {
    "feature": (
        lambda c: c["Features"].update(boost="pt / masss"),
        "boost: ",
        ["no branch 'masss'", "signal.root'", "Did you mean 'mass'?", "more files"],
    ),
    "not finite": (lambda c: c["Features"].update(boost="log(-pt)"), "boost: ", ["not finite"]),
    "filter": (
        lambda c: c["Regions"][0].update(Filter="mas > 61"),
        "mas > 61",
        ["no branch 'mas'", "Did you mean 'mass'?"],
    ),
    "filter of numbers": (
        lambda c: c["Samples"][0].update(Filter="pt * 2"),
        "pt * 2",
        ["not true or false", "compare it"],
    ),
    "weight": (
        lambda c: c["Samples"][1].update(Weight="weightt"),
        "Weight: weightt",
        ["no branch 'weightt'", "background.root'", "Did you mean 'weight'?"],
    ),
    "tree": (lambda c: c["General"].update(Tree="eventz"), "Tree: ", ["no tree 'eventz'"]),
    "tree of a sample": (
        lambda c: c["Samples"][0].update(Tree="eventz"),
        "Tree: eventz",
        ["no tree 'eventz'", "signal.root'", "Did you mean 'events'?"],
    ),
    "file": (
        lambda c: c["Samples"][0].update(Files="signalx.root"),
        "signalx.root",
        ["no file", "Did you mean 'signal.root'?"],
    ),
    "weight of a systematic": (
        lambda c: c["Systematics"][1]["Down"].update(Weight="weight_dn"),
        "weight_dn",
        ["no branch 'weight_dn'", "Did you mean 'weight_down'?"],
    ),
    "file of a systematic": (
        lambda c: c["Systematics"][3]["Up"].update(Files="{Sample}_upp.root"),
        "_upp.root",
        ["no file", "signal_upp.root", "background_upp.root"],
    ),
    "weight beside a file": (
        lambda c: c["Systematics"][3]["Up"].update(Weight="w_up"),
        "Weight: w_up",
        ["no branch 'w_up'", "signal_up.root'"],
    ),
    "variable": (
        lambda c: c["Regions"][1].update(Variable="mass + ptt"),
        "mass + ptt",
        ["no branch 'ptt'", "Did you mean 'pt'?"],
    ),
    "variable that is not finite": (
        lambda c: c["Regions"][1].update(Variable="log(mass - 80)"),
        "log(mass - 80)",
        ["region 'CR'", "is not finite in", "'log(mass - 80)'"],
    ),
    "shift that is not finite": (
        lambda c: c["Systematics"][0].update(Transform={"mass": "mass / (1 - abs(alpha))"}),
        "  Transform:",
        ["shifted by 'scale' is not finite"],
    ),
    "identifier": (
        lambda c: c["General"].update(Identifier="evnt"),
        "Identifier: ",
        ["no branch 'evnt'", "Did you mean 'event'?"],
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_each_problem_has_its_line_and_remedy(case: str, write_config: WriteConfig) -> None:
    edit, at, words = BROKEN[case]

    def both(config: Config) -> None:
        everything(config)
        edit(config)

    path = write_config(both)
    line = line_of(path, at)
    found = problems(path)
    assert list(found) == [line]
    for word in words:
        assert word in found[line]


def test_all_problems_at_once_also_those_of_the_file_itself(write_config: WriteConfig) -> None:
    def spoil(config: Config) -> None:
        everything(config)
        for name in ("feature", "filter", "weight", "weight of a systematic", "identifier"):
            BROKEN[name][0](config)
        config["Systematics"][2]["Samples"] = "backgroundd"

    path = write_config(spoil)
    found = problems(path)
    texts = ("boost: ", "mas > 61", "weightt", "weight_dn", "Identifier: ")
    lines = {line_of(path, text) for text in texts}
    assert lines < set(found)
    (other,) = set(found) - lines
    assert "Did you mean 'background'?" in found[other]


def test_later_entries_and_unselected_ones(write_config: WriteConfig, folder: Path) -> None:
    """A bad number is found where it is looked for; a note tells what is never selected."""
    path = folder / "ntuples" / "background.root"
    with uproot.open(path) as file:
        columns = file["events"].arrays(library="np")
    columns["pt"][150] = np.nan
    with uproot.recreate(path) as file:
        file["events"] = columns
    config = write_config(lambda c: c["Regions"][0].update(Filter="mass > 0"))
    assert check(config, progress=False).notes == ()
    with pytest.raises(ConfigError, match="column 'pt' 'pt' is not finite"):
        check(config, entries=200, progress=False)
    config = write_config(lambda c: c["Regions"][0].update(Filter="mass > 1e6"))
    (first, _) = check(config, progress=False).notes
    assert "none of the 100 entries looked at is selected" in first


def test_observed_events_of_blinded_regions_are_not_looked_at(write_config: WriteConfig) -> None:
    def blinded(config: Config) -> None:
        everything(config)
        config["General"]["Blind"] = ["SR"]
        config["Samples"].append({"Name": "seen", "Files": "signal.root", "Data": True})
        config["Regions"][0]["Filter"] = "pt > 1e9"

    notes = check(write_config(blinded), progress=False).notes
    assert {"signal", "background"} == {note.split("sample '")[1].split("'")[0] for note in notes}


def test_the_command(write_config: WriteConfig) -> None:
    path = write_config(everything)
    result = CliRunner().invoke(main, ["run", "--check", str(path)])
    assert result.exit_code == 0
    assert "no problem in 2 samples" in result.output
    path = write_config(lambda c: c["Samples"][0].update(Weight="w_up"))
    result = CliRunner().invoke(main, ["run", "--check", str(path)])
    assert result.exit_code == 2
    assert f"{path}:{line_of(path, 'w_up')}" in result.output
    missing = CliRunner().invoke(main, ["run", str(path)])
    assert missing.exit_code == 2
    assert "Missing option '--out'" in missing.output
