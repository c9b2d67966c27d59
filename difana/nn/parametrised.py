"""A network of features and parameters, at one value of the parameters."""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from difana._errors import InputError
from difana.data import Given, features_of, with_columns


class Parametrised(eqx.Module):
    r"""The network :math:`x \mapsto f(x, \theta)` at a given :math:`\theta`, of features alone.

    Parametrised networks (a mass) and uncertainty-aware ones (nuisance parameters) take features
    and parameters side by side. Every function of difana that takes a network takes this one, so
    templates, limits and plots at any :math:`\theta` need nothing else.

    Attributes:
        net: Any callable PyTree ``[events, features + params] -> [events, observables]``.
        theta: The parameters ``[params]``, or one row an event ``[events, params]``.

    References:
        arXiv:1601.07913 (parametrised), arXiv:2105.08742 (uncertainty-aware).

    Example:
        >>> import jax.numpy as jnp
        >>> net = Parametrised(lambda x: jnp.sum(x, -1, keepdims=True), jnp.array([10.0]))
        >>> net(jnp.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
        [[13.0], [17.0]]
    """

    net: Callable
    theta: Float[Array, "*events params"]

    def __call__(self, x: Given) -> Float[Array, "*events observables"]:
        """Return ``net([x, theta])``; of particles, theta stands among the features.

        Raises:
            InputError: If the rows of ``theta`` are not those of ``x``.
        """
        features = features_of(x)
        theta = jnp.asarray(self.theta, features.dtype)
        if theta.ndim > 1 and theta.shape[:-1] != features.shape[:-1]:
            raise InputError(
                f"parameters {theta.shape} do not fit events {features.shape}: one row each"
            )
        theta = jnp.broadcast_to(theta, (*features.shape[:-1], theta.shape[-1]))
        return self.net(with_columns(x, theta))
