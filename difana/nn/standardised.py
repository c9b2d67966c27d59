"""Inputs shifted and scaled to mean 0 and standard deviation 1."""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._errors import InputError


class Standardised(eqx.Module):
    r"""Any network behind the fixed transformation $(x - \mu) / \sigma$.

    ``mean`` and ``std`` receive no gradient, and ``difana.nn.trainable`` keeps them out of the
    trainable weights, so that weight decay does not move them. ``save_weights`` stores them.

    Attributes:
        net: Any callable PyTree.
        mean: Subtracted from the features, ``[features]``, in their units.
        std: Divides the features, ``[features]``, in their units.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.array([[1.0, 10.0], [3.0, 30.0]])
        >>> Standardised.fit(lambda z: z, x)(x).tolist()
        [[-1.0, -1.0], [1.0, 1.0]]
    """

    net: Callable
    mean: Float[Array | np.ndarray, " features"]
    std: Float[Array | np.ndarray, " features"]

    def __call__(self, x: Float[Array, "*events features"]) -> Float[Array, "*events observables"]:
        """Return ``net((x - mean) / std)``, with the constants in the type of ``x``."""
        mean = jax.lax.stop_gradient(jnp.asarray(self.mean, dtype=x.dtype))
        std = jax.lax.stop_gradient(jnp.asarray(self.std, dtype=x.dtype))
        return self.net((x - mean) / std)

    @classmethod
    def fit(
        cls,
        net: Callable,
        features: Float[Array, "events features"],
        weights: Float[Array, " events"] | None = None,
    ) -> Standardised:
        r"""Return ``net`` behind the standardisation measured on ``features``.

        $$ \mu = \frac{\sum |w_i| x_i}{\sum |w_i|}, \qquad
           \sigma^2 = \frac{\sum |w_i| (x_i - \mu)^2}{\sum |w_i|} $$

        A constant feature is shifted but not scaled.

        Args:
            net: Any callable PyTree.
            features: Features of the training events, ``[events, features]``.
            weights: Event weights, ``[events]``; the modulus is used, a scale needs no sign.

        Returns:
            The wrapped network.

        Raises:
            InputError: If there are no events, or a feature or weight is not finite.

        Example:
            >>> import jax.numpy as jnp
            >>> wrapped = Standardised.fit(lambda z: z, jnp.array([[1.0], [3.0]]))
            >>> wrapped.mean.tolist(), wrapped.std.tolist()
            ([2.0], [1.0])
        """
        x = np.asarray(features, dtype=np.float64)
        w = np.ones(len(x)) if weights is None else np.abs(np.asarray(weights, dtype=np.float64))
        bad = np.flatnonzero(~np.isfinite(x).all(axis=0))
        if bad.size:
            raise InputError(f"features {bad.tolist()} are not finite: select or repair the events")
        if not np.isfinite(w).all() or w.sum() == 0:
            raise InputError("the weights must be finite, and not all zero, to standardise with")
        mean = np.average(x, axis=0, weights=w)
        std = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=w))
        # Rounding leaves a constant feature a tiny spread, which must not become a scale.
        constant = std <= 1e-12 * np.maximum(np.abs(mean), 1e-300)
        return cls(net, mean, np.where(constant, 1.0, std))
