"""Several losses as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from difana._errors import ConfigError, nearest

Terms = Mapping[str, Callable[..., tuple[Float[Array, ""], Mapping[str, Array]]]]


def weighted_sum(
    losses: Terms, weights: Mapping[str, Float[ArrayLike, ""]]
) -> Callable[..., tuple[Float[Array, ""], dict[str, Array]]]:
    r"""Return the loss :math:`\sum_i w_i L_i` of losses that share their arguments.

    What the terms have in common, such as the network's pass over the events, is computed once:
    the compiler finds it.

    Args:
        losses: The losses by name, each ``(...) -> (scalar, aux)``.
        weights: The weight of each; all of them must be given.

    Returns:
        A loss with the same arguments. Its aux holds each term as ``"<name>"`` and each of its
        aux entries as ``"<name>/<entry>"``.

    Raises:
        ConfigError: If there is no loss, or weights and losses have different names.

    Example:
        >>> import jax.numpy as jnp
        >>> terms = {"a": lambda x: (x, {"status": 0 * x}), "b": lambda x: (x**2, {})}
        >>> loss, aux = weighted_sum(terms, {"a": 1.0, "b": 0.5})(jnp.asarray(2.0))
        >>> float(loss), sorted(aux)
        (4.0, ['a', 'a/status', 'b'])
    """
    if not losses:
        raise ConfigError("a weighted sum needs at least one loss")
    for name in weights:  # a mistyped weight first: the message can then name what was meant
        if name not in losses:
            raise ConfigError(f"weighted sum: no loss '{name}'.{nearest(name, losses.keys())}")
    for name in losses:
        if name not in weights:
            raise ConfigError(f"weighted sum: the loss '{name}' has no weight")

    def total(*args: Any, **kwargs: Any) -> tuple[Array, dict[str, Array]]:
        value, found = jnp.zeros(()), {}
        for name, loss in losses.items():
            term, aux = loss(*args, **kwargs)
            value = value + weights[name] * term
            found[name] = term
            found.update({f"{name}/{entry}": x for entry, x in aux.items()})
        return value, found

    return total
