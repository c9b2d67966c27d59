"""Inputs shifted and scaled to mean 0 and standard deviation 1."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float

from difana._errors import InputError
from difana.data import Given, Inputs

FAR = 1e3  # widths from the median from which an event is called broken
_CUT = 20.0  # widths from the median at which values count for the moments
_LINEAR = 10.0  # standard deviations up to which inputs stay as they are


class Standardised(eqx.Module):
    r"""Any network behind the fixed transformation :math:`(x - \mu) / \sigma`.

    What lies beyond 10 standard deviations is bent to a logarithm (``10 + log(1 + |z| - 10)``), so
    that one broken event of 1e8 does not spoil a training.

    ``mean`` and ``std`` receive no gradient, and ``difana.nn.trainable`` keeps them out of the
    trainable weights, so that weight decay does not move them. ``save_weights`` stores them.

    Attributes:
        net: Any callable PyTree.
        mean: Subtracted from the features, ``[features]``, in their units.
        std: Divides the features, ``[features]``, in their units.
        particle_mean: Subtracted from the channels of real particles, ``[channels]``; None for
            events without particles.
        particle_std: Divides them.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.array([[1.0, 10.0], [3.0, 30.0]])
        >>> Standardised.fit(lambda z: z, x)(x).tolist()
        [[-1.0, -1.0], [1.0, 1.0]]
    """

    net: Callable
    mean: Float[Array | np.ndarray, " features"]
    std: Float[Array | np.ndarray, " features"]
    particle_mean: Float[Array | np.ndarray, " channels"] | None = None
    particle_std: Float[Array | np.ndarray, " channels"] | None = None

    def __call__(self, x: Given) -> Float[Array, "*events observables"]:
        """Return the net of standardised inputs, with the constants in the type of ``x``.

        Raises:
            InputError: If the events have particles, but it was fitted without, or the reverse.
        """
        if isinstance(x, Inputs) != (self.particle_mean is not None):
            has, fitted = ("has", "none") if isinstance(x, Inputs) else ("has no", "some")
            raise InputError(
                f"the input {has} particles, the standardisation was fitted to events with {fitted}"
            )
        if not isinstance(x, Inputs):
            return self.net(_standard(x, self.mean, self.std))
        particles = _standard(x.particles, self.particle_mean, self.particle_std)
        features = _standard(x.features, self.mean, self.std)
        return self.net(Inputs(features, particles, jnp.asarray(x.mask)).cleaned())

    @classmethod
    def fit(
        cls,
        net: Callable,
        inputs: Float[ArrayLike, "events features"] | Inputs,
        weights: Float[ArrayLike, " events"] | None = None,
        *,
        columns: Sequence[str] = (),
        channels: Sequence[str] = (),
    ) -> Standardised:
        r"""Return ``net`` behind the standardisation measured on ``inputs``.

        .. math::
            \mu = \frac{\sum |w_i| x_i}{\sum |w_i|}, \qquad
            \sigma^2 = \frac{\sum |w_i| (x_i - \mu)^2}{\sum |w_i|}

        A constant feature is shifted but not scaled, and far events do not spoil the scale of the
        others: see ``location_and_scale``.

        Args:
            net: Any callable PyTree.
            inputs: ``Events.inputs`` of the training events; of particles the real ones count.
            weights: Event weights, ``[events]``; the modulus is used, a scale needs no sign.
            columns: Names of the features, for messages.
            channels: Names of the particle channels, for messages.

        Returns:
            The wrapped network.

        Raises:
            InputError: If there are no events, or a feature or weight is not finite.

        Warns:
            UserWarning: For an event far from all others: names it.

        Example:
            >>> import jax.numpy as jnp
            >>> wrapped = Standardised.fit(lambda z: z, jnp.array([[1.0], [3.0]]))
            >>> wrapped.mean.tolist(), wrapped.std.tolist()
            ([2.0], [1.0])
        """
        if not isinstance(inputs, Inputs):
            return cls(net, *location_and_scale(inputs, weights, columns=columns))
        mask = np.asarray(inputs.mask)
        each = np.ones(len(mask)) if weights is None else np.asarray(weights, np.float64)
        real = np.asarray(inputs.particles)[mask]
        if not len(real):
            raise InputError("no event has a real particle: nothing to standardise with")
        return cls(
            net,
            *location_and_scale(inputs.features, weights, columns=columns),
            *location_and_scale(
                real,
                np.repeat(each, mask.sum(axis=1)),
                columns=channels,
                what="particle channel",
                row="particle",
            ),
        )


def _standard(x: Any, mean: Any, std: Any) -> Array:
    """Return ``(x - mean) / std``, far values bent."""
    if isinstance(x, np.ndarray) and isinstance(mean, np.ndarray):
        # before the cast: float32 has no digits left of 1.7e9 + N(0, 1)
        z = (x - mean) / np.asarray(std)
        return bent(jnp.asarray(z, x.dtype if x.dtype.kind == "f" else float))
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        x = x.astype(float)
    mean, std = (
        jnp.broadcast_to(jax.lax.stop_gradient(jnp.asarray(v, dtype=x.dtype)), x.shape)
        for v in (mean, std)
    )
    return bent((x - mean) / std)


def location_and_scale(
    features: Float[ArrayLike, "events features"],
    weights: Float[ArrayLike, " events"] | None = None,
    *,
    columns: Sequence[str] = (),
    what: str = "feature",
    row: str = "event",
) -> tuple[Float[np.ndarray, " features"], Float[np.ndarray, " features"]]:
    r"""Return mean and standard deviation of features, in float64, that no broken event spoils.

    Values more than 20 widths (half the distance of the 16 and the 84 % quantile) from the median
    count as 20 widths away; they are rare in ordinary data, and then these are the plain moments.
    A constant feature has scale 1.

    Args:
        features: Features, ``[events, features]``.
        weights: Weights, ``[events]``; the modulus is used.
        columns: Names of the features, for messages.
        what: What messages call a feature.
        row: What messages call an event.

    Raises:
        InputError: If there are no events, or a feature or weight is not finite.

    Warns:
        UserWarning: For a value more than 1000 widths from the median: names feature and event.

    Example:
        >>> mean, std = location_and_scale(np.array([[1.0], [3.0]]))
        >>> mean.tolist(), std.tolist()
        ([2.0], [1.0])
    """
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or not len(x):
        raise InputError(f"{what}s of shape {x.shape}: give [events, columns] of some events")
    w = np.ones(len(x)) if weights is None else np.abs(np.asarray(weights, dtype=np.float64))
    bad = np.flatnonzero(~np.isfinite(x).all(axis=0))
    if bad.size:
        raise InputError(f"{what}s {bad.tolist()} are not finite: select or repair the events")
    if w.shape != (len(x),) or not np.isfinite(w).all() or w.sum() == 0:
        raise InputError(
            "the weights must be finite, one for each event, and not all zero, to standardise with"
        )
    mean = np.average(x, axis=0, weights=w)
    std = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=w))
    for column in np.flatnonzero(np.abs(x - mean).max(axis=0) > 5 * std):
        found = _robust(x[:, column], w)
        if found is None:
            continue
        mean[column], std[column], widths = found
        far = np.flatnonzero((widths > FAR) & (w > 0))
        if far.size:
            first = int(far[np.argmax(widths[far])])
            name = f"'{columns[int(column)]}'" if len(columns) == x.shape[1] else str(column)
            warnings.warn(
                f"{what} {name} lies more than {FAR:g} widths from its median in {far.size} of"
                f" {len(x)} {row}s, most in {row} {first} ({x[first, column]:g}; mean of the others"
                f" {mean[column]:g}, width {std[column]:g}): repair or drop broken {row}s, or take"
                " the logarithm of an observable with such tails",
                stacklevel=3,
            )
    # Rounding leaves a constant feature a tiny spread, which must not become a scale.
    constant = std <= 1e-12 * np.maximum(np.abs(mean), 1e-300)
    return mean, np.where(constant, 1.0, std)


def far_rows(x: Float[ArrayLike, "events features"]) -> Bool[np.ndarray, " events"]:
    """Return which events lie more than 1000 widths from the median in some feature.

    Example:
        >>> np.flatnonzero(far_rows(np.append(np.linspace(-1, 1, 99), 1e8)[:, None])).tolist()
        [99]
    """
    x = np.asarray(x, np.float64)
    far = np.zeros(len(x), bool)
    for column in x.T:
        found = _robust(column, np.ones(len(x))) if len(x) else None
        if found is not None:
            far |= found[2] > FAR
    return far


def _robust(x: np.ndarray, w: np.ndarray) -> tuple[float, float, np.ndarray] | None:
    """Return moments of values cut at 20 widths, and the distance of each value in widths."""
    order = np.argsort(x)
    below = (np.cumsum(w[order]) - 0.5 * w[order]) / w.sum()
    # a wider part of the events where most of them share one value
    for part, normal in ((0.16, 0.994), (0.02, 2.054), (0.001, 3.09)):
        low, middle, high = np.interp([part, 0.5, 1 - part], below, x[order])
        width = (high - low) / (2 * normal)
        if width > 1e-12 * max(abs(middle), 1e-300):
            break
    else:
        return None
    cut = np.clip(x, middle - _CUT * width, middle + _CUT * width)
    mean = np.average(cut, weights=w)
    std = np.sqrt(np.average((cut - mean) ** 2, weights=w))
    return float(mean), float(std), np.abs(x - middle) / width


def unbent(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return what :func:`bent` bent.

    Example:
        >>> unbent(bent(jnp.array([-3.0, 1e3]))).round(2).tolist()
        [-3.0, 1000.0]
    """
    beyond = jnp.maximum(jnp.abs(z) - _LINEAR, 0)
    return jnp.clip(z, -_LINEAR, _LINEAR) + jnp.sign(z) * jnp.expm1(beyond)


def bent_log_slope(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return the logarithm of the slope of :func:`bent`.

    Example:
        >>> abs(bent_log_slope(jnp.array([2.0, 11.0]))).round(4).tolist()
        [0.0, 0.6931]
    """
    return -jnp.log1p(jnp.maximum(jnp.abs(z) - _LINEAR, 0))


def bent(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return standardised values, those beyond 10 bent to a logarithm: a far event stays finite.

    Example:
        >>> bent(jnp.array([-3.0, 10.0, 1e6])).round(2).tolist()
        [-3.0, 10.0, 23.82]
    """
    beyond = jnp.maximum(jnp.abs(z) - _LINEAR, 0)
    return jnp.clip(z, -_LINEAR, _LINEAR) + jnp.sign(z) * jnp.log1p(beyond)
