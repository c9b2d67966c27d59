"""Upper limits with q instead of q-tilde: the best fit may be negative."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from difana.infer._checks import check_level
from difana.infer._implicit import rising_root, roots
from difana.infer.hypotest import hypotest
from difana.infer.limit import LimitResult, expected_limits, usable
from difana.infer.statistics import check_negative
from difana.likelihood import Model


def upper_limit_q(
    model: Model, data: Float[Array, " data"] | None = None, *, level: float = 0.95
) -> LimitResult:
    r"""Return the observed and the five expected CLs upper limits with :math:`q_\mu`.

    As :func:`upper_limit` but for the observed one, whose statistic compares with a best fit that
    may be negative, within the bounds of the model. The expected ones are the same. Inside jit, by
    Newton steps on :math:`\ln CL_s`; differentiable in the model and the data by the implicit
    function theorem.

    Args:
        model: The model; the lower bound of its parameter of interest is negative.
        data: Data vector; without data only the expected limits are computed.
        level: Confidence level.

    Raises:
        ModelError: If the bounds forbid negative values, or the level is none.

    Example:
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model, model_with
        >>> model = build_model([Channel((Template([10.0], (NormFactor("mu"),), name="s"),
        ...     Template([50.0], name="b")), name="SR")])
        >>> wide = model_with(model, bounds={"mu": (-4.0, 10.0)})
        >>> f"{upper_limit_q(wide, model.data([40.0])).observed:.4f}"
        '0.9290'
    """
    check_level(level)
    check_negative(model)
    expected = expected_limits(model, data, level=level)
    if data is None:
        return expected
    model.check_data(data)

    frozen, seen = jax.lax.stop_gradient((model, data))

    def height(mu: Array, _: tuple) -> tuple[Array, Array, tuple]:
        def rise(mu: Array) -> tuple[Array, Array]:
            return _rise(mu, frozen, seen, level=level)

        (value, status), slope = jax.value_and_grad(rise, has_aux=True)(mu)
        return value, slope, (status, slope)

    start = jax.lax.stop_gradient(expected.median)
    carry = (jnp.zeros_like(expected.status), jnp.zeros_like(start))
    mu, (status, slope), lost = rising_root(height, start, carry)
    slope = jax.lax.stop_gradient(usable(slope))
    mu = roots(partial(_heights, level=level), mu[None], slope[None], (model, data), ())[0]
    return LimitResult(mu, expected.expected, expected.status | status | lost, level)


def _rise(mu: Array, model: Model, data: Array, *, level: float) -> tuple[Array, Array]:
    """Return what vanishes at the limit, and the status of its fits."""
    found = hypotest(model, data, mu=mu, statistic="qmu")
    assert found.observed is not None
    return jnp.log((1 - level) / found.observed), found.status


def _heights(mu: Array, model: Model, data: Array, *, level: float) -> Array:
    return _rise(mu[0], model, data, level=level)[0][None]
