"""Events from HDF5 files, through h5py."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from difana._errors import InputError, nearest
from difana.data import _assemble
from difana.data._recipe import Columns, recipe
from difana.data._table import AbstractTable, Files, existing, expand
from difana.data.events import Events


class Hdf5Table(AbstractTable):
    """The datasets of one group of an HDF5 file.

    A dataset ``[events]`` or ``[events, ...]`` is a column by its path below the group; a group
    that holds ``content`` and ``offsets`` is a jagged column; the fields of a compound dataset are
    columns (by their own names where ``group`` is that dataset).
    """

    kind = "dataset"

    def __init__(self, path: str, group: str | None = None) -> None:
        """Open the file and find the columns."""
        import h5py

        existing(path)
        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            raise InputError(
                f"cannot read '{path}': it is truncated or no HDF5 file ({error})"
            ) from error
        try:
            root = _find(self._file, group or "/", path)
            self.label = f"group '{root.name}' of '{path}'"
            self._columns: dict[str, tuple[Any, str | None]] = {}
            self._collect(root, "")
            lengths = {name: self._length(name) for name in self._columns}
        except Exception:
            self._file.close()
            raise
        # other datasets of the file (e.g. edges) may have their own length
        self._lengths = lengths
        counts = list(lengths.values())
        self.entries = max(set(counts), key=counts.count) if counts else 0

    def names(self) -> frozenset[str]:
        """Return the paths below the group."""
        return frozenset(self._columns)

    def columns(self) -> tuple[str, ...]:
        """Return the paths in the order of the file."""
        return tuple(self._columns)

    def read(self, name: str, start: int, stop: int) -> Any:
        """Return a range of a dataset or of a jagged group."""
        import awkward as ak
        import h5py

        item, field = self._columns[name]
        if self._lengths[name] != self.entries:
            raise InputError(
                f"dataset '{name}' of {self.label} has {self._lengths[name]} entries, most others "
                f"{self.entries}"
            )
        if isinstance(item, h5py.Group):
            found: Any = item["offsets"]
            offsets = found[start : stop + 1].astype(np.int64)
            content = _values(item["content"], slice(int(offsets[0]), int(offsets[-1])))
            inner = ak.to_layout(content)
            layout = ak.contents.ListOffsetArray(ak.index.Index64(offsets - offsets[0]), inner)
            return ak.Array(layout)
        return _values(item if field is None else item.fields(field), slice(start, stop), item)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _collect(self, item: Any, path: str) -> None:
        import h5py

        if isinstance(item, h5py.Dataset):
            if item.dtype.names:
                for field in item.dtype.names:
                    self._columns[f"{path}/{field}".lstrip("/")] = (item, field)
            elif item.ndim:
                self._columns[path or str(item.name).rsplit("/", 1)[-1]] = (item, None)
        elif path and {"content", "offsets"} == set(item):
            self._columns[path] = (item, None)
        else:
            for key in item:
                self._collect(item[key], f"{path}/{key}".lstrip("/"))

    def _length(self, name: str) -> int:
        import h5py

        item: Any = self._columns[name][0]
        jagged = isinstance(item, h5py.Group)
        dataset: Any = item["offsets"] if jagged else item
        return int(dataset.shape[0]) - int(jagged)


def from_hdf5(
    files: Files,
    *,
    columns: Columns,
    group: str | None = None,
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
    """Read events from HDF5 files.

    Columns are datasets (by their path below ``group``), fields of compound datasets, and groups
    with ``content`` and ``offsets`` (jagged, as `to_hdf5` writes them). A path with a slash stands
    in backquotes inside an expression.

    Args:
        files: Path, glob or list of these.
        columns: See `from_root`.
        group: Path of the group or compound dataset; the whole file if left out.
        weight: See `from_root`.
        selection: See `from_root`.
        units: See `from_root`.
        particles: See `from_root`; a dataset ``[events, particles]`` is one of these, too.
        max_particles: See `from_root`.
        aliases: See `from_root`.
        entry_start: See `from_root`.
        entry_stop: See `from_root`.
        dtype: See `from_root`.

    Returns:
        The selected events, in the order of the files.

    Raises:
        InputError: See `from_root`.

    Example:
        >>> import pathlib, tempfile
        >>> import jax.numpy as jnp
        >>> from difana.data import Events, from_hdf5, to_hdf5
        >>> events = Events(jnp.array([[30.0], [50.0]]), jnp.ones(2), columns=("pt",))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = to_hdf5(events, pathlib.Path(folder) / "events.h5")
        ...     len(from_hdf5(path, columns=["pt"], selection="pt > 40"))
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
    openers = [functools.partial(Hdf5Table, path, group) for path in expand(files)]
    return _assemble.read(openers, what, _assemble.Ranges(entry_start, entry_stop))


def iterate_hdf5(
    files: Files,
    *,
    columns: Columns,
    group: str | None = None,
    chunk_size: int = 100_000,
    **options: Any,
) -> Iterator[Events]:
    """Yield events of HDF5 files in chunks.

    Args:
        files: Path, glob or list of these.
        columns: See `from_root`.
        group: See `from_hdf5`.
        chunk_size: Number of entries to read at a time.
        **options: As `from_hdf5`.

    Yields:
        The selected events of each chunk; chunks without one are left out.

    Raises:
        InputError: See `from_root`.

    Example:
        >>> next(iterate_hdf5("missing.h5", columns=["pt"]))
        Traceback (most recent call last):
        difana._errors.InputError: no file 'missing.h5'...
    """
    start, stop = options.pop("entry_start", None), options.pop("entry_stop", None)
    what = recipe(columns=columns, **options)
    openers = [functools.partial(Hdf5Table, path, group) for path in expand(files)]
    return _assemble.iterate(openers, what, _assemble.Ranges(start, stop, chunk_size))


def _find(file: Any, group: str, path: str) -> Any:
    if group in file:
        return file[group]
    known: list[str] = []
    file.visit(known.append)
    raise InputError(f"no group '{group}' in '{path}'.{nearest(group, known)}")


def _values(source: Any, rows: slice, dataset: Any = None) -> Any:
    """Return rows as a numpy array; strings as an awkward array."""
    import awkward as ak
    import h5py

    dataset = dataset if dataset is not None else source
    if dataset.dtype.names is None and h5py.check_string_dtype(dataset.dtype) is not None:
        return ak.Array(dataset.asstr()[rows].tolist())
    return np.asarray(source[rows])
