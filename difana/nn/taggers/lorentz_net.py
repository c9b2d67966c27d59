"""LorentzNet: messages of Minkowski products, on dense pairs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from difana.nn.taggers._base import Coordinates, Tagger
from difana.nn.taggers._layers import BatchNorm, Perceptron, linear, mean_of_real
from difana.nn.taggers._spurions import BEAMS, with_beams
from difana.nn.taggers.kinematics import minkowski, minkowski_products


class LorentzBlock(nnx.Module):
    r"""One block of messages.

    .. math:: m_{ij} = \phi_e(h_i, h_j, \psi(|x_i - x_j|^2), \psi(\langle x_i, x_j\rangle)), \quad
              x_i' = x_i + c\,\overline{\phi_x(m_{ij})(x_i - x_j)}, \quad
              h_i' = h_i + \phi_h\Big(h_i, \sum_j \sigma(\phi_m(m_{ij}))\, m_{ij}, s_i\Big)
    """

    def __init__(
        self,
        width: int,
        scalars: int,
        *,
        last: bool,
        step: float,
        rngs: nnx.Rngs,
        dtype: jax.typing.DTypeLike,
    ) -> None:
        options = {"rngs": rngs, "dtype": dtype}
        self.step = step
        self.ends = linear(2 * width + 2, width, bias=False, **options)
        self.edge_norm = BatchNorm(width, dtype=dtype)
        self.edge = linear(width, width, **options)
        self.weight = linear(width, 1, **options)
        self.node = linear(2 * width + scalars, width, **options)
        self.node_norm = BatchNorm(width, dtype=dtype)
        self.node_out = linear(width, width, **options)
        self.move = None if last else linear(width, width, **options)
        self.length = None if last else linear(width, 1, bias=False, **options)

    def __call__(
        self, x: Array, h: Array, scalars: Array, mask: Array, pairs: Array
    ) -> tuple[Array, Array]:
        """Return the vectors and the scalars of the particles."""
        dot = minkowski_products(x)
        square = jnp.diagonal(dot, axis1=1, axis2=2)
        norm = square[:, :, None] + square[:, None] - 2 * dot
        # the first map is linear in both ends: applied to particles, not to pairs
        kernel, width = self.ends.kernel[...], h.shape[-1]
        one, two = h @ kernel[:width], h @ kernel[width : 2 * width]
        m = one[:, :, None] + two[:, None]
        m = m + psi(norm)[..., None] * kernel[-2] + psi(dot)[..., None] * kernel[-1]
        m = jax.nn.relu(self.edge(jax.nn.relu(self.edge_norm(m, pairs))))
        gate = jnp.where(pairs[..., None], jax.nn.sigmoid(self.weight(m)), 0)
        m = m * gate
        if self.move is not None:
            assert self.length is not None
            length = self.length(jax.nn.relu(self.move(m)))[..., 0]
            length = jnp.where(pairs, length, 0)
            number = jnp.maximum(jnp.sum(pairs, axis=2, dtype=x.dtype), 1)[..., None]
            # sum_j l_ij (x_i - x_j), without the differences of all pairs
            total = length.sum(axis=2)[..., None] * x - jnp.einsum("eij,ejc->eic", length, x)
            x = x + self.step * total / number
        seen = jnp.concatenate([h, m.sum(axis=2), scalars], axis=-1)
        own = self.node_out(jax.nn.relu(self.node_norm(self.node(seen), mask)))
        return x, h + own


class LorentzNet(Tagger):
    r"""LorentzNet: equivariant under Lorentz transformations, but for its two beams.

    All invariants go through :math:`\psi(z) = \mathrm{sign}(z) \ln(1 + |z|)`. Two particles along
    the beams tell the network where they are; transformed with the jet, they leave the result
    unchanged.

    Args:
        outputs: Number of classes.
        width: Width of all layers.
        blocks: Number of blocks.
        beams: Whether the beams are particles, too.
        step: Factor of the moves of the vectors.
        coordinates: ``"cartesian"`` or ``"cylindrical"``.
        extras: Number of further channels of a particle.
        features: Number of features of the event.
        dtype: Type of weights and computation.
        key: Random key of the initialisation.

    Example:
        >>> net = LorentzNet(2, width=8, blocks=2, key=jax.random.key(0))
        >>> jax.eval_shape(net, jax.ShapeDtypeStruct((3, 20, 4), jnp.float32)).shape
        (3, 2)

    References:
        Gong et al., arXiv:2201.08187.
    """

    def __init__(
        self,
        outputs: int = 2,
        *,
        width: int = 72,
        blocks: int = 6,
        beams: bool = True,
        step: float = 5e-3,
        coordinates: Coordinates = "cartesian",
        extras: int = 0,
        features: int = 0,
        dtype: jax.typing.DTypeLike = jnp.float32,
        key: Array,
    ) -> None:
        super().__init__(coordinates=coordinates, extras=extras, features=features, dtype=dtype)
        rngs = nnx.Rngs(params=key)
        options = {"rngs": rngs, "dtype": dtype}
        self.beams = BEAMS if beams else ()
        scalars = 1 + bool(beams) + extras
        self.first = linear(scalars, width, **options)
        self.blocks = nnx.List(
            LorentzBlock(width, scalars, last=i + 1 == blocks, step=step, **options)
            for i in range(blocks)
        )
        self.head = Perceptron([width + features, width, outputs], **options)

    def embed(self, p: Array, extra: Array, mask: Array) -> Array:
        """Return the mean over the particles."""
        x, label, mask = with_beams(p, mask, self.beams)
        mass = psi(jnp.sqrt(jnp.maximum(minkowski(x, x), 1e-12)))[..., None]
        scalars = mass * label
        if self.extras:
            scalars = jnp.concatenate([scalars, with_zeros(extra, len(self.beams))], axis=-1)
        scalars = jnp.where(mask[..., None], scalars, 0)
        pairs = mask[:, :, None] & mask[:, None] & ~jnp.eye(mask.shape[1], dtype=bool)
        h = self.first(scalars)
        for block in self.blocks:
            x, h = block(x, h, scalars, mask, pairs)
        return mean_of_real(h, mask)

    def classify(self, embedding: Array) -> Array:
        """Return the logits."""
        return self.head(embedding)


def psi(z: Array) -> Array:
    """Return ``sign(z) log(1 + |z|)``.

    Example:
        >>> [round(float(psi(jnp.array(z))), 4) for z in (0.0, -1.0)]
        [0.0, -0.6931]
    """
    return jnp.sign(z) * jnp.log1p(jnp.abs(z))


def with_zeros(extra: Array, count: int) -> Array:
    """Return further channels with zeros for particles that were put in front."""
    return jnp.pad(extra, ((0, 0), (count, 0), (0, 0)))
