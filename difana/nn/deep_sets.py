"""DeepSets: a network on an unordered, padded set of particles."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from difana._errors import ConfigError
from difana.data import Inputs
from difana.nn._particles import cloud_of
from difana.nn.mlp import MLP


class DeepSets(nnx.Module):
    r"""A sum over the particles between two perceptrons, hence blind to their order.

    .. math::
        y = F\left(\sum_{i \in \text{real}} \Phi(p_i),\; x\right)

    The features :math:`x` of the event, if there are any, stand beside the sum.
    Padding never reaches the result, whatever it holds (zeros, NaN): the channels of a padded
    particle are replaced before the first layer, and its latent vector is left out of the sum.

    Args:
        channels: Number of channels of a particle.
        hidden: Widths of the hidden layers, the same in both perceptrons.
        latent: Width of the latent vector of a particle.
        out_features: Number of observables.
        features: Number of features of the event, which the last perceptron sees beside the sum.
        pool: ``"sum"``, or ``"mean"`` over the real particles.
        activation: Name of the activation function.
        dtype: Type of the computation; None promotes input and weights as JAX does.
        param_dtype: Type of the weights.
        key: Random key of the initialisation.

    Raises:
        ConfigError: If ``pool`` is neither sum nor mean, or a width is not positive.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> net = DeepSets(4, [16], key=jax.random.key(0))
        >>> net(jnp.ones((5, 7, 4)), jnp.ones((5, 7), dtype=bool)).shape
        (5, 1)
        >>> from difana.data import Inputs
        >>> net = DeepSets(4, [16], features=2, key=jax.random.key(0))
        >>> net(Inputs(jnp.ones((5, 2)), jnp.ones((5, 7, 4)), jnp.ones((5, 7), dtype=bool))).shape
        (5, 1)

    References:
        Zaheer et al., arXiv:1703.06114; Komiske, Metodiev, Thaler, arXiv:1810.05165 eq. (1.2).
    """

    def __init__(
        self,
        channels: int,
        hidden: Sequence[int] = (64, 64),
        out_features: int = 1,
        *,
        latent: int = 64,
        features: int = 0,
        pool: str = "sum",
        activation: str = "relu",
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        key: Array,
    ) -> None:
        if pool not in ("sum", "mean"):
            raise ConfigError(f"pool must be 'sum' or 'mean', got '{pool}'")
        phi_key, f_key = jax.random.split(key)
        self.pool = pool
        self.channels = channels
        self.features = features
        self.phi = MLP(
            channels,
            hidden,
            latent,
            activation=activation,
            dtype=dtype,
            param_dtype=param_dtype,
            key=phi_key,
        )
        self.readout = MLP(
            latent + features,
            hidden,
            out_features,
            activation=activation,
            dtype=dtype,
            param_dtype=param_dtype,
            key=f_key,
        )

    def __call__(
        self,
        particles: Float[Array, "events particles channels"] | Inputs,
        mask: Bool[Array, "events particles"] | None = None,
    ) -> Float[Array, "events observables"]:
        """Return the raw observables.

        Args:
            particles: ``Events.inputs``, or padded particles ``[events, particles, channels]``.
            mask: True where a particle is real. Without it, a particle whose channels are all
                zero is padding.

        Raises:
            InputError: If the shapes do not fit the network or each other, or the events have other
                features than the network takes.
        """
        x, mask, beside = cloud_of(particles, mask, channels=self.channels, features=self.features)
        latent = jnp.where(mask[..., None], self.phi(x), 0).sum(axis=1)
        if self.pool == "mean":
            latent = latent / jnp.maximum(jnp.sum(mask, axis=1, dtype=latent.dtype), 1)[:, None]
        if beside is not None:
            latent = jnp.concatenate([latent, beside.astype(latent.dtype)], axis=-1)
        return self.readout(latent)
