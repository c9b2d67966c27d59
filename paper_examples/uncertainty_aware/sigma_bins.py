"""Bins trained on sigma(mu), from a start that cross-entropies give.

The uncertainty-aware classifier f(x, z) gives the share of the signal, S p_s / (S p_s + B p_b), at
any angle: the score of mu. Bins of events with like scores lose the least information, so the start
is k-means of the shares: at five angles together for bins that do not know the angle, at the one
angle for bins that do. The expected sigma(mu) then trains network and bins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from rotating import BACKGROUND, SIGNAL, STEP, TRUTHS, draw

from difana.analysis import NetworkOptions, samples_at, train_aware
from difana.data import Events, Sample
from difana.losses import Step, inferno
from difana.nn import MLP, Parametrised
from difana.train import Training, fit_ensemble

ANGLES = STEP * np.array(list(TRUTHS.values()))


@eqx.filter_jit
def shares(net: Callable, x: jax.Array, values: jax.Array) -> jax.Array:
    """Return the share of the signal at each value of the nuisance, ``[events, values]``."""

    def one(value: jax.Array) -> jax.Array:
        logit = Parametrised(net, value[None])(x)[:, 0]
        return jax.nn.sigmoid(logit + float(np.log(SIGNAL / BACKGROUND)))

    return jax.lax.map(one, values.astype(x.dtype)).T


def pooled(samples: Sequence[Sample], values: np.ndarray, *, events: int) -> tuple[Any, Any]:
    """Return features and weights of the first events, at all the values together."""
    parts = [s.nominal for value in values for s in samples_at(samples, "z", value)]
    features = jnp.concatenate([part.features[:events] for part in parts])
    return features, np.concatenate([np.asarray(p.weights[:events], float) for p in parts])


def nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return the number of the nearest centre of each point ``[events, dimensions]``."""
    # |p - c|^2 without |p|^2
    return np.argmin(np.sum(centres**2, axis=1) - 2 * points @ centres.T, axis=1)


def centres(
    points: np.ndarray, weights: np.ndarray, *, bins: int, rng: np.random.Generator, steps: int = 60
) -> np.ndarray:
    """Return the centres of k-means, ``[bins, dimensions]``, from a start in the signal."""
    chance = weights * points.sum(axis=1)
    found = points[rng.choice(len(points), bins, replace=False, p=chance / chance.sum())]
    for _ in range(steps):
        place = nearest(points, found)
        total = np.bincount(place, weights, bins)
        sums = np.stack([np.bincount(place, weights * own, bins) for own in points.T], axis=1)
        # a centre without events stays where it is
        found = np.where(total[:, None] > 0, sums / np.maximum(total, 1e-12)[:, None], found)
    return found


