"""The best private factors of all bins, in closed form."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._numerics import safe_divide, take
from difana.likelihood._poisson import TINY
from difana.likelihood.engine._layout import Layout
from difana.likelihood.model import Model


def private_optimum(
    model: Model,
    scales: tuple[Float[Array, " constraints"], Float[Array, " constraints"]],
    layout: Layout,
    inner: Float[Array, " bins"],
    rest: Float[Array, " bins"],
    data: Float[Array, " data"],
) -> tuple[Float[Array, " bins"], Float[Array, " bins"]]:
    r"""Return the best private factors, and the second derivatives of their constraints there.

    :math:`\gamma s - n\ln(\gamma s + c) + C(\gamma)` is stationary where a quadratic in
    :math:`\gamma` vanishes: for the Gaussian :math:`C = (\gamma-a)^2/2\delta^2`, the Poisson one
    :math:`C = \tau\gamma - m\ln\gamma` and none. Its root with positive yield is taken.

    References:
        R. Barlow, C. Beeston, Comput. Phys. Commun. 77 (1993) 219; one factor a bin: J. S. Conway,
        arXiv:1103.0354.
    """
    s = model.structure
    own = s.constraint_of[layout.owner]
    bound = own < s.constrained.size
    counts = data[: model.bins]
    zero = jnp.zeros_like(inner)
    if not (bound & layout.eliminated).any():
        return safe_divide(counts - rest, inner, 1.0), zero
    own = np.where(bound, own, 0)
    poisson = s.poisson[own]
    widths, taus = scales
    aux, tau, variance = take(data, model.bins + own), take(taus, own), take(widths, own) ** 2
    shift = rest + inner * (inner * variance - aux)
    cases = (
        (inner, inner * (inner + tau), zero),
        (shift, (inner + tau) * rest - (counts + aux) * inner, inner),
        (
            rest * (inner * variance - aux) - counts * inner * variance,
            -aux * rest,
            rest - counts,
        ),
    )
    a, b, c = (
        jnp.where(bound, jnp.where(poisson, of_poisson, gaussian), free)
        for gaussian, of_poisson, free in cases
    )
    root = jnp.sqrt(jnp.maximum(b * b - 4.0 * a * c, 0.0))
    falling = b > 0  # either form of the root, without cancellation
    found = safe_divide(
        jnp.where(falling, -2.0 * c, root - b), jnp.where(falling, b + root, 2.0 * a), 1.0
    )
    alone = jnp.where(bound, jnp.where(poisson, aux / tau, aux), 1.0)
    found = jnp.where(inner == 0, alone, found)
    positive = jnp.maximum(found, TINY)
    bend = jnp.where(poisson, aux / positive**2, 1.0 / variance)
    return found, jnp.where(bound, bend, 0.0)
