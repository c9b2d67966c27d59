"""Small generated ROOT files and configurations for them."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np
import pytest
import uproot
import yaml

from difana.analysis import AnalysisResult, Observable, Optimised, run

Edit = Callable[[dict[str, Any]], None]

SCALE = {name: f"{name} * (1 + 0.05 * alpha)" for name in ("mass", "pt")}

CONFIG: dict[str, Any] = {
    "General": {"InputPath": "ntuples", "Tree": "events", "Seed": 3, "Identifier": "event"},
    "Features": ["mass", "pt", "eta"],
    "Regions": [{"Name": "SR", "Filter": "mass > 60"}],
    "Samples": [
        {"Name": "signal", "Files": "signal.root", "Weight": "weight", "Signal": True},
        {"Name": "background", "Files": "background.root", "Weight": "weight"},
    ],
    "Systematics": [
        {"Name": "scale", "Type": "Transform", "Transform": SCALE},
        {
            "Name": "slope",
            "Type": "Weight",
            "Samples": "background",
            "Up": {"Weight": "weight_up"},
            "Down": {"Weight": "weight_down"},
        },
        {
            "Name": "norm",
            "Type": "Normalization",
            "Samples": "background",
            "Up": {"Normalization": 0.1},
            "Down": {"Normalization": -0.1},
        },
    ],
    "Network": {"Hidden": [8]},
    "Training": {
        "Bins": 3,
        "PretrainSteps": 10,
        "PretrainBatch": 100,
        "Steps": 6,
        "Batch": 150,
        "ValidateEvery": 2,
        "MinimumEvents": 3,
    },
}


def table(name: str, *, events: int = 800, shift: float = 0.0) -> dict[str, np.ndarray]:
    """Return the branches of one file: a peak for signal, a falling spectrum for background."""
    rng = np.random.default_rng(["signal", "background"].index(name))
    falling = 60 + rng.exponential(60, events)
    mass = rng.normal(125, 12, events) if name == "signal" else falling
    weight = np.full(events, (30.0 if name == "signal" else 600.0) / events)
    return {
        "mass": mass * (1 + shift),
        "pt": rng.gamma(2.0, 20.0, events) + (10 if name == "signal" else 0),
        "eta": rng.normal(0, 1, events),
        "weight": weight,
        "weight_up": weight * (mass / 120) ** 0.3,
        "weight_down": weight / (mass / 120) ** 0.3,
        "event": np.arange(events),
    }


def write_root(path: Path, columns: dict[str, np.ndarray]) -> Path:
    """Write one tree ``events``."""
    with uproot.recreate(path) as file:
        file.mktree("events", {name: column.dtype for name, column in columns.items()})
        file["events"].extend(columns)
    return path


def fill(folder: Path) -> Path:
    """Write ntuples/signal.root, background.root and shifted ones."""
    data = folder / "ntuples"
    data.mkdir()
    for name in ("signal", "background"):
        write_root(data / f"{name}.root", table(name))
        write_root(data / f"{name}_up.root", table(name, shift=0.02))
        write_root(data / f"{name}_down.root", table(name, shift=-0.02))
    return folder


def write_yaml(path: Path, edit: Edit | None) -> Path:
    """Write the configuration after ``edit`` changed it."""
    config = copy.deepcopy(CONFIG)
    if edit is not None:
        edit(config)
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


@pytest.fixture(scope="session", autouse=True)
def _few_events_are_enough_for_one_split() -> Iterator[None]:
    """The files of the tests are small; one test looks at the folds that this would mean."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("difana.analysis.settle.FEW", 0)
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with ntuples."""
    return fill(tmp_path)


@pytest.fixture
def write_events(folder: Path) -> Callable[..., dict[str, np.ndarray]]:
    """``write_events(file, kind, edit, **options)`` writes a file after ``edit`` changed it."""

    def write(file: str, kind: str, edit: Any = None, **options: Any) -> dict[str, np.ndarray]:
        columns = table(kind, **options)
        columns = columns if edit is None else edit(columns)
        write_root(folder / "ntuples" / f"{file}.root", columns)
        return columns

    return write


@pytest.fixture
def write_config(folder: Path) -> Callable[..., Path]:
    """``write_config(edit) -> path`` writes the configuration after ``edit`` changed it."""
    return lambda edit=None: write_yaml(folder / "analysis.yaml", edit)


def with_control_region(config: dict[str, Any]) -> None:
    """Add a fixed region, a systematic of files, and conditions of which one cannot hold."""
    config["Training"]["Constraints"] = {"MinimumBackground": 5, "Closure": 1e-9}
    config["Training"]["SecondObservable"] = "slope"
    config["Regions"].append({"Name": "CR", "Variable": "mass", "Binning": [60, 100, 140, 900]})
    config["Systematics"].append(
        {
            "Name": "resolution",
            "Type": "Files",
            "Up": {"Files": "{Sample}_up.root"},
            "Down": {"Files": "{Sample}_down.root"},
        }
    )


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> AnalysisResult:
    """A small analysis that ran once, in the folder ``out`` beside its configuration."""
    folder = fill(tmp_path_factory.mktemp("finished"))
    path = write_yaml(folder / "analysis.yaml", with_control_region)
    return run(path, folder / "out", progress=False)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``stub(edges)`` puts a fixed network and edges in the place of the training."""

    def install(edges: list[float]) -> None:
        net = eqx.nn.Lambda(lambda x: (x[:, :1] - 100) / 20)

        def optimised(*args: Any, **kwargs: Any) -> Optimised:
            return Optimised((Observable(net, np.asarray(edges)),), (net,), (0.1,), (), 0, "")

        monkeypatch.setattr(sys.modules["difana.analysis.run"], "optimise_regions", optimised)

    return install
