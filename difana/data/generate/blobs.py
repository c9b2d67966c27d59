"""The Gaussian blobs of NEOS: two processes, and an uncertain position of the background."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from difana.data.events import Events
from difana.data.samples import Sample, ShiftedEvents

# Means of the published code (the text of the paper has the background means in another order).
_SIGNAL = (-1.0, 1.0)
_BACKGROUND = (1.0, -1.0)
_UP = (2.5, 2.0)
_DOWN = (-2.5, -1.5)


def blobs(
    *,
    key: PRNGKeyArray,
    events: int = 10_000,
    signal: float = 20.0,
    background: float = 100.0,
) -> tuple[Sample, Sample]:
    """Return the toy problem of NEOS: unit Gaussians in two dimensions.

    Signal at (-1, 1), background at (1, -1), and at (2.5, 2) and (-2.5, -1.5) for +1 and -1
    standard deviation of the nuisance parameter ``bkg_shift``.

    Args:
        key: Random key.
        events: Number of events of each of the four blobs.
        signal: Expected signal yield.
        background: Expected background yield.

    Returns:
        The samples ``signal`` (free factor ``mu``) and ``background``.

    Example:
        >>> import jax
        >>> sig, bkg = blobs(key=jax.random.key(0), events=100)
        >>> sig.nominal.features.shape, round(float(bkg.nominal.total()), 3)
        ((100, 2), 100.0)

    References:
        arXiv:2203.05570, section 3 and appendix A; numbers of its code.
    """
    keys = jax.random.split(key, 4)
    means = (_SIGNAL, _BACKGROUND, _UP, _DOWN)
    yields = (signal, background, background, background)
    sig, bkg, up, down = (
        Events(
            jnp.asarray(mean)[None, :] + jax.random.normal(k, (events, 2)),
            jnp.full(events, expected / events),
            columns=("x", "y"),
        )
        for k, mean, expected in zip(keys, means, yields, strict=True)
    )
    shift = ShiftedEvents(up=up, down=down, name="bkg_shift")
    return (
        Sample(sig, name="signal", normfactors=("mu",)),
        Sample(bkg, (shift,), name="background"),
    )
