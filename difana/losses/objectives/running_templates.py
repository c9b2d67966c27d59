"""Running templates: the value from a mean over past batches, the gradient from the present one."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from difana._errors import InputError
from difana._numerics import safe_divide
from difana.likelihood import TemplateSums


class RunningSums(eqx.Module):
    """An exponential mean of template sums: the ``memory`` of a training.

    Attributes:
        sums: The mean so far, times ``weight``.
        weight: The sum of the weights of all batches seen, which goes to 1.

    Example:
        >>> import jax.numpy as jnp
        >>> sums = TemplateSums(jnp.array([[2.0]]), jnp.array([[1.0]]))
        >>> memory = RunningSums.start(sums)
        >>> float(memory.weight), memory.sums.contents.tolist()
        (0.0, [[0.0]])
    """

    sums: TemplateSums
    weight: Float[Array, ""]

    @classmethod
    def start(cls, like: Any) -> RunningSums:
        """Return the memory before the first batch.

        Args:
            like: Sums of the shapes to come, or their ``jax.eval_shape``.
        """
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)
        return cls(zeros, jnp.zeros((), jax.tree.leaves(zeros)[0].dtype))


def running_sums(
    memory: RunningSums, sums: TemplateSums, *, decay: float = 0.9
) -> tuple[TemplateSums, RunningSums]:
    r"""Return sums with the value of the running mean and the derivatives of the batch.

    .. math:: \bar Y \leftarrow d\,\bar Y + (1-d)\,Y, \qquad
              w \leftarrow d\,w + (1-d), \qquad Y_\mathrm{used} = \bar Y / w

    The variance of the yields falls by :math:`(1-d)/(1+d)` and with it the bias of the loss; the
    price is that :math:`1/(1-d)` past states of the network take part. The first batches are not
    biased towards zero.

    Args:
        memory: The memory so far.
        sums: Sums of the present batch.
        decay: ``d``, in [0, 1); 0 is the plain batch.

    Returns:
        The sums for ``channel_from_sums``, and the memory for the next step.

    Raises:
        InputError: If the decay is outside [0, 1).

    Example:
        >>> import jax.numpy as jnp
        >>> def of(value):
        ...     return TemplateSums(jnp.array([[value]]), jnp.array([[value]]))
        >>> _, memory = running_sums(RunningSums.start(of(0.0)), of(2.0), decay=0.5)
        >>> used, memory = running_sums(memory, of(5.0), decay=0.5)
        >>> float(used.contents[0, 0])  # (2 / 4 + 5 / 2) / (3 / 4)
        4.0
    """
    if not 0 <= decay < 1:
        raise InputError(f"decay is {decay}; it must be at least 0 and below 1")
    still = lax.stop_gradient(sums)
    mean = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, memory.sums, still)
    weight = decay * memory.weight + (1 - decay)
    used = jax.tree.map(lambda leaf: safe_divide(leaf, weight), mean)
    return sums.valued(used), RunningSums(mean, weight)
