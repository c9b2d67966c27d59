"""The recipe: cross-entropy first, then the objective, judged in hard bins on held-out events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from difana import train as training_loop
from difana._errors import ConfigError, nearest
from difana._typing import Network
from difana.analysis.best_bins import best_bins
from difana.analysis.options import NetworkOptions, TrainingOptions
from difana.analysis.start_edges import start_edges
from difana.analysis.templates import observe
from difana.data import Sample
from difana.hist import TrainableEdges
from difana.infer import Status, expected_limits, hypotest, significance
from difana.likelihood import Channel, Model, Parameter, build_model, channel_from_events
from difana.losses import cross_entropy, minimum_events, sigma_of
from difana.nn import MLP, Standardised, trainable
from difana.train import TrainResult


class Optimised(eqx.Module):
    """What the recipe found.

    Attributes:
        net: The trained network.
        edges: Bin edges of its first observable.
        baseline_net: The network of cross-entropy.
        bandwidth: Kernel width at the end of training, in units of the observable.
        history: Records of both stages (static).
        status: How the second stage ended (static).
        message: The same in words (static).
    """

    net: Network
    edges: Float[Array, " edges"]
    baseline_net: Network
    bandwidth: float = eqx.field(static=True)
    history: tuple[dict[str, Any], ...] = eqx.field(static=True)
    status: str = eqx.field(static=True)
    message: str = eqx.field(static=True)


def _limit(model: Model) -> Array:
    found = expected_limits(model, median_only=True)
    # where no limit exists the number is small: a search would choose it
    lost = found.status & int(Status.NOT_BRACKETED | Status.NOT_FINITE)
    return jnp.log(jnp.where(lost == 0, found.median, jnp.inf))


def _cls(model: Model) -> Array:
    root = jnp.sqrt(jnp.maximum(hypotest(model).q_asimov, 1e-12))
    return jax.scipy.special.log_ndtr(-root)


OBJECTIVES: dict[str, Callable[[Model], Array]] = {
    "expected_limit": _limit,
    "expected_cls": _cls,
    "discovery": lambda model: -significance(model).expected,
    "poi_uncertainty": lambda model: jnp.log(sigma_of(model)[0]),
}
"""What can be minimised; logarithms make one learning rate fit all scales."""


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
    resume: bool = True,
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
        resume: False: delete the checkpoints first.
        progress_bar: Show progress.
        fingerprint: What a resumed run must agree on.
        mesh: Devices to spread the batches over.
        baseline: A network trained before, e.g. shared by analyses that differ in their
            systematics only; the first stage is left out.
        edges: Edges to start from; they are searched by default.

    Raises:
        ConfigError: If the objective is unknown or there are fewer than two bins.
    """
    if training.objective not in OBJECTIVES:
        raise ConfigError(
            f"objective '{training.objective}' is not one of {list(OBJECTIVES)}."
            f"{nearest(training.objective, OBJECTIVES)}"
        )
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
    question = _question(training, others=others, parameters=parameters, poi=poi)
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
            min_width=2.0 ** np.floor(np.log2(min(0.02 * width, 0.5 * narrowest))),
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

    def loss(state: Any, batch: Sequence[Sample], progress: Array) -> tuple[Array, dict]:
        bandwidth = state["width"] * training_loop.geometric(first, last)(progress)
        value, aux = question(channel_of(state, batch, bandwidth))
        entropy, _ = cross_entropy(state["net"], batch, poi=poi)
        aux = {**aux, "cross_entropy": entropy}
        return value + training.cross_entropy * entropy, aux

    @eqx.filter_jit
    def measure(state: Any, held_out: Any, seen: Any) -> tuple[Array, dict]:
        own = channel_of(state, held_out, None)
        # a bin is poor if neither split fills it: held-out events may be few
        both = jnp.minimum(question.poverty(own), question.poverty(channel_of(state, seen, None)))
        return question(own, both)

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
        message=result.message,
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
    start = _network(network, train, weights_key)
    steps = training.pretrain_steps

    @eqx.filter_jit
    def measure(net: Network, held_out: Sequence[Sample]) -> tuple[Array, dict[str, Array]]:
        return cross_entropy(net, held_out, poi=poi, variations=variations)

    return training_loop.fit(
        lambda net, batch, progress: cross_entropy(net, batch, poi=poi, variations=variations),
        start,
        train,
        steps=steps,
        batch_size=training.pretrain_batch,
        optimizer=optax.adam(optax.cosine_decay_schedule(training.pretrain_rate, steps)),
        key=key,
        trained=trainable(start),
        validate=lambda net: measure(net, validation),
        stage=stage,
        **settings,
    )


