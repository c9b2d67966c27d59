"""What can be optimised: a table of functions of a model, each also the loss of a batch."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, Unpack, cast

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from difana._errors import ConfigError, nearest
from difana._typing import Network
from difana.data import Sample
from difana.hist import Shares
from difana.infer import Status
from difana.likelihood import Model, TemplateSums
from difana.losses.objectives._model import ModelOptions, model_of

Found = tuple[Float[Array, ""], dict[str, Array]]
"""The number to minimise, and ``{"value": what it stands for, "status": bit flags}``."""


class BatchOptions(ModelOptions, total=False):
    """What the objectives take as losses of a batch: the model's, and what is their own."""

    values: TemplateSums | None
    mu: float
    level: float
    of: Sequence[str] | None
    quantity: str


class BatchLoss(Protocol):
    """An objective as the loss of a batch; ``of_model`` is the same of a model."""

    of_model: Callable[..., Found]

    def __call__(
        self,
        net: Network,
        batch: Sequence[Sample],
        *,
        edges: Float[Array, " edges"] | Shares,
        bandwidth: Float[Array, ""] | float | None,
        **options: Unpack[BatchOptions],
    ) -> Found:
        """Return the objective of the model of a batch, see :func:`difana.losses.model_of`."""
        ...


@dataclasses.dataclass(frozen=True)
class Objective:
    """One row of the table.

    Attributes:
        name: Its name in ``Training: Objective``.
        of_model: ``of_model(model, **options) -> (number to minimise, {"value", "status"})``.
        sentence: What it is.
        goal: ``"minimise"`` or ``"maximise"``: what is wanted of ``value``.
        logarithm: Whether recipes descend on the logarithm of the number, so that one learning
            rate fits all scales.
    """

    name: str
    of_model: Callable[..., Found]
    sentence: str
    goal: str = "minimise"
    logarithm: bool = False

    @property
    def options(self) -> Mapping[str, inspect.Parameter]:
        """The options of this objective, with their types and defaults."""
        everything = inspect.signature(self.of_model).parameters
        return {name: each for name, each in everything.items() if name != "model"}

    def __call__(self, model: Model) -> Float[Array, ""]:
        """Return what a recipe minimises; infinite where no number exists: none looks best."""
        number, aux = self.of_model(model)
        lost = aux["status"] & int(Status.NOT_BRACKETED | Status.NOT_FINITE)
        number = jnp.where(lost == 0, number, jnp.inf)
        return jnp.log(number) if self.logarithm else number


OBJECTIVES: dict[str, Objective] = {}
"""All objectives by name: what YAML, its schema, the docs and the error texts read."""

_BATCH = """

    As the loss of a batch, ``{name}(net, batch, edges=..., bandwidth=..., ...)``, it is that of the
    model which :func:`difana.losses.model_of` makes of network, samples and bins, and takes the
    options of both; ``{name}.of_model(model, ...)`` is that of a model.
"""


def objective(
    sentence: str, *, goal: str = "minimise", logarithm: bool = False
) -> Callable[[Callable[..., Found]], BatchLoss]:
    """Enter a function of a model in the table, and return the loss of a batch made of it.

    Args:
        sentence: What it is.
        goal: ``"minimise"`` or ``"maximise"``.
        logarithm: See :class:`Objective`.

    Example:
        >>> import jax.numpy as jnp
        >>> from difana.infer import Status
        >>> from difana.likelihood import uncorrelated_background
        >>> @objective("expected background, no objective at all", logarithm=True)
        ... def all_events(model, *, mu=0.0):
        ...     start = model.init.at[model.poi_index].set(mu)
        ...     events = jnp.sum(model.expected_main(start))
        ...     return events, {"value": events, "status": jnp.asarray(0)}
        >>> model = uncorrelated_background([1.0], [50.0], [3.0])
        >>> round(float(jnp.exp(OBJECTIVES["all_events"](model))), 3)
        50.0
        >>> float(all_events.of_model(model, mu=2.0)[0])
        52.0
        >>> del OBJECTIVES["all_events"]
    """

    def enter(of_model: Callable[..., Found]) -> BatchLoss:
        name = of_model.__name__
        row = OBJECTIVES[name] = Objective(name, of_model, sentence, goal, logarithm)

        @functools.wraps(of_model)
        def loss(
            net: Network,
            batch: Sequence[Sample],
            *,
            edges: Float[Array, " edges"] | Shares,
            bandwidth: Float[Array, ""] | float | None,
            **options: Any,
        ) -> Found:
            own = {key: options.pop(key) for key in row.options if key in options}
            if strange := [key for key in options if key not in known]:
                raise TypeError(
                    f"{name} has no option '{strange[0]}'.{nearest(strange[0], [*known, *own])}"
                )
            model = model_of(net, batch, edges=edges, bandwidth=bandwidth, **options)
            return of_model(model, **own)

        given = inspect.signature(model_of)
        known = given.parameters
        every = {**known, **row.options}
        result = cast(Any, loss)
        result.of_model = of_model
        result.__signature__ = given.replace(
            parameters=list(every.values()),
            return_annotation=inspect.signature(of_model).return_annotation,
        )
        first, blank, rest = (of_model.__doc__ or "").partition("\n\n")
        result.__doc__ = first + _BATCH.format(name=name).rstrip() + blank + rest
        return cast(BatchLoss, result)

    return enter


def objective_named(name: str) -> Objective:
    """Return a row of the table.

    Raises:
        ConfigError: If there is none of that name.

    Example:
        >>> objective_named("expected_limt")
        Traceback (most recent call last):
        difana._errors.ConfigError: objective 'expected_limt' is not one of ... Did you mean ...
    """
    if name not in OBJECTIVES:
        raise ConfigError(
            f"objective '{name}' is not one of {list(OBJECTIVES)}.{nearest(name, OBJECTIVES)}"
        )
    return OBJECTIVES[name]


def reported(value: Float[Array, ""], status: Int[Array, ""]) -> dict[str, Array]:
    """Return what every objective reports beside its number."""
    return {"value": value, "status": jnp.asarray(status)}
