"""The one way from arrays to `Events`: selection, expressions, padding and every check."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from difana._errors import InputError, NothingSelectedError
from difana.data._exact import above, together
from difana.data._recipe import Recipe, Scope
from difana.data._table import AbstractTable, closing
from difana.data._values import (
    pad,
    particles,
    per_event,
    require_finite,
    require_summable,
    warn_if_blurred,
)
from difana.data.events import Events

Opener = Callable[[], AbstractTable]


@dataclasses.dataclass(frozen=True)
class Ranges:
    """Which entries to read: from ``start`` to ``stop`` through the chain of all files."""

    start: int | None = None
    stop: int | None = None
    chunk: int | None = None

    def __post_init__(self) -> None:
        """Refuse ranges that cannot hold an entry."""
        for name in ("start", "stop"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise InputError(f"entry_{name} must not be negative, got {value}")
        if self.chunk is not None and self.chunk < 1:
            raise InputError(f"chunk_size must be at least 1, got {self.chunk}")
        if self.stop is not None and self.stop <= (self.start or 0):
            raise InputError(
                f"entry_stop ({self.stop}) must be larger than entry_start ({self.start or 0})"
            )


@dataclasses.dataclass(frozen=True)
class Piece:
    """The selected events of one range of one table, in numpy; particles still jagged."""

    features: np.ndarray
    weights: np.ndarray
    counts: np.ndarray | None
    particles: tuple[np.ndarray, ...]
    read: int
    entries: np.ndarray


def ranges(openers: Iterable[Opener], wanted: Ranges) -> Iterator[tuple[AbstractTable, int, int]]:
    """Yield each table with the ranges to read, entries being counted through all tables."""
    begin = wanted.start or 0
    offset, seen, label = 0, 0, ""
    for opener in openers:
        if wanted.stop is not None and offset >= wanted.stop:
            break
        with closing(opener()) as table:
            label = table.label
            first = min(max(begin - offset, 0), table.entries)
            end = table.entries if wanted.stop is None else wanted.stop - offset
            last = min(max(end, 0), table.entries)
            offset += table.entries
            seen += max(last - first, 0)
            step = wanted.chunk or max(last - first, 1)
            for start in range(first, last, step):
                yield table, start, min(start + step, last)
    if seen == 0:
        raise (InputError if offset else NothingSelectedError)(
            f"no entries to read: there are {offset} in all"
            + (f", entry_start is {begin}" if begin else f", the last file is {label}")
        )


def read(openers: Iterable[Opener], recipe: Recipe, wanted: Ranges) -> Events:
    """Return the selected events of all tables.

    Raises:
        InputError: If a column, a value or the selection is bad; the message names the culprit.
    """
    labels: dict[str, None] = {}
    pieces = []
    for table, start, stop in ranges(openers, wanted):
        labels.setdefault(table.label)
        pieces.append(piece(table, recipe, start, stop))
    _require_selected(pieces, recipe, tuple(labels))
    return join(pieces, recipe, _listed(tuple(labels)))


def iterate(openers: Iterable[Opener], recipe: Recipe, wanted: Ranges) -> Iterator[Events]:
    """Yield the selected events range by range; ranges in which no event is selected are left out.

    Raises:
        InputError: As `read`; also if no event at all is selected.
    """
    entries, selected = 0, 0
    labels: dict[str, None] = {}
    for table, start, stop in ranges(openers, wanted):
        labels.setdefault(table.label)
        part = piece(table, recipe, start, stop)
        entries, selected = entries + part.read, selected + len(part.weights)
        if len(part.weights):
            yield join([part], recipe, table.label)
    if not selected:
        raise _nothing_selected(entries, recipe, tuple(labels))


def exact(openers: Iterable[Opener], recipe: Recipe, wanted: Ranges) -> dict[str, np.ndarray]:
    """Return the columns of the selected events as they are, e.g. 64-bit integers."""
    parts: dict[str, list[np.ndarray]] = {name: [] for name in recipe.columns}
    for table, start, stop in ranges(openers, wanted):
        for name, values in exact_piece(table, recipe, start, stop).items():
            parts[name].append(values)
    return {name: unrounded(arrays, name) for name, arrays in parts.items()}


def exact_piece(
    table: AbstractTable, recipe: Recipe, start: int, stop: int
) -> dict[str, np.ndarray]:
    """Return the columns of the selected events of one range as they are."""
    scope, entries = _select(table, recipe, start, stop)
    return {
        name: per_event(scope, text, f"identifier '{name}'", len(entries), table, entries)
        for name, text in recipe.columns.items()
    }


def unrounded(arrays: list[np.ndarray], name: str) -> np.ndarray:
    """Return one array of several, of a type that holds every number of each.

    Raises:
        InputError: If there is none: integers above 2**53 and fractions, or above 2**63 and
            negative ones.

    Example:
        >>> unrounded([np.array([2**63], np.uint64), np.array([5])], "event").dtype
        dtype('uint64')
    """
    arrays = [array for array in arrays if len(array)] or arrays
    kinds = {array.dtype.kind for array in arrays}
    if "f" in kinds and any(above(array, 2**53) for array in arrays):
        if not all(_is_whole(array) for array in arrays):
            raise InputError(
                f"identifier '{name}' is an integer above 2**53 in some files and a number with "
                "fractions in others: one would be rounded"
            )
        arrays = [a.astype(np.int64) if a.dtype.kind == "f" else a for a in arrays]
    elif "f" in kinds:
        return np.concatenate(arrays)
    try:
        return np.concatenate(together(*arrays))
    except InputError as error:
        raise InputError(f"identifier '{name}' of all files: {error}") from error


def _is_whole(array: np.ndarray) -> bool:
    """Say whether all numbers are integers that are known exactly."""
    if array.dtype.kind != "f":
        return True
    return bool(np.all(np.floor(array) == array) and np.all(np.abs(array) <= 2**53))


def piece(table: AbstractTable, recipe: Recipe, start: int, stop: int) -> Piece:
    """Return the selected events of one range of one table."""
    scope, entries = _select(table, recipe, start, stop)
    size = len(entries)
    features = np.empty((size, len(recipe.columns)), recipe.dtype)
    for i, (name, text) in enumerate(recipe.columns.items()):
        values = per_event(scope, text, f"column '{name}'", size, table, entries)
        with np.errstate(over="ignore"):  # reported as not finite in the next line
            features[:, i] = values
        require_finite(features[:, i], f"column '{name}'", text, table, entries)
        warn_if_blurred(values, features[:, i], f"column '{name}'", text)
    weights = np.ones(size)
    if recipe.weight is not None:
        weights[:] = per_event(scope, recipe.weight, "weight", size, table, entries)
        require_finite(weights, "weight", recipe.weight, table, entries)
        require_summable(weights, recipe.weight, table.label)
    counts, contents = particles(scope, recipe, size, table, entries)
    return Piece(features, weights, counts, contents, stop - start, entries)


def join(pieces: list[Piece], recipe: Recipe, where: str) -> Events:
    """Return the events of several pieces, particles padded to one length."""
    features = np.concatenate([part.features for part in pieces])
    weights = np.concatenate([part.weights for part in pieces])
    require_summable(weights, recipe.weight, "all files")
    padded = mask = None
    if recipe.particles:
        counts = np.concatenate([part.counts for part in pieces if part.counts is not None])
        width = recipe.max_particles or max(int(counts.max(initial=0)), 1)
        channels = [
            np.concatenate([part.particles[i] for part in pieces])
            for i in range(len(recipe.particles))
        ]
        if recipe.leading is not None:
            key = channels[list(recipe.particles).index(recipe.leading)]
            order = np.lexsort((-key, np.repeat(np.arange(len(counts)), counts)))
            channels = [channel[order] for channel in channels]
            _say_truncated(counts, width, recipe.leading, where)
        padded, mask = pad(channels, counts, width)
    return Events(
        jnp.asarray(features),
        jnp.asarray(weights),
        None if padded is None else jnp.asarray(padded),
        None if mask is None else jnp.asarray(mask),
        columns=tuple(recipe.columns),
        units=recipe.units,
        particle_columns=tuple(recipe.particles),
    )


def _say_truncated(counts: np.ndarray, width: int, leading: str, where: str) -> None:
    lost = int((counts > width).sum())
    if lost:
        warnings.warn(
            f"{lost} of {len(counts)} events of {Path(where).name} have more than {width} "
            f"particles (up to {counts.max()}): those with the smallest '{leading}' are left out",
            stacklevel=2,
        )


def _select(
    table: AbstractTable, recipe: Recipe, start: int, stop: int
) -> tuple[Scope, np.ndarray]:
    """Return the selected rows and their entry numbers in the table."""
    arrays = table.arrays(recipe.branches(table.names(), table.label, table.kind), start, stop)
    entries = np.arange(start, stop)
    scope = Scope(arrays, recipe.aliases, _library(arrays))
    if recipe.selection is None:
        return scope, entries
    passed = per_event(scope, recipe.selection, "selection", len(entries), table, entries)
    missing = np.isnan(passed)
    if missing.any() and np.isin(passed[~missing], (0, 1)).all():
        raise InputError(
            f"selection '{recipe.selection}' is missing (null) in {int(missing.sum())} of "
            f"{len(entries)} events of {table.label}, first at entry "
            f"{entries[int(np.argmax(missing))]}: decide with fill(x, 0) == 1"
        )
    if passed.dtype.kind not in "biu":
        raise InputError(
            f"selection '{recipe.selection}' gives numbers ({passed.dtype}), not true or false: "
            "compare it with something, e.g. '... > 0'"
        )
    passed = passed.astype(bool)
    if passed.all():
        return scope, entries
    kept = {name: array[passed] for name, array in arrays.items()}
    return Scope(kept, recipe.aliases, _library(arrays)), entries[passed]


def _library(arrays: Mapping[str, Any]) -> Any:
    """Return awkward where any column is jagged, numpy otherwise."""
    if all(isinstance(array, np.ndarray) for array in arrays.values()):
        return np
    import awkward as ak

    return ak


def _require_selected(pieces: list[Piece], recipe: Recipe, labels: tuple[str, ...]) -> None:
    if not any(len(part.weights) for part in pieces):
        raise _nothing_selected(sum(part.read for part in pieces), recipe, labels)


def _nothing_selected(
    entries: int, recipe: Recipe, labels: tuple[str, ...]
) -> NothingSelectedError:
    return NothingSelectedError(
        f"selection '{recipe.selection}' keeps none of the {entries} events read from "
        f"{_listed(labels)}"
    )


def _listed(labels: tuple[str, ...]) -> str:
    return labels[0] if len(labels) == 1 else f"{len(labels)} tables ({labels[0]}, ...)"
