"""One training step: gradient, guard against non-finite numbers, update."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from difana._errors import ConfigError
from difana._typing import PyTree

Loss = Callable[[PyTree, tuple, Float[Array, ""]], tuple[Float[Array, ""], Mapping[str, Array]]]
"""``loss(trainable, batch, progress) -> (scalar, aux)`` with ``aux`` a dictionary of scalars."""


class TrainState(eqx.Module):
    """What a step changes.

    Attributes:
        trained: The trained leaves (the others are None).
        optimizer: State of the optimizer.
        step: Number of steps done, skipped ones included.
        skipped: Number of updates skipped because of non-finite numbers.
        consecutive: Number of the latest steps skipped in a row.
    """

    trained: PyTree
    optimizer: PyTree
    step: Int[Array, ""]
    skipped: Int[Array, ""]
    consecutive: Int[Array, ""]


class StepReport(eqx.Module):
    """What a step measures, before its update.

    Attributes:
        loss: The loss.
        aux: Further scalars of the loss.
        gradient_norm: Euclidean norm of the gradient.
        skipped: Whether the update was skipped.
        consecutive: Number of updates skipped in a row.
        finite: Whether the gradient of each trained leaf is finite, in the order of the leaves.
    """

    loss: Float[Array, ""]
    aux: dict[str, Array]
    gradient_norm: Float[Array, ""]
    skipped: Bool[Array, ""]
    consecutive: Int[Array, ""]
    finite: Bool[Array, " leaves"]


def start_state(trained: PyTree, optimizer: optax.GradientTransformation) -> TrainState:
    """Return the state before the first step, in buffers of its own (a step donates them).

    Example:
        >>> import jax.numpy as jnp, optax
        >>> int(start_state({"w": jnp.ones(2)}, optax.sgd(0.1)).step)
        0
    """
    zero = jnp.asarray(0, jnp.int32)
    return copy_leaves(TrainState(trained, optimizer.init(trained), zero, zero, zero))


def copy_leaves(tree: PyTree) -> PyTree:
    """Return a copy in new buffers; Python and NumPy numbers become arrays.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.ones(2)
        >>> copy_leaves([x])[0] is x
        False
    """

    def copy(leaf: Any) -> Array:
        # The explicit dtype strips a weak type, which would make the second step compile again.
        return jnp.array(leaf, dtype=jnp.asarray(leaf).dtype, copy=True)

    return jax.tree.map(copy, tree)


def make_step(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    combine: Callable[[PyTree, PyTree], PyTree],
    steps: int,
) -> Callable[[TrainState, PyTree, tuple], tuple[TrainState, StepReport]]:
    """Return the jitted ``step(state, fixed, batch) -> (state, report)``; ``state`` is donated.

    The progress given to the loss is ``step / (steps - 1)``. If the loss, the gradient or the
    update is not finite, trained leaves and optimizer state stay as they are and the step counts as
    skipped. Differentiation: reverse mode through the whole loss.

    Args:
        loss: The loss.
        optimizer: The optimizer; those that ask for the loss or its function (line searches,
            plateaus) are given them.
        combine: Puts trained and fixed leaves together to the full trainable.
        steps: Number of steps of the whole training.

    Returns:
        The step.

    Raises:
        ConfigError: At the first call, if the loss does not return ``(scalar, dict of scalars)``.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> step = make_step(
        ...     lambda w, batch, progress: (w**2, {}), optax.sgd(0.25),
        ...     combine=lambda trained, fixed: trained, steps=10,
        ... )
        >>> state, report = step(start_state(jnp.asarray(1.0), optax.sgd(0.25)), None, ())
        >>> float(state.trained), float(report.loss)
        (0.5, 1.0)
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def step(state: TrainState, fixed: PyTree, batch: tuple) -> tuple[TrainState, StepReport]:
        progress = state.step / max(steps - 1, 1)

        def function(trained: PyTree) -> tuple[Float[Array, ""], dict[str, Array]]:
            return _checked(loss(combine(trained, fixed), batch, progress))

        (value, aux), gradient = jax.value_and_grad(function, has_aux=True)(state.trained)
        updates, optimizer_state = optimizer.update(
            gradient,
            state.optimizer,
            state.trained,
            value=value,
            grad=gradient,
            value_fn=lambda trained: function(trained)[0],
        )
        trained = optax.apply_updates(state.trained, updates)
        finite = _finite_leaves(gradient)
        good = jnp.isfinite(value) & jnp.all(finite) & jnp.all(_finite_leaves(trained))
        consecutive = jnp.where(good, 0, state.consecutive + 1)

        def keep(new: Array, old: Array) -> Array:
            return jnp.where(good, new, old)

        following = TrainState(
            trained=jax.tree.map(keep, trained, state.trained),
            optimizer=jax.tree.map(keep, optimizer_state, state.optimizer),
            step=state.step + 1,
            skipped=state.skipped + ~good,
            consecutive=consecutive,
        )
        squares = [jnp.sum(jnp.abs(leaf) ** 2) for leaf in jax.tree.leaves(gradient)]
        norm = jnp.sqrt(sum(squares))
        return following, StepReport(value, aux, norm, ~good, consecutive, finite)

    return jax.jit(step, donate_argnums=0)


def _finite_leaves(tree: PyTree) -> Bool[Array, " leaves"]:
    return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)])


def _checked(result: Any) -> tuple[Array, dict[str, Array]]:
    """Return (loss, aux) or say what is wrong with them."""
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Mapping)):
        raise ConfigError("the loss must return (scalar, dictionary of scalars to log).")
    value, aux = jnp.asarray(result[0]), {k: jnp.asarray(v) for k, v in result[1].items()}
    if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
        raise ConfigError(f"the loss must be a real scalar, not {value.dtype}{list(value.shape)}.")
    for name, entry in aux.items():
        if entry.shape != ():
            raise ConfigError(
                f"aux['{name}'] of the loss must be a scalar, not of shape {entry.shape}."
            )
    return value, aux
