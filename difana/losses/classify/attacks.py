"""Inputs that a network likes least, within a small distance: FGSM, PGD, normed gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from difana._errors import ConfigError
from difana._numerics import third_party_promotion
from difana.data import Given, Inputs

Norm = Literal["sign", "gradient"]


def attacked(
    loss: Callable[[Given], Float[Array, ""]],
    inputs: Given,
    *,
    size: float,
    steps: int = 1,
    rate: float | None = None,
    norm: Norm = "sign",
    scales: Sequence[float] | None = None,
    channels: Sequence[int] | None = None,
) -> Given:
    r"""Return inputs that raise the loss most, within a ball around those given.

    One step with the sign is FGSM, several are PGD; ``"gradient"`` moves along the gradient of an
    event, divided by its length.

    .. math:: x' = \Pi_{|x' - x| \le \epsilon s}\left[x + \eta s\, \mathrm{sign}(s \nabla_x L)
              \right]

    Padding is never moved, nor channels that are not named: identities are integers. Of inputs
    with particles these are moved and the features stay. No derivative goes through the search.

    Args:
        loss: The loss of given inputs.
        inputs: Features, or features and particles.
        size: Radius :math:`\epsilon` of the ball, in units of ``scales``.
        steps: Number of steps.
        rate: Length :math:`\eta` of one; ``size`` for one step, else ``2.5 size / steps``.
        norm: ``"sign"`` or ``"gradient"``.
        scales: Unit of each channel (or feature); one by default.
        channels: Numbers of the channels (or features) that may move; all by default.

    Raises:
        ConfigError: If an option has no meaning.

    Example:
        >>> weights = jnp.array([1.0, -2.0])
        >>> attacked(lambda x: jnp.sum(x @ weights), jnp.zeros((1, 2)), size=0.5).tolist()
        [[0.5, -0.5]]

    References:
        Goodfellow et al., arXiv:1412.6572 (FGSM); Madry et al., arXiv:1706.06083 (PGD).
    """
    if norm not in ("sign", "gradient"):
        raise ConfigError(f"norm = '{norm}': must be 'sign' or 'gradient'.")
    if size < 0 or steps < 1:
        raise ConfigError(f"size = {size}, steps = {steps}: a positive size, at least one step.")
    cloud = inputs.particles if isinstance(inputs, Inputs) else inputs
    width = cloud.shape[-1]
    unit = jnp.ones(width, cloud.dtype) if scales is None else jnp.asarray(scales, cloud.dtype)
    if channels is not None:
        unit = jnp.where(jnp.isin(jnp.arange(width), jnp.array(channels)), unit, 0)
    length = rate if rate is not None else size * (1.0 if steps == 1 else 2.5 / steps)

    def given(x: Array) -> Given:
        return Inputs(inputs.features, x, inputs.mask) if isinstance(inputs, Inputs) else x

    def step(_: int, x: Array) -> Array:
        slope = jax.grad(lambda x: loss(given(x)))(x) * unit
        if isinstance(inputs, Inputs):
            slope = jnp.where(inputs.mask[..., None], slope, 0)
        if norm == "sign":
            move = jnp.sign(slope)
        else:
            axes = tuple(range(1, slope.ndim))
            total = jnp.sqrt(jnp.sum(slope**2, axis=axes, keepdims=True))
            move = slope / jnp.maximum(total, 1e-12)
        moved = x + length * unit * move
        return jnp.clip(moved, cloud - size * unit, cloud + size * unit)

    with third_party_promotion():
        return given(jax.lax.stop_gradient(jax.lax.fori_loop(0, steps, step, cloud)))
