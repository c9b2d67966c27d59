"""Pictures and progress of the commands."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from difana._errors import InputError
from difana._files import cannot_write
from difana.cli._options import option_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


NOT_OK = 3  # exit code of a command whose numbers cannot be trusted; 2 is bad input


def finish(*statuses: str) -> None:
    """End a command: with one line on standard error and code 3 unless every status is "ok"."""
    wrong = dict.fromkeys(status for status in statuses if status != "ok")
    if wrong:
        if any("negative yield" in status for status in wrong) and not option_of("clip_negative"):
            wrong |= {"--clip-negative clips it": None}
        click.echo(f"Warning: {'; '.join(wrong)}", err=True)
        sys.exit(NOT_OK)


def note(text: str) -> None:
    """Say on standard error what is worth knowing, and harmless."""
    click.echo(f"Note: {text}", err=True)


@contextlib.contextmanager
def reporting(title: str) -> Iterator[Callable[[int, int], None]]:
    """Yield ``report(done, total)`` behind a progress bar, shown from the first report on."""
    from difana._progress import ProgressBar

    with contextlib.ExitStack() as stack:
        bars: list[ProgressBar] = []

        def report(done: int, total: int) -> None:
            if not bars:
                bars.append(stack.enter_context(ProgressBar(title, total=total)))
            bars[0].update(done)

        yield report


def save_figure(figure: Figure, path: Path) -> None:
    """Write a picture; its suffix chooses the format.

    Raises:
        InputError: If the folder is missing or the format is unknown.
    """
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: the folder {path.parent} does not exist")
    known = figure.canvas.get_supported_filetypes()
    if path.suffix.lower().lstrip(".") not in known:
        raise InputError(f"cannot write {path}: the suffix must be one of {sorted(known)}")
    figure.savefig(path, dpi=150)
    click.echo(f"wrote {path}", err=True)


def write_report(name: str, result: Any) -> Path | None:
    """Write a report by a function of :mod:`difana.plot`; without matplotlib there is none."""
    try:
        import difana.plot

        return getattr(difana.plot, name)(result)
    except ModuleNotFoundError as error:
        if error.name not in ("matplotlib", "mplhep"):
            raise
        text = f"no report: {error.name} is missing (pip install 'difana[plot]')"
        click.echo(f"Warning: {text}", err=True)
        return None
    except OSError as error:  # pictures are files on their way
        raise cannot_write(result.out / "report.html", error) from error
