"""One training step: gradient, guard against non-finite numbers, update."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from difana._errors import ConfigError
from difana._numerics import third_party_promotion
from difana._options import whole_number
from difana._typing import PyTree
from difana.losses.step import Step
from difana.train.average import Average
from difana.train.training import checked_average

Loss = Callable[[PyTree, Any, Step], tuple[Float[Array, ""], Mapping[str, Array]]]
"""``loss(trainable, batch, step) -> (scalar, aux)`` with ``aux`` a dictionary of scalars."""

LossWithMemory = Callable[
    [PyTree, Any, Step, PyTree],
    tuple[Float[Array, ""], Mapping[str, Array], PyTree],
]
"""``loss(trainable, batch, step, memory) -> (scalar, aux, memory)``."""


class TrainState(eqx.Module):
    """What a step changes.

    Attributes:
        trained: The trained leaves (the others are None).
        optimizer: State of the optimizer.
        step: Number of steps done, skipped ones included.
        skipped: Number of updates skipped because of non-finite numbers.
        consecutive: Number of the latest steps skipped in a row.
        sound: Trained leaves and average at which loss and gradient were last as they should be.
            (The present ones come from an update and may already be where the loss is not.)
        lowest: The lowest loss so far.
        key: Random key of the training; each step folds its number into it.
        memory: What the loss hands on from step to step; None for a loss without memory.
        average: The average of the trained leaves; None for a training without.
    """

    trained: PyTree
    optimizer: PyTree
    step: Int[Array, ""]
    skipped: Int[Array, ""]
    consecutive: Int[Array, ""]
    sound: PyTree
    lowest: Float[Array, ""]
    key: PRNGKeyArray
    memory: PyTree = None
    average: Average | None = None

    @property
    def weights(self) -> PyTree:
        """The leaves to be judged and returned: the average, where there is one."""
        return self.trained if self.average is None else self.average.like(self.trained)


class StepReport(eqx.Module):
    """What a step measures, before its update.

    Attributes:
        loss: The loss.
        aux: Further scalars of the loss.
        gradient_norm: Euclidean norm of the gradient.
        skipped: Whether the update was skipped.
        consecutive: Number of updates skipped in a row.
        finite: Whether the gradient of each trained leaf is finite, in the order of the leaves.
        ceiling: The loss above which a step counts as diverging.
    """

    loss: Float[Array, ""]
    aux: dict[str, Array]
    gradient_norm: Float[Array, ""]
    skipped: Bool[Array, ""]
    consecutive: Int[Array, ""]
    finite: Bool[Array, " leaves"]
    ceiling: Float[Array, ""]


def start_state(
    trained: PyTree,
    optimizer: optax.GradientTransformation,
    *,
    key: PRNGKeyArray,
    memory: PyTree = None,
    averaged: bool = False,
) -> TrainState:
    """Return the state before the first step, in buffers of its own (a step donates them).

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> int(start_state({"w": jnp.ones(2)}, optax.sgd(0.1), key=jax.random.key(0)).step)
        0
    """
    zero, lowest = jnp.asarray(0, jnp.int32), jnp.asarray(jnp.inf, float)
    average = Average.start(trained) if averaged else None
    return copy_leaves(
        TrainState(
            trained=trained,
            optimizer=optimizer.init(trained),
            step=zero,
            skipped=zero,
            consecutive=zero,
            sound=(trained, average),
            lowest=lowest,
            key=_typed(key),
            memory=memory,
            average=average,
        )
    )


def copy_leaves(tree: PyTree) -> PyTree:
    """Return a copy in new buffers; Python and NumPy numbers become arrays.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.ones(2)
        >>> copy_leaves([x])[0] is x
        False
    """

    def copy(leaf: Any) -> Array:
        if jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
            words = jnp.array(jax.random.key_data(leaf), copy=True)
            return jax.random.wrap_key_data(words, impl=jax.random.key_impl(leaf))
        # The explicit dtype strips a weak type, which would make the second step compile again.
        return jnp.array(leaf, dtype=jnp.asarray(leaf).dtype, copy=True)

    return jax.tree.map(copy, tree)


def make_step(
    loss: Loss | LossWithMemory,
    optimizer: optax.GradientTransformation,
    *,
    combine: Callable[[PyTree, PyTree], PyTree],
    steps: int,
    max_rise: float = 1e3,
    average: float | None = None,
) -> Any:
    r"""Return the jitted ``step(state, fixed, batch) -> (state, report)``; ``state`` is donated.

    If the loss, the gradient or the update is not finite, or the loss stands above its ceiling
    :math:`l + r\,(1 + |l|)` (``l`` the lowest so far, ``r`` the ``max_rise``), trained leaves,
    optimizer state, memory and average stay as they are and the step counts as skipped.
    Differentiation: reverse mode through the whole loss.

    Args:
        loss: The loss; with a memory in the state, one that takes and returns it.
        optimizer: The optimizer; those that ask for the loss or its function (line searches,
            plateaus) are given them.
        combine: Puts trained and fixed leaves together to the full trainable.
        steps: Number of steps of the whole training, see :class:`difana.losses.Step`.
        max_rise: How far the loss may rise above its lowest value, in units of 1 + that value.
        average: Decay of the average of the weights, where the state has one.

    Returns:
        The step.

    Raises:
        ConfigError: If an option is out of range; at the first call, if the loss does not return
            ``(scalar, dict of scalars)``.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> step = make_step(
        ...     lambda w, batch, step: (w**2, {}), optax.sgd(0.25),
        ...     combine=lambda trained, fixed: trained, steps=10,
        ... )
        >>> state = start_state(jnp.asarray(1.0), optax.sgd(0.25), key=jax.random.key(0))
        >>> state, report = step(state, None, ())
        >>> float(state.trained), float(report.loss)
        (0.5, 1.0)
    """
    steps = whole_number("steps", steps)
    if isinstance(max_rise, bool) or not max_rise > 0:
        raise ConfigError(f"max_rise = {max_rise}: must be above 0.")
    checked_average(average)
    optimizer = optax.with_extra_args_support(optimizer)

    def step(state: TrainState, fixed: PyTree, batch: Any) -> tuple[TrainState, StepReport]:
        now = Step.at(state.step, key=state.key, steps=steps)

        def function(trained: PyTree) -> tuple[Float[Array, ""], tuple[dict[str, Array], PyTree]]:
            everything = combine(trained, fixed)
            if state.memory is None:
                return _checked((*_pair(loss(everything, batch, now)), None))  # pyright: ignore
            return _checked(loss(everything, batch, now, state.memory))  # pyright: ignore

        (value, (aux, memory)), gradient = jax.value_and_grad(function, has_aux=True)(state.trained)
        with third_party_promotion():
            updates, optimizer_state = optimizer.update(
                gradient,
                state.optimizer,
                state.trained,
                value=value,
                grad=gradient,
                value_fn=lambda trained: function(trained)[0],
            )
            trained = optax.apply_updates(state.trained, updates)
        mean = None
        if state.average is not None and average is not None:
            mean = state.average.updated(trained, decay=average)
        finite = _finite_leaves(gradient)
        ceiling = state.lowest + max_rise * (1 + jnp.abs(state.lowest))
        sound = jnp.isfinite(value) & jnp.all(finite) & ~(value.astype(ceiling.dtype) > ceiling)
        good = sound & jnp.all(_finite_leaves(trained))
        consecutive = jnp.where(good, 0, state.consecutive + 1)
        least = jnp.minimum(state.lowest, value.astype(state.lowest.dtype))

        def keep(new: Array, old: Array) -> Array:
            return jnp.where(good, new, old)

        following = TrainState(
            trained=jax.tree.map(keep, trained, state.trained),
            optimizer=jax.tree.map(keep, optimizer_state, state.optimizer),
            step=state.step + 1,
            skipped=state.skipped + (~good).astype(state.skipped.dtype),
            consecutive=consecutive,
            sound=jax.tree.map(
                lambda new, old: jnp.where(sound, new, old),
                (state.trained, state.average),
                state.sound,
            ),
            lowest=jnp.where(sound, least, state.lowest),
            key=state.key,
            memory=jax.tree.map(keep, memory, state.memory),
            average=jax.tree.map(keep, mean, state.average),
        )
        squares = [jnp.sum(jnp.abs(leaf) ** 2) for leaf in jax.tree.leaves(gradient)]
        norm = jnp.sqrt(sum(squares))
        return following, StepReport(value, aux, norm, ~good, consecutive, finite, ceiling)

    return jax.jit(step, donate_argnums=0)


def _typed(key: PRNGKeyArray) -> PRNGKeyArray:
    """Return a key of the new kind, whichever was given."""
    new = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return key if new else jax.random.wrap_key_data(key)


def _finite_leaves(tree: PyTree) -> Bool[Array, " leaves"]:
    return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)])


def _pair(result: Any) -> tuple:
    if not (isinstance(result, tuple) and len(result) == 2):
        raise ConfigError("the loss must return (scalar, dictionary of scalars to log).")
    return result


def _checked(result: Any) -> tuple[Array, tuple[dict[str, Array], PyTree]]:
    """Return (loss, (aux, memory)) or say what is wrong with them."""
    if not (isinstance(result, tuple) and len(result) == 3):
        raise ConfigError("a loss with a memory must return (scalar, dictionary, memory).")
    if not isinstance(result[1], Mapping):
        raise ConfigError("the loss must return (scalar, dictionary of scalars to log).")
    value, aux = jnp.asarray(result[0]), {k: jnp.asarray(v) for k, v in result[1].items()}
    if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
        raise ConfigError(f"the loss must be a real scalar, not {value.dtype}{list(value.shape)}.")
    for name, entry in aux.items():
        if entry.shape != ():
            raise ConfigError(
                f"aux['{name}'] of the loss must be a scalar, not of shape {entry.shape}."
            )
    return value, (aux, result[2])
