"""Events to templates: a network, soft histograms and systematic variations become a channel."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._errors import InputError
from difana._typing import Network
from difana.data import Sample, Variant, variants
from difana.hist import Shares
from difana.likelihood.modifiers import Channel
from difana.likelihood.templates._blocks import checked, fill, inputs_and_jobs, outputs_of
from difana.likelihood.templates._fill import Sums, make_fill, wide
from difana.likelihood.templates._tiles import tiled_sums
from difana.likelihood.templates.sums import TemplateSums, channel_from_sums, histograms_of


def all_scores(
    net: Network, samples: Sequence[Sample]
) -> list[list[tuple[Variant, Float[Array, " events"]]]]:
    """Return the first observable of every version of the events, sample by sample, in one pass."""
    rows = [variants(sample) for sample in samples]
    blocks, jobs = inputs_and_jobs(samples, rows)
    outputs = outputs_of(net, blocks)
    places = dict.fromkeys((job.block, job.part) for job in jobs)
    seen = {place: outputs.of(*place)[:, 0] for place in places}
    scores = (seen[job.block, job.part] for job in jobs)
    return [[(row, next(scores)) for row in own] for own in rows]


def of_nominals(squares: Array, samples: Sequence[Sample]) -> Array:
    """Return the squares of the nominal histograms, at the variance of the full sample."""
    sizes = [histograms_of(sample) for sample in samples]
    first = np.cumsum([0, *sizes[:-1]])
    scale = jnp.stack([wide(jnp.asarray(sample.variance_scale)) for sample in samples])
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
        net: Any callable PyTree, ``Events.inputs -> [events, observables]``.
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
    return tiled_sums(lambda x: checked(net, x), samples, rule, chunk=chunk)


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
        net: Any callable PyTree, ``Events.inputs -> [events, observables]``.
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
