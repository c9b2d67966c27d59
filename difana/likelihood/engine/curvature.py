r"""Value, gradient and curvature of the deviance in one pass: the engine of every fit.

Derivatives are written out, not traced: the graph stays small, and work and memory follow the
number of non-zero entries. Far from the minimum a fit uses the part of the curvature that cannot
be negative, :math:`J^T \mathrm{diag}(n/\lambda^2) J` plus the constraints with :math:`J =
\partial\lambda/\partial\theta`; near it the exact one.

A factor that acts in one bin only (a staterror or shapesys gamma) is *private* to it. At its
optimum it is the root of a quadratic equation, and eliminating it changes little but the weight
of the bin. Of the remaining *shared* parameters there are few.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from difana._numerics import safe_divide, take
from difana.likelihood._poisson import TINY, safe_log
from difana.likelihood.engine import _dense, _sparse
from difana.likelihood.engine._layout import Layout, layout_of
from difana.likelihood.engine._private import private_optimum
from difana.likelihood.model import Model

_SMALL = 1e-100  # stands for a factor of zero: its derivative is the product of the others


class Constants(NamedTuple):
    """What does not depend on the parameters: computed once before a loop."""

    widths: Float[Array, " constraints"]
    tau: Float[Array, " constraints"]
    entries: Any  # of the dense or the sparse room


class Evaluation(NamedTuple):
    """The deviance at one point, private factors at their optimum."""

    params: Float[Array, " params"]
    value: Float[Array, ""]
    gradient: Float[Array, " shared"]
    curvature: Float[Array, "shared shared"]
    lowest: Float[Array, ""]  # smallest expected yield of a bin
    impossible: Bool[Array, ""]  # a bin expects nothing where events were seen


def _room(layout: Layout) -> Any:
    return _dense if layout.dense else _sparse


def constants_of(model: Model, layout: Layout) -> Constants:
    """Return what an evaluation needs besides the parameters."""
    widths, tau = model.constraint_scales()
    return Constants(widths, tau, _room(layout).entries_of(model))


def hessian(
    model: Model, params: Float[Array, " params"], data: Float[Array, " data"]
) -> Float[Array, "params params"]:
    """Return the exact Hessian of half the deviance, which is that of the nll."""
    layout = layout_of(model.structure, eliminate=False)
    if layout.dense:
        free = jnp.zeros(params.size, bool)
        constants = constants_of(model, layout)
        near = jnp.ones((), bool)
        found = evaluate(model, constants, layout, params, data, free, near=near).curvature
        place = layout.column[:-1]
        return found[place[:, None], place]
    gradient = jax.grad(model.half_deviance)
    _, tangent = jax.linearize(lambda theta: gradient(theta, data), params)
    return jax.lax.map(tangent, jnp.eye(params.size, dtype=params.dtype), batch_size=16)


def evaluate(
    model: Model,
    constants: Constants,
    layout: Layout,
    params: Float[Array, " params"],
    data: Float[Array, " data"],
    free: Bool[Array, " params"],
    *,
    near: Bool[Array, ""],
) -> Evaluation:
    """Return value, gradient and curvature; ``free`` private factors move to their optimum.

    The curvature holds all terms where ``near`` (and the model is not too large), otherwise those
    that cannot be negative.
    """
    s, dtype, bins = model.structure, params.dtype, model.bins
    room = _room(layout)
    observed, auxiliary = data[:bins], data[bins:]
    masked = s.masked if s.masked.size else None
    if masked is not None:
        observed = jnp.where(masked, 0.0, observed)

    # yields of the rows, private factors left out
    safe = jnp.where(jnp.abs(params) < _SMALL, _SMALL, params)
    safe = jnp.concatenate([safe, jnp.ones(1, dtype)])
    additive, scale, memory = room.forward(model, constants.entries, params)
    for column in layout.factors.T:  # as many as the longest product of one row
        scale = scale * take(safe, column)
    rows = additive * scale

    # the private factor of each bin: gamma s + c is what the bin expects
    inner, rest = layout.sum_halves(rows)
    owner = layout.owner
    gamma = jnp.where(layout.eliminated, take(params, owner), 1.0)
    moves = layout.eliminated & take(free, owner)
    bend = jnp.ones(bins, dtype)  # second derivative of the private constraint
    if layout.eliminated.any():
        scales = (constants.widths, constants.tau)
        known = inner if masked is None else jnp.where(masked, 0.0, inner)
        best, bend = private_optimum(model, scales, layout, known, rest, data)
        low, high = take(model.lower, owner), take(model.upper, owner)
        gamma = jnp.where(moves, jnp.clip(best, low, high), gamma)
        moves = moves & (gamma > low) & (gamma < high)
        params = jnp.where(layout.is_private, take(gamma, layout.bin_of), params)
    rates = gamma * inner + rest

    # value, and derivatives with respect to the expected yields
    seen = observed > 0
    logs = safe_log(rates) - jnp.log(jnp.where(seen, observed, 1.0))
    terms = rates - observed - jnp.where(seen, observed * logs, 0.0)
    inverse = 1.0 / jnp.maximum(rates, TINY)
    pull = 1.0 - observed * inverse
    lowest = rates
    if masked is not None:  # without observed events these need no more
        terms, pull = jnp.where(masked, 0.0, terms), jnp.where(masked, 0.0, pull)
        lowest = jnp.where(masked, jnp.inf, rates)
    value = jnp.sum(terms)
    weight = jnp.where(rates > TINY, observed * inverse**2, 0.0)
    stiff = weight * inner**2 + bend

    # derivatives of the expected yields
    gammas = jnp.where(layout.row_private, take(gamma, s.row_bin), 1.0)
    scale, pulls = scale * gammas, take(pull, s.row_bin)
    rows = additive * scale
    slopes = room.derive(
        model, constants.entries, layout, memory, safe=safe, rows=rows, scale=scale, pulls=pulls
    )
    jacobian = slopes.jacobian
    gradient = pull @ jacobian
    lowered = jnp.where(moves, weight * safe_divide(bend, stiff), weight)

    def positive() -> Array:
        found = (jacobian * lowered[:, None]).T @ jacobian + jnp.diag(jnp.maximum(slopes.own, 0.0))
        return found if slopes.corners is None else found + slopes.corners()

    def exact() -> Array:
        # d^2/(d gamma d theta), eliminated as in the complement of Schur
        inside = safe_divide(pull, gamma)[:, None] * slopes.inside
        cross = (weight * inner)[:, None] * jacobian + inside
        lost = jnp.where(moves, safe_divide(jnp.ones_like(stiff), stiff), 0.0)
        left = jnp.concatenate([weight[:, None] * jacobian, -lost[:, None] * cross])
        return left.T @ jnp.concatenate([jacobian, cross]) + slopes.mixed()

    curvature = jax.lax.cond(near, exact, positive) if layout.dense else positive()
    if s.constrained.size:
        theta = take(params, s.constrained)
        value = value + model.constraint(theta, auxiliary, constants.widths, constants.tau)
        derivatives = _constraint_derivatives(model, constants, theta, auxiliary)
        padded = jnp.concatenate([derivatives, jnp.zeros((3, 1), dtype)], axis=1)
        first, sure, second = padded[:, s.constraint_of[layout.shared]]
        gradient = gradient + first
        curvature = curvature + jnp.diag(jnp.where(near & layout.dense, second, sure))
        if s.correlated.size:
            place = layout.column[s.constrained][s.correlated]
            width = constants.widths[s.correlated]
            joint = model.precision / (width[:, None] * width[None, :])
            curvature = curvature.at[np.ix_(place, place)].add(joint)
    impossible = jnp.any(seen & (rates <= TINY))
    return Evaluation(params, value, gradient, curvature, jnp.min(lowest), impossible)


def _constraint_derivatives(
    model: Model,
    constants: Constants,
    theta: Float[Array, " constraints"],
    auxiliary: Float[Array, " constraints"],
) -> Float[Array, "3 constraints"]:
    """Return first derivatives, curvature without negative terms, and second derivatives.

    The last two without those of correlated constraints.
    """
    s, widths, tau = model.structure, constants.widths, constants.tau
    first, second = (theta - auxiliary) / widths**2, 1.0 / widths**2
    if s.poisson.any():
        inverse = 1.0 / jnp.maximum(theta, TINY)
        first = jnp.where(s.poisson, tau - auxiliary * inverse, first)
        second = jnp.where(s.poisson, auxiliary * inverse**2, second)
    sure = second
    if s.lognormal.any():
        inverse = 1.0 / jnp.maximum(theta, TINY)
        pull, slope = (safe_log(theta) - safe_log(auxiliary)) / widths, inverse / widths
        first = jnp.where(s.lognormal, pull * slope, first)
        sure = jnp.where(s.lognormal, slope**2, sure)
        second = jnp.where(s.lognormal, slope**2 - pull * slope * inverse, second)
    if s.correlated.size:
        width = widths[s.correlated]
        joint = model.precision @ ((theta - auxiliary)[s.correlated] / width) / width
        first = first.at[s.correlated].set(joint)
        sure, second = sure.at[s.correlated].set(0.0), second.at[s.correlated].set(0.0)
    return jnp.stack([first, sure, second])
