"""The records of one stage, passed on to the history file and to the logger of the user."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from typing import Any

from difana._errors import ConfigError
from difana._files import jsonable
from difana.train.history import JSONLLogger, Logger, Record, read_history


class Journal:
    """Keeps the records of one stage and hands each to the loggers."""

    def __init__(
        self, path: str | os.PathLike[str] | None, logger: Logger | None, *, stage: str
    ) -> None:
        """Remember where records go; nothing is written yet."""
        self._stage = stage
        self._file = None if path is None else JSONLLogger(path)
        self._loggers = [entry for entry in (self._file, logger) if entry is not None]
        self._records: list[Record] = []
        self._checksum = 0

    @property
    def records(self) -> tuple[Record, ...]:
        """The records of the stage."""
        return tuple(self._records)

    def facts(self) -> dict[str, int]:
        """Return number and checksum of the records, for a checkpoint."""
        return {"records": len(self._records), "history": self._checksum}

    def recover(self, *, step: int, facts: Mapping[str, Any]) -> None:
        """Read the records up to the checkpoint of ``step``, whose facts describe them."""
        if self._file is None:
            return
        found = read_history(self._file.path, stage=self._stage)
        self._records, self._checksum = [], 0
        for record in found:
            if record["step"] <= step:
                self._keep(record)
        remedy = (
            "Put the history file back that was written with the checkpoint, or start over with "
            "resume=False."
        )
        if len(self._records) != facts["records"]:
            raise ConfigError(
                f"{self._file.path}: {len(self._records)} records of stage '{self._stage}' up to "
                f"step {step} where the checkpoint counts {facts['records']}. {remedy}"
            )
        if self._checksum != facts["history"]:
            raise ConfigError(
                f"{self._file.path}: the records of stage '{self._stage}' up to step {step} are "
                f"not those of the checkpoint. {remedy}"
            )

    def _keep(self, record: Record) -> None:
        self._records.append(record)
        self._checksum = zlib.crc32(json.dumps(record).encode(), self._checksum)

    def start(self, *, step: int) -> None:
        """Open the loggers after ``step``; 0 means anew."""
        for logger in self._loggers:
            logger.start(stage=self._stage, step=step or -1)

    def log(self, kind: str, step: int, **values: object) -> None:
        """Record one step or validation."""
        record = jsonable({"stage": self._stage, "kind": kind, "step": step, **values})
        self._keep(record)
        for logger in self._loggers:
            logger.log(record)

    def sync(self) -> None:
        """Wait until the history is on the disk."""
        if self._file is not None:
            self._file.sync()

    def close(self) -> None:
        """Close the loggers."""
        for logger in self._loggers:
            logger.close()