class _Question(eqx.Module):
    """The objective of a channel and its penalty; equal questions share compiled programs."""

    objective: Callable[[Model], Array] = eqx.field(static=True)
    others: tuple[Channel, ...] = eqx.field(kw_only=True)
    parameters: tuple[Parameter, ...] = eqx.field(kw_only=True)
    poi: str = eqx.field(static=True, kw_only=True)
    minimum_events: float = eqx.field(static=True, kw_only=True)
    penalty: float = eqx.field(static=True, kw_only=True)

    def poverty(self, own: Channel) -> Array:
        """Return the penalty for bins with little simulated background."""
        return minimum_events(own, poi=self.poi, threshold=self.minimum_events)

    def __call__(
        self, own: Channel, penalty: Array | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """Return the objective with its penalty."""
        model = build_model((own, *self.others), poi=self.poi, parameters=self.parameters)
        value = self.objective(model)
        penalty = self.poverty(own) if penalty is None else penalty
        return value + self.penalty * penalty, {"objective": value, "penalty": penalty}


def _question(
    training: TrainingOptions,
    *,
    others: Sequence[Channel],
    parameters: Sequence[Parameter],
    poi: str,
) -> _Question:
    return _Question(
        OBJECTIVES[training.objective],
        others=tuple(others),
        parameters=tuple(parameters),
        poi=poi,
        minimum_events=training.minimum_events,
        penalty=training.penalty,
    )


def log_objective(
    training: TrainingOptions,
    *,
    others: Sequence[Channel] = (),
    parameters: Sequence[Parameter] = (),
    poi: str = "mu",
) -> Callable[[Channel], Array]:
    """Return what the recipe minimises as a function of a channel: compiled, differentiable.

    The objective (for limits, its logarithm) and the penalty for bins with little background.

    Args:
        training: The objective, the events wanted in each bin, the weight of the penalty.
        others: Further channels, constant.
        parameters: Settings of parameters, as in ``build_model``.
        poi: Parameter of interest.
    """
    question = _question(training, others=others, parameters=parameters, poi=poi)
    return jax.tree_util.Partial(_judged, question)


@eqx.filter_jit
def _judged(question: _Question, own: Channel) -> Array:
    return question(own)[0]


def _rounded_ends(edges: Float[np.ndarray, " edges"]) -> Float[np.ndarray, " edges"]:
    """Return the edges with outer ones moved out to whole numbers; events beyond are folded in."""
    return np.concatenate([[np.floor(edges[0])], edges[1:-1], [np.ceil(edges[-1])]])


def _network(options: NetworkOptions, samples: Sequence[Sample], key: PRNGKeyArray) -> Network:
    """Return a new network behind the standardisation of the training events.

    Every sample counts the same, whatever its yield: a rare signal must not lie far outside.
    """
    features = np.concatenate([np.asarray(s.nominal.features) for s in samples])
    weights = np.concatenate([np.full(len(s.nominal), 1 / len(s.nominal)) for s in samples])
    net = MLP(features.shape[1], options.hidden, 1, activation=options.activation, key=key)
    return Standardised.fit(net, jnp.asarray(features), jnp.asarray(weights))


def _optimizer(training: TrainingOptions, state: Any) -> optax.GradientTransformation:
    """Return Adam with clipped gradients; edges move faster than weights."""

    def adam(rate: float) -> optax.GradientTransformation:
        schedule = optax.cosine_decay_schedule(rate, training.steps)
        return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

    return optax.multi_transform(
        {"net": adam(training.rate), "edges": adam(training.edge_rate)},
        {"net": "net", "edges": "edges", "width": "edges"},
    )
