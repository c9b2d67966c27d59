"""The same soft histogram and cut by the package relaxed: an independent reference."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from difana._numerics import third_party_promotion


def relaxed_histogram(
    x: Float[ArrayLike, " events"],
    edges: Float[ArrayLike, " edges"],
    *,
    bandwidth: Float[ArrayLike, ""],
    flow: Literal["fold", "drop"] = "drop",
) -> Float[Array, " bins"]:
    r"""Return the contents of :func:`difana.hist.soft_histogram` as relaxed computes them.

    .. math:: c_b = \sum_i \Phi\Big(\frac{e_{b+1} - x_i}{h}\Big) - \Phi\Big(\frac{e_b - x_i}{h}\Big)

    For users of relaxed and neos who want to see that the numbers are the same, and for tests: the
    memory is events times edges, and there are no weights, no variances and no zero bandwidth.
    Differentiable in all arguments.

    Args:
        x: Observable of each event, ``[events]``.
        edges: Bin edges, ``[bins + 1]``.
        bandwidth: Width h of the kernel, in the units of ``x``.
        flow: What becomes of the mass outside: into the outer bins or dropped.

    Returns:
        The contents, ``[bins]``.

    Example:
        >>> from difana.hist import soft_histogram
        >>> x, edges = jnp.array([0.3, 0.9]), jnp.array([0.0, 1.0, 2.0])
        >>> ours = soft_histogram(x, None, edges, bandwidth=0.2, flow="drop").contents
        >>> bool(jnp.allclose(relaxed_histogram(x, edges, bandwidth=0.2), ours))
        True
    """
    with third_party_promotion():
        return _relaxed().hist(
            jnp.asarray(x),
            jnp.asarray(edges),
            jnp.asarray(bandwidth),
            reflect_infinities=flow == "fold",
        )


def relaxed_cut(
    x: Float[ArrayLike, " events"],
    value: Float[ArrayLike, ""],
    *,
    slope: float,
    keep: Literal["above", "below"] = "above",
) -> Float[Array, " events"]:
    r"""Return the weights of :func:`difana.hist.soft_cut` as relaxed computes them.

    .. math:: w_i = \frac{1}{1 + e^{-k (x_i - c)}}

    Args:
        x: What is cut on, ``[events]``.
        value: The cut c.
        slope: Steepness k.
        keep: The side that is kept.

    Example:
        >>> relaxed_cut(jnp.array([0.0, 1.0]), 0.5, slope=10.0).round(3).tolist()
        [0.007, 0.993]
    """
    with third_party_promotion():
        return _relaxed().cut(jnp.asarray(x), value, slope=slope, keep=keep)


def _relaxed() -> Any:
    """Return the package; its import of the unmaintained jaxopt is not announced."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import relaxed

    return relaxed
