"""Upper limits with q instead of q-tilde: the best fit may be negative."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from difana._errors import ModelError
from difana.infer.hypotest import hypotest
from difana.infer.limit import LimitResult, _rising_root, expected_limits
from difana.infer.statistics import check_negative
from difana.likelihood import Model


def upper_limit_q(
    model: Model, data: Float[Array, " data"] | None = None, *, level: float = 0.95
) -> LimitResult:
    r"""Return the observed and the five expected CLs upper limits with :math:`q_\mu`.

    As :func:`upper_limit` but for the observed one, whose statistic compares with a best fit that
    may be negative, within the bounds of the model. The expected ones are the same. Inside jit, by
    Newton steps on :math:`\ln CL_s`; not differentiable.

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
    if not 0 < level < 1:
        raise ModelError(f"the confidence level must lie between 0 and 1, not {level}")
    check_negative(model)
    expected = expected_limits(model, data, level=level)
    if data is None:
        return expected
    model.check_data(data)

    def height(mu: Array, status: Array) -> tuple[Array, Array, Array]:
        def log_ratio(mu: Array) -> tuple[Array, Array]:
            found = hypotest(model, data, mu=mu, statistic="qmu")
            assert found.observed is not None
            return jnp.log((1 - level) / found.observed), found.status

        (value, status), slope = jax.value_and_grad(log_ratio, has_aux=True)(mu)
        return value, slope, status

    start = expected.median
    mu, status, lost = _rising_root(height, start, jnp.zeros_like(expected.status))
    return LimitResult(mu, expected.expected, expected.status | status | lost, level)
