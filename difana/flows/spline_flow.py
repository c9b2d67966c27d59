"""A conditional flow of coupling layers with rational-quadratic splines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from difana._errors import InputError
from difana._numerics import third_party_promotion
from difana._options import real_number, whole_number
from difana._typing import PyTree
from difana.flows._columns import atoms_of, independent_columns
from difana.flows._coupling import coupling, distrax
from difana.nn import MLP, location_and_scale
from difana.nn.standardised import bent, bent_log_slope, unbent


class SplineFlow(eqx.Module):
    r"""A conditional density :math:`p(x \mid c)`; made by ``spline_flow``.

    .. math::
        p(x \mid c) = N(f_c(x);\, 0, 1)\, \Big|\det \frac{\partial f_c}{\partial x}\Big|

    with :math:`f_c` a product of coupling layers after a standardisation of :math:`x`; beyond ten
    standard deviations the values are bent to a logarithm, so that one broken event does not spoil
    the density of the others. All layers
    are one layer in a ``lax.scan``: the graph does not grow with their number.

    Attributes:
        nets: Conditioner networks, their leaves stacked along the layers.
        masks: True where a layer lets a value pass, ``[layers, dims]``.
        mean: Mean of ``x``, ``[dims]``.
        std: Its standard deviation.
        given_mean: Mean of the context, ``[given]``.
        given_std: Its standard deviation.
        bound: The splines act on ``[-bound, bound]`` of the standardised values (static).
        kept: Columns that are learned; None for all (static).
        dropped: Columns that are constant or follow from those (static): no part of the density.
        matrix: How they follow from the others, in standardised values.
        spread: What is left of them, a normal distribution of this width.
        forward: Decorrelates columns that nearly follow from others; None if there are none.
        backward: Its inverse.
        atoms: Column, value and width of values that many events share; they are learned as narrow
            boxes, and samples inside them are that value (static).
    """

    nets: PyTree
    masks: Bool[Array | np.ndarray, "layers kept"]
    mean: Float[Array | np.ndarray, " dims"]
    std: Float[Array | np.ndarray, " dims"]
    given_mean: Float[Array | np.ndarray, " given"]
    given_std: Float[Array | np.ndarray, " given"]
    bound: float = eqx.field(static=True)
    kept: tuple[int, ...] | None = eqx.field(static=True, default=None)
    dropped: tuple[int, ...] = eqx.field(static=True, default=())
    matrix: Float[Array | np.ndarray, "kept dropped"] | None = None
    spread: Float[Array | np.ndarray, " dropped"] | None = None
    forward: Float[Array | np.ndarray, "kept kept"] | None = None
    backward: Float[Array | np.ndarray, "kept kept"] | None = None
    atoms: tuple[tuple[int, float, float], ...] = eqx.field(static=True, default=())

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
        x, given = _floats(x), _floats(given)
        values = self._standardised(x, self.mean, self.std)
        scale = jnp.sum(jnp.log(self._chosen(self._like(self.std, values))))
        values = self._chosen(values)
        if self.forward is not None:
            forward = self._like(self.forward, values)
            values = values @ forward
            scale = scale - jnp.linalg.slogdet(forward)[1]
        scale = scale - jnp.sum(bent_log_slope(values), axis=-1)
        values = bent(values)
        context = self._context(given)

        def layer(carry: tuple, one: tuple) -> tuple[tuple, None]:
            values, total = carry
            with third_party_promotion():
                values, log_det = self._layer(one, context).forward_and_log_det(values)
            return (values, total + log_det), None

        leaves, _ = eqx.partition(self.nets, eqx.is_array)
        start = (values, jnp.zeros(values.shape[:-1], values.dtype))
        (values, total), _ = jax.lax.scan(layer, start, (leaves, jnp.asarray(self.masks)))
        with third_party_promotion():
            base = self._base(values).log_prob(values)
        return base + total - scale

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
        whole_number("samples", samples)
        whole_number("chunk", chunk)
        given = _floats(given)
        rows = (jnp.arange(len(given)), self._context(given))
        leaves, _ = eqx.partition(self.nets, eqx.is_array)
        layers = (leaves, jnp.asarray(self.masks))
        dtype = rows[1].dtype

        def event(one: tuple[Array, Array]) -> Array:
            index, context = one
            shape = (samples, len(self.mean))
            noise = jax.random.normal(jax.random.fold_in(key, index), shape, dtype)
            values = self._chosen(noise)

            def layer(values: Array, net: tuple) -> tuple[Array, None]:
                with third_party_promotion():
                    return self._layer(net, context).inverse(values), None

            values = unbent(jax.lax.scan(layer, values, layers, reverse=True)[0])
            if self.backward is not None:
                values = values @ self._like(self.backward, values)
            return self._complete(values, noise)

        if not len(given):
            return jnp.zeros((0, samples, len(self.mean)), dtype)
        values = jax.lax.map(event, rows, batch_size=min(chunk, len(given)))
        values = values * self._rows(self.std, values) + self._rows(self.mean, values)
        drawn = values
        for column, value, width in self.atoms:
            near = jnp.abs(drawn[..., column] - value) <= width
            values = values.at[..., column].set(jnp.where(near, value, values[..., column]))
        return values

    def _chosen(self, values: Array) -> Array:
        """Return the columns that are learned."""
        return values if self.kept is None else values[..., np.asarray(self.kept)]

    def _complete(self, values: Array, noise: Array) -> Array:
        """Return all columns of standardised values, those that are not learned computed."""
        if self.kept is None:
            return values
        rest = values @ self._like(self.matrix, values)  # pyright: ignore[reportArgumentType]
        spread = self._like(self.spread, values)  # pyright: ignore[reportArgumentType]
        dropped = noise[..., np.asarray(self.dropped)]
        rest = rest + jnp.broadcast_to(spread, dropped.shape) * dropped
        places = np.argsort(np.array([*self.kept, *self.dropped]))
        return jnp.concatenate([values, rest], axis=-1)[..., places]

    def _standardised(self, x: Array, mean: Array | np.ndarray, std: Array | np.ndarray) -> Array:
        if isinstance(x, np.ndarray) and isinstance(mean, np.ndarray):
            # before the cast: float32 has no digits left of 1.7e9 + N(0, 1)
            return jnp.asarray((x - mean) / np.asarray(std), x.dtype)
        x = jnp.asarray(x)
        return (x - self._rows(mean, x)) / self._rows(std, x)

    def _layer(self, one: tuple[PyTree, Array], context: Array) -> PyTree:
        leaves, mask = one
        _, static = eqx.partition(self.nets, eqx.is_array)
        return coupling(eqx.combine(leaves, static), mask, context, bound=self.bound)

    def _context(self, given: Array) -> Array:
        return bent(self._standardised(given, self.given_mean, self.given_std))

    def _like(self, constant: Array | np.ndarray, x: Array) -> Array:
        return jax.lax.stop_gradient(jnp.asarray(constant, x.dtype))

    def _rows(self, constant: Array | np.ndarray, x: Array) -> Array:
        return jnp.broadcast_to(self._like(constant, x), x.shape)

    def _base(self, values: Array) -> PyTree:
        dims = values.shape[-1]
        return distrax().MultivariateNormalDiag(
            jnp.zeros(dims, values.dtype), jnp.ones(dims, values.dtype)
        )

    def _check(self, x: Array | None, given: Array) -> None:
        dims, context = len(self.mean), len(self.given_mean)
        if x is not None and (jnp.ndim(x) != 2 or jnp.shape(x)[1] != dims):
            raise InputError(f"x has shape {jnp.shape(x)}, the flow {dims} columns")
        if jnp.ndim(given) != 2 or jnp.shape(given)[1] != context:
            raise InputError(f"the context has shape {jnp.shape(given)}, the flow takes {context}")


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
    names: Sequence[str] = (),
) -> SplineFlow:
    """Return a flow that is a normal distribution of the mean and width of ``x``.

    Columns that are constant, or a linear function of others (a copy), have no density: they are
    not learned, and samples compute them. Values that many events share are learned as
    narrow boxes.

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
        names: Names of the columns of ``x``, for messages.

    Returns:
        The flow, to be trained by ``fit_flow``.

    Raises:
        ConfigError: If a number makes no sense.
        InputError: If the shapes are wrong, a number is not finite or all columns are constant.

    Warns:
        UserWarning: For columns that are not learned, and for a broken event far from all others.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> x = jnp.array([[0.0, 1.0], [1.0, 0.0], [2.0, 5.0], [3.0, 2.0]])
        >>> flow = spline_flow(x, x[:, :1], key=jax.random.key(0), layers=2, hidden=(4,))
        >>> flow.masks.tolist()
        [[True, False], [False, True]]

    References:
        C. Durkan et al., arXiv:1906.04032; as the conditional network of arXiv:2006.06685.
    """
    whole_number("layers", layers)
    whole_number("bins", bins, least=2)
    real_number("bound", bound, above=0)
    if jnp.ndim(x) != 2 or jnp.ndim(given) != 2 or len(x) != len(given):
        raise InputError(
            f"x has shape {jnp.shape(x)} and the context {jnp.shape(given)}: give columns of the"
            " same events"
        )
    wide = np.asarray(x, np.float64)
    mean, std = location_and_scale(wide, weights, columns=names, what="column of x")
    given_mean, given_std = location_and_scale(given, weights, what="column of the context")
    counted = wide if weights is None else wide[np.asarray(weights) != 0]
    size = 1e-12 * np.maximum(np.abs(mean), 1e-300)
    constant = np.flatnonzero(np.ptp(counted, axis=0) <= size).tolist()
    found = independent_columns((counted - mean) / std, constant=constant, names=names)
    dims = len(found.kept)
    size = len(given_mean) + dims
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
        **({"kept": found.kept, "dropped": found.dropped, "matrix": found.matrix,
            "spread": found.spread} if found.dropped else {}),
        **({"forward": found.forward, "backward": np.linalg.inv(found.forward)}
           if (found.forward != np.eye(dims)).any() else {}),
        atoms=atoms_of(counted, std, found.kept),
    )  # fmt: skip


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


def _floats(x: Any) -> Any:
    """Return floating-point numbers: integers would cast the constants of the flow."""
    if isinstance(x, np.ndarray | list | tuple):
        return np.asarray(x, None if np.asarray(x).dtype.kind == "f" else np.float64)
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(float)
