"""The progress bar of a training: loss, metric and rate, on a terminal only."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self


class ProgressBar:
    """A rich progress bar on standard error; silent where that is not a terminal.

    Args:
        stage: What is trained.
        steps: Number of steps.
        done: Number of steps done before.
        enabled: False for no bar at all.

    Example:
        >>> with ProgressBar("limit", steps=10, enabled=False) as bar:
        ...     bar.update(step=1, loss=0.5, metric=0.7)
    """

    def __init__(self, stage: str, *, steps: int, done: int = 0, enabled: bool = True) -> None:
        """Make the bar; it is shown when entered."""
        self._bar: Any = None
        if not enabled:
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        console = Console(stderr=True)
        if not console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}  metric {task.fields[metric]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._bar.add_task(
            stage, total=steps, completed=done, loss="-", metric="-", rate=""
        )

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
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.stop()

    def update(self, *, step: int, loss: float, metric: float) -> None:
        """Show the number of steps done, the latest loss and the latest metric."""
        if self._bar is None:
            return
        rate = self._bar.tasks[0].speed
        self._bar.update(
            self._task,
            completed=step,
            loss=f"{loss:.5g}",
            metric=f"{metric:.5g}",
            rate="" if rate is None else f"{rate:.1f} steps/s",
        )
