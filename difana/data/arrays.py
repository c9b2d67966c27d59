"""Events from arrays in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from difana._errors import InputError
from difana.data import _assemble
from difana.data._recipe import Columns, recipe
from difana.data._table import MemoryTable
from difana.data.events import Events


def from_arrays(
    features: Float[ArrayLike, "events features"] | Mapping[str, ArrayLike],
    weights: Float[ArrayLike, " events"] | str | float | None = None,
    *,
    columns: Columns | None = None,
    selection: str | None = None,
    units: Sequence[str] | Mapping[str, str] | None = None,
    particles: Columns | None = None,
    max_particles: int | None = None,
    aliases: Mapping[str, str] | None = None,
    dtype: Any = np.float32,
) -> Events:
    """Return events from arrays, checked as those from files.

    Args:
        features: A table ``[events, features]``, or a mapping from names to arrays ``[events]``
            (or jagged awkward arrays and ``[events, particles]``, for ``particles``).
        weights: Array ``[events]``, or an expression of the names, or one number for all; 1 if
            left out.
        columns: With a table: the names of its columns (``x0``, ``x1``, ... if left out). With a
            mapping: names or expressions, as in `read_events` (all that are one number an event if
            left out).
        selection: See `read_events`.
        units: See `read_events`.
        particles: See `read_events`.
        max_particles: See `read_events`.
        aliases: See `read_events`.
        dtype: See `read_events`.

    Returns:
        The selected events.

    Raises:
        InputError: If lengths differ, a value is not finite, or an expression is wrong.

    Example:
        >>> events = from_arrays({"px": [3.0, 0.0], "py": [4.0, 1.0]},
        ...                      columns={"pt": "hypot(px, py)"}, weights=0.5)
        >>> events["pt"].tolist(), events.weights.tolist()
        ([5.0, 1.0], [0.5, 0.5])
    """
    if isinstance(features, Mapping):
        arrays = {name: _array(values, f"array '{name}'") for name, values in features.items()}
        if columns is None:
            columns = [name for name, array in arrays.items() if array.ndim == 1]
    else:
        table = _array(features, "features")
        if table.ndim != 2:
            raise InputError(f"features must be [events, features], got {table.ndim} axes")
        if columns is None:
            columns = [f"x{i}" for i in range(table.shape[1])]
        if isinstance(columns, Mapping) or len(columns) != table.shape[1]:
            raise InputError(f"{len(columns)} column names for {table.shape[1]} features")
        arrays = {name: table[:, i] for i, name in enumerate(columns)}
    weight = weights if isinstance(weights, str | float | int) else None
    if weights is not None and weight is None:
        weight = "weights"
        while weight in arrays:  # a column of that name stays what it is
            weight = f"{weight}_"
        arrays[weight] = _array(weights, "weights")
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
    return _assemble.read([lambda: MemoryTable(arrays)], what, _assemble.Ranges())


def _array(values: Any, what: str) -> Any:
    """Return a numpy or awkward array; a ragged list is refused in words."""
    if hasattr(values, "layout"):
        return values
    try:
        if np.ma.isMA(values):  # masked entries are missing
            values = np.ma.filled(values.astype(float), np.nan)
        array = np.asarray(values)
    except ValueError as error:
        raise InputError(
            f"{what} is ragged: its rows have different lengths (jagged particles are given as "
            "awkward arrays)"
        ) from error
    if array.ndim == 0:
        raise InputError(f"{what} is a single number, not one an event")
    if array.dtype.kind not in "fiubU":
        raise InputError(f"{what} does not hold numbers (type {array.dtype})")
    return array
