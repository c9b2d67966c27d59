"""Type aliases shared by all rooms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Float

Network = Callable[[Float[Array, "events features"]], Float[Array, "events observables"]]
"""Any callable PyTree: Flax NNX, Equinox, a bound Linen module or a closure."""

PyTree = Any
Scalar = Float[Array, ""]
