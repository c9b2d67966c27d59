"""Many small problems on one model: chunks of a vmap, one compiled program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from difana._numerics import traced
from difana.infer.fit import attached, attached_value, fit, solve
from difana.infer.fit_result import FitResult
from difana.infer.newton import Minimum
from difana.likelihood import Model

Report = Callable[[int, int], None]
"""Called with the numbers of problems done and of all problems."""


class ConditionalFits(eqx.Module):
    """What is kept of many fits with parameters held.

    Attributes:
        params: Best-fit parameters, ``[fits, params]``.
        half_deviance: Half the deviance there, ``[fits]``.
        gradient: Gradient of the nll there, ``[fits, params]``.
        status: Bit flags, ``[fits]``.
    """

    params: Float[Array, "*fits params"]
    half_deviance: Float[Array, "*fits"]
    gradient: Float[Array, "*fits params"]
    status: Int[Array, "*fits"]


@eqx.filter_jit
def _chunk(function: Callable[[Any, Any], Any], shared: Any, items: Any) -> Any:
    return jax.vmap(lambda item: function(shared, item))(items)


def in_chunks(
    function: Callable[[Any, Any], Any],
    shared: Any,
    items: Any,
    *,
    batch: int,
    report: Report | None = None,
) -> Any:
    """Apply ``function(shared, item)`` to all items, ``batch`` at a time.

    Called with numbers, one program is compiled for a chunk, whatever their number, and the
    caller hears of progress; inside jit it is a ``lax.map`` over the chunks.

    Args:
        function: Defined at the top of a module, so that compiled programs are found again.
        shared: What all items share.
        items: A tree of arrays with a common leading axis.
        batch: Items in a chunk.
        report: Told after each chunk how many are done.

    Example:
        >>> import jax.numpy as jnp
        >>> in_chunks(jnp.multiply, jnp.array(2.0), jnp.arange(3.0), batch=2).tolist()
        [0.0, 2.0, 4.0]
    """
    size = jax.tree.leaves(items)[0].shape[0]
    if size == 0:
        return jax.vmap(lambda item: function(shared, item))(items)
    chunks = -(-size // batch)
    # whole chunks: the last item again and again, dropped at the end
    index = jnp.minimum(jnp.arange(chunks * batch), size - 1)
    padded = jax.tree.map(lambda leaf: leaf[index].reshape(chunks, batch, *leaf.shape[1:]), items)
    if traced(shared, items):
        done = jax.lax.map(lambda chunk: jax.vmap(lambda i: function(shared, i))(chunk), padded)
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:size], done)
    parts = []
    for i in range(chunks):
        part = _chunk(function, shared, jax.tree.map(lambda leaf, i=i: leaf[i], padded))
        if report is not None:
            jax.block_until_ready(part)
            report(min((i + 1) * batch, size), size)
        parts.append(part)
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[:size], *parts)


def _conditional(shared: tuple[Model, Array], item: tuple[Array, Array]) -> ConditionalFits:
    (model, data), (values, held) = shared, item
    found = solve(model, data, values, held=held, lower=model.lower, upper=model.upper)
    return ConditionalFits(found.params, found.half_deviance, found.gradient, found.status)


def _differentiable(
    model: Model, data: Array, values: Array, held: Array, found: ConditionalFits
) -> ConditionalFits:
    """Return fits that were found, with derivatives: outside the loop, which loses second ones."""
    fits = minima(model, found.params, held)._replace(value=found.half_deviance)
    each = (None, None, 0, 0, 0)
    params = jax.vmap(attached, each)(model, data, values, held, fits).params
    value = jax.vmap(attached_value, each)(model, data, values, held, fits)
    return ConditionalFits(params, value, found.gradient, found.status)


def minima(
    model: Model, params: Float[Array, "*fits params"], held: Bool[Array, "*fits params"]
) -> Minimum:
    """Return fits that were found; what lies inside its bounds can move."""
    model = jax.lax.stop_gradient(model)
    free = ~held & (params > model.lower) & (params < model.upper)
    zero = jnp.zeros(params.shape[:-1], params.dtype)
    whole = jnp.zeros(params.shape[:-1], jnp.int32)
    return Minimum(params, zero, jnp.zeros_like(params), free, zero, whole, whole)


def conditional_fits(
    model: Model,
    data: Float[Array, " data"],
    values: Float[Array, "fits params"],
    held: Bool[Array, "fits params"],
    *,
    batch: int = 8,
    report: Report | None = None,
    devices: Any = None,
    client: Any = None,
) -> ConditionalFits:
    """Fit from each row of ``values``, holding some of it; differentiable like ``solve``.

    With devices or the client of a cluster the fits are spread over them, ``batch`` at a time on
    each, and come back as numbers.
    """
    shared, items = (model, data), (values, held)
    if traced(shared, items) and devices is None and client is None:
        found = in_chunks(_conditional, *jax.lax.stop_gradient((shared, items)), batch=batch)
        return _differentiable(model, data, values, held, jax.lax.stop_gradient(found))
    options = {"batch": batch, "report": report, "devices": devices, "client": client}
    return spread(_conditional, shared, items, **options)


def spread(
    function: Callable[[Any, Any], Any],
    shared: Any,
    items: Any,
    *,
    batch: int,
    report: Report | None = None,
    devices: Any = None,
    client: Any = None,
) -> Any:
    """Apply ``function(shared, item)`` to all items as :func:`in_chunks`, or spread over machines.

    Args:
        function: Defined at the top of a module.
        shared: What all items share.
        items: A tree of arrays with a common leading axis.
        batch: Items done at the same time, on each device.
        report: Told how many are done.
        devices: Spread over these devices of this machine.
        client: Spread over the workers of this ``dask.distributed.Client``.
    """
    if devices is None and client is None:
        return in_chunks(function, shared, items, batch=batch, report=report)
    from difana.infer.parallel.distributed import map_points_distributed
    from difana.infer.parallel.sharding import device_list, map_points

    call = _OfItem(function)
    if client is not None:
        found = map_points_distributed(call, items, client=client, constants=(shared,), chunk=batch)
    else:
        chosen = device_list(devices)
        chunk = batch * len(chosen)
        found = map_points(call, items, constants=(shared,), devices=chosen, chunk=chunk)
    if report is not None:
        number = jax.tree.leaves(items)[0].shape[0]
        report(number, number)
    return jax.tree.map(jnp.asarray, found)


class _OfItem(eqx.Module):
    """A function of what is shared and an item, the item first; equal for equal functions."""

    function: Callable[[Any, Any], Any] = eqx.field(static=True)

    def __call__(self, item: Any, shared: Any) -> Any:
        return self.function(shared, item)


@eqx.filter_jit
def _best_fit(model: Model, data: Array) -> FitResult:
    return fit(model, data)


def best_fit(model: Model, data: Float[Array, " data"]) -> FitResult:
    """Return the fit within the bounds of the model; compiled once for all tools after a fit."""
    model.check_data(data)
    # inside a derivative a compiled call would lose the rules of the second ones
    return fit(model, data) if traced(model, data) else _best_fit(model, data)
