"""What all results of inference share: a status, whether it is good, and its words."""
# no postponed annotations here: Equinox would take the text of an AbstractVar for a field

from typing import TYPE_CHECKING

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int

from difana.infer.status import describe, trustworthy


class AbstractResult(eqx.Module):
    """A named result that says about itself whether it can be trusted.

    Attributes:
        status: Bit flags of :class:`Status`, of one number or of several.

    Example:
        >>> from difana.infer import hypotest
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model
        >>> model = build_model([Channel((Template([10.0], (NormFactor("mu"),), name="s"),
        ...     Template([50.0], name="b")), name="SR")])
        >>> result = hypotest(model)
        >>> isinstance(result, AbstractResult), result.ok, result.message
        (True, True, 'ok')
    """

    if TYPE_CHECKING:  # an annotation would look like a first argument of every result

        @property
        def status(self) -> Int[Array, "..."]:
            """Bit flags."""
            ...

    else:
        status: eqx.AbstractVar[Int[Array, "..."]]

    @property
    def ok(self) -> bool:
        """True if the numbers can be trusted (a parameter at its bound does no harm)."""
        return bool(jnp.all(trustworthy(self.status)))

    @property
    def message(self) -> str:
        """The status in words."""
        return describe(self.status)
