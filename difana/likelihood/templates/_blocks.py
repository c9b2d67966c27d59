"""Blocks of events for the network, and the histograms to fill from what it makes of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from difana._errors import InputError
from difana._typing import Network
from difana.data import Sample, ShiftedEvents, Transformation, WeightVariation
from difana.likelihood.templates._fill import Sums, wide


class Block(NamedTuple):
    """Events the network sees together: those of one sample, or of several, one after the other."""

    features: Array
    lengths: tuple[int, ...]


class Job(NamedTuple):
    """One histogram to fill: which outputs (a part of a block), with which weights."""

    block: int
    part: int
    weights: Float[Array, " events"]


def inputs_and_jobs(samples: Sequence[Sample]) -> tuple[list[Block], list[Job]]:
    """List the inputs the network must see, and the histograms to fill from its outputs.

    A transformation that several samples share is applied to all their events at once: the graph
    grows with the number of functions, not with that of the samples.
    """
    blocks = [block_of([sample.nominal.features]) for sample in samples]
    moved: dict[tuple[int, int], tuple[int, int]] = {}  # sample, variation: block (+1), part
    for (function, *_), users in _users(samples).items():
        events = [samples[i].nominal.features for i, _ in users]
        own = block_of(events)
        for alpha in (1.0, -1.0):
            shift = jnp.asarray(alpha, own.features.dtype)
            blocks.append(own._replace(features=function(own.features, shift)))
        moved |= {user: (len(blocks) - 2, part) for part, user in enumerate(users)}
    jobs: list[Job] = []
    for i, sample in enumerate(samples):
        weights = sample.nominal.weights
        jobs.append(Job(i, 0, weights))
        for k, variation in enumerate(sample.variations):
            if isinstance(variation, Transformation):
                block, part = moved[i, k]
                jobs += [Job(block, part, weights), Job(block + 1, part, weights)]
            elif isinstance(variation, ShiftedEvents):
                for side in (variation.up, variation.down):
                    jobs.append(Job(len(blocks), 0, side.weights))
                    blocks.append(block_of([side.features]))
            elif isinstance(variation, WeightVariation):
                jobs += [Job(i, 0, variation.up), Job(i, 0, variation.down)]
    return blocks, jobs


def block_of(events: Sequence[Array]) -> Block:
    """Return events the network sees together."""
    joined = jnp.concatenate(events) if len(events) > 1 else events[0]
    return Block(joined, tuple(len(x) for x in events))


def _users(samples: Sequence[Sample]) -> dict[tuple, list[tuple[int, int]]]:
    """Return sample and place of the transformations, by function and kind of the features."""
    users: dict[tuple, list[tuple[int, int]]] = {}
    for i, sample in enumerate(samples):
        x = sample.nominal.features
        for k, variation in enumerate(sample.variations):
            if isinstance(variation, Transformation):
                kind = (variation.function, x.dtype, x.shape[1:])
                users.setdefault(kind, []).append((i, k))
    return users


def checked(net: Network, features: Array) -> Array:
    """Return what the network makes of events, with the right number of axes."""
    output = net(features)
    if output.ndim != 2:
        raise InputError(
            f"the network returned {output.shape}; it must return [events, observables]"
        )
    return output


class Outputs(NamedTuple):
    """What the network makes of blocks: blocks of the same lengths, one after the other, in runs.

    Few large arrays: a slice of each block, stacked again, is most of the compilation.
    """

    runs: list[list[Array]]  # run, part: [blocks, events, observables]
    places: list[tuple[int, int]]  # of a block: run, row

    def of(self, block: int, part: int) -> Float[Array, "events observables"]:
        """Return the outputs of one part of a block."""
        run, row = self.places[block]
        return self.runs[run][part][row]


def outputs_of(net: Network, blocks: Sequence[Block]) -> Outputs:
    """Return what the network makes of each block of events, all in one pass."""
    output = checked(net, jnp.concatenate([block.features for block in blocks]))
    found = Outputs([], [])
    grouped = [(k, len(list(g))) for k, g in itertools.groupby(block.lengths for block in blocks)]
    joined = lax.split(output, [rows * sum(lengths) for lengths, rows in grouped])
    for (lengths, rows), flat in zip(grouped, joined, strict=True):
        found.places.extend((len(found.runs), row) for row in range(rows))
        run = flat.reshape(rows, sum(lengths), output.shape[1])
        found.runs.append(list(lax.split(run, lengths, axis=1)))
    return found


def fill(outputs: Outputs, jobs: Sequence[Job], one: Sums) -> tuple[Array, Array]:
    """Return contents and squares of all jobs; those of equal length are filled in one call."""
    groups: dict[int, dict[tuple[int, int], list[int]]] = {}
    for i, job in enumerate(jobs):
        run = outputs.places[job.block][0]
        own = groups.setdefault(job.weights.shape[0], {})
        own.setdefault((run, job.part), []).append(i)
    parts, order = [], []
    for members in groups.values():
        x = jnp.concatenate(
            [
                outputs.runs[run][part][np.array([outputs.places[jobs[i].block][1] for i in rows])]
                for (run, part), rows in members.items()
            ]
        )
        mine = [i for rows in members.values() for i in rows]
        different = {id(jobs[i].weights): jobs[i].weights for i in mine}
        index = {name: row for row, name in enumerate(different)}
        weights = jnp.stack([w.astype(x.dtype) for w in different.values()])
        rows = np.array([index[id(jobs[i].weights)] for i in mine])
        parts.append(jax.vmap(one)(x, weights[rows]))
        order += mine
    back = np.argsort(order)
    contents, squares = (wide(jnp.concatenate(rows))[back] for rows in zip(*parts, strict=True))
    return contents, squares
