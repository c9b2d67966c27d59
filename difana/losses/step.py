"""What a loss is told about the step of the training it stands in."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray


class Step(eqx.Module):
    """The third argument of every loss, ``loss(trainable, batch, step) -> (scalar, aux)``.

    Attributes:
        index: Number of the step: 0, 1, ...
        progress: 0 at the first step, 1 at the last.
        key: Random key of this step alone: that of the training, folded with the index. A resumed
            training draws what an uninterrupted one does.
    """

    index: Int[Array, ""]
    progress: Float[Array, ""]
    key: PRNGKeyArray

    @classmethod
    def at(cls, index: Int[ArrayLike, ""] = 0, *, key: PRNGKeyArray, steps: int = 1) -> Step:
        """Return a step of a training of ``steps`` steps.

        Also for a loss outside of a training, such as that of held-out events: step 0 of 1.

        Args:
            index: Number of the step.
            key: Random key of the training.
            steps: Number of its steps.

        Example:
            >>> float(Step.at(5, key=jax.random.key(0), steps=11).progress)
            0.5
        """
        index = jnp.asarray(index, jnp.int32)
        return cls(index, index / max(steps - 1, 1), jax.random.fold_in(key, index))
