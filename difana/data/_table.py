"""What every input looks like to the reader: named columns of one length, read by entry range."""

from __future__ import annotations

import abc
import contextlib
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from difana._errors import InputError, nearest

_WHOLE = 2**53  # floating-point numbers hold every integer up to here

Files = str | Path | Sequence[str | Path]
"""A path, a glob pattern, or a list of these."""


class AbstractTable(abc.ABC):
    """Columns of equal length that can be read in ranges of entries.

    Attributes:
        label: How messages name the table, e.g. ``tree 'events' of 'data.root'``.
        kind: What messages call a column, e.g. ``branch``.
        entries: Number of entries.
    """

    label: str
    kind: str = "column"
    entries: int

    @abc.abstractmethod
    def names(self) -> frozenset[str]:
        """Return every column name that can be read."""

    def columns(self) -> tuple[str, ...]:
        """Return each column once, in the order of the file."""
        return tuple(sorted(self.names()))

    @abc.abstractmethod
    def read(self, name: str, start: int, stop: int) -> Any:
        """Return the entries ``start`` to ``stop`` of a column as numpy or awkward array."""

    def close(self) -> None:  # noqa: B027  (arrays in memory need none)
        """Close the file behind the table."""

    def arrays(self, names: Iterable[str], start: int, stop: int) -> dict[str, Any]:
        """Return several columns.

        Raises:
            InputError: If a column is missing, cannot be read, or has another length.
        """
        found = {}
        for name in names:
            if name not in self.names():
                raise InputError(
                    f"no {self.kind} '{name}' in {self.label}.{nearest(name, self.names())}"
                )
            found[name] = guarded(self, name, start, stop)
            if len(found[name]) != stop - start:
                raise InputError(
                    f"{self.kind} '{name}' of {self.label} has {len(found[name])} entries where "
                    f"{stop - start} are expected"
                )
        return found


def guarded(table: AbstractTable, name: str, start: int, stop: int) -> Any:
    """Return a range of a column; whatever a broken file raises becomes an `InputError`."""
    try:
        return simplify(checked(table.read(name, start, stop)))
    except InputError:
        raise
    except BaseException as error:
        reraise_stop(error)
        raise InputError(
            f"cannot read {table.kind} '{name}' of {table.label}: the file is truncated or broken, "
            f"or the type is not supported ({reason_of(error)})"
        ) from error


def reason_of(error: BaseException) -> str:
    """Return the first line of a message, or the type of the error."""
    reason = (str(error).strip() or type(error).__name__).split("\n")[0]
    return reason if len(reason) <= 200 else f"{reason[:200]} ..."


def reraise_stop(error: BaseException) -> None:
    """Raise what ends the program: libraries written in Rust raise more than `Exception`."""
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
        raise error


def checked(array: Any) -> Any:
    """Return an array whose offsets do not point outside its content.

    Raises:
        InputError: If they do: the file is broken.
    """
    if isinstance(array, np.ndarray):
        return array
    import awkward as ak

    wrong = ak.validity_error(array)
    if wrong:
        raise ValueError(f"its lists have broken offsets: {reason_of(ValueError(wrong))}")
    return array


def simplify(array: Any) -> Any:
    """Return a numpy array where entries are single numbers, an awkward array otherwise.

    Missing numbers (parquet) become not-a-number, so that the check for it names them; only
    integers that floating-point numbers cannot hold stay missing.
    """
    if isinstance(array, np.ndarray):
        native = array.dtype.newbyteorder("=")
        if array.ndim == 1:
            return array.astype(native, copy=False)
        import awkward as ak

        return ak.from_numpy(array.astype(native, copy=False), regulararray=True)
    import awkward as ak

    layout = _dense(ak.to_layout(array))
    return np.asarray(ak.to_numpy(layout)) if layout.is_numpy else ak.Array(layout)


