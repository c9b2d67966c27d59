"""How well an unfolded histogram agrees with a prediction, all correlations counted."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, Int

from difana._errors import InputError
from difana._numerics import after, safe_divide
from difana._result import AbstractResult
from difana._status import flag
from difana.unfold.result import UnfoldedHistogram
from difana.unfold.status import UnfoldStatus

_SMALLEST = 1e-10


class CompatibilityResult(AbstractResult):
    r"""Agreement of an unfolded histogram with a prediction.

    Attributes:
        chi2: :math:`(n - p)^T V^{-1} (n - p)`.
        dof: Degrees of freedom: the number of bins.
        p_value: Probability of a larger :math:`\chi^2`.
        rank: Rank of the covariance; below ``dof`` there is no inverse, and the others are NaN.
    """

    bits = UnfoldStatus

    chi2: Float[Array, ""]
    dof: Int[Array, ""]
    p_value: Float[Array, ""]
    rank: Int[Array, ""]

    @property
    def status(self) -> Int[Array, ""]:
        """Bits of ``UnfoldStatus``."""
        return flag(self.rank < self.dof, UnfoldStatus.FEW_REPLICAS)


def covariance_rank(covariance: Float[Array, "bins bins"]) -> Int[Array, ""]:
    r"""Return the rank of a covariance: eigenvalues of its correlation matrix above 1e-10.

    Replicas fewer than bins, or bins that no replica fills, make it smaller than the number of
    bins: then there is no inverse, and a :math:`\chi^2` has no meaning.

    Example:
        >>> import jax.numpy as jnp
        >>> int(covariance_rank(jnp.array([[4.0, 2.0], [2.0, 1.0]])))
        1
    """
    sigma = jnp.sqrt(jnp.maximum(jnp.diagonal(covariance), 0.0))
    correlation = safe_divide(covariance, sigma[:, None] * sigma[None, :])
    return jnp.sum(jnp.linalg.eigvalsh(correlation) > _SMALLEST)


def compatibility(
    unfolded: UnfoldedHistogram,
    prediction: Float[ArrayLike, "*bins"],
    *,
    prediction_covariance: Float[ArrayLike, "flat flat"] | None = None,
    replicas: int | None = None,
) -> CompatibilityResult:
    r"""Compare an unfolded histogram with a prediction by its full covariance.

    .. math::
        \chi^2 = h\,(n - p)^T (V + V_p)^{-1} (n - p), \qquad h = \frac{R - B - 2}{R - 1}

    The inverse of a covariance that was estimated from :math:`R` replicas is too large on average;
    the factor :math:`h` corrects for it.

    Args:
        unfolded: The unfolded histogram.
        prediction: Yields in the same bins.
        prediction_covariance: Covariance of the flattened prediction; None for none.
        replicas: Number :math:`R` of replicas behind the covariance; None for one that is exact.

    Returns:
        The result. Differentiable.

    Raises:
        InputError: If shapes differ, or (outside jit) the covariance has no inverse.

    Example:
        >>> import jax.numpy as jnp
        >>> h = UnfoldedHistogram(
        ...     status=jnp.asarray(0), edges=(jnp.array([0.0, 1.0, 2.0]),),
        ...     values=jnp.array([4.0, 9.0]), covariance=jnp.diag(jnp.array([4.0, 9.0])),
        ... )
        >>> result = compatibility(h, [6.0, 9.0])
        >>> float(result.chi2), round(float(result.p_value), 4)
        (1.0, 0.6065)

    References:
        J. Hartlap et al., arXiv:astro-ph/0608064, equation 17.
    """
    expected = jnp.asarray(prediction, unfolded.values.dtype)
    if expected.shape != unfolded.values.shape:
        raise InputError(
            f"the prediction has shape {expected.shape}, the histogram {unfolded.values.shape}"
        )
    covariance = unfolded.covariance
    bins = len(covariance)
    if prediction_covariance is not None:
        if jnp.shape(prediction_covariance) != covariance.shape:
            raise InputError(
                f"prediction_covariance has shape {jnp.shape(prediction_covariance)} for {bins}"
                " bins"
            )
        covariance = covariance + jnp.asarray(prediction_covariance)
    factor = 1.0
    if replicas is not None:
        if replicas <= bins + 2:
            raise InputError(
                f"{replicas} replicas for {bins} bins: more than {bins + 2} are needed for the"
                " inverse of the covariance; merge bins or add replicas"
            )
        factor = (replicas - bins - 2) / (replicas - 1)
    rank = covariance_rank(jax.lax.stop_gradient(covariance))
    if not isinstance(rank, Tracer) and int(rank) < bins:
        raise InputError(
            f"the covariance of {bins} bins has rank {int(rank)} and no inverse: merge bins, or"
            " add replicas or variations"
        )
    covariance = after(covariance, rank)  # one factorisation after the other
    sigma = jnp.sqrt(jnp.diagonal(covariance))
    pulls = jnp.ravel(unfolded.values - expected) / sigma
    correlation = covariance / (sigma[:, None] * sigma[None, :])
    chi2 = factor * pulls @ jnp.linalg.solve(correlation, pulls)
    chi2 = jnp.where(rank < bins, jnp.nan, chi2)
    return CompatibilityResult(
        chi2=chi2,
        dof=jnp.asarray(np.int32(bins)),
        p_value=jax.scipy.stats.chi2.sf(chi2, bins),
        rank=rank,
    )
