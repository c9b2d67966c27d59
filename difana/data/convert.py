"""Conversion between ROOT, HDF5 and parquet, every column, chunk by chunk."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from difana._errors import InputError
from difana.data._exact import above
from difana.data._names import target_names
from difana.data._parquet_sink import ParquetSink
from difana.data._sink import layout_of
from difana.data._sinks import SUFFIXES, open_sinks, replacing
from difana.data._table import (
    AbstractTable,
    closing,
    existing,
    guarded,
    reason_of,
    reraise_stop,
)
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
        renamed: Name in the target of each column that cannot keep its own.
    """

    source: Path
    target: Path
    entries: Mapping[str, int]
    converted: tuple[str, ...]
    skipped: Mapping[str, str]
    renamed: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        """Return a few lines to print."""
        total = sum(self.entries.values())
        text = (
            f"{self.source} -> {self.target}: {total} entries, {len(self.converted)} columns"
            f" converted, {len(self.skipped)} skipped"
        )
        text += "".join(f"\n  renamed '{name}' to '{new}'" for name, new in self.renamed.items())
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
    From parquet to parquet every column stays as it is; elsewhere missing numbers become
    not-a-number. A name that the target does not allow, or that would hide another column, is
    changed, and the report says so.

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
    _require_apart(tables, path)
    entries: dict[str, int] = {}
    converted: list[str] = []
    skipped: dict[str, str] = {}
    renamed: dict[str, str] = {}
    with replacing(target) as temporary:
        with open_sinks(temporary) as sinks:
            for name, opener in tables.items():
                # one tree lies at the top of an HDF5 file
                alone = len(tables) == 1 and target.suffix != ".root"
                prefix = "" if len(tables) == 1 else f"{name}/"
                with closing(opener()) as table:
                    kept, left = choose(table, chunk_size, target.suffix)
                    names = target_names(kept, target.suffix)
                    if kept:
                        with blaming(path):
                            sink = sinks("" if alone else name)
                            _copy(table, sink, chunk_size, kept, names)
                            sink.close()
                    entries[name] = table.entries
                converted += [f"{prefix}{column}" for column in kept]
                skipped |= {f"{prefix}{column}": reason for column, reason in left.items()}
                renamed |= {f"{prefix}{old}": new for old, new in names.items() if old != new}
        if not converted:
            raise InputError(f"nothing in '{path}' can be converted: {skipped or 'no columns'}")
    return ConversionReport(Path(path), target, entries, tuple(converted), skipped, renamed)


@contextlib.contextmanager
def blaming(path: str) -> Iterator[None]:
    """Name the source in every error but those of the disk."""
    try:
        yield
    except OSError:
        raise
    except BaseException as error:
        reraise_stop(error)
        if isinstance(error, InputError) and path in str(error):
            raise
        raise InputError(f"cannot convert '{path}': {reason_of(error)}") from error


def _require_apart(tables: Mapping[str, Any], path: str) -> None:
    """Refuse trees of which one would lie inside another."""
    for name in tables:
        inside = [other for other in tables if other.startswith(f"{name}/")]
        if inside:
            raise InputError(
                f"file '{path}' has a tree '{name}' and a tree '{inside[0]}', which cannot lie in "
                "one file: choose one (tree=, --tree)"
            )


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


def choose(
    table: AbstractTable, chunk_size: int, suffix: str, *, only: Iterable[str] | None = None
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the type of each column to write (None: as it is), and the reasons for the others."""
    kept: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    for name in table.columns() if only is None else only:
        try:
            if suffix == ".parquet" and isinstance(table, ParquetTable):
                table.arrow(name, 0, min(1, table.entries))
                kept[name] = None
            else:
                kept[name] = _type_of(table, name, chunk_size)
        except BaseException as error:
            reraise_stop(error)
            skipped[name] = reason_of(error.__cause__ or error)
    return kept, skipped


def _type_of(table: AbstractTable, name: str, chunk_size: int) -> np.dtype | None:
    """Return the type of numbers that holds a column in all chunks, None for texts.

    Raises:
        InputError: If a chunk cannot be written; says why.
    """
    found: dict[tuple[str, Any], None] = {}
    large = False
    many = isinstance(table, ParquetTable) and table.missing(name)
    for start in range(0, max(table.entries, 1) if many else 1, chunk_size):
        array = guarded(table, name, start, min(start + chunk_size, table.entries))
        kind, reason = layout_of(array)
        if not kind:
            raise InputError(reason)
        numbers = None if kind == "strings" else _numbers_of(array)
        found[kind, None if numbers is None else numbers.dtype] = None
        large = large or (numbers is not None and above(numbers, 2**53))
    kinds, types = {kind for kind, _ in found}, [dtype for _, dtype in found]
    if len(kinds) > 1:
        raise InputError(f"its layout changes: {' and '.join(sorted(kinds))}")
    if types[0] is None:
        return None
    whole = np.result_type(*types)
    if large and whole.kind == "f":
        raise InputError("missing integers above 2**53 (null), which only parquet can hold")
    return whole


def _numbers_of(array: Any) -> np.ndarray:
    """Return all numbers of a column."""
    import awkward as ak

    return array if isinstance(array, np.ndarray) else np.asarray(ak.ravel(array))


def _copy(
    table: AbstractTable,
    sink: Any,
    chunk_size: int,
    kept: Mapping[str, Any],
    names: Mapping[str, str],
) -> None:
    """Copy columns of one table under their new names."""
    for start in range(0, max(table.entries, 1), chunk_size):
        stop = min(start + chunk_size, table.entries)
        if isinstance(table, ParquetTable) and isinstance(sink, ParquetSink):
            sink.write({names[name]: table.arrow(name, start, stop) for name in kept})
        else:
            arrays = table.arrays(kept, start, stop)
            sink.write({names[name]: cast(arrays[name], kept[name]) for name in kept})


def cast(array: Any, dtype: np.dtype | None) -> Any:
    """Return numbers in the type that holds those of all chunks."""
    import awkward as ak

    if dtype is None or _numbers_of(array).dtype == dtype:
        return array
    if isinstance(array, np.ndarray):
        return array.astype(dtype)
    return ak.values_astype(array, dtype)