def _dense(layout: Any) -> Any:
    """Return a layout without option types: missing numbers become not-a-number."""
    import awkward as ak

    if layout.is_unknown:  # nothing but empty lists
        return layout.to_NumpyArray(np.dtype(np.float64))
    if layout.is_indexed and not layout.is_option:
        return _dense(layout.project())  # categories
    if layout.is_option:
        missing = np.asarray(layout.mask_as_bool(valid_when=False))
        present = _dense(layout.project())
        if not missing.any():
            return present
        if not present.is_numpy:
            return layout  # missing lists and strings: the caller says what is wrong
        numbers = np.asarray(ak.to_numpy(present))
        if numbers.dtype.kind in "iu" and (np.abs(numbers.astype(float)) > _WHOLE).any():
            return layout
        values = np.full(len(missing), np.nan)
        values[~missing] = numbers
        return ak.to_layout(values)
    if layout.is_list and layout.parameter("__array__") is None:
        if layout.is_regular:
            return layout.copy(content=_dense(layout.content))
        layout = layout.to_ListOffsetArray64(start_at_zero=True)
        content = layout.content[: int(layout.offsets[-1])]
        return ak.contents.ListOffsetArray(layout.offsets, _dense(content))
    return layout


def expand(files: Files) -> tuple[str, ...]:
    """Return the paths of files and globs, sorted within a glob; each file once, with a warning.

    Raises:
        InputError: If a glob matches nothing or the list is empty.
    """
    patterns = [files] if isinstance(files, str | Path) else list(files)
    if not patterns:
        raise InputError("the list of files is empty")
    paths: list[str] = []
    for pattern in patterns:
        text = str(pattern)
        if "://" in text or not any(c in text for c in "*?[") or _exists(text):
            paths.append(text)
            continue
        whole = Path(text).expanduser()
        root = Path(whole.anchor or ".")
        found = sorted(str(path) for path in root.glob(str(whole.relative_to(whole.anchor))))
        if not found:
            raise InputError(f"no file matches '{text}'.{_neighbours(whole)}")
        paths += found
    return _each_once(paths)


def _each_once(paths: list[str]) -> tuple[str, ...]:
    """Leave out files that were named before, also through links: events count once."""
    first: dict[Any, str] = {}
    for path in paths:
        other = first.setdefault(_identity(path), path)
        if other is not path:
            same = "named twice" if other == path else f"the file '{other}', which is named, too"
            warnings.warn(f"'{path}' is {same}: it is read once", stacklevel=2)
    return tuple(first.values())


def _identity(path: str) -> Any:
    """Return what two names of one tree in one file share."""
    found = re.fullmatch(r"(.+\.root):([^:]+)", path)
    file, tree = (found[1], found[2]) if found else (path, None)
    try:
        status = Path(file).expanduser().stat()
    except (OSError, ValueError, RuntimeError):
        return path
    return status.st_dev, status.st_ino, tree


def _exists(text: str) -> bool:
    try:
        return Path(text).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        return False


def existing(path: str) -> Path:
    """Return the path of a file that is there and not empty.

    Raises:
        InputError: If the file is missing, no regular file, or has no bytes.
    """
    try:
        file = Path(path).expanduser()
        if not file.exists():
            raise InputError(f"no file '{path}'.{_neighbours(file)}")
        if file.is_dir():
            raise InputError(f"'{path}' is a folder; give its files, e.g. '{path}/*'")
        if not file.is_file():
            raise InputError(f"'{path}' is a device or pipe, not a file")
        if file.stat().st_size == 0:
            raise InputError(f"file '{path}' is empty (0 bytes)")
        with file.open("rb"):  # may it be read?
            return file
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError) as error:  # e.g. no permission, a null byte
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot read '{path}': {why}") from error


def _neighbours(path: Path) -> str:
    """Name the nearest file in the folder, or say that the folder is missing."""
    folder = path.parent
    if not folder.is_dir():
        return f" There is no folder '{folder}'."
    try:
        return nearest(path.name, (other.name for other in folder.iterdir()))
    except OSError:
        return ""


@contextlib.contextmanager
def closing(table: AbstractTable) -> Iterator[AbstractTable]:
    """Close the table at the end of the block."""
    try:
        yield table
    finally:
        table.close()


class MemoryTable(AbstractTable):
    """Arrays in memory."""

    def __init__(self, columns: Mapping[str, Any], label: str = "the given arrays") -> None:
        """Check that all arrays have one length."""
        self.label = label
        self.kind = "array"
        self._columns = dict(columns)
        lengths = {name: len(array) for name, array in self._columns.items()}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"'{name}': {length}" for name, length in lengths.items())
            raise InputError(f"arrays of different lengths: {listed}")
        self.entries = next(iter(lengths.values()), 0)

    def names(self) -> frozenset[str]:
        """Return the names of the arrays."""
        return frozenset(self._columns)

    def read(self, name: str, start: int, stop: int) -> Any:
        """Return a slice of one array."""
        return self._columns[name][start:stop]
