"""Errors that name the culprit and the remedy."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator


class DifanaError(ValueError):
    """Base class of every error raised on purpose by difana."""


class InputError(DifanaError):
    """Bad events, files, branches, weights or expressions."""


class NothingSelectedError(InputError):
    """Files that can be read, of which no event is left."""


class WriteError(InputError, OSError):
    """A file that cannot be written: a full disk, no permission, ..."""


class ConfigError(DifanaError):
    """A configuration file that cannot be run."""


class ModelError(DifanaError):
    """A statistical model that is not well defined."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the nearest known name, or an empty string.

    Example:
        >>> nearest("wieght", ["weight", "tree"])
        " Did you mean 'weight'?"
    """
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{found[0]}'?" if found else ""


@contextlib.contextmanager
def blame(where: str) -> Iterator[None]:
    """Put a place before the message of an input error.

    Example:
        >>> with blame("analysis.yaml:3"):
        ...     raise InputError("no branch 'x'")
        Traceback (most recent call last):
        difana._errors.InputError: analysis.yaml:3: no branch 'x'
    """
    try:
        yield
    except InputError as error:
        raise type(error)(f"{where}: {error}") from error
