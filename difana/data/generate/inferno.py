"""The synthetic benchmark of INFERNO: a mixture in three dimensions with two shape nuisances."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from difana._errors import InputError
from difana._numerics import third_party_promotion
from difana.data.events import Events
from difana.data.samples import Normalisation, Sample
from difana.data.transform import transformation

COLUMNS = ("x0", "x1", "x2")
_RATE = 3.0


def inferno(
    *,
    key: PRNGKeyArray,
    events: int = 100_000,
    signal: float = 50.0,
    background: float = 1000.0,
    shift: float | None = 0.4,
    rate: float | None = 1.0,
    normalisation: float | None = None,
) -> tuple[Sample, Sample]:
    r"""Return the INFERNO benchmark with its nuisances as exact transformations.

    Background :math:`N_2((2 + r, 0), \mathrm{diag}(5, 9)) \times \mathrm{Exp}(\lambda)`, signal
    :math:`N_2((0, 0), 1) \times \mathrm{Exp}(2)`, with :math:`r = 0` and :math:`\lambda = 3`.
    The nuisance ``r`` moves ``x0``; ``lambda`` scales ``x2`` by :math:`3 / \lambda`, both for the
    background only. One standard deviation is ``shift`` and ``rate``; the defaults with
    ``normalisation=None`` are benchmark 3 of the paper, with 0.1 benchmark 4.

    Args:
        key: Random key.
        events: Number of events of each process.
        signal: Expected signal yield.
        background: Expected background yield.
        shift: Standard deviation of ``r``; None leaves this nuisance out.
        rate: Standard deviation of lambda; None leaves it out. The transformation exists for
            :math:`\alpha > -3 / \mathrm{rate}`.
        normalisation: Relative uncertainty of the background yield; None leaves it out.

    Returns:
        The samples ``signal`` (free factor ``mu``) and ``background``.

    Example:
        >>> import jax
        >>> sig, bkg = inferno(key=jax.random.key(0), events=100)
        >>> [variation.name for variation in bkg.variations]
        ['r', 'lambda']

    References:
        arXiv:1806.04743, section 5.1; the signal mean is that of its code, (0, 0).
    """
    if rate is not None and not 0 < rate < _RATE:
        raise InputError(f"the standard deviation of lambda must be in (0, {_RATE}), got {rate}")
    sig, bkg = _densities(0.0, _RATE)
    key_sig, key_bkg = jax.random.split(key)
    variations: list[Any] = []
    if shift is not None:
        variations.append(transformation("r", {"x0": f"x0 + {shift} * alpha"}, COLUMNS))
    if rate is not None:
        text = f"x2 * {_RATE} / ({_RATE} + {rate} * alpha)"
        variations.append(transformation("lambda", {"x2": text}, COLUMNS))
    if normalisation is not None:
        up, down = jnp.asarray(1.0 + normalisation), jnp.asarray(1.0 - normalisation)
        variations.append(Normalisation(up=up, down=down, name="b"))
    nominal = [
        Events(_sample(density, k, events), jnp.full(events, expected / events), columns=COLUMNS)
        for density, k, expected in ((sig, key_sig, signal), (bkg, key_bkg, background))
    ]
    return (
        Sample(nominal[0], name="signal", normfactors=("mu",)),
        Sample(nominal[1], tuple(variations), name="background"),
    )


def inferno_log_ratio(
    features: Float[Array, "events 3"], *, r: float = 0.0, rate: float = _RATE
) -> Float[Array, " events"]:
    """Return ``log p(x | signal) - log p(x | background)``: the optimal classifier.

    Args:
        features: The events.
        r: Shift of the background.
        rate: Rate lambda of the exponential of the background.

    Example:
        >>> import jax.numpy as jnp
        >>> ratio = inferno_log_ratio(jnp.array([[0.0, 0.0, 0.5], [4.0, 3.0, 0.1]]))
        >>> bool(ratio[0] > ratio[1])
        True

    References:
        arXiv:1806.04743, section 5.1.
    """
    sig, bkg = _densities(r, rate)
    return _log_prob(sig, features) - _log_prob(bkg, features)


def _densities(r: Any, rate: Any) -> tuple[tuple[Any, Array], tuple[Any, Array]]:
    """Return the distribution of (x0, x1) and the rate of x2 for signal and background."""
    with warnings.catch_warnings():
        # tfp, which distrax requires, still touches a deprecated name of JAX
        warnings.simplefilter("ignore", DeprecationWarning)
        import distrax

    mean = jnp.stack([2.0 + jnp.asarray(r, float), jnp.zeros(())])
    background = distrax.MultivariateNormalDiag(mean, jnp.sqrt(jnp.asarray([5.0, 9.0])))
    signal = distrax.MultivariateNormalDiag(jnp.zeros(2), jnp.ones(2))
    return (signal, jnp.asarray(2.0)), (background, jnp.asarray(rate, float))


def _sample(density: tuple[Any, Array], key: PRNGKeyArray, events: int) -> Float[Array, "events 3"]:
    keys = jax.random.split(key)
    with third_party_promotion():
        plane = density[0].sample(seed=keys[0], sample_shape=(events,))
    decay = jax.random.exponential(keys[1], (events,)) / density[1]
    return jnp.concatenate([plane, decay[:, None]], axis=1)


def _log_prob(density: tuple[Any, Array], features: Array) -> Array:
    rate = density[1]
    with third_party_promotion():
        plane = density[0].log_prob(features[:, :2])
    return plane + jnp.log(rate) - rate * features[:, 2]
