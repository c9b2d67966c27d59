"""What the commands on a configuration file share: options, report, where the results are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from difana.cli._output import finish, write_report


def method_options(function: Callable, *, needs_out: bool = True, resumes: bool = True) -> Callable:
    """Add the configuration, the folder of the results, and what is said and drawn."""
    again = click.option(
        "--no-resume", is_flag=True, help="Delete checkpoints in the folder and start over."
    )
    for option in (
        click.option("--no-report", is_flag=True, help="Draw no plots and write no report."),
        click.option("--quiet", is_flag=True, help="Print nothing but errors."),
        *([again] if resumes else []),
        click.option(
            "--out",
            type=click.Path(path_type=Path),
            required=needs_out,
            help="Folder of the results.",
        ),
        click.argument("config", type=click.Path(path_type=Path)),
    ):
        function = option(function)
    return function


def code_option(function: Callable) -> Callable:
    """Add the option that allows code named in an analysis file or a result."""
    return click.option(
        "--allow-code",
        is_flag=True,
        help="Import the network and objective that the file names as module:name. Code can do "
        "anything: allow it for files that you trust alone.",
    )(function)


def run_method(
    run: Callable[..., Any],
    config: Path,
    out: Path,
    *,
    page: str,
    show: Callable[[Any], None],
    files: Mapping[str, str],
    no_resume: bool = False,
    quiet: bool = False,
    no_report: bool = False,
) -> None:
    """Run a method, write its report, print its result; exit code 3 where it cannot be trusted.

    Args:
        run: The method: ``run(config, out, resume=, progress=, report=)``; its result has ``out``
            and ``message``.
        config: The configuration.
        out: Folder of the results.
        page: Function of ``difana.plot`` that writes the report.
        show: Prints a result.
        files: Files of the folder that are named at the end, by what they are.
        no_resume: Start over.
        quiet: Print nothing but errors.
        no_report: Write no report.
    """
    pages: list[Path | None] = []

    def report(own: Any) -> None:
        pages.append(write_report(page, own))

    result = run(
        config, out, resume=not no_resume, progress=not quiet, report=None if no_report else report
    )
    if not quiet:
        show(result)
        listed = {"report": pages[0] if pages else None}
        listed |= {label: result.out / name for label, name in files.items()}
        for label, path in listed.items():
            if path is not None and path.exists():
                click.echo(f"{label + ':':<13}{path}")
    finish(result.message)
