"""Bad inputs: each is refused before training, by a message that names the culprit."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

from difana._errors import DifanaError
from difana.analysis import run

Config = dict[str, Any]


def truncate(folder: Path) -> None:
    path = folder / "ntuples" / "background.root"
    path.write_bytes(path.read_bytes()[:-2000])


def spoil(branch: str, value: float, *, entry: int = 17) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "ntuples" / "background.root"
        with uproot.open(path) as file:
            columns = file["events"].arrays(library="np")
        columns[branch] = columns[branch].copy()
        columns[branch][entry] = value
        with uproot.recreate(path) as file:
            file["events"] = columns

    return change


def fixed_region(config: Config, **keys: Any) -> None:
    region = {"Name": "CR", "Variable": "pt", "Binning": [0, 40, 1000]}
    config["Regions"].append(region | keys)
    config["Systematics"][0]["Regions"] = ["SR"]


def sample(config: Config, **keys: Any) -> None:
    config["Samples"][1].update(keys)


def mixed_weights(config: Config) -> None:
    sample(config, Weight="weight if event < 200 else -weight")


def negative_bin(config: Config) -> None:
    fixed_region(config)
    sample(config, Weight="weight if pt < 40 else -0.1 * weight")


CASES: dict[str, tuple[Callable[[Config], None] | None, Callable | None, list[str]]] = {
    "missing file": (
        lambda c: sample(c, Files="backgroundd.root"),
        None,
        ["'background'", "backgroundd.root'", "Did you mean 'background.root'?", "analysis.yaml:"],
    ),
    "glob without match": (
        lambda c: sample(c, Files="bg*.root"),
        None,
        ["'background'", "no file matches", "bg*.root"],
    ),
    "truncated file": (None, truncate, ["'background'", "background.root", "truncated"]),
    "missing tree": (
        lambda c: c["General"].update(Tree="eventz"),
        None,
        ["no tree 'eventz'", "'events'"],
    ),
    "missing branch": (
        lambda c: c["Features"].append("phi_pair"),
        None,
        ["'signal'", "no branch 'phi_pair'", "signal.root"],
    ),
    "selection with a typo": (
        lambda c: c["Regions"][0].update(Filter="mas > 60"),
        None,
        ["'signal'", "'SR'", "no branch 'mas'", "Did you mean 'mass'?"],
    ),
    "selection that is no truth": (
        lambda c: c["Regions"][0].update(Filter="mass - 60"),
        None,
        ["selection", "true or false"],
    ),
    "zero selected events": (
        lambda c: sample(c, Filter="mass > 1e5"),
        None,
        ["'background'", "keeps none of the 800 events", "mass > 1e5"],
    ),
    "NaN feature": (
        None,
        spoil("eta", np.nan),
        ["'background'", "'eta'", "not finite", "entry 17"],
    ),
    "non-finite weight": (
        None,
        spoil("weight", np.inf),
        ["'background'", "weight", "not finite", "entry 17"],
    ),
    "non-finite varied weight": (
        None,
        spoil("weight_up", np.nan),
        ["'background'", "weight of 'slope', up", "not finite", "entry 17"],
    ),
    "negative total yield": (
        mixed_weights,
        None,
        ["'background'", "yield -", "positive yield", "analysis.yaml:"],
    ),
    "all-zero bin": (
        lambda c: fixed_region(c, Binning=[-50, -10, 40, 1000]),
        None,
        ["'CR'", "bin 0 (-50 to -10)", "no background", "'background': 0", "Binning"],
    ),
    "negative bin": (
        negative_bin,
        None,
        ["'CR'", "bin 1 (40 to 1000)", "negative", "'background': -"],
    ),
    "systematic with one side missing": (
        lambda c: c["Systematics"][1].pop("Down"),
        None,
        ["'slope'", "no side 'Down'", "Symmetrize"],
    ),
    "missing file of a systematic": (
        lambda c: c["Systematics"].append(
            {
                "Name": "resolution",
                "Type": "Files",
                "Up": {"Files": "{Sample}_up.root"},
                "Down": {"Files": "{Sample}_dwn.root"},
            }
        ),
        None,
        ["'resolution'", "Down", "'signal'", "signal_dwn.root", "'signal_down.root'"],
    ),
    "unknown key": (lambda c: sample(c, Wieght="w"), None, ["'Wieght'", "Did you mean 'Weight'?"]),
    "missing identifier": (
        lambda c: c["General"].update(Identifier=["run", "event"]),
        None,
        ["no branch 'run'"],
    ),
    "variable that is not finite": (
        lambda c: fixed_region(c, Variable="log(pt - 1000)"),
        None,
        ["'CR'", "not finite"],
    ),
    "split without events": (
        lambda c: c["General"].update(Split=[0.9998, 0.0001, 0.0001]),
        None,
        ["'signal'", "part 2 of the split has 0 events", "other fractions"],
    ),
}


@pytest.fixture(autouse=True)
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        pytest.fail("the training was started")

    monkeypatch.setattr(sys.modules["difana.analysis.run"], "optimise_regions", refuse)


@pytest.mark.parametrize("case", CASES)
def test_refused_with_the_culprit(
    case: str, folder: Path, write_config: Callable[..., Path]
) -> None:
    edit, spoil_files, fragments = CASES[case]
    if spoil_files is not None:
        spoil_files(folder)
    with pytest.raises(DifanaError) as caught:
        run(write_config(edit), folder / "out", progress=False)
    message = str(caught.value)
    for fragment in fragments:
        assert fragment in message, message
    assert not (folder / "out" / "result.json").exists()


def test_output_folder_that_is_a_file(folder: Path, write_config: Callable[..., Path]) -> None:
    (folder / "out").write_text("")
    with pytest.raises(DifanaError, match="is a file"):
        run(write_config(), folder / "out", progress=False)
