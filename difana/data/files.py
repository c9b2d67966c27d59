"""Events from files of any format, chosen by the suffix."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Unpack

import numpy as np
from jaxtyping import Shaped

from difana._errors import InputError, nearest
from difana.data import _assemble
from difana.data._recipe import Columns, Reading, recipe
from difana.data._sinks import SUFFIXES
from difana.data._table import AbstractTable, Files, existing, expand
from difana.data.events import Events
from difana.data.hdf5 import Hdf5Table
from difana.data.parquet import ParquetTable
from difana.data.root import RootTable, split_path


def read_events(
    files: Files,
    *,
    columns: Columns,
    tree: str | None = None,
    entry_start: int | None = None,
    entry_stop: int | None = None,
    **options: Unpack[Reading],
) -> Events:
    """Read events from ROOT, HDF5 or parquet files, also mixed ones.

    Everything may be the name of a column or an `Expression` of such names. The selection is
    applied first, so ``jet_pt[:, 0]`` is safe behind ``num(jet_pt) > 0``.

    - ROOT: columns are branches; ``file.root:tree`` names the tree, too.
    - HDF5: columns are datasets (by their path below the group), fields of compound datasets, and
      groups with ``content`` and ``offsets`` (jagged, as `to_hdf5` writes them). A path with a
      slash stands in backquotes inside an expression.
    - parquet: list columns are jagged; a missing value (null) counts as not finite.

    Args:
        files: Path, glob or list of these.
        columns: Features, one number an event: names or expressions, or a mapping from column
            name to expression.
        tree: Tree of ROOT files (may be left out where there is only one); group or compound
            dataset of HDF5 files (the whole file if left out); not for parquet.
        entry_start: First entry, counted through all files.
        entry_stop: Entry behind the last one, counted through all files.
        **options: ``weight``: expression of the event weight, 1 if left out, kept in float64.
            ``selection``: expression that is true for the events to keep. ``units`` of the
            columns: a list in their order or a mapping. ``particles``: jagged columns (names or
            a mapping) that become ``Events.particles``, padded with zeros, in the order of the
            file. ``max_particles``: number of particles to pad or cut to, the largest number
            found if left out. ``leading``: a channel by which particles are sorted, largest first,
            so that the leading ones are kept. ``aliases``: further names, defined by
            expressions. ``dtype`` of features and particles on the way to JAX, float32 if left out.

    Returns:
        The selected events, in the order of the files.

    Raises:
        InputError: If a suffix is unknown, a file, tree or column is missing or broken, an
            expression is wrong, no event is selected, or a feature or weight is not finite. The
            message names it.

    Example:
        >>> import pathlib, tempfile
        >>> import jax.numpy as jnp
        >>> from difana.data import Events, read_events, to_root
        >>> events = Events(jnp.array([[30.0], [50.0]]), jnp.ones(2), columns=("pt",))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = to_root(events, pathlib.Path(folder) / "events.root")
        ...     read = read_events(path, columns={"x": "pt / 100"}, selection="pt > 40")
        >>> read["x"].tolist()
        [0.5]
        >>> read_events("events.txt", columns=["pt"])
        Traceback (most recent call last):
        difana._errors.InputError: cannot read 'events.txt': the suffix must be one of ...
    """
    what = recipe(columns=columns, **options)
    return _assemble.read(_openers(files, tree), what, _assemble.Ranges(entry_start, entry_stop))


def iterate_events(
    files: Files,
    *,
    columns: Columns,
    chunk_size: int = 100_000,
    tree: str | None = None,
    entry_start: int | None = None,
    entry_stop: int | None = None,
    **options: Unpack[Reading],
) -> Iterator[Events]:
    """Yield events of files in chunks, for files larger than memory.

    Chunks in which no event is selected are left out. Give ``max_particles``, or each chunk is
    padded to its own largest number of particles.

    Args:
        files: As in `read_events`, like all others but one.
        columns: Features.
        chunk_size: Number of entries to read at a time (a chunk never spans two files).
        tree: Tree or group.
        entry_start: First entry.
        entry_stop: Entry behind the last one.
        **options: ``weight``, ``selection``, ...

    Yields:
        The selected events of each chunk.

    Raises:
        InputError: As `read_events`.

    Example:
        >>> import pathlib, tempfile
        >>> import jax.numpy as jnp
        >>> from difana.data import Events, iterate_events, to_root
        >>> events = Events(jnp.ones((5, 1)), jnp.ones(5), columns=("pt",))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = to_root(events, pathlib.Path(folder) / "events.root")
        ...     [len(chunk) for chunk in iterate_events(path, columns=["pt"], chunk_size=2)]
        [2, 2, 1]
    """
    what = recipe(columns=columns, **options)
    wanted = _assemble.Ranges(entry_start, entry_stop, chunk_size)
    return _assemble.iterate(_openers(files, tree), what, wanted)


def read_identifiers(
    files: Files,
    *,
    columns: Columns,
    tree: str | None = None,
    selection: str | None = None,
    aliases: Mapping[str, str] | None = None,
    entry_start: int | None = None,
    entry_stop: int | None = None,
) -> dict[str, Shaped[np.ndarray, " events"]]:
    """Read what names each event, in full precision, for `split`.

    With the same files, selection and entry range the rows are those of `read_events`.

    Args:
        files: Path, glob or list of these.
        columns: Branches or expressions, e.g. ``["run", "event"]``, or these by name.
        tree: See `read_events`.
        selection: See `read_events`.
        aliases: See `read_events`.
        entry_start: See `read_events`.
        entry_stop: See `read_events`.

    Returns:
        One array by column.

    Raises:
        InputError: See `read_events`.

    Example:
        >>> import pathlib, tempfile
        >>> import jax.numpy as jnp
        >>> from difana.data import Events, to_root
        >>> events = Events(jnp.ones((2, 1)), jnp.ones(2), columns=("pt",))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = to_root(events, pathlib.Path(folder) / "a.root", extra={"event": [7, 2**60]})
        ...     read_identifiers(path, columns=["event"])["event"].tolist()
        [7, 1152921504606846976]
    """
    what = recipe(columns=columns, selection=selection, aliases=aliases)
    return _assemble.exact(_openers(files, tree), what, _assemble.Ranges(entry_start, entry_stop))


def _openers(files: Files, tree: str | None) -> list[functools.partial[AbstractTable]]:
    return [opener_of(path, tree) for path in expand(files)]


def opener_of(path: str, tree: str | None) -> functools.partial[AbstractTable]:
    """Return how to open a file, chosen by its suffix."""
    suffix = Path(split_path(path)[0]).suffix
    if suffix == ".root":
        return functools.partial(RootTable, path, tree)
    if suffix in (".h5", ".hdf5"):
        return functools.partial(Hdf5Table, path, tree)
    if suffix == ".parquet":
        return functools.partial(ParquetTable, path)
    if Path(path).is_dir():
        existing(path)  # says so
    raise InputError(
        f"cannot read '{path}': the suffix must be one of {SUFFIXES}.{nearest(suffix, SUFFIXES)}"
    )
