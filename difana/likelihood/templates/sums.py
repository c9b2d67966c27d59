"""The sums over events behind the templates of a channel, and how a channel is made of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from difana._errors import InputError
from difana._numerics import safe_sqrt
from difana.data import Sample, variants
from difana.likelihood.modifiers import (
    AbstractModifier,
    Channel,
    HistoSys,
    NormFactor,
    NormSys,
    StatError,
    Template,
)


class TemplateSums(eqx.Module):
    r"""Sums of weights and of squared weights, linear in the events.

    The likelihood is a nonlinear function of these and of nothing else, so whatever is to be
    averaged over batches, accumulated over chunks or taken from the full sample is taken here.

    Attributes:
        contents: Sums of weights ``[histograms, bins]``: sample by sample the nominal one, then up
            and down of every variation of shape.
        squares: Sums of squared weights of the nominal events ``[samples, bins]``, at the variance
            of the full sample.
    """

    contents: Float[Array, "histograms bins"]
    squares: Float[Array, "samples bins"]

    def valued(self, reference: TemplateSums) -> TemplateSums:
        """Return sums with the values of ``reference`` and the derivatives of these.

        With the sums of the full sample as reference and those of a batch here, a loss has the
        value of the full sample, and its gradient is unbiased: the slopes
        d(loss)/d(yields) are exact, and the batch estimates the yields without bias.

        Example:
            >>> import jax, jax.numpy as jnp
            >>> full = TemplateSums(jnp.array([[3.0]]), jnp.array([[1.0]]))
            >>> def square(x):
            ...     batch = TemplateSums(jnp.array([[x]]), jnp.array([[x]]))
            ...     return batch.valued(full).contents[0, 0] ** 2
            >>> [float(v) for v in jax.value_and_grad(square)(2.0)]  # not (4, 4)
            [9.0, 6.0]
        """
        return jax.tree.map(
            lambda value, own: lax.stop_gradient(value) + (own - lax.stop_gradient(own)),
            reference,
            self,
        )


def channel_from_sums(
    sums: TemplateSums, samples: Sequence[Sample], *, name: str = "SR", staterror: bool = True
) -> Channel:
    """Return the channel of the sums of ``template_sums``, with the modifiers of the samples.

    Args:
        sums: The sums; may be traced.
        samples: The samples they are of: names, normalisations and free factors are read.
        name: Name of the channel.
        staterror: Add the statistical uncertainty of the simulation.

    Returns:
        The channel.

    Raises:
        InputError: If the sums are of other samples.

    Example:
        >>> import jax.numpy as jnp
        >>> from difana.data import Events, Sample
        >>> sample = Sample(Events(jnp.ones((2, 1)), jnp.ones(2)), name="b")
        >>> sums = TemplateSums(jnp.array([[1.0, 4.0]]), jnp.array([[0.25, 1.0]]))
        >>> (template,) = channel_from_sums(sums, [sample]).templates
        >>> template.values.tolist(), template.modifiers[0].uncertainty.tolist()
        ([1.0, 4.0], [0.5, 1.0])
    """
    needed = sum(histograms_of(sample) for sample in samples)
    if sums.contents.shape[0] != needed or sums.squares.shape[0] != len(samples):
        raise InputError(
            f"sums of {sums.contents.shape[0]} histograms and {sums.squares.shape[0]} samples; "
            f"these {len(samples)} samples have {needed} histograms"
        )
    nominals, ups, downs = _rows(sums.contents, [histograms_of(sample) for sample in samples])
    templates = []
    for sample, squares in zip(samples, sums.squares, strict=True):
        nominal = next(nominals)
        modifiers: list[AbstractModifier] = [NormFactor(factor) for factor in sample.normfactors]
        for variation in sample.variations:
            factors = variation.factors()
            if factors is None:
                modifiers.append(HistoSys(next(ups), next(downs), variation.name))
            else:
                up, down = (jnp.asarray(x).astype(float) for x in factors)
                modifiers.append(NormSys(up, down, variation.name))
        if staterror:
            modifiers.append(StatError(safe_sqrt(squares), f"staterror_{name}"))
        templates.append(Template(nominal, tuple(modifiers), name=sample.name))
    return Channel(tuple(templates), name=name)


def _rows(contents: Array, sizes: Sequence[int]) -> tuple[Iterator[Array], ...]:
    """Return nominal histograms, those of up and those of down variations.

    Each kind lies together, as in the model: XLA takes the split and its join for one slice.
    """
    first = np.cumsum([0, *sizes[:-1]])
    varied = np.delete(np.arange(sum(sizes)), first)
    order = np.concatenate([first, varied[::2], varied[1::2]])
    rows = lax.split(contents[order].reshape(-1), [contents.shape[1]] * len(order))
    cuts = np.cumsum([0, len(first), len(varied) // 2, len(varied) // 2])
    return tuple(iter(rows[a:b]) for a, b in itertools.pairwise(cuts))


def histograms_of(sample: Sample) -> int:
    """Return the number of histograms of a sample: the nominal one, and two a change of shape.

    Example:
        >>> import jax.numpy as jnp
        >>> from difana.data import Events, Sample
        >>> histograms_of(Sample(Events(jnp.ones((2, 1)), jnp.ones(2)), name="b"))
        1
    """
    return len(variants(sample))
