"""Events from parquet files, through pyarrow."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from difana._errors import InputError
from difana.data import _assemble
from difana.data._recipe import Columns, recipe
from difana.data._table import AbstractTable, Files, existing, expand
from difana.data.events import Events


class ParquetTable(AbstractTable):
    """One parquet file."""

    kind = "column"

    def __init__(self, path: str) -> None:
        """Open the file and read its schema."""
        import pyarrow.parquet as pq

        existing(path)
        self.label = f"parquet file '{path}'"
        try:
            self._file = pq.ParquetFile(path)
        except Exception as error:
            reason = str(error).strip().split("\n")[0]
            raise InputError(
                f"cannot read '{path}': it is truncated or no parquet file ({reason})"
            ) from error
        self.entries = self._file.metadata.num_rows
        self._columns = tuple(self._file.schema_arrow.names)
        sizes = [
            self._file.metadata.row_group(i).num_rows
            for i in range(self._file.metadata.num_row_groups)
        ]
        self._starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])

    def names(self) -> frozenset[str]:
        """Return the column names."""
        return frozenset(self._columns)

    def columns(self) -> tuple[str, ...]:
        """Return the column names in the order of the file."""
        return self._columns

    def read(self, name: str, start: int, stop: int) -> Any:
        """Return a range of a column, from the row groups that overlap it."""
        import awkward as ak

        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        last = int(np.searchsorted(self._starts, stop, side="left"))
        groups = list(range(max(first, 0), max(last, first + 1)))
        groups = [group for group in groups if group < len(self._starts) - 1]
        column = self._file.read_row_groups(groups, columns=[name]).column(name)
        offset = start - int(self._starts[groups[0]]) if groups else 0
        return ak.from_arrow(column.combine_chunks().slice(offset, stop - start))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def from_parquet(
    files: Files,
    *,
    columns: Columns,
    weight: str | float | None = None,
    selection: str | None = None,
    units: Sequence[str] | Mapping[str, str] | None = None,
    particles: Columns | None = None,
    max_particles: int | None = None,
    aliases: Mapping[str, str] | None = None,
    entry_start: int | None = None,
    entry_stop: int | None = None,
    dtype: Any = np.float32,
) -> Events:
    """Read events from parquet files; list columns are jagged.

    Args:
        files: Path, glob or list of these.
        columns: See `from_root`.
        weight: See `from_root`.
        selection: See `from_root`.
        units: See `from_root`.
        particles: See `from_root`.
        max_particles: See `from_root`.
        aliases: See `from_root`.
        entry_start: See `from_root`.
        entry_stop: See `from_root`.
        dtype: See `from_root`.

    Returns:
        The selected events, in the order of the files.

    Raises:
        InputError: See `from_root`; a missing value (null) counts as not finite.

    Example:
        >>> import pathlib, tempfile
        >>> import jax.numpy as jnp
        >>> from difana.data import Events, from_parquet, to_parquet
        >>> events = Events(jnp.array([[30.0], [50.0]]), jnp.ones(2), columns=("pt",))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = to_parquet(events, pathlib.Path(folder) / "events.parquet")
        ...     len(from_parquet(path, columns=["pt"], selection="pt > 40"))
        1
    """
    what = recipe(
        columns=columns,
        weight=weight,
        selection=selection,
        units=units,
        particles=particles,
        max_particles=max_particles,
        aliases=aliases,
        dtype=dtype,
    )
    openers = [functools.partial(ParquetTable, path) for path in expand(files)]
    return _assemble.read(openers, what, _assemble.Ranges(entry_start, entry_stop))


def iterate_parquet(
    files: Files,
    *,
    columns: Columns,
    chunk_size: int = 100_000,
    **options: Any,
) -> Iterator[Events]:
    """Yield events of parquet files in chunks.

    Args:
        files: Path, glob or list of these.
        columns: See `from_root`.
        chunk_size: Number of entries to read at a time.
        **options: As `from_parquet`.

    Yields:
        The selected events of each chunk; chunks without one are left out.

    Raises:
        InputError: See `from_root`.

    Example:
        >>> next(iterate_parquet("missing.parquet", columns=["pt"]))
        Traceback (most recent call last):
        difana._errors.InputError: no file 'missing.parquet'...
    """
    start, stop = options.pop("entry_start", None), options.pop("entry_stop", None)
    what = recipe(columns=columns, **options)
    openers = [functools.partial(ParquetTable, path) for path in expand(files)]
    return _assemble.iterate(openers, what, _assemble.Ranges(start, stop, chunk_size))
