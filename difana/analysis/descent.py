"""Networks and edges descend on the objective of the analysis, judged in hard bins."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from difana import train as training_loop
from difana._typing import Network
from difana.analysis.candidates import Observable
from difana.analysis.category import Category, category_shares
from difana.analysis.conditions import Closing, Subject, background_of, constraints_of
from difana.analysis.cuts import CutScales, cut_samples, in_units_of, labels_of, uncut
from difana.analysis.efficient_score import EfficientScore
from difana.analysis.options import TrainingOptions
from difana.analysis.question import Question
from difana.analysis.region_events import RegionEvents
from difana.data import Sample, nominal_samples
from difana.hist import TrainableEdges
from difana.likelihood import Channel, channel_from_events
from difana.losses import class_entropy, cross_entropy, with_multipliers
from difana.nn import trainable
from difana.train import Step, TrainResult

# The smallest width of a trained bin: a fiftieth of the median one, so that edges may nearly meet,
# and no more than half of the narrowest at the start, which must be able to shrink, too.
_THINNEST, _NARROWER = 0.02, 0.5


def descend(
    observables: Sequence[Observable],
    regions: Sequence[RegionEvents],
    *,
    question: Question,
    training: TrainingOptions,
    key: PRNGKeyArray,
    staterror: bool = True,
    scales: Sequence[CutScales] = (),
    checkpoint: Path | None = None,
    **settings: Any,
) -> tuple[tuple[Observable, ...], TrainResult]:
    """Train the networks of all regions and their bin edges on an objective, from where they are.

    They descend through soft bins of the first outputs whose kernels narrow, all on the one
    objective of the simultaneous likelihood, with a penalty on bins of little simulated background
    and, by choice, cross-entropy as a regulariser. Every few steps the objective is measured in
    hard bins of held-out events; the best state, that at the start included, is returned. The cuts
    of a network (`WithCuts`) are soft in the descent, sharpen as the kernels do, and are hard in
    the measurement.

    Args:
        observables: The networks and edges to start from, one for each trained region.
        regions: The events of these regions, training and validation, each at its full yield.
        question: What is minimised.
        training: Steps, batch, rates, bandwidth, ...
        key: Key of the batches.
        staterror: Include the statistical uncertainty of the simulation.
        scales: Softness of the cuts of each region and the units in which they move.
        checkpoint: Folder of the checkpoints.
        settings: Further options of `difana.train.fit`.

    Returns:
        The trained observables, and how it went; ``trainable`` holds ``net``, ``edges``
        (`difana.hist.TrainableEdges`) and ``width``, the unit of the bandwidth, of each region.
    """
    poi, names = question.poi, [own.name for own in regions]
    train, validation = (
        _Flat([own.train for own in regions]),
        _Flat([r.validation for r in regions]),
    )
    dtype = train.samples[0].nominal.features.dtype
    bases, places = _bases(observables)
    state = {
        "net": bases,
        "edges": tuple(_trainable(np.asarray(own.edges, float), dtype) for own in observables),
        "width": tuple(jnp.asarray(median_width(own.edges), dtype) for own in observables),
    }
    first, last = training.bandwidth

    def softness(place: int, bandwidth: Any) -> list[Any] | None:
        """Return the widths of the cuts, which sharpen as the bins do; None for hard cuts."""
        if bandwidth is None or not scales:
            return None
        return [width * (bandwidth / first) for width in scales[place].widths]

    def channels_of(state: Any, samples: Sequence[Sample], bandwidth: Any) -> tuple[Channel, ...]:
        """Return the channels; the bandwidth is in units of the widths, None for hard bins."""
        found = []
        for r, own in enumerate(train.split(samples)):
            kernel = None if bandwidth is None else state["width"][r] * bandwidth
            binning, net = state["edges"][r].edges, observables[r].net
            if isinstance(net, Category):
                binning, kernel = category_shares(net.index, binning, bandwidth=kernel), None
            moved = state["net"][places[r]]
            channel = channel_from_events(
                uncut(moved),
                cut_samples(moved, own, widths=softness(r, bandwidth)),
                edges=binning,
                bandwidth=kernel,
                name=names[r],
                staterror=staterror,
            )
            found.append(channel)
        return tuple(found)

    closes = training.constraints.closure is not None

    def closing_of(soft: Sequence[Channel], hard: Sequence[Channel]) -> Closing:
        hard_yields = jax.lax.stop_gradient(background_of(*hard, poi=poi))
        return Closing(background_of(*soft, poi=poi), hard_yields)

    def loss(state: Any, batch: Sequence[Sample], step: Step) -> tuple[Array, dict]:
        own = channels_of(state, batch, training_loop.geometric(first, last)(step.progress))
        closing = (
            closing_of(own, channels_of(state, nominal_samples(batch), None)) if closes else None
        )
        value, aux = question(own, closing=closing, multipliers=state.get("multipliers", ()))
        parts = train.split(batch)
        entropies = [
            _entropy(net, parts[places.index(i)], regions[places.index(i)], poi=poi)
            for i, net in enumerate(state["net"])
        ]
        entropy = functools.reduce(operator.add, entropies)
        aux = {**aux, "cross_entropy": entropy}
        return value + training.cross_entropy * entropy, aux

    @eqx.filter_jit
    def measure(state: Any, held_out: Any, seen: Any) -> tuple[Array, dict]:
        own = channels_of(state, held_out, None)
        # a bin is poor if neither split fills it: held-out events may be few
        both = jnp.minimum(question.poverty(own), question.poverty(channels_of(state, seen, None)))
        closing = None
        if closes:
            # as at the end of the training
            closing = closing_of(channels_of(state, nominal_samples(held_out), last), own)
        return question(own, both, closing=closing)

    if training.constraints.active:

        def subject(state: Any, samples: Sequence[Sample]) -> Subject:
            own = channels_of(state, samples, None)
            return Subject(question.model(own), closing_of(own, own))

        shapes = eqx.filter_eval_shape(subject, state, train.samples)
        wanted = constraints_of(training.constraints, shapes.model, channels=names)
        state["multipliers"] = with_multipliers(None, wanted, shapes).multipliers

    result = training_loop.fit(
        loss,
        state,
        train.samples,
        steps=training.steps,
        batch_size=training.batch,
        optimizer=_optimizer(training, state, scales),
        key=key,
        trained={
            "net": tuple(map(trainable, state["net"])),
            "edges": jax.tree.map(eqx.is_array, state["edges"]),
            "width": (False,) * len(names),
            **({"multipliers": True} if "multipliers" in state else {}),
        },
        # the samples are arguments: as constants they would be compiled in
        validate=lambda state: measure(state, validation.samples, train.samples),
        validate_every=training.validate_every,
        patience=training.patience,
        checkpoint=checkpoint,
        stage=training.objective,
        **settings,
    )
    best = result.trainable
    moved = []
    for r, own in enumerate(observables):
        net = best["net"][places[r]]
        if isinstance(own.net, Category):
            net = Category(net, own.net.index, own.net.classes)
        moved.append(Observable(net, np.asarray(best["edges"][r].edges, float), names[r]))
    return tuple(moved), result


def _bases(observables: Sequence[Observable]) -> tuple[tuple[Network, ...], list[int]]:
    """Return the networks, that of several categories once, and the place of each region's."""
    bases: list[Network] = []
    places = []
    for own in observables:
        net = own.net.net if isinstance(own.net, Category) else own.net
        known = [i for i, base in enumerate(bases) if base is net]
        places.append(known[0] if known else len(bases))
        if not known:
            bases.append(net)
    return tuple(bases), places


