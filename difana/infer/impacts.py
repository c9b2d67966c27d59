"""Impacts of the nuisance parameters on the parameter of interest: by refits and by gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from difana._errors import InputError, ModelError, nearest
from difana._numerics import safe_divide, safe_sqrt
from difana.infer._many import Report, best_fit, conditional_fits
from difana.infer.asimov import asimov_data
from difana.infer.fit import FitResult, masked_solve
from difana.infer.pulls import prefit_uncertainties
from difana.infer.status import Status, describe, flag, trustworthy
from difana.likelihood import Model

_CHANGES = ("prefit_up", "prefit_down", "postfit_up", "postfit_down")


class ImpactsResult(eqx.Module):
    r"""Impacts on the parameter of interest; one entry a nuisance parameter.

    Attributes:
        value: Best-fit parameter of interest.
        uncertainty: Its total uncertainty.
        statistical: The part that the counts of the bins cause,
            :math:`\sqrt{\sum_b (d\hat\mu/dn_b)^2 \lambda_b}`.
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
            on Asimov data.
        groups: Impact of each group by the difference of variances when it is held, ``[groups]``.
        groups_auxiliary: Impact of each group by its auxiliary data, ``[groups]``.
        status: Bit flags; ``AT_BOUND`` where a nuisance could not be moved as far as wanted,
            ``[nuisances]``.
        names: Names of the nuisances (static).
        poi: Name of the parameter of interest (static).
        group_names: Names of the groups (static).
        method: ``"refit"`` or ``"gradient"`` (static).
    """

    value: Float[Array, ""]
    uncertainty: Float[Array, ""]
    statistical: Float[Array, ""]
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
    names: tuple[str, ...] = eqx.field(static=True)
    poi: str = eqx.field(static=True)
    group_names: tuple[str, ...] = eqx.field(static=True)
    method: str = eqx.field(static=True)

    @property
    def systematic(self) -> Float[Array, ""]:
        """The part of the uncertainty that all auxiliary data cause."""
        return safe_sqrt(jnp.sum(self.auxiliary**2))

    @property
    def ok(self) -> bool:
        """True if all numbers can be trusted."""
        return bool(jnp.all(trustworthy(self.status)))

    @property
    def message(self) -> str:
        """The status in words."""
        return describe(self.status) if len(self.names) else "ok"

    @property
    def ranking(self) -> np.ndarray:
        """Indices of the nuisances, the largest post-fit impact first."""
        size = np.maximum(np.abs(self.postfit_up), np.abs(self.postfit_down))
        return np.argsort(-size, kind="stable")

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
            "value": float(self.value),
            "uncertainty": float(self.uncertainty),
            "statistical": float(self.statistical),
            "systematic": float(self.systematic),
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
    r"""Return how much each nuisance moves the parameter of interest.

    ``refit``: four fits a nuisance with it held at :math:`\hat\theta_j` plus and minus its pre-fit
    and post-fit uncertainty (within its bounds), all by one compiled program. ``gradient``: their
    linear form :math:`\Delta\mu = C_{\mu j} / C_{jj}\,\Delta\theta_j`, no fit.

    With either method one backward pass through the fit gives
    :math:`d\hat\mu/d(\mathrm{data})`: the impacts of the auxiliary data
    (:math:`d\hat\mu/da_j\,\sigma(a_j)`) and the statistical part. Groups come from the covariance:
    :math:`C_{\mu G} C_{GG}^{-1} C_{G\mu}` is what the variance loses when group G is held at its
    best fit. Differentiable (first order) like :func:`difana.infer.fit`; uncertainties are not
    differentiated.

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
        The impacts.

    Raises:
        ModelError: If a parameter or group does not exist.
        InputError: If the method is unknown.

    References:
        The definition of cabinetry 0.6 (refits); global observables: A. Pinto et al.,
        arXiv:2307.04007.

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
    if method not in ("refit", "gradient"):
        raise InputError(f"method must be 'refit' or 'gradient', not '{method}'")
    index = model.poi_index if parameter is None else model.index(parameter)
    nuisances = np.delete(np.arange(len(model.parameters)), index)
    groups = groups or {}
    members = np.array([_members(model, *group) for group in groups.items()], bool)
    members = members.reshape(-1, len(model.parameters))
    members[:, index] = False
    if data is None:
        data = asimov_data(model, mu=mu).data
    best = best_fit(model, data) if fit is None else fit
    found = _compiled(model, data, best, index, jnp.asarray(members), tuple(groups))
    if method == "gradient":
        return found
    shifts = jnp.stack([found.widths, -found.widths, found.uncertainties, -found.uncertainties])
    options = {"batch": batch, "report": report, "devices": devices, "client": client}
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
    auxiliary, statistical = _observables(model, data, params, covariance[index])
    centers = params.at[model.structure.constrained].set(model.centers)
    return ImpactsResult(
        params[index],
        postfit[index],
        statistical,
        *(x[nuisances] for x in (params, postfit, centers, prefit)),
        *((slopes * shift)[nuisances] for shift in (prefit, -prefit, postfit, -postfit)),
        auxiliary=auxiliary[nuisances],
        groups=jax.vmap(lambda held: _held_group(covariance, index, held))(members),
        groups_auxiliary=safe_sqrt(members.astype(params.dtype) @ auxiliary**2),
        status=jnp.broadcast_to(best.status, nuisances.shape),
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


def _observables(
    model: Model, data: Array, params: Array, row: Float[Array, " params"]
) -> tuple[Float[Array, " params"], Float[Array, ""]]:
    """Return the impacts of the auxiliary data, and the statistical part, from one backward pass.

    The backward pass of the implicit fit: d(params[i])/d(data) = -C[i] . d(gradient)/d(data).
    """

    def along(data: Array) -> Array:
        return jnp.vdot(jax.lax.stop_gradient(row), jax.grad(model.half_deviance)(params, data))

    by_data = -jax.grad(along)(data)
    expected = model.expected(params)
    main, aux = by_data[: model.bins], by_data[model.bins :]
    statistical = safe_sqrt(jnp.sum(main**2 * jnp.maximum(expected[: model.bins], 0.0)))
    widths, _ = model.constraint_scales()
    counts = safe_sqrt(expected[model.bins :])
    widths = jnp.where(model.structure.poisson, counts, widths)
    full = jnp.zeros_like(params).at[model.structure.constrained].set(aux * widths)
    return jnp.where(model.fixed, 0.0, full), statistical


def _held_group(
    covariance: Float[Array, "params params"], index: int, members: Bool[Array, " params"]
) -> Float[Array, ""]:
    """Return the root of the variance that is lost when ``members`` are held."""
    moving = members & (jnp.diagonal(covariance) > 0)
    row = jnp.where(moving, covariance[index], 0.0)
    return safe_sqrt(jnp.vdot(row, masked_solve(covariance, moving, row)))


def _members(model: Model, group: str, patterns: Sequence[str]) -> list[bool]:
    """Return which parameters belong to a group."""
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
