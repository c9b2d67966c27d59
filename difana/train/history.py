"""The history of a training: one JSON record a line, the same in every run of the same training."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol, runtime_checkable

from difana._errors import InputError
from difana._files import cannot_write, jsonable, refuse_links

Record = dict[str, Any]


@runtime_checkable
class Logger(Protocol):
    """Receives the records of a training, for instance to show them on a web page.

    A record is a flat dictionary of JSON values: ``stage``, ``kind`` (``"train"`` or
    ``"validation"``), ``step``, then ``loss``, ``gradient_norm``, ``skipped`` or ``metric``,
    ``improved``, and ``aux``, the dictionary of scalars of the loss or of the validation.
    """

    def start(self, *, stage: str, step: int) -> None:
        """Begin a stage after ``step`` (-1: anew); later records of it, if any, are void."""

    def log(self, record: Mapping[str, Any]) -> None:
        """Take one record."""

    def close(self) -> None:
        """End the stage."""


class JSONLLogger:
    """Appends records to a file, one JSON object a line, each flushed at once.

    `start` cuts the file before the first record of the stage that is later than the step: what
    was written after the last checkpoint of a killed run, a torn last line included. The file
    holds no times, so two runs of the same training write the same bytes. Numbers that are not
    finite are written as null.

    Args:
        path: The file; made with its folder if missing.

    Example:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "history.jsonl"
        >>> logger = JSONLLogger(path)
        >>> logger.start(stage="limit", step=-1)
        >>> logger.log({"stage": "limit", "kind": "train", "step": 1, "loss": 0.5})
        >>> logger.close()
        >>> read_history(path)[0]["loss"]
        0.5
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Remember the path; nothing is written yet."""
        self.path = Path(path)
        self._file: BinaryIO | None = None

    def start(self, *, stage: str, step: int) -> None:
        """Cut the file after ``step`` of ``stage`` and open it for more."""
        refuse_links(self.path)
        keep = 0
        for record, end in _complete_lines(self.path):
            if record.get("stage") == stage and record.get("step", 0) > step:
                break
            keep = end
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists() and self.path.stat().st_size != keep:
                os.truncate(self.path, keep)
            # without a buffer: a full disk shows at once, and leaves nothing for later
            self._file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one record, at once.

        Raises:
            WriteError: If the disk is full; a torn line is cut off when the file is next opened.
        """
        if self._file is None:
            raise InputError(f"{self.path}: call start() before log().")
        line = json.dumps(jsonable(record), allow_nan=False).encode() + b"\n"
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def sync(self) -> None:
        """Wait until all records are on the disk, before a checkpoint relies on them."""
        if self._file is not None:
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                raise cannot_write(self.path, error) from error

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def read_history(path: str | os.PathLike[str], *, stage: str | None = None) -> tuple[Record, ...]:
    """Read the records of a history file; a torn last line is left out.

    Args:
        path: The file; a missing one has no records.
        stage: Only the records of this stage.

    Returns:
        The records in the order in which they were written.

    Raises:
        InputError: If a line other than the last is no JSON object.

    Example:
        >>> read_history("no-such-file.jsonl")
        ()
    """
    records = (record for record, _ in _complete_lines(Path(path)))
    return tuple(r for r in records if stage is None or r.get("stage") == stage)


def _complete_lines(path: Path) -> list[tuple[Record, int]]:
    """Return (record, offset of the end of its line) of every complete line."""
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines(keepends=True)
    records, end = [], 0
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not (isinstance(record, dict) and line.endswith(b"\n")):
            if number == len(lines):
                break
            raise InputError(
                f"{path}, line {number}: not a record of a training history; "
                "remove the line or give another history file."
            )
        end += len(line)
        records.append((record, end))
    return records
