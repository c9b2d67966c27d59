"""The progress bar of everything that takes more than a few seconds, on a terminal only."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self


class ProgressBar:
    """A rich progress bar on standard error; silent where that is not a terminal.

    Args:
        title: What is counted.
        total: Number of things to do.
        done: Number of them done before.
        figures: Names of numbers shown beside the bar, which :meth:`update` gets; a bar with
            figures stays on the terminal, one without is removed at the end.
        enabled: False for no bar at all.

    Example:
        >>> with ProgressBar("limit", total=10, figures=("loss",), enabled=False) as bar:
        ...     bar.update(1, loss=0.5)
    """

    def __init__(
        self,
        title: str,
        *,
        total: int,
        done: int = 0,
        figures: tuple[str, ...] = (),
        enabled: bool = True,
    ) -> None:
        """Make the bar; it is shown when entered."""
        self._bar: Any = None
        self._done = done
        if not enabled:
            return
        from rich import progress
        from rich.console import Console

        console = Console(stderr=True)
        if not console.is_terminal:
            return
        shown = "  ".join(f"{name} {{task.fields[{name}]}}" for name in figures)
        beside = [progress.TextColumn(shown + "  {task.fields[rate]}")] if figures else []
        self._bar = progress.Progress(
            progress.TextColumn("[bold]{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            *beside,
            progress.TimeRemainingColumn(),
            console=console,
            transient=not figures,
        )
        start: dict[str, Any] = {**dict.fromkeys(figures, "-"), "rate": ""}
        self._task = self._bar.add_task(title, total=total, completed=done, **start)

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
        """Leave the bar as it stands, or remove it."""
        if self._bar is not None:
            self._bar.stop()

    def advance(self, count: int) -> None:
        """Count things done."""
        self.update(self._done + count)

    def update(self, done: int, **figures: float) -> None:
        """Show how many things are done, and the latest figures."""
        self._done = done
        if self._bar is None:
            return
        rate = self._bar.tasks[0].speed
        shown = {name: f"{value:.5g}" for name, value in figures.items()}
        shown["rate"] = "" if rate is None else f"{rate:.1f}/s"
        self._bar.update(self._task, completed=done, **shown)
