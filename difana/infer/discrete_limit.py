"""Upper limits from the envelope of alternative models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from difana._errors import ModelError
from difana._numerics import traced
from difana._status import Status
from difana.infer._checks import check_level
from difana.infer._envelope import Alternatives, alternatives, fits_at
from difana.infer.hypotest import log_cls_observed, target_root
from difana.infer.limit import LimitResult
from difana.likelihood import Model

_TOLERANCE = 1e-9
_STEPS = 80  # of the search for a root


def discrete_upper_limit(
    models: Sequence[Model],
    data: Float[Array, " data"] | Sequence[Float[Array, " data"]],
    *,
    correction: float = 1.0,
    free_parameters: Sequence[int] | None = None,
    level: float = 0.95,
    batch: int = 8,
) -> LimitResult:
    r"""Return the observed and the five expected CLs upper limits of an envelope.

    The statistic is that of q-tilde with the envelope :math:`\Lambda` of
    :func:`discrete_profile` instead of twice the nll,

    .. math:: \tilde q_\mu = \Lambda(\mu) - \min_{\mu' \ge 0} \Lambda(\mu')
              \quad (\hat\mu \le \mu), \qquad 0 \quad (\hat\mu > \mu),

    with the asymptotic formulae. The Asimov data are those of the model that fits best at
    :math:`\mu = 0`, with the auxiliary data of each model at its own fit. With one model it is
    :func:`difana.infer.upper_limit`.

    The search runs outside ``jit`` (its fits inside) and has no derivatives: it refuses to be
    traced.

    Args:
        models: The alternatives, as of :func:`discrete_profile`.
        data: Data vector, or one for each model.
        correction: For each free parameter.
        free_parameters: Replaces the numbers of free parameters.
        level: Confidence level.
        batch: Fits done at the same time.

    Returns:
        The limits.

    Raises:
        ModelError: If the models do not describe the same data or lack the parameter of interest,
            the level makes no sense, or it is traced (by ``jit``, ``grad``, ...).
        InputError: If lengths differ, or the correction makes no sense.

    References:
        P. Dauncey et al., arXiv:1408.6865; G. Cowan et al., arXiv:1007.1727.

    Example:
        >>> from difana.likelihood import uncorrelated_background
        >>> model = uncorrelated_background([12.0, 11.0], [50.0, 52.0], [3.0, 7.0])
        >>> found = discrete_upper_limit([model], model.data([51.0, 48.0]))
        >>> round(float(found.observed), 6), round(float(found.median), 6)
        (1.011572, 1.062355)
    """
    if traced(models, data):
        raise ModelError(
            "discrete_upper_limit searches outside jit, so it has no derivatives and cannot be "
            "traced: call it with numbers, or use upper_limit of one model"
        )
    check_level(level)
    found = alternatives(
        models,
        data,
        parameter=None,
        correction=correction,
        free_parameters=free_parameters,
        names=None,
    )
    zero = jnp.zeros(1, found.penalties.dtype)
    null = fits_at(found, found.data, zero, batch=batch)
    best = int(jnp.argmin(null.twice[:, 0] + found.penalties))
    main = found.models[best].expected_main(null.params[best][0])
    asimov = [
        jnp.concatenate([main, model.expected_auxiliary(params[0])])
        for model, params in zip(found.models, null.params, strict=True)
    ]
    seen, expected = (_envelope(found, vectors, batch) for vectors in (found.data, asimov))
    targets = np.asarray(target_root(1 - level))

    def height(mus: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return how far the six searches are from their roots, the observed one last."""
        q_asimov, first = expected.q(mus)
        q, second = seen.q(mus[-1:])
        log_clsb, log_clb = log_cls_observed(jnp.asarray(q[0]), jnp.asarray(q_asimov[-1]))
        observed = np.log(1 - level) - float(log_clsb - log_clb)
        rises = np.append(np.sqrt(q_asimov[:-1]) - targets, observed)
        return rises, np.append(first[:-1], first[-1] | second[0])

    start = np.full(6, max(expected.scale, 1e-3))
    start[-1] = max(start[-1], 1.5 * seen.mu_hat)
    limits, status = _roots(height, start, np.append(-targets, np.log(1 - level)))
    fits = int(jnp.bitwise_or.reduce(null.status.ravel())) | seen.status | expected.status
    return LimitResult(
        jnp.asarray(limits[5]),
        jnp.asarray(limits[:5]),
        jnp.asarray(fits | int(np.bitwise_or.reduce(status)), jnp.int32),
        level,
    )


