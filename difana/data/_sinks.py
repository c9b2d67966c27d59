"""Writers of named columns, chunk by chunk: ROOT, HDF5 and parquet."""

from __future__ import annotations

import abc
import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from difana._errors import InputError
from difana.data._storage import Storage
from difana.data._table import reason_of

SUFFIXES = (".root", ".h5", ".hdf5", ".parquet")
_LONGEST_ATTRIBUTE = 60_000


def layout_of(array: Any) -> tuple[str, str]:
    """Return what a column is: (``flat``, ``fixed``, ``jagged``, ``strings``, or ``""``, reason).

    Example:
        >>> layout_of(np.zeros(3))
        ('flat', '')
    """
    if isinstance(array, np.ndarray):
        simple = array.dtype.kind in "fiub" and array.dtype.itemsize in (1, 2, 4, 8)
        if simple and array.dtype != np.float16:
            return "flat", ""
        return "", f"entries of type {array.dtype}"
    import awkward as ak

    layout = ak.to_layout(array)
    if layout.parameter("__array__") == "string":
        return "strings", ""
    if layout.is_option:
        what = "texts or lists" if not layout.content.is_numpy else "integers above 2**53"
        return "", f"missing {what} (null), which only parquet can hold"
    axes, fixed = array.ndim, True
    while layout.is_list:
        fixed = fixed and layout.is_regular
        if layout.is_regular and layout.size == 0:
            return "", "lists without entries"
        layout = layout.content
        if layout.parameter("__array__") == "string":
            return "", "lists of strings"
        if layout.is_option:
            return "", "missing entries (null) of a list"
    if not layout.is_numpy or layout.dtype.kind not in "fiub" or layout.dtype == np.float16:
        return "", f"entries of type '{ak.type(array).content}'"
    if fixed:
        return "fixed", ""
    return ("jagged", "") if axes == 2 else ("", "lists nested more than once")


class AbstractSink(abc.ABC):
    """A file under construction; columns of the first chunk fix those of the later ones."""

    @abc.abstractmethod
    def write(self, columns: Mapping[str, Any]) -> None:
        """Append one chunk of columns."""

    @abc.abstractmethod
    def close(self) -> None:
        """Finish the file."""

    def describe(self, metadata: Mapping[str, str]) -> None:
        """Keep texts with the file; call it before the first chunk."""
        raise InputError(f"{type(self).__name__} keeps no metadata: write HDF5 or parquet")


