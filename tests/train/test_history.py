"""History files: append-only, cut on resume, tolerant of a torn last line."""

from __future__ import annotations

import json

import pytest

from difana._errors import InputError
from difana.train import JSONLLogger, read_history


def write(path, stage, steps, *, start=-1):
    logger = JSONLLogger(path)
    logger.start(stage=stage, step=start)
    for step in steps:
        logger.log({"stage": stage, "kind": "train", "step": step, "loss": 1 / (1 + step)})
    logger.close()


def steps(path, stage=None):
    return [(record["stage"], record["step"]) for record in read_history(path, stage=stage)]


def test_records_are_flushed_one_by_one(tmp_path):
    path = tmp_path / "new" / "history.jsonl"
    logger = JSONLLogger(path)
    logger.start(stage="a", step=-1)
    for step in (1, 2):
        logger.log({"stage": "a", "step": step})
        assert len(read_history(path)) == step
    logger.close()
    logger.close()


def test_numbers_survive_exactly_and_nonfinite_ones_are_null(tmp_path):
    path = tmp_path / "history.jsonl"
    logger = JSONLLogger(path)
    logger.start(stage="a", step=-1)
    aux = {"x": 0.1 + 0.2, "nan": float("nan"), "inf": float("inf")}
    logger.log({"stage": "a", "step": 1, "aux": aux})
    logger.close()
    (record,) = read_history(path)
    assert record["aux"] == {"x": 0.1 + 0.2, "nan": None, "inf": None}
    assert "NaN" not in path.read_text()


def test_resume_cuts_what_is_later(tmp_path):
    path = tmp_path / "history.jsonl"
    write(path, "a", [0, 1, 2, 3])
    write(path, "a", [3], start=2)
    assert steps(path) == [("a", 0), ("a", 1), ("a", 2), ("a", 3)]
    write(path, "a", [0])
    assert steps(path) == [("a", 0)]


def test_earlier_stages_are_kept(tmp_path):
    path = tmp_path / "history.jsonl"
    write(path, "first", [0, 1])
    write(path, "second", [0, 1, 2])
    write(path, "second", [2], start=1)
    assert steps(path) == [("first", 0), ("first", 1), ("second", 0), ("second", 1), ("second", 2)]
    assert steps(path, "second") == [("second", 0), ("second", 1), ("second", 2)]
    write(path, "first", [1], start=0)
    assert steps(path) == [("first", 0), ("first", 1)], "what follows a cut is void, too"


@pytest.mark.parametrize("torn", [b'{"stage": "a", "st', b'{"stage": "a", "step": 9}', b"\0\0"])
def test_torn_last_line_is_dropped(tmp_path, torn):
    path = tmp_path / "history.jsonl"
    write(path, "a", [0, 1])
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    assert steps(path) == [("a", 0), ("a", 1)]
    write(path, "a", [], start=1)
    assert path.read_bytes() == whole


def test_other_files_are_not_cut(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("my notes\nline two\n" + json.dumps({"stage": "a", "step": 3}) + "\n")
    before = path.read_bytes()
    with pytest.raises(InputError, match="line 1: not a record"):
        JSONLLogger(path).start(stage="a", step=-1)
    assert path.read_bytes() == before


def test_log_before_start_is_refused(tmp_path):
    with pytest.raises(InputError, match="start"):
        JSONLLogger(tmp_path / "history.jsonl").log({"stage": "a", "step": 0})
