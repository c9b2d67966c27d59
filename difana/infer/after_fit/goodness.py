"""Goodness of fit against the saturated model."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaincc
from jaxtyping import Array, Float, Int

from difana._result import AbstractResult
from difana.infer.fit_result import FitResult
from difana.infer.parallel._many import best_fit
from difana.likelihood import Model


class GoodnessResult(AbstractResult):
    """How well the best fit describes the data.

    Attributes:
        chi2: Twice the nll above that of the saturated model.
        p_value: Probability of a larger ``chi2`` if the model is true; NaN without degrees of
            freedom.
        status: Bit flags of the fit.
        dof: Degrees of freedom (static).
    """

    chi2: Float[Array, ""]
    p_value: Float[Array, ""]
    status: Int[Array, ""]
    dof: int = eqx.field(static=True)

    @property
    def ok(self) -> bool:
        """True if the numbers can be trusted."""
        return self.dof > 0 and super().ok

    @property
    def message(self) -> str:
        """The status in words."""
        if self.dof <= 0:
            return f"{self.dof} degrees of freedom: as many free parameters as bins, or more"
        return super().message


def goodness_of_fit(
    model: Model, data: Float[Array, " data"], *, fit: FitResult | None = None
) -> GoodnessResult:
    r"""Test the best fit against a perfect description of the data.

    :math:`\chi^2 = 2[L(\hat\theta) - L_\mathrm{sat}]`, where the saturated model expects what is
    observed in every bin and every auxiliary measurement. It follows a :math:`\chi^2` distribution
    with as many degrees of freedom as there are bins, less the free parameters without constraint
    (a constrained one comes with its own datum). No second fit is needed.

    Args:
        model: The model.
        data: Data vector.
        fit: The best fit, if already at hand.

    Returns:
        The statistic, its degrees of freedom and its p-value.

    References:
        R. D. Cousins, "Generalization of chisquare goodness-of-fit test for binned data using
        saturated models" (2013); the convention of cabinetry 0.6.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, ShapeSys, Template, build_model
        >>> signal = Template([12.0, 11.0], (NormFactor("mu"),), name="signal")
        >>> bkg = Template([50.0, 52.0], (ShapeSys([3.0, 7.0], "unc"),), name="background")
        >>> model = build_model([Channel((signal, bkg), name="SR")])
        >>> result = goodness_of_fit(model, model.data([55.0, 60.0]))
        >>> round(float(result.chi2), 4), result.dof, round(float(result.p_value), 4)
        (0.0715, 1, 0.7891)
    """
    best = best_fit(model, data) if fit is None else fit
    structure = model.structure
    unconstrained = np.ones(len(structure.parameters), bool)
    unconstrained[structure.constrained] = False
    seen = model.bins - int(structure.masked.sum())
    dof = seen - int(np.sum(unconstrained & ~structure.fixed))
    chi2 = 2 * best.half_deviance
    p_value = gammaincc(max(dof, 1) / 2, chi2 / 2) if dof > 0 else jnp.full_like(chi2, jnp.nan)
    return GoodnessResult(chi2, p_value, best.status, dof)
