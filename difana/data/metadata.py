"""Texts that travel with a file of events."""

from __future__ import annotations

from pathlib import Path

from difana._errors import InputError
from difana.data._table import existing


def read_metadata(path: str | Path) -> dict[str, str]:
    """Return the texts that `to_hdf5` or `to_parquet` wrote with the events.

    Args:
        path: An HDF5 or parquet file.

    Returns:
        Texts by key: attributes of an HDF5 file, metadata of the schema of a parquet file.

    Raises:
        InputError: If the file is missing, truncated, or of another format.

    Example:
        >>> import pathlib, tempfile
        >>> import jax.numpy as jnp
        >>> from difana.data import Events, to_parquet
        >>> events = Events(jnp.ones((2, 1)), jnp.ones(2), columns=("pt",))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "events.parquet"
        ...     _ = to_parquet(events, path, metadata={"unit": "GeV"})
        ...     read_metadata(path)
        {'unit': 'GeV'}
    """
    path = Path(path).expanduser()
    if path.suffix not in (".parquet", ".h5", ".hdf5"):
        raise InputError(f"no metadata in '{path}': the suffix must be .parquet, .h5 or .hdf5")
    existing(str(path))
    try:
        return _of_parquet(path) if path.suffix == ".parquet" else _of_hdf5(path)
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"cannot read '{path}': it is truncated or no {path.suffix} file ({reason})"
        ) from error


def _of_parquet(path: Path) -> dict[str, str]:
    import pyarrow.parquet as pq

    found = pq.read_schema(path).metadata or {}
    own = (b"ARROW:schema", b"pandas")
    return {key.decode(): text.decode() for key, text in found.items() if key not in own}


def _of_hdf5(path: Path) -> dict[str, str]:
    import h5py

    with h5py.File(path, "r") as file:
        return {key: text for key, text in file.attrs.items() if isinstance(text, str)}
