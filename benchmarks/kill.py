"""Kill, interrupt and starve `difana run`: does the same command end with the same folder?

A small analysis of generated events runs once undisturbed. Then its process is killed (-9) at
random moments: while it starts and reads, trains, evaluates, writes, and draws the report. After
four kills each the same command runs to its end, and every file of the folder, checkpoints
included, is compared byte for byte with the undisturbed one; only ``timing.json`` (seconds) may
differ. Then the gentler ways to end: SIGINT, SIGTERM, a full disk (of 2 MB, or a limit on the size
of files), a folder that cannot be written into, and a second process in the same folder.

    python benchmarks/kill.py --seed 0 --kills 20

writes ``benchmarks/results/kill.md``.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

CONFIG = """\
General: {InputPath: ntuples, Identifier: event}
Features: [mass, pt_lead, pt_pair]
Regions:
  - {Name: SR, Filter: pt_lead > 40}
  - {Name: CR, Filter: pt_lead < 40, Variable: mass, Binning: [0, 100, 150, 1000], Flow: fold}
Samples:
  - {Name: signal, Files: signal.root, Weight: weight, Signal: true}
  - {Name: continuum, Files: continuum.root, Weight: weight}
Systematics:
  - {Name: scale, Type: Transform, Transform: {mass: mass * (1 + 0.03 * alpha)}}
  - {Name: norm, Type: Normalization, Samples: continuum, Up: {Normalization: 0.1},
     Symmetrize: true}
Network: {Hidden: [8]}
Training: {Bins: 3, PretrainSteps: 60, Steps: 80, Batch: 500, ValidateEvery: 5, Patience: 99}
"""
MAY_DIFFER = ("timing.json",)
CHAIN = 4
LATE = ("evaluate", "write", "report")
MARKS = {"read": "reading", "train": "training", "evaluate": "evaluating", "write": "writing"}
Row = tuple[str, str, str, str]


class Run:
    """One process of `difana run`, watched through its standard error."""

    def __init__(self, folder: Path, out: Path, prepare: Callable[[], None] | None = None) -> None:
        """Start it."""
        self.out = out
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        environment = os.environ | {"DIFANA_CACHE": str(folder / "cache"), "COLUMNS": "200"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "difana.cli", "run", "analysis.yaml", "--out", str(out)],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=self._log,
            preexec_fn=prepare,
        )

    def errors(self) -> str:
        """Return what it has said so far."""
        return os.pread(self._log.fileno(), 10**6, 0).decode()

    def wait_for(self, reached: Callable[[], bool]) -> bool:
        """Wait until something is reached or the process has ended."""
        while self.process.poll() is None:
            if reached():
                return True
            time.sleep(0.002)
        return False

    def end(self, number: int | None = None) -> int:
        """Send a signal, if any, and return the exit code."""
        if number is not None:
            self.process.send_signal(number)
        return self.process.wait(timeout=600)


def records(out: Path) -> int:
    """Return the number of lines in the histories of the checkpoints."""
    return sum(p.read_bytes().count(b"\n") for p in out.glob("checkpoints/*/history.jsonl"))


def contents(out: Path) -> dict[str, bytes]:
    """Return all files of a folder that must not differ."""
    paths = [path for path in sorted(out.rglob("*")) if path.is_file()]
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in paths
        if path.name not in MAY_DIFFER
    }


def compared(out: Path, whole: dict[str, bytes]) -> str:
    """Return ``identical``, or the names of the files that differ."""
    own = contents(out)
    wrong = [name for name in sorted({*own, *whole}) if own.get(name) != whole.get(name)]
    return "identical" if not wrong else "DIFFERENT: " + ", ".join(wrong[:5])


def durations(folder: Path, out: Path) -> dict[str, float]:
    """Run undisturbed and return how long each stage took, in a warm process."""
    run = Run(folder, out)
    times = {"start": time.monotonic()}
    for stage, word in MARKS.items():
        run.wait_for(lambda word=word: word in run.errors())
        times[stage] = time.monotonic()
    run.wait_for(lambda: (out / "timing.json").exists())
    times["report"] = time.monotonic()
    assert run.end() == 0, run.errors()
    times["end"] = time.monotonic()
    stages = list(times)
    return {a: times[b] - times[a] for a, b in itertools.pairwise(stages)}


def kill_at(run: Run, stage: str, seconds: dict[str, float], rng: random.Random) -> str:
    """Kill a run somewhere in a stage; return where it was."""
    if stage == "train":
        wanted = records(run.out) + rng.randrange(1, 60)
        run.wait_for(lambda: records(run.out) >= wanted or "evaluating" in run.errors())
    else:
        begun = {
            "start": lambda: True,
            "report": lambda: (run.out / "result.json").exists(),
        }.get(stage) or (lambda: MARKS[stage] in run.errors())
        run.wait_for(begun)
        run.wait_for(delay(rng.random() * seconds[stage]))
    said = run.errors()
    code = run.end(signal.SIGKILL)
    reached = [name for name, word in MARKS.items() if word in said] or ["start"]
    return reached[-1] if code == -signal.SIGKILL else "ended before"


def delay(seconds: float) -> Callable[[], bool]:
    """Return whether so many seconds have passed."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def lines(run: Run) -> str:
    """Return how an ended process complained: in one line, or not."""
    said = [
        line
        for line in run.errors().splitlines()
        if line.strip() and not line.startswith("difana ")
    ]
    said = [line for line in said if not line.startswith(("Note: ", "Warning: cross-entropy"))]
    if "Traceback" in run.errors():
        return "TRACEBACK"
    return said[0] if len(said) == 1 else f"{len(said)} LINES: {said[:3]}"


