"""A file with the columns of another one and new ones that are computed from it, in chunks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from jaxtyping import Shaped

from difana._errors import InputError, nearest
from difana._progress import ProgressBar
from difana.data._assemble import exact_piece, join, piece
from difana.data._names import target_names
from difana.data._recipe import Columns, Reading, recipe
from difana.data._sinks import SUFFIXES, open_sinks, replacing
from difana.data._table import closing, existing
from difana.data._window import Window
from difana.data.convert import blaming, cast, choose
from difana.data.events import Events
from difana.data.files import opener_of
from difana.data.root import split_path


class Chunk:
    """Some entries of a file, of which new columns are computed.

    Attributes:
        size: Number of entries.
    """

    def __init__(self, window: Window) -> None:
        """Look at entries of an open table."""
        self._window = window
        self.size = window.stop - window.start

    def events(
        self, *, columns: Columns, **options: Unpack[Reading]
    ) -> tuple[Events, Shaped[np.ndarray, " selected"]]:
        """Return the selected events and their places in the chunk; options of `read_events`."""
        what, table = recipe(columns=columns, **options), self._window
        part = piece(table, what, table.start, table.stop)
        return join([part], what, table.label), part.entries - table.start

    def identifiers(
        self, *, columns: Columns, selection: str | None = None
    ) -> dict[str, Shaped[np.ndarray, " selected"]]:
        """Return what names the selected events, as `read_identifiers`."""
        what, table = recipe(columns=columns, selection=selection), self._window
        return exact_piece(table, what, table.start, table.stop)


@dataclasses.dataclass(frozen=True)
class ExtensionReport:
    """What `extend_file` wrote.

    Attributes:
        target: The file.
        entries: Number of entries.
        kept: Columns of the source.
        new: Columns that were computed.
        skipped: Reason by name for each column that was to be kept and cannot be written.
        renamed: Name in the target of each column that cannot keep its own.
    """

    target: Path
    entries: int
    kept: tuple[str, ...]
    new: tuple[str, ...]
    skipped: Mapping[str, str]
    renamed: Mapping[str, str]

    def __str__(self) -> str:
        """Return a few lines to print."""
        text = f"{self.target}: {self.entries} entries, {len(self.kept)} columns kept, new: "
        text += ", ".join(self.renamed.get(name, name) for name in self.new)
        text += "".join(f"\n  renamed '{name}' to '{new}'" for name, new in self.renamed.items())
        return text + "".join(f"\n  skipped {name}: {why}" for name, why in self.skipped.items())


def extend_file(
    source: str | Path,
    target: str | Path,
    compute: Callable[[Chunk], Mapping[str, Shaped[np.ndarray, " entries"]]],
    *,
    keep: str | Sequence[str] = "*",
    tree: str | None = None,
    metadata: Mapping[str, str] | None = None,
    chunk_size: int = 100_000,
    progress: bool = False,
) -> ExtensionReport:
    """Write a file with columns of another one and new ones.

    The entries stay as they are, in number and order: without columns of the source (``keep=()``)
    the new file is a friend tree. The file appears only when it is complete, and is written chunk
    by chunk, so that it may be larger than the memory.

    Args:
        source: The file to read: ROOT, HDF5 or parquet; ``file.root:tree`` names the tree, too.
        target: The file to write, in any of these formats, replaced if there is one.
        compute: Returns the new columns of a chunk: one value an entry, of the same types in all.
        keep: Names of columns of the source to write, too, or patterns with ``*`` and ``?``.
        tree: Tree of a ROOT file or group of an HDF5 file.
        metadata: Texts by key, kept in HDF5 and parquet files (`read_metadata`).
        chunk_size: Number of entries held in memory at a time.
        progress: Show a bar on a terminal.

    Returns:
        What was written.

    Raises:
        InputError: If a file is missing or broken, a pattern fits no column, a new column has the
            name of one that is kept, or the wrong length.

    Example:
        >>> import pathlib, tempfile
        >>> import jax.numpy as jnp
        >>> from difana.data import Events, read_events, to_root
        >>> def twice(chunk):
        ...     events, rows = chunk.events(columns=["x"], selection="x > 0")
        ...     found = np.full(chunk.size, np.nan)
        ...     found[rows] = 2 * events["x"]
        ...     return {"twice": found}
        >>> events = Events(jnp.array([[-1.0], [3.0]]), jnp.ones(2), columns=("x",))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = to_root(events, pathlib.Path(folder) / "a.root")
        ...     report = extend_file(path, pathlib.Path(folder) / "b.parquet", twice, keep="x")
        ...     read_events(report.target, columns=["x", "fill(twice, 0)"]).features.tolist()
        [[-1.0, 0.0], [3.0, 6.0]]
    """
    path, inside = split_path(str(source))
    tree, target = inside or tree, Path(target).expanduser()
    if target.suffix not in SUFFIXES:
        raise InputError(f"cannot write '{target}': the suffix must be one of {SUFFIXES}")
    if chunk_size < 1:
        raise InputError(f"chunk_size must be at least 1, got {chunk_size}")
    opener = opener_of(path, tree)
    if existing(path).resolve() == target.resolve():
        raise InputError(f"source and target are the same file '{path}'")
    patterns = (keep,) if isinstance(keep, str) else tuple(keep)
    with closing(opener()) as table, replacing(target) as temporary:
        wanted = _matching(table.columns(), patterns, table.label)
        # types that hold all chunks, whatever the formats are
        kept, skipped = choose(table, chunk_size, "", only=wanted)
        names: dict[str, str] = {}
        new: tuple[str, ...] = ()
        with (
            open_sinks(temporary) as sinks,
            ProgressBar(target.name, total=table.entries, enabled=progress) as bar,
        ):
            sink = sinks(getattr(table, "tree", "events") if target.suffix == ".root" else "")
            if metadata and target.suffix != ".root":
                sink.annotate(metadata)
            for start in range(0, max(table.entries, 1), chunk_size):
                window = Window(table, start, min(start + chunk_size, table.entries))
                found = compute(Chunk(window))
                if not names:
                    new = tuple(found)
                    _require_free(new, kept)
                    names = target_names((*kept, *new), target.suffix)
                _require_size(found, window)
                old = window.arrays(kept, window.start, window.stop)
                columns = {names[name]: cast(old[name], kept[name]) for name in kept}
                columns |= {names[name]: np.asarray(found[name]) for name in new}
                with blaming(path):
                    sink.write(columns)
                bar.advance(window.stop - window.start)
            sink.close()
        renamed = {old: name for old, name in names.items() if old != name}
        return ExtensionReport(target, table.entries, tuple(kept), new, skipped, renamed)


def _matching(columns: Sequence[str], patterns: Sequence[str], label: str) -> tuple[str, ...]:
    for pattern in patterns:
        if pattern != "*" and not any(fnmatchcase(name, pattern) for name in columns):
            raise InputError(
                f"no column of {label} is called '{pattern}'.{nearest(pattern, columns)}"
            )
    return tuple(name for name in columns if any(fnmatchcase(name, p) for p in patterns))


def _require_free(new: Sequence[str], kept: Mapping[str, Any]) -> None:
    for name in new:
        if name in kept:
            raise InputError(
                f"the file has a column '{name}' already: keep other columns, or choose other "
                "names for the new ones"
            )


def _require_size(found: Mapping[str, Any], window: Window) -> None:
    size = window.stop - window.start
    for name, values in found.items():
        if len(values) != size:
            raise InputError(f"the new column '{name}' has {len(values)} values for {size} entries")
