"""A bounded Newton minimiser for likelihoods: exact Hessian, damping, active bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from difana.infer.status import Status, flag


class Minimum(NamedTuple):
    """Where the minimiser stopped."""

    params: Float[Array, " params"]
    value: Float[Array, ""]
    gradient: Float[Array, " params"]
    hessian: Float[Array, "params params"]
    free: Bool[Array, " params"]  # neither held nor pressed against a bound
    distance: Float[Array, ""]  # estimated vertical distance to the minimum
    steps: Int[Array, ""]
    status: Int[Array, ""]


class _State(NamedTuple):
    params: Array
    value: Array
    gradient: Array
    hessian: Array
    trial: Array
    damping: Array
    usable: Array
    distance: Array
    steps: Array
    done: Array


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
    function: Callable[[Float[Array, " params"]], Float[Array, ""]],
    start: Float[Array, " params"],
    *,
    lower: Float[Array, " params"],
    upper: Float[Array, " params"],
    held: Bool[Array, " params"],
    max_steps: int = 100,
) -> Minimum:
    r"""Minimise a smooth function in a box by damped Newton steps.

    Each step solves :math:`(H + d\,\mathrm{diag}|H|)\,s = -g` among the parameters that are
    neither held nor pressed against a bound, clips to the box, and is accepted when the function
    falls; the damping :math:`d` shrinks after success (to zero: quadratic convergence) and grows
    after failure. It stops when the expected decrease :math:`g^T H^{-1} g / 2` is negligible.
    Not differentiable in itself: the callers apply the implicit function theorem.
    """
    eps = jnp.finfo(start.dtype).eps
    size, dtype = start.shape[0], start.dtype
    directions = jnp.eye(size, dtype=dtype)

    def free_of(params: Array, gradient: Array) -> Array:
        pressed = ((params <= lower) & (gradient > 0)) | ((params >= upper) & (gradient < 0))
        return ~held & ~pressed

    def body(state: _State) -> _State:
        # the only place that evaluates the function: graph size is compile time
        (value, gradient), tangent = jax.linearize(jax.value_and_grad(function), state.trial)
        hessian = jax.vmap(lambda direction: tangent(direction)[1])(directions)
        noise = 8 * eps * (1 + jnp.abs(value))
        good = jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient))
        good = good & (value <= state.value + noise)
        first = state.steps == 0
        keep = good | first
        params = jnp.where(keep, state.trial, state.params)
        value = jnp.where(keep, value, state.value)
        gradient = jnp.where(keep, gradient, state.gradient)
        hessian = jnp.where(keep, hessian, state.hessian)
        relaxed = jnp.where(state.damping > 1e-4, state.damping * 0.1, 0.0)
        damping = jnp.where(good & state.usable, relaxed, jnp.maximum(10 * state.damping, 1e-3))
        free = free_of(params, gradient)
        newton, damped = jax.vmap(lambda d: masked_solve(hessian, free, gradient, d))(
            jnp.stack([jnp.zeros_like(damping), damping])
        )
        distance = 0.5 * jnp.sum(newton * jnp.where(free, gradient, 0.0))
        distance = jnp.where(jnp.isfinite(distance) & (distance >= 0), distance, jnp.inf)
        usable = jnp.all(jnp.isfinite(damped))  # NaN if indefinite: stay, then damp more
        trial = jnp.where(usable & ~held, jnp.clip(params - damped, lower, upper), params)
        done = (distance < eps * (1 + jnp.abs(value))) | (damping > 1e12) | ~jnp.isfinite(value)
        return _State(
            params,
            value,
            gradient,
            hessian,
            trial,
            damping,
            usable,
            distance,
            state.steps + 1,
            done,
        )

    params = jnp.where(held, start, jnp.clip(start, lower, upper))
    infinite = jnp.asarray(jnp.inf, dtype)
    state = _State(
        params,
        infinite,
        jnp.zeros_like(params),
        directions,
        params,
        jnp.zeros((), dtype),
        jnp.ones((), bool),
        infinite,
        jnp.zeros((), jnp.int32),
        jnp.zeros((), bool),
    )
    state = jax.lax.while_loop(lambda s: ~s.done & (s.steps < max_steps), body, state)
    free = free_of(state.params, state.gradient)
    finite = jnp.isfinite(state.value) & jnp.all(jnp.isfinite(state.gradient))
    at_bound = jnp.any(~held & ((state.params <= lower) | (state.params >= upper)))
    converged = state.distance < 0.1 * jnp.sqrt(eps)  # 1.5e-9 in float64
    status = (
        flag(~finite, Status.NOT_FINITE)
        | flag(finite & ~converged, Status.NOT_CONVERGED)
        | flag(finite & ~jnp.isfinite(state.distance), Status.INDEFINITE)
        | flag(at_bound, Status.AT_BOUND)
    )
    return Minimum(
        state.params,
        state.value,
        state.gradient,
        state.hessian,
        free,
        state.distance,
        state.steps,
        status,
    )
