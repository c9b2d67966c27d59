"""Data vectors are checked before anything is made of them."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float

from difana._errors import ModelError
from difana.likelihood.structure import Structure


def check_counts(structure: Structure, observed: Float[ArrayLike, " bins"]) -> None:
    """Refuse counts that are negative or not finite; fractional Asimov data are allowed."""
    if isinstance(observed, Tracer):
        return
    counts = np.asarray(observed)
    wrong = np.flatnonzero(~(np.isfinite(counts) & (counts >= 0)))
    if wrong.size:
        bin_ = int(wrong[0])
        channel = next(c for c in structure.channels if c.start <= bin_ < c.start + c.bins)
        raise ModelError(
            f"channel '{channel.name}', bin {bin_ - channel.start}: the observed yield "
            f"{counts[bin_]:g} is negative or not finite"
        )


def check_data(structure: Structure, data: Float[Array, " data"]) -> None:
    """Refuse data of the wrong length, and impossible ones; see ``Model.check_data``."""
    bins = structure.bins
    needed = (bins + structure.constrained.size,)
    if jnp.shape(data) != needed:
        raise ModelError(
            f"data have shape {jnp.shape(data)}, the model needs {needed}: use model.data(observed)"
        )
    if isinstance(data, Tracer):
        return
    plain = np.asarray(data)
    check_counts(structure, plain[:bins])
    auxiliary = plain[bins:]
    wrong = ~np.isfinite(auxiliary) | (structure.poisson & (auxiliary < 0))
    if wrong.any():
        name = structure.parameters[structure.constrained[np.flatnonzero(wrong)[0]]]
        raise ModelError(
            f"the auxiliary datum of '{name}' is negative or not finite: {auxiliary[wrong][0]:g}"
        )
