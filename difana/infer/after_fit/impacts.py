"""Impacts of the nuisance parameters on the parameter of interest: by refits and by gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, overload

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from difana._errors import InputError
from difana._numerics import safe_divide, safe_sqrt
from difana._result import AbstractResult
from difana._status import Status, flag
from difana.infer._checks import check_free_poi
from difana.infer.after_fit._impact_parts import data_impacts, held_group, in_quadrature, members_of
from difana.infer.after_fit.pulls import prefit_uncertainties
from difana.infer.after_fit.uncertainty_split import UncertaintySplit, split
from difana.infer.asimov import asimov_data
from difana.infer.fit_result import FitResult
from difana.infer.parallel._many import Report, best_fit, conditional_fits
from difana.likelihood import Model

_CHANGES = ("prefit_up", "prefit_down", "postfit_up", "postfit_down")


class ImpactsResult(AbstractResult):
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

    value: Float[Array, ""]
    uncertainty: Float[Array, ""]
    statistical: Float[Array, ""]
    systematic: Float[Array, ""]
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
    def all_status(self) -> Int[Array, " fits"]:
        """The status of all nuisances and of the fit."""
        return jnp.append(self.status, self.fit_status)

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


@overload
def impacts(
    model: Model,
    data: Float[Array, " data"] | None = None,
    *,
    kind: Literal["nuisance"] = "nuisance",
    parameter: str | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    method: Literal["refit", "gradient"] = "refit",
    mu: float = 1.0,
    fit: FitResult | None = None,
    batch: int = 8,
    report: Report | None = None,
    devices: Any = None,
    client: Any = None,
) -> ImpactsResult: ...


@overload
def impacts(
    model: Model,
    data: Float[Array, " data"] | None = None,
    *,
    kind: Literal["global", "covariance"],
    parameter: str | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    method: Literal["refit", "gradient"] = "refit",
    mu: float = 1.0,
    fit: FitResult | None = None,
    batch: int = 8,
    report: Report | None = None,
    devices: Any = None,
    client: Any = None,
) -> UncertaintySplit: ...


def impacts(
    model: Model,
    data: Float[Array, " data"] | None = None,
    *,
    kind: Literal["nuisance", "global", "covariance"] = "nuisance",
    parameter: str | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    method: Literal["refit", "gradient"] = "refit",
    mu: float = 1.0,
    fit: FitResult | None = None,
    batch: int = 8,
    report: Report | None = None,
    devices: Any = None,
    client: Any = None,
) -> ImpactsResult | UncertaintySplit:
    r"""Return how much each source of uncertainty moves the parameter of interest.

    Three kinds, each by itself an answer to "how large is the part of this systematic?":

    - ``"nuisance"``: the nuisance is held away from its best fit, the ranking of experiments.
    - ``"global"``: the auxiliary datum (global observable) of the nuisance is shifted by its
      standard deviation, and the fit follows: :math:`d\hat\mu/da_j\,\sigma(a_j)`. These are
      independent sources; with the counts of the bins, :math:`d\hat\mu/dn_b\sqrt{\lambda_b}`,
      they add up in quadrature to the variance (:class:`UncertaintySplit`).
    - ``"covariance"``: :math:`C_{\mu j}/\sqrt{C_{jj}}`, and groups by the variance that is lost
      when they are held; the statistical part is what is left with all constrained nuisances held.
      No fits, and correlated nuisances count several times.

    Of kind ``"nuisance"``, ``refit``: four fits a nuisance, held at :math:`\hat\theta_j` plus and
    minus its pre-fit and post-fit uncertainty (within its bounds), all by one compiled program.
    ``gradient``: their linear form :math:`\Delta\mu = C_{\mu j} / C_{jj}\,\Delta\theta_j`, no fit.

    Of kind ``"global"``, ``refit``: two fits a constraint, to data with its auxiliary datum up and
    down (log-normal ones by factors); ``gradient``: one backward pass through the fit for all data.
    The statistical part and the groups are always by gradient.

    Kind ``"nuisance"`` has with either method the impacts of the auxiliary data and the statistical
    part, too. Its groups come from the covariance:
    :math:`C_{\mu G} C_{GG}^{-1} C_{G\mu}` is what the variance loses when group G is held at its
    best fit. Differentiable (first order) like :func:`difana.infer.fit`; uncertainties are not
    differentiated.

    Args:
        model: The model.
        data: Data vector; by default Asimov data with the parameter of interest at ``mu``.
        kind: ``"nuisance"``, ``"global"`` or ``"covariance"``.
        parameter: On which parameter; the one of interest by default.
        groups: Names of parameters, or patterns with ``*`` and ``?``, for each group; the name of
            a modifier stands for all its bins. The kinds ``"global"`` and ``"covariance"`` add a
            group ``mc_statistics`` of all staterror and shapesys, and without groups one of the
            other constraints, ``systematics``.
        method: ``"refit"`` or ``"gradient"``.
        mu: Parameter of interest of the Asimov data.
        fit: The best fit to the data, if already at hand.
        batch: Fits done at the same time.
        report: Called with the number of fits done and of all fits.
        devices: Spread the fits over these devices of this machine (or a mesh with one axis).
        client: Spread them over the workers of this ``dask.distributed.Client``.

    Returns:
        An :class:`ImpactsResult` for kind ``"nuisance"``, else an :class:`UncertaintySplit`.

    Raises:
        ModelError: If a parameter or group does not exist.
        InputError: If the kind or the method is unknown.

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
        >>> print(impacts(model, kind="global").as_text())
        mu = 1           ± 0.5672
        statistical      ± 0.4962
        systematic       ± 0.2748
          mc_statistics  ± 0.2748
        unc[1]           -0.2080 / +0.2361
        unc[0]           -0.1619 / +0.1644
    """
    if kind not in ("nuisance", "global", "covariance"):
        raise InputError(f"kind must be 'nuisance', 'global' or 'covariance', not '{kind}'")
    if method not in ("refit", "gradient"):
        raise InputError(f"method must be 'refit' or 'gradient', not '{method}'")
    if parameter is None or parameter == model.structure.poi:
        check_free_poi(model)
    index = model.poi_index if parameter is None else model.index(parameter)
    nuisances = np.delete(np.arange(len(model.parameters)), index)
    if data is None:
        data = asimov_data(model, mu=mu).data
    best = best_fit(model, data) if fit is None else fit
    options = {"batch": batch, "report": report, "devices": devices, "client": client}
    if kind != "nuisance":
        return split(model, data, best, index, kind=kind, method=method, groups=groups, **options)
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
