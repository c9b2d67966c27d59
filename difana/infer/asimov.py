"""Asimov data: what a model expects, with nuisances nominal or fitted to data."""

from __future__ import annotations

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, Int

from difana.infer._checks import check_tested
from difana.infer.fit import negative_yield, profile
from difana.likelihood import Model


class Asimov(eqx.Module):
    """Asimov data and the parameters that generated them (where the likelihood peaks)."""

    data: Float[Array, " data"]
    params: Float[Array, " params"]
    status: Int[Array, ""]


def asimov_data(
    model: Model, data: Float[Array, " data"] | None = None, *, mu: Float[Array, ""] | float = 0.0
) -> Asimov:
    """Return the Asimov data at a value of the parameter of interest.

    Args:
        model: The model.
        data: If given, the nuisances are first fitted to these at ``mu`` (as pyhf does); else
            they stand at their starting values (a blind analysis).
        mu: Value of the parameter of interest.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model
        >>> model = build_model([Channel((Template([4.0], (NormFactor("mu"),), name="s"),
        ...     Template([10.0], name="b")), name="SR")])
        >>> asimov_data(model).data.tolist()
        [10.0]
    """
    check_tested(mu, least=-np.inf)
    params = model.init.at[model.poi_index].set(mu)
    if data is None:
        return Asimov(model.expected(params), params, negative_yield(model, params))
    model.check_data(data)
    result = profile(model, data, params, held=model.fixed.at[model.poi_index].set(True))
    return Asimov(model.expected(result.params), result.params, result.status)