def _entropy(
    net: Network, batch: Sequence[Sample], own: RegionEvents, *, poi: str | Sequence[str]
) -> Array:
    """Return the cross-entropy of a network: of its classes, or of signal and background."""
    if own.classes:
        return class_entropy(net, batch, classes=dict(own.classes))[0]
    return cross_entropy(_classifier(net), batch, poi=poi)[0]


class _Flat:
    """Samples of several regions in one row, as batches are drawn of them."""

    def __init__(self, regions: Sequence[Sequence[Sample]]) -> None:
        self.samples: tuple[Sample, ...] = ()
        self._places: list[tuple[int, int]] = []
        known: dict[int, tuple[int, int]] = {}
        for own in regions:  # categories of one region share their events
            if id(own) not in known:
                start = len(self.samples)
                self.samples += tuple(own)
                known[id(own)] = (start, len(self.samples))
            self._places.append(known[id(own)])

    def split(self, samples: Sequence[Sample]) -> list[Sequence[Sample]]:
        """Return the samples, or others in their places, by region."""
        return [samples[a:b] for a, b in self._places]


def _trainable(edges: Float[np.ndarray, " edges"], dtype: Any) -> TrainableEdges:
    """Return edges that can move."""
    width, narrowest = median_width(edges), float(np.diff(edges).min())
    return TrainableEdges.from_edges(
        jnp.asarray(_rounded_ends(edges), dtype),
        # a power of two: trainings that differ little share a compiled program
        min_width=2.0 ** np.floor(np.log2(min(_THINNEST * width, _NARROWER * narrowest))),
    )


def median_width(edges: Float[np.ndarray, " edges"]) -> float:
    """Return the median width of the inner bins: the unit of the bandwidth."""
    return float(np.median(np.diff(edges[1:-1]))) if len(edges) > 3 else 1.0


def _classifier(net: Network) -> Network:
    """Return what is a logit of signal: the efficient score is none, its first output is."""
    net = uncut(net)
    return net.outputs if isinstance(net, EfficientScore) else net


def _rounded_ends(edges: Float[np.ndarray, " edges"]) -> Float[np.ndarray, " edges"]:
    """Return the edges with outer ones moved out to whole numbers; events beyond are folded in."""
    return np.concatenate([[np.floor(edges[0])], edges[1:-1], [np.ceil(edges[-1])]])


def _optimizer(
    training: TrainingOptions, state: Any, scales: Sequence[CutScales]
) -> optax.GradientTransformation:
    """Return Adam with clipped gradients; edges move faster than weights."""

    def adam(rate: float) -> optax.GradientTransformation:
        schedule = optax.cosine_decay_schedule(rate, training.steps)
        return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

    parts: dict[Any, optax.GradientTransformation] = {
        "net": adam(training.rate),
        "edges": adam(training.edge_rate),
    }
    labels = {"net": tuple(map(labels_of, state["net"])), "edges": "edges", "width": "edges"}
    if scales:
        in_units = optax.stateless(lambda updates, _: in_units_of(scales, updates))
        parts["cuts"] = optax.chain(adam(training.cut_rate), in_units)
    if "multipliers" in state:  # plain ascent: they integrate the violations
        parts["multipliers"] = optax.sgd(training.constraints.rate)
        labels["multipliers"] = "multipliers"
    return optax.multi_transform(parts, labels)
