"""Writer of a tree of a ROOT file, with counters and groups as in NanoAOD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from difana._errors import InputError
from difana.data._sink import AbstractSink, layout_of, plain


class RootSink(AbstractSink):
    """One tree of a ROOT file.

    Jagged columns such as ``Jet_pt`` and ``Jet_eta`` that are counted by a column ``nJet`` share
    that counter, as in NanoAOD; any other jagged column ``x`` gets its own counter ``nx``.
    """

    def __init__(self, file: Any, tree: str) -> None:
        """Write into an open file of uproot."""
        self._file = file
        self._name = tree
        self._tree: Any = None
        self._counters: dict[str, list[str]] = {}  # counter column -> what it counts
        self._groups: dict[str, list[str]] = {}  # Jet -> Jet_pt, Jet_eta

    def write(self, columns: Mapping[str, Any]) -> None:
        """Append one chunk."""
        if self._tree is None:
            self._start(columns)
        for counter, names in self._counters.items():
            for name in names:
                if not _counts(columns[counter], columns[name]):
                    raise InputError(
                        f"column '{counter}' counts the entries of '{name}' in the first chunk but "
                        "not in a later one; rename it, or convert in one chunk"
                    )
        tree: Any = self._tree
        tree.extend(self._branches(columns))

    def _branches(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """Return what uproot writes: groups as records, counters left to their owners."""
        import awkward as ak

        grouped = {name: group for group, names in self._groups.items() for name in names}
        found: dict[str, Any] = {}
        for name, array in columns.items():
            group = grouped.get(name)
            if group is not None and group not in found:
                members = self._groups[group]
                found[group] = ak.zip({m[len(group) + 1 :]: columns[m] for m in members})
            elif group is None and name not in self._counters:
                found[name] = plain(array)
        return found

    def _start(self, columns: Mapping[str, Any]) -> None:
        """Decide on counters and groups, and make the tree."""
        import awkward as ak

        counter_of = {}
        for name, array in columns.items():
            if layout_of(array)[0] != "jagged":
                continue
            parts = name.split("_")
            for cut in range(len(parts), 0, -1):
                owner = "_".join(parts[:cut])
                # "Jet_" has no name behind the group
                free = owner == name or (owner not in columns and "" not in parts)
                if free and _counts(columns.get(f"n{owner}"), array):
                    self._counters.setdefault(f"n{owner}", []).append(name)
                    if owner != name:
                        self._groups.setdefault(owner, []).append(name)
                    break
            else:
                taken = {*columns, *counter_of.values()}
                choices = (f"n{name}", f"{name}_count", *(f"{name}_count_{i}" for i in range(99)))
                counter_of[name] = next(choice for choice in choices if choice not in taken)
        types = {
            name: np.dtype((array.dtype, array.shape[1:]))
            if isinstance(array, np.ndarray)
            else ak.type(array).content
            for name, array in self._branches(columns).items()
        }
        self._tree = self._file.mktree(
            self._name, types, counter_name=lambda name: counter_of.get(name, f"n{name}")
        )


def _counts(counter: Any, jagged: Any) -> bool:
    """Say whether a column holds the numbers of entries of a jagged one."""
    import awkward as ak

    if not isinstance(counter, np.ndarray) or counter.dtype.kind not in "iu":
        return False
    return bool(np.array_equal(counter, ak.to_numpy(ak.num(jagged, axis=1))))