class _Envelope(NamedTuple):
    """Twice the corrected nll of the best model, profiled, above its minimum."""

    found: Alternatives
    data: Sequence[Array]
    floor: float
    mu_hat: float
    scale: float  # a first guess of the width
    status: int
    batch: int

    def q(self, mus: np.ndarray) -> tuple[np.ndarray, Int[np.ndarray, " points"]]:
        fits = fits_at(self.found, self.data, jnp.asarray(mus), batch=self.batch)
        curves = np.asarray(fits.twice + self.found.penalties[:, None])
        chosen = np.argmin(curves, axis=0)
        q = np.maximum(curves.min(axis=0) - self.floor, 0.0)
        status = np.asarray(fits.status)[chosen, np.arange(len(mus))]
        return np.where(self.mu_hat <= mus, q, 0.0), status & ~int(Status.AT_BOUND)


def _envelope(found: Alternatives, data: Sequence[Array], batch: int) -> _Envelope:
    starts = jnp.stack([m.init[i] for m, i in zip(found.models, found.indices, strict=True)])[:1]
    free = fits_at(found, data, starts, free=True, batch=batch)
    twice = np.asarray(free.twice[:, 0] + found.penalties)
    best = int(np.argmin(twice))
    model, params = found.models[best], free.params[best][0]
    unit = jnp.zeros_like(params).at[found.indices[best]].set(1.0)
    yields, change = jax.jvp(model.expected_main, (params,), (unit,))
    information = float(jnp.sum(jnp.where(yields > 0, change**2 / jnp.maximum(yields, 1e-9), 0.0)))
    scale = information**-0.5 if information > 0 else 1.0
    status = int(free.status[best, 0]) & ~int(Status.AT_BOUND)
    return _Envelope(
        found, data, float(twice[best]), float(free.value[best, 0]), scale, status, batch
    )


def _roots(
    height: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    start: np.ndarray,
    at_zero: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the roots of rising functions above 0 side by side, by the Illinois method."""
    low, high = np.zeros_like(start), start.astype(float)
    at_low = at_zero  # negative
    at_high, status = height(high)
    for _ in range(40):
        below = at_high < 0
        if not below.any():
            break
        low, at_low = np.where(below, high, low), np.where(below, at_high, at_low)
        high = np.where(below, 2.0 * high, high)
        values, status = height(high)
        at_high = np.where(below, values, at_high)
    lost = at_high < 0
    side = np.zeros(start.shape, int)
    for _ in range(_STEPS):
        done = (high - low <= _TOLERANCE * high) | (at_high == 0) | lost
        if done.all():
            break
        slope = at_high - at_low
        middle = high - at_high * (high - low) / np.where(slope > 0, slope, 1.0)
        middle = np.where((middle > low) & (middle < high), middle, 0.5 * (low + high))
        middle = np.where(done, high, middle)
        values, status = height(middle)
        close = np.abs(values) < 1e-11
        up = values >= 0
        # the end that stays twice counts half
        at_low = np.where(up & (side == 1), 0.5 * at_low, at_low)
        at_high = np.where(~up & (side == -1), 0.5 * at_high, at_high)
        side = np.where(up, 1, -1)
        high, at_high = np.where(up, middle, high), np.where(up, values, at_high)
        low, at_low = np.where(up, low, middle), np.where(up, at_low, values)
        high = np.where(close, middle, high)
        at_high = np.where(close, 0.0, at_high)
    flags = np.where(lost | ~np.isfinite(at_high), int(Status.NOT_BRACKETED), 0)
    return high, status | flags
