"""Impacts of the nuisance parameters on the parameter of interest: by refits or by gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from difana._numerics import safe_divide, safe_sqrt
from difana._status import Status, flag
from difana.infer.after_fit._impact_parts import (
    AbstractImpacts,
    asked,
    data_impacts,
    held_group,
    in_quadrature,
    members_of,
)
from difana.infer.after_fit.pulls import prefit_uncertainties
from difana.infer.fit_result import FitResult
from difana.infer.parallel._many import Report, conditional_fits
from difana.likelihood import Model

_CHANGES = ("prefit_up", "prefit_down", "postfit_up", "postfit_down")


class ImpactsResult(AbstractImpacts):
    r"""Impacts on the parameter of interest; one entry a nuisance parameter.

    Attributes:
        value: Best-fit parameter of interest.
        uncertainty: Its total uncertainty.
        statistical: The part that the counts of the bins cause,
            :math:`\sqrt{\sum_b (d\hat\mu/dn_b)^2 \lambda_b}`.
        systematic: The part that all auxiliary data cause, with their correlations.
        params: Best-fit nuisances, ``[nuisances]``.
        uncertainties: Their post-fit uncertainties, ``[nuisances]``.
        centers: Centres of their constraints (the best fit without constraint), ``[nuisances]``.
        widths: Their pre-fit uncertainties; 0 without constraint, ``[nuisances]``.
        prefit_up: Change of the parameter of interest with the nuisance held above its best fit
            by its pre-fit uncertainty, ``[nuisances]``.
        prefit_down: The same below.
        postfit_up: The same above by its post-fit uncertainty.
        postfit_down: The same below.
        auxiliary: Change when the auxiliary datum moves by its own uncertainty, ``[nuisances]``:
            the squares and that of ``statistical`` sum to the square of ``uncertainty``, exactly
            on Asimov data (those of correlated constraints with their correlations).
        groups: Impact of each group by the difference of variances when it is held, ``[groups]``.
        groups_auxiliary: Impact of each group by its auxiliary data, ``[groups]``.
        status: Bit flags; ``AT_BOUND`` where a nuisance could not be moved as far as wanted,
            ``[nuisances]``.
        fit_status: Bit flags of the fit.
        names: Names of the nuisances (static).
        poi: Name of the parameter of interest (static).
        group_names: Names of the groups (static).
        method: ``"refit"`` or ``"gradient"`` (static).
    """

    params: Float[Array, " nuisances"]
    uncertainties: Float[Array, " nuisances"]
    centers: Float[Array, " nuisances"]
    widths: Float[Array, " nuisances"]
    prefit_up: Float[Array, " nuisances"]
    prefit_down: Float[Array, " nuisances"]
    postfit_up: Float[Array, " nuisances"]
    postfit_down: Float[Array, " nuisances"]
    auxiliary: Float[Array, " nuisances"]
    groups: Float[Array, " groups"]
    groups_auxiliary: Float[Array, " groups"]
    status: Int[Array, " nuisances"]
    fit_status: Int[Array, ""]
    names: tuple[str, ...] = eqx.field(static=True)
    poi: str = eqx.field(static=True)
    group_names: tuple[str, ...] = eqx.field(static=True)
    method: str = eqx.field(static=True)

    @property
    def ends(self) -> tuple[Array, Array]:
        """Post-fit impacts up and down, which rank the nuisances."""
        return self.postfit_up, self.postfit_down

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers for JSON, the largest impact first."""
        fields = ("params", "uncertainties", "widths", *_CHANGES, "auxiliary")
        columns = {name: np.asarray(getattr(self, name)) for name in fields}
        pairs = zip(
            self.group_names,
            np.asarray(self.groups).tolist(),
            np.asarray(self.groups_auxiliary).tolist(),
            strict=True,
        )
        return {
            "parameter": self.poi,
            **self.parts(),
            "method": self.method,
            "impacts": {
                self.names[i]: {name: float(column[i]) for name, column in columns.items()}
                for i in self.ranking
            },
            "groups": {name: {"held": a, "auxiliary": b} for name, a, b in pairs},
            "status": self.message,
        }


