"""Files of a result: whole or not at all, and the same bytes in every run of the same analysis."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from difana._errors import InputError
from difana._files import jsonable, locked, refuse_links, remove_parts, write_whole


def write_text(path: Path, text: str) -> None:
    """Write a file beside its place and rename it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_text(Path(folder, "a.txt"), "hello")
        ...     Path(folder, "a.txt").read_text()
        'hello'
    """
    write_whole(path, [text.encode()])


def write_json(path: Path, value: Any) -> None:
    """Write JSON; numbers that are not finite become null."""
    write_text(path, json.dumps(jsonable(value), indent=2, allow_nan=False) + "\n")


@contextlib.contextmanager
def held_folder(out: str | Path, *, inner: Sequence[str] = ()) -> Iterator[Path]:
    """Hold the folder of a result, made if missing, for one run; left-overs of a killed one go.

    Args:
        out: The folder.
        inner: Folders in it that are written into.

    Raises:
        InputError: If it is a file or cannot be made, if another run holds it, or if a symbolic
            link leads out of it.
    """
    folder = result_folder(out)
    below = [folder / name for name in inner]
    with locked(folder):
        refuse_links(*below)
        remove_parts(*below)
        yield folder


def result_folder(out: str | Path) -> Path:
    """Return the folder of a result, made if missing.

    Raises:
        InputError: If it is a file or cannot be made.
    """
    out = Path(out).expanduser()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise InputError(f"'{out}' is a file; give a folder for the results") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot make the folder '{out}': {reason}") from error
    if not os.access(out, os.W_OK):
        raise InputError(f"cannot write into the folder '{out}'")
    return out
