"""Neural importance sampling: integrals and events by flows of several channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from difana._errors import ConfigError, InputError, nearest
from difana._options import whole_number
from difana._typing import PyTree
from difana.flows._body import Recipe, Stack
from difana.flows._transformers import Transformer
from difana.flows.fit import clipped
from difana.flows.importance_losses import LOSSES
from difana.flows.integral import Integral, Points
from difana.nn import MLP
from difana.train import AbstractOneTraining, Step, Training, TrainResult, minimise

Integrand = Callable[[Array], Array]
Mapping = Callable[[Array], tuple[Array, Array]]
_BLOCK = 100_000  # points at once


class Integrator(eqx.Module):
    r"""Integrates by points from flows, one a channel, with trained channel weights.

    .. math::
        I = \sum_i \int du\; \alpha_i(x_i(u))\, f(x_i(u))\,
            \Big| \frac{\partial x_i}{\partial u} \Big|, \qquad
        \alpha_i = \operatorname{softmax}_i (\beta_i + \text{net}_i(x))

    with :math:`u` in the unit cube, drawn from the flow of the channel. Any weights that add up to
    one give the same integral, good ones give little variance.

    Attributes:
        flows: Layers on the cube, their leaves with an axis of channels.
        net: Network of the channel weights; None for one channel.
        prior: :math:`\beta`, ``[channels]``.
        active: Channels in use.
        integrand: The function ``x [points, dims] -> [points]`` (static).
        channels: Functions ``u -> (x, log Jacobian)``, one a channel (static).
        dims: Dimensions of the cube (static).

    References:
        arXiv:2212.06172, arXiv:2311.01548 (MadNIS).
    """

    flows: Stack
    net: PyTree
    prior: Float[Array, " channels"]
    active: Bool[Array, " channels"]
    integrand: Integrand = eqx.field(static=True)
    channels: tuple[Mapping, ...] = eqx.field(static=True)
    dims: int = eqx.field(static=True)

    def trained(self) -> PyTree:
        """Return True for each trained leaf: those of flows and channel weights."""
        marked = jax.tree.map(lambda _: False, self)
        own = jax.tree.map(eqx.is_inexact_array, (self.flows, self.net))
        return eqx.tree_at(lambda one: (one.flows, one.net), marked, own,
                           is_leaf=lambda leaf: leaf is None)  # fmt: skip

    def channel_weights(self, x: Float[Array, "points dims"]) -> Float[Array, "points channels"]:
        """Return the weights of the channels at points; they add up to one."""
        logits = jnp.broadcast_to(self.prior, (len(x), len(self.prior)))
        if self.net is not None:
            logits = logits + self.net(x).astype(logits.dtype)
        off = jnp.broadcast_to(~self.active, logits.shape)
        return jax.nn.softmax(jnp.where(off, -jnp.inf, logits), axis=-1)

    def points(self, *, key: PRNGKeyArray, number: int) -> Points:
        """Return so many weighted points of each channel."""
        u, q = self.drawn(key, number)
        x, f = self.weighted(u)
        return Points(x, f / q)

    def drawn(self, key: PRNGKeyArray, number: int) -> tuple[Array, Array]:
        """Return points in the cube and their densities, ``[channels, number]``."""
        shape = (len(self.channels), number, self.dims)
        z = jax.random.uniform(key, shape, jnp.float32, -1, 1)
        u = jax.vmap(lambda flow, z: flow.inverse(z, _nothing(z)))(self.flows, z)
        u = jnp.clip((u + 1) / 2, 1e-7, 1 - 1e-7)
        return u, self.densities(u)

    def densities(self, u: Float[Array, "channels points dims"]) -> Float[Array, "channels points"]:
        """Return the densities of the flows at points in the cube."""
        forward = jax.vmap(lambda flow, v: flow.forward(v, _nothing(v))[1])
        return jnp.exp(forward(self.flows, 2 * u - 1))

    def weighted(self, u: Float[Array, "channels points dims"]) -> tuple[Array, Array]:
        """Return where the points lie, and integrand times Jacobian times channel weight."""
        xs, fs = [], []
        for number, channel in enumerate(self.channels):
            x, log_jacobian = channel(u[number])
            alpha = self.channel_weights(x)[:, number]
            fs.append(alpha * self.integrand(x) * jnp.exp(log_jacobian))
            xs.append(x)
        return jnp.stack(xs), jnp.stack(fs)

    def integrate(self, *, key: PRNGKeyArray, number: int = 100_000) -> Integral:
        """Return the integral, of about so many points, shared out by a first tenth of them.

        Raises:
            ConfigError: If the number makes no sense.
            InputError: If the integrand is not finite somewhere.
        """
        whole_number("number", number, least=100)
        key_first, key_rest = jax.random.split(key)
        count = len(self.channels)
        first = np.asarray(_weights(self, key_first, max(50, number // (10 * count))), np.float64)
        _refuse_infinite(first)
        spread = first.std(axis=1) + 1e-3 * np.abs(first).mean(axis=1)
        share = spread / spread.sum() if spread.sum() > 0 else np.full(count, 1 / count)
        wanted = np.maximum(50, np.ceil(0.9 * number * share)).astype(int)
        rest: list[list[np.ndarray]] = [[] for _ in range(count)]
        for block in range(-(-int(wanted.max()) // _BLOCK)):
            size = min(_BLOCK, int(wanted.max()))
            found = np.asarray(_weights(self, jax.random.fold_in(key_rest, block), size))
            for one, kept in enumerate(rest):
                kept.append(found[one, : max(0, wanted[one] - block * size)])
        each = [np.concatenate(kept).astype(np.float64) for kept in rest]
        _refuse_infinite(np.concatenate(each))
        active = np.asarray(self.active)
        each = [w if active[i] else np.zeros(1) for i, w in enumerate(each)]
        value = sum(w.mean() for w in each)
        error = np.sqrt(sum(w.var() / len(w) for w in each))
        size = np.array([np.abs(w).mean() for w in each])
        largest = np.array([np.abs(w).max() for w in each])
        deviation = sum(w.std() for w in each) / abs(value) if value else np.inf
        return Integral(
            *map(jnp.asarray, (value, error, deviation, size / size.sum(),
                               size.sum() / largest.sum()))
        )  # fmt: skip

    def without_small_channels(self, integral: Integral, *, least: float = 1e-3) -> Integrator:
        """Return the integrator without channels that hold less than a share of the integral.

        The others take their weight, so the integral stays the same.
        """
        active = self.active & (integral.shares >= least)
        return eqx.tree_at(lambda one: one.active, self, active)


def integrator(
    integrand: Integrand,
    dims: int,
    *,
    key: PRNGKeyArray,
    channels: Sequence[Mapping] = (),
    prior: Sequence[float] | None = None,
    layers: int = 4,
    hidden: Sequence[int] = (32, 32),
    bins: int = 10,
) -> Integrator:
    """Return an integrator whose points are uniform in the cube, to be trained.

    Args:
        integrand: Function of points ``[points, dims]``, in JAX.
        dims: Dimensions of the cube.
        key: Random key of the networks.
        channels: Functions from the cube to where the integrand lives: ``u -> (x, log Jacobian)``.
            None: the cube itself.
        prior: Weights of the channels before the training.
        layers: Coupling layers of each flow.
        hidden: Widths of the hidden layers of all networks.
        bins: Bins of each spline.

    Raises:
        ConfigError: If a number makes no sense.

    Example:
        >>> one = integrator(lambda x: 2 * x[:, 0], 1, key=jax.random.key(0), layers=1)
        >>> found = one.integrate(key=jax.random.key(1), number=10_000)
        >>> bool(abs(found.value - 1) < 5 * found.error)
        True
    """
    dims, layers = whole_number("dims", dims), whole_number("layers", layers)
    mappings = tuple(channels) or (_cube,)
    share = np.ones(len(mappings)) if prior is None else np.asarray(prior, np.float64)
    if share.shape != (len(mappings),) or not (share > 0).all():
        raise ConfigError(f"prior = {prior}: give one positive number for each channel.")
    key_flows, key_net = jax.random.split(key)
    transformer = Transformer("spline", whole_number("bins", bins, least=2), 1.0, "free")
    recipe = Recipe("coupling", dims, 0, layers, tuple(hidden), transformer)
    flows = jax.vmap(lambda one: eqx.filter(recipe.make(one), eqx.is_inexact_array))(
        jax.random.split(key_flows, len(mappings))
    )
    flows = eqx.combine(flows, eqx.filter(recipe.make(key), eqx.is_inexact_array, inverse=True))
    orders = np.broadcast_to(flows.layers.order, (len(mappings), *flows.layers.order.shape))
    flows = eqx.tree_at(lambda one: one.layers.order, flows, jnp.asarray(orders))
    net = None
    if len(mappings) > 1:
        where = jax.eval_shape(lambda u: mappings[0](u)[0], jnp.zeros((2, dims))).shape[1]
        net = MLP(where, tuple(hidden), len(mappings), activation="silu", key=key_net)
        kernel = net.layers[-1].kernel
        kernel[...] = jnp.zeros_like(kernel[...])
    return Integrator(
        flows, net, jnp.asarray(np.log(share / share.sum()), jnp.float32),
        jnp.ones(len(mappings), bool), integrand, mappings, dims,
    )  # fmt: skip


class IntegratorResult(AbstractOneTraining):
    """A trained integrator.

    Attributes:
        integrator: The integrator after the last step.
        training: The record of the training.
    """

    integrator: Integrator
    training: TrainResult


def fit_integrator(
    start: Integrator,
    *,
    key: PRNGKeyArray,
    loss: Literal["stratified_variance", "variance", "kl_divergence"] = "stratified_variance",
    training: Training = Training(steps=500, batch_size=1024, learning_rate=1e-2),
    replay: int = 0,
    progress_bar: bool = False,
) -> IntegratorResult:
    """Train flows and channel weights of an integrator.

    Args:
        start: The integrator.
        key: Random key of the points.
        loss: What is minimised.
        training: Options: ``steps`` and ``batch_size``, points of each channel, are needed.
        replay: Batches kept and used again, with the densities of which they were drawn: each step
            sees its own points and one of these batches, which costs no evaluation.
        progress_bar: Show a bar.

    Returns:
        The trained integrator.

    Raises:
        ConfigError: If an option makes no sense.
    """
    if loss not in LOSSES:
        raise ConfigError(f"loss = '{loss}': choose one of {list(LOSSES)}.{nearest(loss, LOSSES)}")
    if training.steps is None or training.batch_size is None:
        raise ConfigError("training: an integrator needs Training(steps=..., batch_size=...).")
    replay = whole_number("replay", replay, least=0)
    number, function = training.batch_size, LOSSES[loss]

    def value(one: Integrator, batch: Any, step: Step, memory: Any = None) -> Any:
        fixed = jax.lax.stop_gradient(one)
        u, q_sample = fixed.drawn(step.key, number)
        if replay:
            slot = jnp.mod(step.index, replay)
            old = [jax.lax.dynamic_index_in_dim(part, slot, keepdims=False) for part in memory]
            fresh = step.index < replay  # nothing is kept in this place yet
            own = (u, q_sample)
            old = [jnp.where(fresh, new, kept) for new, kept in zip(own, old, strict=True)]
            memory = tuple(
                jax.lax.dynamic_update_index_in_dim(part, new, slot, 0)
                for part, new in zip(memory, own, strict=True)
            )
            u, q_sample = (jnp.concatenate(pair, axis=1) for pair in zip(own, old, strict=True))
        f = one.weighted(u)[1]
        found = function(f, one.densities(u), jax.lax.stop_gradient(q_sample))
        return (found, {}) if not replay else (found, {}, memory)

    count = len(start.channels)
    kept = (
        jnp.zeros((replay, count, number, start.dims), jnp.float32),
        jnp.ones((replay, count, number), jnp.float32),
    )
    found = minimise(
        value,
        start,
        _no_rows,
        steps=training.steps,
        optimizer=clipped(training.optimizer(training.steps)),
        key=key,
        trained=start.trained(),
        memory=kept if replay else None,
        average=training.average,
        stage="integrator",
        progress_bar=progress_bar,
    )
    return IntegratorResult(found.trainable, found)


@eqx.filter_jit
def _weights(one: Integrator, key: Array, number: int) -> Array:
    return one.points(key=key, number=number).weights


def _refuse_infinite(weights: np.ndarray) -> None:
    if not np.isfinite(weights).all():
        raise InputError("the integrand is not finite at some points: repair it there")


def _cube(u: Array) -> tuple[Array, Array]:
    return u, jnp.zeros(u.shape[:-1], u.dtype)


def _nothing(z: Array) -> Array:
    return jnp.zeros((*z.shape[:-1], 0), z.dtype)


def _no_rows(index: int) -> tuple:
    return ()
