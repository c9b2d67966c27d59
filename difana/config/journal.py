"""The journal of a run: which stage it is in, said on standard error, and how long each took."""

from __future__ import annotations

import time
from pathlib import Path

from difana.config.folder import write_json


class Journal:
    """Announces and times the stages of a run.

    Args:
        speak: Say on standard error what is done.

    Example:
        >>> import tempfile
        >>> journal = Journal(speak=False)
        >>> journal.begin("read", "reading 3 samples")
        >>> journal.begin("train", "training")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     journal.end(Path(folder))
        ...     print(Path(folder, "timing.json").read_text())
        {
          "read": ...,
          "train": ...
        }
    """

    def __init__(self, *, speak: bool) -> None:
        """Start the clock."""
        self.seconds: dict[str, float] = {}
        self.speak = speak
        self._stage, self._start = "", time.perf_counter()

    def begin(self, stage: str, text: str) -> None:
        """End the current stage and begin another; the text says what is done."""
        self._next(stage)
        if self.speak:
            from rich.console import Console
            from rich.text import Text

            line = Text.assemble(("difana", "bold"), " ", text)  # names may look like markup
            Console(stderr=True).print(line, soft_wrap=True)

    def end(self, folder: Path) -> None:
        """End the last stage; write the seconds of each into ``timing.json``."""
        self._next("")
        write_json(folder / "timing.json", self.seconds)

    def _next(self, stage: str) -> None:
        now = time.perf_counter()
        if self._stage:
            self.seconds[self._stage] = round(now - self._start, 3)
        self._stage, self._start = stage, now
