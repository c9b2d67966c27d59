"""Jet images and a convolutional network of them."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from difana.nn.taggers._base import Coordinates, Tagger
from difana.nn.taggers._layers import Perceptron
from difana.nn.taggers.kinematics import centred


def jet_image(
    p: Float[Array, "events particles 4"],
    mask: Bool[Array, "events particles"],
    *,
    pixels: int = 32,
    reach: float = 0.8,
) -> Float[Array, "events pixels pixels"]:
    """Return the shares of the transverse momentum in the plane of rapidity and azimuth.

    A particle is shared linearly by the four pixels around it, so that the image is a continuous
    function of its direction.

    Args:
        p: Momenta.
        mask: True where a particle is real.
        pixels: Number of pixels a side.
        reach: Largest distance from the axis of the jet, in both directions.

    Example:
        >>> p = jnp.array([[[5.0, 5.0, 0.0, 0.0]]])
        >>> image = jet_image(p, jnp.ones((1, 1), bool), pixels=3)
        >>> image[0].tolist()
        [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    share, y, phi = centred(p, mask)
    centres = jnp.linspace(-reach, reach, pixels, dtype=p.dtype)
    step = 2 * reach / (pixels - 1)
    rows, columns = (
        jnp.maximum(1 - jnp.abs(x[..., None] - centres[None, None]) / step, 0) for x in (y, phi)
    )
    return jnp.einsum("ep,epi,epj->eij", share, rows, columns)


class ImageCNN(Tagger):
    """Convolutions of the image of a jet.

    Args:
        outputs: Number of classes.
        widths: Channels of the convolutions (3 x 3), each followed by pooling (2 x 2).
        hidden: Widths behind them.
        pixels: Number of pixels a side.
        reach: Largest distance from the axis of the jet.
        coordinates: ``"cartesian"`` or ``"cylindrical"``.
        extras: Number of further channels of a particle, which an image does not show.
        features: Number of features of the event.
        dtype: Type of weights and computation.
        key: Random key of the initialisation.

    Example:
        >>> net = ImageCNN(2, widths=(4,), hidden=(8,), pixels=8, key=jax.random.key(0))
        >>> jax.eval_shape(net, jax.ShapeDtypeStruct((3, 20, 4), jnp.float32)).shape
        (3, 2)

    References:
        de Oliveira et al., arXiv:1511.05190; Macaluso, Shih, arXiv:1803.00107.
    """

    def __init__(
        self,
        outputs: int = 2,
        *,
        widths: Sequence[int] = (32, 64, 64),
        hidden: Sequence[int] = (128,),
        pixels: int = 32,
        reach: float = 0.8,
        coordinates: Coordinates = "cartesian",
        extras: int = 0,
        features: int = 0,
        dtype: jax.typing.DTypeLike = jnp.float32,
        key: Array,
    ) -> None:
        super().__init__(coordinates=coordinates, extras=extras, features=features, dtype=dtype)
        rngs = nnx.Rngs(params=key)
        self.pixels, self.reach = pixels, reach
        ends = [1, *widths]
        self.maps = nnx.List(
            nnx.Conv(a, b, (3, 3), param_dtype=dtype, rngs=rngs)
            for a, b in zip(ends[:-1], widths, strict=True)
        )
        side = pixels // 2 ** len(widths)
        flat = side * side * widths[-1]
        self.head = Perceptron([flat + features, *hidden, outputs], rngs=rngs, dtype=dtype)

    def embed(self, p: Array, extra: Array, mask: Array) -> Array:
        """Return all pixels behind the last convolution."""
        x = jet_image(p, mask, pixels=self.pixels, reach=self.reach)[..., None]
        x = jnp.sqrt(jnp.maximum(x, 1e-8))  # soft radiation is seen, too
        for layer in self.maps:
            x = nnx.max_pool(jax.nn.relu(layer(x)), (2, 2), strides=(2, 2))
        return x.reshape(len(x), -1)

    def classify(self, embedding: Array) -> Array:
        """Return the logits."""
        return self.head(embedding)
