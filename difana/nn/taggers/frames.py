"""Local frames: each particle (or the jet) learns in which frame it is looked at."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from difana._numerics import safe_sqrt
from difana.nn.taggers._base import Tagger
from difana.nn.taggers._layers import Perceptron, gelu
from difana.nn.taggers._spurions import BEAMS, TIME, with_beams
from difana.nn.taggers.kinematics import minkowski

_LEAST = 1e-10


class LocalFrames(nnx.Module):
    r"""Lorentz transformations that follow from the jet in an equivariant way (LLoCa).

    .. math:: v_{i,a} = \sum_{j \ne i} \mathrm{softmax}_j\big(f_a(s_i, s_j, \ln m_{ij}^2)\big)
              \frac{p_i + p_j}{|m_{ij}|}, \qquad L_i = R(v_{i,1}, v_{i,2})\, B(v_{i,0})

    A boost into the rest frame of the first vector, then a rotation that the other two fix there.
    Momenta in these frames are invariants: any network may look at them. Beams and time axis, if
    they take part, break the symmetry; transformed with the jet, they do not.

    Args:
        scalars: Number of scalars of a particle.
        hidden: Width of the perceptron of a pair.
        layers: Number of its hidden layers.
        per_jet: One frame for all particles of a jet, their mean.
        spurions: Whether beams and time axis take part.
        mass: Smallest mass of a particle, GeV: lighter ones count as this heavy.
        centre: Mean of the logarithm of squared pair masses.
        width: Its spread.
        dtype: Type of weights and computation.
        key: Random key of the initialisation.

    References:
        Spinner et al., arXiv:2505.20280; Favaro et al., arXiv:2508.14898.
    """

    def __init__(
        self,
        scalars: int = 0,
        *,
        hidden: int = 32,
        layers: int = 2,
        per_jet: bool = False,
        spurions: bool = True,
        mass: float = 0.1,
        centre: float = 2.0,
        width: float = 3.0,
        dtype: jax.typing.DTypeLike = jnp.float32,
        key: Array,
    ) -> None:
        self.per_jet = per_jet
        self.mass, self.centre, self.width = mass, centre, width
        self.beams = (*BEAMS, TIME) if spurions else ()
        self.labels = 2 if spurions else 0
        widths = [2 * (scalars + self.labels) + 1, *[hidden] * layers, 3]
        self.net = Perceptron(widths, activation=gelu, rngs=nnx.Rngs(params=key), dtype=dtype)

    def __call__(
        self,
        p: Float[Array, "events particles 4"],
        scalars: Float[Array, "events particles scalars"],
        mask: Bool[Array, "events particles"],
    ) -> Float[Array, "events particles 4 4"]:
        """Return the transformations; the identity in the padding."""
        x, label, there = with_beams(p, mask, self.beams)
        count = len(self.beams)
        s = jnp.pad(scalars, ((0, 0), (count, 0), (0, 0)))
        if self.labels:
            s = jnp.concatenate([s, label], axis=-1)
        vectors = self.vectors(x, s, there)[:, count:]
        if self.per_jet:
            number = jnp.maximum(jnp.sum(mask, axis=1, dtype=p.dtype), 1)
            mean = jnp.sum(jnp.where(mask[..., None, None], vectors, 0), axis=1)
            mean = mean / number[:, None, None]
            vectors = jnp.broadcast_to(mean[:, None], vectors.shape)
        # without neighbours there is no vector: the frame stays as it is
        fine = mask & (minkowski(vectors[..., 0, :], vectors[..., 0, :]) > 0)
        usual = jnp.eye(4, dtype=p.dtype)[:3]
        vectors = jnp.where(fine[..., None, None], vectors, usual[None, None])
        return polar(vectors[..., 0, :], vectors[..., 1:, :])

    def vectors(self, p: Array, scalars: Array, mask: Array) -> Array:
        """Return three vectors for each particle, ``[events, particles, 3, 4]``."""
        square = minkowski(p, p)
        energy = safe_sqrt(jnp.sum(p[..., 1:] ** 2, axis=-1) + self.mass**2)
        p = p.at[..., 0].set(jnp.where(square < self.mass**2, energy, p[..., 0]))
        both = p[:, :, None] + p[:, None]
        square = minkowski(both, both)
        edge = (jnp.log(jnp.maximum(square, _LEAST)) - self.centre) / self.width
        particles, width = p.shape[1], scalars.shape[-1]
        shape = (*edge.shape, width)
        given = jnp.concatenate([
            jnp.broadcast_to(scalars[:, :, None], shape),
            jnp.broadcast_to(scalars[:, None], shape),
            edge[..., None],
        ], axis=-1)  # fmt: skip
        pairs = mask[:, :, None] & mask[:, None] & ~jnp.eye(particles, dtype=bool)[None]
        logits = jnp.where(pairs[..., None], self.net(given), -1e9)
        weights = jax.nn.softmax(logits, axis=2)
        weights = jnp.where(pairs[..., None], weights, 0)
        length = jnp.maximum(safe_sqrt(jnp.abs(square)), 1e-6)
        share = weights / length[..., None]
        # sum_j w_ij (p_i + p_j) without the sums of all pairs
        found = jnp.einsum("eija,ejc->eiac", share, p)
        found = found + share.sum(axis=2)[..., None] * p[:, :, None]
        total = jnp.abs(jnp.sum(minkowski(found, found), axis=-1))
        return found / jnp.maximum(safe_sqrt(total), 1e-5)[..., None, None]


def polar(
    timelike: Float[Array, "*batch 4"], references: Float[Array, "*batch 2 4"]
) -> Float[Array, "*batch 4 4"]:
    """Return the boost into the rest frame of a vector, then the rotation fixed by two others.

    Example:
        >>> trafo = polar(jnp.array([2.0, 1.0, 0.0, 0.0]), jnp.eye(4)[1:3])
        >>> bool(jnp.allclose(trafo @ jnp.array([2.0, 1.0, 0.0, 0.0]), jnp.array([3**0.5, 0, 0, 0]),
        ...                   atol=1e-6))
        True
    """
    boost = rest_frame(timelike)
    rest = jnp.einsum("...ij,...aj->...ai", boost, references)[..., 1:]
    one = _unit(rest[..., 0, :])
    two = _unit(rest[..., 1, :])
    two = _unit(two - jnp.sum(two * one, axis=-1, keepdims=True) * one)
    rotation = jnp.stack([one, two, jnp.cross(one, two)], axis=-2)
    lower = jnp.einsum("...ij,...jk->...ik", rotation, boost[..., 1:, :])
    return jnp.concatenate([boost[..., :1, :], lower], axis=-2)


def rest_frame(p: Float[Array, "*batch 4"]) -> Float[Array, "*batch 4 4"]:
    """Return the boost into the rest frame of a timelike vector.

    Example:
        >>> rest_frame(jnp.array([1.0, 0.0, 0.0, 0.0])).tolist()[0]
        [1.0, -0.0, -0.0, -0.0]
    """
    mass = safe_sqrt(jnp.maximum(minkowski(p, p), _LEAST))
    gamma, move = p[..., 0] / mass, p[..., 1:] / mass[..., None]  # gamma, gamma beta
    factor = 1 / (1 + gamma)
    outer = move[..., :, None] * move[..., None, :] * factor[..., None, None]
    block = outer + jnp.broadcast_to(jnp.eye(3, dtype=p.dtype), outer.shape)
    first = jnp.concatenate([gamma[..., None], -move], axis=-1)
    lower = jnp.concatenate([-move[..., None], block], axis=-1)
    return jnp.concatenate([first[..., None, :], lower], axis=-2)


def _unit(v: Array) -> Array:
    size = safe_sqrt(jnp.sum(v**2, axis=-1, keepdims=True))
    return v / jnp.maximum(size, jnp.finfo(v.dtype).eps)


class InJetFrame(Tagger):
    """Any tagger behind one learned frame of the jet: exactly invariant, whatever it computes.

    Args:
        net: A tagger; its coordinates, further channels and features are those of this one.
        hidden: Width of the perceptron of the frames.
        spurions: Whether beams and time axis take part.
        key: Random key of the initialisation.

    Example:
        >>> from difana.nn.taggers.pfn import PFN
        >>> net = InJetFrame(PFN(2, key=jax.random.key(0)), key=jax.random.key(1))
        >>> jax.eval_shape(net, jax.ShapeDtypeStruct((3, 20, 4), jnp.float32)).shape
        (3, 2)
    """

    def __init__(self, net: Tagger, *, hidden: int = 32, spurions: bool = True, key: Array) -> None:
        super().__init__(
            coordinates=net.coordinates, extras=net.extras, features=net.features, dtype=net.dtype
        )
        self.net = net
        self.frames = LocalFrames(
            net.extras, hidden=hidden, per_jet=True, spurions=spurions, dtype=net.dtype, key=key
        )

    def embed(self, p: Array, extra: Array, mask: Array) -> Array:
        """Return the embedding of the jet, seen in its frame."""
        frames = self.frames(p, extra, mask)
        inside = jnp.einsum("epij,epj->epi", frames, p)
        return self.net.embed(jnp.where(mask[..., None], inside, 0), extra, mask)

    def classify(self, embedding: Array) -> Array:
        """Return the logits."""
        return self.net.classify(embedding)
