"""The median discovery significance of a counting experiment."""

from __future__ import annotations

import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float

from difana._errors import InputError
from difana._numerics import safe_divide

_TERMS = 12


def _curvature(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return ``2 ((1 + x) log(1 + x) - x) / x**2``, which is 1 at 0, without cancellation."""
    small = jnp.abs(x) < 0.1
    near, far = jnp.where(small, x, 0.0), jnp.where(small, 1.0, x)
    series = jnp.polyval(
        jnp.array([2 * (-1) ** n / ((n + 1) * (n + 2)) for n in range(_TERMS)][::-1], x.dtype), near
    )
    return jnp.where(small, series, 2 * ((1 + far) * jnp.log1p(far) - far) / far**2)


def asimov_significance(
    s: ArrayLike, b: ArrayLike, sigma_b: ArrayLike | None = None
) -> Float[Array, "..."]:
    r"""Return the median significance of ``s`` signal events over ``b`` background events.

    .. math::
        Z_A = \sqrt{2 \left( (s + b) \ln(1 + s/b) - s \right)}

    and, with an uncertainty on the background, :math:`\sigma_b`,

    .. math::
        Z_A = \sqrt{2 \left( (s + b) \ln \frac{(s + b)(b + \sigma_b^2)}{b^2 + (s + b) \sigma_b^2}
        - \frac{b^2}{\sigma_b^2} \ln \left( 1 + \frac{\sigma_b^2 s}{b (b + \sigma_b^2)} \right)
        \right)}

    Both are evaluated as :math:`\frac{s}{\sqrt b} \sqrt{g(x) - k\,g(kx)}` with :math:`x = s/b`,
    :math:`k = \sigma_b^2 / (b + \sigma_b^2)`, :math:`g(x) = 2 ((1 + x) \ln(1 + x) - x) / x^2`:
    the same numbers without cancellation, so that value and gradient hold down to :math:`s = 0`.
    Bins add in quadrature.

    Args:
        s: Expected signal events, not negative.
        b: Expected background events, positive.
        sigma_b: Standard deviation of the background, in events; None for zero.

    Returns:
        The significance, elementwise. Inside jit, 0 where ``b`` is not positive.

    Raises:
        InputError: Outside jit, if a background is not positive or a signal is negative.

    Example:
        >>> round(float(asimov_significance(10.0, 100.0)), 2)
        0.98
        >>> round(float(asimov_significance(10.0, 100.0, 10.0)), 2)
        0.69

    References:
        Cowan, Cranmer, Gross, Vitells, arXiv:1007.1727 eq. (97); with an uncertainty, Cowan,
        "Discovery sensitivity for a counting experiment with background uncertainty" (2012),
        eq. (20).
    """
    s, b, sigma = (jnp.asarray(x, dtype=float) for x in (s, b, 0.0 if sigma_b is None else sigma_b))
    if not any(isinstance(x, Tracer) for x in (s, b)):
        if not bool(jnp.all(b > 0)):
            raise InputError("the background must be positive: merge or drop empty bins")
        if not bool(jnp.all(s >= 0)):
            raise InputError("the signal must not be negative")
    if not isinstance(sigma, Tracer) and not bool(jnp.all((sigma >= 0) & jnp.isfinite(sigma))):
        raise InputError("the uncertainty of the background must be finite and not negative")
    ok = b > 0
    b = jnp.where(ok, b, 1.0)
    x, k = s / b, safe_divide(sigma**2, b + sigma**2)
    return jnp.where(ok, s / jnp.sqrt(b) * jnp.sqrt(_curvature(x) - k * _curvature(k * x)), 0.0)
