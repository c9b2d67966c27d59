"""The blobs of NEOS: events, observables, and the figures of merit from hard bins."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from difana.data import Sample
from difana.data.generate import blobs
from difana.hist import equal_yield_edges
from difana.infer import describe, hypotest, significance, trustworthy
from difana.likelihood import (
    build_model,
    channel_from_events,
)
from difana.losses import poi_uncertainty

METRICS = ("CLs", "p0", "sigma_mu")
MEANS = {"signal": (-1, 1), "background": (1, -1), "up": (2.5, 2), "down": (-2.5, -1.5)}
YIELDS = {"signal": 20.0, "background": 100.0, "up": 100.0, "down": 100.0}


def generate(seed: int, *, events: int) -> tuple[Sample, ...]:
    """Return the blobs in float32, so many events of each of the four."""
    samples = blobs(key=jax.random.key(seed), events=events)
    return jax.tree.map(lambda x: x.astype(jnp.float32), samples)


def score(net: Callable) -> Callable:
    """Return the network with its output squeezed into [0, 1]: what equal bins are made of."""
    return lambda x: jax.nn.sigmoid(net(x))


def signal_edges(net: Callable, samples: Sequence[Sample], *, bins: int) -> jax.Array:
    """Return edges of the score with equal signal, from training events."""
    x = np.asarray(eqx.filter_jit(score(net))(samples[0].nominal.features)[:, 0])
    return jnp.asarray(equal_yield_edges(x, None, bins, low=-1.0, high=2.0))


@eqx.filter_jit
def _figures(
    net: Callable, samples: tuple[Sample, ...], edges: jax.Array
) -> dict[str, tuple[jax.Array, jax.Array]]:
    def wide(x: jax.Array) -> jax.Array:  # 1e5 equal weights in float32 do not add up
        return score(net)(x).astype(float)

    channel = channel_from_events(wide, samples, edges=edges, bandwidth=None, staterror=False)
    model = build_model([channel])
    cls, found = hypotest(model), significance(model)
    sigma, aux = poi_uncertainty.of_model(model)
    return {
        "CLs": (cls.expected[2], cls.status),
        "p0": (found.expected_p, found.status),
        "sigma_mu": (sigma, aux["status"]),
    }


def evaluate(
    net: Callable, samples: tuple[Sample, ...], *, edges: jax.Array
) -> dict[str, float | None]:
    """Return CLs (mu = 1, no signal in the data), p0 and sigma(mu) (mu = 1) from hard bins.

    A number that cannot be trusted is None: its fit ended where a bin expects a negative yield.
    """
    found = {}
    for name, (value, status) in _figures(net, samples, edges).items():
        found[name] = float(f"{float(value):.4g}") if trustworthy(status) else None
        if found[name] is None:
            print(f"{name}: {describe(status)}")
    return found


def exact_sigma(*, cells: int = 400, half_width: float = 9.0) -> float:
    """Return sigma(mu) of the exact densities without bins: no observable can be better."""
    edges = np.linspace(-half_width, half_width, cells + 1)
    middle = (edges[1:] + edges[:-1]) / 2
    yields = {}
    for name, (x, y) in MEANS.items():
        density = np.exp(-0.5 * (middle - x) ** 2)[:, None] * np.exp(-0.5 * (middle - y) ** 2)
        yields[name] = YIELDS[name] * density / density.sum()
    slopes = np.stack([yields["signal"], (yields["up"] - yields["down"]) / 2])
    expected = yields["signal"] + yields["background"]
    information = np.einsum("axy,bxy,xy->ab", slopes, slopes, 1 / expected) + np.diag([0.0, 1.0])
    return float(np.linalg.inv(information)[0, 0] ** 0.5)
