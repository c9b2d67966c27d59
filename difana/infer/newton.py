"""A bounded Gauss-Newton minimiser for likelihoods: damping, active bounds, eliminated factors."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from difana._numerics import one_program, take
from difana._status import Status, flag
from difana.likelihood import Model
from difana.likelihood.engine.curvature import Evaluation, constants_of, evaluate, layout_of

MAX_STEPS = 5000
"""Steps at most: fits stop long before, when they have arrived or make no progress."""

_IDLE = 100  # steps without a lower value after which none is to be expected
_NEAR = 0.5  # expected decrease below which steps use all second derivatives
# The damping, relative to the diagonal: Levenberg and Marquardt's factor of ten down after success
# and up after failure; it starts at 1e-3 (a step shortened by as much), is zero below 1e-4 (full
# Newton steps, which converge quadratically), and at 1e12 no step is left.
_FACTOR, _FIRST_DAMPING, _LAST_DAMPING, _MOST_DAMPING = 10.0, 1e-3, 1e-4, 1e12
_UNDAMPED = 1e-2  # below: the step is that of Newton to 1 %, and so is the distance it promises
_ROUNDING = 8  # times eps and the sum of all terms: a rise that rounding alone may make
_ARRIVED = 32  # times eps: an expected decrease that can no longer be seen in the value


class Minimum(NamedTuple):
    """Where the minimiser stopped."""

    params: Float[Array, " params"]
    value: Float[Array, ""]
    gradient: Float[Array, " params"]  # zero for eliminated factors
    free: Bool[Array, " params"]  # neither held nor pressed against a bound
    distance: Float[Array, ""]  # estimated vertical distance to the minimum
    steps: Int[Array, ""]
    status: Int[Array, ""]


class _State(NamedTuple):
    best: Evaluation
    trial: Array
    damping: Array
    usable: Array
    distance: Array
    idle: Array  # steps since the value last fell
    steps: Array
    done: Array


@one_program
def masked_solve(
    hessian: Float[Array, "params params"],
    free: Bool[Array, " params"],
    vector: Float[Array, " params"],
    damping: Float[Array, ""] | float = 0.0,
) -> Float[Array, " params"]:
    """Solve ``(H + damping diag|H|) x = v`` among the free parameters; x = 0 for the others.

    Returns NaN where the matrix is not positive definite.
    """
    scale = jnp.where(free, jnp.abs(jnp.diagonal(hessian)), 1.0)
    scale = jnp.where(scale > 0, scale, 1.0)
    root = jnp.sqrt(scale)
    both = free[:, None] & free[None, :]
    scaled = jnp.where(both, hessian / (root[:, None] * root[None, :]), 0.0)
    scaled = scaled + jnp.diag(jnp.where(free, damping, 1.0))
    factor = jax.scipy.linalg.cho_factor(scaled, lower=True)
    return jax.scipy.linalg.cho_solve(factor, jnp.where(free, vector, 0.0) / root) / root


def minimise(
    model: Model,
    data: Float[Array, " data"],
    start: Float[Array, " params"],
    *,
    lower: Float[Array, " params"],
    upper: Float[Array, " params"],
    held: Bool[Array, " params"],
    max_steps: int = MAX_STEPS,
    eliminate: bool = True,
) -> Minimum:
    r"""Minimise the deviance of a model in a box by damped Gauss-Newton steps.

    Each step solves :math:`(H + d\,\mathrm{diag}|H|)\,s = -g` among the shared parameters that are
    neither held nor pressed against a bound, clips to the box, and is accepted when the deviance
    falls; the damping :math:`d` shrinks after success (to zero) and grows after failure. Private
    factors are eliminated (``eliminate``): they stand at their optimum at every step. It stops when
    the expected decrease :math:`g^T H^{-1} g / 2` is negligible. Not differentiable in itself: the
    callers apply the implicit function theorem.
    """
    eps = jnp.finfo(start.dtype).eps
    # the elimination must respect the bounds of this fit
    model = dataclasses.replace(model, lower=lower, upper=upper)
    layout = layout_of(model.structure, eliminate=eliminate)
    constants = constants_of(model, layout)
    shared, dtype = layout.shared, start.dtype
    size = len(shared)
    place = layout.column[:-1] % max(size, 1)
    terms = 1 + jnp.sum(jnp.abs(data[: model.bins]))  # the deviance is a difference of such
    low, high, still = (take(each, shared) for each in (lower, upper, held))

    def pressed(params: Array, gradient: Array) -> Array:
        here = take(params, shared)
        at_low, at_high = here <= low, here >= high
        return (at_low & (gradient > 0)) | (at_high & (gradient < 0))

    def body(state: _State) -> _State:
        near = state.usable & (state.distance < _NEAR)
        new = evaluate(model, constants, layout, state.trial, data, ~held, near=near)
        noise = _ROUNDING * eps * (terms + jnp.abs(new.value))
        good = jnp.isfinite(new.value) & jnp.all(jnp.isfinite(new.gradient))
        good = good & (new.value <= state.best.value + noise)
        first = state.steps == 0
        best = jax.tree.map(lambda a, b: jnp.where(good | first, a, b), new, state.best)
        fell = first | (best.value < state.best.value - noise)
        idle = jnp.where(fell, 0, state.idle + 1)
        relaxed = jnp.where(state.damping > _LAST_DAMPING, state.damping / _FACTOR, 0.0)
        firmer = jnp.maximum(_FACTOR * state.damping, _FIRST_DAMPING)
        damping = jnp.where(good, relaxed, firmer)
        damping = jnp.where(state.usable, damping, state.damping)
        free = ~still & ~pressed(best.params, best.gradient)
        step = masked_solve(best.curvature, free, best.gradient, damping)
        distance = 0.5 * jnp.sum(step * jnp.where(free, best.gradient, 0.0))
        usable = jnp.all(jnp.isfinite(step))  # NaN if indefinite: stay, and be careful
        firmer = jnp.maximum(_FACTOR * damping, _FIRST_DAMPING)
        damping = jnp.where(usable | near, damping, firmer)
        distance = jnp.where(usable & (distance >= 0), distance, jnp.inf)
        here = take(best.params, shared)
        moved = jnp.where(usable & ~still, jnp.clip(here - step, low, high), here)
        # after a step that rounding refused, the distance before it counts
        left = jnp.where(
            good & (damping < _UNDAMPED), distance, jnp.where(good, jnp.inf, state.distance)
        )
        done = left < _ARRIVED * eps * (1 + jnp.abs(best.value))
        done = done | (damping > _MOST_DAMPING) | (idle > _IDLE) | ~jnp.isfinite(best.value)
        trial = jnp.where(layout.is_private, best.params, take(moved, place))
        return _State(best, trial, damping, usable, distance, idle, state.steps + 1, done)

    params = jnp.where(held, start, jnp.clip(start, lower, upper))
    zero, infinite = jnp.zeros((), dtype), jnp.asarray(jnp.inf, dtype)
    square = jnp.eye(size, dtype=dtype)
    empty = Evaluation(params, infinite, jnp.zeros(size, dtype), square, zero, jnp.zeros((), bool))
    state = _State(
        empty,
        params,
        zero,
        jnp.ones((), bool),
        infinite,
        jnp.zeros((), jnp.int32),
        jnp.zeros((), jnp.int32),
        jnp.zeros((), bool),
    )
    state = jax.lax.while_loop(lambda s: ~s.done & (s.steps < max_steps), body, state)
    best = state.best
    at_bound = ~held & ((best.params <= lower) | (best.params >= upper))
    free = ~held & ~at_bound
    free = free.at[shared].set(~still & ~pressed(best.params, best.gradient))
    # a parameter that changes nothing
    flat = jnp.any(free[shared] & (jnp.diagonal(best.curvature) <= 0))
    finite = jnp.isfinite(best.value) & jnp.all(jnp.isfinite(best.gradient))
    converged = state.distance < 0.1 * jnp.sqrt(eps)  # 1.5e-9 in float64
    status = (
        flag(~finite, Status.NOT_FINITE)
        | flag(finite & ~converged, Status.NOT_CONVERGED)
        | flag(finite & ~jnp.isfinite(state.distance), Status.INDEFINITE)
        | flag(finite & flat, Status.NO_INFLUENCE)
        | flag(best.impossible, Status.IMPOSSIBLE)
        | flag(jnp.any(at_bound), Status.AT_BOUND)
        | flag(best.lowest < 0, Status.NEGATIVE_YIELD)
    )
    gradient = jnp.zeros_like(params).at[shared].set(best.gradient)
    return Minimum(best.params, best.value, gradient, free, state.distance, state.steps, status)
