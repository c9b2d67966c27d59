"""What end-to-end training is compared with: one function call each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Unpack

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from difana import train as training_loop
from difana._options import whole_number
from difana._typing import Network
from difana.analysis.network import network_for
from difana.analysis.options import NetworkOptions
from difana.analysis.pretrain import pretraining
from difana.data import Sample
from difana.losses import (
    Pivot,
    Step,
    adversarial,
    adversary_outputs,
    augmented,
    aware,
    cross_entropy,
    nuisance_names,
    parametrised,
)
from difana.losses.classify.random_nuisances import Draw
from difana.nn import MLP, trainable
from difana.train import AbstractTraining, LoopOptions, Training


class Baseline(AbstractTraining):
    """A trained network.

    Attributes:
        net: The network; one of features and parameters side by side for aware and parametrised
            ones (``difana.nn.Parametrised`` puts them at a value).
        status: Bits of `difana.train.TrainStatus`.
        diagnosis: What went wrong, and the remedy; empty where nothing did.
        history: Its records, empty if several were trained at once (static).
    """

    net: Network
    status: int = eqx.field(static=True)
    diagnosis: str = eqx.field(static=True)
    history: tuple[dict[str, Any], ...] = eqx.field(static=True)


class BaselineOptions(LoopOptions, total=False):
    """What all baselines take; explained by :func:`train_cross_entropy`."""

    training: Training
    members: int | None
    validate: Any
    validate_every: int | None


def train_cross_entropy(
    samples: Sequence[Sample],
    *,
    key: PRNGKeyArray,
    network: NetworkOptions = NetworkOptions(),  # noqa: B008  # frozen
    poi: str = "mu",
    variations: bool = False,
    **options: Unpack[BaselineOptions],
) -> Baseline | tuple[Baseline, ...]:
    """Train on cross-entropy of the nominal events: the plain baseline.

    Args:
        samples: Training samples, each standing for its full yield.
        key: Key of weights and batches.
        network: Size of the network.
        poi: What it multiplies is signal.
        variations: Train on the events at +1 and -1 of every variation, too.
        **options: ``training`` (as ``difana run`` does it, see ``difana.analysis.pretraining``),
            ``members``: train so many networks at once, with seeds and batches of their own; for a
            single one also all that ``difana.train.minimise`` takes (``checkpoint``, ...).

    Returns:
        The network f(x), a logit; a tuple of them with ``members``.

    Example:
        >>> import jax.numpy as jnp
        >>> from difana.data import Events
        >>> def sample(name, x, **kwargs):
        ...     return Sample(Events(jnp.full((4, 1), x), jnp.ones(4)), name=name, **kwargs)
        >>> both = [sample("s", 1.0, normfactors=("mu",)), sample("b", -1.0)]
        >>> found = train_cross_entropy(
        ...     both, key=jax.random.key(0), network=NetworkOptions((2,)),
        ...     training=Training(steps=2, batch_size=4))
        >>> found.message
        'ok'
    """

    def loss(state: Any, batch: Any, step: Step) -> tuple[Array, dict[str, Array]]:
        return cross_entropy(state, batch, poi=poi, variations=variations)

    return _train(loss, network_for(network, samples), samples, key=key, **options)


def train_augmented(
    samples: Sequence[Sample],
    *,
    key: PRNGKeyArray,
    network: NetworkOptions = NetworkOptions(),  # noqa: B008
    poi: str = "mu",
    draw: Draw = jax.random.normal,
    **options: Unpack[BaselineOptions],
) -> Baseline | tuple[Baseline, ...]:
    """Train on cross-entropy of events at random nuisance values (data augmentation).

    Args:
        samples: As in :func:`train_cross_entropy`; their variations are the nuisances.
        key: Key of weights, batches and nuisance values.
        network: Size of the network.
        poi: What it multiplies is signal.
        draw: Draws the values in standard deviations; the prior by default.
        **options: As in :func:`train_cross_entropy`.

    Returns:
        The network f(x).
    """

    def loss(state: Any, batch: Any, step: Step) -> tuple[Array, dict[str, Array]]:
        return augmented(state, batch, step, draw=draw, poi=poi)

    return _train(loss, network_for(network, samples), samples, key=key, **options)


def train_aware(
    samples: Sequence[Sample],
    *,
    key: PRNGKeyArray,
    network: NetworkOptions = NetworkOptions(),  # noqa: B008
    poi: str = "mu",
    draw: Draw = jax.random.normal,
    **options: Unpack[BaselineOptions],
) -> Baseline | tuple[Baseline, ...]:
    """Train an uncertainty-aware network f(x, nu).

    Use it with :func:`difana.analysis.nuisance_scan`, which makes templates and data anew at
    each value.

    Args:
        samples: As in :func:`train_cross_entropy`; their variations are the nuisances.
        key: Key of weights, batches and nuisance values.
        network: Size of the network.
        poi: What it multiplies is signal.
        draw: Draws the values in standard deviations; the prior by default. A wider one teaches
            the tails.
        **options: As in :func:`train_cross_entropy`.

    Returns:
        The network f([x, nu]), nuisances in the order of ``difana.losses.nuisance_names``.
    """
    extra = np.zeros(len(nuisance_names(samples)))
    start = network_for(network, samples, mean=extra, std=extra + 1)

    def loss(state: Any, batch: Any, step: Step) -> tuple[Array, dict[str, Array]]:
        return aware(state, batch, step, draw=draw, poi=poi)

    return _train(loss, start, samples, key=key, **options)


def train_adversarial(
    samples: Sequence[Sample],
    *,
    key: PRNGKeyArray,
    network: NetworkOptions = NetworkOptions(),  # noqa: B008
    poi: str = "mu",
    draw: Draw = jax.random.normal,
    adversary: Literal["regressor", "mixture"] = "mixture",
    adversary_network: NetworkOptions = NetworkOptions((32, 32)),  # noqa: B008
    strength: float = 1.0,
    on: Literal["all", "background"] = "all",
    **options: Unpack[BaselineOptions],
) -> Baseline | tuple[Baseline, ...]:
    """Train against an adversary that guesses the nuisances from the output.

    ``adversary="mixture"`` is "learning to pivot", ``"regressor"`` the cheaper cousin. See
    :func:`difana.losses.adversarial`.

    Args:
        samples: As in :func:`train_cross_entropy`; their variations are the nuisances.
        key: Key of weights, batches and nuisance values.
        network: Size of the network.
        poi: What it multiplies is signal.
        draw: Draws the values in standard deviations; the prior by default.
        adversary: What the adversary predicts.
        adversary_network: Its size.
        strength: Weight of the adversary; it grows from 0 over the first half of the training.
        on: Decorrelate all events or the background alone.
        **options: As in :func:`train_cross_entropy`.

    Returns:
        The network f(x).
    """
    outputs = adversary_outputs(adversary, nuisances=len(nuisance_names(samples)))
    classifier = network_for(network, samples)
    growing = training_loop.window(training_loop.linear(0.0, strength), end=0.5)

    def start(key: PRNGKeyArray) -> Pivot:
        size, kind = adversary_network.hidden, adversary_network.activation
        opponent = MLP(1, size, outputs, activation=kind, key=jax.random.fold_in(key, 3))
        return Pivot(classifier(key), opponent)

    def loss(state: Any, batch: Any, step: Step) -> tuple[Array, dict[str, Array]]:
        return adversarial(
            state,
            batch,
            step,
            adversary=adversary,
            strength=growing(step.progress),
            on=on,
            draw=draw,
            poi=poi,
        )

    found = _train(loss, start, samples, key=key, **options)
    return jax.tree.map(lambda pair: pair.net, found, is_leaf=lambda node: isinstance(node, Pivot))


def train_parametrised(
    samples: Sequence[Sample],
    *,
    theta: Mapping[str, Float[ArrayLike, " params"]],
    key: PRNGKeyArray,
    network: NetworkOptions = NetworkOptions(),  # noqa: B008
    poi: str = "mu",
    **options: Unpack[BaselineOptions],
) -> Baseline | tuple[Baseline, ...]:
    """Train one network f(x, theta) for a grid of signals.

    Args:
        samples: As in :func:`train_cross_entropy`; each that ``poi`` scales is one signal.
        theta: Parameters of each signal, by name of the sample, in any unit.
        key: Key of weights, batches and parameters of the background.
        network: Size of the network.
        poi: What it multiplies is signal.
        **options: As in :func:`train_cross_entropy`.

    Returns:
        The network f([x, theta]).
    """
    grid = np.stack([np.atleast_1d(np.asarray(row, float)) for row in theta.values()])
    spread = grid.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    start = network_for(network, samples, mean=grid.mean(axis=0), std=spread)

    def loss(state: Any, batch: Any, step: Step) -> tuple[Array, dict[str, Array]]:
        return parametrised(state, batch, step, theta=theta, poi=poi)

    return _train(loss, start, samples, key=key, **options)


def _train(
    loss: Callable[[Any, Any, Step], tuple[Array, dict[str, Array]]],
    start: Callable[[PRNGKeyArray], Any],
    samples: Sequence[Sample],
    *,
    key: PRNGKeyArray,
    training: Training | None = None,
    members: int | None = None,
    **options: Any,
) -> Any:
    """Run the training that all baselines share."""
    training = pretraining() if training is None else training
    rows = max(len(sample.nominal) for sample in samples)
    steps = training.steps_for(rows)
    members = None if members is None else whole_number("members", members)
    keys = [key] if members is None else list(jax.random.split(key, members))
    states = [start(jax.random.fold_in(own, 0)) for own in keys]
    batches = [jax.random.fold_in(own, 1) for own in keys]
    settings: dict[str, Any] = {
        "steps": steps,
        "batch_size": training.batch(rows),
        "optimizer": training.optimizer(steps),
        "average": training.average,
        "trained": trainable(states[0]),
        "progress_bar": False,
        **options,
    }
    if members is None:
        settings["patience"] = training.patience
        one = training_loop.fit(loss, states[0], samples, key=batches[0], **settings)
        return Baseline(one.trainable, one.status, one.diagnosis, one.history)
    many = training_loop.fit_ensemble(loss, states, samples, keys=batches, **settings)
    return tuple(Baseline(state, many.status, many.diagnosis, ()) for state in many.members)
