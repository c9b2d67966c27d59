"""Losses of the full sample: exact gradients in the memory of a chunk, unbiased ones from batches.

A likelihood loss is a nonlinear function of yields, so its value on a batch is biased, and a
training follows the bias. The yields themselves are sums over events: what is exact here is done
with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from difana._errors import InputError
from difana._typing import Network, PyTree
from difana.data import Sample
from difana.hist import Shares
from difana.likelihood import TemplateSums, template_sums


def full_sample_sums(
    net: Network,
    samples: Sequence[Sample],
    *,
    edges: Float[Array, " edges"] | Shares,
    bandwidth: Float[Array, ""] | float | None,
    relative: bool = False,
    chunk: int | None = 16384,
) -> TemplateSums:
    """Return the sums of the full sample as constants: a forward pass that stores nothing.

    Give them as ``values`` to any likelihood loss of a batch. The loss then has the value of the
    full sample, simulation statistics included, and its gradient is that of the full sample in the
    mean (see ``TemplateSums.valued``). A step costs one forward pass of all events and the batch;
    for the gradient itself, without noise, give a loss all events and ``chunk``.

    Args:
        net: Any callable PyTree ``[events, features] -> [events, observables]``.
        samples: The full samples. In ``train.fit`` put them into the trainable, untrained: an array
            that a loss closes over is compiled into the program.
        edges: Bin edges, or a binning of one's own.
        bandwidth: Width of the kernel; None for hard bins.
        relative: The bandwidth is in units of the width of each bin.
        chunk: Events handled at once.

    Returns:
        The sums, without derivatives.

    Raises:
        InputError: As ``template_sums``.

    Example:
        >>> import jax.numpy as jnp
        >>> from difana.data import Events, Sample
        >>> sample = Sample(Events(jnp.array([[0.2], [0.8]]), jnp.ones(2)), name="b")
        >>> edges = jnp.array([0.0, 0.5, 1.0])
        >>> full_sample_sums(
        ...     lambda x: x, [sample], edges=edges, bandwidth=None, chunk=None).contents.tolist()
        [[1.0, 1.0]]
    """
    still, still_edges, still_width = jax.tree.map(
        lambda leaf: lax.stop_gradient(leaf) if eqx.is_array(leaf) else leaf,
        (net, edges, bandwidth),
    )
    sums = template_sums(
        still, samples, edges=still_edges, bandwidth=still_width, relative=relative, chunk=chunk
    )
    return lax.stop_gradient(sums)


Accumulated = Callable[[PyTree, Iterable[Any]], tuple[tuple[Array, Mapping[str, Array]], PyTree]]
"""``(trainable, chunks) -> ((value, aux), gradient)``."""


def accumulated(
    sums_of: Callable[[PyTree, Any], PyTree],
    loss_of: Callable[[PyTree, PyTree], tuple[Float[Array, ""], Mapping[str, Array]]],
) -> Accumulated:
    r"""Return the loss of a full sample with its exact gradient, from chunks read one at a time.

    Two passes: the sums :math:`Y = \sum_c Y_c(w)` of all chunks, forward only; then, with the
    slopes :math:`g = \partial L/\partial Y` known, the sum of the vector-Jacobian products
    :math:`g^T\,\partial Y_c/\partial w` of the chunks, each computed anew. Nothing but sums and a
    gradient outlives a chunk, so events may come from disk and exceed the memory of the device.
    (Events that fit on the device need no second way: any likelihood loss with ``chunk``.)

    Args:
        sums_of: ``sums_of(trainable, chunk) -> PyTree`` of sums that add up over chunks.
        loss_of: ``loss_of(trainable, sums) -> (scalar, aux)``.

    Returns:
        ``function(trainable, chunks) -> ((value, aux), gradient)``: the chunks are gone through
        twice, so give a list or an object that starts anew with every ``iter``; equal shapes are
        compiled once. The gradient has the structure of the trainable, None for what is no
        floating-point array. The function raises InputError without a chunk, or if the chunks can
        be read only once.

    Example:
        >>> import jax.numpy as jnp
        >>> function = accumulated(
        ...     lambda w, x: jnp.sum(w * x), lambda w, total: (total**2, {}))
        >>> chunks = [jnp.array([1.0, 2.0]), jnp.array([3.0, 0.0])]
        >>> (value, _), slope = function(jnp.asarray(2.0), chunks)
        >>> float(value), float(slope)  # (6 w)^2 and 72 w
        (144.0, 144.0)
    """

    @eqx.filter_jit
    def forward(moving: PyTree, rest: PyTree, chunk: Any) -> PyTree:
        return sums_of(eqx.combine(moving, rest), chunk)

    @eqx.filter_jit
    def backward(moving: PyTree, rest: PyTree, chunk: Any, slopes: PyTree) -> PyTree:
        _, pull = jax.vjp(lambda own: sums_of(eqx.combine(own, rest), chunk), moving)
        return pull(slopes)[0]

    @eqx.filter_jit
    def outer(moving: PyTree, rest: PyTree, total: PyTree) -> tuple:
        def loss(own: PyTree, sums: PyTree) -> tuple[Array, Mapping[str, Array]]:
            return loss_of(eqx.combine(own, rest), sums)

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(moving, total)

    def function(
        trainable: PyTree, chunks: Iterable[Any]
    ) -> tuple[tuple[Array, Mapping[str, Array]], PyTree]:
        moving, rest = eqx.partition(trainable, eqx.is_inexact_array)
        total, count = None, 0
        for chunk in chunks:
            part = forward(moving, rest, chunk)
            total = part if total is None else jax.tree.map(jnp.add, total, part)
            count += 1
        if total is None:
            raise InputError("no chunks: there is nothing to accumulate")
        (value, aux), (gradient, slopes) = outer(moving, rest, total)
        for chunk in chunks:
            gradient = jax.tree.map(jnp.add, gradient, backward(moving, rest, chunk, slopes))
            count -= 1
        if count:
            raise InputError(
                "the chunks can be read only once (a generator?); give a list or an iterable that "
                "starts anew"
            )
        return (value, aux), gradient

    return function
