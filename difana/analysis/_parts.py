"""Parts of an analysis of which there usually is one: trained regions, folds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from difana._errors import InputError

_T = TypeVar("_T")


def only(entries: Sequence[_T], what: str, attribute: str) -> _T:
    """Return the only entry.

    Args:
        entries: The entries.
        what: What they are, for the message.
        attribute: Where all of them are to be had.

    Raises:
        InputError: If there is another number of them.

    Example:
        >>> only(["a", "b"], "trained regions", "regions")
        Traceback (most recent call last):
        difana._errors.InputError: there are 2 trained regions: ask for .regions, which holds them
    """
    if len(entries) != 1:
        raise InputError(f"there are {len(entries)} {what}: ask for .{attribute}, which holds them")
    return entries[0]


def part_names(kind: str, number: int) -> tuple[str, ...]:
    """Return the names of the folders of parts, none of their own where there is one.

    Example:
        >>> part_names("region", 2), part_names("region", 1)
        (('region_1', 'region_2'), ('',))
    """
    return tuple(f"{kind}_{i + 1}" for i in range(number)) if number > 1 else ("",)


def fold_folders(folds: int) -> tuple[str, ...]:
    """Return the names of the folders of the folds: one of no name for one split.

    Example:
        >>> fold_folders(2), fold_folders(0)
        (('fold_1', 'fold_2'), ('',))
    """
    return tuple(f"fold_{f + 1}" for f in range(folds)) or ("",)


def inner_folders(folds: int, regions: int) -> tuple[str, ...]:
    """Return the folders that networks are written into, beside that of the result itself.

    Example:
        >>> inner_folders(2, 1), inner_folders(0, 2)
        (('fold_1', 'fold_2'), ('region_1', 'region_2'))
    """
    found = []
    for fold in fold_folders(folds):
        found += [fold] + [f"{fold}/{name}".strip("/") for name in part_names("region", regions)]
    return tuple(dict.fromkeys(name for name in (each.strip("/") for each in found) if name))
