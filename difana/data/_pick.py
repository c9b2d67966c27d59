"""Indices behind the event axis: numbers, slices, and masks or positions list by list."""

from __future__ import annotations

from typing import Any

import numpy as np

from difana._errors import InputError
from difana.data._lift import kind_of


def picked(x: Any, index: Any, xp: Any) -> Any:
    """Return ``x[index]``, where the index never picks, drops or moves events.

    Raises:
        InputError: If it would, or a mask has not one value for each entry of each list.

    Example:
        >>> import awkward as ak
        >>> pt, phi = ak.Array([[1.0, 2.0], [3.0]]), ak.Array([[1.0], [2.0]])
        >>> picked(pt, phi > 0, ak)
        Traceback (most recent call last):
        difana._errors.InputError: the index has 1 entries in event 0, where the list ...
    """
    if kind_of(x) == "U":
        raise InputError("a text has no entries to pick by an index")
    if getattr(x, "ndim", 0) < 2:
        raise InputError("an index picks entries of a list, but there is one number an event")
    if isinstance(index, tuple | slice):
        behind = index[1:] if isinstance(index, tuple) else ()
        if not all(_is_number_or_slice(part) for part in behind):
            raise InputError("behind ':' an index is a whole number or a slice, as in x[:, 0]")
        if any(isinstance(part, slice) and part.step == 0 for part in behind):
            raise InputError("the step of a slice is zero")
        return x[index]
    return _by_lists(x, index, xp)


def _is_number_or_slice(part: Any) -> bool:
    parts = (part.start, part.stop, part.step) if isinstance(part, slice) else (part,)
    empty = (None,) if isinstance(part, slice) else ()
    return all(
        p in empty or (isinstance(p, int) and not isinstance(p, bool) and abs(p) < 2**31)
        for p in parts
    )


def _by_lists(x: Any, index: Any, xp: Any) -> Any:
    """Return the entries that a mask, or the positions in each list, pick."""
    if getattr(index, "ndim", 0) != 2 or xp.__name__ != "awkward":
        raise InputError(
            "an index needs one list of conditions or positions an event, as in "
            "jet_pt[jet_pt > 30]; one number an event would pick events: write at(x, 0, default)"
        )
    kind, sizes, found = kind_of(index), xp.num(x, axis=1), xp.num(index, axis=1)
    if xp.any(xp.is_none(sizes)) or xp.any(xp.is_none(found)):
        raise InputError("an index needs lists, but one is missing")
    sizes, found = np.asarray(xp.to_numpy(sizes)), np.asarray(xp.to_numpy(found))
    if kind == "b" or kind == "":
        if not np.array_equal(sizes, found):
            first = int(np.argmax(sizes != found))
            raise InputError(
                f"the index has {found[first]} entries in event {first}, where the list has "
                f"{sizes[first]}: a mask needs one value for each entry"
            )
    elif kind in "iu":
        outside = xp.any((index < 0) | (index >= sizes), axis=1)
        if xp.any(outside):
            first = int(np.argmax(np.asarray(xp.to_numpy(outside))))
            raise InputError(
                f"position {xp.to_list(index[first])} lies outside the list of event {first}: "
                "select positions from 0 to num(x) - 1 first"
            )
    else:
        raise InputError("an index needs conditions or whole numbers, as in jet_pt[jet_pt > 30]")
    return x[index]
