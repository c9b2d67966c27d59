"""A file that never fails under HDF5, whose library crashes when a full disk makes it fail."""

from __future__ import annotations

import os
from pathlib import Path


class Storage:
    """A new file for the Python driver of h5py.

    After a write has failed, writes go to memory, so that the library can close its file in peace;
    the owner looks at ``error`` after each step and gives up.

    Attributes:
        error: What went wrong first, or None.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     storage = Storage(Path(folder) / "a")
        ...     _ = storage.write(b"one"), storage.seek(1)
        ...     buffer = bytearray(2)
        ...     _ = storage.readinto(buffer)
        ...     storage.close()
        >>> bytes(buffer), storage.error
        (b'ne', None)
    """

    def __init__(self, path: Path) -> None:
        self.error: OSError | None = None
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        self._position = 0
        self._size = 0
        self._kept: list[tuple[int, bytes]] = []

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def write(self, data: bytes | memoryview) -> int:
        """Write at the position."""
        view = memoryview(data).cast("B")
        done = 0
        if self.error is None:
            try:
                while done < len(view):
                    done += os.pwrite(self._file, view[done:], self._position + done)
            except OSError as error:
                self.error = error
        if done < len(view):
            self._kept.append((self._position + done, bytes(view[done:])))
        self._position += len(view)
        self._size = max(self._size, self._position)
        return len(view)

    def read(self, size: int) -> bytes:
        """Return bytes from the position."""
        buffer = bytearray(size)
        return bytes(buffer[: self.readinto(buffer)])

    def readinto(self, buffer: memoryview | bytearray) -> int:
        """Read from the position; what was never written is zero."""
        view = memoryview(buffer).cast("B")
        start = self._position
        length = max(min(len(view), self._size - start), 0)
        found = os.pread(self._file, length, start)
        view[:length] = found + bytes(length - len(found))
        for at, data in self._kept:
            low, high = max(at, start), min(at + len(data), start + length)
            if low < high:
                view[low - start : high - start] = data[low - at : high - at]
        self._position += length
        return length

    def truncate(self, size: int | None = None) -> int:
        """Set the length of the file."""
        self._size = self._position if size is None else size
        if self.error is None:
            try:
                os.ftruncate(self._file, self._size)
            except OSError as error:
                self.error = error
        return self._size

    def flush(self) -> None:
        """Nothing waits: writes are not buffered."""

    def check(self) -> None:
        """Raise what went wrong.

        Raises:
            OSError: The first error of a write.
        """
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
