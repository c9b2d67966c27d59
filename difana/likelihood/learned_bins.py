"""Events to templates in bins that a network chooses: one logit a bin."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from difana._errors import InputError
from difana._typing import Network
from difana.data import Sample, ShiftedEvents, Transformation, WeightVariation
from difana.hist import Histogram, argmax_histogram, softmax_histogram
from difana.likelihood.modifiers import Channel
from difana.likelihood.templates import Job, channel_of, fill, inputs_and_jobs, outputs_of


def channel_from_logits(
    net: Network,
    samples: Sequence[Sample],
    *,
    temperature: Float[Array, ""] | float | None,
    name: str = "SR",
    staterror: bool = True,
    tangents: bool = False,
) -> Channel:
    r"""Return the channel in which every output of the network is a bin.

    An event counts in bin ``j`` with :math:`\mathrm{softmax}(f(x)/\tau)_j`, or with ``None`` for
    the temperature wholly in the bin of its largest logit. All else is as in
    :func:`channel_from_events`.

    Args:
        net: Any callable PyTree ``[events, features] -> [events, bins]``.
        samples: Processes with their variations.
        temperature: ``tau > 0``; None for hard bins (no gradient to the network).
        name: Name of the channel.
        staterror: Add the statistical uncertainty of the simulation.
        tangents: Replace the templates of exact transformations at :math:`\alpha = \pm 1` by
            :math:`n \pm \partial n/\partial\alpha` at 0, from automatic differentiation through
            the network. The model then has the exact derivatives at the nominal point, and is
            linear in these nuisances.

    Raises:
        InputError: If the network returns the wrong shape, there is no sample, or tangents are
            asked of hard bins.

    Example:
        >>> import jax.numpy as jnp
        >>> from difana.data import Events, Sample
        >>> events = Events(jnp.array([[0.2], [0.8]]), jnp.ones(2), columns=("x",))
        >>> sample = Sample(events, name="signal", normfactors=("mu",))
        >>> two = lambda x: jnp.concatenate([x, 1 - x], axis=1)
        >>> channel_from_logits(two, [sample], temperature=None).templates[0].values.tolist()
        [1.0, 1.0]

    References:
        INFERNO, arXiv:1806.04743, section 3.
    """
    if not samples:
        raise InputError("no samples: a channel needs at least one")
    if tangents and temperature is None:
        raise InputError(
            "hard bins have no derivative by the nuisances: give a temperature, or tangents=False"
        )

    def one(logits: Array, weights: Array) -> Histogram:
        if temperature is None:
            return argmax_histogram(logits, weights)
        return softmax_histogram(logits, weights, temperature=temperature)

    if tangents:
        filled = _fill_with_tangents(net, samples, one)
    else:
        blocks, jobs = inputs_and_jobs(samples)
        filled = fill(outputs_of(net, blocks), jobs, one)
    return channel_of(samples, filled, name=name, staterror=staterror)


_Fill = Callable[[Array, Array], Histogram]


def _fill_with_tangents(net: Network, samples: Sequence[Sample], one: _Fill) -> list[Histogram]:
    """Fill the histograms; those of transformations hold nominal +- derivative."""
    moved = [any(isinstance(v, Transformation) for v in s.variations) for s in samples]
    blocks: list[Array] = []
    jobs: list[Job] = []
    for sample, exact in zip(samples, moved, strict=True):
        if exact:  # the nominal events go through the network later, with their tangents
            shifted = [v for v in sample.variations if isinstance(v, ShiftedEvents)]
            for side in (side for v in shifted for side in (v.up, v.down)):
                jobs.append(Job(len(blocks), side.weights))
                blocks.append(side.features)
        else:
            new_blocks, new_jobs = inputs_and_jobs([sample])
            jobs += [Job(len(blocks) + job.block, job.weights) for job in new_jobs]
            blocks += new_blocks
    plain = iter(fill(outputs_of(net, blocks), jobs, one) if blocks else [])
    filled = []
    for sample, exact in zip(samples, moved, strict=True):
        if exact:
            filled += _moved(net, sample, one, plain)
        else:
            filled += [next(plain) for _ in inputs_and_jobs([sample])[1]]
    return filled


def _moved(
    net: Network, sample: Sample, one: _Fill, shifted: Iterator[Histogram]
) -> list[Histogram]:
    """Return the histograms of a sample with transformations, in the order of its variations."""
    nominal = sample.nominal
    functions = [v.function for v in sample.variations if isinstance(v, Transformation)]
    weights = [nominal.weights]
    for variation in sample.variations:
        if isinstance(variation, WeightVariation):
            weights += [variation.up, variation.down]

    def contents(alphas: Array) -> tuple[Array, list[Histogram]]:
        features = nominal.features
        for alpha, function in zip(alphas, functions, strict=True):
            features = function(features, alpha)
        (logits,) = outputs_of(net, [features])
        histograms = fill([logits], [Job(0, w) for w in weights], one)
        return histograms[0].contents, histograms

    origin = jnp.zeros(len(functions), nominal.features.dtype)
    slopes, histograms = jax.jacfwd(contents, has_aux=True)(origin)
    own, varied, columns = histograms[0], iter(histograms[1:]), iter(slopes.T)
    filled = [own]
    for variation in sample.variations:
        if isinstance(variation, Transformation):
            slope = next(columns)
            both = (own.contents + slope, own.contents - slope)
            filled += [Histogram(own.edges, side, own.squares) for side in both]
        elif isinstance(variation, ShiftedEvents):
            filled += [next(shifted), next(shifted)]
        elif isinstance(variation, WeightVariation):
            filled += [next(varied), next(varied)]
    return filled
