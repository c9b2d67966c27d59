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
from difana._numerics import take
from difana._typing import Network
from difana.data import Given, Sample, Variant, check_inputs, joined, moved, variants
from difana.likelihood.templates._fill import Sums, wide


class Block(NamedTuple):
    """Events the network sees together: those of one sample, or of several, one after the other."""

    inputs: Given
    lengths: tuple[int, ...]


class Job(NamedTuple):
    """One histogram to fill: which outputs (a part of a block), with which weights."""

    block: int
    part: int
    weights: Float[Array, " events"]


def inputs_and_jobs(
    samples: Sequence[Sample], rows: Sequence[Sequence[Variant]] | None = None
) -> tuple[list[Block], list[Job]]:
    """List the inputs the network must see, and the histograms to fill from its outputs.

    A transformation that several samples share is applied to all their events at once: the graph
    grows with the number of functions, not with that of the samples.

    Args:
        samples: The samples.
        rows: The versions of the events of each sample to fill; all of them by default.
    """
    check_inputs(samples)
    rows = [variants(sample) for sample in samples] if rows is None else rows
    nominals = [sample.nominal for sample in samples]
    blocks: list[Block] = []
    places: dict[tuple[int, int], tuple[int, int]] = {}  # sample, row: block, part
    for i, nominal in enumerate(nominals):
        seen = [k for k, row in enumerate(rows[i]) if row.sees(nominal)]
        places |= {(i, k): (len(blocks), 0) for k in seen}
        blocks += [block_of([nominal.inputs])] if seen else []
    for (function, *_), users in _users(samples, rows).items():
        sides = [[(i, k) for i, k in users if rows[i][k].alpha == alpha] for alpha in (1.0, -1.0)]
        own = block_of([nominals[i].inputs for i, _ in sides[0]])
        for alpha, side in zip((1.0, -1.0), sides, strict=True):
            places |= {user: (len(blocks), part) for part, user in enumerate(side)}
            blocks.append(own._replace(inputs=moved(function, own.inputs, alpha)))
    jobs: list[Job] = []
    for i, own_rows in enumerate(rows):
        for k, row in enumerate(own_rows):
            if (i, k) not in places:
                places[i, k] = len(blocks), 0
                blocks.append(block_of([row.inputs]))
            jobs.append(Job(*places[i, k], row.weights))
    return blocks, jobs


def block_of(events: Sequence[Given]) -> Block:
    """Return events the network sees together."""
    return Block(joined(events), tuple(len(x) for x in events))


def _users(
    samples: Sequence[Sample], rows: Sequence[Sequence[Variant]]
) -> dict[tuple, list[tuple[int, int]]]:
    """Return sample and row of what is moved, by function and kind of the inputs."""
    users: dict[tuple, list[tuple[int, int]]] = {}
    for i, sample in enumerate(samples):
        kind = tuple((x.dtype, x.shape[1:]) for x in jax.tree.leaves(sample.nominal.inputs))
        for k, row in enumerate(rows[i]):
            if row.function is not None:
                users.setdefault((row.function, kind), []).append((i, k))
    return users


def checked(net: Network, inputs: Given) -> Array:
    """Return what the network makes of events, with the right number of axes."""
    output = net(inputs)
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
    output = checked(net, joined([block.inputs for block in blocks]))
    found = Outputs([], [])
    grouped = [(k, len(list(g))) for k, g in itertools.groupby(block.lengths for block in blocks)]
    runs = lax.split(output, [rows * sum(lengths) for lengths, rows in grouped])
    for (lengths, rows), flat in zip(grouped, runs, strict=True):
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
                take(outputs.runs[run][part], [outputs.places[jobs[i].block][1] for i in rows])
                for (run, part), rows in members.items()
            ]
        )
        mine = [i for rows in members.values() for i in rows]
        different, rows = _distinct([jobs[i].weights for i in mine])
        weights = jnp.stack([w.astype(x.dtype) for w in different])
        parts.append(jax.vmap(one)(x, take(weights, rows)))
        order += mine
    back = np.argsort(order)
    contents, squares = (
        take(wide(jnp.concatenate(rows)), back) for rows in zip(*parts, strict=True)
    )
    return contents, squares


def _distinct(arrays: Sequence[Array]) -> tuple[list[Array], np.ndarray]:
    """Return each array once, and which of them stands at each place.

    Samples hand the weights of an event to all variations that do not change them: the array is the
    same one, which is all that can be known of numbers that are traced.
    """
    found: list[Array] = []
    places = []
    for array in arrays:
        # the latest is the likeliest: variations of a sample stand together
        place = next((k for k in reversed(range(len(found))) if found[k] is array), len(found))
        if place == len(found):
            found.append(array)
        places.append(place)
    return found, np.array(places)
