"""Events back into files: ROOT, HDF5 and parquet."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped
from numpy.typing import ArrayLike

from difana._errors import InputError
from difana.data._names import target_names
from difana.data._sink import layout_of
from difana.data._sinks import open_sink, replacing
from difana.data.events import Events


def to_root(
    events: Events,
    path: str | Path,
    *,
    tree: str = "events",
    weight: str = "weight",
    extra: Mapping[str, Shaped[ArrayLike, " events"]] | None = None,
) -> Path:
    """Write events to a tree of a new ROOT file.

    Features become branches of their column names, particles jagged branches without padding.
    The file appears only when it is complete.

    Args:
        events: The events.
        path: The file, replaced if there is one.
        tree: Name of the tree.
        weight: Name of the weight branch.
        extra: Further branches, e.g. other weights or event numbers.

    Returns:
        The path.

    Raises:
        InputError: If names clash or lengths differ.

    Example:
        >>> import pathlib, tempfile
        >>> import jax.numpy as jnp
        >>> from difana.data import Events, read_events, to_root
        >>> events = Events(jnp.ones((2, 1)), jnp.array([0.5, 1.0]), columns=("pt",))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = to_root(events, pathlib.Path(folder) / "events.root")
        ...     read_events(path, columns=["pt"], weight="weight").weights.tolist()
        [0.5, 1.0]
    """
    return _write(events, path, (".root",), tree=tree, weight=weight, extra=extra)


def to_hdf5(
    events: Events,
    path: str | Path,
    *,
    weight: str = "weight",
    extra: Mapping[str, Shaped[ArrayLike, " events"]] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write events to datasets of a new HDF5 file.

    Features are flat datasets; a particle channel is a group of ``content`` and ``offsets``.

    Args:
        events: The events.
        path: The file, replaced if there is one.
        weight: Name of the weight dataset.
        extra: Further datasets.
        metadata: Texts by key that `read_metadata` returns.

    Returns:
        The path.

    Raises:
        InputError: If names clash or lengths differ.

    Example:
        >>> import pathlib, tempfile
        >>> import jax.numpy as jnp
        >>> from difana.data import Events, read_events, to_hdf5
        >>> events = Events(jnp.ones((2, 1)), jnp.array([0.5, 1.0]), columns=("pt",))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = to_hdf5(events, pathlib.Path(folder) / "events.h5")
        ...     read_events(path, columns=["pt"], weight="weight").weights.tolist()
        [0.5, 1.0]
    """
    return _write(events, path, (".h5", ".hdf5"), weight=weight, extra=extra, metadata=metadata)


def to_parquet(
    events: Events,
    path: str | Path,
    *,
    weight: str = "weight",
    extra: Mapping[str, Shaped[ArrayLike, " events"]] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write events to columns of a new parquet file; particles are list columns.

    Args:
        events: The events.
        path: The file, replaced if there is one.
        weight: Name of the weight column.
        extra: Further columns.
        metadata: Texts by key that `read_metadata` returns.

    Returns:
        The path.

    Raises:
        InputError: If names clash or lengths differ.

    Example:
        >>> import pathlib, tempfile
        >>> import jax.numpy as jnp
        >>> from difana.data import Events, read_events, to_parquet
        >>> events = Events(jnp.ones((2, 1)), jnp.array([0.5, 1.0]), columns=("pt",))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = to_parquet(events, pathlib.Path(folder) / "events.parquet")
        ...     read_events(path, columns=["pt"], weight="weight").weights.tolist()
        [0.5, 1.0]
    """
    return _write(events, path, (".parquet",), weight=weight, extra=extra, metadata=metadata)


def table(
    events: Events, *, weight: str = "weight", extra: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return events as named columns, particles as jagged awkward arrays.

    Example:
        >>> import jax.numpy as jnp
        >>> events = Events(jnp.ones((2, 1)), jnp.ones(2), columns=("pt",))
        >>> sorted(table(events))
        ['pt', 'weight']
    """
    features = np.asarray(events.features)
    names = events.columns or tuple(f"x{i}" for i in range(features.shape[1]))
    columns: list[tuple[str, Any]] = [(name, features[:, i]) for i, name in enumerate(names)]
    columns.append((weight, np.asarray(events.weights)))
    if events.particles is not None:
        import awkward as ak

        particles = np.asarray(events.particles)
        shape = particles.shape[:2]
        mask = np.ones(shape, bool) if events.mask is None else np.asarray(events.mask)
        counts = mask.sum(axis=1)
        channels = events.particle_columns or tuple(
            f"particle{i}" for i in range(particles.shape[2])
        )
        columns += [
            (name, ak.unflatten(particles[..., i][mask], counts)) for i, name in enumerate(channels)
        ]
    columns += [(name, np.asarray(values)) for name, values in (extra or {}).items()]
    found: dict[str, Any] = {}
    for name, array in columns:
        if name in found:
            raise InputError(f"two columns to write are named '{name}': rename one")
        if len(array) != len(events):
            raise InputError(f"column '{name}' has {len(array)} entries for {len(events)} events")
        reason = layout_of(array)[1]
        if reason:
            raise InputError(f"column '{name}' cannot be written: {reason}")
        found[name] = array
    return found


def _write(
    events: Events,
    path: str | Path,
    suffixes: tuple[str, ...],
    *,
    tree: str = "",
    weight: str,
    extra: Mapping[str, Any] | None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    path = Path(path).expanduser()
    if path.suffix not in suffixes:
        raise InputError(f"the file to write must end in {' or '.join(suffixes)}, got '{path}'")
    columns = table(events, weight=weight, extra=extra)
    names = target_names(columns, path.suffix)
    for name, new in names.items():
        if name != new:
            warnings.warn(f"column '{name}' is written as '{new}' to '{path}'", stacklevel=3)
    columns = {names[name]: array for name, array in columns.items()}
    with replacing(path) as temporary, open_sink(temporary, tree) as sink:
        if metadata:
            sink.annotate(metadata)
        sink.write(columns)
    return path
