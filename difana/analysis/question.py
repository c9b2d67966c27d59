"""What the recipe minimises: the objective of the channels, its penalties and conditions."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
from jaxtyping import Array

from difana.analysis.conditions import Closing, Subject, constraints_of, price
from difana.analysis.interests import models_of, pois_of
from difana.analysis.options import ConstraintOptions, TrainingOptions
from difana.analysis.own_parts import objective_of
from difana.likelihood import Channel, Model, Parameter, build_model
from difana.losses import Objective, lagrangian, minimum_events


class Question(eqx.Module):
    """The objective of the trained channels and its penalties; equal ones share programs."""

    objective: Objective = eqx.field(static=True)
    others: tuple[Channel, ...] = eqx.field(kw_only=True)
    parameters: tuple[Parameter, ...] = eqx.field(kw_only=True)
    poi: str | Sequence[str] = eqx.field(static=True, kw_only=True)
    only: str | None = eqx.field(static=True, kw_only=True, default=None)
    others_fixed: bool = eqx.field(static=True, kw_only=True, default=False)
    minimum_events: float = eqx.field(static=True, kw_only=True)
    penalty: float = eqx.field(static=True, kw_only=True)
    constraints: ConstraintOptions = eqx.field(static=True, kw_only=True)

    def poverty(self, own: Sequence[Channel]) -> Array:
        """Return the penalty for bins with little simulated background."""
        each = [minimum_events(c, poi=self.poi, threshold=self.minimum_events) for c in own]
        return functools.reduce(operator.add, each)

    def model(self, own: Sequence[Channel]) -> Model:
        """Return the model of the trained channels and the others."""
        leading, *_ = pois_of(self.poi)
        return build_model((*own, *self.others), poi=leading, parameters=self.parameters)

    def value(self, model: Model) -> Array:
        """Return the objective: the sum over the parameters of interest that are trained for."""
        models = models_of(model, self.poi, fixed=self.others_fixed)
        asked = [own for name, own in models.items() if self.only in (None, name)]
        return functools.reduce(operator.add, map(self.objective, asked))

    def __call__(
        self,
        own: Sequence[Channel],
        penalty: Array | None = None,
        *,
        closing: Closing | None = None,
        multipliers: Sequence[Array] | None = None,
    ) -> tuple[Array, dict[str, Array]]:
        """Return the objective with its penalties: the Lagrangian where there are multipliers."""
        model = self.model(own)
        value = self.value(model)
        penalty = self.poverty(own) if penalty is None else penalty
        aux = {"objective": value, "penalty": penalty}
        wanted = constraints_of(
            self.constraints,
            model,
            channels=[channel.name for channel in own],
            with_closure=closing is not None,
        )
        total, subject = value + self.penalty * penalty, Subject(model, closing)
        if multipliers is None:
            cost, violations = price(wanted, subject)
            return total + cost, {**aux, **violations}
        total, violations = lagrangian(total, subject, wanted, multipliers)
        return total, {**aux, **violations}


def question_of(
    training: TrainingOptions,
    *,
    others: Sequence[Channel],
    parameters: Sequence[Parameter],
    poi: str | Sequence[str],
    others_fixed: bool = False,
) -> Question:
    """Return the question of a training."""
    return Question(
        objective_of(training.objective),
        others=tuple(others),
        parameters=tuple(parameters),
        poi=poi,
        only=training.objective_poi,
        others_fixed=others_fixed,
        minimum_events=training.minimum_events,
        penalty=training.penalty,
        constraints=training.constraints,
    )


def log_objective(
    training: TrainingOptions,
    *,
    others: Sequence[Channel] = (),
    parameters: Sequence[Parameter] = (),
    poi: str | Sequence[str] = "mu",
) -> Callable[[Channel], Array]:
    """Return what the recipe minimises as a function of a channel: compiled, differentiable.

    The objective (for limits, its logarithm), the penalty for bins with little background, and
    the price of broken conditions (but for closure, which hard bins cannot break).

    Args:
        training: The objective, the events wanted in each bin, the weight of the penalty.
        others: Further channels, constant.
        parameters: Settings of parameters, as in ``build_model``.
        poi: Parameter of interest, or several: the objectives of all are added.
    """
    question = question_of(training, others=others, parameters=parameters, poi=poi)
    return jax.tree_util.Partial(_judged_alone, question)


def _judged_alone(question: Question, own: Channel) -> Array:
    return judged(question, (own,))


@eqx.filter_jit
def judged(question: Question, own: tuple[Channel, ...]) -> Array:
    """Return what the recipe minimises: compiled, differentiable."""
    return question(own)[0]
