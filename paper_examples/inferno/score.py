"""Bins of the efficient score: where a training may start, from cross-entropies alone.

Three classifiers in one network (signal against background, and each nuisance up against down) give
the scores of all parameters. What is left of that of the signal beside those of the nuisances is
the observable that keeps all information, to first order; ten bins of it lose 1 %.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from analytic import BACKGROUND, lloyd_edges
from problem import BENCHMARKS, SIGNAL, STEPS

from difana.data import Sample, Transformation

NORMALISATION = 0.1  # of the background, one standard deviation


def shapes(benchmark: str) -> tuple[str, ...]:
    """Return the nuisances of a benchmark that move events."""
    return tuple(name for name in BENCHMARKS[benchmark].nuisances if name in STEPS)


def log_ratios(
    net: Callable, batch: Sequence[Sample], names: Sequence[str]
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Return the sum of the cross-entropies, one output each.

    The first output learns ln(p_signal / p_background), the others ln(p_up / p_down).
    """
    signal, background = batch
    x = background.nominal.features
    moves = {v.name: v for v in background.variations if isinstance(v, Transformation)}
    blocks = [signal.nominal.features, x]
    for name in names:
        blocks += [moves[name].function(x, jnp.asarray(a, x.dtype)) for a in (1.0, -1.0)]
    outputs = net(jnp.concatenate(blocks)).reshape(len(blocks) // 2, 2, len(x), -1)
    up, down = (jnp.stack([outputs[i, side, :, i] for i in range(len(blocks) // 2)])
                for side in (0, 1))  # fmt: skip
    return jnp.sum(jnp.mean(jax.nn.softplus(-up) + jax.nn.softplus(down), axis=1)), {}


def scores(net: Callable, x: jax.Array) -> jax.Array:
    """Return d ln(expected density) by mu, the shapes and the normalisation of the background."""
    outputs = net(x)
    share = jax.nn.sigmoid(outputs[:, :1] + float(np.log(SIGNAL / BACKGROUND)))
    rest = 1 - share
    return jnp.concatenate([share, rest * outputs[:, 1:] / 2, rest * NORMALISATION], axis=1)


class ScoreBins(eqx.Module):
    """The score of the signal minus a mixture of the others, and the nearest of ten centres.

    Attributes:
        net: The classifiers.
        mixture: Of the scores, in units that give the observable a mean square of 1.
        centres: Of the bins.
        width: Distance of neighbouring centres, which sets the unit of the temperature.
    """

    net: Callable
    mixture: jax.Array
    centres: jax.Array
    width: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return one logit a bin, the largest for the nearest centre."""
        observable = scores(self.net, x) @ self.mixture
        width = jax.lax.stop_gradient(self.width)
        return -0.5 * ((observable[:, None] - self.centres) / width) ** 2


def score_bins(net: Callable, samples: Sequence[Sample], benchmark: str, *, bins: int) -> ScoreBins:
    """Return the bins of the efficient score of trained classifiers."""
    features = np.concatenate([sample.nominal.features for sample in samples])
    weights = np.concatenate([np.asarray(sample.nominal.weights, float) for sample in samples])
    found = np.asarray(eqx.filter_jit(scores)(net, jnp.asarray(features)), float)
    setting = BENCHMARKS[benchmark]
    names = (*shapes(benchmark), "b")
    free = [0] + [i for i, name in enumerate(names, 1) if name in setting.nuisances]
    units = STEPS | {"b": 100.0}
    widths = [setting.widths.get(name) for name in names]
    constraint = [0.0, *((units[n] / w) ** 2 if w else 0.0
                         for n, w in zip(names, widths, strict=True))]  # fmt: skip
    information = (found * weights[:, None]).T @ found + np.diag(constraint)
    mixture = np.zeros(len(information))
    # the first column of the inverse, up to a factor
    mixture[free] = np.linalg.inv(information[np.ix_(free, free)])[:, 0]
    observable = found @ mixture
    mixture /= np.sqrt(np.average(observable**2, weights=weights))
    observable = found @ mixture
    edges = lloyd_edges(observable, weights, bins=bins)
    place = np.searchsorted(edges[1:-1], observable)
    centres = np.bincount(place, weights * observable) / np.bincount(place, weights)
    numbers = (mixture, centres, np.median(np.diff(centres)))
    return ScoreBins(net, *(jnp.asarray(number, jnp.float32) for number in numbers))
