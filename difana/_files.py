"""Files that are written whole or not at all, and folders with one writer at a time."""

from __future__ import annotations

import contextlib
import contextvars
import json
import math
import os
import re
import secrets
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from difana._errors import InputError, WriteError

_LOCK = ".difana.lock"
_PART = re.compile(r"^\..+\.([0-9a-f]{12}\.part|\d+\.part\.\w+)$")
_MOST_HEADER = 2**24
_held: contextvars.ContextVar[frozenset[str]] = contextvars.ContextVar("held", default=frozenset())


class NoHeaderError(ValueError):
    """A file that does not begin as `write_block` begins it."""


def cannot_write(path: str | Path, error: OSError) -> WriteError:
    """Return the error of a writing that failed: a full disk, no permission, ...

    Example:
        >>> import errno
        >>> str(cannot_write("a/b.json", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
        "cannot write 'a/b.json': No space left on device"
    """
    return WriteError(f"cannot write '{path}': {error.strerror or error}")


def jsonable(value: Any) -> Any:
    """Return a value that JSON can hold: arrays as lists, numbers that are not finite as None.

    Example:
        >>> import numpy as np
        >>> jsonable({"a": (1, float("inf")), "b": np.array([2.0])})
        {'a': [1, None], 'b': [2.0]}
    """
    if isinstance(value, Mapping):
        return {str(key): jsonable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(entry) for entry in value]
    if hasattr(value, "tolist"):  # an array or number of NumPy or JAX
        return jsonable(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_whole(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Write a file beside its place, force it to disk and rename it.

    The file gets the permissions that the umask of the user leaves. A symbolic link in its place
    is replaced, never written through.

    Args:
        path: The file; its folder must exist.
        parts: Its content, in turn.

    Raises:
        WriteError: If it cannot be written; what stood there before is left as it was.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_whole(Path(folder, "a.txt"), [b"one ", b"two"])
        ...     Path(folder, "a.txt").read_bytes()
        b'one two'
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _flag("O_NOFOLLOW"), 0o666)
        try:
            with os.fdopen(handle, "wb") as file:
                file.writelines(parts)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise cannot_write(path, error) from error


def _flag(name: str) -> int:
    return getattr(os, name, 0)  # not every system has all of them


def remove_parts(*folders: Path) -> None:
    """Remove what killed writings left (`write_whole`, ``difana.data``); where nobody else writes.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, ".a.txt.0123456789ab.part").touch()
        ...     remove_parts(Path(folder))
        ...     os.listdir(folder)
        []
    """
    for folder in folders:
        if folder.is_dir() and not folder.is_symlink():
            for path in folder.iterdir():
                if _PART.match(path.name):
                    path.unlink(missing_ok=True)


def refuse_links(*folders: Path) -> None:
    """Refuse folders in which files would be written through symbolic links.

    Args:
        folders: Folders, looked at with all that is in them; missing ones are fine.

    Raises:
        InputError: If one is a symbolic link, or holds one.
    """
    for folder in folders:
        found = [folder] if folder.is_symlink() else []
        if not found and folder.is_dir():
            for base, inner, files in os.walk(folder):
                found += [Path(base, name) for name in (*inner, *files)
                          if Path(base, name).is_symlink()]  # fmt: skip
        if found:
            raise InputError(
                f"'{found[0]}' is a symbolic link: results are not written through links; remove "
                "it, or give another folder"
            )


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, so that no other run writes into it; the lock dies with the process.

    Whoever holds it may ask again. Left-overs of killed writings are removed.

    Args:
        folder: The folder; must exist.

    Raises:
        InputError: If another run holds it, or it cannot be written into.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with locked(Path(folder)), locked(Path(folder)):
        ...         len(os.listdir(folder))
        ...     os.listdir(folder)
        1
        []
    """
    name = os.path.realpath(folder)
    if name in _held.get():
        yield
        return
    path = Path(name, _LOCK)
    handle = _take(path, folder)
    token = _held.set(_held.get() | {name})
    try:
        remove_parts(Path(name))
        yield
    finally:
        _held.reset(token)
        path.unlink(missing_ok=True)  # while it is held: the next one makes its own
        os.close(handle)


def _take(path: Path, folder: Path) -> int:
    """Return the handle of a locked file."""
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | _flag("O_NOFOLLOW"), 0o666)
        except OSError as error:
            if path.is_symlink():
                path.unlink(missing_ok=True)
                continue
            raise InputError(
                f"cannot write into the folder '{folder}': {error.strerror or error}"
            ) from error
        try:
            _lock(handle)
        except OSError as error:
            owner = os.pread(handle, 200, 0).decode(errors="replace").strip()
            os.close(handle)
            raise InputError(
                f"another run writes into the folder '{folder}'{f' ({owner})' if owner else ''}: "
                "wait for its end, or give another folder"
            ) from error
        try:  # the one before may have removed the file between our opening and our locking
            same = os.path.samestat(os.fstat(handle), path.lstat())
        except FileNotFoundError:
            same = False
        if same:
            with contextlib.suppress(OSError):  # a full disk: the words are a courtesy
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"process {os.getpid()} on {os.uname().nodename}".encode(), 0)
            return handle
        os.close(handle)


def _lock(handle: int) -> None:
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        return
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def write_block(path: Path, header: Mapping[str, Any], payload: bytes | memoryview) -> None:
    """Write a line of JSON and bytes behind it, whole or not at all, with checksums.

    Args:
        path: The file; its folder must exist.
        header: JSON values.
        payload: The bytes.

    Raises:
        WriteError: If it cannot be written.

    Example:
        See `read_block`.
    """
    own = {**header, "bytes": len(payload), "crc32": zlib.crc32(payload)}
    own["check"] = _check(own)
    write_whole(path, [json.dumps(own).encode() + b"\n", payload])


def read_block(
    path: Path, *, most: Callable[[dict[str, Any]], int] | None = None
) -> tuple[dict[str, Any], bytes]:
    """Read what `write_block` wrote; no byte is trusted before the checksums have been compared.

    Args:
        path: The file.
        most: Looks at the header and returns how many bytes make sense; more are not read.

    Raises:
        NoHeaderError: If it is another kind of file.
        ValueError: If it is damaged; says how.
        OSError: If it cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_block(Path(folder, "a"), {"format": "example"}, b"12")
        ...     header, payload = read_block(Path(folder, "a"))
        >>> header["format"], payload
        ('example', b'12')
    """
    with path.open("rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise NoHeaderError("it is no plain file")
        size = os.fstat(file.fileno()).st_size
        line = file.readline(_MOST_HEADER)
        try:
            header = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise NoHeaderError("its first line is no header") from error
        if not isinstance(header, dict) or not {"bytes", "crc32", "check"} <= set(header):
            raise NoHeaderError("its first line is no header")
        if header.pop("check") != _check(header):
            raise ValueError("the checksum of its header is wrong")
        length = size - len(line)
        if length != header["bytes"]:
            raise ValueError(f"{length} bytes where {header['bytes']} were written")
        if most is not None and length > (limit := most(header)):
            raise ValueError(f"{length} bytes where at most {limit} make sense")
        payload = file.read(length)
    if zlib.crc32(payload) != header["crc32"]:
        raise ValueError("the checksum of its content is wrong")
    return header, payload


def _check(header: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(header, sort_keys=True).encode())
