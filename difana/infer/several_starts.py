"""Fits from several starting points: is the minimum the only one?"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PRNGKeyArray

from difana._errors import ConfigError
from difana._options import whole_number
from difana._result import AbstractResult
from difana._status import trustworthy
from difana.infer.fit import fit, profile
from difana.infer.fit_result import FitResult
from difana.likelihood import Model

# Free parameters start between their lower bound and this many times their init: a second minimum
# further away than three times the expectation is no description of the same data.
_FREE = 3.0
# Constrained ones start from a normal distribution so many times their width: half of the starts
# lie beyond one standard deviation, where interpolations have their kink, 5 % beyond three.
_SPREAD = 1.5


class SeveralStartsResult(AbstractResult):
    """The deepest of several fits.

    Attributes:
        best: The fit with the smallest nll.
        half_deviance: Half the deviance that each start ended in, ``[starts]``; the first is the
            usual start.
        status: Bit flags of each fit, ``[starts]``.
    """

    best: FitResult
    half_deviance: Float[Array, " starts"]
    status: Int[Array, " starts"]

    def agreeing(self, tolerance: float = 1e-3) -> Bool[Array, " starts"]:
        """Return which fits converged to the depth of the best one."""
        depth = self.half_deviance - self.best.half_deviance
        return trustworthy(self.status) & (depth < tolerance)

    @property
    def unique(self) -> bool:
        """True if every fit that converged ended in the same depth: no other minimum was met."""
        good = np.asarray(trustworthy(self.status))
        return bool(np.asarray(self.agreeing())[good].all() and good.any())


def fit_from_several(
    model: Model,
    data: Float[Array, " data"],
    *,
    key: PRNGKeyArray,
    number: int = 8,
    fixed: Mapping[str, ArrayLike] | None = None,
) -> SeveralStartsResult:
    r"""Fit from the usual start and from random ones, and keep the deepest minimum.

    Likelihoods with asymmetric or one-sided shifts have several minima: with
    :math:`\nu(\theta) = \nu(0) + |\theta|\delta` both signs of :math:`\theta` fit alike. A fit from
    one start finds one of them and says ok. Constrained parameters start at 1.5 widths times a
    normal number around their centres, free ones anywhere between their lower bound and three
    times their usual start. Differentiable like :func:`fit` (at the minimum found).

    Args:
        model: The model.
        data: Data vector.
        key: Random key.
        number: Number of starts, at least 1.
        fixed: Parameters held at given values, by name.

    Returns:
        The best fit, and what every start ended in.

    Raises:
        ConfigError: If the number is not positive.
        ModelError: If a fixed parameter does not exist or the data have the wrong length.

    Example:
        >>> import jax
        >>> from difana.likelihood import Channel, HistoSys, NormFactor, Template, build_model
        >>> background = Template([50.0], (HistoSys([60.0], [60.0], "up"),), name="background")
        >>> signal = Template([1.0], (NormFactor("mu"),), name="signal")
        >>> model = build_model([Channel((signal, background), name="SR")])
        >>> result = fit_from_several(model, model.data([58.0]), key=jax.random.key(0), number=3)
        >>> result.best.ok, result.half_deviance.shape
        (True, (3,))
    """
    if isinstance(number, int) and number < 1:
        raise ConfigError(f"number = {number}: at least one start is needed")
    number = whole_number("number", number)
    held, starts = model.fixed, _starts(model, key, number)
    for name, value in (fixed or {}).items():
        held = held.at[model.index(name)].set(True)
        starts = starts.at[:, model.index(name)].set(value)
    model.check_data(data)
    still, seen = jax.lax.stop_gradient((model, data))
    found = jax.vmap(lambda start: profile(still, seen, start, held=held))(
        jax.lax.stop_gradient(starts)
    )
    good = trustworthy(found.status) & jnp.isfinite(found.value)
    value = jnp.where(jnp.isfinite(found.value), found.value, jnp.inf)
    deepest = jnp.argmin(jnp.where(good | ~good.any(), value, jnp.inf))
    best = fit(model, data, init=jax.lax.stop_gradient(found.params[deepest]), fixed=fixed)
    return SeveralStartsResult(best, found.value, found.status)


def _starts(model: Model, key: PRNGKeyArray, number: int) -> Float[Array, "starts params"]:
    """Return the usual start, then random ones."""
    s, init = model.structure, model.init
    widths = jnp.zeros_like(init).at[s.constrained].set(model.constraint_scales()[0])
    low = jnp.where(jnp.isfinite(model.lower), model.lower, init)
    high = jnp.minimum(model.upper, jnp.maximum(init, _FREE * jnp.abs(init)))
    constrained = jnp.zeros(init.size, bool).at[s.constrained].set(True)
    normal_key, uniform_key = jax.random.split(key)
    shape = (number - 1, init.size)
    normal = jax.random.normal(normal_key, shape, init.dtype)
    uniform = jax.random.uniform(uniform_key, shape, init.dtype)

    def start(normal: Array, uniform: Array) -> Array:
        near, wide = init + _SPREAD * widths * normal, low + (high - low) * uniform
        drawn = jnp.clip(jnp.where(constrained, near, wide), model.lower, model.upper)
        return jnp.where(model.fixed, init, drawn)

    return jnp.concatenate([init[None], jax.vmap(start)(normal, uniform)])
