"""Network and edges descend on the objective of the analysis, judged in hard bins."""

from __future__ import annotations

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
from difana.analysis.conditions import Closing, Subject, background_of, constraints_of
from difana.analysis.efficient_score import EfficientScore
from difana.analysis.options import TrainingOptions
from difana.analysis.question import Question
from difana.data import Sample, nominal_samples
from difana.hist import TrainableEdges
from difana.likelihood import Channel, channel_from_events
from difana.losses import cross_entropy, with_multipliers
from difana.nn import trainable
from difana.train import Step, TrainResult

# The smallest width of a trained bin: a fiftieth of the median one, so that edges may nearly meet,
# and no more than half of the narrowest at the start, which must be able to shrink, too.
_THINNEST, _NARROWER = 0.02, 0.5


def descend(
    net: Network,
    edges: Float[np.ndarray, " edges"],
    train: Sequence[Sample],
    validation: Sequence[Sample],
    *,
    question: Question,
    training: TrainingOptions,
    key: PRNGKeyArray,
    channel: str = "SR",
    staterror: bool = True,
    checkpoint: Path | None = None,
    **settings: Any,
) -> TrainResult:
    """Train a network and its bin edges on an objective, from where they are.

    Both descend through soft bins of the first output whose kernel narrows, with a penalty on bins
    of little simulated background and, by choice, cross-entropy as a regulariser. Every few steps
    the objective is measured in hard bins of held-out events; the best state, that at the start
    included, is returned.

    Args:
        net: The network.
        edges: Its bin edges.
        train: Samples to train on, each standing for its full yield.
        validation: Held-out samples, the same.
        question: What is minimised.
        training: Steps, batch, rates, bandwidth, ...
        key: Key of the batches.
        channel: Name of the trained channel.
        staterror: Include the statistical uncertainty of the simulation.
        checkpoint: Folder of the checkpoints.
        settings: Further options of `difana.train.fit`.

    Returns:
        How it went; ``trainable`` holds ``net``, ``edges`` (`difana.hist.TrainableEdges`) and
        ``width``, the unit of the bandwidth.
    """
    poi = question.poi
    edges = np.asarray(edges, float)
    width = median_width(edges)
    narrowest = float(np.diff(edges).min())
    dtype = train[0].nominal.features.dtype
    state = {
        "net": net,
        "edges": TrainableEdges.from_edges(
            jnp.asarray(_rounded_ends(edges), dtype),
            # a power of two: trainings that differ little share a compiled program
            min_width=2.0 ** np.floor(np.log2(min(_THINNEST * width, _NARROWER * narrowest))),
        ),
        "width": jnp.asarray(width, dtype),
    }
    first, last = training.bandwidth

    def channel_of(state: Any, samples: Sequence[Sample], bandwidth: Any) -> Channel:
        return channel_from_events(
            state["net"],
            samples,
            edges=state["edges"].edges,
            bandwidth=bandwidth,
            name=channel,
            staterror=staterror,
        )

    closes = training.constraints.closure is not None

    def closing_of(soft: Channel, hard: Channel) -> Closing:
        hard_yields = jax.lax.stop_gradient(background_of(hard, poi=poi))
        return Closing(background_of(soft, poi=poi), hard_yields)

    def loss(state: Any, batch: Sequence[Sample], step: Step) -> tuple[Array, dict]:
        bandwidth = state["width"] * training_loop.geometric(first, last)(step.progress)
        own = channel_of(state, batch, bandwidth)
        closing = (
            closing_of(own, channel_of(state, nominal_samples(batch), None)) if closes else None
        )
        value, aux = question(own, closing=closing, multipliers=state.get("multipliers", ()))
        entropy, _ = cross_entropy(_classifier(state["net"]), batch, poi=poi)
        aux = {**aux, "cross_entropy": entropy}
        return value + training.cross_entropy * entropy, aux

    @eqx.filter_jit
    def measure(state: Any, held_out: Any, seen: Any) -> tuple[Array, dict]:
        own = channel_of(state, held_out, None)
        # a bin is poor if neither split fills it: held-out events may be few
        both = jnp.minimum(question.poverty(own), question.poverty(channel_of(state, seen, None)))
        closing = None
        if closes:
            # as at the end of the training
            soft = channel_of(state, nominal_samples(held_out), state["width"] * last)
            closing = closing_of(soft, own)
        return question(own, both, closing=closing)

    if training.constraints.active:

        def subject(state: Any, samples: Sequence[Sample]) -> Subject:
            own = channel_of(state, samples, None)
            return Subject(question.model(own), closing_of(own, own))

        shapes = eqx.filter_eval_shape(subject, state, train)
        wanted = constraints_of(training.constraints, shapes.model, channel=channel)
        state["multipliers"] = with_multipliers(None, wanted, shapes).multipliers

    return training_loop.fit(
        loss,
        state,
        train,
        steps=training.steps,
        batch_size=training.batch,
        optimizer=_optimizer(training, state),
        key=key,
        trained={
            "net": trainable(net),
            "edges": jax.tree.map(eqx.is_array, state["edges"]),
            "width": False,
            **({"multipliers": True} if "multipliers" in state else {}),
        },
        # the samples are arguments: as constants they would be compiled in
        validate=lambda state: measure(state, validation, train),
        validate_every=training.validate_every,
        patience=training.patience,
        checkpoint=checkpoint,
        stage=training.objective,
        **settings,
    )


def median_width(edges: Float[np.ndarray, " edges"]) -> float:
    """Return the median width of the inner bins: the unit of the bandwidth."""
    return float(np.median(np.diff(edges[1:-1]))) if len(edges) > 3 else 1.0


def _classifier(net: Network) -> Network:
    """Return what is a logit of signal: the efficient score is none, its first output is."""
    return net.outputs if isinstance(net, EfficientScore) else net


def _rounded_ends(edges: Float[np.ndarray, " edges"]) -> Float[np.ndarray, " edges"]:
    """Return the edges with outer ones moved out to whole numbers; events beyond are folded in."""
    return np.concatenate([[np.floor(edges[0])], edges[1:-1], [np.ceil(edges[-1])]])


def _optimizer(training: TrainingOptions, state: Any) -> optax.GradientTransformation:
    """Return Adam with clipped gradients; edges move faster than weights."""

    def adam(rate: float) -> optax.GradientTransformation:
        schedule = optax.cosine_decay_schedule(rate, training.steps)
        return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

    parts: dict[Any, optax.GradientTransformation] = {
        "net": adam(training.rate),
        "edges": adam(training.edge_rate),
    }
    labels = {"net": "net", "edges": "edges", "width": "edges"}
    if "multipliers" in state:  # plain ascent: they integrate the violations
        parts["multipliers"] = optax.sgd(training.constraints.rate)
        labels["multipliers"] = "multipliers"
    return optax.multi_transform(parts, labels)
