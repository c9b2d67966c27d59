"""What reading files would complain of: found from their first entries, all at once."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

import jax
import numpy as np
from jaxtyping import Float

from difana._errors import InputError
from difana.data._assemble import piece
from difana.data._recipe import Recipe
from difana.data._table import AbstractTable, Files, expand
from difana.data._window import Window
from difana.data.files import opener_of

_MOST_OPEN = 100


@dataclasses.dataclass(frozen=True)
class Complaint:
    """One thing that is wrong with a file.

    Attributes:
        kind: ``file``, ``selection``, ``column``, ``weight``, ``particles`` or ``identifier``.
        name: Which one of these; empty for a file.
        path: The file; as given where no file could be found.
        text: What is wrong, and the remedy.
    """

    kind: str
    name: str
    path: str
    text: str


@dataclasses.dataclass(frozen=True)
class Probed:
    """What the first entries of some files say.

    Attributes:
        complaints: What is wrong.
        entries: Number of entries by file, of all that could be opened.
        looked_at: Number of entries looked at.
        columns: The columns of those that are selected; empty where anything is wrong.
    """

    complaints: tuple[Complaint, ...]
    entries: Mapping[str, int]
    looked_at: int
    columns: Mapping[str, Float[np.ndarray, " events"]]


class Probe:
    """Tries expressions one by one on the first entries of files, which it keeps open.

    Args:
        entries: Number of entries of each file that are looked at.

    Example:
        >>> import pathlib, tempfile
        >>> import jax.numpy as jnp
        >>> from difana.data import Events, to_root
        >>> events = Events(jnp.ones((5, 1)), jnp.ones(5), columns=("mass",))
        >>> with tempfile.TemporaryDirectory() as folder, Probe() as probe:
        ...     path = to_root(events, pathlib.Path(folder) / "events.root")
        ...     found = probe(path, columns={"m": "masss", "x": "log(0 * mass)"})
        >>> [complaint.name for complaint in found.complaints]
        ['m', 'x']
        >>> found.complaints[0].text
        "no branch 'masss' in tree 'events' of '...' (used by column 'm'). Did you mean 'mass'?"
    """

    def __init__(self, *, entries: int = 100) -> None:
        """Open nothing yet."""
        if entries < 1:
            raise InputError(f"entries must be at least 1, got {entries}")
        self._most = entries
        self._tables: dict[tuple[str, str | None], Window] = {}

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close all files."""
        for table in self._tables.values():
            table.close()
        self._tables.clear()

    def __call__(
        self,
        files: Files,
        *,
        columns: Mapping[str, str],
        tree: str | None = None,
        weights: Mapping[str, str] = {},
        selections: Mapping[str, str] = {},
        particles: Mapping[str, str] = {},
        identifiers: Sequence[str] = (),
        dtype: Any = np.float32,
    ) -> Probed:
        """Return what is wrong, as reading would say it.

        Args:
            files: As in `read_events`.
            columns: One number an event, by name.
            tree: As in `read_events`.
            weights: Event weights by name.
            selections: Conditions by name, all of which an event has to meet.
            particles: Jagged columns by name, all of one length.
            identifiers: What names an event.
            dtype: Type of the columns.
        """
        complaints: list[Complaint] = []
        entries, looked_at, tables = {}, 0, []
        try:
            paths = expand(files)
        except InputError as error:
            return Probed((Complaint("file", "", str(files), str(error)),), {}, 0, {})
        asked = [("column", name, {"columns": {name: text}}) for name, text in columns.items()]
        asked += [("weight", name, {"weight": text}) for name, text in weights.items()]
        asked += [
            ("particles", name, {"particles": {name: text}}) for name, text in particles.items()
        ]
        asked += [("identifier", name, {"columns": {name: name}}) for name in identifiers]
        precision = np.dtype(jax.dtypes.canonicalize_dtype(dtype))
        for path in paths:
            try:
                table = self._open(path, tree)
            except InputError as error:
                complaints.append(Complaint("file", "", path, str(error)))
                continue
            entries[path], looked_at = table.entries, looked_at + table.stop
            own = []
            for name, text in selections.items():
                why = _wrong(table, Recipe(columns={}, selection=text, dtype=precision))
                own += [Complaint("selection", name, path, why)] if why else []
            # a selection that fails hides nothing else: names and types show without events, too
            stop = 0 if own else table.stop
            chosen = None if own else _all_of(selections.values())
            for kind, name, what in asked:
                type_ = precision if kind == "column" else np.dtype(np.float64)
                given = {"columns": {}, "selection": chosen, "dtype": type_, **what}
                why = _wrong(table, Recipe(**given), stop)
                own += [Complaint(kind, name, path, why)] if why else []
            if not own and len(particles) > 1:
                both = Recipe(columns={}, selection=chosen, particles=particles, dtype=precision)
                why = _wrong(table, both)
                own += [Complaint("particles", next(iter(particles)), path, why)] if why else []
            if not own:
                every = Recipe(columns=columns, selection=chosen, dtype=precision)
                tables.append(piece(table, every, 0, table.stop).features)
            complaints += own
        values = np.concatenate(tables).T if tables and not complaints else ()
        return Probed(
            tuple(complaints), entries, looked_at, dict(zip(columns, values, strict=False))
        )

    def _open(self, path: str, tree: str | None) -> Window:
        """Return a table, opened before or now."""
        key = (path, tree)
        if key not in self._tables:
            if len(self._tables) >= _MOST_OPEN:
                self._tables.pop(next(iter(self._tables))).close()
            self._tables[key] = _first(opener_of(path, tree)(), self._most)
        return self._tables[key]


def _first(table: AbstractTable, most: int) -> Window:
    return Window(table, 0, min(table.entries, most))


def _wrong(table: Window, recipe: Recipe, stop: int | None = None) -> str:
    """Return why a recipe cannot be read; empty if it can."""
    with _message() as found:
        piece(table, recipe, 0, table.stop if stop is None else stop)
    return "".join(found)


@contextlib.contextmanager
def _message() -> Iterator[list[str]]:
    found: list[str] = []
    try:
        yield found
    except InputError as error:
        found.append(str(error))


def _all_of(texts: Iterable[str]) -> str | None:
    """Return a condition that holds where all do; one alone stays as it is, it may be a name."""
    found = tuple(texts)
    return " and ".join(f"({text})" for text in found) if len(found) > 1 else "".join(found) or None
