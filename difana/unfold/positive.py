"""Negative weights of the simulation made positive by a learned reweighting."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from difana._errors import InputError
from difana.ratio import RatioRows, fit_ratio
from difana.train import Training
from difana.unfold._precision import centred
from difana.unfold.problem import UnfoldingProblem


def positive_weights(
    problem: UnfoldingProblem,
    *,
    key: PRNGKeyArray,
    training: Training = Training(),
    hidden: tuple[int, ...] = (64, 64),
) -> UnfoldingProblem:
    r"""Return the problem with positive weights of the simulation and the same densities.

    Each weight becomes its modulus times the local mean of the sign, learned by one classifier as a
    function of both levels and of the masks,

    .. math::
        w_i' = |w_i|\, r(z_i, x_i), \qquad r = \frac{E[w \mid z, x]}{E[|w| \mid z, x]} .

    Densities, response and yields stay those of the signed weights, and so does the ratio of the
    weights at the two levels. The local mean must be positive: where more than half of the weight
    is negative, no reweighting exists. Data minus background: see ``background="reweight"`` of
    ``fit_omnifold``. Without negative weights nothing is trained.

    Args:
        problem: The inputs.
        key: Random key.
        training: Options of the training.
        hidden: Widths of the classifier.

    Returns:
        The problem with other ``gen_weights`` and ``reco_weights``.

    Raises:
        InputError: If an event has weights of different sign at the two levels, or for particles.
        ModelError: If the training meets a number that is not finite.

    Example:
        >>> import jax, numpy as np
        >>> from difana.unfold import unfolding_problem
        >>> z = np.array([0.1, 0.2])
        >>> problem = unfolding_problem(z, z, z)
        >>> positive_weights(problem, key=jax.random.key(0)) is problem
        True

    References:
        arXiv:2007.11586.
    """
    passed = problem.pass_gen | problem.pass_reco
    gen = jnp.where(problem.pass_gen, problem.gen_weights, 0.0)
    reco = jnp.where(problem.pass_reco, problem.reco_weights, 0.0)
    w = jnp.where(problem.pass_gen, gen, reco)
    if not bool(jnp.any(w < 0) | jnp.any(reco < 0)):
        return problem
    if bool(jnp.any(gen * reco < 0)):
        raise InputError(
            f"{int(jnp.sum(gen * reco < 0))} events have weights of different sign at the two"
            " levels: the scale factors of the detector must be positive"
        )
    if problem.gen.ndim != 2 or problem.reco.ndim != 2:
        raise InputError("positive_weights looks at columns and cannot see particles")
    masks = jnp.stack([problem.pass_gen, problem.pass_reco], axis=1).astype(problem.gen.dtype)
    near, _ = centred(problem)  # what single precision could not hold
    x = jnp.concatenate([near.gen, near.reco, masks], axis=1)
    rows = jnp.asarray(np.flatnonzero(np.asarray(passed)))
    signs = RatioRows(x[rows], w[rows], jnp.abs(w[rows]))
    log = fit_ratio(signs, key=key, training=training, hidden=hidden).log_ratio(x)
    factor = jnp.exp(jnp.minimum(log, 0.0))  # a mean of signs is at most 1

    def positive(signed: Array, mask: Array) -> Array:
        new = jnp.abs(signed) * factor
        return new * jnp.sum(jnp.where(mask, signed, 0)) / jnp.sum(jnp.where(mask, new, 0))

    new = (
        positive(problem.gen_weights, problem.pass_gen),
        positive(problem.reco_weights, problem.pass_reco),
    )
    return eqx.tree_at(lambda p: (p.gen_weights, p.reco_weights), problem, new)
