"""Samples of which only the observable is left."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float


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
