"""Files of named columns, written chunk by chunk, whole or not at all: ROOT, HDF5 and parquet."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from difana._errors import InputError
from difana.data._hdf5_sink import Hdf5Sink
from difana.data._parquet_sink import ParquetSink
from difana.data._root_sink import RootSink
from difana.data._sink import AbstractSink
from difana.data._storage import Storage
from difana.data._table import reason_of

SUFFIXES = (".root", ".h5", ".hdf5", ".parquet")


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
