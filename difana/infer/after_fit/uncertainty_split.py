"""The uncertainty of one parameter split into its sources: global observables, or covariance."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from difana._errors import InputError
from difana._numerics import safe_divide, safe_sqrt
from difana._status import Status, flag
from difana.infer.after_fit._impact_parts import (
    AbstractImpacts,
    asked,
    auxiliary_widths,
    data_impacts,
    held_group,
    in_quadrature,
    members_of,
)
from difana.infer.fit import solve
from difana.infer.fit_result import FitResult
from difana.infer.parallel._many import Report, spread
from difana.likelihood import Model


class UncertaintySplit(AbstractImpacts):
    r"""The uncertainty of one fitted parameter, split into its sources.

    Attributes:
        value: Best-fit value of the parameter.
        uncertainty: Its total uncertainty, from the covariance of the fit.
        statistical: The part of the counts.
        systematic: The part of all constraints; with ``statistical`` it adds up in quadrature to
            ``uncertainty``: always for kind "covariance", for kind "global" where the likelihood is
            a parabola and on Asimov data (see ``closure``).
        up: Change of the parameter by each source, ``[sources]``: its auxiliary datum higher by a
            standard deviation, or the nuisance itself by its post-fit uncertainty.
        down: The same lower.
        bins: Change by one standard deviation of the count of each bin, ``[bins]``; empty for
            kind "covariance", which cannot tell.
        groups: Size of each group, ``[groups]``.
        status: Bit flags of the fit and of the refits, ``[sources]``.
        fit_status: Bit flags of the fit.
        names: Names of the sources: constrained parameters, or all nuisances (static).
        poi: Name of the parameter (static).
        group_names: Names of the groups (static).
        bin_names: ``"SR[0]"``, one a bin (static).
        kind: ``"global"`` or ``"covariance"`` (static).
        method: ``"refit"`` or ``"gradient"`` (static).
    """

    up: Float[Array, " sources"]
    down: Float[Array, " sources"]
    bins: Float[Array, " bins"]
    groups: Float[Array, " groups"]
    status: Int[Array, " sources"]
    fit_status: Int[Array, ""]
    names: tuple[str, ...] = eqx.field(static=True)
    poi: str = eqx.field(static=True)
    group_names: tuple[str, ...] = eqx.field(static=True)
    bin_names: tuple[str, ...] = eqx.field(static=True)
    kind: str = eqx.field(static=True)
    method: str = eqx.field(static=True)

    @property
    def closure(self) -> Float[Array, ""]:
        """Sum of both parts in quadrature over the variance, minus 1."""
        return (self.statistical**2 + self.systematic**2) / self.uncertainty**2 - 1

    @property
    def ends(self) -> tuple[Array, Array]:
        """Changes up and down, which rank the sources."""
        return self.up, self.down

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers for JSON, the largest source first."""
        up, down = np.asarray(self.up).tolist(), np.asarray(self.down).tolist()
        return {
            "parameter": self.poi,
            **self.parts(),
            "kind": self.kind,
            "method": self.method,
            "impacts": {self.names[i]: {"up": up[i], "down": down[i]} for i in self.ranking},
            "bins": dict(zip(self.bin_names, np.asarray(self.bins).tolist(), strict=True)),
            "groups": dict(zip(self.group_names, np.asarray(self.groups).tolist(), strict=True)),
            "status": self.message,
        }

    def as_text(self, *, most: int | None = 20) -> str:
        """Return a table: the parts, the groups, and the largest sources.

        Args:
            most: Show this many sources only; None for all.
        """
        lines = [
            (f"{self.poi} = {float(self.value):.4g}", f"± {float(self.uncertainty):.4f}"),
            ("statistical", f"± {float(self.statistical):.4f}"),
            ("systematic", f"± {float(self.systematic):.4f}"),
        ]
        pairs = zip(self.group_names, np.asarray(self.groups), strict=True)
        lines += [(f"  {name}", f"± {float(size):.4f}") for name, size in pairs]
        for i in self.ranking[:most]:
            lines.append((self.names[i], f"{float(self.up[i]):+.4f} / {float(self.down[i]):+.4f}"))
        width = max(len(name) for name, _ in lines)
        return "\n".join(f"{name.ljust(width)}  {cell}" for name, cell in lines)


