"""What all results share: a status, whether it is good, and its words."""
# no postponed annotations here: Equinox would take the text of an AbstractVar for a field

from typing import TYPE_CHECKING, ClassVar

import equinox as eqx
import numpy as np
from jaxtyping import Array, Int

from difana._status import Status, StatusBits, describe, trustworthy


class AbstractResult(eqx.Module):
    """A named result that says about itself whether it can be trusted.

    Attributes:
        status: Bit flags, of one number or of several: of :class:`Status` but where ``bits``
            says otherwise.

    Example:
        >>> from difana.infer import hypotest
        >>> from difana.likelihood import Channel, NormFactor, Template, build_model
        >>> model = build_model([Channel((Template([10.0], (NormFactor("mu"),), name="s"),
        ...     Template([50.0], name="b")), name="SR")])
        >>> result = hypotest(model)
        >>> isinstance(result, AbstractResult), result.ok, result.message
        (True, True, 'ok')
    """

    bits: ClassVar[type[StatusBits]] = Status

    if TYPE_CHECKING:  # an annotation would look like a first argument of every result

        @property
        def status(self) -> Int[Array, "..."] | int:
            """Bit flags."""
            ...

    else:
        status: eqx.AbstractVar[Int[Array, "..."]]

    @property
    def all_status(self) -> Int[Array, "..."] | int:
        """The status, and that of the fits which the numbers rest on."""
        return self.status

    @property
    def ok(self) -> bool:
        """True if the numbers can be trusted (a parameter at its bound does no harm)."""
        return bool(np.all(trustworthy(self.all_status, self.bits)))

    @property
    def message(self) -> str:
        """The status in words."""
        return describe(self.all_status, self.bits)

    @property
    def verdict(self) -> str:
        """``ok`` where the numbers can be trusted, else the message."""
        return "ok" if self.ok else self.message
