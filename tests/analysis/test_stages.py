"""What a change of the analysis repeats: no more than it must, and one line says it."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from difana.analysis import AnalysisResult, load, read_config, run
from difana.analysis.changes import STAGES, changed
from difana.analysis.settle import settled
from difana.analysis.stages import fingerprint_of, stages_of

Edit = tuple[str, str]
Again = Callable[..., tuple[str, str]]
NORM = "Up:\n    Normalization: 0.1"


class Trained(Exception):
    """A training was to take a step; the text is its stage."""


class Kept(Exception):
    """All trainings are over."""


@pytest.fixture
def again(
    finished: AnalysisResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> Again:
    """``again(edit)`` edits the finished analysis and runs it until it trains or evaluates."""
    shutil.copytree(finished.out / "checkpoints", tmp_path / "out" / "checkpoints")
    shutil.copy(finished.out / "stages.json", tmp_path / "out")

    def train(*args: Any, journal: Any, **keys: Any) -> None:
        raise Trained(journal._stage)

    def keep(*args: Any, **keys: Any) -> None:
        raise Kept

    monkeypatch.setattr(sys.modules["difana.train.minimise"], "run", train)
    monkeypatch.setattr(sys.modules["difana.analysis.evaluate"], "baselines", keep)

    def start(*edits: Edit, **options: Any) -> tuple[str, str]:
        path = finished.config.path.with_name("edited.yaml")
        text = finished.config.path.read_text()
        for old, new in edits:
            assert old in text
            text = text.replace(old, new)
        path.write_text(text)
        with pytest.raises((Trained, Kept)) as caught:
            run(path, tmp_path / "out", **options)
        lines = capfd.readouterr().err.splitlines()
        assert lines[0].startswith("difana reading ")
        return str(caught.value), lines[1].removeprefix("difana ")

    return start


DATA = "- Name: data\n  Files: background.root\n  Data: true\nSystematics:"
UNSEEN: dict[str, tuple[Edit, str]] = {
    "region": (("Name: SR", "Name: Alpha"), "a name changed: evaluating again"),
    "order of names": (("Name: CR", "Name: AA"), "a name changed: evaluating again"),
    "systematic": (("Name: norm", "Name: other"), "a name changed: evaluating again"),
    "feature": (("- pt\n", "- pt \n"), "nothing changed: continuing"),
    "comment": (("General:", "General: # of all"), "nothing changed: continuing"),
    "data": (("Systematics:", DATA), "data changed: evaluating again"),
    "blinding": (("Seed: 3", "Seed: 3\n  Blind: SR"), "blinding changed: evaluating again"),
    "measurement": (
        ("Seed: 3", "Seed: 3\n  Measurement: renamed"),
        "the name of the measurement changed: writing again",
    ),
    "default": (("Seed: 3", "Seed: 3\n  POI: mu"), "section General changed: writing again"),
    "pictures": (
        ("General:", "Labels: {pt: p_T}\nGeneral:\n  Label: Internal"),
        "section General changed, section Labels is new: writing again",
    ),
}
MOVED = "systematic 'scale' changed, systematic 'resolution' changed and 1 more"
CLASSIFIER, SCORE, DESCENT = "cross-entropy", "efficient score", "expected_limit"
SEEN: dict[str, tuple[Edit, str, str]] = {
    "prior": (
        (NORM, NORM.replace("0.1", "0.2")),
        "systematic 'norm' changed: training on the objective again",
        DESCENT,
    ),
    "bins of a region": (
        ("- 100\n", "- 110\n"),
        f"region 'CR' changed, {MOVED}: training on the objective again",
        DESCENT,
    ),
    "option of the descent": (
        ("Batch: 150", "Batch: 151"),
        "Training.Batch changed: training on the objective again",
        DESCENT,
    ),
    "formula": (
        ("pt * (1 + 0.05 * alpha)", "pt * (1 + 0.04 * alpha)"),
        "systematic 'scale' changed: training again",
        SCORE,
    ),
    "selection": (
        ("mass > 60", "mass > 61"),
        "Filter of region 'SR' changed: training again",
        CLASSIFIER,
    ),
    "luminosity": (
        ("Seed: 3", "Seed: 3\n  Luminosity: 2"),
        "Luminosity changed: training again",
        CLASSIFIER,
    ),
    "seed": (
        ("Seed: 3", "Seed: 4"),
        "the split changed, Training.Seed changed: training again",
        CLASSIFIER,
    ),
    "feature": (("- eta", "- event"), "Features changed: training again", CLASSIFIER),
}


@pytest.mark.parametrize("name", UNSEEN)
def test_what_training_does_not_see_trains_nothing(name: str, again: Again) -> None:
    edit, line = UNSEEN[name]
    assert again(edit) == ("", line)


@pytest.mark.parametrize("name", SEEN)
def test_what_training_sees_trains_again(name: str, again: Again) -> None:
    edit, line, stage = SEEN[name]
    assert again(edit) == (stage, line)
    # killed at once: the next one goes on
    assert again(edit) == (stage, "nothing changed: continuing")


def test_without_a_record_the_checkpoints_count(again: Again, tmp_path: Path) -> None:
    parts = {stage: [] for stage in STAGES}
    for text in ("{", "[]", '{"train": 3}', json.dumps(parts), json.dumps(parts | {"train": [1]})):
        (tmp_path / "out" / "stages.json").write_text(text)
        assert again(("Name: SR", "Name: B")) == ("", "training")
    assert again(("Name: SR", "Name: B"), resume=False) == (CLASSIFIER, "training")


@pytest.mark.slow
def test_a_changed_analysis_ends_as_in_a_new_folder(
    finished: AnalysisResult, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished.out.parent, folder)
    path = folder / "analysis.yaml"
    path.write_text(path.read_text().replace(NORM, NORM.replace("0.1", "0.3")))
    for name in ("out", "new"):
        run(path, folder / name, progress=False)
    for file in ("result.json", "workspace.json", "weights.eqx", "history.jsonl", "stages.json"):
        found = {(folder / name / file).read_bytes() for name in ("out", "new")}
        assert len(found) == 1, file
        assert found != {(finished.out / file).read_bytes()}


def test_several_changes_in_one_line(finished: AnalysisResult) -> None:
    before = json.loads((finished.out / "stages.json").read_text())
    now = {**before, "classify": [[name, "other"] for name, _ in before["classify"]]}
    assert changed(before, now) == (
        "sample 'signal' changed, sample 'background' changed, systematic 'scale' changed and "
        f"{len(now['classify']) - 3} more: training again"
    )
    gone = {**before, "train": [p for p in before["train"] if p[0] != "systematic 'slope'"]}
    assert changed(before, gone) == "systematic 'slope' is gone: training on the objective again"
    assert changed(gone, before) == "systematic 'slope' is new: training on the objective again"
    swapped = {**before, "train": before["train"][::-1], "descends": False}
    assert changed(before, swapped) == "the order of the parts changed: searching the bins again"


def test_fingerprints_see_what_moves_together(finished: AnalysisResult) -> None:
    """Two systematics of one parameter are another analysis than two of their own."""
    loaded = load(finished.config)
    stages = stages_of(finished.config, loaded)
    config, _ = settled(read_config(finished.config.path))
    assert stages_of(config, loaded) == stages
    joined = [
        dataclasses.replace(
            sample,
            variations=tuple(
                dataclasses.replace(own, name="scale") if own.name == "slope" else own
                for own in sample.variations
            ),
        )
        for sample in loaded.train
    ]
    region = dataclasses.replace(loaded.regions[0], train=tuple(joined))
    other = stages_of(config, dataclasses.replace(loaded, regions=(region,)))
    assert fingerprint_of(other, "train") != fingerprint_of(stages, "train")
    assert fingerprint_of(other, "evaluate") == fingerprint_of(stages, "evaluate")
