"""Hard templates on the host: exact sums, no compilation, the same for every kind of region."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from difana._errors import InputError
from difana._typing import Network, PyTree
from difana.analysis.category import Category
from difana.analysis.cuts import WithCuts, cut_samples
from difana.analysis.observed import ObservedSample as ObservedSample
from difana.analysis.observed import Values as Values
from difana.analysis.observed import only_inside, without_lost
from difana.data import Given, Sample, check_inputs, is_signal, variants
from difana.likelihood import Channel, HistoSys, NormFactor, NormSys, StatError, Template
from difana.likelihood.modifiers import AbstractModifier

_CHUNK = 16_384  # one shape, so that the network is compiled once whatever it is asked


@eqx.filter_jit
def _first_output(net: Any, inputs: Any) -> Array:
    return net(inputs)[:, 0]


@eqx.filter_jit
def _second_output(net: Any, inputs: Any) -> Array:
    return net(inputs)[:, 1]


def in_category(net: Network, inputs: Given | np.ndarray) -> Bool[np.ndarray, " events"]:
    """Say which events are in the category of a network; all, if it is of none.

    Example:
        >>> in_category(Category(lambda x: x, 0, 2), np.eye(2, dtype=np.float32)).tolist()
        [True, False]
    """
    if not isinstance(net, Category):
        return np.ones(len(jax.tree.leaves(inputs)[0]), bool)
    return _scores(net, [inputs], column=1) > 0


def network_scores(net: Network, inputs: Given | np.ndarray) -> Float[np.ndarray, " events"]:
    """Return the first observable of every event, in chunks of one shape.

    Example:
        >>> network_scores(lambda x: 2 * x, np.ones((3, 1), np.float32)).tolist()
        [2.0, 2.0, 2.0]
    """
    return _scores(net, [inputs])


def _scores(net: Network, parts: Sequence[Any], *, column: int = 0) -> Float[np.ndarray, " events"]:
    """Return the first or second output for the events of all parts, one after the other."""
    output = (_first_output, _second_output)[column]
    together = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    return in_chunks(lambda chunk: output(net, chunk), together)


def in_chunks(function: Callable[[Any], ArrayLike], rows: PyTree) -> np.ndarray:
    """Return a function of all rows, evaluated in chunks of one shape: it is compiled once.

    Example:
        >>> in_chunks(lambda x: x[:, 0] + 1, np.zeros((3, 2))).tolist()
        [1.0, 1.0, 1.0]
    """
    found, total = [], len(jax.tree.leaves(rows)[0])
    for start in range(0, total, _CHUNK):
        chunk = jax.tree.map(lambda leaf, start=start: _padded(leaf[start:]), rows)
        found.append(np.asarray(function(chunk))[: total - start])
    return np.concatenate(found)


def _padded(rows: np.ndarray) -> np.ndarray:
    """Return as many rows as are evaluated at once, the last one repeated."""
    own = rows[:_CHUNK]
    return np.pad(own, [(0, _CHUNK - len(own))] + [(0, 0)] * (own.ndim - 1), mode="edge")


def observe(net: Network, samples: Sequence[Sample]) -> tuple[ObservedSample, ...]:
    """Return what the network makes of the samples and of all their variations.

    Events that fail its cuts, where it has some, are gone.

    Raises:
        InputError: If the network returns a number that is not finite; names the sample.

    Example:
        >>> import jax.numpy as jnp
        >>> from difana.data import Events
        >>> sample = Sample(Events(jnp.ones((2, 1)), jnp.ones(2), columns=("x",)), name="s")
        >>> observe(lambda x: 3 * x, [sample])[0].nominal.x.tolist()
        [3.0, 3.0]
    """
    seen = observe_by(lambda parts: _scores(net, parts), cut_samples(net, samples))
    if isinstance(net, WithCuts):
        return tuple(map(without_lost, seen))
    if not isinstance(net, Category):
        return seen
    inside = observe_by(lambda parts: _scores(net, parts, column=1), samples)
    return tuple(only_inside(own, part) for own, part in zip(seen, inside, strict=True))


def observe_by(
    scores: Callable[[Sequence[Any]], Float[np.ndarray, " events"]], samples: Sequence[Sample]
) -> tuple[ObservedSample, ...]:
    """Return samples with an observable that any function tells, of the inputs of all parts.

    Raises:
        InputError: If it returns a number that is not finite; names the sample.

    Example:
        >>> import jax.numpy as jnp
        >>> from difana.data import Events
        >>> sample = Sample(Events(jnp.ones((2, 1)), jnp.ones(2), columns=("x",)), name="s")
        >>> seen = observe_by(lambda parts: np.concatenate(parts)[:, 0] + 1, [sample])
        >>> seen[0].nominal.x.tolist()
        [2.0, 2.0]
    """
    check_inputs(samples)
    rows = [variants(sample) for sample in samples]
    seen = [
        [row for row in own if not row.name or not row.sees(sample.nominal)]
        for sample, own in zip(samples, rows, strict=True)
    ]
    blocks = [jax.tree.map(np.asarray, row.inputs) for own in seen for row in own]
    parts = iter(np.split(scores(blocks), np.cumsum([len(block) for block in blocks])[:-1]))
    found = []
    for sample, (_, *others) in zip(samples, rows, strict=True):
        own = next(parts)
        if not np.isfinite(own).all():
            raise InputError(
                f"sample '{sample.name}': the network returns numbers that are not finite; lower "
                "the learning rate (Training: Rate) or inspect the features"
            )
        values = [
            Values(own if row.sees(sample.nominal) else next(parts), _host(row.weights))
            for row in others
        ]
        ups, downs = values[::2], values[1::2]
        names = [row.name for row in others[::2]]
        norms = [
            (variation.name, float(factors[0]), float(factors[1]))
            for variation in sample.variations
            if (factors := variation.factors()) is not None
        ]
        found.append(
            ObservedSample(
                sample.name,
                Values(own, _host(sample.nominal.weights)),
                tuple(zip(names, ups, downs, strict=True)),
                tuple(norms),
                sample.normfactors,
                float(sample.variance_scale),
            )
        )
    return tuple(found)


def _host(values: Array) -> np.ndarray:
    return np.asarray(values, np.float64)


def binned(
    values: Values, edges: Float[np.ndarray, " edges"], *, flow: str = "fold"
) -> tuple[Float[np.ndarray, " bins"], Float[np.ndarray, " bins"]]:
    """Return sums of weights and of squared weights, as `difana.hist.hard_histogram`.

    Example:
        >>> contents, squares = binned(Values(np.array([0.2, 3.0]), np.array([1.0, 2.0])),
        ...                            np.array([0.0, 0.5, 1.0]))
        >>> contents.tolist(), squares.tolist()
        ([1.0, 2.0], [1.0, 4.0])
    """
    index, weights, bins = bin_of(values.x, edges, flow=flow), values.weights, len(edges) - 1
    if flow == "drop":
        index, weights = index[index >= 0], weights[index >= 0]
    contents = np.bincount(index, weights, bins)
    return contents, np.bincount(index, weights**2, bins)


def bin_of(
    x: Float[np.ndarray, " events"], edges: Float[np.ndarray, " edges"], *, flow: str = "fold"
) -> Int[np.ndarray, " events"]:
    """Return the bin of every event; events outside are in the edge bins, or dropped: in bin -1.

    Example:
        >>> bin_of(np.array([0.2, 3.0]), np.array([0.0, 0.5, 1.0]), flow="drop").tolist()
        [0, -1]
    """
    edges = np.asarray(edges)
    index = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, len(edges) - 2)
    if flow == "drop":
        index = np.where((x >= edges[0]) & (x <= edges[-1]), index, -1)
    return index


def hard_channel(
    samples: Sequence[ObservedSample],
    edges: Float[np.ndarray, " edges"],
    *,
    name: str,
    staterror: bool = True,
    flow: str = "fold",
) -> Channel:
    """Return the channel of hard histograms, the counterpart of `channel_from_events`.

    Args:
        samples: Samples with observables.
        edges: Bin edges.
        name: Name of the channel.
        staterror: Add the statistical uncertainty of the simulation.
        flow: ``"fold"`` events outside into the edge bins, or ``"drop"`` them.

    Example:
        >>> sample = ObservedSample("s", Values(np.array([0.2]), np.array([4.0])))
        >>> channel = hard_channel([sample], np.array([0.0, 1.0]), name="SR")
        >>> channel.templates[0].values.tolist()
        [4.0]
    """
    templates = []
    for sample in samples:
        contents, squares = binned(sample.nominal, edges, flow=flow)
        modifiers: list[AbstractModifier] = [NormFactor(factor) for factor in sample.normfactors]
        modifiers += [NormSys(up, down, label) for label, up, down in sample.norms]
        for label, up, down in sample.shapes:
            hi, lo = (binned(side, edges, flow=flow)[0] for side in (up, down))
            modifiers.append(HistoSys(hi, lo, label))
        if staterror:
            error = np.sqrt(squares * sample.variance_scale)
            modifiers.append(StatError(error, f"staterror_{name}"))
        templates.append(Template(contents, tuple(modifiers), name=sample.name))
    return Channel(tuple(templates), name=name)


def check_channel(
    channel: Channel, edges: Float[np.ndarray, " edges"], *, poi: str | Sequence[str], remedy: str
) -> None:
    """Refuse templates that no likelihood can be made of.

    Args:
        channel: Hard templates.
        edges: Their bin edges, for the message.
        poi: Parameter of interest; what it multiplies is signal.
        remedy: What to do about a bad bin.

    Raises:
        InputError: If a sample has a negative total yield, or a bin no background or a negative
            sum. Names sample, region and bin.

    Example:
        >>> channel = Channel((Template(np.array([5.0, 0.0]), name="b"),), name="SR")
        >>> check_channel(channel, np.array([0.0, 1.0, 2.0]), poi="mu", remedy="Merge bins.")
        Traceback (most recent call last):
        difana._errors.InputError: region 'SR', bin 1 (1 to 2): no background is expected ...
    """
    for template in channel.templates:
        total = float(np.sum(np.asarray(template.values)))
        if total < 0:
            raise InputError(
                f"region '{channel.name}', sample '{template.name}': the total yield is negative "
                f"({total:.6g}); inspect the weights of the sample"
            )
    backgrounds = [t for t in channel.templates if not is_signal(t, poi)]
    sums = np.sum([np.asarray(t.values) for t in backgrounds], axis=0)
    bad = np.flatnonzero(sums <= 0)
    if bad.size:
        b = int(bad[0])
        where = f"region '{channel.name}', bin {b} ({edges[b]:.6g} to {edges[b + 1]:.6g})"
        listed = ", ".join(f"'{t.name}': {float(np.asarray(t.values)[b]):.6g}" for t in backgrounds)
        what = "no background is expected" if sums[b] == 0 else "the background yield is negative"
        raise InputError(f"{where}: {what} ({listed}). {remedy}")


def merge_empty(
    samples: Sequence[ObservedSample],
    edges: Float[np.ndarray, " edges"],
    *,
    poi: str | Sequence[str],
) -> tuple[Float[np.ndarray, " left"], int]:
    """Merge bins without background with a neighbour: the one before, the first with the second.

    Returns:
        The edges that are left, and how many bins were merged away.

    Example:
        >>> sample = ObservedSample("b", Values(np.array([0.5, 2.5]), np.ones(2)))
        >>> left, merged = merge_empty([sample], np.array([0.0, 1.0, 2.0, 3.0]), poi="mu")
        >>> left.tolist(), merged
        ([0.0, 2.0, 3.0], 1)
    """
    edges = np.asarray(edges)
    before = len(edges)
    backgrounds = [sample for sample in samples if not is_signal(sample, poi)]
    while len(edges) > 2:
        sums = np.sum([binned(sample.nominal, edges)[0] for sample in backgrounds], axis=0)
        empty = np.flatnonzero(sums <= 0)
        if not empty.size:
            break
        edges = np.delete(edges, max(int(empty[-1]), 1))
    return edges, before - len(edges)


def spread_last_bin(channel: Channel, bins: int) -> Channel:
    """Return an equivalent channel with more bins: the last one in equal parts.

    Equal parts with independent statistical uncertainties, larger by the square root of their
    number, hold the same information as the whole. So observables with fewer bins are evaluated by
    the function compiled for ``bins``.

    Example:
        >>> channel = Channel((Template(np.array([5.0, 4.0]), name="b"),), name="SR")
        >>> spread_last_bin(channel, 3).templates[0].values.tolist()
        [5.0, 2.0, 2.0]
    """
    more = bins - np.shape(channel.templates[0].values)[0]
    if more <= 0:
        return channel

    def parts(numbers: ArrayLike, power: float) -> np.ndarray:
        values = np.asarray(numbers, np.float64)
        return np.append(values[:-1], np.full(more + 1, values[-1] / (more + 1) ** power))

    templates = []
    for template in channel.templates:
        modifiers: list[AbstractModifier] = []
        for m in template.modifiers:
            if isinstance(m, HistoSys):
                modifiers.append(HistoSys(parts(m.hi, 1), parts(m.lo, 1), m.name))
            elif isinstance(m, StatError):
                modifiers.append(StatError(parts(m.uncertainty, 0.5), m.name))
            else:
                modifiers.append(m)
        templates.append(Template(parts(template.values, 1), tuple(modifiers), name=template.name))
    return Channel(tuple(templates), parameters=channel.parameters, name=channel.name)
