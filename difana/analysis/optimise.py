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
from jaxtyping import Array, Float, PRNGKeyArray

from difana import train as training_loop
from difana._errors import ConfigError, nearest
from difana._typing import Network
from difana.analysis.options import NetworkOptions, TrainingOptions
from difana.analysis.start_edges import start_edges
from difana.analysis.templates import observe
from difana.data import Sample
from difana.hist import TrainableEdges
from difana.infer import expected_limits, hypotest, significance
from difana.likelihood import Channel, Model, Parameter, build_model, channel_from_events
from difana.losses import cross_entropy, minimum_events, sigma_of
from difana.nn import MLP, Standardised, trainable


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
    return jnp.log(expected_limits(model, median_only=True).median)


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
) -> Optimised:
    """Train an observable and its binning for the objective of an analysis.

    1. The network learns cross-entropy; the best state on held-out events is the baseline.
    2. The bins start as the best of several mixtures of bulk and equal-signal bins, judged on
       the training and the held-out events.
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
    start = _network(network, train, weights_key)
    pretrained = training_loop.fit(
        lambda net, batch, progress: cross_entropy(net, batch, poi=poi),
        start,
        train,
        steps=training.pretrain_steps,
        batch_size=training.pretrain_batch,
        optimizer=optax.adam(
            optax.cosine_decay_schedule(training.pretrain_rate, training.pretrain_steps)
        ),
        key=first_key,
        trained=trainable(start),
        validate=eqx.filter_jit(lambda net: cross_entropy(net, validation, poi=poi)),
        checkpoint=None if directory is None else directory / "cross_entropy",
        stage="cross-entropy",
        **settings,
    )
    baseline = pretrained.trainable
    objective = OBJECTIVES[training.objective]

    def poverty(own: Channel) -> Array:
        return minimum_events(own, poi=poi, threshold=training.minimum_events)

    def judged(own: Channel, penalty: Array | None = None) -> tuple[Array, dict[str, Array]]:
        """Return the objective with its penalty."""
        model = build_model((own, *others), poi=poi, parameters=parameters)
        value = objective(model)
        penalty = poverty(own) if penalty is None else penalty
        return value + training.penalty * penalty, {"objective": value, "penalty": penalty}

    compiled = eqx.filter_jit(lambda own: judged(own)[0])
    edges = start_edges(
        [observe(baseline, train), observe(baseline, validation)],
        lambda own: float(compiled(own)),
        poi=poi,
        bins=training.bins,
        name=channel,
        staterror=staterror,
    )
    width = float(np.median(np.diff(edges[1:-1]))) if training.bins > 2 else 1.0
    narrowest = float(np.diff(edges).min())
    dtype = train[0].nominal.features.dtype
    state = {
        "net": baseline,
        "edges": TrainableEdges.from_edges(
            jnp.asarray(edges, dtype), min_width=min(0.02 * width, 0.5 * narrowest)
        ),
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
        bandwidth = width * training_loop.geometric(first, last)(progress)
        own = channel_of(state, batch, bandwidth)
        value, aux = judged(own)
        entropy, _ = cross_entropy(state["net"], batch, poi=poi)
        aux = {**aux, "cross_entropy": entropy}
        return value + training.cross_entropy * entropy, aux

    def measure(state: Any) -> tuple[Array, dict]:
        own = channel_of(state, validation, None)
        # a bin is poor if neither split fills it: held-out events may be few
        both = jnp.minimum(poverty(own), poverty(channel_of(state, train, None)))
        return judged(own, both)

    result = training_loop.fit(
        loss,
        state,
        train,
        steps=training.steps,
        batch_size=training.batch,
        optimizer=_optimizer(training, state),
        key=second_key,
        trained={"net": trainable(baseline), "edges": jax.tree.map(eqx.is_array, state["edges"])},
        validate=eqx.filter_jit(measure),
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
        baseline_net=baseline,
        bandwidth=width * last,
        history=(*pretrained.history, *result.history),
        status=result.status,
        message=result.message,
    )


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
        {"net": "net", "edges": "edges"},
    )
