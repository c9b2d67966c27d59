"""Values that mean nothing and models that cannot be tested are refused."""

from __future__ import annotations

import math

import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from difana._errors import InputError, ModelError
from difana.likelihood import Model


def check_tested(mu: Float[Array, ""] | float, *, least: float = 0.0) -> None:
    """Refuse a tested value that is not finite or below ``least``; tracers pass.

    Raises:
        InputError: Says what is allowed.
    """
    if isinstance(mu, Tracer):
        return
    values = np.asarray(mu, float)
    if not np.all(np.isfinite(values)) or np.any(values < least):
        lowest = f" of at least {least:g}" if math.isfinite(least) else ""
        raise InputError(f"mu = {mu}: must be a finite number{lowest}")


def check_level(level: float) -> None:
    """Refuse a confidence level outside (0, 1).

    Raises:
        ModelError: Names the level.
    """
    if not 0 < level < 1:
        raise ModelError(f"the confidence level must lie between 0 and 1, not {level}")


def check_free_poi(model: Model) -> None:
    """Refuse a model whose parameter of interest cannot be varied, as every test does.

    Raises:
        ModelError: If there is none, it is held, or its bounds exclude all values that are tested.
    """
    index = model.poi_index
    name = model.parameters[index]
    if model.structure.fixed[index]:
        raise ModelError(
            f"the model holds '{name}', which tests, limits and scans vary: free it with "
            f"difana.likelihood.model_with(model, free=['{name}'])"
        )
    if not isinstance(model.upper, Tracer) and float(np.asarray(model.upper)[index]) <= 0:
        raise ModelError(
            f"the bounds of '{name}' end at {float(np.asarray(model.upper)[index]):g}: tests and "
            "limits need values above zero"
        )
