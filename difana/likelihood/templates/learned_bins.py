"""Events to templates in bins that a network chooses: one logit a bin."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from difana._errors import InputError
from difana._typing import Network
from difana.data import Sample, Variant, features_of, moved, variants
from difana.hist import argmax_histogram, softmax_histogram
from difana.likelihood.modifiers import Channel
from difana.likelihood.templates._blocks import Job, block_of, fill, inputs_and_jobs, outputs_of
from difana.likelihood.templates._fill import Sums
from difana.likelihood.templates.sums import TemplateSums, channel_from_sums
from difana.likelihood.templates.templates import of_nominals, sums_at_once


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

    def one(logits: Array, weights: Array) -> tuple[Array, Array]:
        if temperature is None:
            found = argmax_histogram(logits, weights)
        else:
            found = softmax_histogram(logits, weights, temperature=temperature)
        return found.contents, found.squares

    sums = (_sums_with_tangents if tangents else sums_at_once)(net, samples, one)
    return channel_from_sums(sums, samples, name=name, staterror=staterror)


def _sums_with_tangents(net: Network, samples: Sequence[Sample], one: Sums) -> TemplateSums:
    """Return the sums of all templates; those of transformations are nominal +- derivative."""
    rows = [variants(sample) for sample in samples]
    exact = [any(row.function is not None for row in own) for own in rows]
    # the nominal events of these go through the network later, with their tangents
    plain = [
        [row for row in own if not moves or row.events is not sample.nominal]
        for sample, own, moves in zip(samples, rows, exact, strict=True)
    ]
    blocks, jobs = inputs_and_jobs(samples, plain)
    filled = iter(zip(*fill(outputs_of(net, blocks), jobs, one), strict=True) if blocks else [])
    found: list[tuple[Array, Array]] = []
    for sample, own, moves in zip(samples, rows, exact, strict=True):
        found += (
            _moved(net, sample, own, one, filled) if moves else itertools.islice(filled, len(own))
        )
    contents, squares = (jnp.stack(parts) for parts in zip(*found, strict=True))
    return TemplateSums(contents, of_nominals(squares, samples))


def _moved(
    net: Network,
    sample: Sample,
    rows: Sequence[Variant],
    one: Sums,
    shifted: Iterator[tuple[Array, Array]],
) -> list[tuple[Array, Array]]:
    """Return the sums of a sample with transformations, in the order of its rows."""
    nominal = sample.nominal
    functions = [row.function for row in rows if row.function is not None and row.alpha > 0]
    weights = [row.weights for row in rows if row.sees(nominal)]

    def contents(alphas: Array) -> tuple[Array, tuple[Array, Array]]:
        inputs = nominal.inputs
        for alpha, function in zip(alphas, functions, strict=True):
            inputs = moved(function, inputs, alpha)
        logits = outputs_of(net, [block_of([inputs])])
        found = fill(logits, [Job(0, 0, w) for w in weights], one)
        return found[0][0], found

    origin = jnp.zeros(len(functions), features_of(nominal.inputs).dtype)
    slopes, found = jax.jacfwd(contents, has_aux=True)(origin)
    varied = list(zip(*found, strict=True))
    own, squares = varied[0]
    weighted, columns = iter(varied), iter(slopes.T)
    slope, sums = own, []
    for row in rows:
        if row.function is not None:
            slope = next(columns) if row.alpha > 0 else -slope
            sums.append((own + slope, squares))
        else:
            sums.append(next(weighted if row.sees(nominal) else shifted))
    return sums
