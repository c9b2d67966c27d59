"""What a flow is conditioned on: columns, or anything that a summary network makes columns of."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._errors import InputError
from difana._typing import PyTree
from difana.data import Inputs
from difana.nn import location_and_scale
from difana.nn.standardised import bent


class Context(eqx.Module):
    """The condition of a flow.

    Attributes:
        mean: Mean of the columns; None where the condition is particles.
        std: Their standard deviation.
        summary: Network of the (standardised) condition whose outputs the layers see; it is trained
            with the flow. None: the columns themselves.
        size: Numbers that the layers see (static).
    """

    mean: Float[Array | np.ndarray, " given"] | None
    std: Float[Array | np.ndarray, " given"] | None
    summary: PyTree
    size: int = eqx.field(static=True)

    def prepared(self, given: Any, rows: int) -> PyTree:
        """Return the condition of the rows as arrays, columns standardised.

        Raises:
            InputError: If the condition is not what the flow was made for.
        """
        if self.mean is None:
            if not isinstance(given, Inputs):
                raise InputError("the flow is conditioned on particles: give Inputs as `given`")
            return jax.tree.map(jnp.asarray, given)
        wanted = len(self.mean)
        if given is None and not wanted:
            return jnp.zeros((rows, 0), jnp.float32)
        if given is None or isinstance(given, Inputs):
            what = "no context was given" if given is None else "the context has particles"
            raise InputError(f"{what}, the flow takes {wanted} columns")
        shape = jnp.shape(given)
        if len(shape) != 2 or shape[1] != wanted:
            raise InputError(f"the context has shape {shape}, the flow takes {wanted} columns")
        if isinstance(given, np.ndarray) and isinstance(self.mean, np.ndarray):
            z = (given - self.mean) / np.asarray(self.std)  # before the cast, see Columns
            return bent(jnp.asarray(z.astype(given.dtype)))
        given = jnp.asarray(given)
        mean, std = (
            jnp.broadcast_to(jax.lax.stop_gradient(jnp.asarray(one, given.dtype)), given.shape)
            for one in (self.mean, self.std)
        )
        return bent((given - mean) / std)

    def in_numpy(self) -> Context:
        """Return the condition with constants of NumPy, in double precision."""
        if self.mean is None or self.std is None:
            return self
        mean, std = np.asarray(self.mean, np.float64), np.asarray(self.std, np.float64)
        return Context(mean, std, self.summary, self.size)

    def encoded(self, prepared: PyTree) -> Float[Array, "rows size"]:
        """Return the numbers that the layers see."""
        return prepared if self.summary is None else self.summary(prepared)


def fitted_context(given: Any, weights: Any, summary: PyTree, rows: int) -> Context:
    """Return the condition whose constants are those of the events.

    Raises:
        InputError: If its rows are not those of the events, or particles come without a summary.
    """
    if isinstance(given, Inputs):
        if summary is None:
            raise InputError(
                "the context has particles: give `summary`, a network that makes columns of them,"
                " such as difana.nn.Standardised.fit(difana.nn.DeepSets(...), given)"
            )
        if len(given.mask) != rows:
            raise InputError(
                f"{rows} rows of x and {len(given.mask)} of the context: give the same"
            )
        return Context(None, None, summary, _outputs(summary, given))
    if given is None:
        given = np.zeros((rows, 0))
    if np.ndim(given) != 2 or len(given) != rows:
        raise InputError(
            f"{rows} rows of x and the context {np.shape(given)}: give columns of the same events"
        )
    if np.shape(given)[1] == 0:
        return Context(np.zeros(0), np.ones(0), None, 0)
    mean, std = location_and_scale(given, weights, what="column of the context")
    size = len(mean) if summary is None else _outputs(summary, np.zeros((2, len(mean)), np.float32))
    return Context(mean, std, summary, size)


def _outputs(summary: PyTree, given: Any) -> int:
    two = jax.tree.map(lambda leaf: jnp.asarray(leaf)[:2], given)
    shape = jax.eval_shape(lambda one: summary(one), two).shape
    if len(shape) != 2:
        raise InputError(
            f"the summary gives {shape} for two events: it must give [events, columns]"
        )
    return shape[1]
