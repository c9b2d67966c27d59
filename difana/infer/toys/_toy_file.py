"""A file of toys that survives interruptions."""

from __future__ import annotations

import time
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from difana._errors import InputError

_SECONDS = 1.0  # between two writings
_UNREADABLE = (
    OSError, KeyError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile
)  # fmt: skip


class Toys(NamedTuple):
    """Results of all toys, by row and number."""

    statistic: np.ndarray  # [rows, toys]
    best: np.ndarray  # [rows, toys, tested]
    status: np.ndarray  # [rows, toys]


class ToyFile:
    """An ``.npz`` file with the toys done so far, bound to one model, data, statistic and key."""

    def __init__(self, path: Path, mark: str) -> None:
        """Remember the path and what the file must belong to."""
        self._path, self._mark, self._last = path, mark, -np.inf
        self._beyond: list[np.ndarray] | None = None

    def load(self, empty: Toys) -> Toys:
        """Return the toys in the file, filled up with empty places or cut to the number wanted.

        Raises:
            InputError: If the file is broken or belongs to another run.
        """
        if not self._path.exists():
            return empty
        try:
            with np.load(self._path, allow_pickle=False) as content:
                mark = str(content["mark"])
                arrays = [content[name] for name in empty._fields]
        except _UNREADABLE as error:
            raise InputError(
                f"{self._path} is no file of toys ({error}): give another file, or remove it"
            ) from error
        if mark != self._mark:
            raise InputError(
                f"{self._path} holds toys of another model, data, tested value, statistic or "
                "seed: give another file"
            )
        for target, source in zip(empty, arrays, strict=True):
            if (target.ndim, target.shape[0]) != (source.ndim, source.shape[0]):
                raise InputError(f"{self._path} is no file of these toys: remove it")
            number = min(target.shape[1], source.shape[1])
            target[:, :number] = source[:, :number]
        # never drop toys that cost time: what is beyond the number wanted is kept in the file
        self._beyond = [source[:, empty.status.shape[1] :] for source in arrays]
        return empty

    def save(self, toys: Toys, *, now: bool = False) -> None:
        """Write the file, at most once a second unless ``now``; it is never seen half written."""
        if not now and time.monotonic() - self._last < _SECONDS:
            return
        arrays: dict[str, Any] = dict(zip(toys._fields, toys, strict=True))
        if self._beyond is not None:
            arrays = {
                name: np.concatenate([array, rest], axis=1)
                for (name, array), rest in zip(arrays.items(), self._beyond, strict=True)
            }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_name(self._path.name + ".part")
        with temporary.open("wb") as stream:
            np.savez(stream, **{**arrays, "mark": np.array(self._mark)})
        temporary.replace(self._path)
        self._last = time.monotonic()