class RootSink(AbstractSink):
    """One tree of a ROOT file.

    Jagged columns such as ``Jet_pt`` and ``Jet_eta`` that are counted by a column ``nJet`` share
    that counter, as in NanoAOD; any other jagged column ``x`` gets its own counter ``nx``.
    """

    def __init__(self, file: Any, tree: str) -> None:
        """Write into an open file of uproot."""
        self._file = file
        self._name = tree
        self._tree: Any = None
        self._counters: dict[str, list[str]] = {}  # counter column -> what it counts
        self._groups: dict[str, list[str]] = {}  # Jet -> Jet_pt, Jet_eta

    def write(self, columns: Mapping[str, Any]) -> None:
        """Append one chunk."""
        if self._tree is None:
            self._start(columns)
        for counter, names in self._counters.items():
            for name in names:
                if not _counts(columns[counter], columns[name]):
                    raise InputError(
                        f"column '{counter}' counts the entries of '{name}' in the first chunk but "
                        "not in a later one; rename it, or convert in one chunk"
                    )
        tree: Any = self._tree
        tree.extend(self._branches(columns))

    def close(self) -> None:
        """Nothing is left to do: the file is closed by its owner."""

    def _branches(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """Return what uproot writes: groups as records, counters left to their owners."""
        import awkward as ak

        grouped = {name: group for group, names in self._groups.items() for name in names}
        found: dict[str, Any] = {}
        for name, array in columns.items():
            group = grouped.get(name)
            if group is not None and group not in found:
                members = self._groups[group]
                found[group] = ak.zip({m[len(group) + 1 :]: columns[m] for m in members})
            elif group is None and name not in self._counters:
                found[name] = _fixed(array)
        return found

    def _start(self, columns: Mapping[str, Any]) -> None:
        """Decide on counters and groups, and make the tree."""
        import awkward as ak

        counter_of = {}
        for name, array in columns.items():
            if layout_of(array)[0] != "jagged":
                continue
            parts = name.split("_")
            for cut in range(len(parts), 0, -1):
                owner = "_".join(parts[:cut])
                # "Jet_" has no name behind the group
                free = owner == name or (owner not in columns and "" not in parts)
                if free and _counts(columns.get(f"n{owner}"), array):
                    self._counters.setdefault(f"n{owner}", []).append(name)
                    if owner != name:
                        self._groups.setdefault(owner, []).append(name)
                    break
            else:
                taken = {*columns, *counter_of.values()}
                choices = (f"n{name}", f"{name}_count", *(f"{name}_count_{i}" for i in range(99)))
                counter_of[name] = next(choice for choice in choices if choice not in taken)
        types = {
            name: np.dtype((array.dtype, array.shape[1:]))
            if isinstance(array, np.ndarray)
            else ak.type(array).content
            for name, array in self._branches(columns).items()
        }
        self._tree = self._file.mktree(
            self._name, types, counter_name=lambda name: counter_of.get(name, f"n{name}")
        )


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
                counts = np.asarray(ak.to_numpy(ak.num(array, axis=1)))
                offsets = f"{name}/offsets"
                if offsets not in self._group:
                    self._append(offsets, np.zeros(1, np.int64))
                last = self._group[offsets][-1]
                self._append(offsets, last + np.cumsum(counts, dtype=np.int64))
                content = np.asarray(ak.to_numpy(ak.flatten(array, axis=1)))
                self._append(f"{name}/content", content)
            else:
                self._append(name, _fixed(array))
            self._storage.check()

    def close(self) -> None:
        """Nothing is left to do: the file is closed by its owner."""

    def describe(self, metadata: Mapping[str, str]) -> None:
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


class ParquetSink(AbstractSink):
    """A parquet file."""

    def __init__(self, path: Path) -> None:
        """Open the file at the first chunk, when the schema is known."""
        self._path = path
        self._writer: Any = None
        self._metadata: dict[str, str] = {}

    def write(self, columns: Mapping[str, Any]) -> None:
        """Append one chunk as a row group."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table({name: _arrow(array) for name, array in columns.items()})
        if self._writer is None:
            table = table.replace_schema_metadata(self._metadata)
            self._writer = pq.ParquetWriter(
                self._path, table.schema, compression="zstd", write_page_checksum=True
            )
        self._writer.write_table(table)

    def describe(self, metadata: Mapping[str, str]) -> None:
        """Put the texts into the schema."""
        self._metadata = dict(metadata)

    def close(self) -> None:
        """Write the footer."""
        if self._writer is not None:
            self._writer.close()


@contextlib.contextmanager
def replacing(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path that becomes ``target`` if the block succeeds: nothing half-written.

    Raises:
        InputError: If the folder does not exist.
    """
    target = Path(target).expanduser()
    if not target.parent.is_dir():
        raise InputError(f"cannot write '{target}': there is no folder '{target.parent}'")
    if target.is_dir():
        raise InputError(f"cannot write '{target}': it is a folder")
    # the suffix stays, because libraries choose the format by it
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.part{target.suffix}")
    try:
        yield temporary
        _to_disk(temporary)
        temporary.replace(target)
    except OSError as error:
        why = error.strerror or reason_of(error)
        raise InputError(f"cannot write '{target}': {why}; nothing was changed") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    """Force a file to disk: some file systems find only then that they are full."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def open_sink(path: Path, tree: str) -> Iterator[AbstractSink]:
    """Open a sink by the suffix of the path, with one tree (ROOT) or at the top (HDF5)."""
    with open_sinks(path) as sink:
        one = sink(tree if path.suffix == ".root" else "")
        yield one
        one.close()


@contextlib.contextmanager
def open_sinks(path: Path) -> Iterator[Any]:
    """Open a file and yield a function from the name of a tree or group to its sink."""
    if path.suffix == ".root":
        import uproot

        with uproot.recreate(path) as file:
            yield lambda tree: RootSink(file, tree)
    elif path.suffix in (".h5", ".hdf5"):
        import h5py

        storage = Storage(path)
        try:
            # this version of the format has checksums of everything that describes the data
            with h5py.File(storage, "w", libver=("v110", "v110")) as file:
                yield lambda group: Hdf5Sink(file.require_group(group) if group else file, storage)
                file.flush()
                storage.check()
        finally:
            storage.close()
        storage.check()
    elif path.suffix == ".parquet":
        sink = ParquetSink(path)
        try:
            yield lambda tree: sink
        except BaseException:
            with contextlib.suppress(Exception):
                sink.close()
            raise
        sink.close()
    else:
        raise InputError(f"cannot write '{path.name}': the suffix must be one of {SUFFIXES}")


def _counts(counter: Any, jagged: Any) -> bool:
    """Say whether a column holds the numbers of entries of a jagged one."""
    import awkward as ak

    if not isinstance(counter, np.ndarray) or counter.dtype.kind not in "iu":
        return False
    return bool(np.array_equal(counter, ak.to_numpy(ak.num(jagged, axis=1))))


def _fixed(array: Any) -> Any:
    """Return a numpy array where every event has the same number of entries."""
    import awkward as ak

    return ak.to_numpy(array) if layout_of(array)[0] == "fixed" else array


def _arrow(array: Any) -> Any:
    """Return a column as pyarrow array."""
    import awkward as ak
    import pyarrow as pa

    if isinstance(array, pa.ChunkedArray):
        return array
    kind = layout_of(array)[0]
    if kind == "strings":
        return pa.array(ak.to_list(array), pa.string())
    if kind == "jagged":
        counts = np.asarray(ak.to_numpy(ak.num(array, axis=1)))
        offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        content = np.asarray(ak.to_numpy(ak.flatten(array, axis=1)))
        return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(content))
    array = np.asarray(_fixed(array))
    flat = pa.array(array.reshape(-1))
    for size in array.shape[:0:-1]:
        flat = pa.FixedSizeListArray.from_arrays(flat, size)
    return flat
