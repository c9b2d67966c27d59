"""Observables far from zero: what single precision would lose of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

_LOST = 1e-4  # rounding in units of the width of an observable that may be lost


class Origin(NamedTuple):
    """What was subtracted from the observables of the two levels, ``[columns]``; mostly zeros."""

    gen: Float[np.ndarray, " gen"]
    reco: Float[np.ndarray, " reco"]

    @property
    def moves(self) -> bool:
        """True if anything is subtracted."""
        return bool(self.gen.any() or self.reco.any())


def origin_of(values: Any, mask: Any = None) -> Float[np.ndarray, " columns"]:
    """Return the medians of the columns that float32 cannot resolve, and 0 for all others.

    Example:
        >>> x = 1.7e9 + np.linspace(-1, 1, 5)
        >>> origin_of(np.stack([x, x - 1.7e9], axis=1)).tolist()
        [1700000000.0, 0.0]
    """
    if isinstance(values, Tracer) or isinstance(mask, Tracer) or np.ndim(values) != 2:
        return np.zeros(1)
    wide = np.asarray(values)
    if wide.dtype.itemsize < 8:
        return np.zeros(wide.shape[1])
    wide = wide if mask is None else wide[np.asarray(mask)]
    low, middle, high = np.quantile(wide, [0.16, 0.5, 0.84], axis=0)
    width = np.where(high > low, (high - low) / 2, np.std(wide, axis=0))
    coarse = np.finfo(np.float32).eps * np.abs(middle) > _LOST * width
    return np.where(coarse & (width > 0), middle, 0.0)


def held(values: Any, mask: Any = None) -> Any:
    """Return an array of JAX, or of NumPy in float64 where JAX would lose the digits."""
    if isinstance(values, Tracer | jax.Array) or jnp.result_type(float) == jnp.float64:
        return jnp.asarray(values)
    rows = np.reshape(values, (-1, np.shape(values)[-1])) if np.ndim(values) > 2 else values
    return np.asarray(values, np.float64) if origin_of(rows, mask).any() else jnp.asarray(values)


def centred(problem: Any) -> tuple[Any, Origin]:
    """Return a problem without the large constants of its observables, and these constants.

    The masked zeros stay zeros. A problem that single precision can hold comes back as it is.
    """
    origin = Origin(
        origin_of(problem.gen, problem.pass_gen), origin_of(problem.reco, problem.pass_reco)
    )
    return (moved(problem, origin) if origin.moves else problem), origin


def moved(problem: Any, origin: Origin) -> Any:
    """Return a problem with the constants subtracted, in float64."""
    parts = [
        shifted(problem.gen, origin.gen, problem.pass_gen),
        shifted(problem.reco, origin.reco, problem.pass_reco),
        shifted(problem.data, origin.reco),
    ]
    problem = eqx.tree_at(lambda p: (p.gen, p.reco, p.data), problem, parts)
    if problem.background is None:
        return problem
    return eqx.tree_at(lambda p: p.background, problem, shifted(problem.background, origin.reco))


def shifted(values: Any, origin: np.ndarray, mask: Any = None) -> Array:
    """Return ``values - origin`` as an array of JAX, zero outside the mask."""
    if not origin.any():
        return jnp.asarray(values)
    narrow = values if isinstance(values, jax.Array) else np.asarray(values, np.float64)
    less = jnp.asarray(narrow - origin)
    return less if mask is None else jnp.where(jnp.asarray(mask)[:, None], less, 0.0)
