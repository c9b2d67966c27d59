"""Matrix inversion with Tikhonov regularisation."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._errors import ConfigError
from difana._numerics import safe_divide
from difana.unfold.response import Response
from difana.unfold.result import UnfoldedHistogram
from difana.unfold.status import UnfoldStatus


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

    $$ \hat t = \arg\min_t\ (d - b - f - R t)^T V^{-1} (d - b - f - R t)
       + \tau\, \Vert L\, (t / t_0 - 1) \Vert^2 $$

    with the closed form :math:`\hat t = t_0 + A\,(d - b - f - R t_0)`,
    :math:`A = (R^T V^{-1} R + \tau T^{-1} L^T L T^{-1})^{-1} R^T V^{-1}`, :math:`T` = diag(t_0),
    and covariance :math:`A V A^T`. With ``strength=0`` and as many bins at both levels this is the
    inverse of the response. Differentiable in the numbers of ``response`` and in ``strength``.

    Args:
        response: The binned problem, see ``difana.unfold.response``.
        strength: :math:`\tau`, of the size of a squared number of standard deviations.
        order: What the penalty holds small: 0 the size, 1 the slope, 2 the curvature of the ratio
            to the simulated truth.
        data_covariance: Covariance :math:`V` of data minus background; None takes the variances
            of both (an empty bin gets the smallest variance of the others).

    Returns:
        The unfolded histogram; ``NOT_FINITE`` in its status where the system has no solution.

    Raises:
        ConfigError: If the order is unknown or needs more bins.

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
    matrix, prior = response.matrix, response.prior
    if data_covariance is None:
        variances = response.data_variances + response.background_variances
        least = jnp.min(jnp.where(variances > 0, variances, jnp.inf))
        data_covariance = jnp.diag(jnp.where(variances > 0, variances, least))
    shape = tuple(len(edges) - 1 for edges in response.edges)
    penalty = jnp.asarray(difference_matrix(shape, order)) * safe_divide(
        jnp.ones_like(prior), prior
    )
    weighted = jnp.linalg.solve(data_covariance, matrix).T  # R^T V^-1
    operator = jnp.linalg.solve(weighted @ matrix + strength * penalty.T @ penalty, weighted)
    values = prior + operator @ (response.data - response.fold(prior))
    covariance = operator @ data_covariance @ operator.T
    status = jnp.where(jnp.all(jnp.isfinite(values)), 0, int(UnfoldStatus.NOT_FINITE))
    empty = jnp.any(response.efficiency <= 0)
    status = status | jnp.where(empty, int(UnfoldStatus.EMPTY_TRUTH), 0)
    status = status | jnp.where(jnp.any(values < 0), int(UnfoldStatus.NEGATIVE), 0)
    return UnfoldedHistogram(
        status=status,
        edges=response.edges,
        values=values.reshape(shape),
        covariance=covariance,
        names=response.names,
    )
