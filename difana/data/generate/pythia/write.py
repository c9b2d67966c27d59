"""Files of generated rows: several processes, resumable, one parquet file at the end."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from difana._errors import ConfigError, InputError
from difana._files import locked
from difana._options import whole_number
from difana._progress import ProgressBar
from difana.data._sinks import open_sink, replacing
from difana.data.generate.pythia.settings import SHOWER_WEIGHTS, Generation
from difana.data.generate.pythia.simulate import simulate
from difana.data.metadata import read_metadata

CHUNK = 1000
"""Rows that are generated at once: what is lost when a run is killed."""

_RECIPE = "difana_pythia"


def write_generated(
    generation: Generation,
    path: str | Path,
    *,
    number: int,
    processes: int | None = None,
    chunk: int = CHUNK,
    progress: bool = False,
) -> Path:
    """Generate rows of a process and write them to a parquet file; what is there is not made again.

    The rows come in chunks, each a pure function of settings, seed and number, in processes of
    their own. A killed run goes on with the chunks that are missing; a file of the same recipe is
    returned as it is.

    Args:
        generation: What is generated.
        path: The file, ending in ``.parquet``; chunks are kept beside it until it is complete.
        number: Number of rows.
        processes: Number of processes; None: as many as there are cores.
        chunk: Rows of a chunk.
        progress: Whether a bar is shown on a terminal.

    Returns:
        The path.

    Raises:
        ConfigError: If a setting has no meaning, or the file has another recipe.
        InputError: If nothing passes the selection, or the file cannot be written.
        ModuleNotFoundError: If Pythia or fastjet is missing.

    Example:
        >>> write_generated(Generation("top"), "jets.root", number=10)
        Traceback (most recent call last):
        difana._errors.InputError: generated events are written to a .parquet file, got 'jets.root'
    """
    path = Path(path).expanduser()
    if path.suffix != ".parquet":
        raise InputError(f"generated events are written to a .parquet file, got '{path}'")
    whole_number("number", number)
    whole_number("chunk", chunk)
    count = os.cpu_count() or 1 if processes is None else whole_number("processes", processes)
    recipe = json.dumps(
        {**generation.recipe(), "number": number, "chunk": chunk, **_versions()}, sort_keys=True
    )
    if path.exists():
        if read_metadata(path).get(_RECIPE) != recipe:
            raise ConfigError(f"'{path}' holds other events: give another file, or remove it.")
        return path
    if not path.parent.is_dir():
        raise InputError(f"cannot write '{path}': there is no folder '{path.parent}'")
    folder = path.with_name(f".{path.stem}.parts")
    folder.mkdir(exist_ok=True)
    with locked(folder):
        _same_recipe(folder / "recipe.json", recipe)
        sizes = [min(chunk, number - start) for start in range(0, number, chunk)]
        with ProgressBar(generation.process, total=number, enabled=progress) as bar:
            missing = [i for i in range(len(sizes)) if not _part(folder, i).exists()]
            if count == 1 or len(missing) <= 1:
                for i in missing:
                    make_part(generation, folder, i, sizes[i])
                    bar.update(sum(sizes[: i + 1]))
            else:
                _together(generation, folder, missing, sizes, count, bar)
        _merge(folder, path, len(sizes), recipe)
        for part in folder.iterdir():
            if not part.name.startswith(".difana"):
                part.unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()
    return path


def make_part(generation: Generation, folder: Path, number: int, rows: int) -> None:
    """Generate one chunk and write it, whole or not at all."""
    columns = simulate(generation, rows, chunk=number)
    with replacing(_part(folder, number)) as temporary, open_sink(temporary, "") as sink:
        sink.annotate({"tried": str(int(columns["event"][-1]) + 1)})
        sink.write(columns)


def _together(
    generation: Generation,
    folder: Path,
    missing: list[int],
    sizes: list[int],
    count: int,
    bar: ProgressBar,
) -> None:
    """Let several processes make the chunks: no import of the main module of the user."""
    job = {"folder": str(folder), "generation": generation.recipe(), "sizes": sizes}
    done = sum(sizes) - sum(sizes[i] for i in missing)
    with _workers(job, [missing[i::count] for i in range(min(count, len(missing)))]) as workers:
        while True:
            running = [worker for worker, _ in workers if worker.poll() is None]
            bar.update(done + sum(sizes[i] for i in missing if _part(folder, i).exists()))
            failed = [log for worker, log in workers if worker.poll()]
            if failed:
                raise InputError(f"a process that generates events failed: {_last_line(failed[0])}")
            if not running:
                return
            time.sleep(0.2)


@contextlib.contextmanager
def _workers(job: dict, shares: list[list[int]]) -> Iterator[list[tuple[subprocess.Popen, Path]]]:
    """Start the processes, and end them whatever happens."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment["JAX_PLATFORMS"] = "cpu"
    command = [sys.executable, "-m", "difana.data.generate.pythia._worker"]
    with tempfile.TemporaryDirectory() as logs:
        workers = []
        try:
            for i, share in enumerate(shares):
                log = Path(logs, f"{i}.txt")
                with log.open("w") as file:
                    workers.append((
                        subprocess.Popen(
                            [*command, json.dumps({**job, "chunks": share})],
                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=file,
                            env=environment,
                        ),
                        log,
                    ))  # fmt: skip
            yield workers
        finally:
            for worker, _ in workers:
                worker.terminate()
            for worker, _ in workers:
                worker.wait()


def _merge(folder: Path, path: Path, parts: int, recipe: str) -> None:
    """Write one file of all chunks: one cross-section, event numbers that do not repeat."""
    import pyarrow.parquet as pq

    tried = [int(read_metadata(_part(folder, i))["tried"]) for i in range(parts)]
    with replacing(path) as temporary, open_sink(temporary, "") as sink:
        sink.annotate({_RECIPE: recipe})
        for i in range(parts):
            table = pq.read_table(_part(folder, i))
            columns = {name: table[name] for name in table.column_names}
            columns["event"] = columns["event"].to_numpy() + sum(tried[:i])
            share = tried[i] / sum(tried)
            for name in ("weight", *SHOWER_WEIGHTS):
                if name in columns:
                    columns[name] = np.asarray(columns[name].to_numpy()) * share
            sink.write(columns)


def _part(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.parquet"


def _same_recipe(path: Path, recipe: str) -> None:
    """Keep the recipe beside the chunks; refuse chunks of another one."""
    if path.exists() and path.read_text(encoding="utf-8") != recipe:
        raise ConfigError(
            f"'{path.parent}' holds chunks of other events: remove it, or give another file."
        )
    path.write_text(recipe, encoding="utf-8")


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return {name: version(name) for name in ("pythia8mc", "fastjet")}
    except PackageNotFoundError as error:
        raise ModuleNotFoundError(
            "events of Pythia need pythia8mc and fastjet: pip install 'difana[pythia]'",
            name=error.name,
        ) from error


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it was killed"
