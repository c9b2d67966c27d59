"""A flow: columns, condition and trained layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from difana._errors import InputError
from difana._options import whole_number
from difana._typing import PyTree
from difana.flows._body import Stack
from difana.flows._context import Context
from difana.flows.columns import Columns
from difana.flows.continuous import Continuous
from difana.flows.protocol import AbstractFlow
from difana.nn import trainable

_ROWS = 2048  # rows at once on a CPU: what the layers make of them stays in its cache


class Flow(AbstractFlow):
    r"""A conditional density; made by ``coupling_flow`` and its like, trained by ``fit_flow``.

    .. math::
        p(x \mid c) = p_0(f_c(x))\, \Big|\det \frac{\partial f_c}{\partial x}\Big|

    with :math:`p_0` normal (on circles uniform) and :math:`f_c` the trained layers after a map of
    the columns: ranges to logarithms and logits, standardisation, and beyond ten standard
    deviations a logarithm, so that one broken event does not spoil the density of the others.

    Attributes:
        columns: The map of the columns; constant.
        context: The map of the condition; a summary network in it is trained.
        body: The layers, or a velocity field.
    """

    columns: Columns
    context: Context
    body: Stack | Continuous

    @property
    def dropped(self) -> tuple[int, ...]:
        """Columns that are constant or follow from others: no part of the density."""
        return self.columns.dropped

    def trained(self) -> PyTree:
        """Return True for each trained leaf: those of the layers and of the summary network."""
        constants = jax.tree.map(lambda _: False, self)
        marked = eqx.tree_at(lambda flow: flow.body, constants, _weights(self.body))
        if self.context.summary is None:
            return marked
        return eqx.tree_at(
            lambda flow: flow.context.summary, marked, trainable(self.context.summary)
        )

    def log_prob(
        self, x: Float[Array, "events dims"], given: Any = None
    ) -> Float[Array, " events"]:
        r"""Return :math:`\ln p(x \mid c)` of each event; differentiable in all arguments.

        Outside of the range of a column it is minus infinity.

        Raises:
            InputError: If the numbers of columns are not those of the flow.
        """
        x, given = self._table(x), _floats(given)
        if isinstance(x, np.ndarray):  # in double precision before the program
            prepared = self.context.prepared(given, len(x))
            return _log_prob(self, *self.columns.forward(x), prepared, self.columns.inside(x))
        return _log_prob_of(self, x, given)

    def transform(
        self, x: Float[Array, "events dims"], given: Any = None
    ) -> tuple[Float[Array, "events kept"], Float[Array, " events"]]:
        """Return latent values and the log determinant of the whole map.

        Raises:
            InputError: If the numbers of columns are not those of the flow.
        """
        x, given = self._table(x), _floats(given)
        prepared = self.context.prepared(given, len(x))
        return _transform(self, *self.columns.forward(x), prepared)

    def inverse(
        self, z: Float[Array, "events kept"], given: Any = None
    ) -> Float[Array, "events dims"]:
        """Return the events of latent values; columns that are not learned are computed.

        Raises:
            InputError: If the number of columns is not that of the flow.
        """
        z = _floats(z)
        if jnp.ndim(z) != 2 or jnp.shape(z)[1] != len(self.columns.kept):
            raise InputError(
                f"z has shape {jnp.shape(z)}, the flow {len(self.columns.kept)} latent columns"
            )
        z = jnp.asarray(z)
        return _inverse(self, z, self.context.prepared(_floats(given), len(z)))

    def sample(
        self,
        given: Any = None,
        *,
        key: PRNGKeyArray,
        samples: int = 1,
    ) -> Float[Array, "*rows dims"]:
        """Return draws of ``x`` for each event; differentiable in the context and the flow.

        Args:
            given: Contexts; None for a flow without any.
            key: Random key; the draws of event ``i`` depend on ``key`` and ``i`` only.
            samples: Number of draws an event.

        Returns:
            ``[events, samples, dims]``; without a context ``[samples, dims]``.

        Raises:
            InputError: If the number of columns is not that of the flow.
        """
        samples = whole_number("samples", samples)
        if given is None:
            return _drawn(self, key, self.context.prepared(None, samples), 1)[:, 0]
        return _drawn(self, key, self.context.prepared(_floats(given), 0), samples)

    def losses(self, values: Array, prepared: PyTree, key: PRNGKeyArray) -> Float[Array, " events"]:
        """Return what the training minimises, of rows that columns and context have mapped."""
        return self.body.losses(values, self._seen(prepared, values), key)

    def _seen(self, prepared: PyTree, values: Array) -> Array:
        return self.context.encoded(prepared).astype(values.dtype)

    def _table(self, x: Any) -> Any:
        x, dims = _floats(x), len(self.columns.kinds)
        if jnp.ndim(x) != 2 or jnp.shape(x)[1] != dims:
            raise InputError(f"x has shape {jnp.shape(x)}, the flow {dims} columns")
        return x


@eqx.filter_jit
def _log_prob(flow: Flow, values: Array, slopes: Array, prepared: PyTree, inside: Array) -> Array:
    def one(values: Array, prepared: PyTree) -> Array:
        z, log_det = flow.body.forward(values, flow._seen(prepared, values))
        return flow.body.base_log_prob(z) + log_det

    logs = _in_blocks(one, (values, prepared)) + slopes.astype(values.dtype)
    return jnp.where(inside, logs, jnp.asarray(-jnp.inf, logs.dtype))


@eqx.filter_jit
def _log_prob_of(flow: Flow, x: Array, given: Any) -> Array:
    prepared = flow.context.prepared(given, len(x))
    return _log_prob(flow, *flow.columns.forward(x), prepared, flow.columns.inside(x))


@eqx.filter_jit
def _transform(flow: Flow, values: Array, slopes: Array, prepared: PyTree) -> tuple[Array, Array]:
    z, log_det = _in_blocks(lambda v, p: flow.body.forward(v, flow._seen(p, v)), (values, prepared))
    return z, log_det + slopes.astype(z.dtype)


@eqx.filter_jit
def _inverse(flow: Flow, z: Array, prepared: PyTree) -> Array:
    values = _in_blocks(lambda v, p: flow.body.inverse(v, flow._seen(p, v)), (z, prepared))
    return flow.columns.inverse(values)


@eqx.filter_jit
def _drawn(flow: Flow, key: PRNGKeyArray, prepared: PyTree, samples: int) -> Array:
    events = len(jax.tree.leaves(prepared)[0])
    dims, dtype = len(flow.columns.kinds), _dtype(prepared)
    if not events:
        return jnp.zeros((0, samples, dims), dtype)
    kept = np.asarray(flow.columns.kept)

    def block(index: Array, own: PyTree) -> Array:
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(index)
        noise = jax.vmap(lambda one: jax.random.normal(one, (samples, dims), dtype))(keys)
        seen = flow.context.encoded(own)
        seen = jnp.broadcast_to(seen[:, None], (len(seen), samples, seen.shape[-1]))
        start = flow.body.from_normal(noise[..., kept]).reshape(-1, len(kept))
        values = flow.body.inverse(start, seen.reshape(len(start), -1).astype(dtype))
        return flow.columns.inverse(values.reshape(len(index), samples, -1), noise)

    rows = (jnp.arange(events), prepared)
    return flow.columns.drawn(_in_blocks(block, rows, each=samples))


def _weights(body: Stack | Continuous) -> PyTree:
    return jax.tree.map(eqx.is_inexact_array, body)


def _in_blocks(function: Callable, rows: tuple, *, each: int = 1) -> Any:
    """Return a function of rows, evaluated some thousand at a time.

    Args:
        function: Function of arrays ``[rows, ...]``.
        rows: Its arguments, PyTrees.
        each: What a row makes of itself, in rows.
    """
    count = len(jax.tree.leaves(rows)[0])
    size = max(1, (_ROWS if jax.default_backend() == "cpu" else 32 * _ROWS) // each)
    if count <= size:
        return function(*rows)
    blocks = -(-count // size)
    size = -(-count // blocks)  # blocks of one size, hardly padded

    def cut(leaf: Array) -> Array:
        padded = jnp.pad(leaf, [(0, blocks * size - count)] + [(0, 0)] * (leaf.ndim - 1), "edge")
        return padded.reshape(blocks, size, *leaf.shape[1:])

    # the gradient computes a block again instead of keeping what all of them made
    once = jax.checkpoint(lambda block: function(*block))
    out = jax.lax.map(once, jax.tree.map(cut, rows))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:count], out)


def _dtype(prepared: PyTree) -> Any:
    floats = [leaf.dtype for leaf in jax.tree.leaves(prepared) if leaf.dtype.kind == "f"]
    return floats[0] if floats else jnp.float32


def _floats(x: Any) -> Any:
    """Return floating-point numbers: integers would cast the constants of the flow."""
    if x is None or not (isinstance(x, np.ndarray | list | tuple | jax.Array | float)):
        return x
    if isinstance(x, np.ndarray | list | tuple) and not hasattr(x, "_fields"):
        return np.asarray(x, None if np.asarray(x).dtype.kind == "f" else np.float64)
    if not isinstance(x, jax.Array):
        return x
    return x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(float)
