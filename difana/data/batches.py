"""Mini-batches that represent the analysis: every sample at its full yield and variance."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from difana._errors import InputError
from difana._numerics import safe_divide
from difana.data.events import Events
from difana.data.samples import Sample, ShiftedEvents, WeightVariation

# A batch whose yield is below this part of its expectation (cancelling negative weights) would be
# blown up by the ratio; it is scaled by the numbers of events instead.
_SMALLEST_PART = 0.01


class _Piece(eqx.Module):
    """Events that are drawn together, the weight variations that ride along, and full sums."""

    events: Events
    weights: tuple[tuple[Array, Array], ...]
    total: Float[Array, ""]
    total_squares: Float[Array, ""]


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
        InputError: If a sample has no events, weights that are not finite, or a weight variation
            with another number of events; if ``size`` is below 1.

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
        if size < 1:
            raise InputError(f"batch size {size}: draw at least 1 event of each sample.")
        self.size = int(size)
        self.samples = tuple(jax.tree.map(jnp.asarray, sample) for sample in samples)
        self._entropy = key_words(key)
        self._pieces: list[_Piece] = []
        self._sources: list[int] = []
        self._plans = tuple(self._plan(i, sample) for i, sample in enumerate(self.samples))
        self._permutations: dict[tuple[int, int], tuple[int, np.ndarray]] = {}

    @property
    def whole(self) -> bool:
        """Whether every batch simply is the full samples."""
        return not self._pieces

    def __call__(self, step: int) -> tuple[Sample, ...]:
        """Return the batch of ``step`` (0, 1, ...), one sample each, in the order given."""
        if self.whole:
            return self.samples
        indices = [
            self._indices(source, len(piece.events), step)
            for source, piece in zip(self._sources, self._pieces, strict=True)
        ]
        drawn = _draw(self._pieces, indices, size=self.size)
        return tuple(
            _assemble(sample, plan, drawn)
            for sample, plan in zip(self.samples, self._plans, strict=True)
        )

    def _plan(self, source: int, sample: Sample) -> tuple[Any, ...]:
        """Register what must be drawn: (piece of the nominal, pieces of each variation)."""
        where = f"sample '{sample.name}'"
        weights = []
        for variation in sample.variations:
            if isinstance(variation, WeightVariation):
                weights.append((variation.up, variation.down))
                for side in weights[-1]:
                    _check_weights(side, f"{where}, variation '{variation.name}'")
                    if len(side) != len(sample.nominal):
                        raise InputError(
                            f"{where}, variation '{variation.name}': {len(side)} weights for "
                            f"{len(sample.nominal)} events; give one for each nominal event."
                        )
        nominal = self._register(source, sample.nominal, where, tuple(weights))
        sides = tuple(
            tuple(
                self._register(source, events, f"{where}, variation '{variation.name}' {side}")
                for side, events in (("up", variation.up), ("down", variation.down))
            )
            if isinstance(variation, ShiftedEvents)
            else None
            for variation in sample.variations
        )
        return nominal, sides

    def _register(
        self, source: int, events: Events, where: str, weights: tuple[tuple[Array, Array], ...] = ()
    ) -> int | None:
        if len(events) == 0:
            raise InputError(f"{where}: no events; check its files and selection.")
        _check_weights(events.weights, where)
        if len(events) <= self.size:
            return None
        w = np.asarray(events.weights, dtype=np.float64)
        totals = (jnp.asarray(x, events.weights.dtype) for x in (w.sum(), (w**2).sum()))
        self._pieces.append(_Piece(events, weights, *totals))
        self._sources.append(source)
        return len(self._pieces) - 1

    def _indices(self, source: int, events: int, step: int) -> Int[np.ndarray, " size"]:
        epoch, start = divmod(step * self.size, events)
        kept, permutation = self._permutations.get((source, events), (-1, np.empty(0)))
        if kept != epoch:
            generator = np.random.default_rng([*self._entropy, source, epoch])
            permutation = generator.permutation(np.arange(events, dtype=np.int32))
            self._permutations[source, events] = (epoch, permutation)
        # Past the end, wrap around in the same permutation: no event twice in one batch.
        return np.take(permutation, np.arange(start, start + self.size), mode="wrap")


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


@partial(jax.jit, static_argnames="size")
def _draw(pieces: list[_Piece], indices: list[Array], *, size: int) -> list[tuple]:
    """Return (events, weight variations, variance scale) of each piece at its indices."""
    drawn = []
    for piece, index in zip(pieces, indices, strict=True):
        events = piece.events.take(index)
        ratio = len(piece.events) / size
        batch = events.total()
        expected = piece.total / ratio
        good = batch * expected > _SMALLEST_PART * expected**2
        factor = jnp.where(good, piece.total / jnp.where(good, batch, 1.0), ratio)
        weights = events.weights * factor
        varied = tuple((up[index] * factor, down[index] * factor) for up, down in piece.weights)
        scale = safe_divide(piece.total_squares, jnp.sum(weights**2), fill=1.0)
        drawn.append((events.with_weights(weights), varied, scale))
    return drawn


def _assemble(sample: Sample, plan: tuple[Any, ...], drawn: list[tuple]) -> Sample:
    """Put the drawn pieces in the place of the full ones."""
    nominal, sides = plan
    events, varied, scale = (sample.nominal, None, 1.0) if nominal is None else drawn[nominal]
    rest = iter(varied or ())
    variations = []
    for variation, pieces in zip(sample.variations, sides, strict=True):
        replaced = variation
        if isinstance(variation, WeightVariation) and varied is not None:
            up, down = next(rest)
            replaced = WeightVariation(up=up, down=down, name=variation.name)
        elif isinstance(variation, ShiftedEvents):
            up, down = (
                full if piece is None else drawn[piece][0]
                for full, piece in zip((variation.up, variation.down), pieces, strict=True)
            )
            replaced = ShiftedEvents(up=up, down=down, name=variation.name)
        variations.append(replaced)
    return Sample(
        events,
        tuple(variations),
        sample.variance_scale * scale,
        name=sample.name,
        normfactors=sample.normfactors,
    )
