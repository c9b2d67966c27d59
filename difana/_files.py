"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path


def write_whole(path: Path, parts: Iterable[bytes | memoryview], *, mode: int = 0o600) -> None:
    """Write a file beside its place, force it to disk and rename it.

    Args:
        path: The file; its folder must exist.
        parts: Its content, in turn.
        mode: Who may read it; by default its owner only.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_whole(Path(folder, "a.txt"), [b"one ", b"two"])
        ...     Path(folder, "a.txt").read_bytes()
        b'one two'
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
