"""Events to templates: a network, soft histograms and systematic variations become a channel."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from difana._errors import InputError
from difana._numerics import safe_sqrt
from difana._typing import Network
from difana.data import Normalisation, Sample, ShiftedEvents, Transformation, WeightVariation
from difana.hist import Histogram, hard_histogram, soft_histogram
from difana.likelihood.modifiers import (
    AbstractModifier,
    Channel,
    HistoSys,
    NormFactor,
    NormSys,
    StatError,
    Template,
)


class Job(eqx.Module):
    """One histogram to fill: which scores, with which weights."""

    block: int = eqx.field(static=True)
    weights: Float[Array, " events"]


def inputs_and_jobs(samples: Sequence[Sample]) -> tuple[list[Array], list[Job]]:
    """List the inputs the network must see, and the histograms to fill from its outputs."""
    blocks: list[Array] = []
    jobs: list[Job] = []

    def add(features: Array, weights: Array) -> None:
        blocks.append(features)
        jobs.append(Job(len(blocks) - 1, weights))

    for sample in samples:
        nominal = sample.nominal
        add(nominal.features, nominal.weights)
        own = len(blocks) - 1
        for variation in sample.variations:
            if isinstance(variation, Transformation):
                for alpha in (1.0, -1.0):
                    shift = jnp.asarray(alpha, nominal.features.dtype)
                    add(variation.function(nominal.features, shift), nominal.weights)
            elif isinstance(variation, ShiftedEvents):
                add(variation.up.features, variation.up.weights)
                add(variation.down.features, variation.down.weights)
            elif isinstance(variation, WeightVariation):
                jobs.append(Job(own, variation.up))
                jobs.append(Job(own, variation.down))
    return blocks, jobs


def all_scores(net: Network, samples: Sequence[Sample]) -> list[Float[Array, " events"]]:
    """Return the first observable of every block of events, all in one pass of the network."""
    blocks, _ = inputs_and_jobs(samples)
    return _scores(net, blocks)


def _scores(net: Network, blocks: list[Array]) -> list[Array]:
    return [output[:, 0] for output in outputs_of(net, blocks)]


def outputs_of(net: Network, blocks: list[Array]) -> list[Float[Array, "events observables"]]:
    """Return what the network makes of each block of events, all in one pass."""
    output = net(jnp.concatenate(blocks))
    if output.ndim != 2:
        raise InputError(
            f"the network returned {output.shape}; it must return [events, observables]"
        )
    starts = [0]
    for block in blocks:
        starts.append(starts[-1] + block.shape[0])
    return [output[a:b] for a, b in itertools.pairwise(starts)]


def fill(
    outputs: Sequence[Array], jobs: Sequence[Job], one: Callable[[Array, Array], Histogram]
) -> list[Histogram]:
    """Fill all histograms with ``one(output, weights)``; those of equal length in one call."""
    groups: dict[int, list[int]] = {}
    for i, job in enumerate(jobs):
        groups.setdefault(job.weights.shape[0], []).append(i)
    filled: dict[int, Histogram] = {}
    for members in groups.values():
        x = jnp.stack([outputs[jobs[i].block] for i in members])
        weights = jnp.stack([jobs[i].weights.astype(x.dtype) for i in members])
        many = jax.vmap(one)(x, weights)
        for k, i in enumerate(members):
            filled[i] = jax.tree.map(lambda leaf, k=k: leaf[k], many)
    return [filled[i] for i in range(len(jobs))]


def channel_from_events(
    net: Network,
    samples: Sequence[Sample],
    *,
    edges: Float[Array, " edges"],
    bandwidth: Float[Array, ""] | float | None,
    name: str = "SR",
    staterror: bool = True,
) -> Channel:
    r"""Return the channel whose templates are histograms of a network's first observable.

    Each sample gives one template; its variations become modifiers: exact transformations,
    shifted events and weight variations a histosys with the histograms at :math:`\alpha=\pm1`,
    normalisations a normsys, free factors a normfactor, and the sum of squared weights a
    staterror. All events, varied ones too, go through the network in one pass. Differentiable in
    the network, the events, the edges and the bandwidth.

    Args:
        net: Any callable PyTree ``[events, features] -> [events, observables]``.
        samples: Processes with their variations.
        edges: Bin edges in units of the observable; events outside fall into the edge bins.
        bandwidth: Width of the kernel; None for hard bins (no gradient to the network).
        name: Name of the channel.
        staterror: Add the statistical uncertainty of the simulation.

    Raises:
        InputError: If the network returns the wrong shape, or there is no sample.

    Example:
        >>> import jax.numpy as jnp
        >>> from difana.data import Events, Sample
        >>> events = Events(jnp.array([[0.2], [0.8]]), jnp.ones(2), columns=("x",))
        >>> sample = Sample(events, name="signal", normfactors=("mu",))
        >>> edges = jnp.array([0.0, 0.5, 1.0])
        >>> channel = channel_from_events(lambda x: x, [sample], edges=edges, bandwidth=None)
        >>> channel.templates[0].values.tolist()
        [1.0, 1.0]
    """
    if not samples:
        raise InputError("no samples: a channel needs at least one")

    def one(x: Array, weights: Array) -> Histogram:
        if bandwidth is None:
            return hard_histogram(x, weights, edges)
        return soft_histogram(x, weights, edges, bandwidth=bandwidth)

    blocks, jobs = inputs_and_jobs(samples)
    histograms = fill(_scores(net, blocks), jobs, one)
    return channel_of(samples, histograms, name=name, staterror=staterror)


def channel_of(
    samples: Sequence[Sample], filled: Sequence[Histogram], *, name: str, staterror: bool
) -> Channel:
    """Return the channel of histograms: of each sample the nominal, then (up, down) pairs."""
    histograms = iter(filled)
    templates = []
    for sample in samples:
        nominal = next(histograms)
        modifiers: list[AbstractModifier] = [NormFactor(factor) for factor in sample.normfactors]
        for variation in sample.variations:
            if isinstance(variation, Normalisation):
                modifiers.append(
                    NormSys(_wide(variation.up), _wide(variation.down), variation.name)
                )
            else:
                up, down = next(histograms), next(histograms)
                modifiers.append(HistoSys(_wide(up.contents), _wide(down.contents), variation.name))
        if staterror:
            squares = _wide(nominal.squares) * sample.variance_scale
            modifiers.append(StatError(safe_sqrt(squares), f"staterror_{name}"))
        templates.append(Template(_wide(nominal.contents), tuple(modifiers), name=sample.name))
    return Channel(tuple(templates), name=name)


def _wide(x: Array | float) -> Array:
    """Cross the border from the network's precision to that of the statistical part."""
    return jnp.asarray(x).astype(float)
