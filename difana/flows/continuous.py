"""Continuous flows: a velocity field learned by flow matching."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from difana._typing import PyTree
from difana.nn import MLP

Pairing = Literal["independent", "transport"]
_SINKHORN = 50  # iterations
_BLUR = 0.05  # entropy of the plan, in units of the mean squared distance


class Continuous(eqx.Module):
    r"""Noise and data joined by the trajectories of a velocity field.

    .. math::
        \dot x = v(x, t, c), \quad
        \frac{d}{dt} \ln p = -\operatorname{tr} \frac{\partial v}{\partial x}, \quad
        L = \left\langle w \, |v(x_t, t, c) - (x_1 - x_0)|^2 \right\rangle, \quad
        x_t = (1 - t) x_0 + t x_1

    from noise :math:`x_0` at :math:`t = 0` to data at 1, by the classical Runge-Kutta method with a
    fixed number of steps in a ``lax.scan``: compile time and memory do not depend on the data, the
    map is differentiable, and no solver library is needed.

    Attributes:
        net: Velocity of columns, time and context.
        steps: Steps of the solver (static).
        pairing: How noise and data of a batch are paired in training (static).
        probes: Random directions of Hutchinson's estimate of the trace; 0: the exact one (static).
        dims: Number of columns (static).

    References:
        arXiv:2210.02747 (flow matching), arXiv:2302.00482 (optimal transport), arXiv:1810.01367.
    """

    net: PyTree
    dims: int = eqx.field(static=True)
    steps: int = eqx.field(static=True, default=20)
    pairing: Pairing = eqx.field(static=True, default="independent")
    probes: int = eqx.field(static=True, default=0)

    def velocity(self, x: Array, time: Array, context: Array) -> Array:
        """Return the velocity at ``x``, ``time`` (one a row)."""
        context = jnp.broadcast_to(context, (*x.shape[:-1], context.shape[-1])).astype(x.dtype)
        angles = time[..., None] * jnp.asarray([1.0, 2.0], x.dtype).reshape((1,) * time.ndim + (2,))
        clock = [time[..., None], jnp.sin(jnp.pi * angles), jnp.cos(jnp.pi * angles)]
        return self.net(jnp.concatenate([x, *clock, context], axis=-1)).astype(x.dtype)

    def forward(self, x: Array, context: Array) -> tuple[Array, Array]:
        """Return noise and log determinant of standardised columns."""
        directions = self._directions(x)

        def rate(state: tuple, time: Array) -> tuple[Array, Array]:
            values, _ = state

            def field(at: Array) -> Array:
                return self.velocity(at, jnp.broadcast_to(time, at.shape[:-1]), context)

            def along(direction: Array) -> tuple[Array, Array]:
                speed, change = jax.jvp(field, (values,), (direction,))
                return speed, jnp.sum(change * direction, axis=-1)

            speed, traces = jax.vmap(along)(directions)
            count = self.probes or 1
            return speed[0], jnp.sum(traces, axis=0) / count

        start = (x, jnp.zeros(x.shape[:-1], x.dtype))
        # ln p(x_1) = ln p(x_0) - integral of the trace from 0 to 1
        return self._solved(rate, start, begin=1.0, end=0.0)

    def inverse(self, z: Array, context: Array) -> Array:
        """Return the columns of noise."""

        def rate(state: tuple, time: Array) -> tuple[Array]:
            (values,) = state
            return (self.velocity(values, jnp.broadcast_to(time, values.shape[:-1]), context),)

        return self._solved(rate, (z,), begin=0.0, end=1.0)[0]

    def base_log_prob(self, z: Float[Array, "*rows dims"]) -> Float[Array, "*rows"]:
        """Return the log density of the noise."""
        return jnp.sum(-0.5 * z * z - 0.5 * jnp.log(2 * jnp.asarray(jnp.pi, z.dtype)), axis=-1)

    def from_normal(self, noise: Float[Array, "*rows dims"]) -> Float[Array, "*rows dims"]:
        """Return the noise."""
        return noise

    def losses(
        self, x: Float[Array, "rows dims"], context: Array, key: PRNGKeyArray
    ) -> Float[Array, " rows"]:
        """Return the flow-matching loss of each row."""
        key_time, key_noise, key_pair = jax.random.split(key, 3)
        # stratified in time: less variance than independent draws
        start = jax.random.uniform(key_time, (), x.dtype)
        time = jnp.mod(start + jnp.arange(len(x), dtype=x.dtype) / len(x), 1.0)
        time = jax.random.permutation(jax.random.fold_in(key_time, 1), time)
        noise = jax.random.normal(key_noise, x.shape, x.dtype)
        if self.pairing == "transport":
            noise = noise[transport_pairs(noise, x, key=key_pair)]
        at = (1 - time[:, None]) * noise + time[:, None] * x
        return jnp.sum((self.velocity(at, time, context) - (x - noise)) ** 2, axis=-1)

    def fresh(self, key: PRNGKeyArray) -> Continuous:
        """Return a new velocity field of the same shapes."""
        kernels = [layer.kernel[...] for layer in self.net.layers]
        widths = [kernel.shape[1] for kernel in kernels]
        net = velocity_net(len(kernels[0]), tuple(widths[:-1]), self.dims, key=key)
        return eqx.tree_at(lambda body: body.net, self, net)

    def _directions(self, x: Array) -> Array:
        if not self.probes:
            eye = jnp.eye(self.dims, dtype=x.dtype)
            eye = eye.reshape(self.dims, *(1,) * (x.ndim - 1), self.dims)
            return jnp.broadcast_to(eye, (self.dims, *x.shape))
        # the same directions for every call: a density is a function
        return jax.random.rademacher(jax.random.key(0), (self.probes, *x.shape), x.dtype)

    def _solved(self, rate: Callable, start: tuple, *, begin: float, end: float) -> tuple:
        step = (end - begin) / self.steps
        dtype = start[0].dtype

        def moved(state: tuple, rates: tuple, by: float) -> tuple:
            return tuple(s + by * r for s, r in zip(state, rates, strict=True))

        def one(state: tuple, index: Array) -> tuple[tuple, None]:
            time = jnp.asarray(begin, dtype) + index.astype(dtype) * step
            k1 = rate(state, time)
            k2 = rate(moved(state, k1, step / 2), time + step / 2)
            k3 = rate(moved(state, k2, step / 2), time + step / 2)
            k4 = rate(moved(state, k3, step), time + step)
            slopes = tuple(a + 2 * b + 2 * c + d for a, b, c, d in zip(k1, k2, k3, k4, strict=True))
            return moved(state, slopes, step / 6), None

        return jax.lax.scan(one, start, jnp.arange(self.steps))[0]


def velocity_net(size: int, hidden: tuple[int, ...], dims: int, *, key: PRNGKeyArray) -> MLP:
    """Return a network whose velocity is zero at the start."""
    net = MLP(size, hidden, dims, activation="silu", key=key)
    kernel = net.layers[-1].kernel
    kernel[...] = jnp.zeros_like(kernel[...])
    return net


def transport_pairs(
    noise: Float[Array, "rows dims"], x: Float[Array, "rows dims"], *, key: PRNGKeyArray
) -> Array:
    """Return the row of the noise for each row of the data, drawn from a transport plan.

    The plan is the entropic one of Sinkhorn's iteration, with a blur of a twentieth of the mean
    squared distance; trajectories are straighter, and fewer steps of the solver are enough.

    Example:
        >>> x = jnp.array([[0.0], [9.0]])
        >>> transport_pairs(jnp.array([[8.0], [1.0]]), x, key=jax.random.key(0)).tolist()
        [1, 0]
    """
    cost = jnp.sum((x[:, None, :] - noise[None, :, :]) ** 2, axis=-1)
    log_kernel = -cost / (_BLUR * jnp.mean(cost) + jnp.finfo(cost.dtype).tiny)

    def iterate(_: int, dual: Array) -> Array:
        rows = -jax.nn.logsumexp(log_kernel + dual[None, :], axis=1)
        return -jax.nn.logsumexp(log_kernel + rows[:, None], axis=0)

    dual = jax.lax.fori_loop(0, _SINKHORN, iterate, jnp.zeros(len(x), cost.dtype))
    return jax.random.categorical(key, log_kernel + dual[None, :], axis=1)
