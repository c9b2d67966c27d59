"""How far two histograms lie apart."""

from __future__ import annotations

import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float

from difana._errors import InputError
from difana._numerics import safe_divide


def separation(
    signal: Float[ArrayLike, " bins"], background: Float[ArrayLike, " bins"]
) -> Float[Array, ""]:
    r"""Return the separation of signal and background in the bins of a variable.

    .. math::
        \langle S^2 \rangle = \frac12 \sum_b \frac{(\hat s_b - \hat b_b)^2}{\hat s_b + \hat b_b}

    with both histograms normalised to one: 0 where they are equal, 1 where no bin holds both.
    Fluctuations of the simulation add about the number of bins over four times the effective
    events of the smaller sample.

    Args:
        signal: Yields of the signal, ``[bins]``.
        background: Yields of the background, ``[bins]``.

    Returns:
        A scalar; bins in which the sum is not positive count as empty.

    Raises:
        InputError: If the shapes differ; outside jit, if a yield is not finite or a sum of yields
            is not positive.

    References:
        The separation of TMVA, arXiv:physics/0703039, section 3.1.4.

    Example:
        >>> round(float(separation([3.0, 1.0], [10.0, 30.0])), 3)
        0.25
        >>> float(separation([2.0, 0.0], [0.0, 7.0])), float(separation([2.0, 4.0], [1.0, 2.0]))
        (1.0, 0.0)
    """
    s, b = jnp.asarray(signal, float), jnp.asarray(background, float)
    if s.ndim != 1 or s.shape != b.shape:
        raise InputError(
            f"signal and background must be yields of the same bins, got {s.shape} and {b.shape}"
        )
    for name, yields in (("signal", s), ("background", b)):
        if isinstance(yields, Tracer):
            continue
        if not bool(jnp.all(jnp.isfinite(yields)) & (jnp.sum(yields) > 0)):
            raise InputError(
                f"the {name} yields must be finite and sum to something positive: "
                f"their sum is {float(jnp.sum(yields)):.6g}"
            )
    s, b = (safe_divide(x, jnp.sum(x)) for x in (s, b))
    both = s + b
    return 0.5 * jnp.sum(jnp.where(both > 0, safe_divide((s - b) ** 2, both), 0.0))
