"""Train, validation and test parts by a hash of the event, not by its position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped
from numpy.typing import ArrayLike

from difana._errors import InputError
from difana.data.events import Events
from difana.data.samples import AbstractVariation, Sample

Identifiers = Shaped[ArrayLike, " events"] | Mapping[str, Shaped[ArrayLike, " events"]]
"""Something that names an event, such as run and event number."""

Splittable = TypeVar("Splittable", Events, Sample)

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def split(
    events: Splittable,
    fractions: Sequence[float] = (0.5, 0.25, 0.25),
    *,
    seed: int = 0,
    identifiers: Identifiers | None = None,
    shifted_identifiers: Mapping[str, tuple[Identifiers, Identifiers]] | None = None,
) -> tuple[Splittable, ...]:
    r"""Split events into parts, e.g. for training, validation and test.

    An event belongs to the part in whose range its hash :math:`u \in [0, 1)` falls. The hash is
    that of the identifiers or, without them, of features and particles in float32; it depends
    neither on other events, nor on the order, nor on the platform. Equal events share a part.

    **Weights are scaled** so that each part stands for the full yield: by total yield over yield
    of the part, separately for the nominal events, for each up and down of `ShiftedEvents` and for
    each up and down of a `WeightVariation`. ``variance_scale`` is left alone: the larger
    statistical uncertainty of a part is real.

    Args:
        events: Events or a sample. The nominal events and the weight variations of a sample are
            split alike, `ShiftedEvents` by the hashes of their own events.
        fractions: Expected fraction of the events in each part; they sum to 1.
        seed: Another seed gives another split.
        identifiers: Array ``[events]`` or a mapping of these that names each (nominal) event.
        shifted_identifiers: Identifiers of up and down events by name of the variation. Without
            them shifted events are split by their own (shifted) features, also beside
            ``identifiers``: then an event may train and its shifted copy test.

    Returns:
        One object like ``events`` for each fraction.

    Raises:
        InputError: If fractions are wrong, or a part is empty or has no positive yield.

    Example:
        >>> import jax.numpy as jnp
        >>> events = Events(jnp.arange(1000.0)[:, None], jnp.ones(1000), columns=("x",))
        >>> train, test = split(events, (0.5, 0.5))
        >>> abs(len(train) - 500) < 60, round(float(train.total()))
        (True, 1000)

    References:
        The mixing function is that of splitmix64 (doi:10.1145/2714064.2660195).
    """
    parts = [Part((i,), f"part {i + 1} of the split") for i in range(len(fractions))]
    if isinstance(events, Events):
        part = split_parts(events, fractions, seed=seed, identifiers=identifiers)
        return _split_events(events, part, parts, "events")
    found = split_sample(
        events,
        fractions,
        parts,
        seed=seed,
        identifiers=identifiers,
        shifted_identifiers=shifted_identifiers,
    )
    return cast("tuple[Splittable, ...]", found)


class Part(NamedTuple):
    """A part of a split, made of one or more ranges of the hash.

    Attributes:
        ranges: Numbers of the ranges.
        name: What messages call it.
        scaled: Whether it stands for the full yield; otherwise its events keep their weights.
    """

    ranges: tuple[int, ...]
    name: str
    scaled: bool = True


def split_sample(
    sample: Sample,
    fractions: Sequence[float],
    parts: Sequence[Part],
    *,
    seed: int,
    identifiers: Identifiers | None,
    shifted_identifiers: Mapping[str, tuple[Identifiers, Identifiers]] | None,
) -> tuple[Sample, ...]:
    """Return parts of a sample that may overlap; arguments and errors as in `split`.

    Args:
        sample: The sample.
        fractions: Sizes of the ranges of the hash; they sum to 1.
        parts: The ranges of each part.
        seed: Seed of the hash.
        identifiers: What names the events.
        shifted_identifiers: What names those of `ShiftedEvents`.
    """
    edges, where = _edges(fractions), f"sample '{sample.name}'"
    own = _parts(sample.nominal, edges, seed, identifiers, where)
    nominal = _split_events(sample.nominal, own, parts, where)
    shifted = shifted_identifiers or {}
    variations = [
        _split_variation(
            variation, own, parts, edges, seed, shifted.get(variation.name), sample.name
        )
        for variation in sample.variations
    ]
    return tuple(
        Sample(
            nominal[i],
            tuple(variation[i] for variation in variations),
            sample.variance_scale,
            name=sample.name,
            normfactors=sample.normfactors,
        )
        for i in range(len(parts))
    )


def split_parts(
    events: Events,
    fractions: Sequence[float] = (0.5, 0.25, 0.25),
    *,
    seed: int = 0,
    identifiers: Identifiers | None = None,
) -> Shaped[np.ndarray, " events"]:
    """Return the number of the part to which `split` gives each event, from 0.

    Args:
        events: The events.
        fractions: As in `split`, like the others.
        seed: Seed of the hash.
        identifiers: What names the events.

    Raises:
        InputError: If fractions or identifiers are wrong.

    Example:
        >>> import jax.numpy as jnp
        >>> events = Events(jnp.arange(1000.0)[:, None], jnp.ones(1000), columns=("x",))
        >>> train, test = split(events, (0.5, 0.5))
        >>> np.bincount(split_parts(events, (0.5, 0.5))).tolist() == [len(train), len(test)]
        True
    """
    return _parts(events, _edges(fractions), seed, identifiers, "events")


def event_hash(identifiers: Identifiers, *, seed: int = 0) -> Shaped[np.ndarray, " events"]:
    """Return a 64-bit hash of each row, the same on every platform and for every type of number.

    The event number 7 has one hash, be it an integer or a floating-point number.

    Args:
        identifiers: Array ``[events]`` or ``[events, columns]``, or a mapping of arrays, of
            integers, booleans or floating-point numbers.
        seed: Another seed gives independent hashes.

    Raises:
        InputError: If the identifiers are no numbers, differ in length, are not finite, or are
            floating-point numbers so large that neighbouring integers are rounded into one.

    Example:
        >>> first, second = event_hash(np.array([1.0, 2.0])).tolist()
        >>> event_hash(np.array([1, 2])).tolist() == [first, second]
        True
    """
    if isinstance(identifiers, Mapping):
        named = {str(name): identifiers[name] for name in sorted(identifiers)}
    else:
        table = np.asarray(identifiers) if not np.ma.isMA(identifiers) else identifiers
        columns = [table] if table.ndim == 1 else list(table.T)
        named = {str(i): column for i, column in enumerate(columns)}
    for name, array in named.items():
        _require_exact(array, f" '{name}'" if isinstance(identifiers, Mapping) else "")
    return _hash([np.asarray(array) for array in named.values()], seed)


def _hash(arrays: Sequence[np.ndarray], seed: int) -> np.ndarray:
    """Return a 64-bit hash of each row."""
    if not arrays or len({len(array) for array in arrays}) > 1:
        raise InputError("identifiers need one or more arrays of equal length")
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is meant
        state = _mix(np.full(len(arrays[0]), np.uint64(seed % 2**64) + _GOLDEN))
        for array in arrays:
            state = _mix((state + _GOLDEN) ^ _words(array))
    return state


def _mix(x: np.ndarray) -> np.ndarray:
    """Return the finaliser of splitmix64."""
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


def _words(array: np.ndarray) -> np.ndarray:
    """Return 64-bit words; one number has one word in all types, minus zero that of zero."""
    match array.dtype.kind:
        case "b" | "u":
            return array.astype(np.uint64)
        case "i":
            return array.astype(np.int64).view(np.uint64)
        case "f":
            values = array.astype(np.float64) + 0.0
            words = values.view(np.uint64).copy()
            whole = (np.floor(values) == values) & (np.abs(values) < 2.0**63)
            words[whole] = values[whole].astype(np.int64).view(np.uint64)
            return words
    raise InputError(f"identifiers must be numbers, got type {array.dtype}")


def _require_exact(values: ArrayLike, name: str) -> None:
    """Refuse identifiers that are missing, or that were rounded on their way."""
    if np.ma.is_masked(values):
        raise InputError(f"identifier{name} is masked in some events: select those that have one")
    array = np.asarray(values)
    if array.dtype.kind != "f":
        return
    if not np.isfinite(array).all():
        first = int(np.argmin(np.isfinite(array)))
        raise InputError(
            f"identifier{name} is missing or not finite in {int((~np.isfinite(array)).sum())} of "
            f"{len(array)} events, first in event {first}: exclude them in the selection"
        )
    limit = 2.0 ** (np.finfo(array.dtype).nmant + 1)
    if (np.abs(array) > limit).any():
        raise InputError(
            f"identifier{name} is a floating-point number ({array.dtype}) above {limit:.0f}, where "
            "neighbouring integers are one number: store it as a 64-bit integer"
        )


def _edges(fractions: Sequence[float]) -> np.ndarray:
    values = np.asarray(fractions, float)
    if values.ndim != 1 or not np.all(values > 0) or abs(values.sum() - 1) > 1e-6:
        raise InputError(f"fractions must be positive and sum to 1, got {tuple(fractions)}")
    return np.cumsum(values)[:-1]


def _parts(
    events: Events, edges: np.ndarray, seed: int, identifiers: Identifiers | None, where: str
) -> np.ndarray:
    """Return the number of the part of each event."""
    if identifiers is None:
        columns = [np.asarray(events.features, np.float32)]
        if events.particles is not None:
            inputs: Any = events.inputs
            particles = np.asarray(inputs.particles, np.float32)
            columns.append(particles.reshape(len(particles), -1))
        table = np.concatenate(columns, axis=1)
        if not table.shape[1]:
            raise InputError(f"{where} has no features to hash: give 'identifiers'")
        words = (table.astype(np.float64) + 0.0).view(np.uint64)
        hashes = _hash(list(words.T), seed)
    else:
        hashes = event_hash(identifiers, seed=seed)
    if len(hashes) != len(events):
        raise InputError(f"{len(hashes)} identifiers for {len(events)} events of {where}")
    uniform = (hashes >> np.uint64(11)) * 2.0**-53
    return np.searchsorted(edges, uniform, side="right")


def _split_events(
    events: Events, own: np.ndarray, parts: Sequence[Part], where: str
) -> tuple[Events, ...]:
    weights = _split_weights(events.weights, own, parts, where)
    leaves = jax.tree.map(np.asarray, events)  # indexing in JAX compiles once for each size
    found = []
    for part, scaled in zip(parts, weights, strict=True):
        rows = np.flatnonzero(np.isin(own, part.ranges))
        own_leaves = jax.tree.map(lambda leaf, rows=rows: jnp.asarray(leaf[rows]), leaves)
        found.append(own_leaves.with_weights(scaled))
    return tuple(found)


def _split_variation(
    variation: AbstractVariation,
    own: np.ndarray,
    parts: Sequence[Part],
    edges: np.ndarray,
    seed: int,
    identifiers: tuple[Identifiers, Identifiers] | None,
    sample: str,
) -> tuple[AbstractVariation, ...]:
    """Return the variation of each part."""
    where = f"sample '{sample}', variation '{variation.name}'"
    named: Any = dict(zip(("up", "down"), identifiers or (None, None), strict=True))

    def events(side: str, table: Events) -> Any:
        ranges = _parts(table, edges, seed, named[side], f"{where} {side}")
        return _split_events(table, ranges, parts, f"{where} {side}")

    def weights(side: str, values: Array) -> Any:
        return _split_weights(values, own, parts, f"{where} {side}")

    def part_of(i: int) -> Any:
        return lambda _, found: found[i]

    both = variation.mapped(events, weights)  # with all parts on both sides
    return tuple(both.mapped(part_of(i), part_of(i)) for i in range(len(parts)))


def _split_weights(
    weights: Array, own: np.ndarray, parts: Sequence[Part], where: str
) -> list[Array]:
    """Return the weights of each part, scaled to the full yield where it stands for that."""
    values = np.asarray(weights)
    total = values.sum(dtype=np.float64)
    found = []
    for part in parts:
        inside = values[np.isin(own, part.ranges)]
        left = inside.sum(dtype=np.float64)
        if not (0 < total < np.inf and left > 0):
            raise InputError(
                f"{where}: {part.name} has {len(inside)} events with yield "
                f"{left:.6g} (of {len(values)} with {total:.6g}); a part must have a positive "
                "yield. Use more events or other fractions"
            )
        factor = total / left if part.scaled else 1.0
        found.append(jnp.asarray((inside * factor).astype(values.dtype)))
    return found
