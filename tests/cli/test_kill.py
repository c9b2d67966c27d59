"""A run that is killed and started again ends with the same files, byte for byte."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from difana.data.generate import write_resonance

CONFIG = """\
General: {InputPath: ntuples, Identifier: event}
Features: [mass, pt_lead, pt_pair]
Regions: [{Name: SR}]
Samples:
  - {Name: signal, Files: signal.root, Weight: weight, Signal: true}
  - {Name: continuum, Files: continuum.root, Weight: weight}
Systematics:
  - Name: scale
    Type: Transform
    Transform: {mass: mass * (1 + 0.03 * alpha)}
Network: {Hidden: [8]}
Training: {Bins: 3, PretrainSteps: 30, Steps: 60, Batch: 500, ValidateEvery: 5, Patience: 99}
"""


def command(folder: Path, out: str) -> subprocess.Popen:
    environment = os.environ | {"DIFANA_CACHE": str(folder / "cache"), "XLA_FLAGS": ""}
    arguments = ["run", "analysis.yaml", "--out", out, "--no-report", "--quiet"]
    return subprocess.Popen(
        [sys.executable, "-m", "difana.cli", *arguments],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def stop_when_training(process: subprocess.Popen, history: Path, number: int, records: int) -> str:
    """Send a signal once the history holds some records; return what the process complained of."""
    end = time.monotonic() + 500
    while time.monotonic() < end and process.poll() is None:
        if history.exists() and history.read_bytes().count(b"\n") >= records:
            process.send_signal(number)
            break
        time.sleep(0.01)
    return process.communicate(timeout=60)[1]


@pytest.mark.slow
def test_killed_and_interrupted_runs_resume(tmp_path: Path) -> None:
    write_resonance(tmp_path / "ntuples", events=2000)
    (tmp_path / "analysis.yaml").write_text(CONFIG)
    whole = command(tmp_path, "whole")
    _, errors = whole.communicate(timeout=900)
    assert whole.returncode == 0, errors
    stages = tmp_path / "parts" / "checkpoints"
    for number, stage, records in (
        (signal.SIGKILL, "cross_entropy", 7),
        (signal.SIGKILL, "expected_limit", 11),
        (signal.SIGINT, "expected_limit", 31),
        (signal.SIGKILL, "expected_limit", 45),
    ):
        process = command(tmp_path, "parts")
        errors = stop_when_training(process, stages / stage / "history.jsonl", number, records)
        assert process.returncode != 0, "it ended before it could be stopped"
        assert not (tmp_path / "parts" / "result.json").exists()
        if number == signal.SIGINT:
            assert process.returncode == 130
            assert "continues from the last checkpoint" in errors
    last = command(tmp_path, "parts")
    _, errors = last.communicate(timeout=900)
    assert last.returncode == 0, errors
    for name in ("result.json", "workspace.json", "history.jsonl", "weights.eqx"):
        own, other = ((tmp_path / out / name).read_bytes() for out in ("parts", "whole"))
        assert own == other, name
