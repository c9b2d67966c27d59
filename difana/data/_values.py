"""Values of expressions for the events of one range: per event, per particle, all checked."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import numpy as np

from difana._errors import InputError
from difana.data._lift import kind_of
from difana.data._recipe import Recipe, Scope
from difana.data._table import AbstractTable, simplify


def per_event(
    scope: Scope, text: str, use: str, size: int, table: AbstractTable, entries: np.ndarray
) -> np.ndarray:
    """Return an expression as one number an event."""
    value = _evaluate(scope, text, use, table)
    if not hasattr(value, "layout"):
        value = np.full(size, value) if np.ndim(value) == 0 else value
    else:
        value = _flat(value, text, use, size, table, entries)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
        kind = getattr(value, "dtype", type(value).__name__)
        raise InputError(f"{use} '{text}' is no number in {table.label} (type {kind})")
    if value.shape != (size,):
        raise InputError(
            f"{use} '{text}' has {len(value)} values for {size} events of {table.label}"
        )
    return value


def _flat(
    value: Any, text: str, use: str, size: int, table: AbstractTable, entries: np.ndarray
) -> Any:
    """Return an awkward array as one number an event."""
    import awkward as ak

    if kind_of(value) != "U" and value.ndim > 1:
        numbers = ak.fill_none(ak.num(value, axis=1), 0)
        first = next((i for i, n in enumerate(numbers) if n != 1), 0)
        shown = f", e.g. {numbers[first]} in entry {entries[first]}" if len(numbers) else ""
        raise InputError(
            f"{use} '{text}' has a list of numbers an event in {table.label}{shown}. Take one "
            "([:, 0] or at(x, 0, default)), reduce it (max, sum, num, any, ...), or read it "
            "as 'particles'"
        )
    value = simplify(value)
    if hasattr(value, "layout") and value.layout.is_option:
        missing = np.asarray(ak.to_numpy(ak.is_none(value)))
        remedy = "fill(x, 'none')" if kind_of(value) == "U" else "fill(x, 0)"
        raise InputError(
            f"{use} '{text}' is missing (null) in {int(missing.sum())} of {size} events of "
            f"{table.label}, first at entry {entries[int(np.argmax(missing))]}. Exclude such "
            f"events in the selection, or replace the value: {remedy}"
        )
    return value


def particles(
    scope: Scope, recipe: Recipe, size: int, table: AbstractTable, entries: np.ndarray
) -> tuple[np.ndarray | None, tuple[np.ndarray, ...]]:
    """Return the number of particles of each event and the flat content of each channel."""
    if not recipe.particles:
        return None, ()
    import awkward as ak

    counts, reference, contents = None, "", []
    for name, text in recipe.particles.items():
        use = f"particles column '{name}'"
        value = _evaluate(scope, text, use, table)
        if not hasattr(value, "layout") or value.ndim != 2 or kind_of(value) == "U":
            axes = getattr(value, "ndim", 0)
            raise InputError(
                f"{use} '{text}' of {table.label} needs one list of numbers an event, but has "
                f"{axes - 1} axes behind the event axis"
                + (": read it as one of 'columns'" if axes < 2 else "")
            )
        number = ak.num(value, axis=1)
        lost = np.asarray(ak.to_numpy(ak.is_none(number)))
        if lost.any():
            raise InputError(
                f"{use} '{text}' is missing (null) at entry {entries[int(np.argmax(lost))]} of "
                f"{table.label}: exclude such events in the selection"
            )
        number = np.asarray(ak.to_numpy(number))
        if len(number) != size:
            raise InputError(f"{use} '{text}' has {len(number)} rows for {size} events")
        if counts is None:
            counts, reference = number, name
        elif not np.array_equal(counts, number):
            first = int(np.argmax(counts != number))
            raise InputError(
                f"{use} has {number[first]} entries at entry {entries[first]} of {table.label}, "
                f"but '{reference}' has {counts[first]}: particle columns need equal lengths"
            )
        flat = ak.flatten(value, axis=1)
        values = np.asarray(ak.to_numpy(ak.fill_none(flat, np.nan)))
        with np.errstate(over="ignore"):  # reported as not finite in the next line
            content = values.astype(recipe.dtype)
        require_finite(content, use, text, table, np.repeat(entries, number))
        warn_if_blurred(values, content, use, text)
        contents.append(content)
    return counts, tuple(contents)


def pad(
    channels: list[np.ndarray], counts: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return padded particles ``[events, width, channels]`` and their mask from flat contents.

    Example:
        >>> padded, mask = pad([np.array([1.0, 2.0, 3.0])], np.array([2, 0, 1]), 2)
        >>> padded[..., 0].tolist(), mask.tolist()
        ([[1.0, 2.0], [0.0, 0.0], [3.0, 0.0]], [[True, True], [False, False], [True, False]])
    """
    mask = np.arange(width) < np.minimum(counts, width)[:, None]
    position = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = position < width
    padded = np.zeros((*mask.shape, len(channels)), channels[0].dtype)
    for i, content in enumerate(channels):
        padded[mask, i] = content[kept]
    return padded, mask


def require_finite(
    values: np.ndarray, use: str, text: str, table: AbstractTable, entries: np.ndarray
) -> None:
    bad = ~np.isfinite(values)
    if bad.any():
        first = int(np.argmax(bad))
        raise InputError(
            f"{use} '{text}' is not finite ({values[first]}) in {int(bad.sum())} of {len(values)} "
            f"events of {table.label}, first at entry {entries[first]}. Exclude such events in the "
            "selection, e.g. isfinite(x), or replace the value: fill(x, 0)"
        )


def warn_if_blurred(values: np.ndarray, stored: np.ndarray, use: str, text: str) -> None:
    """Say that numbers far from zero lose what tells them apart in the type that they get."""
    step = max(len(values) // 10_000, 1)
    values, stored = values[::step].astype(np.float64), stored[::step]
    error = np.abs(stored - values)
    if not error.any():
        return
    low, middle, high = np.percentile(values, [25, 50, 75])
    if np.median(error) > 0.01 * (high - low) > 0:
        warnings.warn(
            f"{use} '{text}' loses its resolution in {stored.dtype}: it varies by "
            f"{high - low:.2g} around {middle:.8g}, where that type has steps of "
            f"{np.spacing(stored.dtype.type(abs(middle))):.2g}. Subtract a constant, e.g. "
            f"({text}) - {middle:.8g}",
            stacklevel=2,
        )


def require_summable(weights: np.ndarray, text: str | None, label: str) -> None:
    """Refuse weights whose sum, or sum of squares, is beyond the numbers of JAX.

    Raises:
        InputError: If it is; names the largest weight.
    """
    limit = np.finfo(jax.dtypes.canonicalize_dtype(np.float64)).max
    with np.errstate(over="ignore"):
        largest = max(np.abs(weights).sum(), np.square(weights).sum())
    if not largest < limit:
        raise InputError(
            f"weight '{text}' of {label} is as large as {np.abs(weights).max():.3g}: the sum of "
            f"weights, or of their squares, exceeds {limit:.1g}. Divide it by a constant"
        )


def _evaluate(scope: Scope, text: str, use: str, table: AbstractTable) -> Any:
    """Evaluate an expression; its errors name use and table."""
    try:
        return scope.evaluate(text)
    except InputError as error:
        raise InputError(f"{use} of {table.label}: {error}") from error
