"""Columns that a flow cannot learn: constant ones, and those that follow from others."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from difana._errors import InputError

_SMALL = 1e-3  # spread about a linear function of others, in units of its own: nothing to learn
_CLOSE = 0.3  # spread below which a column is learned as its difference from that function
_ENOUGH = 50_000  # events looked at
_ATOM = 0.02  # part of the events from which one value has no density
_SMEARED = 0.1  # width of what stands for it, in standard deviations


class Independent(NamedTuple):
    """Which columns are learned, and how the others follow from them.

    All in standardised numbers: ``z[dropped] = z[kept] @ matrix + spread * noise``. What is learned
    is ``z[kept] @ forward``, the unit matrix unless columns are strongly correlated.
    """

    kept: tuple[int, ...]
    dropped: tuple[int, ...]
    matrix: Float[np.ndarray, "kept dropped"]
    spread: Float[np.ndarray, " dropped"]
    forward: Float[np.ndarray, "kept kept"]


def independent_columns(
    z: Float[np.ndarray, "events dims"],
    *,
    constant: Sequence[int],
    names: Sequence[str] = (),
    alone: Sequence[int] = (),
) -> Independent:
    """Return the columns to learn, and say which are not.

    Args:
        z: Standardised values of weighted events.
        constant: Columns that are constant.
        names: Names of the columns, for messages.
        alone: Columns that are learned as they are: no linear function of others, none of them.

    Raises:
        InputError: If all columns are constant.

    Warns:
        UserWarning: Names the columns that are constant or follow from others.
    """
    rows = np.clip(z[:: max(1, len(z) // _ENOUGH)], -20, 20)
    kept: list[int] = []
    found: dict[int, tuple[np.ndarray, float]] = {}
    close: dict[int, tuple[np.ndarray, float]] = {}
    for column in range(z.shape[1]):
        if column in constant:
            found[column] = np.zeros(len(kept)), 0.0
            continue
        if column in alone:
            kept.append(column)
            continue
        before = [one for one in kept if one not in alone]
        given = np.concatenate([rows[:, before], np.ones((len(rows), 1))], axis=1)
        slopes = np.linalg.lstsq(given, rows[:, column], rcond=None)[0]
        spread = float(np.sqrt(np.mean((rows[:, column] - given @ slopes) ** 2)))
        enough = bool(before) and len(rows) > len(before) + 1
        factors = np.zeros(len(kept))
        factors[[kept.index(one) for one in before]] = slopes[:-1]
        if enough and spread < _SMALL:
            found[column] = factors, spread
        else:
            if enough and spread < _CLOSE:
                close[len(kept)] = factors, spread
            kept.append(column)
    if not kept:
        raise InputError("all columns of x are constant: there is no density to learn")
    dropped = tuple(found)
    matrix = np.zeros((len(kept), len(dropped)))
    for place, (slopes, _) in enumerate(found.values()):
        matrix[: len(slopes), place] = slopes
    if dropped:
        labels = [f"'{names[c]}'" if len(names) == z.shape[1] else str(c) for c in dropped]
        kinds = ["constant" if c in constant else "a linear function of others" for c in dropped]
        listed = ", ".join(f"{n} ({k})" for n, k in zip(labels, kinds, strict=True))
        warnings.warn(
            f"columns of x that a flow cannot learn: {listed}. They are left out of the density and"
            " computed from the others in its samples",
            stacklevel=5,
        )
    forward = np.eye(len(kept))
    for place, (slopes, spread) in close.items():
        forward[: len(slopes), place] = -slopes
        forward[:, place] /= spread
    spreads = np.array([spread for _, spread in found.values()])
    return Independent(tuple(kept), dropped, matrix, spreads, forward)


def atoms_of(
    x: Float[np.ndarray, "events dims"], std: Float[np.ndarray, " dims"], columns: Sequence[int]
) -> tuple[tuple[int, float, float], ...]:
    """Return values that many events share, as (column, value, width of what stands for it).

    A value of many events (no third jet: 0) has no density; a flow learns a narrow box instead, and
    samples inside it are that value again.

    Example:
        >>> x = np.concatenate([np.zeros(20), np.arange(1.0, 80.0)])[:, None]
        >>> atoms_of(x, np.ones(1), [0])
        ((0, 0.0, 0.1),)
    """
    found = []
    for column in columns:
        values, counts = np.unique(x[:, column], return_counts=True)
        often = values[counts > max(_ATOM * len(x), 10)]
        nearest = np.min(np.diff(often)) if len(often) > 1 else np.inf
        width = min(_SMEARED * std[column], 0.49 * nearest)  # boxes never meet
        found += [(column, float(value), float(width)) for value in often]
    return tuple(found)


def smeared(
    x: Float[np.ndarray, "events dims"],
    atoms: Sequence[tuple[int, float, float]],
    rng: np.random.Generator,
) -> Float[np.ndarray, "events dims"]:
    """Return the events with shared values spread evenly over their boxes."""
    x = x.copy()
    for column, value, width in atoms:
        here = np.flatnonzero(x[:, column] == value)
        x[here, column] += width * rng.uniform(-0.5, 0.5, len(here))
    return x
