"""A toy whose best variable is the one that the systematics move."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from difana._errors import InputError
from difana.data.events import Events
from difana.data.samples import AbstractVariation, Normalisation, Sample, WeightVariation
from difana.data.transform import transformation

COLUMNS = ("x0", "x1", "x2", "x3")
_SCALE = 0.12
_SHAPE = 0.3
_FOLLOWS = 0.3  # how much of x0 is in x3 of the first background
_MEANS = {"signal": (3.2, 0.9, 0.6, 1.0), "second": (1.2, 0.7, -0.6, 0.5)}
_WIDTHS = {"signal": (0.7, 1.0, 1.0, 1.0), "second": (0.6, 1.0, 1.0, 1.0)}
_YIELDS = {"signal": 60.0, "first": 4000.0, "second": 500.0}
_RATES = {"first": 0.2, "second": 0.3}


def uncertain_variable(
    *, key: PRNGKeyArray, events: int = 40_000, size: float = 1.0
) -> tuple[Sample, Sample, Sample]:
    r"""Return a signal and two backgrounds whose best variable is the most uncertain one.

    ``x0`` separates best: :math:`N(3.2, 0.7)` for the signal, :math:`\mathrm{Exp}(1)` for the first
    background, :math:`N(1.2, 0.6)` for the second; ``x1``, ``x2`` and ``x3`` separate less. But the
    scale of ``x0`` is uncertain by :math:`0.12\,s` (all samples; ``x3`` follows), its shape in the
    first background by weights :math:`1 \pm 0.3\,s \tanh(x_0 - 2)`, and the backgrounds are
    normalised to :math:`1 + 0.2\,s` and :math:`1 + 0.3\,s`. Cross-entropy leans on ``x0`` whatever
    the size :math:`s`.

    Args:
        key: Random key.
        events: Number of events of each process.
        size: Size of all systematics; 0 leaves them out.

    Returns:
        The samples ``signal`` (free factor ``mu``, 60 expected events), ``first`` (4000) and
        ``second`` (500).

    Raises:
        InputError: If the size is negative or so large that weights turn negative.

    Example:
        >>> import jax
        >>> sig, first, second = uncertain_variable(key=jax.random.key(0), events=100)
        >>> [variation.name for variation in first.variations]
        ['scale', 'shape', 'norm_first']
        >>> round(float(second.nominal.total()))
        500
    """
    if not 0 <= size < 1 / _SHAPE:
        raise InputError(f"the size must be in [0, {1 / _SHAPE:.2f}), got {size}")
    keys = jax.random.split(key, 3)
    found = []
    for own, (name, total) in zip(keys, _YIELDS.items(), strict=True):
        features = _features(own, name, events)
        nominal = Events(features, jnp.full(events, total / events), columns=COLUMNS)
        factors = ("mu",) if name == "signal" else ()
        moved = _variations(nominal, name, size) if size else ()
        found.append(Sample(nominal, moved, name=name, normfactors=factors))
    return found[0], found[1], found[2]


def _features(key: PRNGKeyArray, name: str, events: int) -> Float[Array, "events 4"]:
    """Return the events of a process."""
    first_key, other_key = jax.random.split(key)
    normal = jax.random.normal(first_key, (events, len(COLUMNS)), jnp.float32)
    if name != "first":
        mean, width = (jnp.asarray(of[name], normal.dtype)[None, :] for of in (_MEANS, _WIDTHS))
        return mean + width * normal
    x0 = jax.random.exponential(other_key, (events,), normal.dtype)
    return normal.at[:, 0].set(x0).at[:, 3].add(_FOLLOWS * x0)


def _variations(nominal: Events, name: str, size: float) -> tuple[AbstractVariation, ...]:
    """Return the systematics of a process."""
    scale = _SCALE * size
    moves = {"x0": f"x0 * (1 + {scale} * alpha)", "x3": f"x3 + {_FOLLOWS * scale} * alpha * x0"}
    found: list[AbstractVariation] = [transformation("scale", moves, COLUMNS)]
    if name == "first":
        bend = _SHAPE * size * jnp.tanh(nominal.features[:, 0] - 2).astype(nominal.weights.dtype)
        up, down = nominal.weights * (1 + bend), nominal.weights * (1 - bend)
        found.append(WeightVariation(up=up, down=down, name="shape"))
    if name in _RATES:
        rate = jnp.asarray(1 + _RATES[name] * size)
        found.append(Normalisation(up=rate, down=1 / rate, name=f"norm_{name}"))
    return tuple(found)
