"""Fits of several alternative models to the same data, and the envelope of their likelihoods."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from difana._errors import InputError, ModelError
from difana._numerics import traced
from difana.infer.fit import solve
from difana.infer.parallel._many import in_chunks
from difana.likelihood import Model


@dataclasses.dataclass(frozen=True)
class Alternatives:
    """Models of the same observed yields; those of equal structure share one program.

    Attributes:
        models: The models.
        data: One data vector for each.
        parameter: The parameter that all have.
        penalties: What is added to twice the nll of each, ``[models]``.
        names: What to call them.
    """

    models: tuple[Model, ...]
    data: tuple[Array, ...]
    parameter: str
    penalties: Float[Array, " models"]
    names: tuple[str, ...]

    @property
    def indices(self) -> tuple[int, ...]:
        """Position of the parameter in each model."""
        return tuple(model.index(self.parameter) for model in self.models)

    @property
    def groups(self) -> list[list[int]]:
        """Models of equal structure."""
        found: dict[Any, list[int]] = {}
        for i, model in enumerate(self.models):
            leaves, tree = jax.tree.flatten(model)
            key = tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
            found.setdefault(key, []).append(i)
        return list(found.values())


def alternatives(
    models: Sequence[Model],
    data: Float[Array, " data"] | Sequence[Float[Array, " data"]],
    *,
    parameter: str | None,
    correction: float,
    free_parameters: Sequence[int] | None,
    names: Sequence[str] | None,
) -> Alternatives:
    """Check the input of a discrete profile.

    Raises:
        ModelError: If there is no model, bins or observed yields differ, or a model lacks the
            parameter.
        InputError: If lengths differ or the correction is negative.
    """
    models = tuple(models)
    if not models:
        raise ModelError("discrete profiling needs at least one model")
    if not isinstance(data, Array | np.ndarray):
        vectors = tuple(jnp.asarray(vector) for vector in data)
        if len(vectors) != len(models):
            raise InputError(f"{len(vectors)} data vectors are given for {len(models)} models")
    else:
        vectors = (jnp.asarray(data),) * len(models)
    first, seen = models[0], vectors[0][: models[0].bins]
    for i, (model, vector) in enumerate(zip(models, vectors, strict=True)):
        if model.bins != first.bins:
            raise ModelError(
                f"model {i} has {model.bins} bins, model 0 has {first.bins}: alternatives must "
                "describe the same observed yields"
            )
        if np.any(model.structure.masked) and not np.array_equal(
            model.structure.masked, first.structure.masked
        ):
            raise ModelError(f"model {i} masks other bins than model 0")
        try:
            model.check_data(vector)
        except ModelError as error:
            raise ModelError(f"model {i}: {error}; give one data vector for each model") from error
        if not traced(seen, vector) and not np.array_equal(seen, vector[: model.bins]):
            raise ModelError(
                f"the observed yields given for model {i} are not those of model 0: their "
                "likelihoods cannot be compared"
            )
    name = first.parameters[first.poi_index] if parameter is None else parameter
    for i, model in enumerate(models):
        place = model.index(name)
        if model.structure.fixed[place]:
            raise ModelError(f"parameter '{name}' is held in every fit of model {i}")
    if not correction >= 0:
        raise InputError(f"correction must not be negative: {correction}")
    numbers = (
        [free_number(model) for model in models] if free_parameters is None else free_parameters
    )
    labels = [f"model {i}" for i in range(len(models))] if names is None else names
    for what, given in (("free_parameters", numbers), ("names", labels)):
        if len(given) != len(models):
            raise InputError(f"{len(given)} {what} are given for {len(models)} models")
    penalties = correction * jnp.asarray(numbers, first.nominal.dtype)
    return Alternatives(models, vectors, name, penalties, tuple(labels))


def free_number(model: Model) -> int:
    """Return the number of parameters that are fitted without constraint."""
    free = ~model.structure.fixed
    free[model.structure.constrained] = False
    return int(free.sum())


class Fits(NamedTuple):
    """What is kept of fits of all models at several values."""

    twice: Float[Array, "models points"]  # twice the nll above a perfect description
    value: Float[Array, "models points"]  # of the parameter
    params: list[Float[Array, "points params"]]  # of each model
    status: Int[Array, "models points"]


def fits_at(
    found: Alternatives,
    data: Sequence[Float[Array, " data"]],
    values: Float[Array, " points"],
    *,
    free: bool = False,
    batch: int = 8,
) -> Fits:
    """Fit all models with the parameter held at each value, or from there, not negative."""
    size = values.shape[0]
    parts: list[Any] = [None] * len(found.models)
    for group in found.groups:
        models = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(found.models[i] for i in group))
        vectors = jnp.stack([data[i] for i in group])
        which = jnp.repeat(jnp.arange(len(group)), size)
        index = jnp.full(which.shape, found.indices[group[0]])
        items = (which, index, jnp.tile(values, len(group)), jnp.full(which.shape, free))
        done = in_chunks(_one, (models, vectors), items, batch=batch)
        for row, i in enumerate(group):
            parts[i] = jax.tree.map(lambda x, r=row: x[r * size : (r + 1) * size], done)
    return Fits(
        jnp.stack([2 * part[0] for part in parts]),
        jnp.stack([part[1] for part in parts]),
        [part[2] for part in parts],
        jnp.stack([part[3] for part in parts]),
    )


def _one(shared: tuple[Model, Array], item: tuple[Array, ...]) -> tuple[Array, ...]:
    models, vectors = shared
    which, index, value, free = item
    model = jax.tree.map(lambda leaf: leaf[which], models)
    at = jnp.arange(model.init.size) == index
    start = jnp.where(at, value, model.init)
    held = model.fixed | (at & ~free)
    lower = jnp.where(at, 0.0, model.lower)
    upper = jnp.where(at, jnp.inf, model.upper)
    fit = solve(model, vectors[which], start, held=held, lower=lower, upper=upper)
    return fit.half_deviance, fit.params[index], fit.params, fit.status
