"""Mini-batches that represent the analysis: every sample at its full yield and variance."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from difana._errors import InputError
from difana._numerics import safe_divide
from difana._options import whole_number
from difana.data._alike import check_inputs
from difana.data._order import Order
from difana.data.events import Events
from difana.data.samples import Sample

# A batch whose yield is below this part of its expectation (cancelling negative weights) would be
# blown up by the ratio; it is scaled by the numbers of events instead.
_SMALLEST_PART = 0.01

_Plan = tuple[int | None, tuple[tuple[int | None, int | None], ...]]
"""Numbers of the pieces of a sample: of the nominal, and of (up, down) of each variation."""


class BatchSampler:
    """Draws the mini-batch of any step, as a function of key and step only.

    Within an epoch of ``n // size`` steps no event is drawn twice: batch ``step`` holds the places
    ``step * size, ..., step * size + size - 1`` (modulo ``n``) of a permutation that depends on
    key, sample, number of events and epoch ``step * size // n``. There is no hidden state, so a
    resumed training sees the very batches of an uninterrupted one. The permutations of the current
    epoch are kept on the host, so a step costs O(size). All batches have the same shapes.

    What is rescaled, and why:

    - Nominal weights are multiplied by ``f = total(sample) / total(batch)``, so that the batch
      has the full yield exactly. Where the batch yield is not above one hundredth of its
      expectation (zero or negative because of negative weights) ``f = n / size``.
    - ``variance_scale`` becomes ``sum(w^2 of the sample) / sum((f w)^2 of the batch)``, so that
      the MC-statistical variance is the one of the full sample.
    - `WeightVariation`: same events and the **same** factor ``f``. The ratio of varied to nominal
      weight of each event stays untouched (a bin whose weights do not vary shows no effect);
      the ratio of the totals then is a ratio estimate: that of the full sample in the mean, up to
      O(1/size). A factor of its own would fix the total and leak its noise into every bin.
    - `ShiftedEvents`: up and down are drawn for themselves, each scaled to its own full yield.
      Sides with as many events as the nominal share its permutation: where they are the same
      events in the same order, the statistical noise of the difference cancels.
    - `Transformation` and `Normalisation` are left as they are.

    A sample (or a side) with at most ``size`` events is returned whole, in its own order.

    Args:
        samples: The samples.
        key: Key of the permutations.
        size: Number of events drawn of each sample, at least 1.

    Raises:
        InputError: If a sample has no events, weights or real particles that are not finite, or a
            weight variation with another number of events; if particles are missing in one of
            them; if ``size`` is below 1.
        ConfigError: If ``size`` is no whole number.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from difana.data.events import Events
        >>> events = Events(jnp.arange(6.0)[:, None], jnp.full(6, 0.5), columns=("x",))
        >>> draw = BatchSampler([Sample(events, name="signal")], key=jax.random.key(0), size=2)
        >>> (batch,) = draw(0)
        >>> len(batch.nominal), float(batch.nominal.total()), float(events.total())
        (2, 3.0, 3.0)
        >>> sorted(float(x) for step in range(3) for x in draw(step)[0].nominal["x"])
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    """

    def __init__(self, samples: Sequence[Sample], *, key: PRNGKeyArray, size: int) -> None:
        """Check the samples and sum their weights once."""
        if isinstance(size, int | np.integer) and size < 1:
            raise InputError(f"batch size {size}: draw at least 1 event of each sample.")
        self.size = whole_number("batch size", size)
        self.samples = tuple(jax.tree.map(jnp.asarray, sample) for sample in samples)
        if self.samples:
            check_inputs(self.samples)
        self._order = Order(key_words(key), size=self.size)
        self._leaves, self._structure = jax.tree.flatten(self.samples)
        # Of each piece, events drawn together: (sample, number of events) and the full sums.
        self._sources: list[tuple[int, int]] = []
        self._sums: list[tuple[Array, Array]] = []
        self._plans = tuple(self._plan(i, sample) for i, sample in enumerate(self.samples))

    @property
    def whole(self) -> bool:
        """Whether every batch simply is the full samples."""
        return not self._sources

    def __call__(self, step: int) -> tuple[Sample, ...]:
        """Return the batch of ``step`` (0, 1, ...), one sample each, in the order given."""
        if self.whole:
            return self.samples
        indices = [self._order(step, events=n, source=source) for source, n in self._sources]
        drawn = _draw(
            self._leaves,
            self._sums,
            indices,
            structure=self._structure,
            plans=self._plans,
            size=self.size,
        )
        leaves = [
            full if new is None else new for full, new in zip(self._leaves, drawn, strict=True)
        ]
        return jax.tree.unflatten(self._structure, leaves)

    def _plan(self, source: int, sample: Sample) -> _Plan:
        """Check a sample and register its pieces."""
        where = f"sample '{sample.name}'"
        nominal = self._register(source, sample.nominal, where)
        sides: list[tuple[int | None, int | None]] = []
        for variation in sample.variations:
            what = f"{where}, variation '{variation.name}'"
            own = {
                side: self._register(source, events, f"{what} {side}")
                for side, events in variation.tables().items()
            }
            sides.append((own.get("up"), own.get("down")))
            for row in variation.variants(sample.nominal):
                _check_weights(row.weights, what)
                if len(row.weights) != len(row.events):
                    raise InputError(
                        f"{what}: {len(row.weights)} weights for {len(row.events)} events; "
                        "give one for each nominal event."
                    )
        return nominal, tuple(sides)

    def _register(self, source: int, events: Events, where: str) -> int | None:
        """Return the number of the piece, or None if the events are taken whole."""
        if len(events) == 0:
            raise InputError(f"{where}: no events; check its files and selection.")
        _check_weights(events.weights, where)
        _check_particles(events, where)
        if len(events) <= self.size:
            return None
        w = np.asarray(events.weights, dtype=np.float64)
        total, squares = (jnp.asarray(x, events.weights.dtype) for x in (w.sum(), (w**2).sum()))
        self._sources.append((source, len(events)))
        self._sums.append((total, squares))
        return len(self._sources) - 1


def draw_batch(
    samples: Sequence[Sample], *, key: PRNGKeyArray, step: int, size: int
) -> tuple[Sample, ...]:
    """Draw the mini-batch of one step; see `BatchSampler`, which is the fast way to draw many.

    Args:
        samples: The samples.
        key: Key of the permutations.
        step: Number of the step: 0, 1, ...
        size: Number of events drawn of each sample, at least 1.

    Returns:
        The samples with at most ``size`` events each, at full yield and variance.

    Raises:
        InputError: As `BatchSampler`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from difana.data.events import Events
        >>> sample = Sample(Events(jnp.ones((8, 1)), jnp.ones(8)), name="background")
        >>> (batch,) = draw_batch([sample], key=jax.random.key(1), step=5, size=4)
        >>> batch.nominal.weights.tolist(), float(batch.variance_scale)
        ([2.0, 2.0, 2.0, 2.0], 0.5)
    """
    return BatchSampler(samples, key=key, size=size)(step)


def key_words(key: PRNGKeyArray) -> tuple[int, ...]:
    """Return the words of a key, of the new or the old kind.

    Example:
        >>> import jax
        >>> key_words(jax.random.key(3)) == key_words(jax.random.PRNGKey(3))
        True
    """
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return tuple(int(word) for word in np.ravel(jax.random.key_data(key) if typed else key))


def _check_weights(weights: Array, where: str) -> None:
    bad = np.flatnonzero(~np.isfinite(np.asarray(weights)))
    if bad.size:
        raise InputError(
            f"{where}: {bad.size} weights are not finite, the first at event {bad[0]}; "
            "remove these events."
        )


def _check_particles(events: Events, where: str) -> None:
    if events.particles is None:
        return
    finite = np.isfinite(np.asarray(events.particles)).all(axis=-1)
    bad = ~finite if events.mask is None else ~finite & np.asarray(events.mask)
    if bad.any():
        first, place = np.argwhere(bad)[0]
        raise InputError(
            f"{where}: {int(bad.sum())} real particles are not finite, the first in event {first}, "
            f"particle {place}; repair them, or set their mask to False."
        )


@partial(jax.jit, static_argnames=("structure", "plans", "size"))
def _draw(
    leaves: list[Array],
    sums: list[tuple[Array, Array]],
    indices: list[Array],
    *,
    structure: Any,
    plans: tuple[_Plan, ...],
    size: int,
) -> list[Array | None]:
    """Return the leaves of the batch; None for those of the full samples (jit would copy them)."""
    batch = []
    for sample, (nominal, sides) in zip(jax.tree.unflatten(structure, leaves), plans, strict=True):
        drawn = sample
        factor = index = None
        if nominal is not None:
            index = indices[nominal]
            events, factor = _rescaled(sample.nominal, sums[nominal][0], index, size=size)
            full, part = sums[nominal][1], jnp.sum(events.weights**2)
            scale = sample.variance_scale * safe_divide(full, part, fill=1.0)
            drawn = eqx.tree_at(lambda s: (s.nominal, s.variance_scale), drawn, (events, scale))
        variations = []
        for variation, pieces in zip(sample.variations, sides, strict=True):
            numbers = dict(zip(("up", "down"), pieces, strict=True))

            def drawn_of(side: str, own: Events, numbers: Any = numbers) -> Events:
                piece = numbers[side]
                if piece is None:
                    return own
                return _rescaled(own, sums[piece][0], indices[piece], size=size)[0]

            def scaled(side: str, own: Array, index: Any = index, factor: Any = factor) -> Array:
                return own if factor is None else own[index] * factor

            variations.append(variation.mapped(drawn_of, scaled))
        batch.append(eqx.tree_at(lambda s: s.variations, drawn, tuple(variations)))
    return [
        None if new is full else new
        for new, full in zip(jax.tree.leaves(tuple(batch)), leaves, strict=True)
    ]


def _rescaled(
    events: Events, total: Array, index: Array, *, size: int
) -> tuple[Events, Float[Array, ""]]:
    """Return the events at the indices with weights that sum to ``total``, and their factor."""
    ratio = len(events) / size
    drawn = events.take(index)
    batch, expected = drawn.total(), total / ratio
    good = batch * expected > _SMALLEST_PART * expected**2
    factor = jnp.where(good, total / jnp.where(good, batch, 1.0), ratio)
    return drawn.with_weights(drawn.weights * factor), factor