def with_own_groups(
    model: Model, groups: Mapping[str, Sequence[str]] | None
) -> dict[str, Sequence[str]]:
    """Return the groups, and one of the simulation statistics if the model has any.

    Without groups there is one of the other constraints too.
    """
    s = model.structure
    single = np.union1d(s.staterror_parameter, s.shapesys_parameter).astype(int)
    found = dict(groups or {})
    if single.size:
        found.setdefault("mc_statistics", [model.parameters[i] for i in single])
    rest = np.setdiff1d(s.constrained, single)
    if groups is None and rest.size:
        found["systematics"] = [model.parameters[i] for i in rest]
    return found


def uncertainty_split(
    model: Model,
    data: Float[Array, " data"] | None = None,
    *,
    kind: Literal["global", "covariance"] = "global",
    parameter: str | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    method: Literal["refit", "gradient"] = "refit",
    mu: float = 1.0,
    fit: FitResult | None = None,
    batch: int = 8,
    report: Report | None = None,
    devices: Any = None,
    client: Any = None,
) -> UncertaintySplit:
    r"""Split the uncertainty of the parameter of interest into its sources.

    - ``"global"``: the auxiliary datum (global observable) of each nuisance is shifted by its
      standard deviation, and the fit follows: :math:`d\hat\mu/da_j\,\sigma(a_j)`. These are
      independent sources; with the counts of the bins, :math:`d\hat\mu/dn_b\sqrt{\lambda_b}`,
      they add up in quadrature to the variance. ``refit``: two fits a constraint, to data with its
      auxiliary datum up and down (log-normal ones by factors); ``gradient``: one backward pass
      through the fit for all data. Statistical part and groups are always by gradient.
    - ``"covariance"``: :math:`C_{\mu j}/\sqrt{C_{jj}}`, and groups by the variance that is lost
      when they are held; the statistical part is what is left with all constrained nuisances held.
      No fits, and correlated nuisances count several times.

    Args:
        model: The model.
        data: Data vector; by default Asimov data with the parameter of interest at ``mu``.
        kind: ``"global"`` or ``"covariance"``.
        parameter: Of which parameter; the one of interest by default.
        groups: As in :func:`difana.infer.impacts`; a group ``mc_statistics`` of all staterror and
            shapesys is added, and without groups one of the other constraints, ``systematics``.
        method: ``"refit"`` or ``"gradient"``.
        mu: Parameter of interest of the Asimov data.
        fit: The best fit to the data, if already at hand.
        batch: Fits done at the same time.
        report: Called with the number of fits done and of all fits.
        devices: Spread the fits over these devices of this machine (or a mesh with one axis).
        client: Spread them over the workers of this ``dask.distributed.Client``.

    Returns:
        The split; differentiable (first order) like :func:`difana.infer.fit`, but uncertainties.

    Raises:
        ModelError: If a parameter or group does not exist.
        InputError: If the kind or the method is unknown.

    References:
        A. Pinto et al., arXiv:2307.04007.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, ShapeSys, Template, build_model
        >>> signal = Template([12.0, 11.0], (NormFactor("mu"),), name="signal")
        >>> bkg = Template([50.0, 52.0], (ShapeSys([3.0, 7.0], "unc"),), name="background")
        >>> model = build_model([Channel((signal, bkg), name="SR")])
        >>> print(uncertainty_split(model).as_text())
        mu = 1           ± 0.5672
        statistical      ± 0.4962
        systematic       ± 0.2748
          mc_statistics  ± 0.2748
        unc[1]           -0.2080 / +0.2361
        unc[0]           -0.1619 / +0.1644
    """
    if kind not in ("global", "covariance"):
        raise InputError(f"kind must be 'global' or 'covariance', not '{kind}'")
    data, best, index = asked(model, data, parameter=parameter, method=method, mu=mu, fit=fit)
    wanted = with_own_groups(model, groups)
    members = jnp.asarray(members_of(model, index, wanted))
    if kind == "covariance":
        return _by_covariance(model, best, index, members, tuple(wanted))
    found = _by_data(model, data, best, index, members, tuple(wanted))
    if method == "gradient":
        return found
    s = model.structure
    widths, aux = auxiliary_widths(model, best.params), data[model.bins :]
    relative = safe_divide(widths, best.params[s.constrained])
    ends, cut = [], jnp.zeros(aux.size, bool)
    for sign in (1.0, -1.0):
        moved = jnp.where(s.lognormal, aux * jnp.exp(sign * relative), aux + sign * widths)
        cut = cut | (s.poisson & (moved < 0))
        moved = jnp.where(s.poisson, jnp.maximum(moved, 0.0), moved)
        shifted = jnp.where(jnp.eye(aux.size, dtype=bool), moved[None, :], aux[None, :])
        ends.append(shifted)
    both = jnp.concatenate(ends)
    main = jnp.broadcast_to(data[: model.bins], (both.shape[0], model.bins))
    shared = (model, best.params)
    params, status = spread(
        _refit,
        shared,
        jnp.concatenate([main, both], axis=1),
        batch=batch,
        report=report,
        devices=devices,
        client=client,
    )
    changes = params[:, index].reshape(2, -1) - best.params[index]
    status = jnp.bitwise_or(*status.reshape(2, -1)) | flag(cut, Status.AT_BOUND) | best.status
    return dataclasses.replace(found, up=changes[0], down=changes[1], status=status, method="refit")


