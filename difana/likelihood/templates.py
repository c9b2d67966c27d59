"""Events to templates: a network, soft histograms and systematic variations become a channel."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._errors import InputError
from difana._typing import Network
from difana.data import Sample, ShiftedEvents, Transformation, WeightVariation
from difana.hist import Shares
from difana.likelihood._fill import Sums, make_fill
from difana.likelihood._tiles import tiled_sums
from difana.likelihood.modifiers import Channel
from difana.likelihood.sums import TemplateSums, channel_from_sums, histograms_of


class Job(eqx.Module):
    """One histogram to fill: which outputs, with which weights."""

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
    return [outputs[:, 0] for outputs in outputs_of(net, blocks)]


def _checked(net: Network, features: Array) -> Array:
    output = net(features)
    if output.ndim != 2:
        raise InputError(
            f"the network returned {output.shape}; it must return [events, observables]"
        )
    return output


def outputs_of(net: Network, blocks: list[Array]) -> list[Float[Array, "events observables"]]:
    """Return what the network makes of each block of events, all in one pass."""
    output = _checked(net, jnp.concatenate(blocks))
    starts = [0, *itertools.accumulate(block.shape[0] for block in blocks)]
    return [output[a:b] for a, b in itertools.pairwise(starts)]


def fill(outputs: Sequence[Array], jobs: Sequence[Job], one: Sums) -> tuple[Array, Array]:
    """Return contents and squares of all jobs; those of equal length are filled in one call."""
    groups: dict[int, list[int]] = {}
    for i, job in enumerate(jobs):
        groups.setdefault(job.weights.shape[0], []).append(i)
    parts = []
    for members in groups.values():
        x = jnp.stack([outputs[jobs[i].block] for i in members])
        weights = jnp.stack([jobs[i].weights.astype(x.dtype) for i in members])
        parts.append(jax.vmap(one)(x, weights))
    order = np.argsort([i for members in groups.values() for i in members])
    contents, squares = (_wide(jnp.concatenate(rows))[order] for rows in zip(*parts, strict=True))
    return contents, squares


def of_nominals(squares: Array, samples: Sequence[Sample]) -> Array:
    """Return the squares of the nominal histograms, at the variance of the full sample."""
    sizes = [histograms_of(sample) for sample in samples]
    first = np.cumsum([0, *sizes[:-1]])
    scale = jnp.stack([_wide(jnp.asarray(sample.variance_scale)) for sample in samples])
    return squares[first] * scale[:, None]


def sums_at_once(net: Network, samples: Sequence[Sample], one: Sums) -> TemplateSums:
    """Return the sums of all templates, from one pass of the network."""
    blocks, jobs = inputs_and_jobs(samples)
    contents, squares = fill(outputs_of(net, blocks), jobs, one)
    return TemplateSums(contents, of_nominals(squares, samples))


def template_sums(
    net: Network,
    samples: Sequence[Sample],
    *,
    edges: Float[Array, " edges"] | Shares,
    bandwidth: Float[Array, ""] | float | None,
    relative: bool = False,
    chunk: int | None = None,
) -> TemplateSums:
    r"""Return the sums of weights behind all templates of a channel.

    Without ``chunk`` all events, varied ones too, go through the network in one pass, and the
    reverse pass keeps what every layer made of them. With ``chunk`` the histograms are filled tile
    by tile (so many events of one variation), and the reverse pass computes each tile again:
    memory is that of one tile, time about 4/3, the sums and the gradient the same to rounding.
    Several hundred nuisances on :math:`10^5` events need it. Differentiable in the network, the
    events, the edges and the bandwidth.

    Args:
        net: Any callable PyTree ``[events, features] -> [events, observables]``.
        samples: Processes with their variations.
        edges: Bin edges in units of the first observable; events outside fall into the edge bins.
            Or a binning of one's own, ``outputs -> shares [events, bins]``: ``soft_regions``,
            ``product_shares``, ``jax.nn.softmax`` (INFERNO).
        bandwidth: Width of the kernel; None for hard bins (no gradient to the network). Not read
            with a binning of one's own.
        relative: The bandwidth is in units of the width of each bin, not of the observable.
        chunk: Events of a tile; None for all at once. For one device: it would undo a mesh.

    Returns:
        The sums, in the precision of the statistical part.

    Raises:
        InputError: If the network returns the wrong shape, or there is no sample.

    Example:
        >>> import jax.numpy as jnp
        >>> from difana.data import Events, Sample
        >>> sample = Sample(Events(jnp.array([[0.2], [0.8]]), jnp.full(2, 0.5)), name="signal")
        >>> edges = jnp.array([0.0, 0.5, 1.0])
        >>> sums = template_sums(lambda x: x, [sample], edges=edges, bandwidth=None)
        >>> sums.contents.tolist(), sums.squares.tolist()
        ([[0.5, 0.5]], [[0.25, 0.25]])
    """
    if not samples:
        raise InputError("no samples: a channel needs at least one")
    rule = make_fill(edges, bandwidth, relative=relative)
    if chunk is None:
        return sums_at_once(net, samples, rule.sums)
    if chunk < 1:
        raise InputError(f"chunk is {chunk}; it must be at least one event")
    return tiled_sums(lambda x: _checked(net, x), samples, rule, chunk=chunk)


def channel_from_events(
    net: Network,
    samples: Sequence[Sample],
    *,
    edges: Float[Array, " edges"] | Shares,
    bandwidth: Float[Array, ""] | float | None,
    name: str = "SR",
    staterror: bool = True,
    relative: bool = False,
    chunk: int | None = None,
    values: TemplateSums | None = None,
) -> Channel:
    r"""Return the channel whose templates are histograms of a network's first observable.

    Each sample gives one template; its variations become modifiers: exact transformations,
    shifted events and weight variations a histosys with the histograms at :math:`\alpha=\pm1`,
    normalisations a normsys, free factors a normfactor, and the sum of squared weights a
    staterror. Differentiable in the network, the events, the edges and the bandwidth.

    Args:
        net: Any callable PyTree ``[events, features] -> [events, observables]``.
        samples: Processes with their variations.
        edges: Bin edges in units of the observable; events outside fall into the edge bins. Or a
            binning of one's own, as in :func:`template_sums`.
        bandwidth: Width of the kernel; None for hard bins (no gradient to the network).
        name: Name of the channel.
        staterror: Add the statistical uncertainty of the simulation.
        relative: The bandwidth is in units of the width of each bin.
        chunk: Events handled at once, for bounded memory; None for all.
        values: Sums that replace those of the samples, whose derivatives are kept: those of the
            full sample, or running means (see ``difana.losses``).

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
    sums = template_sums(
        net, samples, edges=edges, bandwidth=bandwidth, relative=relative, chunk=chunk
    )
    sums = sums if values is None else sums.valued(values)
    return channel_from_sums(sums, samples, name=name, staterror=staterror)


def _wide(x: Array) -> Array:
    """Cross the border from the network's precision to that of the statistical part."""
    return x.astype(float)
