"""Linear algebra of the binned methods, and what it says about a result."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from difana._errors import InputError
from difana._numerics import after
from difana.unfold.response import Response
from difana.unfold.status import UnfoldStatus

_LARGE = 1e6  # condition numbers that no simulation is exact enough for
_DIGITS = 1e-3  # largest rounding error, in units of the solution


def pseudo_inverse(
    matrix: Float[Array, "rows columns"],
) -> tuple[Float[Array, "columns rows"], Float[Array, ""], Int[Array, ""]]:
    """Return the pseudo-inverse, the condition number and the rank of a matrix.

    The singular value decomposition gives a basis in which the normal equations are the unit matrix
    but for rounding; they are solved there, exactly and with an exact derivative, also where
    singular values agree.

    Example:
        >>> inverse, condition, rank = pseudo_inverse(jnp.array([[2.0, 0.0], [0.0, 0.5]]))
        >>> inverse.round(5).tolist(), round(float(condition), 5), int(rank)
        ([[0.5, 0.0], [0.0, 2.0]], 4.0, 2)
    """
    _, size, vectors = jnp.linalg.svd(jax.lax.stop_gradient(matrix), full_matrices=False)
    smallest = max(matrix.shape) * jnp.finfo(matrix.dtype).eps * size[0]
    kept = size > smallest
    basis = vectors.T * jnp.where(kept, 1 / jnp.where(kept, size, 1.0), 0.0)
    columns = matrix @ basis
    normal = columns.T @ columns + jnp.diag(jnp.where(kept, 0.0, 1.0).astype(matrix.dtype))
    rank = jnp.sum(kept)
    condition = size[0] / jnp.maximum(size[-1], jnp.finfo(matrix.dtype).tiny)
    condition = jnp.where(rank < matrix.shape[1], jnp.inf, condition)
    return basis @ jnp.linalg.solve(normal, columns.T), condition, rank


def conditioned(condition: Array, rank: Array, bins: int) -> Int[Array, ""]:
    """Return the bits of a condition number and a rank."""
    most = min(_LARGE, _DIGITS / float(jnp.finfo(condition.dtype).eps))
    singular = rank < bins
    bad = ~(condition <= most) & ~singular
    return jnp.where(singular, int(UnfoldStatus.SINGULAR), 0) | jnp.where(
        bad, int(UnfoldStatus.ILL_CONDITIONED), 0
    )


def response_status(response: Response) -> Int[Array, ""]:
    """Return what the response alone says: truth bins never seen, or not told apart."""
    yields = jax.lax.stop_gradient(response.matrix * response.prior[None, :])
    folded = jnp.sum(yields, axis=1, keepdims=True)
    # the errors of the data expected: a condition number in their units
    rows = yields / jnp.sqrt(jnp.where(folded > 0, folded, 1.0))
    finite = jnp.all(jnp.isfinite(rows))
    size = jnp.linalg.svd(jnp.where(finite, rows, 0.0), compute_uv=False)
    smallest = max(rows.shape) * jnp.finfo(rows.dtype).eps * size[0]
    singular = finite & (jnp.sum(size > smallest) < rows.shape[1])
    empty = jnp.any(response.efficiency <= 0)
    return jnp.where(empty, int(UnfoldStatus.EMPTY_TRUTH), 0) | jnp.where(
        singular, int(UnfoldStatus.SINGULAR), 0
    )


def after_status(response: Response) -> tuple[Response, Int[Array, ""]]:
    """Return the response, known only after what it says alone, and that.

    Both this and the method factorise matrices: side by side they could hang, see ``after``.
    """
    status = response_status(response)
    matrix = after(response.matrix, status)
    return eqx.tree_at(lambda r: r.matrix, response, matrix), status


def values_status(values: Array) -> Int[Array, ""]:
    """Return what the numbers of a result say."""
    status = jnp.where(jnp.all(jnp.isfinite(values)), 0, int(UnfoldStatus.NOT_FINITE))
    return status | jnp.where(jnp.any(values < 0), int(UnfoldStatus.NEGATIVE), 0)


def checked_covariance(
    covariance: Array, bins: int, *, definite: bool = True
) -> Float[Array, "bins bins"]:
    """Return a covariance of the data, or raise ``InputError`` unless it is one.

    Without ``definite`` bins may have no variance.
    """
    if jnp.shape(covariance) != (bins, bins):
        raise InputError(
            f"data_covariance has shape {jnp.shape(covariance)} for {bins} bins of the data"
        )
    if not isinstance(covariance, Tracer):
        numbers = np.asarray(covariance, np.float64)
        variances = np.diag(numbers)
        good = bool(np.isfinite(numbers).all() and (variances >= 0).all())
        if good:
            scale = np.sqrt(np.where(variances > 0, variances, 1.0))
            correlation = numbers / np.outer(scale, scale)
            least = np.linalg.eigvalsh(correlation).min()
            good = np.allclose(correlation, correlation.T, rtol=0, atol=1e-5)
            good = good and bool(least > 0 if definite else least > -1e-5)
        if not good:
            raise InputError(
                "data_covariance is no covariance: it must be finite, symmetric and positive"
                + (" definite; merge bins without data" if definite else "")
            )
    return jnp.asarray(covariance, float)
