"""Events from HDF5 files, through h5py."""

from __future__ import annotations

from typing import Any

import numpy as np

from difana._errors import InputError, nearest
from difana.data._h5 import broken, members, read_offsets, require_sound, require_texts
from difana.data._table import (
    AbstractTable,
    existing,
    reason_of,
    reraise_stop,
)


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
        except BaseException as error:
            reraise_stop(error)
            raise InputError(
                f"cannot read '{path}': it is truncated or no HDF5 file ({reason_of(error)})"
            ) from error
        try:
            root = _find(self._file, group or "/", path)
            self.label = f"group '{root.name}' of '{path}'"
            self._columns: dict[str, tuple[Any, str | None]] = {}
            self._broken: dict[str, str] = {}
            self._offsets: dict[str, np.ndarray] = {}
            self._lengths: dict[str, int] = {}
            self._collect(root)
            if "" in self._broken:
                raise ValueError(self._broken[""])
        except InputError:
            self._file.close()
            raise
        except BaseException as error:
            self._file.close()
            reraise_stop(error)
            raise InputError(f"cannot read '{path}': it is broken ({reason_of(error)})") from error
        # other datasets of the file (e.g. edges) may have their own length
        counts = list(self._lengths.values())
        self.entries = max(set(counts), key=counts.count) if counts else 0

    def names(self) -> frozenset[str]:
        """Return the paths below the group."""
        return frozenset(self._columns) | frozenset(self._broken)

    def columns(self) -> tuple[str, ...]:
        """Return the paths in the order of the file."""
        return (*self._columns, *self._broken)

    def read(self, name: str, start: int, stop: int) -> Any:
        """Return a range of a dataset or of a jagged group."""
        import awkward as ak
        import h5py

        if name in self._broken:
            raise InputError(f"cannot read dataset '{name}' of {self.label}: {self._broken[name]}")
        item, field = self._columns[name]
        if self._lengths[name] != self.entries:
            raise InputError(
                f"dataset '{name}' of {self.label} has {self._lengths[name]} entries, most others "
                f"{self.entries}"
            )
        if isinstance(item, h5py.Group):
            if name not in self._offsets:
                self._offsets[name] = read_offsets(item)
            offsets = self._offsets[name][start : stop + 1]
            content = _values(item["content"], slice(int(offsets[0]), int(offsets[-1])))
            inner = ak.to_layout(content)
            layout = ak.contents.ListOffsetArray(ak.index.Index64(offsets - offsets[0]), inner)
            return ak.Array(layout)
        require_sound(item)
        return _values(item if field is None else item.fields(field), slice(start, stop), item)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _collect(self, root: Any) -> None:
        """Find the columns; what cannot be opened is reported when it is asked for."""
        import h5py

        own = str(root.name).rsplit("/", 1)[-1]
        found = [("", root)] if isinstance(root, h5py.Dataset) else members(root)
        for path, item in found:
            try:
                if isinstance(item, BaseException):
                    raise item
                if isinstance(item, h5py.Group):
                    offsets: Any = item["offsets"]
                    self._add(path, item, None, int(offsets.shape[0]) - 1)
                elif item.shape and item.dtype.names:
                    for field in item.dtype.names:
                        name = f"{path}/{field}".lstrip("/")
                        self._add(name, item, field, int(item.shape[0]))
                elif item.shape:
                    self._add(path or own, item, None, int(item.shape[0]))
            except BaseException as error:
                reraise_stop(error)
                self._broken[path or own] = broken(error)

    def _add(self, name: str, item: Any, field: str | None, length: int) -> None:
        if name in self._columns:
            raise ValueError("two datasets share this path")
        self._columns[name] = (item, field)
        self._lengths[name] = length


def _find(file: Any, group: str, path: str) -> Any:
    if group in file:
        return file[group]
    known = [name for name, _ in members(file)]
    known += sorted({name.rpartition("/")[0] for name in known} - {""})
    raise InputError(f"no group '{group}' in '{path}'.{nearest(group, known)}")


def _values(source: Any, rows: slice, dataset: Any = None) -> Any:
    """Return rows as a numpy array; strings as an awkward array."""
    import awkward as ak
    import h5py

    dataset = dataset if dataset is not None else source
    if dataset.dtype.hasobject:
        require_texts(dataset)
    if dataset.dtype.names is None and h5py.check_string_dtype(dataset.dtype) is not None:
        return ak.Array(dataset.asstr()[rows].tolist())
    values = np.asarray(source[rows])
    if values.dtype.kind == "S" or h5py.check_string_dtype(values.dtype) is not None:
        return ak.Array([text.decode() for text in values.tolist()])
    if values.dtype.hasobject or values.dtype.names:
        raise TypeError(f"entries of type {source.dtype if dataset is source else values.dtype}")
    return values
