"""Constrained training by the modified differential method of multipliers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float

from difana._errors import ConfigError
from difana._typing import PyTree
from difana.losses.gradient_reversal import reverse_gradient
from difana.losses.step import Step

_KINDS = ("at_least", "at_most", "equal")


class Constraint(eqx.Module):
    """A condition on what is trained: ``function(subject)`` at least, at most or equal a bound.

    Attributes:
        function: From the subject (a model, a channel, parameters, ...) to a number or an array;
            each entry is a constraint of its own, with its own multiplier (static).
        bound: The bound, in units of the function.
        kind: ``"at_least"``, ``"at_most"`` or ``"equal"`` (static).
        damping: Weight ``d > 0`` of the quadratic term: the larger, the less the multipliers
            overshoot, and the stiffer the problem.
        name: Name in the history (static).
    """

    function: Callable[[Any], Float[Array, "..."]] = eqx.field(static=True)
    bound: Float[ArrayLike, "..."]
    kind: Literal["at_least", "at_most", "equal"] = eqx.field(static=True, kw_only=True)
    damping: Float[ArrayLike, ""] = eqx.field(default=1.0, kw_only=True)
    name: str = eqx.field(static=True, default="constraint", kw_only=True)

    def __check_init__(self) -> None:
        """Refuse an unknown kind and a damping that is not positive."""
        if self.kind not in _KINDS:
            raise ConfigError(f"constraint '{self.name}': kind '{self.kind}' is none of {_KINDS}")
        if not isinstance(self.damping, Tracer) and not np.all(np.asarray(self.damping) > 0):
            raise ConfigError(
                f"constraint '{self.name}': damping {self.damping} must be positive, without it "
                "the multipliers circle around the solution"
            )

    def infeasibility(self, subject: Any) -> Float[Array, "..."]:
        """Return what must not be positive (for "equal": must vanish)."""
        value = jnp.asarray(self.function(subject))
        bound = jnp.asarray(self.bound, value.dtype)
        return value - bound if self.kind == "at_most" else bound - value


class Constrained(eqx.Module):
    """What is trained under constraints: the trainable and the multipliers, all leaves.

    Attributes:
        trainable: Network, edges, ...: any PyTree.
        multipliers: One array a constraint.
    """

    trainable: PyTree
    multipliers: tuple[Float[Array, "..."], ...]


def with_multipliers(
    trainable: PyTree, constraints: Sequence[Constraint], subject: Any
) -> Constrained:
    """Return the trainable with multipliers, all zero.

    Args:
        trainable: Any PyTree.
        constraints: The constraints.
        subject: What they act on, or the ``jax.eval_shape`` of it: only shapes are used.

    Raises:
        ConfigError: If two constraints share a name.

    Example:
        >>> import jax.numpy as jnp
        >>> total = Constraint(jnp.sum, 1.0, kind="equal")
        >>> with_multipliers(jnp.zeros(2), [total], jnp.zeros(2)).multipliers
        (Array(0., dtype=...),)
    """
    names = [constraint.name for constraint in constraints]
    if len(set(names)) < len(names):
        raise ConfigError(f"constraints {names} need different names")
    shapes = [eqx.filter_eval_shape(c.infeasibility, subject) for c in constraints]
    return Constrained(trainable, tuple(jnp.zeros(s.shape, s.dtype) for s in shapes))


def lagrangian(
    value: Float[Array, ""],
    subject: Any,
    constraints: Sequence[Constraint],
    multipliers: Sequence[Float[Array, "..."]],
) -> tuple[Float[Array, ""], dict[str, Array]]:
    r"""Return the damped Lagrangian, whose descent ascends in the multipliers.

    With the infeasibility :math:`h` (:math:`\epsilon - g` for "at least" and "equal",
    :math:`g - \epsilon` for "at most")

    .. math:: L + \sum_{\mathrm{equal}} \Big[\lambda h + \frac{d}{2} h^2\Big]
              + \sum_{\mathrm{others}} \min_{s} \Big[\lambda (h + s^2) + \frac{d}{2}(h + s^2)^2\Big]

    The slack variable :math:`s` of an inequality stands at its best value,
    :math:`s^2 = \max(0, -h - \lambda/d)`: as a variable of its own it would never leave zero, where
    its gradient vanishes. A multiplier of a constraint that holds decays to zero. The gradient
    in :math:`\lambda` is reversed, so one optimizer descends in all else and ascends in it.

    Args:
        value: The objective :math:`L`.
        subject: What the constraints act on.
        constraints: The constraints.
        multipliers: Their multipliers :math:`\lambda`, see :func:`with_multipliers`.

    Returns:
        The Lagrangian, and for each constraint ``"<name>"``: its largest violation (negative
        where there is room).

    References:
        J. Platt, A. Barr, NIPS 1987, "Constrained differential optimization"; R. T. Rockafellar,
        Math. Program. 5 (1973) 354 for the eliminated slack variable.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> total = Constraint(jnp.sum, 1.0, kind="at_least", name="total")
        >>> loss, aux = lagrangian(jnp.asarray(0.0), jnp.zeros(2), [total], [jnp.asarray(2.0)])
        >>> float(loss), float(aux["total"])
        (2.5, 1.0)
    """
    aux = {}
    for constraint, multiplier in zip(constraints, multipliers, strict=True):
        h = constraint.infeasibility(subject)
        d = jnp.asarray(constraint.damping, h.dtype)
        ascent = reverse_gradient(multiplier)
        if constraint.kind == "equal":
            terms = ascent * h + 0.5 * d * h**2
            aux[constraint.name] = jnp.max(jnp.abs(h))
        else:
            terms = 0.5 * (jnp.maximum(ascent + d * h, 0.0) ** 2 - ascent**2) / d
            aux[constraint.name] = jnp.max(h)
        value = value + jnp.sum(terms)
    return value, aux


def constrained(
    objective: Callable[[Any], Float[Array, ""]],
    constraints: Sequence[Constraint],
    *,
    subject: Callable[[PyTree, Any, Step], Any],
) -> Callable[[Constrained, Any, Step], tuple[Float[Array, ""], dict[str, Array]]]:
    """Return a loss for :func:`difana.train.fit` that respects constraints.

    Args:
        objective: From the subject to the number to minimise.
        constraints: What the solution must obey; each acts on the same subject.
        subject: ``subject(trainable, batch, step)``, built once a step, e.g. the model of the
            batch.

    Returns:
        ``loss(state, batch, step)`` of a :class:`Constrained` state.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> # the point of the line x + y = 1 next to the origin
        >>> line = Constraint(jnp.sum, 1.0, kind="equal")
        >>> loss = constrained(lambda p: jnp.sum(p**2), [line], subject=lambda p, *_: p)
        >>> state = with_multipliers(jnp.zeros(2), [line], jnp.zeros(2))
        >>> value, aux = loss(state, (), None)
        >>> float(value), float(aux["objective"])
        (0.5, 0.0)
    """

    def loss(state: Constrained, batch: Any, step: Step) -> tuple[Array, dict[str, Array]]:
        found = subject(state.trainable, batch, step)
        value = objective(found)
        total, aux = lagrangian(value, found, constraints, state.multipliers)
        return total, {"objective": value, **aux}

    return loss
