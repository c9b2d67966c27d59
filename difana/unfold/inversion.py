"""Matrix inversion with Tikhonov regularisation."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from difana._errors import ConfigError
from difana._numerics import after, safe_sqrt
from difana.unfold._linear import (
    after_status,
    checked_covariance,
    conditioned,
    pseudo_inverse,
    values_status,
)
from difana.unfold.response import Response
from difana.unfold.result import UnfoldedHistogram


def difference_matrix(shape: tuple[int, ...], order: int) -> Float[np.ndarray, "rows truth"]:
    """Return the finite differences of flattened bins, along each axis in turn.

    Args:
        shape: Numbers of bins of the axes.
        order: 0 for the bins themselves, 1 for slopes, 2 for curvatures.

    Raises:
        ConfigError: If no axis has enough bins, or the order is unknown.

    Example:
        >>> difference_matrix((4,), 2).tolist()
        [[1.0, -2.0, 1.0, 0.0], [0.0, 1.0, -2.0, 1.0]]
    """
    if order not in (0, 1, 2):
        raise ConfigError(f"order = {order}: choose 0 (size), 1 (slope) or 2 (curvature)")
    if order == 0:
        return np.eye(int(np.prod(shape)))
    blocks = []
    for axis, size in enumerate(shape):
        if size <= order:
            continue
        block = np.ones((1, 1))
        for index, bins in enumerate(shape):
            one = np.diff(np.eye(size), n=order, axis=0) if index == axis else np.eye(bins)
            block = np.kron(block, one)
        blocks.append(block)
    if not blocks:
        raise ConfigError(f"differences of order {order} need more than {order} bins, got {shape}")
    return np.concatenate(blocks)


def invert(
    response: Response,
    *,
    strength: Float[Array, ""] | float = 0.0,
    order: int = 2,
    data_covariance: Float[Array, "reco reco"] | None = None,
) -> UnfoldedHistogram:
    r"""Return the truth histogram by least squares with a Tikhonov penalty.

    .. math::
        \hat t = \arg\min_t\ (d - b - f - R t)^T V^{-1} (d - b - f - R t)
        + \tau\, \Vert L\, (t / t_0 - 1) \Vert^2

    with the closed form :math:`\hat t = t_0 + A\,(d - b - f - R t_0)`,
    :math:`A = (R^T V^{-1} R + \tau T^{-1} L^T L T^{-1})^{-1} R^T V^{-1}`, :math:`T` = diag(t_0),
    and covariance :math:`A V A^T`. With ``strength=0`` and as many bins at both levels this is the
    inverse of the response. Solved by a singular value decomposition in units of the errors of the
    data, never by the normal equations, which square the condition number. What a singular response
    leaves open stays that of the simulation, and the status says so. Differentiable in the numbers
    of ``response`` and in ``strength``.

    Args:
        response: The binned problem, see ``difana.unfold.response``.
        strength: :math:`\tau`, of the size of a squared number of standard deviations.
        order: What the penalty holds small: 0 the size, 1 the slope, 2 the curvature of the ratio
            to the simulated truth.
        data_covariance: Covariance :math:`V` of data minus background; None takes the variances
            of both (an empty bin gets the smallest variance of the others).

    Returns:
        The unfolded histogram with the condition number and the rank of the system. Its status
        says ``ILL_CONDITIONED`` from a condition number of a million (in single precision 8,000)
        and ``SINGULAR`` where the rank is below the number of truth bins.

    Raises:
        ConfigError: If the strength is negative, or the order is unknown or needs more bins.
        InputError: If the covariance has another shape or is not positive definite.

    Example:
        >>> import numpy as np
        >>> from difana.unfold import response, unfolding_problem
        >>> z = np.array([0.5, 1.5, 1.5])
        >>> binned = response(unfolding_problem(z, z, z), gen_edges=[0, 1, 2], reco_edges=[0, 1, 2])
        >>> invert(binned, order=1).values.tolist()
        [1.0, 2.0]

    References:
        A. N. Tikhonov (1963); S. Schmitt, arXiv:1205.6201, equations 1 to 6 (TUnfold).
    """
    known = not isinstance(strength, Tracer)
    if known and not (np.ndim(strength) == 0 and 0 <= float(strength) < np.inf):
        raise ConfigError(f"strength = {strength}: give a finite number, zero or positive")
    response, status = after_status(response)
    prior = response.prior
    if data_covariance is None:
        variances = response.data_variances + response.background_variances
        least = jnp.min(jnp.where(variances > 0, variances, jnp.inf))
        variances = jnp.where(variances > 0, variances, least)
        root = jnp.sqrt(variances)
    else:
        checked = checked_covariance(data_covariance, len(response.data))
        root = jnp.linalg.cholesky(after(checked, status))
    shape = tuple(len(edges) - 1 for edges in response.edges)
    # in standard deviations of the data, and units of the simulated truth
    rows = jnp.column_stack([response.matrix * prior, response.data - response.fold(prior)])
    rows = rows / root[:, None] if root.ndim == 1 else solve_triangular(root, rows, lower=True)
    rows, pulls = rows[:, :-1], rows[:, -1]
    if not known or float(strength) > 0:
        penalty = jnp.asarray(difference_matrix(shape, order), rows.dtype)
        rows = jnp.concatenate([rows, safe_sqrt(jnp.asarray(strength, rows.dtype)) * penalty])
    elif order not in (0, 1, 2):
        difference_matrix(shape, order)
    inverse, condition, rank = pseudo_inverse(rows)
    operator = prior[:, None] * inverse[:, : len(root)]
    values = prior + operator @ pulls
    status = status | values_status(values)
    return UnfoldedHistogram(
        status=status | conditioned(condition, rank, len(prior)),
        edges=response.edges,
        values=values.reshape(shape),
        covariance=operator @ operator.T,
        names=response.names,
        condition=condition,
        rank=rank,
    )
