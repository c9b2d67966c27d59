"""What all kinds of impacts are made of: slopes in the data, widths of the data, groups."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from difana._errors import InputError, ModelError, nearest
from difana._numerics import safe_sqrt
from difana._result import AbstractResult
from difana.infer._checks import check_free_poi
from difana.infer.asimov import asimov_data
from difana.infer.fit import masked_solve
from difana.infer.fit_result import FitResult
from difana.infer.parallel._many import best_fit
from difana.likelihood import Model


class AbstractImpacts(AbstractResult):
    """What the impacts of all kinds say alike; see `ImpactsResult` and `UncertaintySplit`."""

    value: Float[Array, ""]
    uncertainty: Float[Array, ""]
    statistical: Float[Array, ""]
    systematic: Float[Array, ""]

    if TYPE_CHECKING:  # a field of each kind, at its own place among the arguments

        @property
        def fit_status(self) -> Int[Array, ""]:
            """Bit flags of the fit."""
            ...

    @property
    def all_status(self) -> Int[Array, " fits"]:
        """The status of all sources and of the fit."""
        return jnp.append(self.status, self.fit_status)

    @property
    @abc.abstractmethod
    def ends(self) -> tuple[Array, Array]:
        """Changes of the parameter up and down, ``[sources]``, which rank the sources."""

    @property
    def ranking(self) -> np.ndarray:
        """Indices of the sources, the largest first."""
        return np.argsort(-np.maximum(*map(np.abs, self.ends)), kind="stable")

    def parts(self) -> dict[str, float]:
        """Return value and parts of the uncertainty as plain numbers."""
        names = ("value", "uncertainty", "statistical", "systematic")
        return {name: float(getattr(self, name)) for name in names}


class DataImpacts(NamedTuple):
    """What one standard deviation of each datum does to a fitted parameter."""

    bins: Float[Array, " bins"]  # of the counts
    auxiliary: Float[Array, " constraints"]

    @property
    def statistical(self) -> Float[Array, ""]:
        """The part of the uncertainty that all counts cause."""
        return safe_sqrt(jnp.sum(self.bins**2))


def asked(
    model: Model,
    data: Float[Array, " data"] | None,
    *,
    parameter: str | None,
    method: str,
    mu: float,
    fit: FitResult | None,
) -> tuple[Float[Array, " data"], FitResult, int]:
    """Return data, best fit and index of the parameter that impacts are asked of."""
    if method not in ("refit", "gradient"):
        raise InputError(f"method must be 'refit' or 'gradient', not '{method}'")
    if parameter is None or parameter == model.structure.poi:
        check_free_poi(model)
    index = model.poi_index if parameter is None else model.index(parameter)
    if data is None:
        data = asimov_data(model, mu=mu).data
    return data, best_fit(model, data) if fit is None else fit, index


def auxiliary_widths(model: Model, params: Float[Array, " params"]) -> Float[Array, " constraints"]:
    r"""Return the standard deviations of the auxiliary data, in their own units.

    :math:`\sigma`; :math:`\sqrt{\theta\tau}` of Poisson constraints, :math:`\sigma\theta` of
    log-normal ones.
    """
    s = model.structure
    widths, tau = model.constraint_scales()
    theta = params[s.constrained]
    widths = jnp.where(s.lognormal, widths * theta, widths)
    return jnp.where(s.poisson, safe_sqrt(theta * tau), widths)


def data_impacts(
    model: Model,
    data: Float[Array, " data"],
    params: Float[Array, " params"],
    row: Float[Array, " params"],
) -> DataImpacts:
    """Return the impacts of all data on the parameter whose row of the covariance is ``row``.

    One backward pass of the implicit fit: d(params[i])/d(data) = -C[i] . d(gradient)/d(data).
    """

    def along(data: Array) -> Array:
        return jnp.vdot(jax.lax.stop_gradient(row), jax.grad(model.half_deviance)(params, data))

    slopes = -jax.grad(along)(data)
    counts = safe_sqrt(model.expected_main(params))
    held = model.fixed[model.structure.constrained]
    auxiliary = slopes[model.bins :] * auxiliary_widths(model, params)
    return DataImpacts(slopes[: model.bins] * counts, jnp.where(held, 0.0, auxiliary))


def auxiliary_correlation(model: Model) -> Float[Array, "correlated correlated"]:
    """Return the correlation matrix of the auxiliary data that have one."""
    return jnp.linalg.inv(model.precision)


def in_quadrature(
    model: Model, auxiliary: Float[Array, " constraints"], members: Bool[Array, " constraints"]
) -> Float[Array, ""]:
    r"""Return :math:`\sqrt{g^T R\,g}` of some auxiliary data, with their correlations."""
    own = jnp.where(members, auxiliary, 0.0)
    total = jnp.sum(own**2)
    place = model.structure.correlated
    if place.size:
        part = own[place]
        total = total + part @ auxiliary_correlation(model) @ part - jnp.sum(part**2)
    return safe_sqrt(total)


def held_group(
    covariance: Float[Array, "params params"], index: int, members: Bool[Array, " params"]
) -> Float[Array, ""]:
    """Return the root of the variance that is lost when ``members`` are held."""
    moving = members & (jnp.diagonal(covariance) > 0)
    row = jnp.where(moving, covariance[index], 0.0)
    return safe_sqrt(jnp.vdot(row, masked_solve(covariance, moving, row)))


def members_of(
    model: Model, index: int, groups: Mapping[str, Sequence[str]]
) -> Bool[np.ndarray, "groups params"]:
    """Return which parameters belong to each group, never the one of interest.

    Raises:
        ModelError: If a pattern of a group matches no parameter.
    """
    found = np.array([_members(model, *group) for group in groups.items()], bool)
    found = found.reshape(-1, len(model.parameters))
    found[:, index] = False
    return found


def _members(model: Model, group: str, patterns: Sequence[str]) -> list[bool]:
    from fnmatch import fnmatchcase

    found = np.zeros(len(model.parameters), bool)
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        literal = pattern.replace("[", "[[]")  # of the names of bins, not a set of letters
        hits = [
            fnmatchcase(name, literal) or fnmatchcase(name.split("[")[0], literal)
            for name in model.parameters
        ]
        if not any(hits):
            raise ModelError(
                f"group '{group}': no parameter is called '{pattern}'."
                f"{nearest(pattern, model.parameters)}"
            )
        found |= hits
    return found.tolist()