class ShareBins(eqx.Module):
    """Bins of an aware classifier: the largest logit is that of the nearest centre.

    Attributes:
        net: The classifier f([x, y, alpha]).
        centres: Shares of the signal, ``[bins]``.
        width: Unit of the temperature, in the share.
    """

    net: Callable
    centres: jax.Array
    width: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return one logit a bin."""
        share = jax.nn.sigmoid(self.net(x) + float(np.log(SIGNAL / BACKGROUND)))
        return -0.5 * ((share - self.centres) / jax.lax.stop_gradient(self.width)) ** 2


def _adam(rate: float, steps: int) -> optax.GradientTransformation:
    schedule = optax.cosine_decay_schedule(rate, steps)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))


def _label_loss(net: Callable, batch: Any, step: Step) -> tuple[jax.Array, dict]:
    x = batch[0].nominal.features
    labels = x[:, -1].astype(int)
    found = optax.softmax_cross_entropy_with_integer_labels(net(x[:, :-1]), labels)
    return jnp.mean(found), {}


def _start_fixed(
    nets: Sequence[Callable],
    samples: Sequence[Sample],
    *,
    keys: jax.Array,
    hidden: tuple[int, ...],
    bins: int,
    training: Training,
) -> list[Callable]:
    """Return networks that know the number of the nearest centre without knowing the angle."""
    x, weights = pooled(samples, ANGLES, events=10_000)
    labelled = []
    for seed, net in enumerate(nets):
        points = np.asarray(shares(net, x, jnp.asarray(ANGLES)), float)
        found = centres(points, weights, bins=bins, rng=np.random.default_rng(seed))
        label = jnp.asarray(nearest(points, found), x.dtype)
        features = jnp.concatenate([x, label[:, None]], axis=1)
        labelled.append((Sample(Events(features, jnp.ones(len(x), x.dtype)), name="events"),))
    found = fit_ensemble(
        _label_loss,
        [MLP(2, hidden, bins, activation="tanh", key=key) for key in keys],
        labelled,
        steps=training.steps,
        batch_size=2 * training.batch_size,
        optimizer=_adam(5e-3, training.steps),
        keys=list(keys),
        progress_bar=False,
    )
    return list(found.members)


def _start_aware(
    nets: Sequence[Callable], samples: Sequence[Sample], *, bins: int
) -> list[Callable]:
    """Return bins of the share at the angle that the network is told."""
    x, weights = pooled(samples, np.zeros(1), events=50_000)
    started = []
    for seed, net in enumerate(nets):
        points = np.asarray(shares(net, x, jnp.zeros(1)), float)
        found = centres(points, weights, bins=bins, rng=np.random.default_rng(seed), steps=300)
        found = np.sort(found[:, 0])
        numbers = (found, np.median(np.diff(found)))
        started.append(ShareBins(net, *(jnp.asarray(number, x.dtype) for number in numbers)))
    return started


def train_on_sigma(
    samples: Sequence[Sample],
    *,
    key: jax.Array,
    network: NetworkOptions,
    bins: int,
    training: Training,
    members: int,
    is_aware: bool,
    trained_steps: int = 40,
    trained_batch: int = 8000,
    rate: float = 5e-4,
) -> list[Callable]:
    """Train bins on the mean ln sigma(mu) over true angles.

    Args:
        samples: Training samples.
        key: Random key.
        network: Size of the networks.
        bins: Number of bins.
        training: Steps, batch size and rate of the cross-entropies of the start.
        members: Seeds.
        is_aware: Whether the bins are told the angle, which then is known; else it is profiled,
            with exact derivatives at each of five angles.
        trained_steps: Steps on sigma(mu).
        trained_batch: Their events of each class.
        rate: Their learning rate.
    """
    keys = jax.random.split(key, 3)
    found = train_aware(
        samples, key=keys[0], draw=draw, network=network, members=members, training=training
    )
    nets = [baseline.net for baseline in found]
    if is_aware:
        starts = _start_aware(nets, samples, bins=bins)
    else:
        own = {"keys": jax.random.split(keys[1], members), "hidden": network.hidden}
        starts = _start_fixed(nets, samples, bins=bins, training=training, **own)

    def loss(net: Any, batch: Any, step: Step) -> tuple[jax.Array, dict[str, jax.Array]]:
        def one(truth: jax.Array) -> jax.Array:
            moved = samples_at(batch, "z", truth, keep=not is_aware)
            own = Parametrised(net, truth[None]) if is_aware else net
            return inferno(own, moved, temperature=0.2 * 0.25**step.progress, staterror=False)[0]

        truths = draw(step.key, (3,)) if is_aware else jnp.asarray(ANGLES)
        sigmas = jax.lax.map(one, truths.astype(jnp.float32))
        return jnp.mean(jnp.log(sigmas)), {"sigma": jnp.mean(sigmas)}

    if not trained_steps:
        return starts
    trained = fit_ensemble(
        loss,
        starts,
        samples,
        steps=trained_steps,
        batch_size=trained_batch,
        optimizer=_adam(rate, trained_steps),
        key=keys[2],
        progress_bar=False,
    )
    return list(trained.members)
