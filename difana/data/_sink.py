"""What is written: the layout of a column, and the interface of a file under construction."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

import numpy as np

from difana._errors import InputError


def layout_of(array: Any) -> tuple[str, str]:
    """Return what a column is: (``flat``, ``fixed``, ``jagged``, ``strings``, or ``""``, reason).

    Example:
        >>> layout_of(np.zeros(3))
        ('flat', '')
    """
    if isinstance(array, np.ndarray):
        simple = array.dtype.kind in "fiub" and array.dtype.itemsize in (1, 2, 4, 8)
        if simple and array.dtype != np.float16:
            return "flat", ""
        return "", f"entries of type {array.dtype}"
    import awkward as ak

    layout = ak.to_layout(array)
    if layout.parameter("__array__") == "string":
        return "strings", ""
    if layout.is_option:
        what = "texts or lists" if not layout.content.is_numpy else "integers above 2**53"
        return "", f"missing {what} (null), which only parquet can hold"
    axes, fixed = array.ndim, True
    while layout.is_list:
        fixed = fixed and layout.is_regular
        if layout.is_regular and layout.size == 0:
            return "", "lists without entries"
        layout = layout.content
        if layout.parameter("__array__") == "string":
            return "", "lists of strings"
        if layout.is_option:
            return "", "missing entries (null) of a list"
    if not layout.is_numpy or layout.dtype.kind not in "fiub" or layout.dtype == np.float16:
        return "", f"entries of type '{ak.type(array).content}'"
    if fixed:
        return "fixed", ""
    return ("jagged", "") if axes == 2 else ("", "lists nested more than once")


def plain(array: Any) -> Any:
    """Return a numpy array where every event has the same number of entries."""
    import awkward as ak

    return ak.to_numpy(array) if layout_of(array)[0] == "fixed" else array


def parts_of(jagged: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return how many entries each event has, and all entries.

    Example:
        >>> import awkward as ak
        >>> [part.tolist() for part in parts_of(ak.Array([[1, 2], [], [3]]))]
        [[2, 0, 1], [1, 2, 3]]
    """
    import awkward as ak

    counts = ak.to_numpy(ak.num(jagged, axis=1))
    return np.asarray(counts), np.asarray(ak.to_numpy(ak.flatten(jagged, axis=1)))


class AbstractSink(abc.ABC):
    """A file under construction; columns of the first chunk fix those of the later ones."""

    @abc.abstractmethod
    def write(self, columns: Mapping[str, Any]) -> None:
        """Append one chunk of columns."""

    def close(self) -> None:  # noqa: B027  # most have nothing to do
        """Finish the file; nothing is left to do where its owner closes it."""

    def annotate(self, metadata: Mapping[str, str]) -> None:
        """Keep texts with the file; call it before the first chunk."""
        raise InputError(f"{type(self).__name__} keeps no metadata: write HDF5 or parquet")
