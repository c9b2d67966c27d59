"""A progress bar on a terminal, for work that takes more than a few seconds."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self


class Progress:
    """A rich progress bar on standard error; silent where that is not a terminal.

    Args:
        title: What is counted.
        total: Number of things to do.
        done: Number of them done before.
        enabled: False for no bar at all.

    Example:
        >>> with Progress("toys", total=10, enabled=False) as bar:
        ...     bar.advance(5)
    """

    def __init__(self, title: str, *, total: int, done: int = 0, enabled: bool = True) -> None:
        """Make the bar; it is shown when entered."""
        self._bar: Any = None
        if not enabled:
            return
        from rich import progress
        from rich.console import Console

        console = Console(stderr=True)
        if console.is_terminal:
            self._bar = progress.Progress(
                progress.TextColumn("[bold]{task.description}"),
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task(title, total=total, completed=done)

    def __enter__(self) -> Self:
        """Show the bar."""
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()

    def advance(self, count: int) -> None:
        """Count things done."""
        if self._bar is not None:
            self._bar.advance(self._task, count)
