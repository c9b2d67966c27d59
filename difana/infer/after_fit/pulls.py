"""Pulls: where the fit moved each constrained parameter, and how much it narrowed it."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from difana._result import AbstractResult
from difana.infer.fit_result import FitResult
from difana.likelihood import Model


class PullsResult(AbstractResult):
    """Pulls of all constrained parameters.

    Attributes:
        pulls: (best fit - centre) / width of the constraint, ``[constraints]``.
        ratios: Post-fit uncertainty / width of the constraint, ``[constraints]``.
        centers: Centres of the constraints, ``[constraints]``.
        widths: Their widths, ``[constraints]``.
        free: True where the parameter was fitted: not held, nor pressed against a bound,
            ``[constraints]``. Elsewhere the ratio is 0.
        status: Bit flags of the fit.
        names: Names of the parameters (static).
    """

    pulls: Float[Array, " constraints"]
    ratios: Float[Array, " constraints"]
    centers: Float[Array, " constraints"]
    widths: Float[Array, " constraints"]
    free: Bool[Array, " constraints"]
    status: Int[Array, ""]
    names: tuple[str, ...] = eqx.field(static=True)


def prefit_uncertainties(model: Model) -> Float[Array, " params"]:
    r"""Return the widths of the constraints: what is known of each parameter before the fit.

    :math:`1/\sqrt\tau` for Poisson constraints, the relative width times the centre for log-normal
    ones; 0 for parameters without constraint and held ones.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, ShapeSys, Template, build_model
        >>> signal = Template([12.0, 11.0], (NormFactor("mu"),), name="signal")
        >>> bkg = Template([50.0, 52.0], (ShapeSys([3.0, 7.0], "unc"),), name="background")
        >>> model = build_model([Channel((signal, bkg), name="SR")])
        >>> prefit_uncertainties(model).round(3).tolist()
        [0.0, 0.06, 0.135]
    """
    full = jnp.zeros(len(model.parameters), model.nominal.dtype)
    full = full.at[model.structure.constrained].set(_widths(model))
    return jnp.where(model.fixed, 0.0, full)


def prefit_parameters(model: Model) -> Float[Array, " params"]:
    """Return the parameters before the fit: constraints at their centres, others as they start."""
    params = model.init.at[model.structure.constrained].set(model.centers)
    return jnp.where(model.fixed, model.init, params)


def prefit_covariance(model: Model) -> Float[Array, "params params"]:
    r"""Return what is known of all parameters before the fit, correlations of constraints included.

    :math:`V_{ij} = R_{ij}\sigma_i\sigma_j` with the widths of :func:`prefit_uncertainties`.

    Example:
        >>> from difana.likelihood import uncorrelated_background
        >>> model = uncorrelated_background([12.0, 11.0], [50.0, 52.0], [3.0, 7.0])
        >>> [f"{x:.4f}" for x in prefit_covariance(model).diagonal()]
        ['0.0000', '0.0036', '0.0181']
    """
    width = prefit_uncertainties(model)
    correlation = jnp.eye(width.size, dtype=width.dtype)
    s = model.structure
    if s.correlated.size:
        place = s.constrained[s.correlated]
        correlation = correlation.at[np.ix_(place, place)].set(jnp.linalg.inv(model.precision))
    return correlation * width[:, None] * width[None, :]


def _widths(model: Model) -> Float[Array, " constraints"]:
    widths, tau = model.constraint_scales()
    s = model.structure
    if s.lognormal.any():  # of the logarithm
        widths = jnp.where(s.lognormal, widths * model.centers, widths)
    return jnp.where(s.poisson, 1 / jnp.sqrt(tau), widths)


def pulls(model: Model, result: FitResult) -> PullsResult:
    r"""Return the pulls :math:`(\hat\theta - \theta_0)/\sigma_0` of all constrained parameters.

    Args:
        model: The model that was fitted.
        result: The fit.

    Returns:
        Pulls and post-fit widths in units of the width of the constraint, one entry a constrained
        parameter (bins of simulation statistics included), in the order of the parameters.

    Example:
        >>> from difana.infer import fit
        >>> from difana.likelihood import Channel, NormFactor, ShapeSys, Template, build_model
        >>> signal = Template([12.0, 11.0], (NormFactor("mu"),), name="signal")
        >>> bkg = Template([50.0, 52.0], (ShapeSys([3.0, 7.0], "unc"),), name="background")
        >>> model = build_model([Channel((signal, bkg), name="SR")])
        >>> result = pulls(model, fit(model, model.data([55.0, 60.0])))
        >>> result.names, result.pulls.round(2).tolist(), result.ratios.round(2).tolist()
        (('unc[0]', 'unc[1]'), [-0.06, 0.15], [0.97, 0.85])
    """
    constrained = np.asarray(model.structure.constrained)
    widths = _widths(model)
    uncertainties = result.uncertainties[constrained]
    return PullsResult(
        pulls=(result.params[constrained] - model.centers) / widths,
        ratios=uncertainties / widths,
        centers=model.centers,
        widths=widths,
        free=uncertainties > 0,
        status=result.status,
        names=tuple(model.parameters[i] for i in constrained),
    )
