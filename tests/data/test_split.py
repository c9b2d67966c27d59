from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from difana._errors import InputError
from difana.data import (
    Events,
    Normalisation,
    Sample,
    ShiftedEvents,
    WeightVariation,
    event_hash,
    split,
)

SIZE = 4000
FRACTIONS = (0.5, 0.3, 0.2)


def make(seed: int, size: int = SIZE) -> Events:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(size, 2)).astype(np.float32)
    return Events(
        jnp.asarray(features), jnp.asarray(rng.uniform(0.5, 1.5, size)), columns=("a", "b")
    )


@pytest.fixture(scope="module")
def events():
    return make(0)


def rows(events: Events) -> set[tuple[float, ...]]:
    return set(map(tuple, np.asarray(events.features).tolist()))


def test_parts_are_disjoint_complete_and_of_the_expected_size(events):
    parts = split(events, FRACTIONS)
    assert sum(map(len, parts)) == SIZE
    assert rows(parts[0]) | rows(parts[1]) | rows(parts[2]) == rows(events)
    for part, fraction in zip(parts, FRACTIONS, strict=True):
        assert abs(len(part) - fraction * SIZE) < 4 * np.sqrt(SIZE * fraction * (1 - fraction))


def test_independent_of_order_and_of_other_events(events):
    parts = split(events, FRACTIONS)
    order = jnp.asarray(np.random.default_rng(1).permutation(SIZE)[: SIZE // 2])
    for part, again in zip(parts, split(events.take(order), FRACTIONS), strict=True):
        assert rows(again) <= rows(part)


def test_every_part_stands_for_the_full_yield(events):
    for part in split(events, FRACTIONS):
        np.testing.assert_allclose(part.total(), events.total(), rtol=1e-6)
        # relative weights are kept
        position = {tuple(row): i for i, row in enumerate(np.asarray(events.features).tolist())}
        index = [position[tuple(row)] for row in np.asarray(part.features).tolist()]
        ratio = np.asarray(part.weights) / np.asarray(events.weights)[index]
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)


def test_seed_and_dtype(events):
    assert rows(split(events, FRACTIONS)[0]) != rows(split(events, FRACTIONS, seed=1)[0])
    double = events.with_features(events.features.astype(jnp.float64))
    assert rows(split(double, FRACTIONS)[0]) == rows(split(events, FRACTIONS)[0])


def test_hash_is_the_same_everywhere():
    # frozen: another value would reshuffle every analysis
    found = event_hash({"run": np.array([1, 1]), "event": np.array([7, 8])}).tolist()
    assert found == [0x9F578552C7B118D, 0x409D6ED3A63B9FA2]
    np.testing.assert_array_equal(event_hash(np.array([-0.0])), event_hash(np.array([0.0])))
    np.testing.assert_array_equal(
        event_hash(np.array([3], np.int32)), event_hash(np.array([3], np.uint64))
    )
    assert event_hash(np.array([1, 2]), seed=1)[0] != event_hash(np.array([1, 2]))[0]


def test_hash_bits_are_uniform_and_independent():
    hashes = event_hash(np.arange(20_000))
    bits = (hashes[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.02
    assert len(np.unique(hashes)) == len(hashes)


def test_identifiers_replace_the_features(events):
    numbers = np.arange(SIZE)
    first = split(events, FRACTIONS, identifiers=numbers)[0]
    moved = events.with_features(events.features + 1)
    other = split(moved, FRACTIONS, identifiers={"event": numbers})[0]
    np.testing.assert_allclose(other.features, first.features + 1, rtol=1e-6)


def test_samples_split_nominal_and_weights_alike_and_shifted_by_their_own_hash(events):
    up, down = make(1), make(2, 3000)
    weights = WeightVariation(up=events.weights * 1.1, down=events.weights * 0.9, name="w")
    sample = Sample(
        events,
        (
            ShiftedEvents(up=up, down=down, name="shift"),
            weights,
            Normalisation(up=jnp.asarray(1.1), down=jnp.asarray(0.9), name="norm"),
        ),
        name="signal",
        normfactors=("mu",),
    )
    parts = split(sample, FRACTIONS)
    alone = split(events, FRACTIONS)
    ups = split(up, FRACTIONS)
    for part, nominal, shifted in zip(parts, alone, ups, strict=True):
        assert part.name == "signal"
        assert part.normfactors == ("mu",)
        np.testing.assert_array_equal(part.nominal.features, nominal.features)
        np.testing.assert_array_equal(part.variations[0].up.features, shifted.features)
        np.testing.assert_allclose(part.variations[0].down.total(), down.total(), rtol=1e-6)
        ratio = part.variations[1].up / part.nominal.weights
        np.testing.assert_allclose(ratio, 1.1, rtol=1e-6)
        assert part.variations[2] is sample.variations[2]
        assert jax.tree.structure(part) == jax.tree.structure(parts[0])


def test_shifted_events_follow_their_identifiers(events):
    numbers = np.arange(SIZE)
    shifted = events.with_features(events.features + 1)
    sample = Sample(events, (ShiftedEvents(up=shifted, down=shifted, name="shift"),), name="signal")
    parts = split(
        sample, FRACTIONS, identifiers=numbers, shifted_identifiers={"shift": (numbers, numbers)}
    )
    for part in parts:
        np.testing.assert_allclose(
            part.variations[0].up.features, part.nominal.features + 1, rtol=1e-6
        )


@pytest.mark.parametrize("fractions", [(0.5, 0.4), (1.0, 0.0), (1.5, -0.5), ()])
def test_wrong_fractions(events, fractions):
    with pytest.raises(InputError, match="fractions must be positive and sum to 1"):
        split(events, fractions)


def test_empty_and_negative_parts_name_the_sample(events):
    few = Sample(events.take(jnp.arange(1)), name="tiny")
    with pytest.raises(InputError, match=r"sample 'tiny': part . of the split has 0 events"):
        split(few, (0.5, 0.5))
    negative = Sample(events.with_weights(-events.weights), name="bad")
    with pytest.raises(InputError, match=r"sample 'bad': part 1 .* must have a positive yield"):
        split(negative, FRACTIONS)


def test_wrong_identifiers(events):
    with pytest.raises(InputError, match="3 identifiers for 4000 events"):
        split(events, FRACTIONS, identifiers=np.arange(3))
    with pytest.raises(InputError, match="must be numbers"):
        split(events, FRACTIONS, identifiers=np.array(["a"] * SIZE))
    with pytest.raises(InputError, match="equal length"):
        event_hash({"a": np.arange(3), "b": np.arange(2)})
    with pytest.raises(InputError, match="no features to hash"):
        split(events.with_features(events.features[:, :0]), FRACTIONS)
