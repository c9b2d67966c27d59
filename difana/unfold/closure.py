"""Closure and stress tests: simulation unfolded as if it were data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray

from difana._errors import InputError
from difana._numerics import safe_divide
from difana._result import AbstractResult
from difana.unfold._fold import bin_index, binned_sums, equal_bins
from difana.unfold.problem import UnfoldingProblem, unfolding_problem
from difana.unfold.status import UnfoldStatus

Fit = Callable[..., Any]


class ClosureResult(AbstractResult):
    r"""How well a known truth was found, for each truth-level observable.

    Attributes:
        before: Triangular discriminator of simulation and target,
            :math:`\frac12 \sum (p - q)^2 / (p + q)` over bins of equal target.
        after: The same of the unfolded events and the target.
        chi2: Squared difference of unfolded and target over their variances, per bin.
        norm: Unfolded yield over that of the target.
        status: Bits of ``UnfoldStatus`` of the unfolded events.
        result: What the fit returned.
    """

    bits = UnfoldStatus

    before: Float[Array, " observables"]
    after: Float[Array, " observables"]
    chi2: Float[Array, " observables"]
    norm: Float[Array, ""]
    status: Int[Array, ""]
    result: Any


class HalvedProblem(eqx.Module):
    """A problem whose data are simulation, and the truth of these data.

    Attributes:
        problem: One half of the events as simulation, the other as data; no background.
        truth: Fiducial truth-level observables behind the data, missed events included.
        weights: Their weights.
    """

    problem: UnfoldingProblem
    truth: Float[Array, "truth *observables"]
    weights: Float[Array, " truth"]


def halved(
    problem: UnfoldingProblem,
    *,
    key: PRNGKeyArray,
    factors: Float[ArrayLike, " events"] | None = None,
) -> HalvedProblem:
    """Return a problem with one half of the simulation as data.

    Args:
        problem: The inputs; their data and background are not used.
        key: Random key of the halves.
        factors: Factors on the weights of the events that become data (stress test), one for each
            event of ``problem``; None means 1 (closure test).

    Raises:
        InputError: If the factors do not fit the events, are negative or not finite.

    Example:
        >>> import jax, numpy as np
        >>> z = np.arange(10.0)
        >>> half = halved(unfolding_problem(z, z, z), key=jax.random.key(0))
        >>> half.problem.gen.shape, half.truth.shape
        ((5, 1), (5, 1))
    """
    events = len(problem.gen)
    change = np.ones(events) if factors is None else np.asarray(factors, float)
    if change.shape != (events,) or not np.isfinite(change).all() or (change < 0).any():
        raise InputError(
            f"factors of shape {change.shape}: give one finite, non-negative number for each of"
            f" the {events} events"
        )
    order = np.asarray(jax.random.permutation(key, events))
    simulated, measured = np.sort(order[: events // 2]), np.sort(order[events // 2 :])

    def take(name: str, rows: np.ndarray) -> Any:
        return np.asarray(getattr(problem, name))[rows]

    seen = measured[take("pass_reco", measured)]
    inside = measured[take("pass_gen", measured)]
    names = ("gen", "reco", "pass_gen", "pass_reco", "gen_weights", "reco_weights")
    return HalvedProblem(
        unfolding_problem(
            **{name: take(name, simulated) for name in names},
            data=take("reco", seen),
            data_weights=take("reco_weights", seen) * change[seen],
            names=problem.names,
            units=problem.units,
        ),
        jnp.asarray(take("gen", inside)),
        jnp.asarray(take("gen_weights", inside) * change[inside]),
    )


def closure_test(
    fit: Fit,
    problem: UnfoldingProblem,
    *,
    key: PRNGKeyArray,
    factors: Float[ArrayLike, " events"] | None = None,
    bins: int = 20,
) -> ClosureResult:
    """Unfold one half of the simulation with the other and compare with its truth.

    Args:
        fit: How to unfold: ``fit(problem, key=key)`` returns a result with ``unfolded()``, such as
            ``functools.partial(fit_omnifold, iterations=4)``.
        problem: The inputs; their data and background are not used.
        key: Random key of the halves and of the fit.
        factors: Factors on the events that become data, for a stress test: the truth then differs
            from the simulation by them; None for a closure test.
        bins: Number of bins of equal target.

    Raises:
        InputError: If the factors do not fit.
    """
    key_halves, key_fit = jax.random.split(key)
    half = halved(problem, key=key_halves, factors=factors)
    result = fit(half.problem, key=key_fit)
    found = result.unfolded()
    inner = equal_bins(half.truth, bins)
    shape = (len(inner), bins)
    index = bin_index(half.problem.gen, inner)
    prior = jnp.where(half.problem.pass_gen, half.problem.gen_weights, 0.0)
    rows = jnp.stack([prior, found.weights])
    filled = binned_sums(index, rows, inner.size + len(inner))
    target = binned_sums(bin_index(half.truth, inner), half.weights[None], inner.size + len(inner))
    (before, after), (_, variance) = (part.reshape(2, *shape) for part in filled)
    wanted, spread = (part.reshape(shape) for part in target)
    return ClosureResult(
        triangular(before, wanted),
        triangular(after, wanted),
        jnp.mean(safe_divide((after - wanted) ** 2, variance + spread), axis=1),
        jnp.sum(found.weights) / jnp.sum(half.weights),
        found.status,
        result,
    )


def triangular(
    one: Float[Array, "*observables bins"], two: Float[Array, "*observables bins"]
) -> Float[Array, "*observables"]:
    r"""Return the triangular discriminator :math:`\frac12 \sum (p - q)^2 / (p + q)`.

    Args:
        one: Yields; normalised here.
        two: Yields.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(triangular(jnp.array([1.0, 1.0]), jnp.array([0.0, 2.0]))), 4)
        0.3333
    """
    p, q = (part / jnp.sum(part, axis=-1, keepdims=True) for part in (one, two))
    return 0.5 * jnp.sum(safe_divide((p - q) ** 2, p + q), axis=-1)
