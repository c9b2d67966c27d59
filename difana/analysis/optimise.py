"""The recipe: cross-entropy first, then the objective, judged in hard bins on held-out events."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from difana import train as training_loop
from difana._errors import ConfigError
from difana._typing import Network
from difana.analysis.best_bins import best_bins
from difana.analysis.conditions import Closing, Subject, background_of, constraints_of
from difana.analysis.network import new_network
from difana.analysis.options import NetworkOptions, TrainingOptions
from difana.analysis.question import log_objective, question_of
from difana.analysis.start_edges import start_edges
from difana.analysis.templates import observe
from difana.data import Sample
from difana.hist import TrainableEdges
from difana.likelihood import Channel, Parameter, channel_from_events
from difana.losses import cross_entropy, objective_named, with_multipliers
from difana.nn import trainable
from difana.train import AbstractTraining, Step, Training, TrainResult

# The smallest width of a trained bin: a fiftieth of the median one, so that edges may nearly meet,
# and no more than half of the narrowest at the start, which must be able to shrink, too.
_THINNEST, _NARROWER = 0.02, 0.5


class Optimised(AbstractTraining):
    """What the recipe found.

    Attributes:
        net: The trained network.
        edges: Bin edges of its first observable.
        baseline_net: The network of cross-entropy.
        bandwidth: Kernel width at the end of training, in units of the observable.
        history: Records of both stages (static).
        status: How the second stage ended, bits of `difana.train.TrainStatus`.
        diagnosis: What went wrong in it, and the remedy; empty where nothing did.
    """

    net: Network
    edges: Float[Array, " edges"]
    baseline_net: Network
    bandwidth: float = eqx.field(static=True)
    history: tuple[dict[str, Any], ...] = eqx.field(static=True)
    status: int = eqx.field(static=True)
    diagnosis: str = eqx.field(static=True)


def optimise(
    train: Sequence[Sample],
    validation: Sequence[Sample],
    *,
    network: NetworkOptions,
    training: TrainingOptions,
    key: PRNGKeyArray,
    others: Sequence[Channel] = (),
    parameters: Sequence[Parameter] = (),
    poi: str = "mu",
    channel: str = "SR",
    staterror: bool = True,
    directory: Path | None = None,
    resume: bool | Literal["same"] = True,
    progress_bar: bool = True,
    fingerprint: str = "",
    mesh: Mesh | None = None,
    baseline: Network | None = None,
    edges: Float[ArrayLike, " edges"] | None = None,
) -> Optimised:
    """Train an observable and its binning for the objective of an analysis.

    1. The network learns cross-entropy; the best state on held-out events is the baseline.
    2. The bins start as the best of several mixtures of bulk and equal-signal bins, judged on
       the training and the held-out events; with ``training.search`` as what `best_bins` finds.
    3. Network and edges descend on the objective, through soft bins of the logit whose kernel
       narrows, with a penalty on bins with little simulated background and cross-entropy as a
       regulariser. Every few steps the objective is measured in hard bins of held-out events; the
       best state, that at the start included, is returned.

    With ``training.constraints`` the third stage descends on a Lagrangian whose multipliers ascend
    (`difana.losses.lagrangian`), and binnings and states are compared by the objective plus ten
    times their violations, so that a state that obeys wins over one that does not.

    Args:
        train: Samples to train on, each standing for its full yield.
        validation: Held-out samples, the same.
        network: Size of the network.
        training: Steps, rates, bins, ...
        key: Key of weights and batches.
        others: Further channels, constant.
        parameters: Settings of parameters, as in ``build_model``.
        poi: Parameter of interest; what it multiplies is signal.
        channel: Name of the trained channel.
        staterror: Include the statistical uncertainty of the simulation.
        directory: Folder of the checkpoints; None for none.
        resume: False: delete the checkpoints first; ``"same"``: those of another training.
        progress_bar: Show progress.
        fingerprint: What a resumed run must agree on.
        mesh: Devices to spread the batches over.
        baseline: A network trained before, e.g. shared by analyses that differ in their
            systematics only; the first stage is left out.
        edges: Edges to start from; they are searched by default.

    Raises:
        ConfigError: If the objective is unknown or there are fewer than two bins.
    """
    objective_named(training.objective)
    if training.bins < 2:
        raise ConfigError(f"{training.bins} bin(s): an observable needs at least two")
    weights_key, first_key, second_key = jax.random.split(key, 3)
    settings: dict[str, Any] = {"resume": resume, "progress_bar": progress_bar, "mesh": mesh}
    settings["fingerprint"] = f"{fingerprint} {network} {training}"
    history: tuple[dict[str, Any], ...] = ()
    net: Any = baseline
    if net is None:
        pretrained = pretrain(
            train,
            validation,
            network=network,
            training=training,
            weights_key=weights_key,
            key=first_key,
            poi=poi,
            checkpoint=None if directory is None else directory / "cross_entropy",
            **settings,
        )
        net, history = pretrained.trainable, tuple(pretrained.history)
    question = question_of(training, others=others, parameters=parameters, poi=poi)
    if edges is None:
        splits = [observe(net, train), observe(net, validation)]
        binning: dict[str, Any] = {
            "poi": poi, "bins": training.bins, "name": channel, "staterror": staterror
        }  # fmt: skip
        score = log_objective(training, others=others, parameters=parameters, poi=poi)
        if training.search:
            edges = best_bins(splits, score, budget=training.search, **binning).edges
        else:
            edges = start_edges(splits, lambda own: float(score(own)), **binning)
    edges = np.asarray(edges, float)
    width = float(np.median(np.diff(edges[1:-1]))) if training.bins > 2 else 1.0
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
        closing = closing_of(own, channel_of(state, _nominal(batch), None)) if closes else None
        value, aux = question(own, closing=closing, multipliers=state.get("multipliers", ()))
        entropy, _ = cross_entropy(state["net"], batch, poi=poi)
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
            soft = channel_of(state, _nominal(held_out), state["width"] * last)
            closing = closing_of(soft, own)
        return question(own, both, closing=closing)

    if training.constraints.active:

        def subject(state: Any, samples: Sequence[Sample]) -> Subject:
            own = channel_of(state, samples, None)
            return Subject(question.model(own), closing_of(own, own))

        shapes = eqx.filter_eval_shape(subject, state, train)
        wanted = constraints_of(training.constraints, shapes.model, channel=channel)
        state["multipliers"] = with_multipliers(None, wanted, shapes).multipliers

    result = training_loop.fit(
        loss,
        state,
        train,
        steps=training.steps,
        batch_size=training.batch,
        optimizer=_optimizer(training, state),
        key=second_key,
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
        checkpoint=None if directory is None else directory / training.objective,
        stage=training.objective,
        **settings,
    )
    best = result.trainable
    return Optimised(
        net=best["net"],
        edges=best["edges"].edges,
        baseline_net=net,
        bandwidth=width * last,
        history=(*history, *result.history),
        status=result.status,
        diagnosis=result.diagnosis,
    )


def pretrain(
    train: Sequence[Sample],
    validation: Sequence[Sample],
    *,
    network: NetworkOptions,
    training: TrainingOptions,
    weights_key: PRNGKeyArray,
    key: PRNGKeyArray,
    poi: str = "mu",
    variations: bool = False,
    stage: str = "cross-entropy",
    **settings: Any,
) -> TrainResult:
    """Train a network on cross-entropy; the best state on held-out events is returned.

    Args:
        train: Samples to train on.
        validation: Held-out samples.
        network: Size of the network.
        training: Steps, batch and rate (those that begin with ``pretrain``).
        weights_key: Key of the first weights.
        key: Key of the batches.
        poi: Parameter of interest; what it multiplies is signal.
        variations: Train on the systematic variations, too (augmentation).
        stage: Name in the history.
        settings: Further options of `difana.train.fit`.
    """
    start = new_network(network, train, key=weights_key)
    own = pretraining(training)
    steps = training.pretrain_steps

    @eqx.filter_jit
    def measure(net: Network, held_out: Sequence[Sample]) -> tuple[Array, dict[str, Array]]:
        return cross_entropy(net, held_out, poi=poi, variations=variations)

    return training_loop.fit(
        lambda net, batch, step: cross_entropy(net, batch, poi=poi, variations=variations),
        start,
        train,
        steps=steps,
        batch_size=training.pretrain_batch,
        optimizer=own.optimizer(steps),
        key=key,
        trained=trainable(start),
        validate=lambda net: measure(net, validation),
        stage=stage,
        **settings,
    )


def pretraining(options: TrainingOptions = TrainingOptions()) -> Training:  # noqa: B008  # frozen
    """Return how a network is trained on cross-entropy, as ``difana run`` does it."""
    return Training(
        steps=options.pretrain_steps,
        batch_size=options.pretrain_batch,
        learning_rate=options.pretrain_rate,
        final_rate=0.0,
        patience=None,
    )


def _nominal(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples without their variations."""
    return [Sample(s.nominal, name=s.name, normfactors=s.normfactors) for s in samples]


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
