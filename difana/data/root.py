"""Events from ROOT files, through uproot."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from difana._errors import InputError, nearest
from difana.data._table import (
    AbstractTable,
    existing,
    reason_of,
    reraise_stop,
)

_TREES = ("TTree", "TNtuple", "TNtupleD", "TChain", "ROOT::RNTuple")


class RootTable(AbstractTable):
    """One tree of one ROOT file.

    Attributes:
        tree: Name of the tree.
    """

    kind = "branch"

    def __init__(self, path: str, tree: str | None = None) -> None:
        """Open the file and find the tree; ``path`` may be ``file.root:tree``."""
        path, inside = split_path(path)
        tree = inside or tree
        self._file = open_root(path)
        try:
            known = trees(self._file)
            self.tree = _choose(tree, known, path)
            self.label = f"tree '{self.tree}' of '{path}'"
            self._tree = self._file[self.tree]
            self.entries = int(self._tree.num_entries)
            short = self._tree.keys(recursive=True, full_paths=False)
            self._columns = tuple(dict.fromkeys(self._tree.keys(recursive=True)))
            self._names = frozenset(short) | frozenset(self._columns)
        except InputError:
            self._file.close()
            raise
        except BaseException as error:
            self._file.close()
            reraise_stop(error)
            raise _broken(path, error) from error

    def names(self) -> frozenset[str]:
        """Return the branch names, sub-branches with and without the name of their parent."""
        return self._names

    def columns(self) -> tuple[str, ...]:
        """Return the branches that hold data, in the order of the tree."""
        # a parent branch repeats the data of its sub-branches
        return tuple(name for name in self._columns if not self._is_parent(name))

    def _is_parent(self, name: str) -> bool:
        try:
            return len(getattr(self._tree[name], "branches", ())) > 0
        except Exception:
            return False  # a name that nothing finds, of a broken file: reading it says so

    def read(self, name: str, start: int, stop: int) -> Any:
        """Return a range of a branch."""
        array = self._tree[name].array(entry_start=start, entry_stop=stop, library="ak")
        return np.asarray(array) if array.ndim == 1 and array.layout.is_numpy else array

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def open_root(path: str) -> Any:
    """Open a ROOT file for reading.

    Raises:
        InputError: If it is missing, empty, truncated or no ROOT file.
    """
    import uproot

    local = "://" not in path
    if local:
        existing(path)
    try:
        file: Any = uproot.open(path)
    except BaseException as error:
        reraise_stop(error)
        raise _broken(path, error) from error
    if local:
        size, expected = existing(path).stat().st_size, int(file.file.fEND)
        if size < expected:
            file.close()
            raise InputError(
                f"file '{path}' is truncated: {size} of {expected} bytes; copy it again"
            )
    return file


def trees(file: Any) -> tuple[str, ...]:
    """Return the names of all trees in an open ROOT file, the highest cycle of each."""
    classes = file.classnames(recursive=True, cycle=False)
    return tuple(name for name, kind in classes.items() if kind in _TREES)


def split_path(path: str) -> tuple[str, str | None]:
    """Return path and tree of ``file.root:tree``.

    Example:
        >>> split_path("data/a.root:events"), split_path("root://host//a.root")
        (('data/a.root', 'events'), ('root://host//a.root', None))
    """
    found = re.fullmatch(r"(.+\.root):([^:]+)", path)
    return (found[1], found[2]) if found else (path, None)


def _choose(tree: str | None, known: Sequence[str], path: str) -> str:
    listed = ", ".join(f"'{name}'" for name in known)
    if not known:
        raise InputError(f"file '{path}' holds no tree")
    if tree is None:
        if len(known) > 1:
            raise InputError(f"file '{path}' holds several trees, choose one: {listed}")
        return known[0]
    if tree.split(";")[0] not in known:
        raise InputError(
            f"no tree '{tree}' in file '{path}'.{nearest(tree, known)} The file has: {listed}"
        )
    return tree


def _broken(path: str, error: BaseException) -> InputError:
    return InputError(f"cannot read '{path}': it is truncated or no ROOT file ({reason_of(error)})")