def killed(folder: Path, whole: dict, seconds: dict, number: int, rng: random.Random) -> list[Row]:
    """Return a row for each chain of kills."""
    stages = [LATE[i % 3] for i in range(max(number // 2, 5))]
    stages += [("train", "train", "start", "read")[i % 4] for i in range(number - len(stages))]
    rng.shuffle(stages)
    rows = []
    for first in range(0, number, CHAIN):
        out = folder / f"killed{first}"
        where = []
        for stage in stages[first : first + CHAIN]:
            begin = time.monotonic()
            run = Run(folder, out)
            where.append(f"{kill_at(run, stage, seconds, rng)} {time.monotonic() - begin:.2f} s")
        last = Run(folder, out)
        code = last.end()
        rows.append(("kill -9", ", ".join(where), str(code), compared(out, whole)))
        print(rows[-1], flush=True)
    return rows


def signalled(folder: Path, whole: dict, rng: random.Random) -> list[Row]:
    """Return rows for SIGINT and SIGTERM while training, evaluating and writing."""
    rows = []
    for number in (signal.SIGINT, signal.SIGTERM):
        for stage in ("train", "evaluate", "write"):
            out = folder / f"{number.name}{stage}"
            run = Run(folder, out)
            run.wait_for(lambda word=MARKS[stage], run=run: word in run.errors())
            run.wait_for(delay(0.3 * rng.random()))
            code = run.end(number)
            said = lines(run)
            Run(folder, out).end()
            rows.append((f"{number.name} ({stage})", said, str(code), compared(out, whole)))
            print(rows[-1], flush=True)
    return rows


def starved(folder: Path, whole: dict) -> list[Row]:
    """Return rows for disks without space and folders without permission."""
    rows = []
    for size in (300, 5_000, 60_000):
        out = folder / f"limit{size}"

        def limit(size: int = size) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

        # what is said goes to a file, too: it must fit
        run = Run(folder, out, limit)
        code = run.end()
        said = lines(run).replace(str(folder), "...")
        Run(folder, out).end()
        rows.append((f"files of {size} bytes at most", said, str(code), compared(out, whole)))
        print(rows[-1], flush=True)
    disk = folder / "disk"
    disk.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if os.geteuid() == 0 and subprocess.run(mounted, capture_output=True).returncode == 0:
        try:
            out = disk / "out"
            run = Run(folder, out)
            code = run.end()
            said = lines(run).replace(str(folder), "...")
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            Run(folder, out).end()
            rows.append(("full disk of 256 kB", said, str(code), compared(out, whole)))
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            run = Run(folder, out)
            code = run.end()
            said = lines(run).replace(str(folder), "...")
            rows.append(("read-only folder", said, str(code), compared(out, whole)))
        finally:
            subprocess.run(["umount", str(disk)], check=True)
    for row in rows[3:]:
        print(row, flush=True)
    return rows


def two_at_once(folder: Path, whole: dict) -> list[Row]:
    """Return a row for a second process in a folder that is in use."""
    out = folder / "both"
    first = Run(folder, out)
    first.wait_for(lambda: "training" in first.errors())
    second = Run(folder, out)
    code = second.end()
    said = lines(second).replace(str(folder), "...")
    assert first.end() == 0, first.errors()
    rows = [("second process", said, str(code), compared(out, whole))]
    print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Run everything and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--only", choices=["kills", "signals", "disks", "two"])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "kill.md")
    options = parser.parse_args()
    from difana.data.generate import write_resonance

    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_resonance(folder / "ntuples", events=2000)
        (folder / "analysis.yaml").write_text(CONFIG)
        cold = Run(folder, folder / "cold")
        assert cold.end() == 0, cold.errors()
        seconds = durations(folder, folder / "whole")
        whole = contents(folder / "whole")
        print({stage: round(value, 2) for stage, value in seconds.items()}, flush=True)
        rows: list[Row] = [("none (again)", "", "0", compared(folder / "cold", whole))]
        print(rows[-1], flush=True)
        parts = {
            "kills": lambda: killed(folder, whole, seconds, options.kills, rng),
            "signals": lambda: signalled(folder, whole, rng),
            "disks": lambda: starved(folder, whole),
            "two": lambda: two_at_once(folder, whole),
        }
        for part, function in parts.items():
            if options.only in (None, part):
                rows += function()
    table = [
        "# Killed, interrupted, starved runs",
        "",
        f"`python benchmarks/kill.py --seed {options.seed} --kills {options.kills}`: a small",
        "`difana run` is disturbed, then the same command runs to its end. All files of the folder",
        f"({len(whole)} files, checkpoints included; not `timing.json`) are compared with those of",
        "an undisturbed run, byte for byte.",
        "",
        "| disturbance | where, or what standard error says | exit code | folder in the end |",
        "|---|---|---|---|",
        *(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows),
        "",
    ]
    options.out.write_text("\n".join(table))


if __name__ == "__main__":
    main()
