"""What the exact densities give: the unbinned likelihood, and the optimal observables."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from problem import BENCHMARKS, SIGNAL

from difana.data.generate import inferno, inferno_log_ratio

BACKGROUND = 1000.0
_ORDER = ("r", "lambda", "b")
_NOMINAL = np.array([0.0, 3.0, BACKGROUND])
_SCALE = np.array([0.2, 0.5, 100.0])  # the parameters of the fit are in these units


def log_background(x: jax.Array, r: jax.Array, rate: jax.Array) -> jax.Array:
    """Return ln p(x | background) up to a constant."""
    return -0.5 * ((x[:, 0] - 2 - r) ** 2 / 5 + x[:, 1] ** 2 / 9) - rate * x[:, 2] + jnp.log(rate)


def log_signal(x: jax.Array) -> jax.Array:
    """Return ln p(x | signal) up to the same constant."""
    same = 0.5 * jnp.log(45.0) + jnp.log(2.0)
    return -0.5 * (x[:, 0] ** 2 + x[:, 1] ** 2) - 2 * x[:, 2] + same


def log_rate(x: jax.Array, s: jax.Array, theta: jax.Array) -> jax.Array:
    """Return the logarithm of the expected density of events, for theta = (r, lambda, b)."""
    background = jnp.log(theta[2]) + log_background(x, theta[0], theta[1])
    return jnp.logaddexp(jnp.log(s) + log_signal(x), background)


def asimov(key: jax.Array, *, events: int) -> tuple[jax.Array, jax.Array]:
    """Return weighted events that stand for the expected data."""
    signal, background = inferno(key=key, events=events, shift=None, rate=None)
    parts = (signal.nominal, background.nominal)
    return tuple(
        jnp.concatenate([getattr(part, name) for part in parts]) for name in ("features", "weights")
    )


def _nll(free, x, weights, s, start, mask, precision):
    theta = start + jnp.where(mask, free, 0.0) * _SCALE
    pulls = theta - _NOMINAL
    value = s + theta[2] - weights @ log_rate(x, s, theta)
    return value + 0.5 * jnp.sum(precision * pulls**2)


@jax.jit
def _profiled(s, x, weights, mask, precision):
    """Minimise over the nuisances; a fixed number of Newton steps is plenty."""

    def step(_, free):
        gradient = jax.grad(_nll)(free, x, weights, s, _NOMINAL, mask, precision)
        curvature = jax.hessian(_nll)(free, x, weights, s, _NOMINAL, mask, precision)
        return free - jnp.linalg.solve(curvature + jnp.diag(jnp.where(mask, 0.0, 1.0)), gradient)

    free = jax.lax.fori_loop(0, 4, step, jnp.zeros(3))
    return _nll(free, x, weights, s, _NOMINAL, mask, precision)


def _constraints(benchmark: str) -> tuple[np.ndarray, np.ndarray]:
    setting = BENCHMARKS[benchmark]
    mask = np.array([name in setting.nuisances for name in _ORDER])
    widths = [setting.widths.get(name) for name in _ORDER]
    precision = np.array([0.0 if width is None else width**-2 for width in widths])
    return mask, np.where(mask, precision, 0.0)


def likelihood_width(benchmark: str, x: jax.Array, weights: jax.Array) -> float:
    """Return half the width of the profiled unbinned likelihood at a rise of 1/2."""
    mask, precision = _constraints(benchmark)

    def root(s: float) -> float:
        rise = float(_profiled(s, x, weights, mask, precision)) - lowest
        return np.sign(s - SIGNAL) * np.sqrt(max(2 * rise, 0.0))

    lowest = float(_profiled(SIGNAL, x, weights, mask, precision))
    ends = []
    for side in (-1, 1):
        s = SIGNAL + 16.0 * side
        for _ in range(4):  # the root is almost linear in s
            s = SIGNAL + (s - SIGNAL) * side / root(s)
        ends.append(s)
    return (ends[1] - ends[0]) / 2


def efficient_score(benchmark: str, x: jax.Array, weights: jax.Array) -> Callable:
    """Return the best single observable: the score of s without its part along the nuisances.

    Binned finely enough it keeps all information on s after profiling (linear in the nuisances).
    """
    mask, precision = _constraints(benchmark)

    def scores(events):
        def log_rates(theta):
            return log_rate(events, theta[0], theta[1:])

        return jax.jacfwd(log_rates)(jnp.array([SIGNAL, *_NOMINAL]))

    found = scores(x)
    information = (found * weights[:, None]).T @ found
    nuisances = information[1:, 1:] + jnp.diag(jnp.asarray(precision))
    nuisances = jnp.where(mask[:, None] & mask[None, :], nuisances, jnp.eye(3))
    along = jnp.where(mask, jnp.linalg.solve(nuisances, jnp.where(mask, information[1:, 0], 0)), 0)

    def score(events: jax.Array) -> jax.Array:
        each = scores(jnp.asarray(events, float))
        return (each[:, 0] - each[:, 1:] @ along)[:, None]

    return score


def lloyd_edges(score: np.ndarray, weights: np.ndarray, *, bins: int) -> np.ndarray:
    """Return the edges that keep most of the variance of a score (Lloyd's algorithm)."""
    order = np.argsort(score)
    score, weights = score[order], weights[order]
    mass, moment = (np.concatenate([[0], np.cumsum(w)]) for w in (weights, weights * score))
    edges = np.interp(np.linspace(0, 1, bins + 1), mass / mass[-1], np.append(score, score[-1]))
    for _ in range(300):
        place = np.searchsorted(score, edges[1:-1])
        place = np.concatenate([[0], place, [len(score)]])
        centres = np.diff(moment[place]) / np.maximum(np.diff(mass[place]), 1e-300)
        edges[1:-1] = 0.5 * (centres[1:] + centres[:-1])
    return edges


def optimal_classifier(x: jax.Array) -> jax.Array:
    """Return the logit of p(signal | x) for equal numbers of both."""
    return inferno_log_ratio(x)[:, None]
