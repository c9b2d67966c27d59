"""Values of expressions for the events of one range: per event, per particle, all checked."""

from __future__ import annotations

from typing import Any

import numpy as np

from difana._errors import InputError
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
        import awkward as ak

        if value.ndim > 1:
            first = next((i for i, n in enumerate(ak.num(value, axis=1)) if n != 1), 0)
            shown = f", e.g. {len(value[first])} in entry {entries[first]}" if size else ""
            raise InputError(
                f"{use} '{text}' has a list of numbers an event in {table.label}{shown}. Take one "
                "([:, 0] or at(x, 0, default)), reduce it (max, sum, num, any, ...), or read it "
                "as 'particles'"
            )
        value = simplify(value)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
        kind = getattr(value, "dtype", type(value).__name__)
        raise InputError(f"{use} '{text}' is no number in {table.label} (type {kind})")
    if len(value) != size:
        raise InputError(
            f"{use} '{text}' has {len(value)} values for {size} events of {table.label}"
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
        if not hasattr(value, "layout") or value.ndim != 2:
            axes = np.ndim(value) if not hasattr(value, "layout") else value.ndim
            raise InputError(
                f"{use} '{text}' of {table.label} needs one list of numbers an event, but has "
                f"{axes - 1} axes behind the event axis"
                + (": read it as one of 'columns'" if axes < 2 else "")
            )
        number = np.asarray(ak.to_numpy(ak.num(value, axis=1)))
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
        content = np.asarray(ak.to_numpy(ak.fill_none(flat, np.nan))).astype(recipe.dtype)
        require_finite(content, use, text, table, np.repeat(entries, number))
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


def _evaluate(scope: Scope, text: str, use: str, table: AbstractTable) -> Any:
    """Evaluate an expression; its errors name use and table."""
    try:
        return scope.evaluate(text)
    except InputError as error:
        raise InputError(f"{use} of {table.label}: {error}") from error
