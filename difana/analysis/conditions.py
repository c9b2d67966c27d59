"""Conditions on the trained observable: what is asked of it, and whether it holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._errors import ConfigError
from difana.analysis.options import ConstraintOptions
from difana.data import is_signal
from difana.likelihood import Channel, Model
from difana.losses import (
    Constraint,
    background_events,
    closure,
    minimum_background,
    nuisance_width,
    postfit_widths,
    relative_difference,
)

# Of a broken condition, where states or binnings are compared: objectives are logarithms, so a
# condition missed by 10 % costs as much as a limit 2.7 times larger. No gain of bins is worth that.
_PRICE = 10.0


class Closing(NamedTuple):
    """Background of the trained regions, one after the other: as the training sees it, and hard."""

    soft: Float[Array, " bins"]
    hard: Float[Array, " bins"]


class Subject(NamedTuple):
    """What conditions look at."""

    model: Model
    closing: Closing | None = None


@dataclasses.dataclass(frozen=True)
class Condition:
    """A condition and what became of it.

    Attributes:
        name: Its key in the configuration.
        wanted: The bound.
        found: The number that comes next to breaking it, or breaks it most.
        where: Bin or parameter it belongs to.
        met: Whether the condition holds.
    """

    name: str
    wanted: float
    found: float
    where: str
    met: bool

    def __str__(self) -> str:
        """Return the condition in words."""
        word = "met" if self.met else "not met"
        bound = "at most" if self.name == "Closure" else "at least"
        return f"{self.name} {word}: {self.found:.3g} ({self.where}), {bound} {self.wanted:g} asked"


def background_of(*channels: Channel, poi: str | Sequence[str]) -> Float[Array, " bins"]:
    """Return the nominal background of a channel, or of several, one after the other.

    Example:
        >>> from difana.likelihood import NormFactor, Template
        >>> s, b = Template([1.0], (NormFactor("mu"),), name="s"), Template([9.0], name="b")
        >>> background_of(Channel((s, b), name="SR"), poi="mu").tolist()
        [9.0]
    """
    found = []
    for channel in channels:
        values = [jnp.asarray(t.values) for t in channel.templates if not is_signal(t, poi)]
        found.append(jnp.sum(jnp.stack(values), axis=0))
    return found[0] if len(found) == 1 else jnp.concatenate(found)


def nuisances_of(options: ConstraintOptions, model: Model) -> tuple[str, ...]:
    """Return the parameters whose width is limited: those named, or all of normsys and histosys.

    Raises:
        ConfigError: If there is none.

    Example:
        >>> from difana.likelihood import NormFactor, NormSys, Template, build_model
        >>> templates = (Template([1.0], (NormFactor("mu"),), name="s"),
        ...              Template([9.0], (NormSys(1.1, 0.9, "norm"),), name="b"))
        >>> nuisances_of(ConstraintOptions(), build_model([Channel(templates, name="SR")]))
        ('norm',)
    """
    names = options.nuisances or tuple(
        name for name, *_, kind in model.structure.sets if kind == "normal"
    )
    if not names:
        raise ConfigError("a condition on the width of nuisances: the model has no systematics")
    return names


def constraints_of(
    options: ConstraintOptions,
    model: Model,
    *,
    channels: Sequence[str],
    with_closure: bool = True,
) -> tuple[Constraint, ...]:
    """Return the conditions on a `Subject` as constraints of the losses.

    Args:
        options: What is asked.
        model: A model of the analysis; its structure alone is read.
        channels: The trained channels.
        with_closure: False where soft bins are not at hand.
    """
    found = []
    damping = options.damping
    if options.minimum_background is not None:
        wanted = options.minimum_background
        for i, channel in enumerate(channels):
            name = "minimum_background" if i == 0 else f"minimum_background_{i + 1}"
            found.append(
                minimum_background(wanted, channel=channel, of=_model, damping=damping, name=name)
            )
    if options.nuisance_width is not None:
        names = nuisances_of(options, model)
        wanted = options.nuisance_width
        found.append(nuisance_width(names, wanted, of=_model, damping=damping))
    if options.closure is not None and with_closure:
        found.append(closure(options.closure, of=_difference, damping=damping))
    return tuple(found)


def _model(subject: Subject) -> Model:
    return subject.model


def _difference(subject: Subject) -> Array:
    assert subject.closing is not None
    return relative_difference(*subject.closing)


def price(
    constraints: Sequence[Constraint], subject: Subject
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Return what broken conditions cost where states are compared, and the largest violations.

    An exact penalty: ten times the sum of all violations.
    """
    total, aux = jnp.zeros(()), {}
    for constraint in constraints:
        h = constraint.infeasibility(subject)
        total = total + _PRICE * jnp.sum(jnp.maximum(h, 0.0))
        aux[constraint.name] = jnp.max(h)
    return total, aux


def judged(
    options: ConstraintOptions, model: Model, closing: Closing, *, channels: Sequence[Channel]
) -> tuple[Condition, ...]:
    """Return what became of the conditions.

    Args:
        options: What was asked.
        model: The final model.
        closing: Soft and hard background of the trained regions.
        channels: These regions in hard bins.

    Example:
        >>> from difana.likelihood import NormFactor, Template, build_model
        >>> templates = (Template([1.0, 2.0], (NormFactor("mu"),), name="s"),
        ...              Template([20.0, 9.0], name="b"))
        >>> channel = Channel(templates, name="SR")
        >>> model = build_model([channel])
        >>> closing = Closing(jnp.array([20.0, 9.9]), jnp.array([20.0, 9.0]))
        >>> asked = ConstraintOptions(minimum_background=10.0, closure=0.05)
        >>> for condition in judged(asked, model, closing, channels=[channel]):
        ...     print(condition)
        MinimumBackground not met: 9 (bin 1), at least 10 asked
        Closure not met: 0.1 (bin 1), at most 0.05 asked
    """
    found = []

    def add(name: str, wanted: float, values: np.ndarray, places: Sequence[str]) -> None:
        most = name == "Closure"
        worst = int(np.argmax(values) if most else np.argmin(values))
        value = float(values[worst])
        met = bool(value <= wanted if most else value >= wanted)
        found.append(Condition(name, wanted, value, places[worst], met))

    bins = [
        f"bin {i}" if len(channels) == 1 else f"bin {i} of {channel.name}"
        for channel in channels
        for i in range(len(np.asarray(channel.templates[0].values)))
    ]
    if options.minimum_background is not None:
        each = [background_events(model, channel=channel.name) for channel in channels]
        yields = np.concatenate([np.asarray(own) for own in each])
        add("MinimumBackground", options.minimum_background, yields, bins)
    if options.nuisance_width is not None:
        names = nuisances_of(options, model)
        add("NuisanceWidth", options.nuisance_width, np.asarray(_widths(model, names)), names)
    if options.closure is not None:
        values = np.abs(np.asarray(relative_difference(*closing)))
        add("Closure", options.closure, values, bins)
    return tuple(found)


@eqx.filter_jit
def _widths(model: Model, names: tuple[str, ...]) -> Array:
    return jax.lax.stop_gradient(postfit_widths(model, names))
