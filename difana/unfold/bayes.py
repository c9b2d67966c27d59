"""Iterative Bayesian unfolding (D'Agostini; Lucy and Richardson)."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from difana._errors import InputError
from difana._numerics import safe_divide
from difana._options import whole_number
from difana.unfold._linear import after_status, checked_covariance, values_status
from difana.unfold.response import Response
from difana.unfold.result import UnfoldedHistogram


def bayes_iterations(
    data: Float[Array, " reco"],
    matrix: Float[Array, "reco truth"],
    prior: Float[Array, " truth"],
    *,
    iterations: int,
    fakes: Float[Array, " reco"] | float = 0.0,
) -> Float[Array, "iterations truth"]:
    r"""Return the truth yields after each iteration.

    .. math::
        t'_i = \frac{t_i}{\epsilon_i} \sum_j
        \frac{R_{ji}\, d_j}{\sum_k R_{jk} t_k + f_j}, \qquad \epsilon_i = \sum_j R_{ji}

    A truth bin of zero efficiency keeps its prior. Differentiable in every argument (unrolled).

    Args:
        data: Measured yields, background subtracted, ``[reco]``.
        matrix: Response, ``[reco, truth]``; column sums are the efficiencies.
        prior: Truth yields to start with, ``[truth]``.
        iterations: Number of iterations.
        fakes: Expected yields that come from no truth bin, ``[reco]``.

    Example:
        >>> import jax.numpy as jnp
        >>> response = jnp.array([[0.9, 0.1], [0.1, 0.9]])
        >>> steps = bayes_iterations(
        ...     jnp.array([100.0, 150.0]), response, jnp.array([125.0, 125.0]), iterations=3
        ... )
        >>> [round(float(t), 3) for t in steps[-1]]
        [95.278, 154.722]

    References:
        G. D'Agostini, NIM A 362 (1995) 487, equations 3 to 6.
    """
    efficiency = jnp.sum(matrix, axis=0)

    def iterate(truth: Array, _: None) -> tuple[Array, Array]:
        ratio = safe_divide(data, matrix @ truth + fakes)
        update = safe_divide(truth * (matrix.T @ ratio), efficiency)
        truth = jnp.where(efficiency > 0, update, truth)
        return truth, truth

    return jax.lax.scan(iterate, prior, None, length=iterations)[1]


def bayes(
    response: Response,
    *,
    iterations: int = 4,
    prior: Float[Array, " truth"] | None = None,
    data_covariance: Float[Array, "reco reco"] | None = None,
    response_statistics: bool = False,
) -> UnfoldedHistogram:
    r"""Return the truth histogram by iterative Bayesian unfolding, with its covariance.

    The background is subtracted, fakes stand in the denominator, see ``bayes_iterations``. The
    covariance is :math:`J V J^T` with the exact Jacobian of all iterations and the covariance
    :math:`V` of the data and the background. With ``response_statistics`` the multinomial
    fluctuation of the simulated events of each truth bin adds to it: with
    :math:`N_i = t_i^2 / \sum w^2` effective events in column :math:`i` of the response,

    .. math::
        \mathrm{cov}(R_{ji}, R_{ki}) = \frac{R_{ji} \delta_{jk} - R_{ji} R_{ki}}{N_i}

    Args:
        response: The binned problem, see ``difana.unfold.response``.
        iterations: Number of iterations; more of them mean less bias and more variance.
        prior: Truth yields to start with; None takes those of the simulation.
        data_covariance: Covariance of data minus background; None takes the variances of both.
        response_statistics: Add the uncertainty of the response by the finite simulation.

    Returns:
        The unfolded histogram. Differentiable in the numbers of ``response``.

    Raises:
        ConfigError: If ``iterations`` is no whole number of at least one.
        InputError: If prior or covariance have another number of bins or hold impossible numbers,
            or the response does not know its number of events.

    Example:
        >>> import numpy as np
        >>> from difana.unfold import response, unfolding_problem
        >>> z = np.array([0.5, 1.5, 1.5])
        >>> binned = response(unfolding_problem(z, z, z), gen_edges=[0, 1, 2], reco_edges=[0, 1, 2])
        >>> bayes(binned).values.tolist()
        [1.0, 2.0]

    References:
        G. D'Agostini, NIM A 362 (1995) 487; error propagation through all iterations as in T. Adye,
        arXiv:1105.1160.
    """
    iterations = whole_number("iterations", iterations)
    start = response.prior if prior is None else jnp.asarray(prior)
    if start.shape != response.prior.shape:
        raise InputError(f"the prior has shape {start.shape}, the truth {response.prior.shape}")
    if not isinstance(start, Tracer):
        numbers = np.asarray(start)
        if not (np.isfinite(numbers).all() and (numbers >= 0).all() and numbers.any()):
            raise InputError(
                f"the prior is {numbers.tolist()}: give finite yields, none negative, not all zero"
            )
    if data_covariance is not None:
        bins = len(response.data)
        data_covariance = checked_covariance(data_covariance, bins, definite=False)
    response, status = after_status(response)
    values, covariance = _bayes(response, start, data_covariance, iterations)
    if response_statistics:
        covariance = covariance + _of_response(response, start, iterations)
    shape = tuple(len(edges) - 1 for edges in response.edges)
    return UnfoldedHistogram(
        status=status | values_status(values),
        edges=response.edges,
        values=values.reshape(shape),
        covariance=covariance,
        names=response.names,
    )


@eqx.filter_jit
def _bayes(
    response: Response, prior: Array, data_covariance: Array | None, iterations: int
) -> tuple[Array, Array]:
    def unfold(net: Array) -> Array:
        return bayes_iterations(
            net, response.matrix, prior, iterations=iterations, fakes=response.fakes
        )[-1]

    net = response.data - response.background
    if data_covariance is None:
        data_covariance = jnp.diag(response.data_variances + response.background_variances)
    jacobian = jax.jacfwd(unfold)(net)
    return unfold(net), jacobian @ data_covariance @ jacobian.T


@eqx.filter_jit
def _of_response(response: Response, prior: Array, iterations: int) -> Array:
    """Return the covariance by the multinomial fluctuation of each column of the response."""
    if response.prior_variances is None:
        raise InputError("this response does not know the variances of its simulated yields")
    net = response.data - response.background

    def unfold(matrix: Array) -> Array:
        return bayes_iterations(net, matrix, prior, iterations=iterations, fakes=response.fakes)[-1]

    jacobian = jax.jacrev(unfold)(response.matrix)  # [unfolded, reco, truth]
    weight = response.prior_variances / response.prior**2
    moved = jacobian * response.matrix
    mean = jnp.sum(moved, axis=1)
    return jnp.einsum("ajt,bjt,t->ab", jacobian, moved, weight) - (mean * weight) @ mean.T
