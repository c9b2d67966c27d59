"""A conditional flow of coupling layers with rational-quadratic splines."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from difana._errors import ConfigError, InputError
from difana._typing import PyTree
from difana.flows._coupling import coupling, distrax
from difana.nn import MLP


class SplineFlow(eqx.Module):
    r"""A conditional density :math:`p(x \mid c)`; made by ``spline_flow``.

    $$ p(x \mid c) = N(f_c(x);\, 0, 1)\, \Big|\det \frac{\partial f_c}{\partial x}\Big| $$

    with :math:`f_c` a product of coupling layers after a standardisation of :math:`x`. All layers
    are one layer in a ``lax.scan``: the graph does not grow with their number.

    Attributes:
        nets: Conditioner networks, their leaves stacked along the layers.
        masks: True where a layer lets a value pass, ``[layers, dims]``.
        mean: Mean of ``x``, ``[dims]``.
        std: Its standard deviation.
        given_mean: Mean of the context, ``[given]``.
        given_std: Its standard deviation.
        bound: The splines act on ``[-bound, bound]`` of the standardised values (static).
    """

    nets: PyTree
    masks: Bool[Array | np.ndarray, "layers dims"]
    mean: Float[Array | np.ndarray, " dims"]
    std: Float[Array | np.ndarray, " dims"]
    given_mean: Float[Array | np.ndarray, " given"]
    given_std: Float[Array | np.ndarray, " given"]
    bound: float = eqx.field(static=True)

    def trained(self) -> PyTree:
        """Return True for each trained leaf: those of the conditioners."""
        constants = jax.tree.map(lambda _: False, self)
        return eqx.tree_at(
            lambda flow: flow.nets, constants, jax.tree.map(eqx.is_inexact_array, self.nets)
        )

    def log_prob(
        self, x: Float[Array, "events dims"], given: Float[Array, "events given"]
    ) -> Float[Array, " events"]:
        r"""Return :math:`\ln p(x \mid c)` of each event; differentiable in all arguments.

        Raises:
            InputError: If the numbers of columns are not those of the flow.
        """
        self._check(x, given)
        values = (x - self._like(self.mean, x)) / self._like(self.std, x)
        context = self._context(given)

        def layer(carry: tuple, one: tuple) -> tuple[tuple, None]:
            values, total = carry
            values, log_det = self._layer(one, context).forward_and_log_det(values)
            return (values, total + log_det), None

        leaves, _ = eqx.partition(self.nets, eqx.is_array)
        start = (values, jnp.zeros(values.shape[:-1], values.dtype))
        (values, total), _ = jax.lax.scan(layer, start, (leaves, jnp.asarray(self.masks)))
        scale = jnp.sum(jnp.log(self._like(self.std, x)))
        return self._base(values).log_prob(values) + total - scale

    def sample(
        self,
        given: Float[Array, "events given"],
        *,
        key: PRNGKeyArray,
        samples: int = 1,
        chunk: int = 4096,
    ) -> Float[Array, "events samples dims"]:
        """Return draws of ``x`` for each event; differentiable in the context and the flow.

        Args:
            given: Contexts.
            key: Random key; the draws of event ``i`` depend on ``key`` and ``i`` only.
            samples: Number of draws an event.
            chunk: Events handled at once.

        Raises:
            InputError: If the number of columns is not that of the flow.
        """
        self._check(None, given)
        leaves, _ = eqx.partition(self.nets, eqx.is_array)
        layers = (leaves, jnp.asarray(self.masks))
        dtype = given.dtype

        def event(one: tuple[Array, Array]) -> Array:
            index, context = one
            shape = (samples, len(self.mean))
            values = jax.random.normal(jax.random.fold_in(key, index), shape, dtype)

            def layer(values: Array, net: tuple) -> tuple[Array, None]:
                return self._layer(net, context).inverse(values), None

            return jax.lax.scan(layer, values, layers, reverse=True)[0]

        rows = (jnp.arange(len(given)), self._context(given))
        values = jax.lax.map(event, rows, batch_size=min(chunk, len(given)))
        return values * self._like(self.std, given) + self._like(self.mean, given)

    def _layer(self, one: tuple[PyTree, Array], context: Array) -> PyTree:
        leaves, mask = one
        _, static = eqx.partition(self.nets, eqx.is_array)
        return coupling(eqx.combine(leaves, static), mask, context, bound=self.bound)

    def _context(self, given: Array) -> Array:
        return (given - self._like(self.given_mean, given)) / self._like(self.given_std, given)

    def _like(self, constant: Array | np.ndarray, x: Array) -> Array:
        return jax.lax.stop_gradient(jnp.asarray(constant, x.dtype))

    def _base(self, values: Array) -> PyTree:
        dims = values.shape[-1]
        return distrax().MultivariateNormalDiag(
            jnp.zeros(dims, values.dtype), jnp.ones(dims, values.dtype)
        )

    def _check(self, x: Array | None, given: Array) -> None:
        dims, context = len(self.mean), len(self.given_mean)
        if x is not None and (x.ndim != 2 or x.shape[1] != dims):
            raise InputError(f"x has shape {x.shape}, the flow {dims} columns")
        if given.ndim != 2 or given.shape[1] != context:
            raise InputError(f"the context has shape {given.shape}, the flow takes {context}")


def spline_flow(
    x: Float[Array, "events dims"],
    given: Float[Array, "events context"],
    *,
    key: PRNGKeyArray,
    weights: Float[Array, " events"] | None = None,
    layers: int = 4,
    bins: int = 8,
    hidden: tuple[int, ...] = (64, 64),
    bound: float = 6.0,
) -> SplineFlow:
    """Return a flow that is a normal distribution of the mean and width of ``x``.

    Args:
        x: Values whose density is wanted, ``[events, dims]``; they set the standardisation.
        given: What they are conditioned on, ``[events, context]``.
        key: Random key of the conditioners.
        weights: Weights of the events in the standardisation.
        layers: Number of coupling layers. Half of the columns (another half in each layer) pass; a
            single column is transformed in every layer.
        bins: Bins of each spline.
        hidden: Widths of the hidden layers of the conditioners.
        bound: Range of the splines in standard deviations; outside a layer is the identity.

    Returns:
        The flow, to be trained by ``fit_flow``.

    Raises:
        ConfigError: If a number makes no sense.
        InputError: If the shapes are wrong or a number is not finite.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> x = jnp.linspace(-1, 1, 8).reshape(4, 2)
        >>> flow = spline_flow(x, x[:, :1], key=jax.random.key(0), layers=2, hidden=(4,))
        >>> flow.masks.tolist()
        [[True, False], [False, True]]

    References:
        C. Durkan et al., arXiv:1906.04032; as the conditional network of arXiv:2006.06685.
    """
    if layers < 1 or bins < 2 or not bound > 0:
        raise ConfigError(
            f"layers = {layers}, bins = {bins}, bound = {bound}: at least one layer, two bins and"
            " a positive bound are needed"
        )
    if jnp.ndim(x) != 2 or jnp.ndim(given) != 2 or len(x) != len(given):
        raise InputError(
            f"x has shape {jnp.shape(x)} and the context {jnp.shape(given)}: give columns of the"
            " same events"
        )
    mean, std = _moments(x, weights, "x")
    given_mean, given_std = _moments(given, weights, "context")
    dims, size = len(mean), len(given_mean) + len(mean)
    keys = jax.random.split(key, layers)
    nets = []
    for one in keys:
        net = MLP(size, hidden, dims * (3 * bins + 1), activation="silu", key=one)
        # zero parameters make an identity: the flow starts as the base distribution
        kernel = net.layers[-1].kernel
        kernel[...] = jnp.zeros_like(kernel[...])
        nets.append(net)
    parts = [eqx.partition(net, eqx.is_array) for net in nets]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(part for part, _ in parts))
    return SplineFlow(
        nets=eqx.combine(stacked, parts[0][1]),
        masks=_masks(layers, dims),
        mean=mean,
        std=std,
        given_mean=given_mean,
        given_std=given_std,
        bound=float(bound),
    )


def _masks(layers: int, dims: int) -> np.ndarray:
    """Return masks in pairs of complements, so that two layers transform every column."""
    if dims == 1:
        return np.zeros((layers, 1), bool)
    rows = []
    for layer in range(layers):
        order = np.random.default_rng(layer // 2).permutation(dims) if layer > 1 else range(dims)
        mask = np.isin(np.arange(dims), list(order)[: (dims + 1) // 2])
        rows.append(mask if layer % 2 == 0 else ~mask)
    return np.stack(rows)


def _moments(x: Array, weights: Array | None, name: str) -> tuple[np.ndarray, np.ndarray]:
    values = np.asarray(x, np.float64)
    w = np.ones(len(values)) if weights is None else np.abs(np.asarray(weights, np.float64))
    if not np.isfinite(values).all() or not np.isfinite(w).all() or w.sum() == 0:
        raise InputError(f"{name} and weights must be finite, and some weight not zero")
    mean = np.average(values, axis=0, weights=w)
    std = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=w))
    return mean, np.where(std > 1e-12 * np.maximum(np.abs(mean), 1e-300), std, 1.0)
