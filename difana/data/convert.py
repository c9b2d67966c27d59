"""Conversion between ROOT, HDF5 and parquet, every column, chunk by chunk."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from difana._errors import InputError
from difana.data._sinks import SUFFIXES, layout_of, open_sinks, replacing
from difana.data._table import AbstractTable, closing, existing, simplify
from difana.data.hdf5 import Hdf5Table
from difana.data.parquet import ParquetTable
from difana.data.root import RootTable, open_root, split_path, trees


@dataclasses.dataclass(frozen=True)
class ConversionReport:
    """What `convert` did.

    Attributes:
        source: The file read.
        target: The file written.
        entries: Number of entries by tree (one name for formats without trees).
        converted: Names of the columns written, ``tree/column`` where there are several trees.
        skipped: Reason by name for each column that was left out.
    """

    source: Path
    target: Path
    entries: Mapping[str, int]
    converted: tuple[str, ...]
    skipped: Mapping[str, str]

    def __str__(self) -> str:
        """Return a few lines to print."""
        total = sum(self.entries.values())
        text = (
            f"{self.source} -> {self.target}: {total} entries, {len(self.converted)} columns"
            f" converted, {len(self.skipped)} skipped"
        )
        return text + "".join(f"\n  skipped {name}: {why}" for name, why in self.skipped.items())


def convert(
    source: str | Path,
    target: str | Path,
    *,
    tree: str | None = None,
    chunk_size: int = 100_000,
) -> ConversionReport:
    """Convert a file between ``.root``, ``.h5``/``.hdf5`` and ``.parquet``.

    Every column of numbers, booleans or strings is converted: one value an event, a fixed number
    of values, or a jagged list (in HDF5: a group with ``content`` and ``offsets``). Of a ROOT file
    with several trees all are converted, into one group or tree each; parquet holds one table.

    Args:
        source: The file to read; ``file.root:tree`` names the tree, too.
        target: The file to write, replaced if there is one.
        tree: Tree of a ROOT file or group of an HDF5 file; all if left out.
        chunk_size: Number of entries held in memory at a time.

    Returns:
        The report of what was converted and what was skipped, with reasons.

    Raises:
        InputError: If a file or tree is missing or broken, or nothing can be converted.

    Example:
        >>> import pathlib, tempfile
        >>> import jax.numpy as jnp
        >>> from difana.data import Events, convert, to_root
        >>> events = Events(jnp.ones((2, 1)), jnp.ones(2), columns=("pt",))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = to_root(events, pathlib.Path(folder) / "events.root")
        ...     convert(path, path.with_suffix(".h5")).converted
        ('pt', 'weight')
    """
    path, inside = split_path(str(source))
    tree = inside or tree
    target = Path(target).expanduser()
    for file in (Path(path), target):
        if file.suffix not in SUFFIXES:
            raise InputError(f"cannot convert '{file}': the suffix must be one of {SUFFIXES}")
    if chunk_size < 1:
        raise InputError(f"chunk_size must be at least 1, got {chunk_size}")
    if existing(path).resolve() == target.resolve():
        raise InputError(f"source and target are the same file '{path}'")
    tables = _tables(path, tree)
    if len(tables) > 1 and target.suffix == ".parquet":
        raise InputError(
            f"file '{path}' holds several trees and parquet only one: choose {list(tables)}"
        )
    entries: dict[str, int] = {}
    converted: list[str] = []
    skipped: dict[str, str] = {}
    with replacing(target) as temporary:
        with open_sinks(temporary) as sinks:
            for name, opener in tables.items():
                # one tree lies at the top of an HDF5 file
                alone = len(tables) == 1 and target.suffix != ".root"
                prefix = "" if len(tables) == 1 else f"{name}/"
                with closing(opener()) as table:
                    sink = sinks("" if alone else name)
                    kept, left = _copy(table, sink, chunk_size)
                    sink.close()
                    entries[name] = table.entries
                converted += [f"{prefix}{column}" for column in kept]
                skipped |= {f"{prefix}{column}": reason for column, reason in left.items()}
        if not converted:
            raise InputError(f"nothing in '{path}' can be converted: {skipped or 'no columns'}")
    return ConversionReport(Path(path), target, entries, tuple(converted), skipped)


def _tables(path: str, tree: str | None) -> dict[str, Callable[[], AbstractTable]]:
    """Return how to open each tree of the source."""
    suffix = Path(path).suffix
    if suffix == ".parquet":
        return {"events": lambda: ParquetTable(path)}
    if suffix != ".root":
        return {(tree or "events").strip("/"): lambda: Hdf5Table(path, tree)}
    if tree is not None:
        return {tree: lambda: RootTable(path, tree)}
    with open_root(path) as file:
        names = trees(file)
    if not names:
        raise InputError(f"file '{path}' holds no tree")
    return {name: lambda name=name: RootTable(path, name) for name in names}


def _copy(table: AbstractTable, sink: Any, chunk_size: int) -> tuple[list[str], dict[str, str]]:
    """Copy one table; return the columns written and the reasons for those left out."""
    skipped: dict[str, str] = {}
    kept: list[str] = []
    first = min(chunk_size, table.entries)
    for name in table.columns():
        try:
            kind, reason = layout_of(simplify(table.read(name, 0, first)))
        except Exception as error:
            kind, reason = "", (str(error).strip() or type(error).__name__).split("\n")[0]
        if kind:
            kept.append(name)
        else:
            skipped[name] = reason
    if kept:
        for start in range(0, max(table.entries, 1), chunk_size):
            stop = min(start + chunk_size, table.entries)
            sink.write(table.arrays(kept, start, stop))
    return kept, skipped
