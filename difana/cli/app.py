"""The group of commands: each is imported when it is called, errors are one message."""

from __future__ import annotations

import contextlib
import importlib
import signal
import sys
from collections.abc import Iterator
from typing import Any

import click

import difana
from difana._errors import ConfigError, DifanaError, nearest

_COMMANDS = {  # name -> module, in the order of the help
    "demo": "demo",
    "generate": "generate",
    "tag": "tag",
    "run": "run",
    "evaluate": "evaluate",
    "apply": "apply",
    "schema": "schema",
    "unfold": "unfold",
    "limit": "limit",
    "cls": "cls",
    "significance": "significance",
    "fit": "fit",
    "yields": "yields",
    "pulls": "pulls",
    "scan": "scan",
    "impacts": "impacts",
    "toys": "toys",
    "bayes": "bayes",
    "inspect": "inspect",
    "patch": "patch",
    "combine": "combine",
    "prune": "prune",
    "rename": "rename",
    "digest": "digest",
    "convert": "convert",
}

_BAD_INPUT = 2
_INTERRUPTED = 130
_TERMINATED = 143
_CONTINUED = ("demo", "generate", "run", "toys")  # they keep what they have


class TerminatedError(KeyboardInterrupt):
    """SIGTERM, as batch systems send it: handled wherever an interruption is."""


_LONGEST = 2000  # characters of a message: names in broken files may have any length
_LONGEST_LIST = 20_000  # of a list of problems, each of which is cut


def _shown(text: str, longest: int = _LONGEST) -> str:
    """Return a message without what would steer a terminal, cut if it is endless."""
    clean = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
    return clean if len(clean) <= longest else f"{clean[:longest]} ..."


class LazyGroup(click.Group):
    """A group that imports a command when it is needed, so that ``--help`` is fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by name."""
        if cmd_name not in _COMMANDS:
            return None
        return importlib.import_module(f"difana.cli.{_COMMANDS[cmd_name]}").command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command asked for; propose the nearest one."""
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"no command '{args[0]}'.{nearest(args[0], _COMMANDS)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what is wrong with the input becomes one message."""
        try:
            with _raising_at_termination():
                return super().invoke(ctx)
        except BrokenPipeError:
            raise  # whoever read our output has gone: click ends quietly
        except (DifanaError, OSError, MemoryError) as error:
            if ctx.params.get("debug"):
                raise
            longest = _LONGEST_LIST if isinstance(error, ConfigError) else _LONGEST
            click.echo(f"Error: {_shown(_words(error), longest)}", err=True)
            sys.exit(_BAD_INPUT)
        except KeyboardInterrupt as error:
            terminated = isinstance(error, TerminatedError)
            text = "Terminated." if terminated else "Interrupted."
            if ctx.invoked_subcommand in _CONTINUED:
                text += " The same command continues from the last checkpoint."
            click.echo(f"\n{text}", err=True)
            sys.exit(_TERMINATED if terminated else _INTERRUPTED)


def _words(error: Exception) -> str:
    """Return what a person should read of an error."""
    if isinstance(error, DifanaError):
        return str(error).replace("resume=False", "--no-resume")
    if isinstance(error, OSError):  # a full disk under a library that writes
        where = f"'{error.filename}': " if error.filename else ""
        return f"{where}{error.strerror or error}"
    return f"not enough memory ({error})" if str(error) else "not enough memory"


@contextlib.contextmanager
def _raising_at_termination() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that files and terminals are left in order."""

    def stop(number: int, frame: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends us at once
        raise TerminatedError

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(difana.__version__, prog_name="difana")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(*, debug: bool) -> None:
    """Differentiable end-to-end particle-physics analysis."""
