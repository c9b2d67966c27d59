"""Events from files of any format, chosen by the suffix."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from difana._errors import InputError, nearest
from difana.data import _assemble
from difana.data._recipe import Columns, recipe
from difana.data._sinks import SUFFIXES
from difana.data._table import AbstractTable, Files, expand
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
    **options: Any,
) -> Events:
    """Read events from ROOT, HDF5 or parquet files, also mixed ones.

    Args:
        files: Path, glob or list of these.
        columns: See `from_root`.
        tree: Tree of ROOT files, group of HDF5 files; not for parquet.
        entry_start: See `from_root`.
        entry_stop: See `from_root`.
        **options: ``weight``, ``selection``, ``units``, ``particles``, ``max_particles``,
            ``aliases`` and ``dtype`` of `from_root`.

    Returns:
        The selected events, in the order of the files.

    Raises:
        InputError: See `from_root`; also if the suffix is unknown.

    Example:
        >>> read_events("events.txt", columns=["pt"])
        Traceback (most recent call last):
        difana._errors.InputError: cannot read 'events.txt': the suffix must be one of ...
    """
    openers = [_opener(path, tree) for path in expand(files)]
    what = recipe(columns=columns, **options)
    return _assemble.read(openers, what, _assemble.Ranges(entry_start, entry_stop))


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
        selection: See `from_root`.
        aliases: See `from_root`.
        entry_start: See `from_root`.
        entry_stop: See `from_root`.

    Returns:
        One array by column.

    Raises:
        InputError: See `from_root`.

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
    openers = [_opener(path, tree) for path in expand(files)]
    what = recipe(columns=columns, selection=selection, aliases=aliases)
    wanted = _assemble.Ranges(entry_start, entry_stop)
    return _assemble.exact(openers, what, wanted)


def _opener(path: str, tree: str | None) -> functools.partial[AbstractTable]:
    suffix = Path(split_path(path)[0]).suffix
    if suffix == ".root":
        return functools.partial(RootTable, path, tree)
    if suffix in (".h5", ".hdf5"):
        return functools.partial(Hdf5Table, path, tree)
    if suffix == ".parquet":
        return functools.partial(ParquetTable, path)
    raise InputError(
        f"cannot read '{path}': the suffix must be one of {SUFFIXES}.{nearest(suffix, SUFFIXES)}"
    )
