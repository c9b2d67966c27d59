"""Samples of which only the observable is left."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float


@dataclasses.dataclass(frozen=True)
class Values:
    """Observable and weights of some events.

    Attributes:
        x: Observable, ``[events]``.
        weights: Weights, ``[events]``.
    """

    x: Float[np.ndarray, " events"]
    weights: Float[np.ndarray, " events"]


@dataclasses.dataclass(frozen=True)
class ObservedSample:
    """A sample of which only the observable is left.

    Attributes:
        name: Its name.
        nominal: Nominal values.
        shapes: Name, up and down of each variation that changes the shape.
        norms: Name, up and down factor of each variation that changes the yield alone.
        normfactors: Free factors.
        variance_scale: Factor on sums of squared weights.
    """

    name: str
    nominal: Values
    shapes: tuple[tuple[str, Values, Values], ...] = ()
    norms: tuple[tuple[str, float, float], ...] = ()
    normfactors: tuple[str, ...] = ()
    variance_scale: float = 1.0


def only_inside(sample: ObservedSample, inside: ObservedSample) -> ObservedSample:
    """Return the events of a category: those of which its second output is 1."""

    def kept(values: Values, part: Values) -> Values:
        rows = part.x > 0
        return Values(values.x[rows], values.weights[rows])

    shapes = tuple(
        (name, kept(up, up_in), kept(down, down_in))
        for (name, up, down), (_, up_in, down_in) in zip(sample.shapes, inside.shapes, strict=True)
    )
    nominal = kept(sample.nominal, inside.nominal)
    return dataclasses.replace(sample, nominal=nominal, shapes=shapes)


def without_lost(sample: ObservedSample) -> ObservedSample:
    """Return the sample without events whose weight is zero: those that fail a cut.

    Events that pass a cut in one variation and fail it in another keep their places in all, so that
    a bootstrap draws an event together with its varied copies.

    Example:
        >>> x, w = np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 0.0])
        >>> moved = (("scale", Values(x, w), Values(x, np.array([0.0, 1.0, 1.0]))),)
        >>> without_lost(ObservedSample("s", Values(x, w), moved)).nominal.x.tolist()
        [2.0, 3.0]
    """
    size = len(sample.nominal.x)
    sides = [side for _, up, down in sample.shapes for side in (up, down)]
    alike = [sample.nominal, *(side for side in sides if len(side.x) == size)]
    kept = _some(np.any([values.weights != 0 for values in alike], axis=0))

    def own(values: Values) -> Values:
        rows = kept if len(values.x) == size else _some(values.weights != 0)
        return Values(values.x[rows], values.weights[rows])

    shapes = tuple((name, own(up), own(down)) for name, up, down in sample.shapes)
    return dataclasses.replace(sample, nominal=own(sample.nominal), shapes=shapes)


def _some(rows: Bool[np.ndarray, " events"]) -> Bool[np.ndarray, " events"]:
    """Return the rows, and the first one if there are none: no function likes empty arrays."""
    if len(rows) and not rows.any():
        rows = np.arange(len(rows)) == 0
    return rows
