"""PELICAN: permutation-equivariant maps of the matrix of Minkowski products."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from difana._errors import ConfigError
from difana.nn.taggers._base import Coordinates, Tagger
from difana.nn.taggers._layers import BatchNorm, linear
from difana.nn.taggers._spurions import LIGHTLIKE_BEAMS, with_beams
from difana.nn.taggers.kinematics import minkowski_products

NANO: dict[str, Any] = {"channels": 7, "messages": 11, "scalars": 7}
"""Options of the network of three thousand parameters: ``PELICAN(2, **NANO, key=key)``."""

_AVERAGE = 49.0  # particles of a jet, to which the numbers of particles are compared
_FULL, _SUMMED = 5, 10  # of the fifteen maps: without and with a sum over particles


class Factorised(nnx.Module):
    r"""Coefficients of the basic maps, :math:`a_{cb} B_{cd} + A_{db} C_{cd}`."""

    def __init__(
        self, inputs: int, outputs: int, basis: int, *, rngs: nnx.Rngs, dtype: jax.typing.DTypeLike
    ) -> None:
        def normal(shape: tuple[int, ...], variance: float) -> nnx.Param:
            return nnx.Param(variance**0.5 * jax.random.normal(rngs.params(), shape, dtype))

        self.input_basis = normal((inputs, basis), 1 / basis)
        self.output_basis = normal((outputs, basis), 1 / basis)
        self.one = normal((inputs, outputs), 1 / inputs)
        self.two = normal((inputs, outputs), 1 / inputs)

    def __call__(self) -> Array:
        """Return ``[inputs, outputs, basis]``."""
        first = self.input_basis[...][:, None] * self.one[...][..., None]
        return first + self.output_basis[...][None] * self.two[...][..., None]


class PairsToPairs(nnx.Module):
    r"""The fifteen linear maps of matrices that commute with permutations, and a leaky ReLU.

    Sums are means times :math:`(N/49)^\alpha` with trained exponents.
    """

    def __init__(
        self, inputs: int, outputs: int, *, rngs: nnx.Rngs, dtype: jax.typing.DTypeLike
    ) -> None:
        self.coefficients = Factorised(inputs, outputs, _FULL + _SUMMED, rngs=rngs, dtype=dtype)
        self.bias = nnx.Param(jnp.zeros(outputs, dtype))
        self.diagonal_bias = nnx.Param(jnp.zeros(outputs, dtype))
        self.powers = nnx.Param(jax.random.uniform(rngs.params(), (_SUMMED, inputs), dtype))

    def __call__(self, x: Array, mask: Array) -> Array:
        """Return ``[events, particles, particles, outputs]``."""
        number = jnp.maximum(jnp.sum(mask, axis=1, dtype=x.dtype), 1)
        c = jnp.moveaxis(self.coefficients(), -1, 0)
        scale = (number[:, None, None] / _AVERAGE) ** self.powers[...]

        def mapped(values: Array, which: int) -> Array:
            """Apply one of the ten maps behind a sum, ``values [events, ..., inputs]``."""
            factor = scale[:, which].reshape(len(x), *(1,) * (values.ndim - 2), -1)
            return (values * factor) @ c[_FULL + which]

        each = number[:, None, None]
        diagonal = jnp.moveaxis(jnp.diagonal(x, axis1=1, axis2=2), -1, 1)
        rows, columns = x.sum(axis=2) / each, x.sum(axis=1) / each
        trace, total = diagonal.sum(axis=1) / each[:, 0], rows.sum(axis=1) / each[:, 0]

        full = x @ c[0] + jnp.swapaxes(x @ c[1], 1, 2)
        on_diagonal = diagonal @ c[2] + mapped(columns, 0) + mapped(rows, 3)
        on_diagonal = on_diagonal + (mapped(trace, 7) + mapped(total, 9))[:, None]
        along_columns = diagonal @ c[3] + mapped(columns, 1) + mapped(rows, 4)
        along_rows = diagonal @ c[4] + mapped(columns, 2) + mapped(rows, 5)
        everywhere = mapped(trace, 6) + mapped(total, 8) + self.bias[...]
        found = full + along_columns[:, None] + along_rows[:, :, None]
        found = found + everywhere[:, None, None]
        eye = jnp.eye(x.shape[1], dtype=x.dtype)[None, :, :, None]
        found = found + eye * (on_diagonal + self.diagonal_bias[...])[:, :, None]
        pairs = mask[:, :, None] & mask[:, None]
        return jnp.where(pairs[..., None], jax.nn.leaky_relu(found), 0)


class PELICAN(Tagger):
    r"""PELICAN: a function of all Minkowski products, invariant under permutations.

    Products enter as :math:`((1 + |x|)^\alpha - 1)/\alpha` with several trained exponents. With
    the beams as two further particles, it is invariant where these are transformed, too.

    Args:
        outputs: Number of classes.
        channels: Width behind the messages.
        messages: Width before them; exceeds ``scalars``.
        scalars: Channels that are made of the labels of beams and particles.
        blocks: Number of blocks.
        beams: Whether the beams are particles, too.
        coordinates: ``"cartesian"`` or ``"cylindrical"``.
        extras: Number of further channels of a particle.
        features: Number of features of the event.
        dtype: Type of weights and computation.
        key: Random key of the initialisation.

    Raises:
        ConfigError: If the widths do not fit.

    Example:
        >>> net = PELICAN(2, **NANO, key=jax.random.key(0))
        >>> jax.eval_shape(net, jax.ShapeDtypeStruct((3, 20, 4), jnp.float32)).shape
        (3, 2)

    References:
        Bogatskiy et al., arXiv:2211.00454, arXiv:2307.16506, arXiv:2310.16121 (nano).
    """

    def __init__(
        self,
        outputs: int = 2,
        *,
        channels: int = 78,
        messages: int = 132,
        scalars: int = 10,
        blocks: int = 5,
        beams: bool = True,
        coordinates: Coordinates = "cartesian",
        extras: int = 0,
        features: int = 0,
        dtype: jax.typing.DTypeLike = jnp.float32,
        key: Array,
    ) -> None:
        super().__init__(coordinates=coordinates, extras=extras, features=features, dtype=dtype)
        rngs = nnx.Rngs(params=key)
        options = {"rngs": rngs, "dtype": dtype}
        labels = (2 if beams else 0) + extras
        encoded = messages - (scalars if labels else 0)
        if encoded < 1:
            raise ConfigError(f"messages = {messages} must exceed scalars = {scalars}")
        self.beams = LIGHTLIKE_BEAMS if beams else ()
        self.exponents = nnx.Param(jnp.linspace(0.05, 0.5, encoded, dtype=dtype))
        self.labels = Factorised(labels, scalars, 5, **options) if labels else None
        self.label_bias = nnx.Param(jnp.zeros(scalars, dtype)) if labels else None
        self.label_powers = nnx.Param(jnp.zeros((5, labels), dtype)) if labels else None
        self.maps = nnx.List(linear(messages, channels, **options) for _ in range(blocks + 1))
        self.norms = nnx.List(BatchNorm(channels, dtype=dtype) for _ in range(blocks + 1))
        self.blocks = nnx.List(PairsToPairs(channels, messages, **options) for _ in range(blocks))
        spread = (2 / channels) ** 0.5
        self.summary = nnx.Param(
            spread * jax.random.normal(rngs.params(), (2, channels, messages), dtype)
        )
        self.summary_bias = nnx.Param(jnp.zeros(messages, dtype))
        self.summary_powers = nnx.Param(jax.random.uniform(rngs.params(), (2, channels), dtype))
        self.head = linear(messages + features, outputs, **options)

    def embed(self, p: Array, extra: Array, mask: Array) -> Array:
        """Return the invariant numbers of the jet."""
        x, label, mask = with_beams(p, mask, self.beams)
        size = jnp.abs(minkowski_products(x))[..., None]
        power = jnp.maximum(jnp.abs(self.exponents[...]), 1e-6)
        pairs = jnp.expm1(power * jnp.log1p(size)) / power
        both = mask[:, :, None] & mask[:, None]
        pairs = jnp.where(both[..., None], pairs, 0)
        if self.labels is not None:
            given = [label] * bool(self.beams)
            if self.extras:
                front = len(self.beams)
                given.append(jnp.pad(extra, ((0, 0), (front, 0), (0, 0))))
            own = self._labelled(jnp.where(mask[..., None], jnp.concatenate(given, -1), 0), mask)
            pairs = jnp.concatenate([pairs, jnp.where(both[..., None], own, 0)], axis=-1)
        *first, last = zip(self.maps, self.norms, strict=True)
        for (layer, norm), block in zip(first, self.blocks, strict=True):
            pairs = block(self._message(pairs, layer, norm, both), mask)
        pairs = self._message(pairs, *last, both)
        number = jnp.maximum(jnp.sum(mask, axis=1, dtype=p.dtype), 1)[:, None]
        total = pairs.sum(axis=(1, 2)) / number**2
        trace = jnp.trace(pairs, axis1=1, axis2=2) / number
        powers, summary = self.summary_powers[...], self.summary[...]
        found = sum(
            jax.nn.leaky_relu(values * (number / _AVERAGE) ** powers[i]) @ summary[i]
            for i, values in enumerate((total, trace))
        )
        return found + self.summary_bias[...]

    def classify(self, embedding: Array) -> Array:
        """Return the logits."""
        return self.head(jax.nn.leaky_relu(embedding))

    def _message(self, x: Array, layer: nnx.Linear, norm: BatchNorm, both: Array) -> Array:
        x = norm(jax.nn.leaky_relu(layer(x)), both)
        return jnp.where(both[..., None], x, 0)

    def _labelled(self, label: Array, mask: Array) -> Array:
        """Return channels of pairs made of numbers of particles."""
        assert self.labels is not None
        assert self.label_bias is not None
        assert self.label_powers is not None
        number = jnp.maximum(jnp.sum(mask, axis=1, dtype=label.dtype), 1)
        scale = (number[:, None, None] / _AVERAGE) ** self.label_powers[...]
        mean = label.sum(axis=1, keepdims=True) / number[:, None, None]
        c = jnp.moveaxis(self.labels(), -1, 0)

        def mapped(values: Array, which: int) -> Array:
            return jax.nn.leaky_relu(values * scale[:, which, None]) @ c[which]

        eye = jnp.eye(label.shape[1], dtype=label.dtype)[None, :, :, None]
        diagonal = mapped(label, 0) + mapped(mean, 3)
        found = mapped(label, 1)[:, None] + mapped(label, 2)[:, :, None]
        found = found + mapped(mean, 4)[:, None] + eye * diagonal[:, :, None]
        return found + self.label_bias[...]
