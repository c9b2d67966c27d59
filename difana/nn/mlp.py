"""The multi-layer perceptron."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from difana._errors import ConfigError, InputError
from difana._numerics import third_party_promotion
from difana._options import whole_number
from difana.data import Inputs
from difana.nn.activations import activation as activation_by_name


class MLP(nnx.Module):
    r"""Fully connected layers; the output is a raw logit, without a last activation.

    .. math::
        h_{l+1} = \phi(W_l h_l + b_l), \qquad y = W_L h_L + b_L

    The module is a JAX PyTree whose leaves are the weights, so ``jax.grad``, ``jit``, ``vmap``
    and ``scan`` act on it directly.

    Args:
        in_features: Number of input features.
        hidden: Widths of the hidden layers; an empty sequence gives a linear map.
        out_features: Number of observables.
        activation: Name of the activation function, see ``difana.nn.activation``.
        dtype: Type of the computation; None promotes input and weights as JAX does.
        param_dtype: Type of the weights.
        key: Random key of the initialisation; equal keys give equal networks.

    Raises:
        ConfigError: If a width is not positive or the activation is unknown.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> net = MLP(3, [16, 16], key=jax.random.key(0))
        >>> net(jnp.ones((5, 3))).shape
        (5, 1)
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int] = (64, 64),
        out_features: int = 1,
        *,
        activation: str = "relu",
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        key: Array,
    ) -> None:
        widths = [in_features, *hidden, out_features]
        if any(isinstance(width, int) and width < 1 for width in widths):
            raise ConfigError(f"the widths of an MLP must be positive, got {widths}")
        widths = [whole_number("width of a layer", width) for width in widths]
        activation_by_name(activation)
        rngs = nnx.Rngs(params=key)
        self.activation = activation
        self.in_features = in_features
        self.layers = nnx.List(
            nnx.Linear(n_in, n_out, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
            for n_in, n_out in itertools.pairwise(widths)
        )

    def __call__(self, x: Float[Array, "*events features"]) -> Float[Array, "*events observables"]:
        """Return the raw observables of events ``x``.

        Raises:
            InputError: If the number of features is not the one the network was made for, or the
                events have particles, which it would ignore.
        """
        if isinstance(x, Inputs):
            raise InputError(
                "the events have particles, which an MLP does not look at: use DeepSets or "
                "PointEdgeTransformer, or give it the features, net(inputs.features)"
            )
        if x.shape[-1] != self.in_features:
            raise InputError(
                f"the network takes {self.in_features} features, the events have {x.shape[-1]} "
                f"(shape {x.shape}): select the same columns as in training"
            )
        function = activation_by_name(self.activation)
        *first, last = self.layers
        with third_party_promotion():  # events may be wider than the weights
            for layer in first:
                x = function(layer(x))
            return last(x)
