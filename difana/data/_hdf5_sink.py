"""Writer of a group of an HDF5 file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from difana._errors import InputError
from difana.data._sink import AbstractSink, layout_of, parts_of, plain
from difana.data._storage import Storage

_LONGEST_ATTRIBUTE = 60_000


class Hdf5Sink(AbstractSink):
    """One group of an HDF5 file: flat datasets, and groups of content and offsets."""

    def __init__(self, group: Any, storage: Storage) -> None:
        """Write into an open group of h5py, of a file in a storage."""
        self._group = group
        self._storage = storage

    def write(self, columns: Mapping[str, Any]) -> None:
        """Append one chunk."""
        import awkward as ak
        import h5py

        for name, array in columns.items():
            kind = layout_of(array)[0]
            if kind == "strings":
                text = np.array(ak.to_list(array), dtype=object)
                if any("\0" in entry for entry in text):
                    raise InputError(f"column '{name}' has a text with a null character")
                self._append(name, text, dtype=h5py.string_dtype())
            elif kind == "jagged":
                counts, content = parts_of(array)
                offsets = f"{name}/offsets"
                if offsets not in self._group:
                    self._append(offsets, np.zeros(1, np.int64))
                last = self._group[offsets][-1]
                self._append(offsets, last + np.cumsum(counts, dtype=np.int64))
                self._append(f"{name}/content", content)
            else:
                self._append(name, plain(array))
            self._storage.check()

    def annotate(self, metadata: Mapping[str, str]) -> None:
        """Write the texts as attributes."""
        for key, text in metadata.items():
            if len(text.encode()) > _LONGEST_ATTRIBUTE:
                raise InputError(
                    f"metadata '{key}' are longer than {_LONGEST_ATTRIBUTE} bytes, the limit of an "
                    "HDF5 attribute: write parquet"
                )
            self._group.attrs[key] = text

    def _append(self, name: str, values: np.ndarray, dtype: Any = None) -> None:
        if name not in self._group:
            shape = values.shape[1:]
            rows = max(1, min(2**14, 2**18 // max(1, int(np.prod(shape)))))
            self._group.create_dataset(
                name,
                data=values,
                dtype=dtype,
                maxshape=(None, *shape),
                chunks=(rows, *shape),
                compression="gzip",
                compression_opts=1,
                shuffle=True,
                fletcher32=dtype is None,  # HDF5 keeps texts elsewhere
            )
            return
        dataset = self._group[name]
        dataset.resize(len(dataset) + len(values), axis=0)
        dataset[len(dataset) - len(values) :] = values
