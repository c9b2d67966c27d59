"""Training on the expected limit, from cross-entropy in its best bins."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np


class Head(eqx.Module):
    """The last layer: what the limit trains, 65 numbers and the edges.

    The purest bins hold a handful of simulated background events, which a whole network learns by
    heart within a few steps.
    """

    kernel: jax.Array
    bias: jax.Array

    @classmethod
    def of(cls, net: Any) -> Head:
        """Return the last layer of a network."""
        last = net.net.layers[-1]
        return cls(jnp.asarray(last.kernel[...]), jnp.asarray(last.bias[...]))

    def __call__(self, hidden: jax.Array) -> jax.Array:
        """Return the logit of the hidden features."""
        return hidden @ self.kernel + self.bias


class Whole(eqx.Module):
    """The hidden layers of one network under another head."""

    net: Any
    head: Head

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the logit of events."""
        return self.head(hidden(self.net, x))


def hidden(net: Any, x: jax.Array) -> jax.Array:
    """Return the last hidden features of a standardised network."""
    values = (x - jnp.asarray(net.mean, x.dtype)) / jnp.asarray(net.std, x.dtype)
    from difana.nn import activation

    function = activation(net.net.activation)
    for layer in list(net.net.layers)[:-1]:
        values = function(layer(values))
    return values


def lifted(net: Any, samples: Any) -> tuple:
    """Return the samples with the hidden features in place of their own: computed once."""
    from difana.data import Events, Sample, ShiftedEvents

    through = eqx.filter_jit(hidden)

    def lift(events: Any) -> Any:
        return Events(through(net, events.features), events.weights)

    found = []
    for sample in samples:
        variations = [
            ShiftedEvents(up=lift(v.up), down=lift(v.down), name=v.name)
            if isinstance(v, ShiftedEvents)
            else v
            for v in sample.variations
        ]
        found.append(
            Sample(
                lift(sample.nominal),
                tuple(variations),
                name=sample.name,
                normfactors=sample.normfactors,
            )
        )
    return tuple(found)


def train_limit(one: Any, net: Any, edges: np.ndarray) -> tuple[Any, np.ndarray, dict[str, Any]]:
    """Return the network and edges with the lowest limit on validation events, and facts.

    Candidates: cross-entropy in its best bins; what the descent on the limit learned; its network
    in bins that are searched like those of every baseline.

    Args:
        one: The analysis of a seed and size, see ``run.Analysis``.
        net: The network of cross-entropy.
        edges: Its best bins.
    """
    from difana.analysis import best_bins, optimise
    from difana.analysis.templates import observe

    found = optimise(
        *(lifted(net, part) for part in one.splits[:2]),
        network=one.network,
        training=one.training,
        key=jax.random.fold_in(one.key, 1),
        parameters=one.parameters,
        progress_bar=False,
        baseline=Head.of(net),
        edges=edges,
    )
    trained = Whole(net, found.net)
    seen = [observe(trained, part) for part in one.splits[:2]]
    bins, budget = one.training.bins, one.training.search
    candidates = {
        "start": (net, edges),
        "learned edges": (trained, np.asarray(found.edges)),
        "searched bins": (trained, best_bins(seen, one.score, bins=bins, budget=budget).edges),
    }
    validation = {name: one.judged(*pair, 1) for name, pair in candidates.items()}
    chosen = min(validation, key=lambda name: validation[name])
    facts = {
        "validation": {name: round(value, 5) for name, value in validation.items()},
        "candidates": {name: round(one.judged(*pair, 2), 5) for name, pair in candidates.items()},
        "chosen": chosen,
        "status": found.status,
    }
    return *candidates[chosen], facts
