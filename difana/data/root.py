"""Events from ROOT files, through uproot."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from difana._errors import InputError, nearest
from difana.data import _assemble
from difana.data._recipe import Columns, recipe
from difana.data._table import (
    AbstractTable,
    Files,
    existing,
    expand,
    reason_of,
    reraise_stop,
)
from difana.data.events import Events

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


def from_root(
    files: Files,
    *,
    columns: Columns,
    tree: str | None = None,
    weight: str | float | None = None,
    selection: str | None = None,
    units: Sequence[str] | Mapping[str, str] | None = None,
    particles: Columns | None = None,
    max_particles: int | None = None,
    aliases: Mapping[str, str] | None = None,
    entry_start: int | None = None,
    entry_stop: int | None = None,
    dtype: Any = np.float32,
) -> Events:
    """Read events from ROOT files.

    Everything may be a branch name or an `Expression` of branch names. The selection is applied
    first, so ``jet_pt[:, 0]`` is safe behind ``num(jet_pt) > 0``.

    Args:
        files: Path, glob or list of these; ``file.root:tree`` names the tree, too.
        columns: Features, one number an event: names or expressions, or a mapping from column
            name to expression.
        tree: Name of the tree; may be left out where the file has only one.
        weight: Expression of the event weight; 1 if left out. Kept in float64.
        selection: Expression that is true for the events to keep.
        units: Units of the columns: a list in their order or a mapping.
        particles: Jagged columns that become ``Events.particles``, padded with zeros, in the
            order of the file: names or a mapping, as ``columns``.
        max_particles: Number of particles to pad or cut to; the largest number found if left out.
        aliases: Further names, defined by expressions, for use in all expressions.
        entry_start: First entry, counted through all files.
        entry_stop: Entry behind the last one, counted through all files.
        dtype: Type of features and particles on the way to JAX.

    Returns:
        The selected events, in the order of the files.

    Raises:
        InputError: If a file, tree or branch is missing or broken, an expression is wrong, no
            event is selected, or a feature or weight is not finite. The message names it.

    Example:
        >>> import pathlib, tempfile
        >>> import jax.numpy as jnp
        >>> from difana.data import Events, from_root, to_root
        >>> events = Events(jnp.array([[30.0], [50.0]]), jnp.ones(2), columns=("pt",))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = to_root(events, pathlib.Path(folder) / "events.root")
        ...     read = from_root(path, columns={"x": "pt / 100"}, selection="pt > 40")
        >>> read["x"].tolist()
        [0.5]
    """
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
    openers = [functools.partial(RootTable, path, tree) for path in expand(files)]
    return _assemble.read(openers, what, _assemble.Ranges(entry_start, entry_stop))


def iterate_root(
    files: Files,
    *,
    columns: Columns,
    chunk_size: int = 100_000,
    tree: str | None = None,
    weight: str | float | None = None,
    selection: str | None = None,
    units: Sequence[str] | Mapping[str, str] | None = None,
    particles: Columns | None = None,
    max_particles: int | None = None,
    aliases: Mapping[str, str] | None = None,
    entry_start: int | None = None,
    entry_stop: int | None = None,
    dtype: Any = np.float32,
) -> Iterator[Events]:
    """Yield events of ROOT files in chunks, for files larger than memory.

    The arguments are those of `from_root`. Chunks in which no event is selected are left out.
    Give ``max_particles``, or each chunk is padded to its own largest number of particles.

    Args:
        files: See `from_root`.
        columns: See `from_root`.
        chunk_size: Number of entries to read at a time (a chunk never spans two files).
        tree: See `from_root`.
        weight: See `from_root`.
        selection: See `from_root`.
        units: See `from_root`.
        particles: See `from_root`.
        max_particles: See `from_root`.
        aliases: See `from_root`.
        entry_start: See `from_root`.
        entry_stop: See `from_root`.
        dtype: See `from_root`.

    Yields:
        The selected events of each chunk.

    Raises:
        InputError: See `from_root`.

    Example:
        >>> import pathlib, tempfile
        >>> import jax.numpy as jnp
        >>> from difana.data import Events, iterate_root, to_root
        >>> events = Events(jnp.ones((5, 1)), jnp.ones(5), columns=("pt",))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = to_root(events, pathlib.Path(folder) / "events.root")
        ...     [len(chunk) for chunk in iterate_root(path, columns=["pt"], chunk_size=2)]
        [2, 2, 1]
    """
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
    openers = [functools.partial(RootTable, path, tree) for path in expand(files)]
    wanted = _assemble.Ranges(entry_start, entry_stop, chunk_size)
    return _assemble.iterate(openers, what, wanted)


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
