"""One split or folds, where the file leaves it open."""

from __future__ import annotations

import pytest

from difana.analysis import read_config, settle
from difana.analysis.config import DEFAULT_SPLIT
from difana.analysis.read import config_of


def test_few_events_mean_two_folds_and_a_note(write_config, monkeypatch):
    config = read_config(write_config())
    monkeypatch.setattr(settle, "FEW", 801)  # of 800 events of background some are below 60 GeV
    found, notes = settle.settled(config)
    assert (found.folds, config.folds) == (2, 0)
    assert len(notes) == 1
    assert "simulated events of" in notes[0]
    assert "Folds: 2" in notes[0]
    again = config_of(found.echo, path=found.path)  # as a result tells it
    assert again.folds == 2
    assert settle.settled(again) == (again, ())


def test_enough_events_mean_one_split(write_config, monkeypatch):
    config = read_config(write_config())
    monkeypatch.setattr(settle, "FEW", 700)
    found, notes = settle.settled(config)
    assert (found.general.split, notes) == (DEFAULT_SPLIT, ())


@pytest.mark.parametrize("split", [{"Folds": 3}, [0.6, 0.2, 0.2]])
def test_what_the_file_says_counts(write_config, monkeypatch, split):
    config = read_config(write_config(lambda c: c["General"].update(Split=split)))
    monkeypatch.setattr(settle, "FEW", 10_000)
    assert settle.settled(config) == (config, ())


def test_another_file_takes_the_split_of_the_result(write_config, monkeypatch):
    config = read_config(write_config())
    other = read_config(write_config(lambda c: c["General"].update(Split={"Folds": 4})))
    monkeypatch.setattr(settle, "FEW", 10_000)
    found, notes = settle.settled(config, like=other)
    assert (found.folds, notes) == (4, ())
