"""A run that is killed and started again ends with the same files, byte for byte."""

from __future__ import annotations

import contextvars
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np
import pytest
from click.testing import CliRunner, Result

from difana._files import locked
from difana.analysis import Observable, Optimised
from difana.cli import main
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


NETWORK = eqx.nn.Lambda(lambda x: (x[:, :1] - 100) / 20)
INVOKE = ["run", "analysis.yaml", "--no-report", "--out"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an analysis whose training is left out; the working directory."""
    write_resonance(tmp_path / "ntuples", events=500)
    (tmp_path / "analysis.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIFANA_CACHE", "off")

    def optimised(*args: Any, **keys: Any) -> Optimised:
        observable = Observable(NETWORK, np.array([-2.0, 0, 1, 8]))
        return Optimised((observable,), (NETWORK,), (0.1,), (), 0, "")

    monkeypatch.setattr(sys.modules["difana.analysis.run"], "optimise_regions", optimised)
    return tmp_path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def one_line(result: Result, code: int) -> str:
    """Return what a command complained of: one line, and no traceback."""
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    said = [line for line in result.stderr.splitlines() if line and not line.startswith("difana ")]
    assert len(said) == 1, said
    return said[0]


def contents(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != "timing.json"
    }


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "Interrupted."), (signal.SIGTERM, 143, "Terminated.")],
)
def test_signals_end_in_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int, word: str
) -> None:
    def stopped(*args: Any, **keys: Any) -> None:
        if number == signal.SIGINT:  # a job in the background of a script starts with it ignored
            signal.signal(number, signal.default_int_handler)
        signal.raise_signal(number)
        raise AssertionError("the signal was lost")

    monkeypatch.setattr("difana.analysis.run", stopped)
    before = signal.getsignal(signal.SIGTERM)
    said = one_line(call(*INVOKE, "out"), code)
    assert said == f"{word} The same command continues from the last checkpoint."
    assert signal.getsignal(signal.SIGTERM) is before


def test_disturbed_writing_ends_with_the_same_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(*INVOKE, "whole").exit_code == 0
    whole = contents(folder / "whole")
    assert {"result.json", "weights.eqx", "hepdata/submission.yaml"} <= set(whole)

    # a kill leaves parts of files, and a lock; an older run other tables
    out = folder / "killed"
    (out / "hepdata").mkdir(parents=True)
    for name in (".result.json.0123456789ab.part", "hepdata/.limits.yaml.0123456789ab.part",
                 ".difana.lock", "hepdata/yields_prefit_old.yaml", "result.json",
                 "weights_score.eqx"):  # fmt: skip
        (out / name).write_text("half")
    (folder / "precious").write_text("mine")
    (out / "weights.eqx").symlink_to(folder / "precious")
    assert call(*INVOKE, "killed").exit_code == 0
    assert contents(out) == whole
    assert (folder / "precious").read_text() == "mine"

    # a full disk
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    real = sys.modules["difana.analysis.evaluate"].final_statistics

    def full(*args: Any, **keys: Any) -> Any:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        return real(*args, **keys)

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["difana.analysis.evaluate"], "final_statistics", full)
        try:
            said = one_line(call(*INVOKE, "full"), 2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert said == f"Error: cannot write '{Path('full', 'workspace.json')}': File too large"
    assert not (folder / "full" / "result.json").exists()
    assert call(*INVOKE, "full").exit_code == 0
    assert contents(folder / "full") == whole

    # a result that cannot be trusted
    monkeypatch.setattr(
        sys.modules["difana.analysis.summary"], "_status", lambda *a: "fit: no good"
    )
    assert one_line(call(*INVOKE, "bad", "--quiet"), 3) == "Warning: fit: no good"
    assert json.loads((folder / "bad" / "result.json").read_text())["status"] == "fit: no good"
    assert json.loads(whole["result.json"])["status"] == "ok"


def test_folders_that_cannot_be_written_into(folder: Path) -> None:
    with locked(folder):
        said = contextvars.Context().run(lambda: one_line(call(*INVOKE, "."), 2))
    assert said.startswith("Error: another run writes into the folder '.' (process ")
    assert said.endswith("wait for its end, or give another folder")
    (folder / "elsewhere").mkdir()
    (folder / "out").mkdir()
    for name in ("checkpoints", "hepdata"):
        (folder / "out" / name).symlink_to(folder / "elsewhere")
        assert f"'out/{name}' is a symbolic link" in one_line(call(*INVOKE, "out"), 2)
        (folder / "out" / name).unlink()
    assert list((folder / "elsewhere").iterdir()) == []
    assert "cannot make the folder" in one_line(call(*INVOKE, "/proc/results"), 2)
    assert "is a file" in one_line(call(*INVOKE, "analysis.yaml"), 2)
    wrong = one_line(call("run", "none.yaml", "--out", "new"), 2)
    assert "none.yaml" in wrong
    assert not (folder / "new").exists()


def test_what_a_library_raises_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = {
        "Error: 'a.root': No space left on device": OSError(
            errno.ENOSPC, os.strerror(errno.ENOSPC), "a.root"
        ),
        "Error: not enough memory (8 TiB wanted)": MemoryError("8 TiB wanted"),
    }
    for said, error in errors.items():

        def fails(*args: Any, error: Exception = error, **keys: Any) -> None:
            raise error

        monkeypatch.setattr("difana.analysis.run", fails)
        assert one_line(call(*INVOKE, "out"), 2) == said
