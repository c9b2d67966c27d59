"""Classifiers and their binnings: what the limit training is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from events import moving

METHODS = ("cross-entropy", "augmented", "adversarial", "pivot", "aware", "parametrised")


def classifier(name: str, train, validation, *, size: float, network, training, key) -> Any:
    """Return the network of one method, a function of the features alone.

    Cross-entropy, augmented, aware and parametrised ones are the best state on validation events by
    their own loss; the two with an adversary are the last state, as their loss does not fall.

    Args:
        name: One of ``METHODS``.
        train: Training samples.
        validation: Held-out samples.
        size: Size of the systematics.
        network: Size of the network.
        training: Steps, batch and rate (those that begin with ``pretrain``).
        key: Key of weights, batches and nuisance values; the same for all methods.
    """
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    from difana import analysis, losses
    from difana.data import nominal_samples
    from difana.nn import Parametrised

    # the nuisance values of held-out events are always the same
    step = losses.Step.at(key=jax.random.key(0))
    held: Callable[..., Any] | None
    call: dict[str, Any] = {}
    if name in ("cross-entropy", "parametrised"):
        # the nominal events alone: one compilation for all sizes
        samples, held_samples = nominal_samples(train), nominal_samples(validation)
        if name == "cross-entropy":
            fit, held = analysis.train_cross_entropy, losses.cross_entropy
        else:  # one signal: the grid of its hypotheses has one point
            theta = {"signal": [0.0]}
            fit, call = analysis.train_parametrised, {"theta": theta}
            held = lambda net, batch: losses.parametrised(net, batch, step, theta=theta)  # noqa: E731
    else:
        samples, held_samples = moving(train, size), moving(validation, size)
        if name in ("adversarial", "pivot"):
            kind = "regressor" if name == "adversarial" else "mixture"
            fit, held = analysis.train_adversarial, None
            call = {"adversary": kind}
        else:
            aware = name == "aware"
            fit = analysis.train_aware if aware else analysis.train_augmented
            loss = losses.aware if aware else losses.augmented
            held = lambda net, batch: loss(net, batch, step)  # noqa: E731
    if held is not None:
        measure = eqx.filter_jit(held)
        call["validate"] = lambda net: measure(net, held_samples)
    found: Any = fit(
        samples,
        key=key,
        network=network,
        training=analysis.pretraining(training),
        **call,
    )
    extra = {"aware": 2, "parametrised": 1}.get(name, 0)  # nominal nuisances, the one signal
    return Parametrised(found.net, jnp.zeros(extra)) if extra else found.net


def binnings(seen, score, *, on, training) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and edges of every binning of one classifier; the best one comes last.

    ``best bins`` are searched without gradients on training and validation events.
    """
    from difana._errors import InputError
    from difana.analysis import best_bins
    from difana.analysis.observables import baseline_edges

    for name, choose in baseline_edges(seen[0], poi=on.poi, bins=training.bins).items():
        if name == "one bin":
            continue
        try:
            edges = choose()
        except InputError:  # too few distinct scores
            edges = np.zeros(0)
        yield name.removeprefix("cross-entropy, "), edges
    found = best_bins(seen[:2], score, poi=on.poi, bins=training.bins, budget=training.search)
    yield "best bins", found.edges
