"""Type aliases shared by all rooms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Float

Network = Callable[[Any], Float[Array, "events observables"]]
"""Any callable PyTree: Flax NNX, Equinox, a bound Linen module or a closure.

It is given ``Events.inputs``: the features, or ``difana.data.Inputs`` where there are particles.
"""

PyTree = Any