def _refit(shared: tuple[Model, Array], data: Array) -> tuple[Array, Array]:
    model, start = shared
    start = jnp.where(model.fixed, model.init, start)
    found = solve(model, data, start, held=model.fixed, lower=model.lower, upper=model.upper)
    return found.params, found.status


@eqx.filter_jit
def _by_data(
    model: Model,
    data: Array,
    best: FitResult,
    index: int,
    members: Bool[Array, "groups params"],
    group_names: tuple[str, ...],
) -> UncertaintySplit:
    s = model.structure
    row = jax.lax.stop_gradient(best.covariance[index])
    found = data_impacts(model, data, best.params, row)
    group = jax.vmap(lambda m: in_quadrature(model, found.auxiliary, m[s.constrained]))
    everything = jnp.ones(s.constrained.size, bool)
    return UncertaintySplit(
        best.params[index],
        safe_sqrt(row[index]),
        found.statistical,
        in_quadrature(model, found.auxiliary, everything),
        found.auxiliary,
        -found.auxiliary,
        found.bins,
        group(members),
        jnp.broadcast_to(best.status, s.constrained.shape),
        best.status,
        tuple(model.parameters[i] for i in s.constrained),
        model.parameters[index],
        group_names,
        tuple(f"{c.name}[{i}]" for c in s.channels for i in range(c.bins)),
        "global",
        "gradient",
    )


@eqx.filter_jit
def _by_covariance(
    model: Model,
    best: FitResult,
    index: int,
    members: Bool[Array, "groups params"],
    group_names: tuple[str, ...],
) -> UncertaintySplit:
    covariance = jax.lax.stop_gradient(best.covariance)
    nuisances = np.delete(np.arange(len(model.parameters)), index)
    total = safe_sqrt(covariance[index, index])
    constrained = np.zeros(len(model.parameters), bool)
    constrained[model.structure.constrained] = True
    constrained[index] = False
    systematic = held_group(covariance, index, jnp.asarray(constrained))
    each = safe_divide(covariance[index], safe_sqrt(jnp.diagonal(covariance)))[nuisances]
    return UncertaintySplit(
        best.params[index],
        total,
        safe_sqrt(total**2 - systematic**2),
        systematic,
        each,
        -each,
        jnp.zeros(0, total.dtype),
        jax.vmap(lambda held: held_group(covariance, index, held))(members),
        jnp.broadcast_to(best.status, nuisances.shape),
        best.status,
        tuple(model.parameters[i] for i in nuisances),
        model.parameters[index],
        group_names,
        (),
        "covariance",
        "gradient",
    )
