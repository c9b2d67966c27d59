"""Expected yields by channel and sample, and the usual observables made of them."""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from difana._errors import ModelError, nearest
from difana._numerics import add_at, safe_divide
from difana.likelihood.structure import Structure

Selection = str | tuple[str, str]
"""A channel ("SR"), one sample of it (("SR", "ttbar")), or one sample anywhere (("*", "ttbar"))."""


class ExpectedYields(eqx.Module):
    """The expected yields that a function of :func:`observables` gets.

    Attributes:
        rows: Yields of each bin of each template, ``[rows]``.
        structure: Names and indices of the model (static).
    """

    rows: Float[Array, " rows"]
    structure: Structure = eqx.field(static=True)

    @property
    def bins(self) -> Float[Array, " bins"]:
        """Sums of the samples in all bins of all channels."""
        return self._summed(np.ones(self.rows.shape[0], bool))

    def __getitem__(self, selection: Selection) -> Float[Array, " some"]:
        """Return the bins of a channel; those of one sample if the selection names it.

        ``yields["SR"]``, ``yields["SR", "ttbar"]``; ``yields["*", "ttbar"]`` are those of all
        channels, one after the other.

        Raises:
            ModelError: If there is no such channel or sample.
        """
        channel, sample = selection if isinstance(selection, tuple) else (selection, None)
        s = self.structure
        layouts = [c for c in s.channels if channel in ("*", c.name)]
        if not layouts:
            names = [c.name for c in s.channels]
            raise ModelError(f"no channel '{channel}'.{nearest(channel, names)}")
        chosen = np.ones(self.rows.shape[0], bool)
        if sample is not None:
            chosen[:] = False
            for layout in layouts:
                for template in layout.templates:
                    if template.name == sample:
                        chosen[template.start : template.start + layout.bins] = True
            if not chosen.any():
                names = {t.name for c in layouts for t in c.templates}
                raise ModelError(
                    f"no sample '{sample}' in channel '{channel}'.{nearest(sample, sorted(names))}"
                )
        bins = self._summed(chosen)
        return jnp.concatenate([bins[c.start : c.start + c.bins] for c in layouts])

    def _summed(self, chosen: np.ndarray) -> Float[Array, " bins"]:
        zero = jnp.zeros(self.structure.bins, self.rows.dtype)
        return add_at(zero, self.structure.row_bin, jnp.where(chosen, self.rows, 0.0))


Observable = Callable[[ExpectedYields], Float[Array, "..."]]
"""A function of the expected yields."""


def total(selection: Selection) -> Observable:
    """Return the observable "sum of these bins".

    Example:
        >>> from difana.infer import observables
        >>> from difana.likelihood import uncorrelated_background
        >>> model = uncorrelated_background([12.0, 11.0], [50.0, 52.0], [3.0, 4.0])
        >>> background = total(("singlechannel", "background"))
        >>> print(observables(model, {"background": background}).as_text())
        pre-fit
        background         102 ± 5
    """
    return lambda yields: jnp.sum(yields[selection])


def normalised(selection: Selection) -> Observable:
    r"""Return the observable "shape of these bins", :math:`\lambda_b / \sum_{b'} \lambda_{b'}`.

    Example:
        >>> from difana.infer import observables
        >>> from difana.likelihood import uncorrelated_background
        >>> model = uncorrelated_background([12.0, 11.0], [60.0, 40.0], [6.0, 0.0])
        >>> found = observables(model, {"shape": normalised(("singlechannel", "background"))})
        >>> found.values.round(3).tolist(), found.errors.round(3).tolist()
        ([0.6, 0.4], [0.024, 0.024])
    """

    def shape(yields: ExpectedYields) -> Array:
        bins = yields[selection]
        return safe_divide(bins, jnp.broadcast_to(jnp.sum(bins), bins.shape))

    return shape


def ratio(numerator: Selection, denominator: Selection, *, sums: bool = False) -> Observable:
    r"""Return the observable "ratio of two selections", bin by bin or of their sums.

    Args:
        numerator: A selection.
        denominator: Another one, with as many bins, or with ``sums`` any.
        sums: Divide the sums, such as transfer factors between regions.

    Raises:
        ModelError: When used, if the numbers of bins differ.

    Example:
        >>> from difana.infer import observables
        >>> from difana.likelihood import uncorrelated_background
        >>> model = uncorrelated_background([12.0, 11.0], [60.0, 40.0], [6.0, 0.0])
        >>> b = ("singlechannel", "background")
        >>> found = observables(model, {"s/b": ratio(("singlechannel", "signal"), b)})
        >>> found.values.round(3).tolist(), found.errors.round(3).tolist()
        ([0.2, 0.275], [0.02, 0.0])
    """

    def quotient(yields: ExpectedYields) -> Array:
        above, below = yields[numerator], yields[denominator]
        if sums:
            above, below = jnp.sum(above), jnp.sum(below)
        if above.shape != below.shape:
            raise ModelError(
                f"the ratio of {numerator} ({above.size} bins) and {denominator} ({below.size} "
                "bins) has no bins in common; sums=True divides the sums"
            )
        return safe_divide(above, below)

    return quotient
