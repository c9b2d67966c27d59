"""What to read: columns, weight, selection, particles, checked before any file is opened."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict

import jax
import numpy as np

from difana._errors import InputError, nearest
from difana.data.expressions import Expression

Columns = Sequence[str] | Mapping[str, str | float]
"""Branch names or expressions, or a mapping from column names to expressions."""


class Reading(TypedDict, total=False):
    """What both doors, `read_events` and `iterate_events`, take besides the columns."""

    weight: str | float | None
    selection: str | None
    units: Sequence[str] | Mapping[str, str] | None
    particles: Columns | None
    max_particles: int | None
    aliases: Mapping[str, str] | None
    dtype: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Which expressions become features, weights and particles."""

    columns: Mapping[str, str]
    weight: str | None = None
    selection: str | None = None
    particles: Mapping[str, str] = dataclasses.field(default_factory=dict)
    max_particles: int | None = None
    leading: str | None = None
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    units: tuple[str, ...] = ()
    dtype: np.dtype

    def uses(self) -> Iterator[tuple[str, str]]:
        """Yield each expression with the words that say what it is for."""
        for name, text in self.columns.items():
            yield f"column '{name}'", text
        for name, text in self.particles.items():
            yield f"particles column '{name}'", text
        if self.weight is not None:
            yield "weight", self.weight
        if self.selection is not None:
            yield "selection", self.selection

    def branches(self, known: frozenset[str], label: str, kind: str) -> tuple[str, ...]:
        """Return the names to read from a table that has ``known`` columns.

        Raises:
            InputError: If an expression uses a name that is neither a column nor an alias.
        """
        found: dict[str, None] = {}
        for use, text in self.uses():
            self._collect(text, use, known, label, kind, found, ())
        return tuple(found)

    def _collect(
        self,
        text: str,
        use: str,
        known: frozenset[str],
        label: str,
        kind: str,
        found: dict[str, None],
        path: tuple[str, ...],
    ) -> None:
        expression = Expression.of(text, known | self.aliases.keys())
        hiding = (name for name in expression.constants if name in known or name in self.aliases)
        for name in (*expression.names, *hiding):
            if name in path:
                raise InputError(f"alias '{name}' is defined by itself: {' -> '.join(path)}")
            if name in self.aliases:
                inner = self.aliases[name]
                self._collect(inner, f"alias '{name}'", known, label, kind, found, (*path, name))
            elif name in known:
                found.setdefault(name)
            else:
                inside = "" if text == name else f": '{text}'"
                raise InputError(
                    f"no {kind} '{name}' in {label} (used by {use}{inside})."
                    f"{nearest(name, known | self.aliases.keys())}"
                )


def recipe(
    *,
    columns: Columns,
    weight: str | float | None = None,
    selection: str | None = None,
    units: Sequence[str] | Mapping[str, str] | None = None,
    particles: Columns | None = None,
    max_particles: int | None = None,
    leading: str | None = None,
    aliases: Mapping[str, str] | None = None,
    dtype: Any = np.float32,
) -> Recipe:
    """Return the checked recipe; see `difana.data.read_events` for the arguments."""
    named = _named(columns, "columns")
    channels = _named(particles, "particles") if particles is not None else {}
    if not named and not channels:
        raise InputError("no columns are asked for: give at least one in 'columns'")
    if max_particles is not None and max_particles < 1:
        raise InputError(f"max_particles must be at least 1, got {max_particles}")
    if max_particles is not None and not channels:
        raise InputError("max_particles is given, but no 'particles'")
    if leading is not None and leading not in channels:
        raise InputError(
            f"leading = '{leading}' is none of the particles {list(channels)}."
            f"{nearest(leading, channels)}"
        )
    dtype = np.dtype(jax.dtypes.canonicalize_dtype(dtype))  # float32 unless JAX has 64 bits
    if dtype.kind != "f":
        raise InputError(f"features are floating-point numbers, got dtype {dtype}")
    return Recipe(
        columns=named,
        weight=None if weight is None else str(weight),
        selection=selection,
        particles=channels,
        max_particles=max_particles,
        leading=leading,
        aliases=dict(aliases or {}),
        units=_units(units, tuple(named)),
        dtype=dtype,
    )


def _named(columns: Columns, what: str) -> dict[str, str]:
    """Return name -> expression; a bare sequence names each column by its text."""
    if isinstance(columns, str):
        raise InputError(f"'{what}' must be a list or a mapping, got the text '{columns}'")
    if isinstance(columns, Mapping):
        return {name: str(text) for name, text in columns.items()}
    repeated = {text for text in columns if list(columns).count(text) > 1}
    if repeated:
        raise InputError(f"'{what}' names {sorted(repeated)} more than once")
    return {text.strip("`"): str(text) for text in columns}


def _units(
    units: Sequence[str] | Mapping[str, str] | None, columns: tuple[str, ...]
) -> tuple[str, ...]:
    if units is None:
        return ()
    if isinstance(units, Mapping):
        for name in units:
            if name not in columns:
                raise InputError(f"units for unknown column '{name}'.{nearest(name, columns)}")
        return tuple(units.get(name, "") for name in columns)
    if len(units) != len(columns):
        raise InputError(f"{len(units)} units for {len(columns)} columns {list(columns)}")
    return tuple(units)


class Scope(Mapping[str, Any]):
    """Arrays by name, in which aliases are computed when first asked for."""

    def __init__(self, arrays: Mapping[str, Any], aliases: Mapping[str, str], xp: Any) -> None:
        """Hold the arrays of one range of entries."""
        self._arrays = dict(arrays)
        self._aliases = aliases
        self._xp = xp
        self._names = frozenset(arrays) | frozenset(aliases)

    def evaluate(self, text: str) -> Any:
        """Return the value of an expression of branches and aliases."""
        return Expression.of(text, self._names).evaluate(self, self._xp)

    def __getitem__(self, name: str) -> Any:
        """Return an alias (they shadow branches) or a branch."""
        if name in self._arrays and name not in self._aliases:
            return self._arrays[name]
        key = f"alias {name}"
        if key not in self._arrays:
            self._arrays[key] = self.evaluate(self._aliases[name])
        return self._arrays[key]

    def __iter__(self) -> Iterator[str]:
        """Iterate over all names."""
        return iter(self._names)

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        """Say whether a name is known, without computing it."""
        return name in self._names
