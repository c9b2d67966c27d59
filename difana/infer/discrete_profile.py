"""Discrete profiling: the choice among alternative models is a nuisance, too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from jaxtyping import Array, Float, Int

from difana._errors import InputError
from difana._result import AbstractResult
from difana._status import Status
from difana.infer._envelope import Alternatives, alternatives, fits_at
from difana.infer.fit_result import FitResult
from difana.infer.intervals import search_end
from difana.infer.parallel._many import best_fit, in_chunks
from difana.likelihood import Model


class DiscreteProfileResult(AbstractResult):
    """The envelope of the profile likelihoods of several models.

    Attributes:
        value: Best-fit parameter, of the best model.
        lower: Lower end of the interval, where the envelope rises by the quantile.
        upper: Upper end.
        index: Which model is the best one.
        values: Best-fit parameter of each model, ``[models]``.
        uncertainties: Its uncertainty in each model, ``[models]``.
        rises: Twice the corrected nll of each model above that of the best, ``[models]``.
        grid: Values of the scan, ``[points]``.
        curves: Twice the corrected nll of each model, other parameters profiled, above the
            minimum of the envelope, ``[models, points]``.
        status: Bit flags of all fits.
        fits: The best fit of each model.
        names: Names of the models (static).
        parameter: Name of the parameter (static).
        level: Confidence level of the interval (static).
    """

    value: Float[Array, ""]
    lower: Float[Array, ""]
    upper: Float[Array, ""]
    index: Int[Array, ""]
    values: Float[Array, " models"]
    uncertainties: Float[Array, " models"]
    rises: Float[Array, " models"]
    grid: Float[Array, " points"]
    curves: Float[Array, "models points"]
    status: Int[Array, ""]
    fits: tuple[FitResult, ...]
    names: tuple[str, ...] = eqx.field(static=True)
    parameter: str = eqx.field(static=True)
    level: float = eqx.field(static=True)

    @property
    def envelope(self) -> Float[Array, " points"]:
        """The smallest curve at each point."""
        return jnp.min(self.curves, axis=0)

    @property
    def choice(self) -> Int[Array, " points"]:
        """Which model makes the envelope at each point."""
        return jnp.argmin(self.curves, axis=0)

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers for JSON."""
        columns = [np.asarray(x).tolist() for x in (self.values, self.uncertainties, self.rises)]
        return {
            "parameter": self.parameter,
            "value": float(self.value),
            "interval": [float(self.lower), float(self.upper)],
            "level": self.level,
            "best": self.names[int(self.index)],
            "models": {
                name: {"value": value, "uncertainty": width, "rise": rise}
                for name, value, width, rise in zip(self.names, *columns, strict=True)
            },
            "grid": np.asarray(self.grid).tolist(),
            "envelope": np.asarray(self.envelope).tolist(),
            "choice": [self.names[i] for i in np.asarray(self.choice)],
            "status": self.message,
        }


