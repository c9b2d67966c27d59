"""A variation as a change of normalisation times a change of shape."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float

from difana._errors import ModelError


class NormAndShape(NamedTuple):
    """The two parts of a variation; their product is the variation.

    Attributes:
        factor: Its yield over that of nominal.
        shape: Its template scaled to the yield of nominal.
    """

    factor: float
    shape: Float[np.ndarray, " bins"]

    def deviation(self, nominal: Float[ArrayLike, " bins"]) -> float:
        """Return the largest relative change of a bin by the shape."""
        nominal = np.asarray(nominal, float)
        used = nominal > 0
        if not used.any():
            return 0.0
        return float(np.abs(self.shape[used] / nominal[used] - 1).max())


def norm_and_shape(
    nominal: Float[ArrayLike, " bins"], varied: Float[ArrayLike, " bins"]
) -> NormAndShape:
    r"""Return the parts of a variation: :math:`v_b = f s_b` with :math:`\sum s = \sum\nu`.

    The factor alone is the variation of normalisation only, the shape that of shape only. Where
    one of the yields is not positive there is no factor: all counts as shape.

    Args:
        nominal: Yields, ``[bins]``.
        varied: Yields at +1 or -1.

    Raises:
        ModelError: If the shapes differ.

    Example:
        >>> factor, shape = norm_and_shape([10.0, 30.0], [12.0, 32.0])
        >>> round(factor, 6), shape.round(4).tolist()
        (1.1, [10.9091, 29.0909])
    """
    nominal, varied = np.asarray(nominal, float), np.asarray(varied, float)
    if nominal.shape != varied.shape:
        raise ModelError(
            f"nominal and varied have shapes {nominal.shape} and {varied.shape}: they must have "
            "the same bins"
        )
    before, after = nominal.sum(), varied.sum()
    if not (before > 0 and after > 0):
        return NormAndShape(1.0, varied)
    factor = float(after / before)
    return NormAndShape(factor, varied / factor)
