"""A range of the entries of a table, of which each column is read once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from difana.data._table import AbstractTable


class Window(AbstractTable):
    """Entries ``start`` to ``stop`` of a table, under the numbers that they have there."""

    def __init__(self, table: AbstractTable, start: int, stop: int) -> None:
        """Read nothing yet."""
        self._table, self._columns = table, {}
        self.label, self.kind, self.entries = table.label, table.kind, table.entries
        self.start, self.stop = start, stop

    def names(self) -> frozenset[str]:
        """Return the names of the table."""
        return self._table.names()

    def arrays(self, names: Iterable[str], start: int, stop: int) -> dict[str, Any]:
        """Return several columns within the range."""
        names = tuple(names)
        for name in names:
            if name not in self._columns:
                self._columns |= self._table.arrays((name,), self.start, self.stop)
        own = slice(start - self.start, stop - self.start)
        return {name: self._columns[name][own] for name in names}

    def read(self, name: str, start: int, stop: int) -> Any:
        """Return a range of a column."""
        return self._table.read(name, start, stop)

    def close(self) -> None:
        """Close the table."""
        self._table.close()