def discrete_profile(
    models: Sequence[Model],
    data: Float[Array, " data"] | Sequence[Float[Array, " data"]],
    *,
    parameter: str | None = None,
    values: Float[Array, " points"] | None = None,
    correction: float = 1.0,
    free_parameters: Sequence[int] | None = None,
    level: float = 0.6827,
    names: Sequence[str] | None = None,
    batch: int = 8,
) -> DiscreteProfileResult:
    r"""Profile over alternative models as over one more nuisance parameter, which is discrete.

    With the likelihoods :math:`L_m` of the models, each with :math:`k_m` free parameters,

    .. math::
        \Lambda(\mu) = \min_m \big[2 L_m(\mu, \hat{\hat\theta}_m) + c\,k_m\big]

    is the envelope; its minimum is the best fit, and the interval is where it lies less than the
    quantile :math:`q` of a :math:`\chi^2_1` above: the hull of the intervals of all models, found
    exactly (model :math:`m` at :math:`q` less its own rise). The correction :math:`c` makes models
    with different numbers of parameters comparable: 1 (the default) equalises p-values, 2 is that
    of Akaike, 0 is for models with equal numbers.

    Of the likelihoods all that does not depend on parameters is left out: each is compared to a
    perfect description of the data, so that a constraint costs nothing at its centre.
    :math:`k_m` counts fitted parameters without constraint. Models of equal structure (other
    templates, same names) share one compiled program.

    Args:
        models: The alternatives; all describe the same observed yields and have the parameter.
        data: Data vector, or one for each model where auxiliary data differ.
        parameter: Profiled parameter; the one of interest by default.
        values: Grid of the scan, ``[points]``; by default 41 points over three times the width of
            the interval, within the bounds.
        correction: :math:`c`, for each free parameter.
        free_parameters: Replaces :math:`k_m`, ``[models]``.
        level: Confidence level of the interval.
        names: Names of the models.
        batch: Fits done at the same time.

    Returns:
        Best fit, interval, envelope, and the numbers of each model.

    Raises:
        ModelError: If the models do not describe the same data or lack the parameter.
        InputError: If lengths differ, or the level or the correction makes no sense.

    References:
        P. Dauncey, M. Kenzie, N. Wardle, G. Davies, arXiv:1408.6865 (RooMultiPdf of combine).

    Example:
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model
        >>> def model(background):
        ...     signal = Template([0.0, 10.0, 0.0], (NormFactor("mu"),), name="signal")
        ...     bkg = Template(background, (NormFactor("k"),), name="background")
        ...     return build_model([Channel((signal, bkg), name="SR")])
        >>> flat, falling = model([40.0, 40.0, 40.0]), model([48.0, 40.0, 33.0])
        >>> found = discrete_profile([flat, falling], flat.data([46.0, 52.0, 35.0]))
        >>> int(found.index), [round(float(x), 3) for x in (found.lower, found.value, found.upper)]
        (1, [0.371, 1.2, 2.068])
    """
    if not 0 < level < 1:
        raise InputError(f"the confidence level must lie between 0 and 1, not {level}")
    found = alternatives(
        models,
        data,
        parameter=parameter,
        correction=correction,
        free_parameters=free_parameters,
        names=names,
    )
    fits = tuple(best_fit(model, vector) for model, vector in zip(
        found.models, found.data, strict=True))  # fmt: skip
    at = found.indices
    best = jnp.stack([fit.params[i] for fit, i in zip(fits, at, strict=True)])
    widths = jnp.stack([fit.uncertainties[i] for fit, i in zip(fits, at, strict=True)])
    twice = jnp.stack([2 * fit.half_deviance for fit in fits]) + found.penalties
    index = jnp.argmin(twice)
    floor = twice[index]
    rises = twice - floor
    lower, upper, searched = _interval(found, fits, rises, level, batch)
    if values is None:
        low = jnp.min(jnp.stack([m.lower[i] for m, i in zip(found.models, at, strict=True)]))
        high = jnp.max(jnp.stack([m.upper[i] for m, i in zip(found.models, at, strict=True)]))
        reach = upper - lower
        values = jnp.linspace(jnp.maximum(lower - reach, low), jnp.minimum(upper + reach, high), 41)
    values = jnp.asarray(values, best.dtype)
    if values.ndim != 1 or not values.size:
        raise InputError(f"values must be a row of numbers, not {values.shape}")
    scan = fits_at(found, found.data, values, batch=batch)
    status = jnp.bitwise_or.reduce(jnp.stack([fit.status for fit in fits]))
    status = status | jnp.bitwise_or.reduce(scan.status.ravel()) | searched
    return DiscreteProfileResult(
        value=best[index],
        lower=lower,
        upper=upper,
        index=index,
        values=best,
        uncertainties=widths,
        rises=rises,
        grid=values,
        curves=scan.twice + found.penalties[:, None] - floor,
        status=status,
        fits=fits,
        names=found.names,
        parameter=found.parameter,
        level=level,
    )


def _interval(
    found: Alternatives, fits: Sequence[FitResult], rises: Array, level: float, batch: int
) -> tuple[Array, Array, Array]:
    """Return the hull of the intervals of all models that reach below the quantile."""
    quantile = norm.isf((1 - level) / 2) ** 2
    side = jnp.array([-1.0, 1.0], rises.dtype)
    lows, highs, states = [], [], []
    for model, data, fit, index, rise in zip(
        found.models, found.data, fits, found.indices, rises, strict=True
    ):
        inside = rise < quantile
        target = jnp.sqrt(jnp.where(inside, quantile - rise, quantile))
        shared = (model, data, fit.params, fit.half_deviance, fit.covariance, target)
        ends = in_chunks(search_end, shared, (jnp.full(2, index), side), batch=min(batch, 2))
        lows.append(jnp.where(inside, ends.end[0], jnp.inf))
        highs.append(jnp.where(inside, ends.end[1], -jnp.inf))
        status = jnp.bitwise_or.reduce(ends.status) & ~int(Status.AT_BOUND)
        states.append(jnp.where(inside, status, 0))
    status = jnp.bitwise_or.reduce(jnp.stack(states))
    return jnp.min(jnp.stack(lows)), jnp.max(jnp.stack(highs)), status
