"""What every flow can do."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray


class AbstractFlow(eqx.Module):
    r"""A conditional density :math:`p(x \mid c)` that can be evaluated and sampled.

    ``given`` is what it is conditioned on: ``[events, columns]``, `difana.data.Inputs` with
    particles, or None for a flow without a condition.
    """

    @abstractmethod
    def log_prob(
        self, x: Float[Array, "events dims"], given: Any = None
    ) -> Float[Array, " events"]:
        r"""Return :math:`\ln p(x \mid c)` of each event."""

    @abstractmethod
    def sample(
        self, given: Any = None, *, key: PRNGKeyArray, samples: int = 1
    ) -> Float[Array, "*rows dims"]:
        """Return draws for each event; without a condition ``[samples, dims]``."""
