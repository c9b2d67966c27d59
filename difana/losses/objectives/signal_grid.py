"""One network for many signal points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from difana._errors import InputError
from difana._typing import Network
from difana.data import Sample, is_signal
from difana.infer import expected_limits
from difana.likelihood import Model
from difana.losses.objectives._model import ModelOptions, model_of
from difana.nn import Parametrised


def signal_grid(
    net: Network,
    batch: Sequence[Sample],
    *,
    edges: Float[Array, " edges"] | Float[Array, "points edges"],
    bandwidth: Float[Array, ""] | float | None,
    weights: Float[ArrayLike, " points"] | None = None,
    theta: Float[Array, "points params"] | None = None,
    level: float = 0.95,
    **options: Unpack[ModelOptions],
) -> tuple[Float[Array, ""], dict[str, Array]]:
    r"""Return the weighted mean of the logarithms of the expected limits of all signal points.

    .. math:: L = \sum_k w_k \ln \mu^{95}_k \Big/ \sum_k w_k

    Every sample of the batch that ``poi`` scales is a signal point of its own, the others are the
    background of all. The models are stacked and their limits mapped: one program, whatever the
    number of points. The logarithm makes a gain of 1 % count the same everywhere.

    Args:
        net: Any callable PyTree ``[events, features] -> [events, observables]``; with ``theta`` a
            parametrised one, of features and parameters side by side.
        batch: Samples that stand for the full yields; the signal points need equal numbers of
            events and the same variations.
        edges: Bin edges in units of the first observable, shared or one row a point.
        bandwidth: Kernel width of the soft histogram; None for hard bins.
        weights: Weight of each point; equal by default.
        theta: Parameters of each point, in the order of the samples, for a parametrised network.
        level: Confidence level.
        **options: As in :func:`difana.losses.model_of`; ``poi`` is the free factor that marks the
            signal points.

    Returns:
        The mean, and ``{"value": geometric mean of the limits, "status"}``.

    Raises:
        InputError: If there is no signal point, or the points differ in shape or variations.

    References:
        P. Baldi et al., Eur. Phys. J. C 76 (2016) 235 (parametrised networks).

    Example:
        >>> from difana.data import Events
        >>> def sample(name, x, **kwargs):
        ...     return Sample(Events(jnp.full((8, 1), x), jnp.ones(8)), name=name, **kwargs)
        >>> points = [sample(f"m{x}", x, normfactors=("mu",)) for x in (0.5, 1.0)]
        >>> stacked, background = stack_points([*points, sample("b", 0.0)])
        >>> stacked.nominal.features.shape, [b.name for b in background]
        ((2, 8, 1), ['b'])
    """
    limits, status = grid_limits(
        stacked_models(net, batch, edges=edges, bandwidth=bandwidth, theta=theta, **options),
        level=level,
    )
    shares = jnp.ones_like(limits) if weights is None else jnp.asarray(weights, limits.dtype)
    value = jnp.sum(shares * jnp.log(limits)) / jnp.sum(shares)
    return value, {"value": jnp.exp(value), "status": jax.lax.reduce_or(status, axes=(0,))}


def stack_points(batch: Sequence[Sample], *, poi: str = "mu") -> tuple[Sample, tuple[Sample, ...]]:
    """Return all signal points as one sample with a leading axis ``[points]``, and the background.

    Raises:
        InputError: If there is no signal point, or the points differ in shape or variations.
    """
    points = [sample for sample in batch if is_signal(sample, poi)]
    background = tuple(sample for sample in batch if not is_signal(sample, poi))
    if not points:
        raise InputError(f"no signal point: no sample has the free factor '{poi}'")
    first = points[0]
    renamed = [
        Sample(p.nominal, p.variations, p.variance_scale, name="signal", normfactors=p.normfactors)
        for p in points
    ]
    for point, new in zip(points, renamed, strict=True):
        alike = jax.tree.structure(new) == jax.tree.structure(renamed[0]) and all(
            jnp.shape(a) == jnp.shape(b)
            for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(renamed[0]), strict=True)
        )
        if not alike:
            raise InputError(
                f"signal points '{first.name}' ({len(first.nominal)} events) and '{point.name}' "
                f"({len(point.nominal)} events) differ in shape or variations and cannot be "
                "stacked: give them the same variations, and batches not larger than the smallest"
            )
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *renamed), background


def stacked_models(
    net: Network,
    batch: Sequence[Sample],
    *,
    edges: Float[Array, " edges"] | Float[Array, "points edges"],
    bandwidth: Float[Array, ""] | float | None,
    theta: Float[Array, "points params"] | None = None,
    **options: Unpack[ModelOptions],
) -> Model:
    """Return the models of all signal points, leaves with a leading axis ``[points]``.

    Raises:
        InputError: As :func:`signal_grid`.
    """
    signal, background = stack_points(batch, poi=options.get("poi", "mu"))
    if theta is not None and theta.shape[0] != signal.nominal.weights.shape[0]:
        raise InputError(
            f"theta has {theta.shape[0]} rows for {signal.nominal.weights.shape[0]} signal points"
        )

    def one(signal: Sample, theta: Array | None, edges: Array) -> Model:
        own = net if theta is None else Parametrised(net, theta)
        samples = (signal, *background)
        return model_of(own, samples, edges=edges, bandwidth=bandwidth, **options)

    axes = (0, None if theta is None else 0, 0 if jnp.ndim(edges) == 2 else None)
    return jax.vmap(one, in_axes=axes)(signal, theta, jnp.asarray(edges))


def grid_limits(
    models: Model, *, level: float = 0.95
) -> tuple[Float[Array, " points"], Int[Array, " points"]]:
    """Return the median expected limits of stacked models, and their status."""

    def one(model: Model) -> tuple[Array, Array]:
        found = expected_limits(model, level=level, median_only=True)
        return found.median, found.status

    return jax.vmap(one)(models)
