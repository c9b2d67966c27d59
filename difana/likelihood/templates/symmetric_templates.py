"""Symmetric variations instead of asymmetric pairs: pure functions of templates and factors."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float

from difana._errors import ModelError, nearest

METHODS = ("average", "conservative", "one_sided_up", "one_sided_down", "linear", "quadratic")
SPLIT = {"linear": 1.0, "quadratic": 3.0**0.5}  # factor of the half difference
AVERAGE, DIFFERENCE = "SymAvg", "SymDiff"


class Variation(NamedTuple):
    """A symmetric variation: ``suffix`` is added to the name of its nuisance."""

    suffix: str
    up: Float[ArrayLike, " bins"]
    down: Float[ArrayLike, " bins"]


def symmetric_templates(
    nominal: Float[ArrayLike, " bins"],
    up: Float[ArrayLike, " bins"],
    down: Float[ArrayLike, " bins"],
    *,
    method: str = "average",
) -> tuple[Variation, ...]:
    r"""Return symmetric variations instead of an asymmetric pair.

    With the shifts :math:`u = \mathrm{up} - \nu` and :math:`d = \nu - \mathrm{down}`, equal for a
    symmetric pair, each variation is :math:`\nu \pm s`:

    - ``"average"``: :math:`s = (u + d)/2`, signs kept: two shifts to the same side cancel;
    - ``"conservative"``: the one of :math:`u, d` that is larger in size, bin by bin;
    - ``"one_sided_up"``: :math:`s = u`, the mirror image of the upward variation;
      ``"one_sided_down"``: :math:`s = d`;
    - ``"linear"``: two nuisances, ``SymAvg`` with :math:`s = (u + d)/2` and ``SymDiff`` with
      :math:`s = (u - d)/2`: the mean square shift, :math:`(u^2 + d^2)/2`, is that of straight
      lines from nominal to both sides;
    - ``"quadratic"``: the same with :math:`\sqrt{3}\,(u - d)/2`: the mean square shift is that of
      a parabola through the three templates.

    Works with NumPy and with traced arrays; down may fall below zero where a template is mirrored.

    Args:
        nominal: Yields, ``[bins]`` (or one number).
        up: Yields at +1.
        down: Yields at -1.
        method: One of the above.

    Returns:
        One variation, or two (``"linear"``, ``"quadratic"``).

    Raises:
        ModelError: If the method is unknown or shapes differ.

    References:
        The treatments ``symmetrize`` of rabbit (WMass), there in the logarithm of the yields.

    Example:
        >>> average, difference = symmetric_templates([10.0], [13.0], [9.0], method="linear")
        >>> average.up.tolist(), average.down.tolist()
        ([12.0], [8.0])
        >>> difference.suffix, difference.up.tolist(), difference.down.tolist()
        ('SymDiff', [11.0], [9.0])
        >>> symmetric_templates([10.0], [13.0], [9.0], method="conservative")[0].down.tolist()
        [7.0]
    """
    check_method(method)
    module = jnp if any(isinstance(x, Array) for x in (nominal, up, down)) else np
    nominal, up, down = (module.asarray(x, float) for x in (nominal, up, down))
    if not nominal.shape == up.shape == down.shape:
        raise ModelError(
            f"nominal, up and down have shapes {nominal.shape}, {up.shape}, {down.shape}: they "
            "must have the same bins"
        )
    return tuple(
        Variation(suffix, nominal + shift, nominal - shift)
        for suffix, shift in _shifts(up - nominal, nominal - down, method, module)
    )


def symmetric_factors(
    hi: Float[ArrayLike, ""], lo: Float[ArrayLike, ""], *, method: str = "average"
) -> tuple[Variation, ...]:
    r"""Return symmetric factors (:math:`\mathrm{hi}\cdot\mathrm{lo} = 1`) instead of a pair.

    As :func:`symmetric_templates`, with :math:`u = \ln\mathrm{hi}`, :math:`d = -\ln\mathrm{lo}`
    and the variations :math:`e^{\pm s}`.

    Raises:
        ModelError: If the method is unknown or a factor is not positive.

    Example:
        >>> found, = symmetric_factors(1.2, 0.9)
        >>> round(float(found.up), 4), round(float(found.up * found.down), 4)
        (1.1547, 1.0)
    """
    check_method(method)
    module = jnp if isinstance(hi, Array) or isinstance(lo, Array) else np
    hi, lo = module.asarray(hi, float), module.asarray(lo, float)
    if module is np and not (hi > 0 and lo > 0):
        raise ModelError(f"factors hi {hi:g} and lo {lo:g} must be positive to be symmetrised")
    return tuple(
        Variation(suffix, module.exp(shift), module.exp(-shift))
        for suffix, shift in _shifts(module.log(hi), -module.log(lo), method, module)
    )


def check_method(method: str) -> None:
    """Refuse an unknown method."""
    if method not in METHODS:
        raise ModelError(
            f"no method '{method}' to symmetrise; there are {', '.join(METHODS)}."
            f"{nearest(method, METHODS)}"
        )


def _shifts(u: Any, d: Any, method: str, module: Any) -> list[tuple[str, Any]]:
    if method == "average":
        return [("", 0.5 * (u + d))]
    if method == "conservative":
        return [("", module.where(module.abs(u) > module.abs(d), u, d))]
    if method in ("one_sided_up", "one_sided_down"):
        return [("", u if method == "one_sided_up" else d)]
    return [(AVERAGE, 0.5 * (u + d)), (DIFFERENCE, 0.5 * SPLIT[method] * (u - d))]