def impacts(
    model: Model,
    data: Float[Array, " data"] | None = None,
    *,
    parameter: str | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    method: Literal["refit", "gradient"] = "refit",
    mu: float = 1.0,
    fit: FitResult | None = None,
    batch: int = 8,
    report: Report | None = None,
    devices: Any = None,
    client: Any = None,
) -> ImpactsResult:
    r"""Return how much each nuisance parameter moves the parameter of interest.

    The nuisance is held away from its best fit, the ranking of experiments. (Sources that add up
    to the uncertainty are those of :func:`difana.infer.uncertainty_split`.)

    ``refit``: four fits a nuisance, held at :math:`\hat\theta_j` plus and minus its pre-fit and
    post-fit uncertainty (within its bounds), all by one compiled program. ``gradient``: their
    linear form :math:`\Delta\mu = C_{\mu j} / C_{jj}\,\Delta\theta_j`, no fit.

    With either method there are the impacts of the auxiliary data and the statistical part, too.
    Groups come from the covariance: :math:`C_{\mu G} C_{GG}^{-1} C_{G\mu}` is what the variance
    loses when group G is held at its best fit. Differentiable (first order) like
    :func:`difana.infer.fit`; uncertainties are not differentiated.

    Args:
        model: The model.
        data: Data vector; by default Asimov data with the parameter of interest at ``mu``.
        parameter: On which parameter; the one of interest by default.
        groups: Names of parameters, or patterns with ``*`` and ``?``, for each group; the name of
            a modifier stands for all its bins.
        method: ``"refit"`` or ``"gradient"``.
        mu: Parameter of interest of the Asimov data.
        fit: The best fit to the data, if already at hand.
        batch: Fits done at the same time.
        report: Called with the number of fits done and of all fits.
        devices: Spread the fits over these devices of this machine (or a mesh with one axis).
        client: Spread them over the workers of this ``dask.distributed.Client``.

    Returns:
        The impacts, one entry a nuisance.

    Raises:
        ModelError: If a parameter or group does not exist.
        InputError: If the method is unknown.

    References:
        The definition of cabinetry 0.6 (refits).

    Example:
        >>> from difana.likelihood import Channel, NormFactor, ShapeSys, Template, build_model
        >>> signal = Template([12.0, 11.0], (NormFactor("mu"),), name="signal")
        >>> bkg = Template([50.0, 52.0], (ShapeSys([3.0, 7.0], "unc"),), name="background")
        >>> model = build_model([Channel((signal, bkg), name="SR")])
        >>> result = impacts(model, method="gradient")
        >>> parts = result.statistical, *result.auxiliary, result.uncertainty
        >>> [round(float(x), 3) for x in parts]
        [0.496, -0.163, -0.221, 0.567]
    """
    data, best, index = asked(model, data, parameter=parameter, method=method, mu=mu, fit=fit)
    nuisances = np.delete(np.arange(len(model.parameters)), index)
    options = {"batch": batch, "report": report, "devices": devices, "client": client}
    groups = groups or {}
    members = members_of(model, index, groups)
    found = _compiled(model, data, best, index, jnp.asarray(members), tuple(groups))
    if method == "gradient":
        return found
    shifts = jnp.stack([found.widths, -found.widths, found.uncertainties, -found.uncertainties])
    changes, status = _refits(model, data, best, index, nuisances, shifts, options)
    return dataclasses.replace(
        found,
        method="refit",
        status=status,
        **dict(zip(_CHANGES, changes, strict=True)),
    )


def _linear(
    model: Model,
    data: Array,
    best: FitResult,
    index: int,
    members: Bool[Array, "groups params"],
    group_names: tuple[str, ...],
) -> ImpactsResult:
    """Return all that needs no further fit."""
    nuisances = np.delete(np.arange(len(model.parameters)), index)
    covariance, params = jax.lax.stop_gradient(best.covariance), best.params
    variance = jnp.diagonal(covariance)
    prefit, postfit = prefit_uncertainties(model), safe_sqrt(variance)
    slopes = safe_divide(covariance[index], variance)
    found = data_impacts(model, data, params, covariance[index])
    s = model.structure
    auxiliary = jnp.zeros_like(params).at[s.constrained].set(found.auxiliary)
    part = jax.vmap(lambda chosen: in_quadrature(model, found.auxiliary, chosen[s.constrained]))
    centers = params.at[model.structure.constrained].set(model.centers)
    return ImpactsResult(
        params[index],
        postfit[index],
        found.statistical,
        in_quadrature(model, found.auxiliary, jnp.ones(s.constrained.size, bool)),
        *(x[nuisances] for x in (params, postfit, centers, prefit)),
        *((slopes * shift)[nuisances] for shift in (prefit, -prefit, postfit, -postfit)),
        auxiliary=auxiliary[nuisances],
        groups=jax.vmap(lambda held: held_group(covariance, index, held))(members),
        groups_auxiliary=part(members),
        status=jnp.broadcast_to(best.status, nuisances.shape),
        fit_status=best.status,
        names=tuple(model.parameters[i] for i in nuisances),
        poi=model.parameters[index],
        group_names=group_names,
        method="gradient",
    )


_compiled = eqx.filter_jit(_linear)


def _refits(
    model: Model,
    data: Array,
    best: FitResult,
    index: int,
    nuisances: np.ndarray,
    shifts: Float[Array, "4 nuisances"],
    options: Mapping[str, Any],
) -> tuple[Array, Array]:
    """Return the changes of parameter ``index`` with each nuisance held at each shift."""
    covariance = jax.lax.stop_gradient(best.covariance)
    params = best.params
    path = safe_divide(covariance, jnp.diagonal(covariance)[:, None])[nuisances]
    wanted = params[nuisances] + shifts
    reached = jnp.clip(wanted, model.lower[nuisances], model.upper[nuisances])
    reached = jnp.where(model.fixed[nuisances], params[nuisances], reached)
    # the straight line of the linear impact is a warm start
    start = params + path * (reached - params[nuisances])[..., None]
    unit = jax.nn.one_hot(nuisances, params.shape[0], dtype=bool)
    start = jnp.where(unit, reached[..., None], jnp.where(model.fixed, params, start))
    held = jnp.broadcast_to(model.fixed | unit, start.shape)
    size = params.shape[0]
    found = conditional_fits(
        model, data, start.reshape(-1, size), held.reshape(-1, size), **options
    )
    changes = found.params[:, index].reshape(shifts.shape) - params[index]
    status = jnp.bitwise_or.reduce(found.status.reshape(shifts.shape), axis=0)
    cut = flag(jnp.any(reached != wanted, axis=0), Status.AT_BOUND)
    return changes, (status & ~int(Status.AT_BOUND)) | cut | best.status
