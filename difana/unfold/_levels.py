"""What every half step of OmniFold looks at: the two levels with weights, splits and bins."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from difana._typing import PyTree
from difana.nn import trainable
from difana.ratio import Classes
from difana.unfold._fold import bin_index, binned_sums, equal_bins
from difana.unfold.problem import UnfoldingProblem
from difana.unfold.replicas import Factors, Shifts
from difana.unfold.settings import Settings


class Indices(NamedTuple):
    """Rows of the simulation that take part at truth level, at detector level, in both."""

    gen: Array
    reco: Array
    both: Array


class Inputs(eqx.Module):
    """Everything a run needs."""

    problem: UnfoldingProblem
    reco_nets: PyTree
    gen_nets: PyTree
    factors: Factors
    key: Array
    rows: Indices
    settings: Settings = eqx.field(static=True)
    learn_fakes: bool = eqx.field(static=True)
    shifts: Shifts | None = None


class Split(NamedTuple):
    """Rows divided once into training and held-out rows; masked rows have zero weight."""

    x: Array
    train: Array
    held: Array
    level: Array | None

    def classes(self, above: Array, below: Array) -> tuple[Classes, Classes]:
        """Return training and held-out rows with these weights."""
        axis = 0 if self.level is None else 1
        train, held = (
            Classes(jnp.take(self.x, part, axis=axis), above[:, part], below[:, part], self.level)
            for part in (self.train, self.held)
        )
        return train, held


def split(x: Array, held: Array, fraction: float, level: Array | None = None) -> Split:
    """Return rows with their halves; ``held`` marks about the fraction of them."""
    # the numbers of rows must be static: the held-out ones come first in this order
    count = max(1, round(len(held) * fraction))
    order = jnp.argsort(~held, stable=True)
    return Split(x, order[count:], order[:count], level)


class Levels(eqx.Module):
    """The two levels of all replicas; made inside ``jit``, without work worth saving.

    Attributes:
        settings: How to run (static, as the next two).
        learn_fakes: Whether fakes get weights of their own.
        bins: Number of bins of the fold-forward test, all observables together.
        problem: The inputs.
        rows: Rows that take part.
        start: Trained leaves of the networks of both steps before the first iteration.
        static: All else of them.
        level: Version of the detector level of each replica; None if there is only one.
        both: Events inside both levels.
        gen_weights: Weights at truth level, ``[replicas, events]``.
        seen_weights: Those of the events of step 2.
        reco_weights: Weights at detector level.
        data_weights: Those of the data.
        background: Those of the background; None without.
        gen: Observables in the type of the networks.
        reco: The same at detector level, ``[levels, events, ...]`` with several versions.
        measured: Data and background.
        reco_split: Simulation and measurement for step 1.
        gen_split: Simulation for step 2.
        both_split: Simulation inside both levels, for the fakes.
        index: Bin of each simulated event in the fold-forward test.
        folded: What was measured in these bins: values and variances.
        key_start: Key of what happens before the first iteration.
        key_run: Key of the iterations.
    """

    settings: Settings = eqx.field(static=True)
    learn_fakes: bool = eqx.field(static=True)
    bins: int = eqx.field(static=True)
    problem: UnfoldingProblem
    rows: Indices
    start: tuple[PyTree, PyTree]
    static: tuple[PyTree, PyTree]
    level: Array | None
    both: Array
    gen_weights: Array
    seen_weights: Array
    reco_weights: Array
    data_weights: Array
    background: Array | None
    gen: Array
    reco: Array
    measured: Split
    reco_split: Split
    gen_split: Split
    both_split: Split
    index: Array
    folded: tuple[Array, Array]
    key_start: Array
    key_run: Array

    @property
    def count(self) -> int:
        """Number of replicas."""
        return len(self.gen_weights)

    @property
    def dtype(self) -> jnp.dtype:
        """Type of networks and log weights."""
        return jnp.dtype(self.settings.dtype)

    def keys(self, iteration: Array) -> Array:
        """Return the keys of step 1, of step 2 and of the fakes."""
        return jax.random.split(jax.random.fold_in(self.key_run, iteration), 3)


def levels_of(inputs: Inputs) -> Levels:
    """Split the rows and collect what every iteration looks at."""
    problem, settings, rows = inputs.problem, inputs.settings, inputs.rows
    dtype, factors = jnp.dtype(settings.dtype), inputs.factors
    starts = [eqx.partition(nets, trainable(nets)) for nets in (inputs.reco_nets, inputs.gen_nets)]
    count = len(jax.tree.leaves(starts[0][0])[0]) // settings.ensemble
    level, pass_reco, reco = factors.level, problem.pass_reco, problem.reco
    if inputs.shifts is not None:
        reco, pass_reco = inputs.shifts.reco, inputs.shifts.pass_reco[level]

    def weights_of(weights: Array, factor: Array | None) -> Array:
        one = jnp.ones((count, 1), weights.dtype)
        return weights * (one if factor is None else factor)

    gen_weights = weights_of(jnp.where(problem.pass_gen, problem.gen_weights, 0.0), factors.gen)
    seen_weights = gen_weights
    if settings.missed == "learned":
        seen_weights = jnp.where(pass_reco, gen_weights, 0.0)
    reco_weights = weights_of(jnp.where(pass_reco, problem.reco_weights, 0.0), factors.reco)
    data_weights = weights_of(problem.data_weights, factors.data)
    gen, reco, data = (part.astype(dtype) for part in (problem.gen, reco, problem.data))
    key_start, key_split, key_run = jax.random.split(inputs.key, 3)
    keys, fraction = jax.random.split(key_split, 3), settings.training.held_out
    held = jax.random.uniform(keys[0], (len(gen),)) < fraction
    parts, held_parts = [data], [jax.random.uniform(keys[1], (len(data),)) < fraction]
    background = None
    if problem.background is not None and problem.background_weights is not None:
        background = weights_of(problem.background_weights, factors.background)
        parts.append(problem.background.astype(dtype))
        held_parts.append(jax.random.uniform(keys[2], (len(parts[1]),)) < fraction)
    measured = split(jnp.concatenate(parts), jnp.concatenate(held_parts), fraction)
    if settings.background == "reweight":
        parts, held_parts = parts[:1], held_parts[:1]

    def simulated(chosen: Array, *parts: Array) -> Array:
        """Return rows of the simulation at all levels, then those of the data."""
        if level is None:
            return jnp.concatenate([reco[chosen], *parts])
        more = [jnp.broadcast_to(part, (len(reco), *part.shape)) for part in parts]
        return jnp.concatenate([reco[:, chosen], *more], axis=1)

    held_reco = jnp.concatenate([held[rows.reco], *held_parts])
    inner = equal_bins(data, settings.fold_bins)
    bins = inner.size + len(inner)
    index = lambda x: bin_index(x, inner)  # noqa: E731
    folded = binned_sums(bin_index(data, inner), data_weights, bins)
    if background is not None:
        other = binned_sums(bin_index(problem.background, inner), background, bins)  # pyright: ignore
        folded = folded[0] - other[0], folded[1] + other[1]
    return Levels(
        settings=settings, learn_fakes=inputs.learn_fakes, bins=bins, problem=problem, rows=rows,
        start=(starts[0][0], starts[1][0]), static=(starts[0][1], starts[1][1]), level=level,
        both=problem.pass_gen & pass_reco, gen_weights=gen_weights, seen_weights=seen_weights,
        reco_weights=reco_weights, data_weights=data_weights, background=background, gen=gen,
        reco=reco, measured=measured,
        reco_split=split(simulated(rows.reco, *parts), held_reco, fraction, level),
        gen_split=split(gen[rows.gen], held[rows.gen], fraction),
        both_split=split(simulated(rows.both), held[rows.both], fraction, level),
        index=index(reco) if level is None else jax.lax.map(index, reco),
        folded=folded, key_start=key_start, key_run=key_run,
    )  # fmt: skip
