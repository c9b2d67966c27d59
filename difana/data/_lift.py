"""From functions of numpy arrays to functions of awkward arrays and of tracers of JAX."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from difana._errors import InputError


def lifted(function: Callable[..., Any], xp: Any) -> Callable[..., Any]:
    """Return a function of arrays of any kind from one of numpy arrays.

    Args:
        function: An elementwise function of numpy arrays and Python numbers.
        xp: ``numpy`` or ``awkward``.

    Example:
        >>> import awkward as ak
        >>> lifted(np.add, ak)(ak.Array([[1, 2], []]), np.array([10, 20])).tolist()
        [[11, 12], []]
    """
    if xp.__name__ == "awkward":
        return functools.partial(_awkward, function)
    return functools.partial(_numpy, function)


def kind_of(x: Any) -> str:
    """Return the dtype kind of a value of any library, ``"U"`` for texts, or an empty string."""
    if isinstance(x, str):
        return "U"
    if hasattr(x, "layout"):
        import awkward as ak

        layout = ak.to_layout(x)
        while hasattr(layout, "content"):
            if layout.parameter("__array__") in ("string", "bytestring"):
                return "U"
            layout = layout.content
        return layout.dtype.kind if hasattr(layout, "dtype") else ""
    return np.dtype(x.dtype).kind if hasattr(x, "dtype") else ""


def _numpy(function: Callable[..., Any], *args: Any) -> Any:
    """Call with arrays whose first axes agree: ``[events]`` meets ``[events, particles]``."""
    axes = max((getattr(arg, "ndim", 0) for arg in args), default=0)
    aligned = [
        arg.reshape(arg.shape + (1,) * (axes - arg.ndim))
        if 0 < getattr(arg, "ndim", 0) < axes
        else arg
        for arg in args
    ]
    return function(*aligned)


def _awkward(function: Callable[..., Any], *args: Any) -> Any:
    import awkward as ak

    if not any(hasattr(arg, "layout") for arg in args):
        return _numpy(function, *args)
    places = [i for i, arg in enumerate(args) if getattr(arg, "ndim", 0)]
    arrays = [_lists(args[i]) for i in places]
    refused: list[InputError] = []

    def leaf(layouts: Any, **_: Any) -> Any:
        layouts = layouts if isinstance(layouts, tuple | list) else (layouts,)
        if not all(layout.is_numpy or layout.is_unknown for layout in layouts):
            return None
        filled = list(args)
        for i, layout in zip(places, layouts, strict=True):
            filled[i] = np.empty(0) if layout.is_unknown else np.asarray(layout.data)
        try:
            values: Any = np.asarray(function(*filled))
            return ak.contents.NumpyArray(values)
        except InputError as error:
            refused.append(error)
            raise

    try:
        return ak.transform(leaf, *arrays)
    except Exception as error:
        if refused:  # without the words that awkward adds
            raise refused[0] from None
        if "cannot broadcast nested list" in str(error):
            raise InputError("lists of different lengths meet in one event") from error
        raise


def _lists(x: Any) -> Any:
    """Return lists of any length: lists of one fixed length meet numbers from the right.

    Three numbers would be spread over the three entries of each list, not over three events.
    """
    import awkward as ak

    if isinstance(x, np.ndarray):
        x = ak.from_numpy(x)
    every: Any = None
    return ak.from_regular(x, axis=every) if x.ndim > 1 else x
